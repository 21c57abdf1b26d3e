"""What a person sees of a running sweep: who runs, what came out, how long; plain lines where there is no terminal."""

import io

import fake_trainer
import pytest
from rich.console import Console
from sweep_runs import small

from mnist_ablate.cli import live_view
from mnist_ablate.cli.live_view import Watch
from mnist_ablate.execution.engine import Finished, Preparing, Progress, Retried, Started
from mnist_ablate.sweep.plan import Plan, Planned, expand
from mnist_ablate.trial import Outcome, RecordedTrial

TUNED = {"nuisance": {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}, "tuning_trials": 2}


def plan(**changes: object) -> Plan:
    return expand(small(**changes), "d1" * 32)


def outcome(planned: Planned, status: str = "complete", reason: str = "") -> Outcome:
    metrics = fake_trainer.metrics(planned.trial) if status == "complete" else {}
    return Outcome.model_validate(
        {"trial_id": planned.trial.id, "status": status, "metrics": metrics, "reason": reason}
    )


def watch(*, terminal: bool = False) -> tuple[Watch, io.StringIO]:
    written = io.StringIO()
    return Watch(Console(file=written, force_terminal=terminal, width=100)), written


def table(of: Watch) -> str:
    console = Console(file=io.StringIO(), width=100)
    with console.capture() as capture:
        console.print(of._table())
    return capture.get()


def test_the_table_has_the_running_trials_the_arms_and_the_time_left() -> None:
    wanted = plan()
    trials = wanted.verdict_trials()
    shown, _ = watch()
    shown.opened(wanted, {})
    shown.event(trials[0], Started(trials[0].trial, "w1"))
    assert "relu seed 0: starting" in table(shown)
    assert "time left: measuring" in table(shown)
    shown.event(trials[0], Progress(trials[0].trial, fake_trainer.epoch(trials[0].trial, 1)))
    assert "relu seed 0: epoch 1 of 2, 9" in table(shown)
    assert "0 of 6 trials, 1 running, 0 s left" in table(shown)
    shown.event(trials[0], Finished(trials[0].trial, outcome(trials[0])))
    text = table(shown)
    assert "seed 0" not in text
    accuracy = f"{fake_trainer.metrics(trials[0].trial)['test_accuracy']:.2%}"
    assert ["relu", "1", accuracy] in [line.split() for line in text.splitlines()]
    assert "1 of 6 trials, 0 running, 0 s left" in text


def test_features_are_shown_as_they_come_and_are_not_counted_as_time_of_a_trial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(live_view.time, "monotonic", lambda: clock[0])
    wanted = plan()
    first = wanted.verdict_trials()[0]
    shown, written = watch()
    shown.opened(wanted, {})
    shown.event(first, Started(first.trial, "w1"))
    clock[0] += 600
    shown.event(first, Preparing(first.trial, "features of vgg16: 500 of 70,000 images"))
    assert "relu seed 0: features of vgg16: 500 of 70,000 images" in table(shown)
    assert written.getvalue() == "features of vgg16: 500 of 70,000 images\n"
    clock[0] += 5
    shown.event(first, Progress(first.trial, fake_trainer.epoch(first.trial, 1)))
    clock[0] += 5
    shown.event(first, Finished(first.trial, outcome(first)))
    assert "1 of 6 trials, 0 running, 50 s left" in table(shown)


def test_a_worker_runs_one_trial_so_no_more_lines_than_workers() -> None:
    wanted = plan()
    trials = wanted.verdict_trials()
    shown, _ = watch()
    shown.opened(wanted, {})
    for each, worker in zip(trials, ["w1", "w2", "w1", "w2", "w1", "w2"], strict=True):
        shown.event(each, Started(each.trial, worker))  # no word yet of how the one before ended
        assert len(shown._running) <= 2
    late = trials[0]
    shown.event(late, Progress(late.trial, fake_trainer.epoch(late.trial, 2)))
    assert len(shown._running) == 2


