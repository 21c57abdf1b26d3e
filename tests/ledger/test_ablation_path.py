"""Ablation paths: each round tries every change that is left, and what was recorded decides."""

import io
from pathlib import Path
from typing import Any

import pytest
from judged_sweep import as_json
from ledger_records import plan
from pages import Reader
from rich.console import Console
from sweep_runs import SWEEP, Watcher, small, starts
from sweep_texts import problems

from mnist_ablate.execution import publishing, recorded_report
from mnist_ablate.execution.driver import drive
from mnist_ablate.ledger.ablation_path import walk
from mnist_ablate.ledger.progress import due, tuned
from mnist_ablate.reports import html, judging, sections, terminal
from mnist_ablate.reports.judging import About
from mnist_ablate.reports.markdown import markdown
from mnist_ablate.reports.report import Selection
from mnist_ablate.reports.selection import select
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.plan import PlannedTrial, count
from mnist_ablate.trial import Outcome, RecordedTrial
from mnist_ablate.verification import ledger_check, raw_ledger
from mnist_ablate.workloads.keras_mnist.recipe import recipe_of
from mnist_ablate.workloads.workload import Section

STEP = {"treatment": {"configuration": "step-1"}, "control": {"configuration": "baseline"}, "direction": "higher"}
PATH: dict[str, Any] = {
    "design": "ablation_path",
    "scientific": {},
    "baseline": {"activation": "tanh", "normalizer": "raw", "dropout": 0.5, "width": 64},
    "target": {"activation": "relu", "normalizer": "unit", "dropout": 0.2, "width": 64},
    "claims": [{**SWEEP["claims"][0], **STEP}],
}
PLAN = plan(**PATH)


def ended(planned: PlannedTrial, *, trained: bool = True) -> RecordedTrial:
    """Scaling helps most; relu helps only scaled inputs, and does harm without."""
    recipe, seed = recipe_of(planned.trial), planned.trial.seed
    scaled, relu = recipe.normalizer == "unit", recipe.activation == "relu"
    score = 0.80 + 0.10 * scaled + (0.05 if scaled else -0.02) * relu + 0.01 * (recipe.dropout == 0.2)
    names = ("val_accuracy",) if planned.trial.is_blind else ("val_accuracy", "test_accuracy")
    metrics = dict.fromkeys(names, score + 0.001 * (seed % 2)) if trained else {}
    outcome = Outcome(trial_id=planned.id, status="complete" if trained else "failed", metrics=metrics)
    return RecordedTrial(planned.trial, planned.arm.params, planned.stage, outcome)


def run(untrained: str = "") -> list[dict[str, RecordedTrial]]:
    """The records of each round; trials that choose fail with the `untrained` normalizer."""
    found: dict[str, RecordedTrial] = {}
    rounds = []
    while trials := due(PLAN, found):
        lost = [each.trial.is_blind and each.trial.settings["normalizer"] == untrained for each in trials]
        rounds.append({each.id: ended(each, trained=not is_lost) for each, is_lost in zip(trials, lost, strict=True)})
        found |= rounds[-1]
    return rounds


def whole(rounds: list[dict[str, RecordedTrial]]) -> dict[str, RecordedTrial]:
    return {id_: entry for each in rounds for id_, entry in each.items()}


def test_each_round_tries_every_change_that_is_left_at_every_seed() -> None:
    rounds = run()
    assert [[each.stage for each in tried.values()] for tried in rounds] == [
        ["tuning"] * 9,
        ["tuning"] * 6,
        ["verdict"] * 12,
    ]
    assert count(PLAN.sweep) == PLAN.size == len(whole(rounds)) == 27
    assert all(each.trial.is_blind for each in walk(PLAN, whole(rounds)).trials)


