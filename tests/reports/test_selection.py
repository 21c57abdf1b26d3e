"""What is chosen on validation data: values, their edges, and the recipe as written beside the tuned one."""

import io
from typing import Any

import pytest
from pages import Reader
from rich.console import Console
from sweep_runs import Watcher, small

from mnist_ablate.execution import recorded_report
from mnist_ablate.execution.driver import drive
from mnist_ablate.ledger import progress
from mnist_ablate.ledger.progress import due, rows
from mnist_ablate.reports import html, judging, markdown, sections, terminal
from mnist_ablate.reports.judging import About
from mnist_ablate.reports.report import AsWritten, Report, Selection, TrialCounts
from mnist_ablate.reports.selection import select
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.plan import Plan, count, make_plan
from mnist_ablate.trial import Outcome, RecordedTrial, Status, Trial
from mnist_ablate.verification import ledger_check, raw_ledger
from mnist_ablate.workloads.workload import Section

RATES = {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}
TUNED: dict[str, Any] = {
    "nuisance": RATES,
    "tuning_trials": 8,
    "fixed": {"epochs": 2, "learning_rate": 0.05},
    "seeds": 6,
    "as_written": True,
}


def plan_of(**changes: Any) -> Plan:
    return make_plan(small(**{**TUNED, **changes}), "digest")


def accuracy(trial: Trial) -> float:
    """Relu is best at the highest learning rate and tanh at 0.01: as written tanh loses, tuned it does not."""
    rate, luck = trial.settings["learning_rate"], 0.0001 * (trial.seed % 7)
    if trial.settings["activation"] == "relu":
        return 0.9 + 0.1 * rate + luck
    return 0.91 - abs(rate - 0.01) + luck * 1.01


def told(trial: Trial, status: Status = "complete") -> Outcome:
    known = {"val_accuracy": accuracy(trial)} if status == "complete" else {}
    return Outcome(
        trial_id=trial.id,
        status=status,
        metrics=known if trial.is_blind else {**known, "test_accuracy": accuracy(trial)},
    )


def run(plan: Plan) -> dict[str, RecordedTrial]:
    entries: dict[str, RecordedTrial] = {}
    while trials := due(plan, entries):
        entries |= {
            each.trial.id: RecordedTrial(each.trial, each.arm.params, each.stage, told(each.trial)) for each in trials
        }
    return entries


def judged(plan: Plan) -> Report:
    entries = run(plan)
    found = rows(plan, entries)
    return judging.of_rows(plan.sweep, found, progress.count(found), About(selection=select(plan, entries)))


def section(report: Report, name: str) -> Section:
    return next(each for each in sections.selection(report) if each.name == name)


def test_as_written_is_trained_on_the_seeds_of_the_verdicts_and_counted() -> None:
    plan = plan_of()
    entries = run(plan)
    assert count(plan.sweep) == plan.size == len(entries) == 2 * (8 + 6 + 6)
    written = [each.trial for each in plan.as_written_trials()]
    assert {trial.settings["learning_rate"] for trial in written} == {0.05}
    assert [trial.seed for trial in written] == [each.trial.seed for each in plan.verdict_trials()]
    assert plan_of(as_written=False).as_written_trials() == ()


def test_both_verdicts_stand_side_by_side_where_they_differ() -> None:
    made = judged(plan_of())
    assert made.as_written is not None
    assert [claim.verdict for claim in made.as_written.claims] == ["supported"]
    assert [claim.verdict for claim in made.claims] == ["equivalent"]
    assert made.as_written.values == {"learning_rate": (0.05,)}
    assert made.as_written.trials.planned == 12
    both = section(made, "as-written")
    ((name, written, tuned),) = both.tables[0].rows
    assert (name, written.split(",")[0], tuned.split(",")[0]) == ("tanh-hurts", "supported", "equivalent")
    assert both.notes[0].startswith("1 of 1 verdicts differ.")


