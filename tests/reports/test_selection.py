"""What is chosen on validation data: values, their edges, and the recipe as written beside the tuned one."""

from typing import Any

import pytest
from pages import Reader, shown
from sweep_runs import Watcher, small

from mnist_ablate.execution import recorded_report
from mnist_ablate.execution.driver import drive
from mnist_ablate.ledger import progress
from mnist_ablate.reports import html, judging, markdown, sections
from mnist_ablate.reports.judging import About
from mnist_ablate.reports.report import AsWritten, Report, Selection, TrialCounts
from mnist_ablate.reports.selection import select
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.plan import Plan, count, make_plan
from mnist_ablate.trial import Outcome, RecordedTrial, Trial
from mnist_ablate.verification import ledger_check, raw_stores
from mnist_ablate.workloads.workload import Section

TUNED: dict[str, Any] = {
    "nuisance": {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}},
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


def run(plan: Plan) -> dict[str, RecordedTrial]:
    entries: dict[str, RecordedTrial] = {}
    while trials := progress.due(plan, entries):
        for each in trials:
            metrics = dict.fromkeys(["val_accuracy", "test_accuracy"][: 2 - each.trial.is_blind], accuracy(each.trial))
            outcome = Outcome(trial_id=each.trial.id, status="complete", metrics=metrics)
            entries[each.trial.id] = RecordedTrial(each.trial, each.arm.params, each.stage, outcome)
    return entries


def judged(plan: Plan) -> Report:
    entries = run(plan)
    found = progress.rows(plan, entries)
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
    relu, tanh = made.tuning.arms
    assert (relu.edges, tanh.edges) == ({"learning_rate": "highest"}, {})
    assert relu.tried == 8
    assert relu.score == max(0.9 + 0.1 * point["learning_rate"] for point in plan_of().points) + 0.0001 * (10**6 % 7)
    (warning,) = section(made, "tuning").lines
    assert warning.startswith("At the edge: the best learning rate is the highest that was tried for relu (0.0")


def test_lists_have_edges_and_words_have_none_and_no_point_is_tried_twice() -> None:
    plan = plan_of(nuisance={"width": [32, 64], "optimizer": ["adam", "sgd"]}, tuning_trials=4, as_written=False)
    assert set(select(plan, run(plan)).tuning.arms[0].edges) == {"width"}
    lists = {"width": [32, 64, 128], "optimizer": ["adam", "sgd", "lion", "rmsprop"]}
    plan = plan_of(nuisance=lists, tuning_trials=12, as_written=False)
    assert len({tuple(point.values()) for point in plan.points}) == len(plan.points) == 12
    assert len({each.trial.id for each in plan.tuning}) == 24


def test_nothing_is_said_of_choices_where_there_are_none_or_not_all_is_tried() -> None:
    plan = make_plan(small(), "digest")
    assert select(plan, run(plan)) == Selection()
    plan = plan_of()
    made = select(plan, dict(list(run(plan).items())[:5]))
    assert (made.tuning.trials, made.tuning.arms, made.as_written.claims[0].n_pairs) == (5, (), 0)


def test_written_as_tuned_is_trained_once() -> None:
    plan = plan_of(nuisance={"learning_rate": [0.05, 0.01]}, tuning_trials=2)
    entries = run(plan)
    assert len(entries) == 2 * 2 + 12 + 6  # relu is tuned to 0.05
    assert len(select(plan, entries).as_written.arms) == 2


def test_every_format_shows_both_verdicts_and_the_edge_and_a_narrow_terminal_cuts_nothing_off() -> None:
    made = judged(plan_of())
    both = section(made, "as-written")
    table = shown(made, 50).split(both.title)[1].split()
    words = [word for row in (both.tables[0].heads, *both.tables[0].rows) for cell in row[1:] for word in cell.split()]
    assert set(words) <= set(table)
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
    page = Reader(html.html(made, recorded_report.recorded_sweep(record)))
    assert "as-written" in page.values("id")
    assert "as written (learning rate 0.05)" in page.text
    ledger = ledger_check.CheckedLedger(raw_stores.read_ledger(settings.ledger_url, "small"))
    assert (ledger.problems, ledger.missing, len(ledger.rows)) == ([], 0, 4)
