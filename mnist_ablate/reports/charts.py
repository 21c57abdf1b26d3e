"""The charts of a report, drawn by matplotlib: claims, arms, curves, interactions, input ranges. Computes no verdict.

Importing this module loads matplotlib (0.7 s), so import it only where a chart is drawn. `chart_files` saves charts.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median
from typing import Any, TypeVar

from matplotlib.axes import Axes

from mnist_ablate.reports.chart_axes import (
    Measure,
    Span,
    compressed,
    finite,
    set_scale,
    span_of_differences,
    span_of_values,
)
from mnist_ablate.reports.chart_files import LIGHT, Chart, clean, plain_settings
from mnist_ablate.reports.chart_marks import (
    MEAN,
    WIDTH,
    Point,
    add_axes,
    add_bar,
    add_legend,
    add_marks,
    add_path,
    add_rows,
    beside,
    blank,
    line_styles,
    name_axis,
    pixels,
    room,
    short,
    write,
)

SIGNS: Mapping[str, str] = {
    "supported": "\N{CHECK MARK}",
    "refuted": "\N{BALLOT X}",
    "equivalent": "\N{ALMOST EQUAL TO}",
    "inconclusive": "?",
}
"""A sign for each verdict, so that color is never alone."""
MOST_ROWS = 60
"""Claims or arms in one chart; further ones are left out."""
MOST_PANELS = 24
MOST_POINTS = 2400  # single seeds in one chart: more make the file large and cannot be told apart
_MOST_PLACES = 60  # epochs of one curve
_UNUSUAL = 5.0  # times the median width: such an interval does not set the scale
_SYMBOLS = {"supported": ("D", 8), "refuted": ("X", 10), "equivalent": ("s", 8.5), "inconclusive": ("o", 9)}
_SEED: Mapping[str, Any] = {"marker": "o", "ms": 6.4, "color": LIGHT["dot"], "alpha": 0.55, "mew": 0}
_LOST: Mapping[str, Any] = {"marker": "x", "ms": 7, "color": LIGHT["refuted"], "mew": 1.8}
_ARM: Mapping[str, Any] = {"marker": "D", "ms": 6, "color": LIGHT["ink"], "mew": 0, "zorder": 3}

T = TypeVar("T")


@dataclass(frozen=True)
class Interval:
    """A claim: its mean difference with an interval, the margin, and the difference of every seed.

    None stands for a number that is not known; a limit may be infinite. `text` says the numbers as the report does.
    """

    name: str
    verdict: str
    effect: float | None
    low: float | None
    high: float | None
    margin: float
    seeds: Mapping[int, float]
    text: str


@dataclass(frozen=True)
class Arm:
    """An arm: the value of every seed, their mean and its interval. Diverged seeds are not in the mean."""

    name: str
    seeds: Mapping[int, float]
    mean: float | None
    low: float | None
    high: float | None
    diverged: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Curve:
    """An arm over epochs or other places: (place, value) of every seed, in the order of places.

    Curves with the same `panel` share one; `line` names what a color and dash stand for, empty if nothing.
    """

    name: str
    panel: str
    line: str
    seeds: Mapping[int, Sequence[tuple[float, float]]]


@dataclass(frozen=True)
class InputRange:
    """What a network sees: the lowest and highest input, the mean and the standard deviation."""

    name: str
    low: float
    high: float
    mean: float
    std: float


@plain_settings()
def claims(intervals: Sequence[Interval], measure: Measure) -> Chart:
    """A forest plot: for each claim its interval over its seeds, the margin as a band, the verdict as sign and word."""
    shown, height = intervals[:MOST_ROWS], 46.0
    differences = [value for each in shown for value in (*each.seeds.values(), each.effect)]
    limits = [limit for each in shown for limit in (each.low, each.high)]
    span = span_of_differences(differences, limits, [each.margin for each in shown])
    chart = blank(
        f"Forest plot: difference in {measure.name}, with interval and margin, for {len(shown)} claims",
        " ".join(f"{each.name}, {each.verdict}: {each.text}." for each in shown),
        26.0 + height * max(len(shown), 1) + 48.0,
    )
    left = 44.0 + room((each.name for each in shown), 280.0)
    axes = add_rows(chart, len(shown), (left, WIDTH - 220.0), 26.0, height)
    set_scale(axes, "x", span, 52.0, measure.difference_tick)
    name_axis(axes, f"difference in {measure.name}{', percentage points' * measure.is_fraction}", span)
    axes.axvline(0.0, color=LIGHT["muted"], linewidth=1, zorder=1.5)
    margins = {measure.difference(each.margin).lstrip("+") for each in shown}
    label = f"margin ±{margins.pop()}" if len(margins) == 1 else "margin of each claim"
    write(axes, (0.0, -10.0 / height), label, "muted", anchor="center")
    for i, each in enumerate(shown):
        _add_claim(chart, axes, i, each, span, measure.difference, MOST_POINTS // len(shown))
    return chart


def _add_claim(  # noqa: PLR0913, PLR0917 - what one row shows, and where
    chart: Chart, axes: Axes, i: int, claim: Interval, span: Span, say: Callable[[float], str], most: int
) -> None:
    y, color, at = i + 0.5, LIGHT[claim.verdict], beside(axes)
    axes.fill_betweenx((y - 0.43, y + 0.43), -claim.margin, claim.margin, color=LIGHT["band"], linewidth=0, zorder=0.2)
    write(axes, (6.0, y), str(i + 1), "muted", 12.5, at=at, weight=700)
    write(axes, (30.0, y), short(claim.name, 280.0), "ink", 13, at=at)
    add_marks(chart, axes, _points(claim.name, claim.seeds, y + 0.24, span, say, most), _SEED)
    add_bar(axes, span, (claim.low, claim.high), y - 0.11, color)
    mean = [(value, y - 0.11, f"{claim.name}, {claim.verdict}: {claim.text}") for value in finite([claim.effect])]
    symbol, size = _SYMBOLS[claim.verdict]
    add_marks(chart, axes, mean, {"marker": symbol, "ms": size, "color": color, "mew": 0, "zorder": 3})
    said = f"{SIGNS[claim.verdict]} {claim.verdict}"
    write(axes, (WIDTH - 204.0, y - 0.16), said, claim.verdict, 12.5, at=at, weight=700)
    write(axes, (WIDTH - 204.0, y + 0.21), short(claim.text, 200.0, 12), "muted", at=at)


@plain_settings()
def arms(every: Sequence[Arm], measure: Measure) -> Chart:
    """A row for each arm: a dot for every seed, a cross for a diverged one, the mean and its interval."""
    shown, height = every[:MOST_ROWS], 31.0
    values = [value for arm in shown for value in (*arm.seeds.values(), *arm.diverged.values(), arm.mean)]
    span = span_of_values(values, measure)
    chart = blank(
        f"{measure.name} of every trial in {len(shown)} arms, with means and intervals",
        "; ".join(_mean_text(arm, measure) for arm in shown),
        14.0 + height * max(len(shown), 1) + 48.0,
    )
    left = 20.0 + room((arm.name for arm in shown), 340.0)
    axes = add_rows(chart, len(shown), (left, WIDTH - 90.0), 14.0, height)
    set_scale(axes, "x", span, 52.0, measure.tick)
    name_axis(axes, measure.name, span)
    at = beside(axes)
    for y, arm in enumerate(shown):
        write(axes, (left - 12.0, y + 0.5), short(arm.name, 340.0), "ink", 13, at=at, anchor="right")
        for name, seeds, style in ((arm.name, arm.seeds, _SEED), (f"{arm.name}, diverged", arm.diverged, _LOST)):
            points = _points(name, seeds, y + 0.7, span, measure.value, MOST_POINTS // len(shown))
            add_marks(chart, axes, points, style)
        add_bar(axes, span, (arm.low, arm.high), y + 0.34, LIGHT["ink"])
        for mean in finite([arm.mean]):
            add_marks(chart, axes, [(mean, y + 0.34, _mean_text(arm, measure))], _ARM)
            write(axes, (WIDTH - 6.0, y + 0.5), measure.value(mean), "muted", at=at, anchor="right")
    return chart


@plain_settings()
def interaction(lines: Mapping[str, Mapping[str, Arm]], across: str, measure: Measure) -> Chart:
    """Means of two crossed factors: a line for each value of one factor, over the values of the other, `across`.

    lines: the arm by line and place. Raises ValueError for more than MOST_LINES lines.
    """
    places = list(dict.fromkeys(place for cells in lines.values() for place in cells))
    cells = [arm for line in lines.values() for arm in line.values()]
    span = span_of_values([*(arm.mean for arm in cells), *_usual_limits(cells)], measure)
    left, right = 64.0, WIDTH - 16.0
    title = f"{measure.name} by {across}, a line for each of {', '.join(lines)}"
    chart = blank(title, "; ".join(_mean_text(arm, measure) for arm in cells), 368.0)
    axes = add_axes(chart, left, right, 44.0, 270.0)
    set_scale(axes, "y", span, 30.0, measure.tick)
    axes.set_xlim(-0.5, max(len(places), 1) - 0.5)
    axes.set_xticks([])
    for i, place in enumerate(places):
        step = (right - left) / len(places)
        spot = (left + step * (i + 0.5), 38.0)
        write(axes, spot, short(place, step - 6.0, 12), "muted", at=pixels(axes), anchor="center")
    name_axis(axes, f"{measure.name} by {across}", span)
    axes.xaxis.labelpad = 30.0
    add_legend(axes, list(lines), left)
    for i, ((color, dash, symbol), line) in enumerate(zip(line_styles(lines), lines.values(), strict=True)):
        shift = 0.04 * (i - (len(lines) - 1) / 2)
        known = {places.index(place) + shift: arm for place, arm in line.items() if finite([arm.mean])}
        spots = [(x, y, _mean_text(arm, measure)) for x, arm in known.items() for y in finite([arm.mean])]
        axes.plot([x for x, *_ in spots], [y for _, y, _ in spots], color=color, linestyle=dash, linewidth=2)
        for x, arm in known.items():
            add_bar(axes, span, (arm.low, arm.high), x, color, upright=True)
        add_marks(chart, axes, spots, {**MEAN, "marker": symbol, "ms": 8, "color": color})
    return chart


@plain_settings()
def curves(
    every: Sequence[Curve], measure: Measure, ends: tuple[str, str], *, from_zero_to: float | None = None
) -> Chart:
    """Small panels on one scale: a thin line for every seed, a thick one for their mean.

    ends: names of the first and the last place. from_zero_to: makes the axis begin at zero and reach at least so far.
    Raises ValueError for more than MOST_LINES lines. Panels after the first MOST_PANELS are left out.
    """
    panels = list(dict.fromkeys(each.panel for each in every))[:MOST_PANELS]
    shown = [_drawable(each) for each in every if each.panel in panels]
    lines = list(dict.fromkeys(each.line for each in shown))
    points = [point for each in shown for seed in each.seeds.values() for point in seed] or [(0.0, 0.0)]
    span = span_of_values((value for _, value in points), measure)
    if from_zero_to is not None:
        span = Span(0.0, max([from_zero_to, *(1.05 * value for _, value in points)]))
    top, across = 30.0 if any(lines) else 4.0, 4
    chart = blank(
        f"{measure.name} from {ends[0]} to {ends[1]}, in {len(panels)} panels",
        "; ".join(f"{each.name} ends at {measure.value(means[-1][1])}" for each in shown if (means := _means(each))),
        top + 178.0 * max(math.ceil(len(panels) / across), 1) + 4.0,
    )
    first = min(place for place, _ in points)
    last = max([first + 1.0, *(place for place, _ in points)])
    for i, panel in enumerate(panels):
        x, y = 52.0 + 219.0 * (i % across), top + 178.0 * (i // across) + 26.0
        axes = add_axes(chart, x, x + 203.0, y, 130.0)
        axes.set_xlim(first, last)
        axes.set_xticks([first, last], [clean(end) for end in ends], parse_math=False)
        axes.get_xticklabels()[0].set_horizontalalignment("left")
        axes.get_xticklabels()[1].set_horizontalalignment("right")
        set_scale(axes, "y", span, 24.0, measure.tick if i % across == 0 else lambda _: "")
        axes.axhline(span.low, color=LIGHT["muted"], linewidth=0.8)
        axes.set_title(clean(short(panel, 203.0)), loc="left", fontsize=13, color=LIGHT["ink"], pad=8, parse_math=False)
        for each in (each for each in shown if each.panel == panel):
            _add_curve(chart, axes, each, line_styles(lines)[lines.index(each.line)], measure)
        if i == 0 and any(lines):
            add_legend(axes, lines, 52.0)
    return chart


def _add_curve(chart: Chart, axes: Axes, curve: Curve, style: tuple[str, Any, str], measure: Measure) -> None:
    color, dash, _ = style
    for seed, points in curve.seeds.items():
        text = f"{curve.name}, seed {seed}: {measure.value(points[0][1])} to {measure.value(points[-1][1])}"
        add_path(chart, axes, points, text, {"color": color, "linewidth": 1, "alpha": 0.35})
    means = _means(curve)
    axes.plot([x for x, _ in means], [y for _, y in means], color=color, linestyle=dash, linewidth=2.2, clip_on=False)
    n = len(curve.seeds)
    marks = [(x, y, f"{curve.name}, mean of {n} at {x:g}: {measure.value(y)}") for x, y in means]
    add_marks(chart, axes, marks, {"marker": "o", "ms": 4.5, "color": color, "mew": 0})


def _drawable(curve: Curve) -> Curve:
    """The curve without values that are no numbers, at places that are few enough to draw, without empty seeds."""
    places = {*_thinned(sorted({place for seed in curve.seeds.values() for place, _ in seed}), _MOST_PLACES)}
    seeds = {
        seed: [(place, value) for place, value in points if place in places and math.isfinite(value)]
        for seed, points in curve.seeds.items()
    }
    return replace(curve, seeds={seed: points for seed, points in seeds.items() if points})


def _means(curve: Curve) -> list[tuple[float, float]]:
    by_place: dict[float, list[float]] = {}
    for points in curve.seeds.values():
        for place, value in points:
            by_place.setdefault(place, []).append(value)
    return [(place, fmean(values)) for place, values in sorted(by_place.items())]


@plain_settings()
def input_ranges(shown: Sequence[InputRange]) -> Chart:
    """A row for each kind of input: a line over its range, a box one standard deviation around the mean."""
    left = 20.0 + room((each.name for each in shown), 340.0)
    ends = [value for each in shown for value in (each.low, each.high)]
    span = compressed(1.1 * min([*ends, -1.0]), 1.1 * max([*ends, 1.0]), 1.0)
    title = f"Range, mean and standard deviation of {len(shown)} kinds of input"
    chart = blank(title, "; ".join(map(_range_text, shown)), 8.0 + 28.0 * max(len(shown), 1) + 48.0)
    axes = add_rows(chart, len(shown), (left, WIDTH - 20.0), 8.0, 28.0)
    set_scale(axes, "x", span, 52.0, Measure("input", is_fraction=False).tick)
    name_axis(axes, "input", span)
    axes.axvline(0.0, color=LIGHT["muted"], linewidth=1, zorder=1.5)
    for i, each in enumerate(shown):
        y = i + 0.5
        write(axes, (left - 12.0, y), short(each.name, 340.0), "ink", 13, at=beside(axes), anchor="right")
        box = (max(each.mean - each.std, each.low), min(each.mean + each.std, each.high))
        axes.fill_betweenx((y - 0.25, y + 0.25), *box, color=LIGHT["dot"], alpha=0.45, linewidth=0)
        axes.plot((each.low, each.high), (y, y), color=LIGHT["ink"], linewidth=1.8)
        add_marks(chart, axes, [(each.mean, y, _range_text(each))], _ARM)
    return chart


def _range_text(each: InputRange) -> str:
    return f"{each.name}: {each.low:.4g} to {each.high:.4g}, mean {each.mean:.4g}, standard deviation {each.std:.4g}"


def _mean_text(arm: Arm, measure: Measure) -> str:
    if arm.mean is None:
        return f"{arm.name}: no mean"
    limits = "" if arm.low is None or arm.high is None else f" ({measure.value(arm.low)} to {measure.value(arm.high)})"
    return f"{arm.name}, mean of {len(arm.seeds)}: {measure.value(arm.mean)}{limits}"


def _points(  # noqa: PLR0913, PLR0917 - of what, where, how
    name: str, seeds: Mapping[int, float], y: float, span: Span, say: Callable[[float], str], most: int
) -> list[Point]:
    """A point for every seed with a number; of more than `most`, so many, evenly from the lowest to the highest."""
    known = sorted((value, seed) for seed, value in seeds.items() if math.isfinite(value))
    return [(span.clip(value), y, f"{name}, seed {seed}: {say(value)}") for value, seed in _thinned(known, most)]


def _thinned(values: Sequence[T], most: int) -> list[T]:
    """At most so many of the values, evenly, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def _usual_limits(cells: Sequence[Arm]) -> Iterator[float]:
    """The ends of intervals without those much wider than most: one collapsed seed must not set the scale."""
    known = [(arm.low, arm.high) for arm in cells if arm.low is not None and arm.high is not None]
    most = _UNUSUAL * median(high - low for low, high in known) if known else 0.0
    return (end for low, high in known if high - low <= most for end in (low, high))
