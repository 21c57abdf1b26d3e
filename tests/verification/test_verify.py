"""The checker can fail: it finds every planted bug, and nothing in a healthy sweep."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ledger_records import DATA, outcome
from planted_bugs import BUGS, HEALTHY
from sweep_runs import SWEEP, small

from mnist_ablate.errors import SweepError
from mnist_ablate.image_results import encoded
from mnist_ablate.ledger import progress
from mnist_ablate.ledger.ledger import Ledger, Record
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.plan import Plan, PlannedTrial, make_plan
from mnist_ablate.trial import Outcome
from mnist_ablate.verification import raw_stores, verify
from mnist_ablate.verification.ledger_check import CheckedLedger
from mnist_ablate.workloads.keras_mnist.metrics import curve_metrics
from mnist_ablate.workloads.keras_mnist.recipe import recipe_of
from mnist_ablate.workloads.keras_mnist.workload import MNIST_DIGEST
from mnist_ablate.workloads.workload import default_workload, trial_of

TESTS = Path(__file__).parents[1]


@cache
def said() -> dict[str, dict[str, list[str]]]:
    """In a process of its own: it forks, and threads of other tests would not survive that."""
    program = [sys.executable, "-W", "ignore", str(TESTS / "campaigns" / "planted_bugs.py")]
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS / 'support'}"}
    answer = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]
    found: dict[str, dict[str, list[str]]] = json.loads(answer.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
def test_every_planted_bug_is_found(bug: str) -> None:
    problems = said()["bugs"][bug]
    assert problems
    assert all(line.startswith(("ledger: ", "MLflow: ")) and line.isprintable() for line in problems)


@pytest.mark.slow
@pytest.mark.parametrize("case", [*HEALTHY, "tuned", "searched"])
def test_nothing_is_found_in_a_healthy_sweep(case: str) -> None:
    assert said()["healthy"][case] == []


def test_verify_of_what_was_never_run_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="small: nothing recorded: run `mnist-ablate sweep small` first"):
        verify.problems("small", Settings(home=tmp_path / "home"))
    assert not [*tmp_path.iterdir()]


CLAIM = SWEEP["claims"][0]
TUNED: dict[str, Any] = {
    "baseline": {"activation": "relu"},
    "nuisance": {"learning_rate": [0.01, 0.02]},
    "tuning_trials": 2,
    "negative_control": "baseline",
}
ADAPTIVE: dict[str, Any] = {"seeds": {"min": 3, "max": 9}, "claims": [{**CLAIM, "margin": 0.05}]}
PATH: dict[str, Any] = {
    "design": "ablation_path",
    "scientific": {},
    "baseline": {"activation": "tanh", "dropout": 0.5, "width": 64},
    "target": {"activation": "relu", "dropout": 0.2, "width": 32},
    "claims": [],
}
SEARCH: dict[str, Any] = {
    "design": "search",
    "baseline": {"activation": "relu"},
    "scientific": {"activation": ["relu", "tanh"]},
    "tuning_trials": 1,
    "claims": [],
}
Choose = Callable[[Plan], Sequence[PlannedTrial]]


def begun(home: Path, **changes: Any) -> tuple[Plan, Record]:
    plan = make_plan(small(**changes), DATA)
    return plan, Ledger(Settings(home=home).ledger_url).begin(plan, fresh=False)


def trained(
    plan: Plan, record: Record, *lost: PlannedTrial, ended: Callable[[PlannedTrial], Outcome] = outcome
) -> None:
    """Every round, as a driver would; then those that were lost are run again, as the next command would."""

    def run_rounds(*failing: PlannedTrial) -> None:
        while trials := progress.due(plan, record.entries()):
            for each in trials:
                record.add(each, outcome(each, "lost") if each in failing else ended(each))

    run_rounds(*lost)
    for each in lost:
        record.add(each, ended(each))
    run_rounds()


def problems(home: Path) -> list[str]:
    return CheckedLedger(raw_stores.read_ledger(Settings(home=home).ledger_url, "small")).problems


def best(plan: Plan) -> list[PlannedTrial]:
    """The tuning trial that chooses for the baseline."""
    return [each for each in plan.tuning if each.trial.settings["learning_rate"] == 0.01 and each.arm == plan.arms[0]]


def first(plan: Plan) -> list[PlannedTrial]:
    return [plan.verdict_trials()[0]]


def to_relu(plan: Plan) -> Sequence[PlannedTrial]:
    """The trials of a step that is taken if none of them is lost."""
    return plan.changed({**PATH["baseline"], "activation": "relu"}, 0)


@pytest.mark.parametrize(("changes", "lost"), [(TUNED, best), (ADAPTIVE, first), (PATH, to_relu)])
def test_what_was_asked_for_before_a_trial_was_run_again_is_no_alarm(
    changes: dict[str, Any], lost: Choose, tmp_path: Path
) -> None:
    plan, record = begun(tmp_path, **changes)
    trained(plan, record, *lost(plan))
    assert progress.done(plan, record.entries()) < len(record.entries())
    assert problems(tmp_path) == []


def test_a_trial_of_a_value_given_up_that_is_asked_for_as_written_is_no_alarm(tmp_path: Path) -> None:
    """The baseline is tuned to the written value, then to another; the claim as written is decided, then open."""
    written: dict[str, Any] = {"as_written": True, "fixed": {"epochs": 2, "learning_rate": 0.02}}
    changes = {**ADAPTIVE, "claims": [{**CLAIM, "margin": 0.5}], "negative_control": "none"}
    plan, record = begun(tmp_path, **{**TUNED, **written, **changes})
    far = next(each for each in plan.as_written_trials() if each.arm == plan.arms[1])

    def ended(each: PlannedTrial) -> Outcome:
        whole, recipe = outcome(each), recipe_of(each.trial)
        if each.trial.is_blind:
            return whole
        noisy = (recipe.activation, recipe.learning_rate) == ("tanh", 0.01)
        accuracy = 0.0 if each.id == far.id else each.trial.seed % 2 if noisy else whole.metrics["test_accuracy"]
        return whole.model_copy(update={"metrics": {**whole.metrics, "test_accuracy": float(accuracy)}})

    trained(plan, record, *best(plan), far, ended=ended)
    asked = {each.id for each in progress.as_written_trials(plan, record.entries())}
    judged = {each.id for each in progress.verdict_trials(plan, record.entries())}
    assert any(each.stage == "verdict" for id_, each in record.entries().items() if id_ in asked - judged)
    assert problems(tmp_path) == []


def test_what_varies_is_part_of_a_trials_content(tmp_path: Path) -> None:
    plan, record = begun(tmp_path, vary=["order", "split"])
    trained(plan, record)
    assert record.entries()[first(plan)[0].id].trial.vary == ("order", "split")
    assert problems(tmp_path) == []
    usual = make_plan(small(), DATA).verdict_trials()[0]
    record.add(usual, outcome(usual))
    (found,) = problems(tmp_path)
    assert f"trial {usual.id} is recorded but was not planned" in found


def test_results_of_images_must_give_the_recorded_accuracy(tmp_path: Path) -> None:
    def ended(each: PlannedTrial, added: int = 0) -> Outcome:
        bits = np.arange(10_000) < round(10_000 * outcome(each).metrics["test_accuracy"])
        accuracy = {"test_accuracy": float(bits.mean())}
        told = outcome(each).model_copy(update={"metrics": {**outcome(each).metrics, **accuracy}})
        bits[:added] = False
        return told.model_copy(update={"correct": encoded(bits)})

    plan, record = begun(tmp_path)
    trials = plan.verdict_trials()
    record.add_all([(each, ended(each)) for each in trials[1:]])
    read = {each.correct for each in progress.rows(plan, record.entries())}
    assert read == {ended(each).correct for each in trials[1:]}
    record.add(trials[0], ended(trials[0], 1))
    (found,) = problems(tmp_path)
    assert "has another test_accuracy than its results of the test images give" in found
    record.add(trials[0], ended(trials[0]).model_copy(update={"correct": "7:eJx"}))
    assert "holds damaged results of the test images" in " ".join(problems(tmp_path))


def changed(planned: PlannedTrial, stage: str = "verdict", **content: Any) -> PlannedTrial:
    """A trial of this stage with another content, and the id that it has."""
    other = planned.trial.model_copy(update=content)
    trial = trial_of(default_workload(), other.settings, other.seed, other.data_digest)
    return replace(planned, trial=trial, stage=stage)


def at_another_value(plan: Plan) -> PlannedTrial:
    """A verdict's trial of the baseline at the value that is not the best."""
    return plan.verdict_trials({"relu": {"learning_rate": 0.02}})[0]


