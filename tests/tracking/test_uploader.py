"""Training never waits for MLflow, and MLflow has everything in the end, whatever a real server does."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from mlflow_helpers import (
    ARM,
    START_MS,
    active_runs,
    epochs,
    free_port,
    mirror,
    new_home,
    outcome,
    pending,
    points,
    trial,
    until,
)
from mlflow_stub import Fault, Reply, Stub, mlflow_server, running

from mnist_ablate.errors import UnreachableError
from mnist_ablate.tracking import uploader
from mnist_ablate.tracking.client import RefusedError
from mnist_ablate.tracking.mirror import SENDERS, FinishedTrial, Mirror
from mnist_ablate.tracking.uploader import Uploader
from mnist_ablate.trial import Epoch, Outcome, Scalar, Trial

DEAD = UnreachableError("MLflow at http://x does not answer: Connection refused")


class FakeMirror(Mirror):
    """Remembers what was sent; fails while `error` is set or for a seed in `refused`, blocks while `gate` is closed.

    `together` says which seeds it takes side by side.
    """

    def __init__(self) -> None:
        super().__init__("http://x", "normalization", "ab", "?", {})
        self.error: Exception | None = None
        self.refused: dict[int, Exception] = {}
        self.together: set[int] = set()
        self.took_s = 0.0
        self.gate = threading.Event()
        self.gate.set()
        self.calls: list[object] = []
        self.warnings: list[str] = []
        self.times: list[float] = []

    def _record(self, call: object, error: Exception | None = None) -> None:
        self.times.append(time.monotonic())
        self.gate.wait()
        time.sleep(self.took_s)
        if error or self.error:
            raise error or self.error
        self.calls.append(call)

    def open(self) -> None:
        self._record("open")

    def epoch(self, trial: Trial, _arm: Mapping[str, Scalar], _started_ms: int, *epochs: Epoch) -> None:
        self._record((trial.seed, [epoch.number for epoch in epochs]))

    def outcome(self, trial: Trial, arm: Mapping[str, Scalar], outcome: Outcome, _stage: str = "") -> bool:
        assert (arm, outcome.trial_id) == (ARM, trial.id)
        self._record(trial.seed, self.refused.get(trial.seed))
        return True

    def outcomes_together(self, ended: Sequence[FinishedTrial]) -> dict[str, bool]:
        taken = [each for each in ended if each[0].seed in self.together]
        self.calls.extend([{of.seed: told.seconds for of, _, told, _ in taken}] if taken else [])
        return {of.id: True for of, *_ in taken}

    def settle(self) -> None:
        self._record("settle")


@pytest.fixture
def fake() -> FakeMirror:
    return FakeMirror()


@pytest.fixture
def sender(fake: FakeMirror, monkeypatch: pytest.MonkeyPatch) -> Iterator[Uploader]:
    monkeypatch.setattr(uploader, "EPOCH_PAUSE_S", 0.05)
    made = Uploader(fake, fake.warnings.append, first_wait_s=0.02, longest_wait_s=0.1)
    yield made
    fake.gate.set()
    made.close(5)


def send(sender: Uploader, *seeds: int) -> None:
    for seed in seeds:
        sender.outcome(trial(seed), ARM, outcome(trial(seed)))


def send_epochs(sender: Uploader, seed: int, sent: Sequence[Epoch], every_s: float = 0.0) -> None:
    of = trial(seed)
    for epoch in sent:
        sender.epoch(of, ARM, START_MS, epoch)
        if every_s:
            time.sleep(every_s)


@pytest.mark.parametrize(
    ("together", "seeds", "calls"),
    [
        (set(), [1, 2, 3], [1, 2, 3]),
        ({1, 3, 4}, [1, 2, 3, 4, 5], [{1: 1.0, 3: 3.0, 4: 4.0}, 2, 5]),  # alone goes what did not go together
        ({1, 2}, [1, 2, 1], [{1: 1.0, 2: 2.0}, 1]),  # two outcomes of a trial, one after the other
    ],
)
def test_everything_is_delivered_in_order_and_settling_comes_last(
    sender: Uploader, fake: FakeMirror, together: set[int], seeds: list[int], calls: list[object]
) -> None:
    fake.together = together
    for count, seed in enumerate(seeds, start=1):
        sender.outcome(trial(seed), ARM, outcome(trial(seed), seconds=float(count)))
    sender.start()
    assert sender.close(5, settle=True)
    assert fake.calls == ["open", *calls, "settle"]
    assert pending(sender) == 0


def test_caller_never_waits_for_a_hung_tracker(sender: Uploader, fake: FakeMirror) -> None:
    fake.gate.clear()
    sender.start()
    started = time.monotonic()
    for seed in range(100):
        send_epochs(sender, seed, epochs(20))
        send(sender, seed)
    assert time.monotonic() - started < 2
    assert not sender.close(0.1)
    assert time.monotonic() - started < 3
    assert pending(sender) == 100


def test_the_end_waits_as_long_as_something_is_sent_and_says_what_is_left(
    sender: Uploader, fake: FakeMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each trial takes 0.15 s, all take 1.2 s, and the patience is 0.4 s. A tracker that hangs is given up in it."""
    monkeypatch.setattr(uploader, "SAY_AFTER_S", 0.1)
    said: list[str] = []
    monkeypatch.setattr(fake, "outcome", lambda *_: time.sleep(0.15))
    for seed in range(8):
        send(sender, seed)
    sender.start()
    assert sender.close(0.4, patient=said.append)
    assert said[0].startswith("waiting for MLflow: ")
    assert said[0].endswith(" left to send")


