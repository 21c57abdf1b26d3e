"""What comes next follows from what is recorded alone: tuning, verdicts, adaptive rounds, steps of an ablation path."""

from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judged_sweep import as_json
from ledger_records import plan
from pages import Reader
from rich.console import Console
from sweep_runs import SWEEP, Tracker, Watcher, small, starts
from sweep_texts import problems

from mnist_ablate.execution import recorded_report
from mnist_ablate.execution.driver import drive
from mnist_ablate.ledger import progress
from mnist_ablate.ledger.ledger import Ledger
from mnist_ablate.ledger.raw_records import FinalRecord
from mnist_ablate.reports import html, judging, sections, terminal
from mnist_ablate.reports.judging import About
from mnist_ablate.reports.markdown import markdown
from mnist_ablate.reports.report import Selection
from mnist_ablate.reports.selection import select
from mnist_ablate.settings import Settings
from mnist_ablate.statistics.verdict import decide, judge
from mnist_ablate.sweep import sweep_file
from mnist_ablate.sweep.plan import Plan, PlannedTrial, count, label, make_plan
from mnist_ablate.trial import Outcome, RecordedTrial, Row, Status
from mnist_ablate.verification import ledger_check, raw_stores
from mnist_ablate.verification.ledger_check import CheckedLedger
from mnist_ablate.workloads.keras_mnist.recipe import recipe_of
from mnist_ablate.workloads.workload import Section

Entries = dict[str, RecordedTrial]
Rounds = list[tuple[PlannedTrial, ...]]
NUISANCE = {"learning_rate": {"low": 1e-3, "high": 0.1, "log": True}}
TUNED: dict[str, Any] = {"nuisance": NUISANCE, "tuning_trials": 2}


def claim(name: str, treatment: str, **more: Any) -> dict[str, Any]:
    sides = {"treatment": {"activation": treatment}, "control": {"activation": "relu"}, "where": {"dropout": 0.0}}
    return {"name": name, "statement": "s", "direction": "lower", "margin": 0.002, **sides, **more}


CLEAR, OPEN = claim("clear", "tanh"), claim("open", "elu")
ADAPTIVE: dict[str, Any] = {
    "baseline": {"activation": "relu", "dropout": 0.0},
    "scientific": {"activation": ["relu", "tanh", "elu"], "dropout": [0.0, 0.5]},
    "seeds": {"min": 6, "max": 30},
    "claims": [CLEAR, OPEN],
}

STEP = {"treatment": {"configuration": "step-1"}, "control": {"configuration": "baseline"}, "direction": "higher"}
PATH: dict[str, Any] = {
    "design": "ablation_path",
    "scientific": {},
    "baseline": {"activation": "tanh", "normalizer": "raw", "dropout": 0.5, "width": 64},
    "target": {"activation": "relu", "normalizer": "unit", "dropout": 0.2, "width": 64},
    "claims": [{**SWEEP["claims"][0], **STEP}],
}


def plan_of(**changes: Any) -> Plan:
    return plan(**{"negative_control": "baseline", **changes})


def adaptive(**changes: Any) -> Plan:
    return plan_of(**{**ADAPTIVE, **changes})


def accuracy(planned: PlannedTrial) -> float:
    """On a path scaling helps most, and relu helps only scaled inputs; else tanh is much worse, elu by the margin."""
    recipe, seed = recipe_of(planned.trial), planned.trial.seed
    if "configuration" in planned.arm.params:
        scaled, relu = recipe.normalizer == "unit", recipe.activation == "relu"
        effect = 0.10 * scaled + (0.05 if scaled else -0.02) * relu + 0.01 * (recipe.dropout == 0.2)
        return 0.80 + effect + 0.001 * (seed % 2)
    rng = np.random.default_rng([seed, len(recipe.activation), int(2 * recipe.dropout)])
    effect = {"relu": 0.0, "tanh": -0.03, "elu": -0.002}[recipe.activation]
    return 0.95 + effect + 0.0015 * float(rng.standard_normal())


def entry(planned: PlannedTrial, status: Status = "complete") -> RecordedTrial:
    names = ("val_accuracy",) if planned.trial.is_blind else ("val_accuracy", "test_accuracy")
    metrics = dict.fromkeys(names, accuracy(planned)) if status == "complete" else {}
    outcome = Outcome(trial_id=planned.id, status=status, metrics=metrics)
    return RecordedTrial(planned.trial, planned.arm.params, planned.stage, outcome)


