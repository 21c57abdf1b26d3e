"""The metrics of this workload, and how each follows from the epochs of a trial. Needs no TensorFlow."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median, stdev

from mnist_ablate.trial import Epoch
from mnist_ablate.workloads.workload import Metric

EPOCH_METRICS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
SEED_SD = 0.002
"""Of paired differences in accuracy between seeds, as a fraction: what the shipped sweeps of small networks show."""
COLLAPSE_AT = 0.55
"""The accuracy below which a training collapsed: halfway between chance, of ten classes, and 1."""


@dataclass(frozen=True)
class Curve:
    """The validation curve of a trial, with an entry for each planned epoch: chance for those that it lacks."""

    accuracies: Sequence[float]
    losses: Sequence[float]
    classes: int

    def epochs_to(self, accuracy: float) -> float:
        """The first epoch with this validation accuracy or more; one more than planned if there is none."""
        reached = (number for number, found in enumerate(self.accuracies, 1) if found >= accuracy)
        return float(next(reached, len(self.accuracies) + 1))

    @property
    def fluctuation(self) -> float:
        """The standard deviation of the changes of accuracy from epoch to epoch in the second half; nan below three."""
        changes = [b - a for a, b in pairwise(self.accuracies)][len(self.accuracies) // 2 - 1 :]
        return stdev(changes) if len(self.accuracies) > 2 else math.nan  # noqa: PLR2004 - two changes have a spread


def _accuracy(
    name: str, meaning: str, *, per_epoch: bool = False, collapse_at: float | None = COLLAPSE_AT, of_test: bool = False
) -> Metric:
    return Metric(name, meaning, "higher", "share", 0.0, 1.0, per_epoch, SEED_SD, collapse_at, of_test)


def _pace(name: str, meaning: str) -> Metric:
    """An accuracy that a slow start lowers too, so that no value of it tells a collapse."""
    return _accuracy(name, meaning, collapse_at=None)


def _loss(name: str, meaning: str, *, per_epoch: bool = False) -> Metric:
    return Metric(name, meaning, "lower", "nats", 0.0, per_epoch=per_epoch)


def _epochs_to(percent: int) -> Metric:
    meaning = f"Epochs until the validation accuracy is {percent}%; one more than planned if it never is."
    return Metric(f"epochs_to_{percent}", meaning, "lower", "epochs", 1.0)


_MEASURED = (
    _accuracy("test_accuracy", "The share of test images that are classified correctly.", of_test=True),
    _loss("test_loss", "The mean cross-entropy on the test images."),
    _accuracy("val_accuracy", "The share of validation images that are classified correctly.", per_epoch=True),
    _loss("val_loss", "The mean cross-entropy on the validation images.", per_epoch=True),
    _accuracy("train_accuracy", "The share of training images, as they were trained on.", per_epoch=True),
    _loss("train_loss", "The mean cross-entropy on the training images, as they were trained on.", per_epoch=True),
)
CURVE_METRICS: Mapping[Metric, Callable[[Curve], float]] = {
    _accuracy("best_val_accuracy", "The highest validation accuracy of any epoch."): lambda curve: max(
        curve.accuracies
    ),
    _pace("mean_val_accuracy", "The validation accuracy averaged over the epochs."): lambda curve: (
        sum(curve.accuracies) / len(curve.accuracies)
    ),
    _pace("first_epoch_val_accuracy", "The validation accuracy after one epoch."): lambda curve: curve.accuracies[0],
    _loss("first_epoch_val_loss", "The validation loss after one epoch."): lambda curve: curve.losses[0],
    _epochs_to(90): lambda curve: curve.epochs_to(0.90),
    _epochs_to(95): lambda curve: curve.epochs_to(0.95),
    _epochs_to(97): lambda curve: curve.epochs_to(0.97),
    Metric(
        "val_fluctuation",
        "The standard deviation of the epoch-to-epoch change of validation accuracy in the second half; from 3 epochs.",
        "lower",
        "share",
        0.0,
        1.0,
    ): lambda curve: curve.fluctuation,
    Metric(
        "converged", "1 if the last validation loss is at most half of that of guessing, else 0.", low=0, high=1
    ): lambda curve: float(curve.losses[-1] <= math.log(curve.classes) / 2),
}
"""How each metric of the validation curve follows from it. A new metric is an entry here."""
_COSTS = (
    Metric("parameters", "The numbers that are trained; without a frozen base.", "lower", low=0.0),
    Metric("multiply_adds", "Of matrix products and convolutions for an image, forward.", "lower", low=0.0),
    Metric("images_per_epoch", "The training images of an epoch.", "lower", low=1.0),
    Metric(
        "epoch_seconds",
        "Processor seconds of the process for an epoch with its validation, the median from the second on.",
        "lower",
        "seconds",
        0.0,
        of_machine=True,
    ),
    Metric(
        "peak_memory",
        "The most memory of the process while it trained, in bytes, with TensorFlow and what it keeps of other trials.",
        "lower",
        "bytes",
        0.0,
        of_machine=True,
    ),
)
METRICS: dict[str, Metric] = {each.name: each for each in (*_MEASURED, *CURVE_METRICS, *_COSTS)}


def curve_metrics(epochs: Sequence[Epoch], planned: int, classes: int) -> dict[str, float]:
    """The metrics of the validation curve."""
    missing = planned - len(epochs)
    curve = Curve(
        [epoch.metrics["val_accuracy"] for epoch in epochs] + [1 / classes] * missing,
        [epoch.metrics["val_loss"] for epoch in epochs] + [math.log(classes)] * missing,
        classes,
    )
    found = {metric.name: measure(curve) for metric, measure in CURVE_METRICS.items()}
    return {name: value for name, value in found.items() if not math.isnan(value)}


def cost_metrics(seconds: Sequence[float], images: int) -> dict[str, float]:
    """What epochs of these processor seconds cost. The first one compiles, so it tells nothing."""
    return {"images_per_epoch": float(images), **({"epoch_seconds": median(seconds[1:])} if seconds[1:] else {})}


def chance_metrics(classes: int, *, blind: bool = False) -> dict[str, float]:
    """The metrics of guessing, with which a diverged trial counts; without the test set's for a blind one."""
    parts = ("train", "val") if blind else ("test", "train", "val")
    split = {"accuracy": 1 / classes, "loss": math.log(classes)}
    return {f"{part}_{name}": value for part in parts for name, value in split.items()}