def step(plan: Plan, number: int, **change: Any) -> PlannedTrial:
    return plan.changed({**PATH["baseline"], **change}, number)[0]


UNPLANNED: dict[str, tuple[dict[str, Any], Choose, Callable[[Plan], PlannedTrial]]] = {
    "another recipe": (
        ADAPTIVE,
        first,
        lambda _: make_plan(small(fixed={"epochs": 2, "width": 77}), DATA).verdict_trials()[0],
    ),
    "another value, nothing run again": (TUNED, lambda _: [], at_another_value),
    "another value, no tuning run again": (
        TUNED,
        lambda plan: [plan.verdict_trials({"relu": {"learning_rate": 0.01}})[0]],
        at_another_value,
    ),
    "a value given up, with another seed": (TUNED, best, lambda plan: changed(at_another_value(plan), seed=3)),
    "a step, nothing run again": (PATH, lambda _: [], lambda plan: changed(step(plan, 0, width=32), seed=0)),
    "a step, with another seed": (PATH, to_relu, lambda plan: changed(to_relu(plan)[0], seed=3)),
    "a step of another arm": (PATH, to_relu, lambda plan: changed(step(plan, 1, dropout=0.2), seed=0)),
    "other images": (
        SEARCH,
        lambda _: [],
        lambda plan: changed(plan.searched({"activation": "tanh"}), "tuning", data_digest="d2" * 32),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", UNPLANNED)
def test_what_no_plan_ever_asked_for_is_found(case: str, tmp_path: Path) -> None:
    changes, lost, odd = UNPLANNED[case]
    plan, record = begun(tmp_path, **changes)
    if changes is SEARCH:
        found = plan.searched({"activation": "relu"})
        record.add(found, outcome(found))
    trained(plan, record, *lost(plan))
    assert problems(tmp_path) == []
    record.add(odd(plan), outcome(odd(plan)))
    (problem,) = problems(tmp_path)
    assert problem.startswith(f"ledger: trial {odd(plan).id} is recorded but was not planned: ")


def test_a_trial_that_is_lacking_or_recorded_in_another_stage_is_found(tmp_path: Path) -> None:
    plan, record = begun(tmp_path, negative_control="baseline")
    *others, last = (*plan.verdict_trials(), *plan.control_trials())
    for each in others:
        record.add(each, outcome(each))
    assert problems(tmp_path) == ["ledger: 1 of 9 planned trials are not recorded: run the sweep again"]
    record.add(replace(last, stage="as_written"), outcome(last))
    (problem,) = problems(tmp_path)
    assert problem.startswith(f"ledger: trial {last.id} is recorded as as_written, not as planned: ")


def test_a_trial_recorded_for_another_arm_is_found_in_every_stage(tmp_path: Path) -> None:
    """The names of configurations are in no recipe."""
    named = {"design": "configurations", "scientific": {}, "configurations": {"a": {"width": 50}, "b": {"width": 60}}}
    claim = {**CLAIM, "treatment": {"configuration": "a"}, "control": {"configuration": "b"}}
    written = {"as_written": True, "fixed": {"epochs": 2, "learning_rate": 0.03}}
    plan, record = begun(tmp_path, **{**TUNED, **named, **written, "baseline": {}, "claims": [claim]})
    moved: dict[str, str] = {}
    while trials := progress.due(plan, record.entries()):
        for each in trials:
            is_first = each.arm == plan.arms[0] and moved.setdefault(each.stage, each.id) == each.id
            record.add(replace(each, arm=plan.arms[1]) if is_first else each, outcome(each))
    assert set(moved) == {"tuning", "verdict", "control", "as_written"}
    told = "ledger: trial {} is recorded in another arm than planned: "
    assert all(line.startswith(told.format(id_)) for line, id_ in zip(problems(tmp_path), moved.values(), strict=True))


CURVE = {*curve_metrics([], 2, 10), "train_loss", "train_accuracy", "val_loss", "val_accuracy"}


@pytest.mark.parametrize(
    ("status", "names"), [("complete", CURVE), ("diverged", {"test_accuracy", "test_loss"} | CURVE)]
)
def test_every_metric_that_follows_from_the_epochs_can_be_found_wrong(status: str, names: set[str]) -> None:
    planned = make_plan(small(), MNIST_DIGEST).verdict_trials()[0]
    implied = default_workload().implied_metrics(planned.trial.settings, MNIST_DIGEST, outcome(planned, status))
    assert names <= implied.keys()