def run(
    plan: Plan, entries: Entries | None = None, entry: Callable[[PlannedTrial], RecordedTrial] = entry
) -> tuple[Entries, Rounds]:
    """All rounds, on top of what is recorded."""
    entries, asked = dict(entries or {}), Rounds()
    while due := progress.due(plan, entries):
        asked.append(due)
        entries |= {each.id: entry(each) for each in due}
    return entries, asked


@cache
def finished(design: str = "adaptive") -> tuple[Plan, Entries, Rounds]:
    plan = adaptive() if design == "adaptive" else plan_of(**PATH, negative_control="none")
    return plan, *run(plan)


def stages(trials: tuple[PlannedTrial, ...]) -> Counter[str]:
    return Counter(each.stage for each in trials)


def test_verdicts_and_their_control_wait_for_the_tuning() -> None:
    plan = plan_of(**TUNED)
    first = progress.due(plan, {})
    assert stages(first) == {"tuning": 4}
    entries = {each.id: entry(each) for each in first[:3]}
    assert progress.due(plan, entries) == first[3:]
    entries[first[3].id] = entry(first[3])
    assert stages(progress.due(plan, entries)) == {"verdict": 6, "control": 3}


def test_a_failed_trial_that_is_recorded_is_not_asked_for_again() -> None:
    plan = plan_of()
    entries = {each.id: entry(each, status="failed") for each in progress.due(plan, {})}
    assert progress.due(plan, entries) == ()


@pytest.mark.parametrize("content", [TUNED, {**ADAPTIVE, "seeds": {"min": 6, "max": 14}}, PATH])
def test_after_a_crash_exactly_the_missing_trials_are_due(content: dict[str, Any]) -> None:
    plan = plan_of(**content)
    entries, asked = run(plan)
    order = [each.id for each_round in asked for each in each_round]
    assert len(order) == len(entries) == progress.done(plan, entries)
    for cut in range(0, len(order), 6):
        again, rest = run(plan, {trial_id: entries[trial_id] for trial_id in order[:cut]})
        assert sorted(each.id for each_round in rest for each in each_round) == sorted(order[cut:])
        assert again == entries


def test_a_trial_of_two_arms_is_asked_for_once() -> None:
    plan = plan_of(design="search", baseline={"activation": "relu"}, tuning_trials=1, claims=[])
    tried = plan.searched({"activation": "relu"})
    entries = {tried.id: entry(tried)}
    assert len(progress.verdict_trials(plan, entries)) == 6
    assert [each.trial.seed for each in progress.due(plan, entries)] == [0, 1, 2]


def test_only_the_arms_of_open_claims_get_more_seeds() -> None:
    plan, entries, asked = finished()
    assert [len(each) for each in asked] == [6 * 6 + 6, 2 * 3 + 3, 2 * 5 + 5, 2 * 7 + 7, 2 * 9 + 9]
    seeds = Counter(label(each.arm.params) for each in progress.verdict_trials(plan, entries))
    few = {f"{activation} 0.5": 6 for activation in ("relu", "tanh", "elu")}
    assert seeds == {"relu 0.0": 30, "tanh 0.0": 6, "elu 0.0": 30, **few}
    assert len(progress.control_trials(plan, entries)) == 30


def test_every_report_says_how_seeds_were_added_what_that_saved_and_where_each_claim_stopped() -> None:
    plan, entries, _ = finished()
    counts = progress.counts(plan, entries)
    assert counts == {"planned": 180, "complete": 84, "diverged": 0, "failed": 0, "lost": 0, "saved": 96}
    found = judging.of_rows(plan.sweep, progress.rows(plan, entries), counts)
    stopped = [(each.verdict, each.look, each.n_pairs) for each in found.claims]
    assert stopped == [("supported", 1, 6), ("inconclusive", 5, 30)]
    assert found.adaptive is not None
    assert [each.seeds for each in found.adaptive.looks] == [6, 9, 14, 21, 30]
    saved = "Saved: 96 of the 180 trials of 30 seeds for every arm (53%)."
    text = markdown(found, "Why?")
    assert "every arm has 6. The arms of open claims get more, up to 9, 14, 21 and 30." in text
    assert saved in text
    assert "180 trials planned: 84 complete, 96 saved" in text
    console = Console(width=100)
    with console.capture() as capture:
        console.print(terminal.tables(found))
    told = " ".join(capture.get().split())
    assert saved in told
    assert "its 97.5% repeated interval" in told
    assert "6 pairs, p=0.281, look 1 of 5." in told
    assert "corrected for 2 claims and the looks" in told
    assert "not run yet" not in told


