"""How fast a trial learned, from its epochs; defines each measure once."""

import math
from collections.abc import Sequence

from mnist_ablate.trial import Epoch

TARGETS = (90, 95, 97)


def curve_metrics(epochs: Sequence[Epoch], planned: int, classes: int) -> dict[str, float]:
    """Measures of the validation curve; epochs that a diverged trial never ended count with chance.

    epochs_to_N: the first epoch with a validation accuracy of N% or more, planned + 1 if there is none.
    mean_val_accuracy: the area under the accuracy curve, per epoch. converged: 1 if the last validation loss is at
    most half of that of guessing, ln(classes) / 2, else 0.
    """
    missing = planned - len(epochs)
    accuracies = [epoch.val_accuracy for epoch in epochs] + [1 / classes] * missing
    losses = [epoch.val_loss for epoch in epochs] + [math.log(classes)] * missing
    return {
        "best_val_accuracy": max(accuracies),
        "mean_val_accuracy": sum(accuracies) / planned,
        "first_epoch_val_accuracy": accuracies[0],
        "first_epoch_val_loss": losses[0],
        "converged": float(losses[-1] <= math.log(classes) / 2),
        **{f"epochs_to_{target}": float(_first(accuracies, target / 100)) for target in TARGETS},
    }


def _first(accuracies: Sequence[float], target: float) -> int:
    reached = (number for number, accuracy in enumerate(accuracies, 1) if accuracy >= target)
    return next(reached, len(accuracies) + 1)