def test_means_are_per_arm_over_what_is_recorded_and_new_without_the_tuning() -> None:
    wanted = plan(**TUNED)
    tuning, trials = wanted.tuning, wanted.verdict_trials()
    recorded = {
        each.trial.id: RecordedTrial(each.trial, each.arm.params, each.stage, outcome(each))
        for each in (*tuning, trials[0])
    }
    shown, written = watch()
    shown.opened(wanted, recorded)
    shown.event(trials[2], Finished(trials[2].trial, outcome(trials[2])))
    both = [fake_trainer.metrics(each.trial)["test_accuracy"] for each in (trials[0], trials[2])]
    assert shown._scores == {"relu": both}
    assert written.getvalue().startswith("resuming: 5 of 10 done\n")
    assert "6 of 10 trials" in table(shown)


def test_many_arms_leave_room_for_the_status() -> None:
    wanted = plan(scientific={"width": list(range(1, 81))}, claims=[])
    shown = Watch(Console(file=io.StringIO(), width=100, height=24))
    shown.opened(wanted, {})
    for each in wanted.verdict_trials()[:80]:
        shown.event(each, Finished(each.trial, outcome(each)))
    lines = table(shown).splitlines()
    assert len(lines) <= 24
    assert lines[-2].strip() == "and 60 more arms"
    assert "80 of 240 trials" in lines[-1]


def test_tuning_trials_are_named_by_what_they_try() -> None:
    wanted = plan(**TUNED)
    shown, _ = watch()
    shown.opened(wanted, {})
    first = wanted.tuning[0]
    shown.event(first, Started(first.trial, "w1"))
    assert f"relu tuning learning_rate={first.trial.settings['learning_rate']}: starting" in table(shown)


def test_what_went_wrong_is_a_line_of_its_own_as_text_not_markup() -> None:
    wanted = plan()
    one, two, three, *_ = wanted.verdict_trials()
    shown, written = watch()
    shown.opened(wanted, {})
    shown.event(one, Retried(one.trial, "worker killed", 1))
    shown.event(two, Finished(two.trial, outcome(two, "failed", "ValueError: [red]no[/red] [/]")))
    shown.event(three, Finished(three.trial, outcome(three)))
    assert written.getvalue().splitlines() == [
        "trial relu seed 0 lost (worker killed) - retrying 1/2",
        "trial tanh seed 0 failed: ValueError: [red]no[/red] [/]",
    ]


def test_a_failed_trial_is_not_done_before_it_was_run_again() -> None:
    wanted = plan()
    first = wanted.verdict_trials()[0]
    shown, written = watch()
    shown.opened(
        wanted, {first.trial.id: RecordedTrial(first.trial, first.arm.params, "verdict", outcome(first, "failed"))}
    )
    assert written.getvalue() == "resuming: 0 of 6 done\n"


def test_without_a_terminal_there_are_plain_lines_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = plan()
    shown, written = watch()
    shown.opened(wanted, {})
    monkeypatch.setattr(live_view, "_PLAIN_EVERY_S", 0.0)
    first = wanted.verdict_trials()[0]
    shown.event(first, Started(first.trial, "w1"))
    assert written.getvalue() == "0 of 6 trials, 1 running, time left: measuring\n"
    assert "\x1b" not in written.getvalue()


def test_on_a_terminal_the_table_is_gone_at_the_end() -> None:
    shown, written = watch(terminal=True)
    with shown:
        shown.opened(plan(), {})
        shown.message("a line")
    assert "a line" in written.getvalue()
    assert written.getvalue().rstrip().endswith("\x1b[2K")
    assert shown._live is not None
    assert not shown._live.is_started


def test_a_finished_sweep_has_no_table() -> None:
    wanted = plan()
    all_done = {
        each.trial.id: RecordedTrial(each.trial, each.arm.params, "verdict", outcome(each))
        for each in wanted.verdict_trials()
    }
    shown, written = watch(terminal=True)
    with shown:
        shown.opened(wanted, all_done)
    assert (shown._live, written.getvalue()) == (None, "")
