"""Workers and schedulers as commands: they wait, stop, come back; one that cannot train says why in one line."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import certificates
import pytest
from command import PROGRAM, Command, base_environment, interrupt, left_running, wait_for
from external_cluster import Cluster
from mlflow_helpers import free_port
from service_stack import process
from sweep_runs import sweep_file
from tiny_images import SUPPORT

from mnist_ablate.errors import SweepError, UnreachableError
from mnist_ablate.execution.dask_settings import Tls, tls_from_options
from mnist_ablate.execution.worker import TrainerPlugin
from mnist_ablate.service.dask_service import check_address, check_memory_size
from mnist_ablate.workloads import versions


@pytest.mark.parametrize(
    "address", ["tcp:/host:1", "host:8786", "tcp://host", "http://host:8786", "tcp://:1", "tls://host:x"]
)
def test_what_is_no_scheduler_s_address_and_no_amount_of_memory_is_refused(address: str) -> None:
    with pytest.raises(SweepError, match="expected tcp://host:8786 or tls://host:8786"):
        check_address(address)
    check_memory_size("2GiB")
    check_memory_size("auto")
    with pytest.raises(SweepError, match="--memory much is not an amount"):
        check_memory_size("much")


def test_tls_needs_all_three_files_and_an_address_that_says_so(tmp_path: Path) -> None:
    files = certificates.made(tmp_path)
    given = (files.ca_file, files.cert, files.key)
    assert tls_from_options("tcp://h:1", None, None, None) is None
    assert tls_from_options("tls://h:1", *given) == Tls(*given)
    refused = {
        "give --tls-cert and --tls-key too": ("tls://h:1", files.ca_file, None, None),
        "TLS needs": ("tls://h:1", None, None, None),
        "tcp://h:1: the address must begin with tls://": ("tcp://h:1", *given),
        r"--tls-key .*nowhere: cannot be read": ("tls://h:1", files.ca_file, files.cert, tmp_path / "nowhere"),
    }
    for told, options in refused.items():
        with pytest.raises(SweepError, match=told):
            tls_from_options(*options)


def test_a_worker_with_other_versions_is_refused(
    images: Path, digest: str, monkeypatch: pytest.MonkeyPatch, dask_worker: Any
) -> None:
    plugin = TrainerPlugin("fake_trainer:factory", digest, images.read_bytes(), None)
    other = {**versions.deciding_versions(), "keras": "9.9"}
    monkeypatch.setattr(versions, "deciding_versions", lambda: other)
    with pytest.raises(UnreachableError, match=r"worker tcp://10.0.0.1:5 has keras 9.9 and the driver .*: install the"):
        plugin.setup(dask_worker)
    assert "keras 9.9" in plugin.refusal


@pytest.fixture
def sweep(external: Cluster, command: Command, images: Path) -> list[str]:
    """The command of a sweep on the external."""
    path = sweep_file(command.folder, seeds=10, fixed={"epochs": 5})
    return ["sweep", str(path), "--data", str(images), "--cluster", external.address]


@pytest.mark.service
def test_a_worker_waits_for_its_scheduler_comes_back_and_stops_in_order(tmp_path: Path) -> None:
    port = free_port()
    address, log = f"tcp://127.0.0.1:{port}", tmp_path / "worker.log"

    def scheduler(name: str):
        return process([PROGRAM, "scheduler", "--port", str(port)], base_environment(), tmp_path / f"{name}.log")

    with process([PROGRAM, "worker", address, "--jobs", "2", "--name", "m"], base_environment(), log) as worker:
        wait_for(lambda: log.read_text().count(f"{address} does not answer (") == 2, 60)
        for times in (1, 2):
            with scheduler(f"scheduler-{times}"):
                wait_for(lambda times=times: log.read_text().count(f"for {address}") == 2 * times, 60)
                time.sleep(2)  # long enough for workers to settle: what they do then differs
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == 128 + signal.SIGTERM
        wait_for(lambda: not left_running(worker.pid), 10)


@pytest.mark.service
def test_a_second_worker_of_one_name_is_told_what_to_do_and_takes_the_place_when_it_is_free(external: Cluster) -> None:
    first = external.worker("x")
    second = external.folder / "second.log"
    command = [PROGRAM, "worker", external.address, "--jobs", "1", "--name", "x"]
    with process(command, base_environment(), second):
        wait_for(second.read_text, 60)
        time.sleep(3)  # the next attempt, of which nothing is said
        refused = "worker x: another worker of this scheduler has this name: choose another --name; still trying"
        assert second.read_text() == f"{refused}\n"
        first.terminate()
        wait_for(lambda: second.read_text().count("\n") == 2, 60)
        assert second.read_text().splitlines()[1].startswith("worker x at tcp://")


@pytest.mark.service
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_stopped_from_its_terminal_says_nothing_more(external: Cluster, number: int) -> None:
    worker = external.worker("x")
    interrupt(worker, number)
    assert worker.wait(10) == 128 + number
    wait_for(lambda: not left_running(worker.pid), 10)
    assert external.log("x").count("\n") == 1


@pytest.mark.service
@pytest.mark.parametrize(("options", "why"), [((), ""), (("--memory", "60MB"), ", its memory was full")])
def test_a_process_that_ended_is_told_in_one_line(external: Cluster, options: tuple[str, ...], why: str) -> None:
    worker = external.worker("x", *options)
    if not options:
        for pid in left_running(worker.pid):
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
    wait_for(lambda: external.log("x").count("\n") == 3 - len(options) // 2, 60)
    assert external.log("x").splitlines()[1] == f"worker x ended{why}: starting another process"


@pytest.mark.service
def test_a_port_in_use_is_told_in_one_line(external: Cluster) -> None:
    command = [PROGRAM, "scheduler", "--port", str(external.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("choose another")


def other_numpy(folder: Path) -> str:
    """A path that makes another numpy seem installed."""
    made = folder / "other" / "numpy-9.9.dist-info"
    made.mkdir(parents=True)
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 9.9\n")
    return os.pathsep.join([str(made.parent), str(SUPPORT)])


def no_package(folder: Path) -> str:
    """A path that makes this package seem absent."""
    (folder / "without").mkdir()
    (folder / "without" / "sitecustomize.py").write_text("import sys\nsys.modules['mnist_ablate'] = None\n")
    return str(folder / "without")


@pytest.mark.service
@pytest.mark.parametrize(
    ("start", "path", "why"),
    [
        (Cluster.worker, other_numpy, "has numpy 9.9 and the driver"),
        (Cluster.plain_worker, no_package, "install this mnist-ablate on all of them"),
    ],
)
def test_a_worker_with_another_version_or_without_the_package_is_told_in_one_line(
    external: Cluster,
    command: Command,
    sweep: list[str],
    start: Callable[..., object],
    path: Callable[[Path], str],
    why: str,
) -> None:
    start(external, "bad", PYTHONPATH=path(external.folder))
    done = command(*sweep)
    assert done.code == 3, done.err
    assert "Traceback" not in done.err
    assert done.err.count("\n") <= 2, done.err  # there may be a line before it that MLflow does not answer
    assert why in done.err.splitlines()[-1]


@pytest.mark.service
def test_a_worker_that_joins_later_with_another_version_stops_the_sweep_in_words(
    external: Cluster, command: Command, sweep: list[str]
) -> None:
    external.worker("good", FAKE_EPOCH_S="0.5")
    running = command.start(*sweep)
    wait_for((external.folder / "starts").exists, 60)
    external.worker("bad", PYTHONPATH=other_numpy(external.folder))
    out, err = running.communicate(timeout=100)
    assert running.returncode == 1, out + err
    assert "trials failed alike: worker tcp://" in err.splitlines()[-1]
    assert "has numpy 9.9 and the driver" in err.splitlines()[-1]


@pytest.mark.service
def test_numbers_of_a_plain_dask_cluster_are_the_same(external: Cluster, command: Command, sweep: list[str]) -> None:
    external.plain_worker("plain")
    there = command(*sweep, "--json")
    here = command(*sweep[:-2], "--json", "--home", str(command.folder / "other"))
    assert (there.code, here.code) == (7, 7)
    assert there.document["arms"] == here.document["arms"]