def test_the_best_change_is_made_first_and_the_last_one_is_not_tried() -> None:
    entries = whole(run())
    steps = walk(PLAN, entries).steps
    assert [(step.factor, set(step.scores)) for step in steps] == [
        ("normalizer", {"activation", "normalizer", "dropout"}),
        ("activation", {"activation", "dropout"}),
        ("dropout", set()),
    ]
    settings = tuned(PLAN, entries)
    assert settings is not None
    assert settings["step-1"] == {**PATH["baseline"], "normalizer": "unit"}
    arms = {each.arm.params["configuration"]: recipe_of(each.trial) for each in PLAN.verdict_trials(settings)}
    assert (arms["step-2"].activation, arms["step-2"].dropout) == ("relu", 0.5)
    assert {name: getattr(arms["target"], name) for name in PATH["target"]} == PATH["target"]


def test_a_change_that_cannot_be_trained_is_made_last() -> None:
    assert [step.factor for step in walk(PLAN, whole(run(untrained="unit"))).steps][-1] == "normalizer"


def test_report_shows_each_step_with_its_gain() -> None:
    chosen = select(PLAN, whole(run()))
    made = as_json(chosen)["path"]
    assert [round(step["effect"], 4) for step in made["steps"]] == [0.1, 0.05, 0.01]
    assert [(step["from"], step["to"]) for step in made["steps"]] == [("raw", "unit"), ("tanh", "relu"), (0.5, 0.2)]
    assert made["left"] == 0
    assert made["whole"]["effect"] == pytest.approx(0.16)
    first, _, last = section(chosen).tables[0].rows
    assert first[1] == "normalizer: raw to unit"
    assert first[2] == "90.03%; activation 78.03%, dropout 81.03%"
    assert (last[2], last[3].split()[0]) == ("the last one", "+1.00")


def test_before_the_end_the_report_says_what_is_left() -> None:
    chosen = select(PLAN, whole(run()[:1]))
    made = chosen.path
    assert made is not None
    assert (len(made.steps), made.left, made.whole.n_pairs) == (1, 2, 0)
    assert "2 more to choose" in section(chosen).notes[0]


def section(chosen: Selection) -> Section:
    (found,) = sections.selection(judging.of_rows(PLAN.sweep, [], {}, About(selection=chosen)))
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("tracker")
def test_driven_resumed_verified_and_shown(settings: Settings, fake: Path) -> None:
    sweep = small(**PATH)
    with pytest.raises(RuntimeError, match="crash"):
        drive(sweep, settings, Watcher(stop_after=11))
    result = drive(sweep, settings, Watcher())
    assert (result.planned, result.recorded, len(result.rows), result.broken) == (27, 27, 12, False)
    made, record = recorded_report.report("small", settings)
    assert made.path is not None
    assert len(made.path.steps) == 3
    assert made.claims[0].n_pairs == 3
    text = Reader(html.html(made, publishing.recorded_sweep(record))).text
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
NORM, TARGET = ", norm_layer: batch_norm", "target: {dropout: 0.0, norm_layer: batch_norm}"


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("", "", ""),
        (NORM, "", "needs norm_layer too: a path goes from baseline to target"),
        ("0.0, norm_layer: batch_norm", "0.5, norm_layer: none", "target: is the same as the baseline; change"),
        ("seeds: 2", "scientific: {width: [1, 2]}", "scientific: design: ablation_path has no scientific; remove it"),
        ("seeds: 2", "seeds: 2\nfixed: {dropout: 0.5}", "fixed.dropout: is in target too"),
        ("ablation_path", "factorial", "design: factorial has no target; remove it, or write design: ablation_path"),
        ("batch_norm", "batchnorm", "no such norm_layer: 'batchnorm'"),
        (
            f"norm_layer: none}}\n{TARGET}",
            "optimizer: adam}\ntarget: {dropout: 0.0, optimizer: sgd}",
            "changes optimizer, and with it the default learning_rate; give learning_rate too",
        ),
    ],
)
def test_a_path_has_two_ends_that_name_the_same_factors(tmp_path: Path, old: str, new: str, error: str) -> None:
    found = problems(tmp_path, FILE.replace(old, new))
    assert any(error in each for each in found) if error else not found, found
