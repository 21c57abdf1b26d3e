"""A snapshot of a running sweep: what it holds, that it survives a journey, and that it stays small."""

import sys
import threading
import time
from collections.abc import Iterator

import fake_trainer
import pytest
from ledger_records import outcome, plan

from mnist_ablate.execution.events import Finished, Progress, Started
from mnist_ablate.execution.live_progress import MOST_ARMS, MOST_RUNNING, LiveProgress, Snapshot
from mnist_ablate.execution.time_left import TimeLeft
from mnist_ablate.ledger import progress
from mnist_ablate.statistics.verdict import decide
from mnist_ablate.trial import RecordedTrial


def test_a_snapshot_goes_elsewhere_as_json_and_has_what_runs_what_ended_and_what_stands() -> None:
    wanted = plan()
    first, second, *_ = trials = wanted.verdict_trials()
    state = LiveProgress(wanted, {})
    state.event(first, Started(first.trial, "w1"))
    assert not state.event(first, Finished(first.trial, outcome(first)))
    state.event(second, Started(second.trial, "w1"))
    state.event(second, Progress(second.trial, fake_trainer.epoch(second.trial, 1)))
    entries = {each.id: RecordedTrial(each.trial, each.arm.params, each.stage, outcome(each)) for each in trials}
    (found,) = decide(progress.rows(wanted, entries), wanted.sweep.claims)
    line = state.verdict(found)
    sent = state.snapshot()
    shown = Snapshot.model_validate_json(sent.model_dump_json())
    assert shown == sent
    assert (shown.question, shown.done, shown.size, shown.total) == (wanted.sweep.question, 1, 6, "6")
    mean = f"{fake_trainer.metrics(first.trial)['test_accuracy']:.2%}"
    assert [(arm.name, arm.n, arm.mean) for arm in shown.arms] == [("relu", 1, mean)]
    assert [each.partition(",")[0] for each in shown.running] == ["tanh seed 0: epoch 1 of 2"]
    assert [(each.name, each.verdict) for each in shown.claims] == [(found.name, found.verdict)]
    assert line.startswith(f"{found.name}: {found.verdict} after 3 seeds")
    state.end()
    assert not state.snapshot().running


def test_a_snapshot_of_a_large_sweep_stays_small() -> None:
    wanted = plan(scientific={"width": list(range(1, 301))}, claims=[])
    state = LiveProgress(wanted, {})
    for number, each in enumerate(wanted.verdict_trials()[:300]):
        state.event(each, Finished(each.trial, outcome(each)))
        state.event(each, Started(each.trial, f"w{number}"))
    shown = state.snapshot()
    assert (len(shown.arms), shown.n_arms, len(shown.running)) == (MOST_ARMS, 300, MOST_RUNNING)
    assert "300 running" in shown.status


@pytest.fixture
def busy_threads() -> Iterator[None]:
    """Python goes from one thread to another all the time."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("busy_threads")
def test_a_snapshot_can_be_taken_while_trials_start_and_end() -> None:
    wanted = plan(scientific={"width": [1, 2, 3]}, seeds=300, claims=[])
    state, trials = LiveProgress(wanted, {}), wanted.verdict_trials()

    def train() -> None:
        for number, each in enumerate(trials):
            state.event(each, Started(each.trial, f"w{number % 200}"))
            state.event(each, Progress(each.trial, fake_trainer.epoch(each.trial, 1)))
            state.event(each, Progress(each.trial, fake_trainer.epoch(each.trial, 2)))
            if number >= 100:
                earlier = trials[number - 100]
                state.event(earlier, Finished(earlier.trial, outcome(earlier)))

    thread = threading.Thread(target=train)
    thread.start()
    while thread.is_alive():
        state.snapshot()
        time.sleep(1e-5)  # else it can have the lock again before the other thread wakes up
    thread.join()
    assert state.snapshot().done == len(trials) - 100


def test_a_signal_that_interrupts_an_event_can_show_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    state, shown = LiveProgress(plan(), {}), list[Snapshot]()

    def message(*_: object) -> None:
        """It has to wait for the thread that draws, as on a terminal."""
        drawing = threading.Thread(target=lambda: shown.append(state.snapshot()), daemon=True)
        drawing.start()
        drawing.join(10)
        shown.append(state.snapshot())

    monkeypatch.setattr(TimeLeft, "event", message)
    first = plan().verdict_trials()[0]
    thread = threading.Thread(target=state.event, args=(first, Started(first.trial, "w1")), daemon=True)
    thread.start()
    thread.join(10)
    assert [each.size for each in shown] == [6, 6]
