import math

import pytest

from mnist_ablate.trial import Epoch
from mnist_ablate.workloads.keras_mnist.metrics import curve_metrics


def found(*accuracies, planned=0, loss=0.1):
    """The metrics of a curve."""
    epochs = [
        Epoch(number=i, train_loss=1, train_accuracy=0, val_loss=loss, val_accuracy=accuracy, ended_ms=0)
        for i, accuracy in enumerate(accuracies, 1)
    ]
    return curve_metrics(epochs, planned or len(epochs), 10)


def test_first_epoch_that_reaches_a_target_counts():
    expected = {"epochs_to_90": 2, "epochs_to_95": 3, "epochs_to_97": 5}
    expected |= {"best_val_accuracy": 0.96, "mean_val_accuracy": 0.9225, "first_epoch_val_accuracy": 0.89}
    curve = found(0.89, 0.90, 0.96, 0.94)
    assert {name: curve[name] for name in expected} == pytest.approx(expected)


def test_epochs_that_never_ended_count_with_chance():
    assert (found(0.5, planned=2)["mean_val_accuracy"], found(0.5, planned=2)["converged"]) == pytest.approx((0.3, 0.0))
    assert found(planned=2)["first_epoch_val_loss"] == pytest.approx(math.log(10))


def test_converged_means_half_the_loss_of_guessing():
    assert [found(0.5, loss=share * math.log(10))["converged"] for share in (0.5, 0.51)] == [1.0, 0.0]
