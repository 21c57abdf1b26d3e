"""A sweep over several hosts: scheduler and driver on one, a worker on each of two others, and cuts between them."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import NO_TRACKER, PROGRAM, base_environment, wait_for
from network_namespaces import Host, hosts
from service_stack import process
from sweep_runs import starts, sweep_file
from tiny_images import SUPPORT

from mnist_ablate.errors import SweepError
from mnist_ablate.ledger.ledger import Ledger

pytestmark = pytest.mark.service
PORT = 8786
TRIALS = 12
ALL = {"planned": TRIALS, "complete": TRIALS, "diverged": 0, "failed": 0, "lost": 0}


@dataclass
class Network:
    """The hosts, and the sweep that runs on the first."""

    center: Host
    machines: list[Host]
    folder: Path

    def start(self, *options: str) -> "subprocess.Popen[str]":
        address = f"tcp://{self.center.address}:{PORT}"
        arguments = ["sweep", "small.yaml", "--data", "images.npz", "--json", "--cluster", address, *options]
        return subprocess.Popen(
            self.center.command(PROGRAM, *arguments),
            cwd=self.folder,
            env=environment(self.folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def recorded(self) -> int:
        """How many trials are; none before the sweep is registered."""
        path = self.folder / ".mnist-ablate" / "ledger.db"
        try:
            return len(Ledger(f"sqlite:///{path}").find("small").entries()) if path.exists() else 0
        except SweepError:
            return 0


def environment(folder: Path) -> dict[str, str]:
    return base_environment(
        MNIST_ABLATE_TRAINER="fake_trainer:factory",
        MLFLOW_TRACKING_URI=NO_TRACKER,
        PYTHONPATH=str(SUPPORT),
        FAKE_DIR=str(folder),
        FAKE_EPOCH_S="0.4",
    )


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    rng = np.random.default_rng(0)
    train, test = rng.integers(0, 256, (4000, 28, 28), np.uint8), rng.integers(0, 256, (100, 28, 28), np.uint8)
    labels = {"y_train": np.arange(4000, dtype=np.uint8) % 10, "y_test": np.arange(100, dtype=np.uint8) % 10}
    np.savez(tmp_path / "images.npz", x_train=train, x_test=test, **labels)
    sweep_file(tmp_path, seeds=TRIALS // 2, fixed={"epochs": 3})
    with ExitStack() as parts:
        center, *machines = parts.enter_context(hosts(3))
        command = center.command(PROGRAM, "scheduler", "--host", center.address, "--port", PORT)
        parts.enter_context(process(command, base_environment(), tmp_path / "scheduler.log"))
        for number, machine in enumerate(machines, start=1):
            worker = [PROGRAM, "worker", f"tcp://{center.address}:{PORT}", "--jobs", "1", "--name", f"machine-{number}"]
            log = tmp_path / f"worker-{number}.log"
            parts.enter_context(process(machine.command(*worker), environment(tmp_path), log))
        wait_for(lambda: all("at tcp" in path.read_text() for path in tmp_path.glob("worker-*.log")), 60)
        yield Network(center, machines, tmp_path)


def ended(running: "subprocess.Popen[str]") -> Any:
    out, err = running.communicate(timeout=180)
    assert running.returncode == 7, err  # there is no MLflow in this network
    return json.loads(out)["trials"]


def test_images_reach_a_machine_once_and_not_with_each_trial(network: Network) -> None:
    size = (network.folder / "images.npz").stat().st_size
    before = [machine.received_bytes() for machine in network.machines]
    assert ended(network.start()) == ALL
    received = [machine.received_bytes() - each for machine, each in zip(network.machines, before, strict=True)]
    assert all(size <= each < 1.5 * size for each in received), received


@pytest.mark.parametrize("cut_s", [5, None])
def test_a_cut_loses_nothing_for_good_another_machine_takes_the_trial(network: Network, cut_s: float | None) -> None:
    running = network.start(*(["--trial-timeout", "20"] if cut_s is None else []))
    wait_for(lambda: network.recorded() >= 3, 60)
    network.machines[0].unplug()
    if cut_s is not None:
        time.sleep(cut_s)
        network.machines[0].plug_in()
    assert ended(running) == ALL
    assert len(starts(network.folder)) - TRIALS in ({0, 1} if cut_s is None else {0})
    assert network.recorded() == TRIALS
