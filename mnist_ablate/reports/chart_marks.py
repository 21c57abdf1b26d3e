"""Pieces that charts are put together from: figures, axes and text placed in pixels, marks, bars, a legend."""

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath
from matplotlib.transforms import Affine2D, Transform, blended_transform_factory

from mnist_ablate.reports.chart_axes import Span
from mnist_ablate.reports.chart_files import LIGHT, Chart, clean

WIDTH = 920.0
"""Of every chart, in pixels of SVG."""
MOST_LINES = 6
"""In one chart: so many colors, dashes and symbols can be told apart."""
MEAN: Mapping[str, Any] = {"mec": LIGHT["paper"], "mew": 1, "zorder": 3}
"""A mean on a line: its edge sets it apart from lines that cross there."""
_LINES: Sequence[tuple[str, Any, str]] = (
    ("s0", "solid", "D"), ("s1", (0, (3.5, 1.5)), "s"), ("s2", (0, (1, 1.5)), "^"),
    ("s3", (0, (4.5, 1.5, 1, 1.5)), "v"), ("s4", (0, (2, 1, 0.5, 1)), "P"), ("s5", (0, (6, 2.5)), "X"),
)  # fmt: skip
_PIXEL = 1.0 / 72.0  # matplotlib's inch has 72 points, each a pixel of SVG
_TEXT = TextToPath()

Point = tuple[float, float, str]
"""Where a mark stands, and what it shows under a pointer."""


def blank(title: str, description: str, height: float) -> Chart:
    """A chart on which nothing is drawn yet."""
    return Chart(Figure((WIDTH * _PIXEL, height * _PIXEL), 72, facecolor=LIGHT["paper"]), title, description, {})


def add_axes(chart: Chart, left: float, right: float, top: float, height: float) -> Axes:
    """Bare axes: where they begin and end from the left, begin from the top, and their height, in pixels."""
    whole = chart.figure.get_figheight() / _PIXEL
    box = (left / WIDTH, 1.0 - (top + height) / whole, (right - left) / WIDTH, height / whole)
    axes = chart.figure.add_axes(box)
    axes.spines[:].set_visible(False)
    axes.patch.set_visible(False)
    axes.tick_params(length=0, labelsize=12, labelcolor=LIGHT["muted"], pad=7)
    axes.set_axisbelow(True)
    return axes


def add_rows(chart: Chart, rows: int, across: tuple[float, float], top: float, height: float) -> Axes:
    """Axes with rows of one height, from 0 on downwards."""
    axes = add_axes(chart, *across, top, height * max(rows, 1))
    axes.set_ylim(max(rows, 1), 0)
    axes.set_yticks([])
    return axes


def name_axis(axes: Axes, name: str, span: Span) -> None:
    """Write below what the axes show."""
    note = f" (axis {span.note})" if span.note else ""
    axes.set_xlabel(clean(f"{name}{note}"), color=LIGHT["muted"], fontsize=12.5, labelpad=7, parse_math=False)