def test_claims_are_decided_one_by_one_and_what_comes_later_changes_no_verdict() -> None:
    """Whenever a claim has its trials: what is said of those that have theirs is what is said at the end."""
    plan, all_entries, rounds = finished()
    sweep, entries, early = plan.sweep, {}, 0
    last = {each.name: each for each in judge(progress.rows(plan, all_entries), sweep.claims, looks=sweep.looks)}
    for due in rounds:
        awaited = progress.awaited(plan, due)
        waiting = {name for name, own in awaited.items() if own}
        for each in due:
            entries[each.id] = all_entries[each.id]
            for own in awaited.values():
                own.discard(each.id)
            before, waiting = waiting, {name for name, own in awaited.items() if own}
            if waiting == before:
                continue
            for found in decide(progress.rows(plan, entries), sweep.claims, sweep.looks, waiting):
                assert found.name not in waiting
                if not found.is_open:
                    assert (found.verdict, found.look) == (last[found.name].verdict, last[found.name].look)
                    early += bool(waiting)
    assert early
    first, *_ = sweep.claims
    needed = len(progress.awaited(plan, rounds[0])[first.name])
    assert needed < len(rounds[0])
    assert {each.id for each in rounds[0][:needed]} == progress.awaited(plan, rounds[0])[first.name]


def test_next_is_the_claim_that_needs_the_fewest_arms_besides_those_before() -> None:
    plan = make_plan(sweep_file.load("normalization"), "0" * 64)
    arms = [*dict.fromkeys(label(each.arm.params) for each in progress.due(plan, {}))]
    assert arms[:4] == ["unit relu", "centered_uint8 relu", "centered relu", "standardized relu"]
    assert all(name.endswith("relu") for name in arms[:6])


def test_a_sweep_with_a_fixed_number_of_seeds_has_no_looks() -> None:
    fixed = judging.of_rows(small(), [], progress.count([]))
    assert fixed.adaptive is None
    assert all("look" not in each for each in as_json(fixed)["claims"])


def test_before_the_last_round_nothing_is_called_saved_and_a_lost_trial_counts_as_taken() -> None:
    plan = adaptive()
    entries = {each.id: entry(each, "lost") for each in progress.due(plan, {})}
    assert progress.counts(plan, entries)["saved"] == 0
    assert progress.again(plan, {}).planned == 6  # type: ignore[union-attr]
    assert {each.trial.seed for each in progress.due(plan, entries) if each.stage == "verdict"} == {6, 7, 8}


@pytest.mark.parametrize(
    ("claim", "judged", "seeds"), [({**OPEN, "where": {}}, True, [9, 9, 6, 6, 9, 9]), (OPEN, False, [6] * 6)]
)
def test_a_claim_asks_for_all_values_that_it_leaves_open_and_if_it_cannot_be_judged_for_none(
    claim: dict[str, Any], judged: bool, seeds: list[int]
) -> None:
    plan = adaptive(claims=[claim])
    trials = [each for each in plan.verdict_trials() if each.trial.seed < 6]
    rows = [Row(each.arm.params, each.trial.seed, entry(each).outcome.metrics if judged else {}) for each in trials]
    arms = [arm.params for arm in plan.arms]
    assert progress.seeds_wanted(arms, rows, plan.sweep.claims, plan.sweep.looks) == seeds


def test_the_recipe_as_written_has_rounds_of_its_own() -> None:
    plan = adaptive(**TUNED, fixed={"learning_rate": 0.01}, as_written=True, claims=[CLEAR])
    entries, asked = run(plan)
    assert [stages(each) for each in asked] == [{"tuning": 12}, {"verdict": 36, "control": 6, "as_written": 36}]
    assert progress.counts(plan, entries, progress.as_written_trials(plan, entries))["saved"] == 180 - 36


BOTH = claim("both", "elu", versus={"dropout": 0.5})


@pytest.mark.parametrize("claims", [[CLEAR, OPEN], [{**OPEN, "where": {}}], [CLEAR], [BOTH]])
@pytest.mark.parametrize("design", ["factorial", "one_factor"])
def test_verify_works_out_the_same_rounds(design: str, claims: list[dict[str, Any]]) -> None:
    if design == "one_factor":
        claims = [{key: value for key, value in each.items() if key not in ("where", "versus")} for each in claims]
    plan = adaptive(claims=claims, design=design, seeds={"min": 6, "max": 14})
    entries, asked = run(plan)
    order = [each.id for each_round in asked for each in each_round]
    for cut in range(0, len(order) + 1, 11):
        kept = {trial_id: entries[trial_id] for trial_id in order[:cut]}
        finals = {
            id_: FinalRecord(
                id_, {}, each.trial.seed, "", each.params, each.stage, each.outcome.model_dump(), frozenset()
            )
            for id_, each in kept.items()
        }
        found = ledger_check.wanted(plan, plan.verdict_trials(), finals)
        assert {each.id for each in found} == {each.id for each in progress.verdict_trials(plan, kept)}


