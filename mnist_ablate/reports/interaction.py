"""Two factors in one picture: the mean of every arm, joined where they share a value of the second factor."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from mnist_ablate.reports import sentences
from mnist_ablate.reports.axes import Axis, of_metric
from mnist_ablate.reports.drawing import WIDTH, drawing, line, path, rows, short, shown_number, text, value_names
from mnist_ablate.reports.markup import Markup
from mnist_ablate.reports.panels import MOST_LINES
from mnist_ablate.reports.sentences import Document
from mnist_ablate.text import value_name

MOST_PLACES = 12
_LEFT, _RIGHT, _TOP, _PLOT, _FOOT = 64.0, 190.0, 16.0, 270.0, 44.0
_APART = 16.0  # pixels between the names of two lines
_SIZE = 4.5
_UNUSUAL = 5.0

Arm = Mapping[str, Any]


@dataclass(frozen=True)
class Grid:
    """The arms by their values of two factors; `across` has the more values."""

    across: str
    places: tuple[str, ...]
    lines: Mapping[str, Mapping[str, Arm]]
    factor: str


def grid(document: Document) -> Grid | None:
    """The two factors of a sweep that crosses them, if they have few enough values to be told apart."""
    arms = [arm for arm in document["arms"] if arm["mean"] is not None]
    names = list(arms[0]["params"]) if arms else []
    if len(names) != 2:  # noqa: PLR2004 - a picture has two dimensions
        return None
    values = {name: list(dict.fromkeys(value_name(arm["params"][name]) for arm in arms)) for name in names}
    across, factor = sorted(names, key=lambda name: -len(values[name]))
    if not 1 < len(values[factor]) <= MOST_LINES or len(values[across]) > MOST_PLACES:
        return None
    lines: dict[str, dict[str, Arm]] = {value: {} for value in values[factor]}
    for arm in arms:
        lines[value_name(arm["params"][factor])][value_name(arm["params"][across])] = arm
    if sum(len(cells) > 1 for cells in lines.values()) < 2:  # noqa: PLR2004 - else nothing to compare
        return None
    return Grid(across, tuple(values[across]), lines, factor)


def interaction(ident: str, document: Document, shown: Grid) -> Markup:
    """A line for each value of one factor over the values of the other, with the interval of every mean."""
    metric = document["metric"]
    arms = [arm for cells in shown.lines.values() for arm in cells.values()]
    axis = of_metric(metric, [*(arm["mean"] for arm in arms), *_usual_limits(arms)]).placed(_TOP + _PLOT, _TOP)
    step = (WIDTH - _LEFT - _RIGHT) / len(shown.places)
    places = {place: _LEFT + step * (i + 0.5) for i, place in enumerate(shown.places)}
    named = (text(x, axis.start + 20.0, short(place, int(step / 7)), "tick", "middle") for place, x in places.items())
    return drawing(
        ident,
        f"{sentences.plain(metric)} by {shown.across} and {shown.factor}",
        "; ".join(_described(document, shown)),
        axis.start + _FOOT,
        *rows(axis, _LEFT, WIDTH - _RIGHT, value_names(metric, axis, 30.0)),
        *named,
        text((_LEFT + WIDTH - _RIGHT) / 2, axis.start + 40.0, _title(metric, shown, axis), "title", "middle"),
        *_lines(shown, places, axis),
    )


def _usual_limits(arms: Sequence[Arm]) -> list[float]:
    """The ends of intervals, without those several times as wide as most: one collapsed seed must not set the scale."""
    known = [(arm["ci_low"], arm["ci_high"]) for arm in arms if arm["ci_low"] is not None]
    most = _UNUSUAL * median(high - low for low, high in known) if known else 0.0
    return [end for ends in known if ends[1] - ends[0] <= most for end in ends]


def _title(metric: str, shown: Grid, axis: Axis) -> str:
    note = f" (axis {axis.note})" if axis.note else ""
    return f"{sentences.plain(metric)} by {shown.across}{note}"


def _lines(shown: Grid, places: Mapping[str, float], axis: Axis) -> Iterator[Markup]:
    shift = 5.0
    ends: list[tuple[float, int, str]] = []
    for i, (name, cells) in enumerate(shown.lines.items()):
        offset = shift * (i - (len(shown.lines) - 1) / 2)
        points = {place: (x + offset, axis.at(cells[place]["mean"])) for place, x in places.items() if place in cells}
        if not points:
            continue
        yield path(points.values(), f"series s{i}")
        for place, (x, y) in points.items():
            yield from _limits(cells[place], x, axis, i)
            yield marker(x, y, i)
        ends.append((list(points.values())[-1][1], i, name))
    yield from _names(ends, shown.factor)


def _limits(arm: Arm, x: float, axis: Axis, style: int) -> Iterator[Markup]:
    if arm["ci_low"] is None:
        return
    ends = (arm["ci_low"], arm["ci_high"])
    yield line(x, axis.at(ends[0]), x, axis.at(ends[1]), f"limits s{style}")
    for end in ends:
        if axis.low <= end <= axis.high:
            yield line(x - 3.5, axis.at(end), x + 3.5, axis.at(end), f"limits s{style}")


def marker(x: float, y: float, style: int) -> Markup:
    """A mean in a shape of its style: diamond, square, triangle, upside down, hourglass, bow tie."""
    s = _SIZE
    shapes = (
        [(-s, 0), (0, -s), (s, 0), (0, s)],
        [(-s, -s), (s, -s), (s, s), (-s, s)],
        [(-s, s), (0, -s), (s, s)],
        [(-s, -s), (0, s), (s, -s)],
        [(-s, -s), (s, -s), (-s, s), (s, s)],
        [(-s, -s), (s, s), (s, -s), (-s, s)],
    )
    return path([(x + dx, y + dy) for dx, dy in shapes[style]], f"marker s{style}", closed=True)


def _names(ends: Sequence[tuple[float, int, str]], factor: str) -> Iterator[Markup]:
    """What the lines stand for, at their right ends but never over each other."""
    lowest = 0.0
    x = WIDTH - _RIGHT + 8.0
    for y, style, name in sorted(ends):
        lowest = max(y, lowest + _APART)
        yield marker(x, lowest, style)
        yield text(x + 12.0, lowest + 4.0, short(f"{factor} {name}", 24), f"label s{style}")


def _described(document: Document, shown: Grid) -> Iterator[str]:
    for name, cells in shown.lines.items():
        found = (f"{place} {shown_number(document['metric'], arm['mean'])}" for place, arm in cells.items())
        yield f"{shown.factor} {name}: {', '.join(found)}"
