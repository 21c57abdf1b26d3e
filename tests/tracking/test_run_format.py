"""How a trial is called in MLflow."""

from collections.abc import Mapping
from typing import get_args

import pytest
from mlflow_helpers import START_MS, epochs, outcome, trial

from mnist_ablate.ledger import raw_records
from mnist_ablate.tracking import run_format
from mnist_ablate.trial import Scalar, Status
from mnist_ablate.verification import mlflow_check


@pytest.mark.parametrize(
    ("arm", "name"),
    [
        ({"normalizer": "centered", "activation": "relu"}, "centered relu seed 3"),
        ({"dropout": 0.5, "optimizer": "adam"}, "dropout=0.5 adam seed 3"),
        ({}, "seed 3"),
    ],
)
def test_names_are_readable(arm: Mapping[str, Scalar], name: str) -> None:
    assert run_format.run_name(arm, 3) == name


def test_final_numbers_stand_at_the_last_epoch_and_the_end() -> None:
    assert run_format.end_point(outcome(trial())) == (3, START_MS + 3250)
    assert run_format.end_point(outcome(trial(), epochs=(), started_ms=0)) == (0, 0)


def test_attempts_are_told_apart_by_the_time_of_an_epoch() -> None:
    sent = run_format.points(epochs(2))
    assert run_format.same_attempt(sent, run_format.points(epochs(3)))
    assert not run_format.same_attempt(sent, run_format.points(epochs(1, START_MS + 5)))


@pytest.mark.parametrize("change", ["status", "outcome", "value", "missing", "attempt"])
def test_any_difference_is_out_of_step(change: str) -> None:
    told = outcome(trial())
    stored, ended_ms = {**run_format.latest(told)}, START_MS + 3250
    assert run_format.in_step("FINISHED", "complete", stored, ended_ms, told)
    if change == "value":
        stored["test_accuracy"] += 1e-6
    if change == "missing":
        del stored["val_loss"]
    if change == "attempt":
        ended_ms += 5
    status = "RUNNING" if change == "status" else "FINISHED"
    assert not run_format.in_step(status, "diverged" if change == "outcome" else "complete", stored, ended_ms, told)


def test_a_step_has_one_row_of_each_metric() -> None:
    told = outcome(trial(), metrics={"test_accuracy": 0.97, "val_accuracy": 0.91, "val_loss": 0.4})
    sent = run_format.epoch_metrics(told.epochs) + run_format.final_metrics(told)
    assert len({(metric.key, metric.step) for metric in sent}) == len(sent)
    diverged = outcome(trial(), "diverged", metrics={"test_accuracy": 0.1, "val_accuracy": 0.1})
    sent = run_format.epoch_metrics(diverged.epochs) + run_format.final_metrics(diverged)
    assert len({(metric.key, metric.step) for metric in sent}) == len(sent)
    assert run_format.latest(diverged)["val_accuracy"] == 0.1


def test_weights_are_a_setting_of_models_with_a_frozen_base_alone() -> None:
    asked = trial()
    frozen = asked.model_copy(update={"settings": {**asked.settings, "model": "vgg16"}})
    assert "weights" not in run_format.params(asked)
    assert run_format.params(frozen)["weights"] == "imagenet"
    assert run_format.params(asked).keys() == run_format.params(frozen).keys() - {"weights"}


def test_every_way_to_end_has_a_word_in_each_store() -> None:
    words = (run_format.STATUSES, mlflow_check._STATUSES, raw_records.STATES)
    assert all(set(each) == set(get_args(Status)) for each in words)
    assert run_format.STATUSES == mlflow_check._STATUSES
    assert (run_format.STATUSES["pruned"], raw_records.STATES["pruned"]) == ("KILLED", "PRUNED")