def test_a_tracker_that_hangs_is_given_up_however_patient_the_end_is(sender: Uploader, fake: FakeMirror) -> None:
    fake.gate.clear()
    sender.start()
    send(sender, 1)
    started = time.monotonic()
    assert not sender.close(0.4, patient=lambda _: None)
    assert time.monotonic() - started < 3


def test_a_busy_processor_is_a_sign_of_progress(
    sender: Uploader, fake: FakeMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while MLflow is imported beside other programs, in one call of many seconds."""

    def slowly() -> None:
        until = time.thread_time() + 0.8
        while time.thread_time() < until:
            pass

    monkeypatch.setattr(fake, "open", slowly)
    sender.start()
    send(sender, 1)
    assert sender.close(0.3, patient=lambda _: None)


def test_waits_grow_up_to_the_longest(fake: FakeMirror) -> None:
    fake.error = DEAD
    patient = Uploader(fake, lambda _: None, first_wait_s=0.05, longest_wait_s=0.2)
    patient.start()
    until(lambda: len(fake.times) == 7)
    patient.close(5)
    waits = [after - before for before, after in pairwise(fake.times[:7])]
    assert all(wait >= least for wait, least in zip(waits, [0.05, 0.1, 0.2, 0.2, 0.2, 0.2], strict=True))
    assert min(waits[4:]) < 0.6  # doubled without end, these would be 0.8 and 1.6 s


def test_one_warning_at_once_and_one_a_minute(
    sender: Uploader, fake: FakeMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploader, "WARN_EVERY_S", 0.5)
    fake.error = DEAD
    sender.start()
    until(lambda: fake.warnings, 1)
    assert fake.warnings == [f"{DEAD}; training goes on and the ledger keeps everything"]
    until(lambda: len(fake.warnings) == 2)
    assert fake.times[-1] - fake.times[0] >= 0.5
    assert len(fake.times) > 4


def test_epochs_take_a_bounded_share(sender: Uploader, fake: FakeMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploader, "EPOCHS_SHARE", 0.2)
    monkeypatch.setattr(sender, "_longest_wait_s", 10.0)
    fake.took_s = 0.08
    sender.start()
    for seed in range(3):
        send_epochs(sender, seed, epochs(1))
    until(lambda: len(fake.calls) == 4)
    _, *sent = fake.times
    assert min(later - earlier for earlier, later in pairwise(sent)) >= 0.08 + 0.08 / 0.2


def test_epochs_of_a_trial_go_together_unless_it_has_finished_or_begun_anew(sender: Uploader, fake: FakeMirror) -> None:
    send_epochs(sender, 1, epochs(4))
    send_epochs(sender, 2, epochs(4))
    send(sender, 2)
    send_epochs(sender, 3, [*epochs(3), *epochs(2, START_MS + 60_000)])
    sender.start()
    until(lambda: fake.calls == ["open", 2, (1, [1, 2, 3, 4]), (3, [1, 2])])


def test_memory_for_epochs_is_bounded(sender: Uploader, fake: FakeMirror) -> None:
    for seed in range(10):
        send_epochs(sender, seed, epochs(300))
    fake.gate.clear()
    sender.start()
    assert sum(len(queued) for *_, queued in sender._epochs.values()) <= uploader.MAX_EPOCHS
    assert trial(9).id in sender._epochs


def test_a_failing_epoch_holds_up_no_outcome(sender: Uploader, fake: FakeMirror) -> None:
    sender.start()
    until(lambda: fake.calls == ["open"])
    fake.error = DEAD
    send_epochs(sender, 1, epochs(1))
    until(lambda: fake.warnings)
    fake.error = None
    send(sender, 1)
    assert sender.close(5)
    assert fake.calls == ["open", 1]


@pytest.mark.parametrize("error", [RefusedError("MLflow at http://x says: no"), TypeError("a defect")])
def test_a_refused_outcome_holds_up_no_other(sender: Uploader, fake: FakeMirror, error: Exception) -> None:
    fake.refused = {1: error}
    send(sender, 1, 2)
    sender.start()
    assert not sender.close(5)
    assert fake.calls == ["open", 2]
    assert pending(sender) == 1
    assert fake.warnings[0].endswith(f"{error}; trial {trial(1).id} is in the ledger only")


def test_a_dead_tracker_does_not_hold_up_the_end(sender: Uploader, fake: FakeMirror) -> None:
    fake.error = DEAD
    sender.start()
    send(sender, 1)
    until(lambda: len(fake.times) > 2)
    started = time.monotonic()
    assert not sender.close(30)
    assert time.monotonic() - started < 1
    assert pending(sender) == 1


def test_one_failure_while_closing_is_tried_again(sender: Uploader, fake: FakeMirror) -> None:
    sender.start()
    until(lambda: fake.calls == ["open"])
    fake.gate.clear()
    send(sender, 1)
    until(lambda: len(fake.times) == 2)
    fake.error = DEAD
    closed: list[bool] = []
    closer = threading.Thread(target=lambda: closed.append(sender.close(5)))
    closer.start()
    until(sender._closing.is_set)
    sender._first_wait_s = 0.3
    fake.gate.set()
    threading.Timer(0.05, lambda: setattr(fake, "error", None)).start()
    closer.join()
    assert closed == [True]


SLOW = """
import os, sys, time
from mnist_ablate.tracking.mirror import SENDERS, Mirror
from mnist_ablate.trial import Outcome, Trial
from mnist_ablate.tracking import uploader
from mnist_ablate.tracking.uploader import Uploader

class Slow(Mirror):
    def _once(self, action): return action(object())
    def _send(self, *_):
        os.write(1, b"sent\\n")
        time.sleep(6)
        return True

uploader = Uploader(Slow("http://127.0.0.1:9", "small", "ab", "?", {}), lambda text: print(text, file=sys.stderr))
for seed in range(4 * SENDERS):
    trial = Trial(settings={}, seed=seed, data_digest="d1" * 32, id=str(seed))
    uploader.outcome(trial, {}, Outcome(trial_id=trial.id, status="complete"))
uploader.start()
assert not uploader.close(0.1, settle=True)
print("ending", flush=True)
"""


def test_the_end_of_the_program_waits_for_no_slow_server() -> None:
    with subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(SENDERS + 1)]
        clock = time.monotonic()
        assert process.wait(30) == 0
        assert time.monotonic() - clock < 5
        assert lines == [*[b"sent\n"] * SENDERS, b"ending\n"]
        assert process.stdout.read() == b""


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


LOST = {"experiments/create": 1, "runs/create": 2, "runs/log-batch": 2, "runs/update": 2, "runs/search": 2}
FAULTS = {
    "none": [],
    "dead": [Fault(times=5)],
    "lost replies": [Fault(f"/{path}", times, passed_on=True) for path, times in LOST.items()],
    "errors": [Fault(times=4, reply=Reply(status)) for status in (500, 502, 503)],
    "too many": [Fault(times=4, reply=Reply(429, b"", {"Retry-After": "3600"}))],
    "hangs, then does it": [Fault("/runs/create", 1, wait_s=3, passed_on=True)],
    "slow": [Fault(wait_s=0.3, passed_on=True)],
}


@pytest.mark.service
@pytest.mark.parametrize("name", FAULTS)
def test_everything_arrives_once_whatever_the_server_does(server: tuple[str, int], proxy: Stub, name: str) -> None:
    said: list[str] = []
    copy = mirror(proxy.uri, f"fault {name}")
    copy.digest = f"{sorted(FAULTS).index(name):064x}"
    sender = Uploader(copy, said.append, first_wait_s=0.05, longest_wait_s=0.3)
    proxy.faults = [Fault(**vars(fault)) for fault in FAULTS[name]]
    before = (points(server[0]), active_runs(server[0]))
    sender.start()
    for seed in (1, 2, 3):
        send_epochs(sender, seed, epochs(), every_s=0.05)
        send(sender, seed)
    until(lambda: pending(sender) == 0, 60)
    assert sender.close(10)
    until(lambda: not proxy.busy, 10)  # what hung may be carried out after it was given up and done again
    copy.verdicts(("done", "done"), {}, [], {})
    after = (points(server[0]), active_runs(server[0]))
    assert len(after[0]) - len(before[0]) == 3 * (3 * 4 + 4)
    assert len(after[1]) - len(before[1]) == 3 + 1
    assert not [run for run in after[1] if run[2] == "RUNNING"]
    assert bool(said) == (name not in {"none", "slow"})


@pytest.mark.service
def test_server_killed_and_started_again_misses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    uri, port = new_home(tmp_path / "server"), free_port()
    said: list[str] = []
    sender = Uploader(mirror(f"http://127.0.0.1:{port}"), said.append, first_wait_s=0.1, longest_wait_s=0.5)
    with mlflow_server(uri, port):
        sender.start()
        send(sender, 1)
        until(lambda: pending(sender) == 0, 30)
        sender.epoch(trial(2), ARM, START_MS, epochs()[0])
    send(sender, 2, 3)
    until(lambda: said, 10)
    with mlflow_server(uri, port):
        until(lambda: pending(sender) == 0, 30)
        assert sender.close(10, settle=True)
    assert [row[0] for row in active_runs(uri)] == ["sweep", "trial", "trial", "trial"]
    assert len(points(uri)) == 3 * (3 * 4 + 4)
    assert len(said) == 1
