"""What a metric can be: by its declaration, or by its name."""

import math

import numpy as np
import pytest

from mnist_ablate.trial import Epoch, Outcome
from mnist_ablate.workloads.bounds import checked, is_outside, metric_by_name, outside
from mnist_ablate.workloads.keras_mnist.workload import KERAS_MNIST
from mnist_ablate.workloads.workload import Metric


@pytest.mark.parametrize("name", ["accuracy", "val_acc", "test/accuracy", "Top-1", "top5", "f1", "AUC", "error_rate"])
def test_a_share_is_known_by_its_name(name: str) -> None:
    assert metric_by_name(name).is_share


@pytest.mark.parametrize("name", ["loss", "accumulated", "score", "seconds", "perplexity", "account"])
def test_what_is_no_share_has_no_bounds(name: str) -> None:
    assert metric_by_name(name) == Metric(name)


def test_a_share_summed_in_float32_may_be_a_rounding_above_one() -> None:
    values = np.array([-1e-7, 0.0, 1.0, 1.0 + 1e-7, 1.01, -0.01, 97.0, math.nan])
    assert is_outside(metric_by_name("accuracy"), values).tolist() == [False] * 4 + [True] * 3 + [False]


@pytest.mark.parametrize(
    ("metric", "value", "told"),
    [
        (metric_by_name("val_accuracy"), 97.01, "97.01: an accuracy is a share, 0 to 1"),
        (metric_by_name("f1"), -0.5, "-0.5: f1 is a share, 0 to 1"),
        (Metric("loss", low=0.0), -2.0, "-2: loss is at least 0"),
        (Metric("score", high=10.0), 11.5, "11.5: score is at most 10"),
    ],
)
def test_what_is_outside_is_told_with_what_it_should_be(metric: Metric, value: float, told: str) -> None:
    assert outside(metric, value) == told


@pytest.mark.parametrize(
    ("metrics", "epoch", "reason"),
    [
        ({"test_accuracy": 0.97, "unheard_of": 1e9}, {"val_loss": 3.0}, ""),
        ({"test_accuracy": 97.0}, {}, "test_accuracy 97: an accuracy is a share, 0 to 1: divide by 100"),
        ({"test_loss": -1.0}, {}, "test_loss -1: test_loss is at least 0"),
        ({"test_accuracy": 0.97}, {"val_accuracy": 640.0}, "val_accuracy 640: an accuracy is a share, 0 to 1"),
    ],
)
def test_an_outcome_with_an_impossible_number_is_a_failed_one(
    metrics: dict[str, float], epoch: dict[str, float], reason: str
) -> None:
    epochs = (Epoch(number=1, metrics=epoch, ended_ms=1),)
    made = Outcome(trial_id="a", status="complete", metrics=metrics, epochs=epochs)
    found = checked(made, KERAS_MNIST)
    if reason:
        assert (found.status, found.reason, found.metrics, found.epochs) == ("failed", reason, {}, ())
    else:
        assert found is made