def few(margin: float = 0.5) -> Any:
    return small(seeds={"min": 3, "max": 9}, claims=[{**SWEEP["claims"][0], "margin": margin}])


@pytest.mark.slow
@pytest.mark.usefixtures("fake")
def test_a_driver_runs_the_rounds_says_what_stands_and_verify_agrees(settings: Settings, tracker: Tracker) -> None:
    watcher = Watcher()
    result = drive(few(), settings, watcher)
    (claim,) = result.report.claims
    said = f"tanh-hurts: {claim.verdict} after {claim.n_pairs} seeds, "
    assert [said in text for text in watcher.messages if text.startswith("tanh-hurts")] == [True]
    assert tracker.tags == {"verdict.tanh-hurts": claim.verdict}
    record = Ledger(settings.ledger_url).find("small")
    entries = record.entries()
    assert progress.due(record.plan, entries) == ()
    counts = progress.counts(result.plan, result.entries)
    assert counts["complete"] + counts["saved"] == counts["planned"] == 18
    assert CheckedLedger(raw_stores.read_ledger(settings.ledger_url, "small")).problems == []
    found = judging.of_records(record.plan, entries, record.registration, [])
    assert as_json(found)["trials"] == dict(counts)
    again = drive(few(), settings, Watcher())
    assert again.report == result.report
    assert len(Ledger(settings.ledger_url).find("small").records()) == len(entries)


@pytest.mark.slow
@pytest.mark.usefixtures("tracker", "fake")
@pytest.mark.parametrize(
    ("margin", "most", "told"),
    [(0.5, None, "is recorded but was not planned"), (0.0, 6, "planned trials are not recorded: run the sweep again")],
)
def test_verify_finds_a_round_that_nobody_asked_for_and_one_that_is_lacking(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, margin: float, most: int | None, told: str
) -> None:
    monkeypatch.setattr(progress, "_wanted", lambda _plan, trials, _entries: trials[:most])
    drive(few(margin), settings, Watcher())
    problems = CheckedLedger(raw_stores.read_ledger(settings.ledger_url, "small")).problems
    assert problems
    assert all(told in problem for problem in problems)


def test_each_round_tries_every_change_that_is_left_at_every_seed() -> None:
    plan, entries, rounds = finished("path")
    assert [stages(each) for each in rounds] == [{"tuning": 9}, {"tuning": 6}, {"verdict": 12}]
    assert count(plan.sweep) == plan.size == len(entries) == 27
    assert all(each.trial.is_blind for each in progress.walk(plan, entries)[1])


def test_the_best_change_is_made_first_and_the_last_one_is_not_tried() -> None:
    plan, entries, _ = finished("path")
    steps, _ = progress.walk(plan, entries)
    assert [(step.factor, set(step.scores)) for step in steps] == [
        ("normalizer", {"activation", "normalizer", "dropout"}),
        ("activation", {"activation", "dropout"}),
        ("dropout", set()),
    ]
    settings = progress.tuned(plan, entries)
    assert settings is not None
    assert settings["step-1"] == {**PATH["baseline"], "normalizer": "unit"}
    arms = {each.arm.params["configuration"]: recipe_of(each.trial) for each in plan.verdict_trials(settings)}
    assert (arms["step-2"].activation, arms["step-2"].dropout) == ("relu", 0.5)
    assert {name: getattr(arms["target"], name) for name in PATH["target"]} == PATH["target"]


def test_a_change_that_cannot_be_trained_is_made_last() -> None:
    def lost(planned: PlannedTrial) -> RecordedTrial:
        unit = planned.trial.is_blind and planned.trial.settings["normalizer"] == "unit"
        return entry(planned, "failed" if unit else "complete")

    plan = plan_of(**PATH)
    assert progress.walk(plan, run(plan, entry=lost)[0])[0][-1].factor == "normalizer"


def test_report_shows_each_step_with_its_gain() -> None:
    plan, entries, _ = finished("path")
    chosen = select(plan, entries)
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
    plan, entries, rounds = finished("path")
    chosen = select(plan, {each.id: entries[each.id] for each in rounds[0]})
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
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(terminal.tables(made))
    for shown in (text, capture.get(), markdown(made, "q?")):
        assert "The path from the baseline to the target" in shown
    ledger = CheckedLedger(raw_stores.read_ledger(settings.ledger_url, "small"))
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
