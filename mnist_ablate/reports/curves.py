"""What became of the arms over training: validation accuracy by epoch, dead units before it and after it."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from mnist_ablate.reports.axes import Axis, of_metric
from mnist_ablate.reports.drawing import value_names
from mnist_ablate.reports.markup import Markup
from mnist_ablate.reports.panels import Panel, Scale, drawn, panelled
from mnist_ablate.reports.recorded import Recorded
from mnist_ablate.trial import RecordedTrial
from mnist_ablate.workloads.workload import default_workload

METRIC = default_workload().selection_metric
_SPACING = 24.0  # pixels between marks
_LEAST_DEAD = 0.05
"""The scale of dead units goes at least so far: fractions of a percent are no mountains."""

Arms = Sequence[Mapping[str, Any]]


def has_curves(recorded: Recorded) -> bool:
    """Whether any trial recorded more than one epoch."""
    return any(len(entry.outcome.epochs) > 1 for entries in recorded.by_arm.values() for entry in entries)


def learning_curves(ident: str, arms: Arms, recorded: Recorded) -> Markup:
    """Validation accuracy by epoch."""
    panels, styles = panelled(arms, recorded, validation)
    points = _points(panels)
    last = max(point[0] for point in points)
    values = of_metric(METRIC, [value for point in points for value in point[1:]])
    ends = (1.0, max(last, 2.0))
    scale = Scale(values, lambda axis: value_names(METRIC, axis, _SPACING), ends, ("epoch 1", f"{ends[1]:g}"))
    return drawn(ident, "Validation accuracy by epoch", panels, styles, scale)


def validation(entry: RecordedTrial) -> Iterator[tuple[int, float]]:
    """The validation accuracy of each epoch of a trial."""
    return ((epoch.number, epoch.metrics[METRIC]) for epoch in entry.outcome.epochs)


def has_dead_units(recorded: Recorded) -> bool:
    """Whether any trial recorded them before training and after it."""
    return any([*dead_units(entry)] for entries in recorded.by_arm.values() for entry in entries)


def dead_curves(ident: str, arms: Arms, recorded: Recorded) -> Markup:
    """The fraction of dead units, the mean of the hidden layers, before training and after it."""
    panels, styles = panelled(arms, recorded, dead_units)
    most = max((point[3] for point in _points(panels)), default=0.0)
    values = Axis(0.0, max(_LEAST_DEAD, min(1.0, 1.05 * most)), 0.0, 1.0)
    scale = Scale(values, _shares, (0.0, 1.0), ("before", "after"))
    return drawn(ident, "Dead units before training and after it", panels, styles, scale)


def dead_units(entry: RecordedTrial) -> Iterator[tuple[int, float]]:
    """The mean over the layers of a trial, at 0 before training and at 1 after it; nothing unless both are known."""
    found = entry.outcome.diagnostics
    ends = [
        [value for name, value in found.items() if name.startswith("dead_") and name.endswith(f"_{when}")]
        for when in ("start", "end")
    ]
    return ((place, fmean(values)) for place, values in enumerate(ends)) if all(ends) else iter(())


def _shares(axis: Axis) -> dict[float, str]:
    return {value: f"{100.0 * value:.6g}%" for value in axis.ticks(_SPACING)}


def _points(panels: Sequence[Panel]) -> list[tuple[int, float, float, float]]:
    return [point for panel in panels for curve in panel.curves.values() for point in curve.points]
