"""What a person sees of a running sweep: who runs, what came out, how long; plain lines where there is no terminal."""

import io
import re
import threading
from collections.abc import Iterable
from types import SimpleNamespace

import fake_trainer
import pytest
from ledger_records import outcome, plan
from rich.console import Console

from mnist_ablate.cli import live_view
from mnist_ablate.cli.live_view import NotebookWatch, Watch
from mnist_ablate.execution.events import Finished, Preparing, Progress, Retried, Started
from mnist_ablate.execution.live_progress import Snapshot
from mnist_ablate.sweep.plan import Plan, PlannedTrial
from mnist_ablate.trial import RecordedTrial

TUNED = {"nuisance": {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}, "tuning_trials": 2}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Seconds that pass as a test says."""
    found = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(live_view.time, "monotonic", lambda: found.now)
    return found


def finished(planned: PlannedTrial, status: str = "complete", **changes: str) -> Finished:
    return Finished(planned.trial, outcome(planned, status, **changes))


def entries(trials: Iterable[PlannedTrial], status: str = "complete") -> dict[str, RecordedTrial]:
    return {each.id: RecordedTrial(each.trial, each.arm.params, each.stage, outcome(each, status)) for each in trials}


def watch(of: Plan, recorded: dict[str, RecordedTrial] | None = None, **options: bool) -> tuple[Watch, io.StringIO]:
    """A view that has opened a plan, and where it writes."""
    written = io.StringIO()
    shown = Watch(Console(file=written, width=100, height=24, **options))  # type: ignore[arg-type]
    shown.opened(of, recorded or {})
    return shown, written


def table(of: Watch) -> str:
    console = Console(file=io.StringIO(), width=100)
    with console.capture() as capture:
        console.print(of._table())
    return capture.get()


def test_the_table_has_the_running_trials_the_arms_and_the_time_left(clock: SimpleNamespace) -> None:
    wanted = plan()
    first = wanted.verdict_trials()[0]
    shown, _ = watch(wanted)
    shown.event(first, Started(first.trial, "w1"))
    assert "relu seed 0: starting" in table(shown)
    assert "time left: measuring" in table(shown)
    clock.now += 5
    shown.event(first, Progress(first.trial, fake_trainer.epoch(first.trial, 1)))
    assert "relu seed 0: epoch 1 of 2, 9" in table(shown)
    assert "0 of 6 trials, 1 running, time left: measuring" in table(shown), "this epoch may have compiled"
    clock.now += 5
    shown.event(first, Progress(first.trial, fake_trainer.epoch(first.trial, 2)))
    assert "0 of 6 trials, 1 running, 50 s left" in table(shown)
    clock.now += 30
    shown.event(first, finished(first))
    text = table(shown)
    assert "seed 0" not in text
    accuracy = f"{fake_trainer.metrics(first.trial)['test_accuracy']:.2%}"
    assert ["relu", "1", accuracy] in [line.split() for line in text.splitlines()]
    assert "1 of 6 trials, 0 running, 1.8 min left" in text


def test_the_time_left_of_an_adaptive_sweep_is_the_most_that_it_takes(clock: SimpleNamespace) -> None:
    wanted = plan(seeds={"min": 2, "max": 3})
    first = wanted.verdict_trials()[0]
    shown, _ = watch(wanted)
    shown.event(first, Started(first.trial, "w1"))
    assert "time left: measuring" in table(shown)
    for number in (1, 2):
        clock.now += 5
        shown.event(first, Progress(first.trial, fake_trainer.epoch(first.trial, number)))
    assert "0 of at most 6 trials, 1 running, at most 50 s left" in table(shown)


def test_without_a_terminal_there_is_a_plain_line_now_and_then_and_preparation_is_no_time_of_a_trial(
    clock: SimpleNamespace,
) -> None:
    wanted = plan()
    first, second, *_ = wanted.verdict_trials()
    shown, written = watch(wanted)
    shown.event(first, Started(first.trial, "w1"))
    assert written.getvalue() == ""
    clock.now += 600
    shown.event(first, Preparing(first.trial, "features: 500 of 70,000 images"))
    assert "relu seed 0: features: 500 of 70,000 images" in table(shown)
    clock.now += 11
    shown.event(second, Started(second.trial, "w2"))
    shown.event(first, finished(first))
    assert written.getvalue().splitlines() == [
        "features: 500 of 70,000 images",
        "0 of 6 trials, 2 running, time left: measuring",
    ]
    assert "1 of 6 trials, 1 running, 33 s left" in table(shown)


def test_a_worker_runs_one_trial_so_no_more_lines_than_workers() -> None:
    wanted = plan()
    trials = wanted.verdict_trials()
    shown, _ = watch(wanted)
    for each, worker in zip(trials, ["w1", "w2"] * 3, strict=True):
        shown.event(each, Started(each.trial, worker))  # no word yet of how the one before ended
    late = trials[0]
    shown.event(late, Progress(late.trial, fake_trainer.epoch(late.trial, 2)))
    assert table(shown).count(": starting") == 2
    assert "0 of 6 trials, 2 running" in table(shown)


def test_means_are_over_what_is_recorded_and_new_and_tuning_trials_are_named_by_what_they_try() -> None:
    wanted = plan(**TUNED)
    trials = wanted.verdict_trials()
    shown, written = watch(wanted, entries((*wanted.tuning, trials[0])))
    shown.event(trials[2], finished(trials[2]))
    mean = sum(fake_trainer.metrics(each.trial)["test_accuracy"] for each in (trials[0], trials[2])) / 2
    assert ["relu", "2", f"{mean:.2%}"] in [line.split() for line in table(shown).splitlines()]
    assert "6 of 10 trials" in table(shown)
    assert written.getvalue().startswith("resuming: 5 of 10 done\n")
    tuning = wanted.tuning[0]
    shown.event(tuning, Started(tuning.trial, "w1"))
    assert f"relu tuning learning_rate={tuning.trial.settings['learning_rate']}: starting" in table(shown)


def test_many_arms_leave_room_for_the_status() -> None:
    wanted = plan(scientific={"width": list(range(1, 81))}, claims=[])
    shown, _ = watch(wanted)
    for each in wanted.verdict_trials()[:80]:
        shown.event(each, finished(each))
    lines = table(shown).splitlines()
    assert len(lines) <= 24
    assert lines[-2].strip() == "and 60 more arms"
    assert "80 of 240 trials" in lines[-1]


def test_what_went_wrong_is_a_line_of_its_own_as_text_not_markup() -> None:
    wanted = plan()
    one, two, three, *_ = wanted.verdict_trials()
    shown, written = watch(wanted, entries([one], "failed"))
    shown.event(one, Retried(one.trial, "worker killed", 1))
    shown.event(two, finished(two, "failed", reason="ValueError: [red]no[/red] [/]"))
    shown.event(three, finished(three))
    shown.event(one, finished(one, "diverged"))
    assert written.getvalue().splitlines() == [
        "resuming: 0 of 6 done",  # what failed is run again
        "trial relu seed 0 lost (worker killed) - retrying 1/2",
        "trial tanh seed 0 failed: ValueError: [red]no[/red] [/]",
        "trial relu seed 0 diverged at epoch 2",
    ]


def test_on_a_terminal_the_table_is_gone_at_the_end_and_a_finished_sweep_has_none() -> None:
    wanted = plan()
    shown, written = watch(wanted, force_terminal=True)
    with shown:
        shown.message("a line")
    assert "a line" in written.getvalue()
    assert written.getvalue().rstrip().endswith("\x1b[2K")
    shown, written = watch(wanted, entries(wanted.verdict_trials()), force_terminal=True)
    with shown:
        assert written.getvalue() == ""


def test_a_snapshot_from_elsewhere_is_shown_as_the_sweep_itself_would_be(clock: SimpleNamespace) -> None:
    wanted = plan()
    first, second, *_ = wanted.verdict_trials()
    here, _ = watch(wanted)
    here.event(first, Started(first.trial, "w1"))
    here.event(first, finished(first))
    here.event(second, Started(second.trial, "w1"))
    sent = Snapshot.model_validate_json(here.snapshot.model_dump_json())
    written = io.StringIO()
    there = Watch(Console(file=written, width=100, height=24))
    there.show(sent)
    assert table(there) == table(here)
    assert not written.getvalue()
    clock.now += 11
    there.show(sent)
    assert written.getvalue() == f"{sent.status}\n"
    terminal = io.StringIO()
    with Watch(Console(file=terminal, width=100, height=24, force_terminal=True)) as shown:
        shown.show(sent)
        shown.show(sent)
        shown.message("a line")
    assert "a line" in terminal.getvalue()
    assert terminal.getvalue().rstrip().endswith("\x1b[2K")


def test_a_notebook_shows_one_bar_that_is_replaced(monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace) -> None:
    shown: list[dict[str, str]] = []

    def display(content: dict[str, str], **_options: bool) -> SimpleNamespace:
        shown.append(content)
        return SimpleNamespace(update=lambda again, **_options: shown.append(again))

    monkeypatch.setattr("IPython.display.display", display)
    planned = plan()
    trials = planned.verdict_trials()
    with NotebookWatch() as watch:
        watch.opened(planned, {})
        watch.event(trials[0], Started(trials[0].trial, "a"))
        clock.now += 1
        watch.event(trials[0], finished(trials[0]))
        watch.message("MLflow <is> down: http://user:secret@host")
    bars = [re.search(r'<progress value="(\d)" max="6"', each["text/html"])[1] for each in shown]  # type: ignore[index]
    assert bars == ["0", "1", "1", "1"]
    assert "MLflow &lt;is&gt; down: http://user:***@host" in shown[-1]["text/html"]
    assert (
        f"<td>relu</td><td>1</td><td>{fake_trainer.metrics(trials[0].trial)['test_accuracy']:.2%}"
        in shown[-1]["text/html"]
    )
    assert shown[-1]["text/plain"].startswith("1 of 6 trials, 0 running")


def test_a_signal_that_interrupts_a_drawing_in_a_notebook_can_draw_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    watch = NotebookWatch()

    def display(content: dict[str, str], **_options: bool) -> None:
        shown.append(content["text/html"])
        if len(shown) == 1:
            watch.message("stopping: running trials may finish")

    monkeypatch.setattr("IPython.display.display", display)
    thread = threading.Thread(target=watch.opened, args=(plan(), {}), daemon=True)
    thread.start()
    thread.join(10)
    assert "stopping" in shown[-1]
