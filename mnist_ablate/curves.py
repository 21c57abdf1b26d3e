"""Learning curves of the arms as small panels on one scale, each a mean with a band over its seeds."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from mnist_ablate.amounts import arm_name, value_name
from mnist_ablate.axes import Axis, of_metric
from mnist_ablate.drawing import LETTER, WIDTH, drawing, line, path, rows, short, text, thinned, value_names
from mnist_ablate.markup import Markup
from mnist_ablate.recorded import Recorded

METRIC = "val_accuracy"
MOST_PANELS = 24
"""So many arms at most: each may need a panel of its own."""
MOST_LINES = 6
"""In one panel: so many styles can be told apart."""
_PER_ROW = 4
_MOST_EPOCHS = 60
_LEFT, _GAP, _PLOT, _HEAD, _FOOT = 52.0, 14.0, 130.0, 26.0, 22.0
_LETTERS = 24


@dataclass(frozen=True)
class Curve:
    """One arm by epoch: mean, lowest and highest value over the seeds that reached it."""

    name: str
    points: tuple[tuple[int, float, float, float], ...]


@dataclass(frozen=True)
class Panel:
    """Curves that are shown together, by the number of their style."""

    name: str
    curves: Mapping[int, Curve]


def has_curves(recorded: Recorded) -> bool:
    """Whether any trial recorded more than one epoch."""
    return any(len(entry.outcome.epochs) > 1 for entries in recorded.by_arm.values() for entry in entries)


def learning_curves(ident: str, arms: Sequence[Mapping[str, Any]], recorded: Recorded) -> Markup:
    """A panel for the arms that differ in one factor, else for each arm; the same scale in all of them."""
    panels, styles = panelled(arms, recorded)
    panels = [panel for panel in panels if panel.curves]
    points = [point for panel in panels for curve in panel.curves.values() for point in curve.points]
    values = of_metric(METRIC, [value for point in points for value in point[1:]])
    last = max(point[0] for point in points)
    width = (WIDTH - _LEFT - _GAP * (_PER_ROW - 1)) / _PER_ROW
    top = 30.0 if styles else 4.0
    height = _HEAD + _PLOT + _FOOT
    parts: list[Markup] = list(_legend(styles))
    for i, panel in enumerate(panels):
        x, y = _LEFT + (i % _PER_ROW) * (width + _GAP), top + (i // _PER_ROW) * height + _HEAD
        epochs = Axis(1.0, max(last, 2.0), x, x + width)
        parts += _panel(panel, epochs, values.placed(y + _PLOT, y), named=i % _PER_ROW == 0)
    return drawing(
        ident,
        f"Validation accuracy by epoch in {len(panels)} panels",
        "; ".join(_described(panel) for panel in panels),
        top + height * math.ceil(len(panels) / _PER_ROW) + 4.0,
        *parts,
    )


def panelled(arms: Sequence[Mapping[str, Any]], recorded: Recorded) -> tuple[list[Panel], list[str]]:
    """The panels, and what their styles stand for; no styles if each panel has one arm."""
    factor = _line_factor(arms)
    if factor is None:
        return [Panel(arm_name(arm["params"]), _curves([arm], recorded)) for arm in arms], []
    levels = list(dict.fromkeys(arm["params"][factor] for arm in arms))
    groups: dict[str, dict[int, Curve]] = {}
    for arm in arms:
        rest = {name: value for name, value in arm["params"].items() if name != factor}
        style = levels.index(arm["params"][factor])
        groups.setdefault(arm_name(rest), {}).update(_curves([arm], recorded, style))
    return [Panel(name, curves) for name, curves in groups.items()], [
        f"{factor} {value_name(level)}" for level in levels
    ]


def _line_factor(arms: Sequence[Mapping[str, Any]]) -> str | None:
    """The factor with the fewest values, at least two, if there is another factor to make panels of."""
    values = {name: {str(arm["params"][name]) for arm in arms} for name in (arms[0]["params"] if arms else ())}
    varied = {name: len(found) for name, found in values.items() if len(found) > 1}
    if len(varied) < 2:  # noqa: PLR2004 - one for the lines, one for the panels
        return None
    fewest = min(reversed(varied), key=varied.__getitem__)
    return fewest if varied[fewest] <= MOST_LINES else None


def _curves(arms: Sequence[Mapping[str, Any]], recorded: Recorded, style: int = 0) -> dict[int, Curve]:
    by_epoch: dict[int, list[float]] = {}
    for arm in arms:
        for entry in recorded.arm(arm["params"]):
            for epoch in entry.outcome.epochs:
                if math.isfinite(epoch.val_accuracy):
                    by_epoch.setdefault(epoch.number, []).append(epoch.val_accuracy)
    numbers = thinned(sorted(by_epoch), _MOST_EPOCHS)
    points = tuple((n, fmean(by_epoch[n]), min(by_epoch[n]), max(by_epoch[n])) for n in numbers)
    return {style: Curve(arm_name(arms[0]["params"]), points)} if points else {}


def _panel(panel: Panel, epochs: Axis, values: Axis, *, named: bool) -> Iterator[Markup]:
    left, right, bottom = epochs.start, epochs.end, values.start
    yield text(left, values.end - 9.0, short(panel.name, _LETTERS), "label")
    yield from rows(values, left, right, value_names(METRIC, values, 24.0), named=named)
    for style, curve in panel.curves.items():
        band = [(epochs.at(n), values.at(low)) for n, _, low, _ in curve.points]
        band += [(epochs.at(n), values.at(high)) for n, _, _, high in reversed(curve.points)]
        yield path(band, f"area s{style}", closed=True)
    for style, curve in panel.curves.items():
        yield path([(epochs.at(n), values.at(mean)) for n, mean, _, _ in curve.points], f"series s{style}")
    yield line(left, bottom, right, bottom, "base")
    yield text(left, bottom + 15.0, "epoch 1", "tick")
    yield text(right, bottom + 15.0, f"{epochs.high:g}", "tick", "end")


def _legend(styles: Sequence[str]) -> Iterator[Markup]:
    x = _LEFT
    for i, name in enumerate(styles):
        yield line(x, 12.0, x + 30.0, 12.0, f"series s{i}")
        yield text(x + 38.0, 16.0, short(name, _LETTERS), "label")
        x += 38.0 + LETTER * min(len(name), _LETTERS) + 28.0


def _described(panel: Panel) -> str:
    ends = (f"{curve.name} ends at {curve.points[-1][1]:.2%}" for curve in panel.curves.values())
    return ", ".join(ends)