def test_a_best_value_that_nothing_was_tried_beyond_is_warned_of() -> None:
    made = judged(plan_of())
    assert made.tuning is not None
    relu, tanh = made.tuning.arms
    assert (relu.edges, tanh.edges) == ({"learning_rate": "highest"}, {})
    assert relu.tried == 8
    assert relu.score == max(0.9 + 0.1 * point["learning_rate"] for point in plan_of().points) + 0.0001 * (10**6 % 7)
    (warning,) = section(made, "tuning").lines
    assert warning.startswith("At the edge: the best learning rate is the highest that was tried for relu (0.0")


def test_lists_have_edges_and_words_have_none() -> None:
    plan = plan_of(nuisance={"width": [32, 64], "optimizer": ["adam", "sgd"]}, tuning_trials=4, as_written=False)
    found = select(plan, run(plan)).tuning
    assert found is not None
    assert set(found.arms[0].edges) == {"width"}


def test_no_point_is_tried_twice() -> None:
    lists = {"width": [32, 64, 128], "optimizer": ["adam", "sgd", "lion", "rmsprop"]}
    plan = plan_of(nuisance=lists, tuning_trials=12, as_written=False)
    assert len({tuple(point.values()) for point in plan.points}) == len(plan.points) == 12
    assert len({each.trial.id for each in plan.tuning}) == 24


def test_nothing_is_said_of_choices_where_there_are_none() -> None:
    plan = make_plan(small(), "digest")
    assert select(plan, run(plan)) == Selection()


def test_before_all_is_tried_no_value_is_said_to_be_chosen() -> None:
    plan = plan_of()
    entries = dict(list(run(plan).items())[:5])
    made = select(plan, entries)
    assert made.tuning is not None
    assert made.as_written is not None
    assert (made.tuning.trials, made.tuning.arms) == (5, ())
    assert made.as_written.claims[0].n_pairs == 0


def test_written_as_tuned_is_trained_once() -> None:
    plan = plan_of(nuisance={"learning_rate": [0.05, 0.01]}, tuning_trials=2)
    entries = run(plan)
    assert len(entries) == 2 * 2 + 12 + 6  # relu is tuned to 0.05
    found = select(plan, entries).as_written
    assert found is not None
    assert len(found.arms) == 2


def shown(made: Report, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(terminal.tables(made))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_narrow_terminal_cuts_nothing_off_the_two_verdicts() -> None:
    made = judged(plan_of())
    both = section(made, "as-written")
    table = shown(made, 50).split(both.title)[1].split()
    words = [word for row in (both.tables[0].heads, *both.tables[0].rows) for cell in row[1:] for word in cell.split()]
    assert set(words) <= set(table)


def test_terminal_and_markdown_show_both_verdicts_and_the_edge() -> None:
    made = judged(plan_of())
    for text in (shown(made, 120), markdown.markdown(made, "q?")):
        plain = " ".join(text.split()).replace("**", "")
        assert "as written (learning rate 0.05)" in plain
        assert "supported, -3.5" in plain
        assert "At the edge: the best learning rate is the highest that was tried for relu" in plain


@pytest.mark.slow
@pytest.mark.usefixtures("tracker", "fake")
def test_driven_recorded_verified_and_shown(settings: Settings) -> None:
    sweep = small(**{**TUNED, "tuning_trials": 3, "seeds": 2})
    with pytest.raises(RuntimeError, match="crash"):
        drive(sweep, settings, Watcher(stop_after=11))
    result = drive(sweep, settings, Watcher())
    assert (result.plan.size, result.recorded, result.report.trials.complete, result.broken) == (14, 14, 4, False)
    lost = AsWritten(values={}, trials=TrialCounts(lost=1), arms=(), claims=())
    vars(result)["report"] = result.report.model_copy(update={"as_written": lost})
    assert result.broken
    made, record = recorded_report.report("small", settings)
    assert made.as_written == select(result.plan, result.entries).as_written
    shown = Reader(html.html(made, recorded_report.recorded_sweep(record)))
    assert "as-written" in shown.values("id")
    assert "as written (learning rate 0.05)" in shown.text
    ledger = ledger_check.CheckedLedger(raw_ledger.read(settings.ledger_url, "small"))
    assert (ledger.problems, ledger.missing, len(ledger.rows)) == ([], 0, 4)
