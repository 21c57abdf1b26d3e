"""Adaptive sweeps end to end with the fake trainer: rounds, resume, saved trials, checks that find wrong ones."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from judged_sweep import as_json
from rich.console import Console
from sweep_runs import Watcher, small

from mnist_ablate.execution.driver import drive
from mnist_ablate.ledger import progress
from mnist_ablate.ledger.ledger import Ledger
from mnist_ablate.ledger.preregistration import digests
from mnist_ablate.ledger.progress import seeds_wanted, winner
from mnist_ablate.ledger.raw_records import FinalRecord
from mnist_ablate.reports import judging, terminal
from mnist_ablate.reports.markdown import markdown
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.plan import Plan, PlannedTrial, label, make_plan
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import Outcome, RecordedTrial, Row, Status
from mnist_ablate.verification import raw_ledger
from mnist_ablate.verification.ledger_check import CheckedLedger, ExpectedTrials
from mnist_ablate.workloads.keras_mnist.recipe import recipe_of

FACTORS = {"activation": ["relu", "tanh", "elu"], "dropout": [0.0, 0.5]}


def claim(name: str, treatment: dict[str, Any], control: dict[str, Any], **more: Any) -> dict[str, Any]:
    content = {"statement": "s", "direction": "lower", "margin": 0.002, "where": {"dropout": 0.0}}
    return {"name": name, "treatment": treatment, "control": control, **content, **more}


CLEAR = claim("clear", {"activation": "tanh"}, {"activation": "relu"})
OPEN = claim("open", {"activation": "elu"}, {"activation": "relu"})


def plan_of(**changes: Any) -> Plan:
    content = {
        "name": "x",
        "question": "?",
        "baseline": {"activation": "relu", "dropout": 0.0},
        "scientific": FACTORS,
        "seeds": {"min": 6, "max": 30},
        "claims": [CLEAR, OPEN],
    }
    return make_plan(Sweep.model_validate({**content, **changes}), "digest")


def accuracy(planned: PlannedTrial) -> float:
    """Tanh is much worse than relu; elu is worse by just the margin, and noisy."""
    recipe, seed = recipe_of(planned.trial), planned.trial.seed
    rng = np.random.default_rng([seed, len(recipe.activation), int(2 * recipe.dropout)])
    effect = {"relu": 0.0, "tanh": -0.03, "elu": -0.002}[recipe.activation]
    return 0.95 + effect + 0.0015 * float(rng.standard_normal())


def entry(planned: PlannedTrial, status: Status = "complete") -> RecordedTrial:
    value = accuracy(planned)
    metrics = {} if status in ("failed", "lost") else {"test_accuracy": value, "val_accuracy": value}
    outcome = Outcome(trial_id=planned.trial.id, status=status, metrics=metrics)
    return RecordedTrial(planned.trial, planned.arm.params, planned.stage, outcome)


def run(
    plan: Plan, entries: dict[str, RecordedTrial] | None = None
) -> tuple[dict[str, RecordedTrial], list[list[PlannedTrial]]]:
    """All rounds, on top of what is recorded."""
    entries = dict(entries or {})
    asked: list[list[PlannedTrial]] = []
    while due := progress.due(plan, entries):
        asked.append(list(due))
        entries |= {each.trial.id: entry(each) for each in due}
    return entries, asked


def seeds_of(plan: Plan, entries: dict[str, RecordedTrial]) -> Counter[str]:
    return Counter(label(each.arm.params) for each in progress.verdict_trials(plan, entries))


def test_only_the_arms_of_open_claims_get_more_seeds() -> None:
    plan = plan_of()
    entries, asked = run(plan)
    assert [len(each) for each in asked] == [6 * 6 + 6, 3 * 3 + 3, 3 * 5 + 5, 2 * 7 + 7, 2 * 9 + 9]
    assert seeds_of(plan, entries) == {
        "relu 0.0": 30,
        "relu 0.5": 6,
        "tanh 0.0": 14,
        "tanh 0.5": 6,
        "elu 0.0": 30,
        "elu 0.5": 6,
    }
    assert {len(progress.control_trials(plan, entries))} == {30}


def test_the_report_says_what_was_saved_and_where_each_claim_stopped() -> None:
    plan = plan_of()
    entries, _ = run(plan)
    counts = progress.counts(plan, entries)
    assert counts == {"planned": 180, "complete": 92, "diverged": 0, "failed": 0, "lost": 0, "saved": 88}
    found = judging.of_rows(plan.sweep, progress.rows(plan, entries), counts)
    assert [(each.verdict, each.look, each.n_pairs) for each in found.claims] == [
        ("supported", 3, 14),
        ("inconclusive", 5, 30),
    ]
    assert found.adaptive is not None
    assert [each.seeds for each in found.adaptive.looks] == [6, 9, 14, 21, 30]
    fixed = judging.of_rows(small(), [], progress.count([]))
    assert fixed.adaptive is None
    assert all("look" not in each for each in as_json(fixed)["claims"])


def test_before_the_last_round_nothing_is_called_saved() -> None:
    plan = plan_of()
    first = progress.due(plan, {})
    entries = {each.trial.id: entry(each) for each in first}
    assert progress.counts(plan, entries)["saved"] == 0
    assert progress.again(plan, {}).planned == 6  # type: ignore[union-attr]


@pytest.mark.parametrize("cut", [0, 1, 41, 42, 43, 53, 54, 60])
def test_after_a_crash_the_same_trials_are_asked_for(cut: int) -> None:
    plan = plan_of(seeds={"min": 6, "max": 14})
    entries, asked = run(plan)
    order = [each.trial.id for each_round in asked for each in each_round]
    kept = {trial_id: entries[trial_id] for trial_id in order[:cut]}
    again, rest = run(plan, kept)
    assert {each.trial.id for each_round in rest for each in each_round} == {*order[cut:]}
    assert again == entries


def test_a_trial_that_was_lost_counts_as_taken() -> None:
    plan = plan_of()
    entries = {each.trial.id: entry(each, "lost") for each in progress.due(plan, {})}
    second = progress.due(plan, entries)
    assert {each.trial.seed for each in second if each.stage == "verdict"} == {6, 7, 8}


def test_a_factor_that_a_claim_leaves_open_keeps_all_its_values_running() -> None:
    plan = plan_of(claims=[{**OPEN, "where": {}}])
    rows = [
        Row(each.arm.params, each.trial.seed, {"test_accuracy": accuracy(each)})
        for each in plan.verdict_trials()
        if each.trial.seed < 6
    ]
    found = seeds_wanted([arm.params for arm in plan.arms], rows, plan.sweep.claims, plan.sweep.looks)
    assert found == [9, 9, 6, 6, 9, 9]


def test_a_claim_that_cannot_be_judged_asks_for_nothing() -> None:
    plan = plan_of(claims=[OPEN])
    rows = [Row(each.arm.params, each.trial.seed, {}) for each in plan.verdict_trials() if each.trial.seed < 6]
    found = seeds_wanted([arm.params for arm in plan.arms], rows, plan.sweep.claims, plan.sweep.looks)
    assert found == [6] * 6


def test_the_recipe_as_written_has_rounds_of_its_own() -> None:
    nuisance = {"learning_rate": {"low": 1e-3, "high": 0.1, "log": True}}
    plan = plan_of(nuisance=nuisance, tuning_trials=2, fixed={"learning_rate": 0.01}, as_written=True, claims=[CLEAR])
    entries, asked = run(plan)
    assert {each.stage for each in asked[0]} == {"tuning"}
    assert Counter(each.stage for each in asked[1]) == {"verdict": 36, "control": 6, "as_written": 36}
    assert Counter(each.stage for each in asked[2]) == {"verdict": 6, "control": 3, "as_written": 6}
    assert progress.as_written_counts(plan, entries)["saved"] == 180 - 42


def test_looks_and_spending_are_registered_and_fixed_sweeps_keep_their_digests() -> None:
    adaptive, fixed = plan_of(), plan_of(seeds=30)
    assert digests(adaptive)["plan"] != digests(fixed)["plan"]
    assert digests(plan_of(seeds={"min": 7, "max": 30}))["plan"] != digests(adaptive)["plan"]
    assert adaptive.sweep.digest != fixed.sweep.digest


def test_the_winner_is_known_when_the_rounds_are_over() -> None:
    plan = plan_of()
    entries, asked = run(plan)
    assert winner(plan, entries) is not None
    assert winner(plan, {each.trial.id: entries[each.trial.id] for each in asked[0][:-7]}) is None


@pytest.mark.parametrize(
    "claims",
    [
        [CLEAR, OPEN],
        [{**OPEN, "where": {}}],
        [CLEAR],
        [claim("both", {"activation": "elu"}, {"activation": "relu"}, versus={"dropout": 0.5})],
    ],
)
@pytest.mark.parametrize("design", ["factorial", "one_factor"])
def test_verify_works_out_the_same_rounds(design: str, claims: list[dict[str, Any]]) -> None:
    if design == "one_factor":
        claims = [{key: value for key, value in each.items() if key not in ("where", "versus")} for each in claims]
    plan = plan_of(claims=claims, design=design, seeds={"min": 6, "max": 14})
    entries, asked = run(plan)
    order = [each.trial.id for each_round in asked for each in each_round]
    for cut in range(0, len(order) + 1, 11):
        kept = {trial_id: entries[trial_id] for trial_id in order[:cut]}
        finals = {
            id_: FinalRecord(
                id_, {}, each.trial.seed, "", each.params, each.stage, each.outcome.model_dump(), frozenset()
            )
            for id_, each in kept.items()
        }
        found = ExpectedTrials(plan, finals).wanted(plan.verdict_trials())
        assert {each.trial.id for each in found} == {each.trial.id for each in progress.verdict_trials(plan, kept)}


ADAPTIVE = {
    "seeds": {"min": 3, "max": 9},
    "claims": [
        {
            "name": "c",
            "statement": "s",
            "treatment": {"activation": "tanh"},
            "control": {"activation": "relu"},
            "direction": "lower",
            "margin": 0.5,
        }
    ],
}


@pytest.mark.slow
@pytest.mark.usefixtures("tracker", "fake")
def test_a_driver_runs_the_rounds_and_verify_agrees(settings: Settings) -> None:
    result = drive(small(**ADAPTIVE), settings, Watcher())
    record = Ledger(settings.ledger_url).find("small")
    entries = record.entries()
    assert progress.due(record.plan, entries) == ()
    counts = progress.counts(result.plan, result.entries)
    assert counts["complete"] + counts["saved"] == counts["planned"] == 18
    assert CheckedLedger(raw_ledger.read(settings.ledger_url, "small")).problems == []
    found = judging.of_records(record.plan, entries, record.registration, [])
    assert as_json(found)["trials"] == dict(counts)
    again = drive(small(**ADAPTIVE), settings, Watcher())
    assert again.report == result.report
    assert len(Ledger(settings.ledger_url).find("small").records()) == len(entries)


@pytest.mark.slow
@pytest.mark.usefixtures("tracker", "fake")
def test_verify_finds_a_round_that_nobody_asked_for(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_wanted", lambda _plan, trials, _entries: trials)
    drive(small(**ADAPTIVE), settings, Watcher())
    problems = CheckedLedger(raw_ledger.read(settings.ledger_url, "small")).problems
    assert problems
    assert all("is recorded but was not planned" in problem for problem in problems)


@pytest.mark.slow
@pytest.mark.usefixtures("tracker", "fake")
def test_verify_finds_a_round_that_is_lacking(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {**ADAPTIVE, "claims": [{**ADAPTIVE["claims"][0], "margin": 0.0}]}  # type: ignore[index, dict-item]
    monkeypatch.setattr(progress, "_wanted", lambda _plan, trials, _entries: trials[:6])
    drive(small(**content), settings, Watcher())
    (problem,) = CheckedLedger(raw_ledger.read(settings.ledger_url, "small")).problems
    assert "planned trials are not recorded: run the sweep again" in problem


def test_every_report_says_how_seeds_were_added_and_what_that_saved() -> None:
    plan = plan_of()
    entries, _ = run(plan)
    found = judging.of_rows(plan.sweep, progress.rows(plan, entries), progress.counts(plan, entries))
    saved = "Saved: 88 of the 180 trials of 30 seeds for every arm (49%)."
    text = markdown(found, "Why?")
    assert "every arm has 6. The arms of open claims get more, up to 9, 14, 21 and 30." in text
    assert saved in text
    assert "180 trials planned: 92 complete, 88 saved" in text
    console = Console(width=100)
    with console.capture() as capture:
        console.print(terminal.tables(found))
    told = " ".join(capture.get().split())
    assert saved in told
    assert "its 97.5% repeated interval" in told
    assert "14 pairs, p=0.00146, look 3 of 5." in told
    assert "corrected for 2 claims and the looks" in told
    assert "not run yet" not in told
