"""The time left is that of the arms that are left, not the mean of those that happened to end first."""

import pytest
from sweep_runs import small

from mnist_ablate.execution.time_left import TimeLeft
from mnist_ablate.sweep.plan import Plan, PlannedTrial, make_plan

NETWORKS = {
    "design": "configurations",
    "scientific": {},
    "configurations": {"dense": {"model": "mlp", "epochs": 2}, "cnn": {"model": "cnn", "epochs": 10}},
    "fixed": {},
    "claims": [],
    "seeds": 3,
}


@pytest.fixture
def plan() -> Plan:
    return make_plan(small(**NETWORKS), "d1" * 32)


def opened(plan: Plan) -> TimeLeft:
    left = TimeLeft()
    left.opened(plan)
    return left


def of(plan: Plan, arm: str) -> list[PlannedTrial]:
    return [each for each in plan.verdict_trials() if each.arm.params["configuration"] == arm]


def test_nothing_is_said_before_anything_is_known(plan: Plan) -> None:
    left = opened(plan)
    left.started(of(plan, "dense")[0].trial, 0.0)
    assert left.seconds(1, 5.0) is None


def test_an_arm_that_was_not_seen_makes_it_a_least_time(plan: Plan) -> None:
    left, first = opened(plan), of(plan, "dense")[0].trial
    left.started(first, 0.0)
    left.ended(first, "dense", 4.0)
    assert left.seconds(1, 4.0) == (5 * 4.0, False)


def test_a_running_trial_tells_of_its_network_by_its_epochs(plan: Plan) -> None:
    left, dense, cnn = opened(plan), of(plan, "dense")[0].trial, of(plan, "cnn")[0].trial
    left.started(dense, 0.0)
    left.ended(dense, "dense", 4.0)
    left.started(cnn, 4.0)
    left.progressed(cnn, 34.0)
    left.progressed(cnn, 64.0)
    assert left.seconds(1, 64.0) == (2 * 4.0 + 3 * 300.0 - 60.0, True)
    assert left.seconds(2, 64.0) == ((2 * 4.0 + 3 * 300.0 - 60.0) / 2, True)


def test_preparation_and_lost_attempts_are_no_time_of_a_trial(plan: Plan) -> None:
    left, first = opened(plan), of(plan, "dense")[0].trial
    left.started(first, 0.0)
    left.lost(first)
    left.started(first, 50.0)
    left.started(first, 90.0)  # prepared until then
    left.ended(first, "dense", 94.0)
    assert left.seconds(1, 94.0) == (5 * 4.0, False)


def test_what_was_recorded_before_is_not_left(plan: Plan) -> None:
    left, dense = opened(plan), of(plan, "dense")
    left.recorded("dense")
    left.recorded("cnn")
    left.recorded("cnn")
    left.recorded("cnn")
    left.started(dense[1].trial, 0.0)
    left.ended(dense[1].trial, "dense", 4.0)
    assert left.seconds(1, 4.0) == (4.0, True)
