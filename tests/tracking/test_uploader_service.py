"""The uploader against a real MLflow server that is slow, fails, loses replies, hangs or dies."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_helpers import ARM, active_runs, epochs, free_port, mirror, new_home, outcome, pending, points, trial, until
from mlflow_stub import Fault, Reply, Stub, mlflow_server, running

from mnist_ablate.tracking.uploader import Uploader


def send(sender: Uploader, *seeds: int) -> None:
    for seed in seeds:
        sender.outcome(trial(seed), ARM, outcome(trial(seed)))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    uri, port = new_home(tmp_path_factory.mktemp("server")), free_port()
    with mlflow_server(uri, port):
        yield uri, port


@pytest.fixture
def proxy(server: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    with running(Stub(upstream=server[1])) as stub:
        yield stub


LOST = [
    Fault("/experiments/create", 1, passed_on=True),
    Fault("/runs/create", 2, passed_on=True),
    Fault("/runs/log-batch", 2, passed_on=True),
    Fault("/runs/update", 2, passed_on=True),
    Fault("/runs/search", 2, passed_on=True),
]
FAULTS = {
    "none": [],
    "dead": [Fault(times=5)],
    "lost replies": LOST,
    "errors": [Fault(times=4, reply=Reply(500)), Fault(times=4, reply=Reply(502)), Fault(times=4, reply=Reply(503))],
    "too many": [Fault(times=4, reply=Reply(429, b"", {"Retry-After": "3600"}))],
    "hangs, then does it": [Fault("/runs/create", 1, wait_s=3, passed_on=True)],
    "slow": [Fault(wait_s=0.3, passed_on=True)],
}


@pytest.mark.service
@pytest.mark.parametrize("name", FAULTS)
def test_everything_arrives_once_whatever_the_server_does(server: tuple[str, int], proxy: Stub, name: str) -> None:
    said: list[str] = []
    copy = mirror(proxy.uri, f"fault {name}")
    copy._digest = f"{sorted(FAULTS).index(name):064x}"
    sender = Uploader(copy, said.append, first_wait_s=0.05, longest_wait_s=0.3)
    proxy.faults = [Fault(**vars(fault)) for fault in FAULTS[name]]
    before = (points(server[0]), active_runs(server[0]))
    sender.start()
    for seed in (1, 2, 3):
        for epoch in epochs():
            sender.epoch(trial(seed), epoch)
            time.sleep(0.05)
        send(sender, seed)
    until(lambda: pending(sender) == 0, 60)
    assert sender.close(10)
    until(lambda: not proxy.busy, 10)  # what hung may be carried out after it was given up and done again
    copy.verdicts("done", {}, [])
    after = (points(server[0]), active_runs(server[0]))
    assert len(after[0]) - len(before[0]) == 3 * (3 * 4 + 4)
    assert len(after[1]) - len(before[1]) == 3 + 1
    assert not [run for run in after[1] if run[2] == "RUNNING"]
    assert bool(said) == (name not in {"none", "slow"})


@pytest.mark.service
def test_server_that_is_killed_and_started_again_misses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    uri, port = new_home(tmp_path / "server"), free_port()
    said: list[str] = []
    sender = Uploader(mirror(f"http://127.0.0.1:{port}"), said.append, first_wait_s=0.1, longest_wait_s=0.5)
    with mlflow_server(uri, port):
        sender.start()
        send(sender, 1)
        until(lambda: pending(sender) == 0, 30)
        sender.epoch(trial(2), epochs()[0])
    send(sender, 2, 3)
    until(lambda: said, 10)
    with mlflow_server(uri, port):
        until(lambda: pending(sender) == 0, 30)
        assert sender.close(10, settle=True)
    assert [row[0] for row in active_runs(uri)] == ["sweep", "trial", "trial", "trial"]
    assert len(points(uri)) == 3 * (3 * 4 + 4)
    assert len(said) == 1
