"""Small panels of curves on one scale, each a mean with a band over its seeds; knows no metric."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from mnist_ablate.reports.axes import Axis
from mnist_ablate.reports.drawing import LETTER, WIDTH, drawing, line, path, rows, short, text, thinned
from mnist_ablate.reports.markup import Markup
from mnist_ablate.reports.recorded import Recorded
from mnist_ablate.text import arm_name, value_name
from mnist_ablate.trial import RecordedTrial

MOST_PANELS = 24
"""So many arms at most: each may need a panel of its own."""
MOST_LINES = 6
"""In one panel: so many styles can be told apart."""
_PER_ROW = 4
_MOST_POINTS = 60
_LEFT, _GAP, _PLOT, _HEAD, _FOOT = 52.0, 14.0, 130.0, 26.0, 22.0
_LETTERS = 24

Values = Callable[[RecordedTrial], Iterable[tuple[int, float]]]
"""Of one trial, where and what it reached."""


@dataclass(frozen=True)
class Curve:
    """One arm by place (an epoch, say): mean, lowest and highest value over the seeds that reached it."""

    name: str
    points: tuple[tuple[int, float, float, float], ...]


@dataclass(frozen=True)
class Panel:
    """Curves that are shown together, by the number of their style."""

    name: str
    curves: Mapping[int, Curve]


@dataclass(frozen=True)
class Scale:
    """What all panels share: the axis upwards with its named marks, the first and last place with their names."""

    upwards: Axis
    marks: Callable[[Axis], dict[float, str]]
    ends: tuple[float, float]
    names: tuple[str, str]


def panelled(arms: Sequence[Mapping[str, Any]], recorded: Recorded, values: Values) -> tuple[list[Panel], list[str]]:
    """A panel for the arms that differ in one factor, else for each arm, and what its styles stand for, if anything."""
    factor = _line_factor(arms)
    if factor is None:
        return [Panel(arm_name(arm["params"]), _curves(arm, recorded, values, 0)) for arm in arms], []
    levels = list(dict.fromkeys(arm["params"][factor] for arm in arms))
    groups: dict[str, dict[int, Curve]] = {}
    for arm in arms:
        rest = {name: value for name, value in arm["params"].items() if name != factor}
        style = levels.index(arm["params"][factor])
        groups.setdefault(arm_name(rest), {}).update(_curves(arm, recorded, values, style))
    return [Panel(name, curves) for name, curves in groups.items()], [
        f"{factor} {value_name(level)}" for level in levels
    ]


def drawn(ident: str, title: str, panels: Sequence[Panel], styles: Sequence[str], scale: Scale) -> Markup:
    """The panels that have curves, in rows; each says in words where its curves end."""
    panels = [panel for panel in panels if panel.curves]
    width = (WIDTH - _LEFT - _GAP * (_PER_ROW - 1)) / _PER_ROW
    top = 30.0 if styles else 4.0
    height = _HEAD + _PLOT + _FOOT
    parts: list[Markup] = list(_legend(styles))
    for i, panel in enumerate(panels):
        x, y = _LEFT + (i % _PER_ROW) * (width + _GAP), top + (i // _PER_ROW) * height + _HEAD
        parts += _panel(panel, scale, (x, x + width), (y + _PLOT, y), named=i % _PER_ROW == 0)
    return drawing(
        ident,
        f"{title} in {len(panels)} panels",
        "; ".join(_described(panel) for panel in panels),
        top + height * math.ceil(len(panels) / _PER_ROW) + 4.0,
        *parts,
    )


def _line_factor(arms: Sequence[Mapping[str, Any]]) -> str | None:
    """The factor with the fewest values, at least two, if there is another factor to make panels of."""
    values = {name: {str(arm["params"][name]) for arm in arms} for name in (arms[0]["params"] if arms else ())}
    varied = {name: len(found) for name, found in values.items() if len(found) > 1}
    if len(varied) < 2:  # noqa: PLR2004 - one for the lines, one for the panels
        return None
    fewest = min(reversed(varied), key=varied.__getitem__)
    return fewest if varied[fewest] <= MOST_LINES else None


def _curves(arm: Mapping[str, Any], recorded: Recorded, values: Values, style: int) -> dict[int, Curve]:
    by_place: dict[int, list[float]] = {}
    for entry in recorded.arm(arm["params"]):
        for place, value in values(entry):
            if math.isfinite(value):
                by_place.setdefault(place, []).append(value)
    places = thinned(sorted(by_place), _MOST_POINTS)
    points = tuple((n, fmean(by_place[n]), min(by_place[n]), max(by_place[n])) for n in places)
    return {style: Curve(arm_name(arm["params"]), points)} if points else {}


def _panel(
    panel: Panel, scale: Scale, across: tuple[float, float], upwards: tuple[float, float], *, named: bool
) -> Iterator[Markup]:
    places, values = Axis(*scale.ends, *across), scale.upwards.placed(*upwards)
    left, right, bottom = *across, upwards[0]
    yield text(left, values.end - 9.0, short(panel.name, _LETTERS), "label")
    yield from rows(values, left, right, scale.marks(values), named=named)
    for style, curve in panel.curves.items():
        band = [(places.at(n), values.at(low)) for n, _, low, _ in curve.points]
        band += [(places.at(n), values.at(high)) for n, _, _, high in reversed(curve.points)]
        yield path(band, f"area s{style}", closed=True)
    for style, curve in panel.curves.items():
        yield path([(places.at(n), values.at(mean)) for n, mean, _, _ in curve.points], f"series s{style}")
    yield line(left, bottom, right, bottom, "base")
    yield text(left, bottom + 15.0, scale.names[0], "tick")
    yield text(right, bottom + 15.0, scale.names[1], "tick", "end")


def _legend(styles: Sequence[str]) -> Iterator[Markup]:
    x = _LEFT
    for i, name in enumerate(styles):
        yield line(x, 12.0, x + 30.0, 12.0, f"series s{i}")
        yield text(x + 38.0, 16.0, short(name, _LETTERS), "label")
        x += 38.0 + LETTER * min(len(name), _LETTERS) + 28.0


def _described(panel: Panel) -> str:
    ends = (f"{curve.name} ends at {curve.points[-1][1]:.2%}" for curve in panel.curves.values())
    return ", ".join(ends)
