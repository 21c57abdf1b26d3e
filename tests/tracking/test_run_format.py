"""How a trial is called in MLflow."""

from dataclasses import replace
from typing import Any, get_args

import pytest
from mlflow.utils.validation import _validate_metric_name, _validate_tag
from mlflow_helpers import START_MS, epochs, outcome, trial

from mnist_ablate.ledger import raw_records
from mnist_ablate.tracking import run_format
from mnist_ablate.trial import CONTROL_SEED, TUNING_SEED, Status
from mnist_ablate.verification import mlflow_check
from mnist_ablate.workloads.keras_mnist.workload import KERAS_MNIST


def test_names_are_readable() -> None:
    assert run_format.run_name({"normalizer": "centered", "activation": "relu"}, 3) == "centered relu seed 3"
    assert run_format.run_name({"dropout": 0.5, "optimizer": "adam"}, 3) == "dropout=0.5 adam seed 3"
    assert run_format.run_name({}, 3) == "seed 3"


@pytest.mark.parametrize(("changes", "point"), [({}, (3, START_MS + 3250)), ({"epochs": (), "started_ms": 0}, (0, 0))])
def test_final_numbers_stand_at_the_last_epoch_and_the_end(changes: Any, point: run_format.Point) -> None:
    sent = run_format.all_metrics(outcome(trial(), **changes))
    assert run_format.points(metric for metric in sent if metric.key in {"seconds", "test_accuracy"}) == {point}


def test_attempts_are_told_apart_by_the_time_of_an_epoch() -> None:
    told = (epochs(2), epochs(3), epochs(1, START_MS + 5))
    sent, more, other = (run_format.points(run_format.epoch_metrics(each)) for each in told)
    assert run_format.same_attempt(sent, more)
    assert not run_format.same_attempt(sent, other)


def test_any_difference_is_out_of_step() -> None:
    told = outcome(trial())
    stored = run_format.as_stored("run", told)
    assert run_format.in_step(stored, told)
    changes: list[dict[str, Any]] = [{"status": "RUNNING"}, {"outcome": "diverged"}, {"ended_ms": START_MS + 3255}]
    changes += [{"metrics": {**stored.metrics, "test_accuracy": 0.970001}}]
    changes += [{"metrics": {key: value for key, value in stored.metrics.items() if key != "val_loss"}}]
    assert not any(run_format.in_step(replace(stored, **change), told) for change in changes)


def test_a_step_has_one_row_of_each_metric() -> None:
    told = outcome(trial(), metrics={"test_accuracy": 0.97, "val_accuracy": 0.91, "val_loss": 0.4})
    diverged = outcome(trial(), "diverged", metrics={"test_accuracy": 0.1, "val_accuracy": 0.1})
    for sent in map(run_format.all_metrics, (told, diverged)):
        assert len({(metric.key, metric.step) for metric in sent}) == len(sent)
    assert run_format.as_stored("run", diverged).metrics["val_accuracy"] == 0.1


def test_weights_are_a_setting_of_models_with_a_frozen_base_alone() -> None:
    asked = trial()
    frozen = asked.model_copy(update={"settings": {**asked.settings, "model": "vgg16"}})
    assert run_format.params(KERAS_MNIST, frozen)["weights"] == "imagenet"
    assert run_format.params(KERAS_MNIST, asked).keys() == run_format.params(KERAS_MNIST, frozen).keys() - {"weights"}


def test_every_way_to_end_has_a_word_in_each_store() -> None:
    assert set(run_format.STATUSES) == set(raw_records.STATES) == set(get_args(Status))
    assert run_format.STATUSES == mlflow_check._STATUSES
    assert (run_format.STATUSES["pruned"], raw_records.STATES["pruned"]) == ("KILLED", "PRUNED")


def test_names_fit_the_column_with_arm_before_seed_and_mark_what_no_verdict_reads() -> None:
    assert run_format.run_name({"activation": "relu"}, TUNING_SEED + 1) == "relu tuning 1"
    long = run_format.run_name({"normalizer": "a" * 40}, 3)
    assert long == "a" * 27 + "… seed 3"


def test_a_note_says_which_arm_and_what_came_out_or_why_nothing_did() -> None:
    metric = KERAS_MNIST.metrics["test_accuracy"]
    failed = outcome(trial(), "failed", metrics={}, reason="no such layer")
    said = run_format.trial_note({"activation": "relu"}, trial(CONTROL_SEED + 1), failed, metric)
    assert said == f"relu, seed {CONTROL_SEED + 1}, for the negative control.\n\nFailed: no such layer."


def test_claims_of_any_name_have_keys_that_mlflow_takes() -> None:
    names = ["hurts.learning_rate-1e+16.optimizer-sgd", "\u0e01\u0e34", "a" * 300]
    assert run_format.claim_key("verdict", "hurts.epochs-10") == "verdict.hurts.epochs-10"
    for name in names:
        _validate_tag(run_format.claim_key("verdict", name), "supported")
        _validate_metric_name(run_format.claim_key("effect", name))
