"""The rounds of a plan: what comes next follows from what is recorded, and from nothing else."""

from typing import Any

import pytest

from mnist_ablate.ledger.progress import due, rounds
from mnist_ablate.sweep.plan import Plan, PlannedTrial, make_plan
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import Outcome, RecordedTrial, Status

CLAIM = {
    "name": "tanh-hurts",
    "statement": "Tanh hurts.",
    "treatment": {"activation": "tanh"},
    "control": {"activation": "relu"},
    "direction": "lower",
    "margin": 0.002,
}
TUNED: dict[str, Any] = {
    "nuisance": {"learning_rate": {"low": 1e-3, "high": 0.1, "log": True}},
    "tuning_trials": 2,
}


def plan_of(**changes: Any) -> Plan:
    content = {
        "name": "x",
        "question": "?",
        "baseline": {"activation": "relu"},
        "scientific": {"activation": ["relu", "tanh"]},
        "seeds": 3,
        "claims": [CLAIM],
    }
    return make_plan(Sweep.model_validate({**content, **changes}), "digest")


def entry(planned: PlannedTrial, accuracy: float = 0.9, status: Status = "complete") -> RecordedTrial:
    metrics = {} if status in ("failed", "lost") else {"val_accuracy": accuracy, "test_accuracy": accuracy}
    outcome = Outcome(trial_id=planned.trial.id, status=status, metrics=metrics)
    return RecordedTrial(planned.trial, planned.arm.params, planned.stage, outcome)


def stages(trials: tuple[PlannedTrial, ...]) -> set[str]:
    return {each.stage for each in trials}


def test_verdicts_and_their_control_wait_for_the_tuning() -> None:
    plan = plan_of(**TUNED)
    first = due(plan, {})
    assert (len(first), stages(first)) == (4, {"tuning"})
    entries = {each.trial.id: entry(each) for each in first[:3]}
    assert due(plan, entries) == first[3:]
    entries[first[3].trial.id] = entry(first[3])
    second = due(plan, entries)
    assert (len(second), stages(second)) == (9, {"verdict", "control"})


def test_a_failed_trial_that_is_recorded_is_not_asked_for_again() -> None:
    plan = plan_of()
    entries = {each.trial.id: entry(each, status="failed") for each in due(plan, {})}
    assert due(plan, entries) == ()


@pytest.mark.parametrize("cut", range(0, 14, 3))
def test_after_a_crash_exactly_the_missing_trials_are_due(cut: int) -> None:
    plan = plan_of(**TUNED)
    entries: dict[str, RecordedTrial] = {}
    asked: list[PlannedTrial] = []
    while found := due(plan, entries):
        asked += found
        entries |= {each.trial.id: entry(each) for each in found}
    kept = dict(list(entries.items())[:cut])
    again: list[PlannedTrial] = []
    while found := due(plan, kept):
        again += found
        kept |= {each.trial.id: entry(each) for each in found}
    assert [each.trial.id for each in again] == [each.trial.id for each in asked[cut:]]
    assert len(asked) == plan.size == 13


def test_a_trial_of_two_arms_is_asked_for_once() -> None:
    plan = plan_of(design="search", tuning_trials=1, claims=[])
    tried = plan.searched({"activation": "relu"})
    entries = {tried.trial.id: entry(tried)}
    found = due(plan, entries)
    assert len(next(iter(rounds(plan, entries)))) == 6
    assert [each.trial.seed for each in found] == [0, 1, 2]