def pixels(axes: Axes) -> Transform:
    """Places in pixels from the lower left corner of the figure."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    return Affine2D().scale(_PIXEL) + figure.dpi_scale_trans


def beside(axes: Axes) -> Transform:
    """Places in pixels from the left side of the figure, and in rows."""
    return blended_transform_factory(pixels(axes), axes.transData)


def write(  # noqa: PLR0913 - what, where and how
    axes: Axes, spot: tuple[float, float], text: str, color: str, size: float = 12, *,
    at: Transform | None = None, anchor: str = "left", weight: int = 400,
) -> None:  # fmt: skip
    """Text with its middle line at a spot; `at` says what its numbers mean, if not values on the axes."""
    axes.text(
        *spot, clean(text), transform=at or axes.transData, color=LIGHT[color], fontsize=size, fontweight=weight,
        horizontalalignment=anchor, verticalalignment="center_baseline", parse_math=False,
    )  # fmt: skip


def add_marks(chart: Chart, axes: Axes, points: Sequence[Point], style: Mapping[str, Any]) -> None:
    """A mark at every point, with its text under a pointer."""
    if points:
        xs, ys, texts = zip(*points, strict=True)
        chart.hovers[gid := f"marks-{len(chart.hovers)}"] = list(texts)
        axes.plot(xs, ys, linestyle="none", gid=gid, clip_on=False, **style)


def add_path(
    chart: Chart, axes: Axes, points: Sequence[tuple[float, float]], text: str, style: Mapping[str, Any]
) -> None:
    """A line through the points, with its text under a pointer."""
    chart.hovers[gid := f"line-{len(chart.hovers)}"] = [text]
    axes.plot(*zip(*points, strict=True), gid=gid, clip_on=False, **style)


def add_bar(  # noqa: PLR0913 - where, how long and how
    axes: Axes, span: Span, limits: tuple[float | None, float | None], at: float, color: str, *, upright: bool = False
) -> None:
    """A bar from limit to limit, with an arrow at an end that lies beyond the axis; nothing if one is not known."""
    low, high = (math.nan if limit is None else limit for limit in limits)
    if math.isnan(low) or math.isnan(high):
        return
    for limit, arrow in ((low, "v" if upright else "<"), (high, "^" if upright else ">")):
        cap: Mapping[str, Any] = (
            {"marker": "_", "ms": 6, "mew": 1.8} if upright else {"marker": "|", "ms": 9, "mew": 1.8}
        )
        style = cap if span.low <= limit <= span.high else {"marker": arrow, "ms": 7, "mew": 0}
        axes.plot(*_turned([span.clip(limit)], [at], upright=upright), color=color, clip_on=False, **style)
    ends = [span.clip(low), span.clip(high)]
    axes.plot(*_turned(ends, [at, at], upright=upright), color=color, linewidth=2, clip_on=False)


def _turned(along: list[float], across: list[float], *, upright: bool) -> tuple[list[float], list[float]]:
    return (across, along) if upright else (along, across)


def add_legend(axes: Axes, lines: Sequence[str], x: float) -> None:
    """What colors, dashes and symbols stand for, in a row along the upper side of the figure."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    y = figure.get_figheight() / _PIXEL - 14.0
    most = min(180.0, (WIDTH - x) / max(len(lines), 1) - 60.0)
    for (color, dash, symbol), line in zip(line_styles(lines), lines, strict=True):
        style: Mapping[str, Any] = {"color": color, "transform": pixels(axes), "clip_on": False}
        axes.plot([x, x + 32.0], [y, y], linestyle=dash, linewidth=2.2, **style)
        axes.plot(x + 16.0, y, marker=symbol, markersize=7, **style, **MEAN)
        write(axes, (x + 40.0, y), short(line, most), "ink", 13, at=pixels(axes))
        x += 60.0 + room([line], most)


def line_styles(lines: Iterable[str]) -> list[tuple[str, Any, str]]:
    """Color, dash and symbol of each line. Raises ValueError for more than MOST_LINES."""
    names = list(lines)
    if len(names) > MOST_LINES:
        raise ValueError(f"{len(names)} lines in one chart; at most {MOST_LINES} can be told apart: {', '.join(names)}")
    return [(LIGHT[color], dash, symbol) for color, dash, symbol in _LINES[: len(names)]]


def short(text: str, most: float, size: float = 13) -> str:
    """Text that fits into so many pixels, with an ellipsis for what does not."""
    if text_width(text, size) <= most:
        return text
    text = text[: int(most)]
    while text and text_width(f"{text}\N{HORIZONTAL ELLIPSIS}", size) > most:
        text = text[:-1]
    return f"{text}\N{HORIZONTAL ELLIPSIS}"


def room(names: Iterable[str], most: float) -> float:
    """The pixels that the widest of the names needs, shortened to so many."""
    return min(most, max((text_width(name[: int(most)]) for name in names), default=0.0))


def text_width(text: str, size: float = 13) -> float:
    """Pixels in DejaVu Sans, which is wider than most fonts of browsers. For what it lacks a guess: Chinese, emojis."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    measured, _, _ = _TEXT.get_text_width_height_descent(clean(text), FontProperties(size=size), ismath=False)
    return measured + 0.4 * size * wide
