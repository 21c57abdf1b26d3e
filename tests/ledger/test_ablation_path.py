"""Ablation paths: each round tries every change that is left, what was recorded decides, a crash changes nothing."""

import io
from pathlib import Path
from typing import Any

import pytest
from judged_sweep import as_json
from pages import Reader
from rich.console import Console
from sweep_runs import Watcher, small, starts
from sweep_texts import problems

from mnist_ablate.execution import recorded_report
from mnist_ablate.execution.driver import drive
from mnist_ablate.ledger.ablation_path import walk
from mnist_ablate.ledger.progress import due, tuned
from mnist_ablate.reports import html, judging, sections, terminal
from mnist_ablate.reports.judging import About
from mnist_ablate.reports.markdown import markdown
from mnist_ablate.reports.report import Selection
from mnist_ablate.reports.selection import select
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.plan import Plan, count, make_plan
from mnist_ablate.trial import Outcome, RecordedTrial
from mnist_ablate.verification import ledger_check, raw_ledger
from mnist_ablate.workloads.keras_mnist.recipe import Recipe, recipe_of
from mnist_ablate.workloads.workload import Section

PATH: dict[str, Any] = {
    "design": "ablation_path",
    "scientific": {},
    "baseline": {"activation": "tanh", "normalizer": "raw", "dropout": 0.5, "width": 64},
    "target": {"activation": "relu", "normalizer": "unit", "dropout": 0.2, "width": 64},
    "seeds": 3,
    "claims": [
        {
            "name": "first-step",
            "statement": "The best single change helps.",
            "treatment": {"configuration": "step-1"},
            "control": {"configuration": "baseline"},
            "direction": "higher",
            "margin": 0.001,
        }
    ],
}


def plan_of(**changes: Any) -> Plan:
    return make_plan(small(**{**PATH, **changes}), "digest")


def accuracy(recipe: Recipe) -> float:
    """Scaling helps most; relu helps only scaled inputs, and does harm without."""
    scaled, relu = recipe.normalizer == "unit", recipe.activation == "relu"
    return 0.80 + 0.10 * scaled + (0.05 if scaled else -0.02) * relu + 0.01 * (recipe.dropout == 0.2)


def ended(planned: Any, status: str = "complete") -> RecordedTrial:
    score = accuracy(recipe_of(planned.trial)) + 0.001 * (planned.trial.seed % 2)
    told = {"val_accuracy": score} if planned.trial.is_blind else {"val_accuracy": score, "test_accuracy": score}
    outcome = Outcome(trial_id=planned.trial.id, status=status, metrics=told if status == "complete" else {})
    return RecordedTrial(planned.trial, planned.arm.params, planned.stage, outcome)


def run(plan: Plan, entries: dict[str, RecordedTrial] | None = None) -> dict[str, RecordedTrial]:
    found = dict(entries or {})
    while trials := due(plan, found):
        found |= {each.trial.id: ended(each) for each in trials}
    return found


def test_each_round_tries_every_change_that_is_left_at_every_seed() -> None:
    plan, entries, tried = plan_of(), {}, []
    while trials := due(plan, entries):
        tried.append([each.stage for each in trials])
        entries |= {each.trial.id: ended(each) for each in trials}
    assert tried == [["tuning"] * 9, ["tuning"] * 6, ["verdict"] * 12]
    assert count(plan.sweep) == plan.size == len(entries) == 27
    assert all(each.trial.is_blind for each in walk(plan, entries).trials)


def test_the_best_change_is_made_first_and_the_last_one_is_not_tried() -> None:
    plan = plan_of()
    found = walk(plan, run(plan))
    assert [step.factor for step in found.steps] == ["normalizer", "activation", "dropout"]
    assert [set(step.scores) for step in found.steps] == [
        {"activation", "normalizer", "dropout"},
        {"activation", "dropout"},
        set(),
    ]
    assert found.ends(plan)
    settings = tuned(plan, run(plan))
    assert settings is not None
    assert settings["step-1"] == {**PATH["baseline"], "normalizer": "unit"}
    arms = {each.arm.params["configuration"]: recipe_of(each.trial) for each in plan.verdict_trials(settings)}
    assert arms["step-2"].activation == "relu"
    assert arms["step-2"].dropout == 0.5
    assert {name: getattr(arms["target"], name) for name in PATH["target"]} == PATH["target"]


@pytest.mark.parametrize("cut", range(0, 27, 4))
def test_after_a_crash_exactly_the_missing_trials_are_due(cut: int) -> None:
    plan = plan_of()
    whole = run(plan)
    again = run(plan, dict(list(whole.items())[:cut]))
    assert list(again) == list(whole)


