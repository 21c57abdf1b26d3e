import math

import pytest

from mnist_ablate.trial import Epoch
from mnist_ablate.workloads.keras_mnist.metrics import curve_metrics


def epochs(*accuracies, loss=0.1):
    return [
        Epoch(number=i, train_loss=1, train_accuracy=0, val_loss=loss, val_accuracy=accuracy, ended_ms=0)
        for i, accuracy in enumerate(accuracies, 1)
    ]


def test_first_epoch_that_reaches_a_target_counts():
    found = curve_metrics(epochs(0.89, 0.90, 0.96, 0.94), 4, 10)
    assert (found["epochs_to_90"], found["epochs_to_95"], found["epochs_to_97"]) == (2, 3, 5)
    assert found["best_val_accuracy"] == 0.96
    assert found["mean_val_accuracy"] == pytest.approx(0.9225)


def test_epochs_that_never_ended_count_with_chance():
    found = curve_metrics(epochs(0.5), 2, 10)
    assert found["mean_val_accuracy"] == pytest.approx(0.3)
    assert found["converged"] == 0.0
    assert curve_metrics([], 2, 10)["first_epoch_val_loss"] == pytest.approx(math.log(10))


@pytest.mark.parametrize(("loss", "converged"), [(0.5 * math.log(10), 1.0), (0.51 * math.log(10), 0.0)])
def test_converged_means_half_the_loss_of_guessing(loss, converged):
    assert curve_metrics(epochs(0.5, loss=loss), 1, 10)["converged"] == converged
