"""Training never waits for MLflow, and MLflow has everything in the end."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import pytest
from mlflow_helpers import ARM, START_MS, epochs, outcome, pending, trial, until

from mnist_ablate.errors import UnreachableError
from mnist_ablate.tracking import uploader
from mnist_ablate.tracking.client import RefusedError
from mnist_ablate.tracking.mirror import FinishedTrial, Mirror
from mnist_ablate.tracking.uploader import Uploader
from mnist_ablate.trial import Epoch, Outcome, Scalar, Trial

DEAD = UnreachableError("MLflow at http://x does not answer: Connection refused")


class FakeMirror(Mirror):
    """Remembers what was sent; fails while `error` is set, blocks while `gate` is closed.

    `together` says which seeds it takes side by side.
    """

    def __init__(self) -> None:
        super().__init__("http://x", "normalization", "ab", "?", {})
        self.error: Exception | None = None
        self.together: set[int] = set()
        self.took_s = 0.0
        self.gate = threading.Event()
        self.gate.set()
        self.calls: list[object] = []
        self.times: list[float] = []

    def _record(self, call: object) -> None:
        self.times.append(time.monotonic())
        self.gate.wait()
        time.sleep(self.took_s)
        if self.error:
            raise self.error
        self.calls.append(call)

    def open(self) -> None:
        self._record("open")

    def epoch(self, trial: Trial, *epochs: Epoch) -> None:
        self._record((trial.seed, [epoch.number for epoch in epochs]))

    def outcome(self, trial: Trial, arm: Mapping[str, Scalar], outcome: Outcome) -> bool:
        assert arm == ARM
        assert outcome.trial_id == trial.id
        self._record(trial.seed)
        return True

    def outcomes_together(self, ended: Sequence[FinishedTrial]) -> dict[str, bool]:
        taken = [each for each in ended if each[0].seed in self.together]
        self.calls.extend([{of.seed: told.seconds for of, _, told in taken}] if taken else [])
        return {of.id: True for of, _, _ in taken}

    def settle(self) -> None:
        self._record("settle")


@pytest.fixture
def fake() -> FakeMirror:
    return FakeMirror()


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def sender(fake: FakeMirror, warnings: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Uploader]:
    monkeypatch.setattr(uploader, "EPOCH_PAUSE_S", 0.05)
    made = Uploader(fake, warnings.append, first_wait_s=0.02, longest_wait_s=0.1)
    yield made
    fake.gate.set()
    made.close(5)


def send(sender: Uploader, *seeds: int) -> None:
    for seed in seeds:
        sender.outcome(trial(seed), ARM, outcome(trial(seed)))


def test_everything_is_delivered_in_order(sender: Uploader, fake: FakeMirror) -> None:
    sender.start()
    send(sender, 1, 2, 3)
    assert sender.close(5)
    assert fake.calls == ["open", 1, 2, 3]
    assert pending(sender) == 0


def test_what_piled_up_goes_side_by_side_and_alone_what_did_not(sender: Uploader, fake: FakeMirror) -> None:
    fake.together = {1, 3, 4}
    send(sender, 1, 2, 3, 4, 5)
    sender.start()
    assert sender.close(5)
    assert fake.calls == ["open", {1: 3.25, 3: 3.25, 4: 3.25}, 2, 5]
    assert pending(sender) == 0


def test_two_outcomes_of_a_trial_go_one_after_the_other(sender: Uploader, fake: FakeMirror) -> None:
    fake.together = {1, 2}
    sender.outcome(trial(1), ARM, outcome(trial(1), seconds=1.0))
    sender.outcome(trial(2), ARM, outcome(trial(2), seconds=2.0))
    sender.outcome(trial(1), ARM, outcome(trial(1), seconds=3.0))
    sender.start()
    assert sender.close(5)
    assert fake.calls == ["open", {1: 1.0, 2: 2.0}, 1]


def test_caller_never_waits_for_a_hung_tracker(sender: Uploader, fake: FakeMirror) -> None:
    fake.gate.clear()
    sender.start()
    started = time.monotonic()
    for seed in range(100):
        for epoch in epochs(20):
            sender.epoch(trial(seed), epoch)
        send(sender, seed)
    assert time.monotonic() - started < 2
    assert not sender.close(0.1)
    assert time.monotonic() - started < 3
    assert pending(sender) == 100


def test_outcomes_arrive_after_the_tracker_is_back(sender: Uploader, fake: FakeMirror) -> None:
    fake.error = DEAD
    sender.start()
    send(sender, 1, 2)
    until(lambda: len(fake.times) > 3)
    fake.error = None
    until(lambda: fake.calls == ["open", 1, 2])
    assert sender.close(5)


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
    sender: Uploader, fake: FakeMirror, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploader, "WARN_EVERY_S", 0.5)
    fake.error = DEAD
    sender.start()
    until(lambda: warnings, 1)
    assert warnings == [f"{DEAD}; training goes on and the ledger keeps everything"]
    until(lambda: len(warnings) == 2)
    assert fake.times[-1] - fake.times[0] >= 0.5
    assert len(fake.times) > 4


def test_epochs_of_a_trial_go_together(sender: Uploader, fake: FakeMirror) -> None:
    fake.gate.clear()
    sender.start()
    for epoch in epochs(4):
        sender.epoch(trial(1), epoch)
    sender.epoch(trial(2), epochs(1)[0])
    fake.gate.set()
    until(lambda: fake.calls == ["open", (1, [1, 2, 3, 4]), (2, [1])])


def test_epochs_take_a_bounded_share_of_the_time(
    sender: Uploader, fake: FakeMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploader, "EPOCHS_SHARE", 0.2)
    monkeypatch.setattr(sender, "_longest_wait_s", 10.0)
    fake.took_s = 0.08
    sender.start()
    for seed in range(3):
        sender.epoch(trial(seed), epochs(1)[0])
    until(lambda: len(fake.calls) == 4)
    _, *sent = fake.times
    assert min(later - earlier for earlier, later in pairwise(sent)) >= 0.08 + 0.08 / 0.2


def test_epochs_of_a_finished_trial_are_left_to_its_outcome(sender: Uploader, fake: FakeMirror) -> None:
    for epoch in epochs(4):
        sender.epoch(trial(1), epoch)
    send(sender, 1)
    sender.start()
    assert sender.close(5)
    assert fake.calls == ["open", 1]


def test_another_attempt_replaces_epochs_not_yet_sent(sender: Uploader, fake: FakeMirror) -> None:
    for epoch in (*epochs(3), *epochs(2, START_MS + 60_000)):
        sender.epoch(trial(1), epoch)
    sender.start()
    until(lambda: fake.calls == ["open", (1, [1, 2])])


def test_memory_for_epochs_is_bounded(sender: Uploader, fake: FakeMirror) -> None:
    for seed in range(10):
        for epoch in epochs(300):
            sender.epoch(trial(seed), epoch)
    fake.gate.clear()
    sender.start()
    kept = sum(len(queued) for _, queued in sender._epochs.values())
    assert kept <= uploader.MAX_EPOCHS
    assert trial(9).id in sender._epochs


def test_a_failing_epoch_holds_up_no_outcome(sender: Uploader, fake: FakeMirror) -> None:
    sender.start()
    until(lambda: fake.calls == ["open"])
    fake.error = DEAD
    sender.epoch(trial(1), epochs(1)[0])
    until(lambda: len(fake.times) == 2)
    fake.error = None
    send(sender, 1)
    assert sender.close(5)
    assert fake.calls == ["open", 1]


@pytest.mark.parametrize("error", [RefusedError("MLflow at http://x says: no"), TypeError("a defect")])
def test_a_refused_outcome_holds_up_no_other(
    sender: Uploader, fake: FakeMirror, warnings: list[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    real = fake.outcome

    def picky(of: Trial, arm: Mapping[str, Scalar], told: Outcome) -> bool:
        if of.seed == 1:
            raise error
        return real(of, arm, told)

    monkeypatch.setattr(fake, "outcome", picky)
    send(sender, 1, 2)
    sender.start()
    assert not sender.close(5)
    assert fake.calls == ["open", 2]
    assert pending(sender) == 1
    assert warnings[0].endswith(f"{error}; trial {trial(1).id} is in the ledger only")


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
    closing = threading.Timer(0.05, lambda: setattr(fake, "error", None))
    closed: list[bool] = []
    closer = threading.Thread(target=lambda: closed.append(sender.close(5)))
    closer.start()
    until(sender._closing.is_set)
    sender._first_wait_s = 0.3
    fake.gate.set()
    closing.start()
    closer.join()
    assert closed == [True]


def test_settling_comes_last(sender: Uploader, fake: FakeMirror) -> None:
    send(sender, 1)
    sender.start()
    assert sender.close(5, settle=True)
    assert fake.calls == ["open", 1, "settle"]