def test_a_change_that_cannot_be_trained_is_made_last() -> None:
    plan, entries = plan_of(), {}
    while trials := due(plan, entries):
        entries |= {
            each.trial.id: ended(
                each, "failed" if each.trial.settings["normalizer"] == "unit" and each.trial.is_blind else "complete"
            )
            for each in trials
        }
    assert [step.factor for step in walk(plan, entries).steps][-1] == "normalizer"


def test_report_shows_each_step_with_its_gain() -> None:
    plan = plan_of()
    chosen = select(plan, run(plan))
    made = as_json(chosen)["path"]
    assert [round(step["effect"], 4) for step in made["steps"]] == [0.1, 0.05, 0.01]
    assert [(step["from"], step["to"]) for step in made["steps"]] == [("raw", "unit"), ("tanh", "relu"), (0.5, 0.2)]
    assert made["left"] == 0
    assert made["whole"]["effect"] == pytest.approx(0.16)
    first, _, last = section(plan, chosen).tables[0].rows
    assert first[1] == "normalizer: raw to unit"
    assert first[2] == "90.03%; activation 78.03%, dropout 81.03%"
    assert (last[2], last[3].split()[0]) == ("the last one", "+1.00")


def test_before_the_end_the_report_says_what_is_left() -> None:
    plan = plan_of()
    chosen = select(plan, dict(list(run(plan).items())[:10]))
    made = chosen.path
    assert made is not None
    assert (len(made.steps), made.left, made.whole.n_pairs) == (1, 2, 0)
    assert "2 more to choose" in section(plan, chosen).notes[0]


def section(plan: Plan, chosen: Selection) -> Section:
    (found,) = sections.selection(judging.of_rows(plan.sweep, [], {}, About(selection=chosen)))
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("tracker")
def test_driven_resumed_verified_and_shown(settings: Settings, fake: Path) -> None:
    sweep = small(**PATH)
    with pytest.raises(RuntimeError, match="crash"):
        drive(sweep, settings, Watcher(stop_after=11))
    result = drive(sweep, settings, Watcher())
    assert (result.plan.size, result.recorded, result.broken) == (27, 27, False)
    assert result.report.trials.complete == 12
    made, record = recorded_report.report("small", settings)
    assert made.path is not None
    assert len(made.path.steps) == 3
    assert made.claims[0].n_pairs == 3
    text = Reader(html.html(made, recorded_report.recorded_sweep(record))).text
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(terminal.tables(made))
    assert isinstance(console.file, io.StringIO)
    for shown in (text, console.file.getvalue(), markdown(made, "q?")):
        assert "The path from the baseline to the target" in shown
    ledger = ledger_check.CheckedLedger(raw_ledger.read(settings.ledger_url, "small"))
    assert (ledger.problems, ledger.missing, len(ledger.rows)) == ([], 0, 12)
    again = len(starts(fake))
    drive(sweep, settings, Watcher())
    assert len(starts(fake)) == again


FILE = """\
question: q
design: ablation_path
baseline: {dropout: 0.5, norm_layer: none}
target: {dropout: 0.0, norm_layer: batch_norm}
seeds: 2
"""


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("seeds: 2", "seeds: 2", ""),
        (", norm_layer: batch_norm", "", "needs norm_layer too: a path goes from baseline to target"),
        (
            "dropout: 0.0, norm_layer: batch_norm",
            "dropout: 0.5, norm_layer: none",
            "target: is the same as the baseline; change",
        ),
        (
            "seeds: 2",
            "seeds: 2\nscientific: {width: [1, 2]}",
            "scientific: design: ablation_path has no scientific; remove it",
        ),
        ("seeds: 2", "seeds: 2\nfixed: {dropout: 0.5}", "fixed.dropout: is in target too"),
        ("ablation_path", "factorial", "design: factorial has no target; remove it, or write design: ablation_path"),
        ("batch_norm", "batchnorm", "no such norm_layer: 'batchnorm'"),
        (
            "norm_layer: none}\ntarget: {dropout: 0.0, norm_layer: batch_norm}",
            "optimizer: adam}\ntarget: {dropout: 0.0, optimizer: sgd}",
            "changes optimizer, and with it the default learning_rate; give learning_rate too",
        ),
    ],
)
def test_a_path_has_two_ends_that_name_the_same_factors(tmp_path: Path, old: str, new: str, error: str) -> None:
    found = problems(tmp_path, FILE.replace(old, new))
    assert any(error in each for each in found) if error else not found, found
