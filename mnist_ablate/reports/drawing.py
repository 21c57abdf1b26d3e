"""Pieces that every plot is put together from, as SVG; colors and line styles are classes of the page's style sheet."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from mnist_ablate.reports.axes import Axis
from mnist_ablate.reports.markup import Markup, element
from mnist_ablate.text import PERCENT, effect, number

T = TypeVar("T")

WIDTH = 920.0
LETTER = 7.8  # pixels, of a label: digits are wider than most letters
_ARROW = 7.0
_TITLED = 400
"""Points up to which each says on hover what it is."""


def drawing(ident: str, title: str, description: str, height: float, *parts: str, width: float = WIDTH) -> Markup:
    """An SVG picture with a title and a description for those who do not see it."""
    return element(
        "svg",
        element("title", title, id=f"{ident}-title"),
        element("desc", description, id=f"{ident}-desc"),
        *parts,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_labelledby=f"{ident}-title",
        aria_describedby=f"{ident}-desc",
    )


def text(x: float, y: float, content: str, kind: str = "", anchor: str | None = None) -> Markup:
    """Words with their baseline at y; `anchor` is middle or end, else they start at x."""
    return element("text", content, x=x, y=y, class_=kind or None, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def path(points: Iterable[tuple[float, float]], kind: str, *, closed: bool = False) -> Markup:
    """A line through points, or the area that they enclose."""
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return element("path", d=f"M{steps}{'Z' if closed else ''}", class_=kind)


def diamond(x: float, y: float, size: float, kind: str) -> Markup:
    """A mean."""
    return path([(x - size, y), (x, y - size), (x + size, y), (x, y + size)], kind, closed=True)


def interval(axis: Axis, low: float | None, high: float | None, y: float, kind: str) -> Iterator[Markup]:
    """A bar from low to high, with an arrow at an end that lies beyond the axis; nothing if it is unknown."""
    if low is None or high is None:
        return
    left, right = axis.at(low), axis.at(high)
    yield line(left, y, right, y, kind)
    for x, outward, is_beyond in ((left, -1, low < axis.low), (right, 1, high > axis.high)):
        if is_beyond:
            tip = [(x, y - 5.0), (x + outward * _ARROW, y), (x, y + 5.0)]
            yield path(tip, f"{kind} tip", closed=True)
        else:
            yield line(x, y - 5.0, x, y + 5.0, kind)


def dots(places: Sequence[tuple[float, float, str]], kind: str) -> Iterator[Markup]:
    """A point at every (x, y); what it stands for is shown on hover, as long as they are few."""
    for x, y, name in places:
        said = [element("title", name)] if len(places) <= _TITLED else []
        yield element("circle", *said, cx=x, cy=y, r=3.2, class_=kind)


def crosses(places: Sequence[tuple[float, float, str]], kind: str) -> Iterator[Markup]:
    """The same with a cross for each point."""
    for x, y, name in places:
        arms = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
        yield element("path", *([element("title", name)] if len(places) <= _TITLED else []), d=arms, class_=kind)


def columns(axis: Axis, top: float, bottom: float, names: Mapping[float, str], title: str) -> Iterator[Markup]:
    """Vertical lines at the marks of a horizontal axis, what they stand for, and the axis's title below."""
    for value, name in names.items():
        yield line(axis.at(value), top, axis.at(value), bottom, "grid")
        yield text(axis.at(value), bottom + 17.0, name, "tick", "middle")
    yield text((axis.start + axis.end) / 2, bottom + 36.0, title, "title", "middle")


def rows(axis: Axis, left: float, right: float, names: Mapping[float, str], *, named: bool = True) -> Iterator[Markup]:
    """Horizontal lines at the marks of a vertical axis, and what they stand for on its left."""
    for value, name in names.items():
        yield line(left, axis.at(value), right, axis.at(value), "grid")
        if named:
            yield text(left - 8.0, axis.at(value) + 4.0, name, "tick", "end")


def value_names(metric: str, axis: Axis, spacing: float) -> dict[float, str]:
    """The marks of an axis of a metric, with their names."""
    shown = f"{{:.12g}}{'%' * metric.endswith(PERCENT)}"
    scale = 100.0 if metric.endswith(PERCENT) else 1.0
    return {value: minus(shown.format(round(scale * value, 9))) for value in axis.ticks(spacing)}


def difference_names(metric: str, axis: Axis, spacing: float) -> dict[float, str]:
    """The marks of an axis of differences of a metric, with their names."""
    scale = 100.0 if metric.endswith(PERCENT) else 1.0
    return {value: minus(f"{round(scale * value, 9):+.12g}") if value else "0" for value in axis.ticks(spacing)}


def minus(content: str) -> str:
    """Numbers with a minus sign as wide as a plus; hyphens in words stay."""
    return re.sub(r"(?<!\w)-(?=[\d.])", "\N{MINUS SIGN}", content)


def shown_effect(metric: str, value: float | None) -> str:
    """A difference with its unit and a real minus sign."""
    return minus(effect(metric, value))


def shown_number(metric: str, value: float | None) -> str:
    """A metric with a real minus sign."""
    return minus(number(metric, value))


def short(name: str, most: int) -> str:
    """A name that fits, with an ellipsis for what does not."""
    return name if len(name) <= most else f"{name[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def thinned(values: Sequence[T], most: int) -> list[T]:
    """At most so many of the values, evenly, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]
