"""The charts of a report, drawn by matplotlib: claims, arms, curves, interactions. Computes no verdict.

Importing this module loads matplotlib (0.7 s), so import it only where a chart is drawn. `chart_files` saves charts.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from statistics import fmean, median

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from mnist_ablate.reports.chart_axes import Measure, Options, Span, set_scale, span_of_differences, span_of_values
from mnist_ablate.reports.chart_files import LIGHT, Chart, drawing, short
from mnist_ablate.reports.wording import estimate, is_known
from mnist_ablate.statistics.verdict import ClaimVerdict

SIGNS = {"supported": "✓", "refuted": "✗", "equivalent": "≈", "inconclusive": "?"}
"""A sign for each verdict, so that color is never alone."""
MOST_ROWS = 60  # claims or arms in one chart; further ones are left out
MOST_PANELS = 24  # of curves; further ones are left out
MOST_POINTS = 2400  # single seeds in one chart: more make the file large and cannot be told apart
MOST_LINES = 6  # colors, dashes and symbols that can be told apart: the style sheet has them
MOST_SEEDS = 600  # single seeds as lines in one chart
_MOST_PLACES = 60  # epochs of one curve
_UNUSUAL = 5.0  # times the median width: such an interval does not set the scale
_SYMBOLS = {"supported": ("D", 8), "refuted": ("X", 10), "equivalent": ("s", 8.5), "inconclusive": ("o", 9)}
_SEED: Options = {"marker": "o", "ms": 6.4, "color": LIGHT["dot"], "alpha": 0.55, "mew": 0, "linestyle": "none"}
_LOST: Options = {"marker": "x", "ms": 7, "color": LIGHT["refuted"], "mew": 1.8, "linestyle": "none"}
_MEAN: Options = {"marker": "D", "ms": 6, "color": LIGHT["ink"], "mew": 0, "linestyle": "none", "zorder": 3}
_LINE: Options = {"ms": 8, "mec": LIGHT["paper"], "mew": 1, "linewidth": 2, "zorder": 3}

Point = tuple[float, float, str]
"""Where a mark stands, and what it shows under a pointer."""


@dataclass(frozen=True)
class Arm:
    """An arm: every seed's value, their mean, its interval; nan or infinite if unknown. Diverged seeds are apart."""

    name: str
    seeds: Mapping[int, float]
    mean: float
    low: float
    high: float
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


def claims(every: Sequence[ClaimVerdict], measure: Measure) -> Chart:
    """A forest plot: for each claim its interval over its seeds, the margin as a band, the verdict as sign and word."""
    shown = every[:MOST_ROWS]
    differences = [value for each in shown for value in (*each.differences.values(), each.effect)]
    limits = [limit for each in shown for limit in (each.ci_low, each.ci_high)]
    span = span_of_differences(differences, limits, [each.margin for each in shown])
    said = {each.name: f"{each.name}, {each.verdict}: {estimate(each)}" for each in shown}
    margins = {measure.difference(each.margin).lstrip("+") for each in shown}
    title = f"Forest plot: difference in {measure.name}, with interval and margin, for {len(shown)} claims"
    with drawing(title, "".join(f"{text}. " for text in said.values()), 46.0 * max(len(shown), 1) + 76.0) as chart:
        axes = _rows(chart, [each.name for each in shown])
        label = f"difference in {measure.name}{', percentage points' * measure.is_fraction}"
        set_scale(axes, "x", span, measure.difference_tick, label)
        axes.axvline(0.0, color=LIGHT["muted"], linewidth=1, zorder=1.5)
        axes.text(0.0, -0.12, f"margin ±{margins.pop()}" if len(margins) == 1 else "margin of each claim", ha="center")
        width = max((name.get_window_extent().width for name in axes.get_yticklabels()), default=0.0)
        axes.tick_params("y", pad=width + 14.0)
        for y, (name, each) in enumerate(zip(axes.get_yticklabels(), shown, strict=True)):
            name.set_horizontalalignment("left")
            _write(axes, (-width - 38.0, y + 0.5), str(y + 1), "muted", "bold")
            color, (symbol, size) = LIGHT[each.verdict], _SYMBOLS[each.verdict]
            axes.barh(y + 0.5, 2.0 * each.margin, left=-each.margin, height=0.86, color=LIGHT["band"], zorder=0.2)
            seeds = _points(each.name, each.differences, y + 0.74, measure.difference, MOST_POINTS // len(shown))
            _plot(chart, axes, seeds, _SEED)
            _bar(axes, (each.ci_low, each.ci_high), y + 0.39, color)
            mean = {**_MEAN, "marker": symbol, "ms": size, "color": color}
            _plot(chart, axes, [(each.effect, y + 0.39, said[each.name])], mean)
            _write(axes, (16.0, y + 0.34), f"{SIGNS[each.verdict]} {each.verdict}", each.verdict, "bold")
            _write(axes, (16.0, y + 0.71), estimate(each), "muted")
    return chart


def arms(every: Sequence[Arm], measure: Measure) -> Chart:
    """A row for each arm: a dot for every seed, a cross for a diverged one, the mean and its interval."""
    shown = every[:MOST_ROWS]
    values = [value for arm in shown for value in (*arm.seeds.values(), *arm.diverged.values(), arm.mean)]
    span = span_of_values(values, measure)
    title = f"{measure.name} of every trial in {len(shown)} arms, with means and intervals"
    words = "; ".join(_mean_text(arm, measure) for arm in shown)
    with drawing(title, words, 31.0 * max(len(shown), 1) + 62.0) as chart:
        axes = _rows(chart, [arm.name for arm in shown])
        set_scale(axes, "x", span, measure.tick, measure.name)
        for y, arm in enumerate(shown):
            for name, seeds, style in ((arm.name, arm.seeds, _SEED), (f"{arm.name}, diverged", arm.diverged, _LOST)):
                points = _points(name, seeds, y + 0.7, measure.value, MOST_POINTS // len(shown))
                _plot(chart, axes, points, style)
            _bar(axes, (arm.low, arm.high), y + 0.34, LIGHT["ink"])
            _plot(chart, axes, [(arm.mean, y + 0.34, _mean_text(arm, measure))], _MEAN)
            _write(axes, (16.0, y + 0.5), measure.value(arm.mean) if is_known(arm.mean) else "", "muted")
    return chart


def interaction(lines: Mapping[str, Mapping[str, Arm]], across: str, measure: Measure) -> Chart:
    """Means of two crossed factors: a line for each value of one factor, over the values of the other, `across`.

    lines: the arm by line and place. Raises ValueError for more than MOST_LINES lines.
    """
    places = list(dict.fromkeys(place for cells in lines.values() for place in cells))
    cells = [arm for line in lines.values() for arm in line.values()]
    # One collapsed seed makes its interval very wide and must not set the scale.
    most = _UNUSUAL * median([arm.high - arm.low for arm in cells if is_known(arm.low, arm.high)] or [0.0])
    limits = [limit for arm in cells if arm.high - arm.low <= most for limit in (arm.low, arm.high)]
    span = span_of_values([*(arm.mean for arm in cells), *limits], measure)
    title = f"{measure.name} by {across}, a line for each of {', '.join(lines)}"
    with drawing(title, "; ".join(_mean_text(arm, measure) for arm in cells), 368.0) as chart:
        axes = chart.figure.subplots()
        set_scale(axes, "y", span, measure.tick, f"{measure.name} by {across}")
        axes.set_xlim(-0.5, max(len(places), 1) - 0.5)
        axes.set_xticks(range(len(places)), [short(place, 112 // len(places)) for place in places])
        for i, (style, line) in enumerate(zip(_styles(chart, list(lines)), lines.values(), strict=True)):
            known = {places.index(place) + 0.04 * (i - (len(lines) - 1) / 2): arm for place, arm in line.items()}
            for x, arm in known.items():
                _bar(axes, (arm.low, arm.high), x, style["color"], upright=True)
            _plot(chart, axes, [(x, arm.mean, _mean_text(arm, measure)) for x, arm in known.items()], style)
    return chart


def curves(
    every: Sequence[Curve], measure: Measure, ends: tuple[str, str], *, from_zero_to: float | None = None
) -> Chart:
    """Small panels on one scale: a thin line for every seed, a thick one for their mean.

    ends: names of the first and the last place. from_zero_to: makes the axis begin at zero and reach at least so far.
    Raises ValueError for more than MOST_LINES lines.
    """
    panels = list(dict.fromkeys(each.panel for each in every))[:MOST_PANELS]
    shown = [each for each in every if each.panel in panels]
    lines = list(dict.fromkeys(each.line for each in shown))
    points = [point for each in shown for seed in each.seeds.values() for point in seed] or [(0.0, 0.0)]
    span = span_of_values((value for _, value in points), measure)
    if from_zero_to is not None:
        span = Span(0.0, max(from_zero_to, 1.05 * span.high))
    first = min(place for place, _ in points)
    last = max(first + 1.0, *(place for place, _ in points))
    title = f"{measure.name} from {ends[0]} to {ends[1]}, in {len(panels)} panels"
    words = [f"{each.name} ends at {measure.value(means[-1][1])}" for each in shown if (means := _means(each))]
    rows = max(math.ceil(len(panels) / 4), 1)
    with drawing(title, "; ".join(words), 178.0 * rows + 34.0 * any(lines)) as chart:
        styles = dict(zip(lines, _styles(chart, lines), strict=True))
        for i, panel in enumerate(panels):
            axes = chart.figure.add_subplot(rows, 4, i + 1, xlim=(first, last), title=short(panel, 28))
            axes.set_xticks([first, last], [short(end, 12) for end in ends])
            axes.get_xticklabels()[0].set_horizontalalignment("left")
            axes.get_xticklabels()[1].set_horizontalalignment("right")
            set_scale(axes, "y", span, measure.tick, "")
            axes.tick_params("y", labelleft=i % 4 == 0)
            axes.spines.bottom.set_visible(True)
            for each in (each for each in shown if each.panel == panel):
                _add_curve(chart, axes, each, styles[each.line], measure, MOST_SEEDS // len(shown))
    return chart


def _add_curve(chart: Chart, axes: Axes, curve: Curve, style: Options, measure: Measure, most: int) -> None:  # noqa: PLR0913, PLR0917 - what one curve shows, and where
    for seed, points in list(curve.seeds.items())[:most]:
        text = f"{curve.name}, seed {seed}: {' to '.join(measure.value(points[i][1]) for i in (0, -1) if points)}"
        thin = {"color": style["color"], "marker": "", "linestyle": "-", "linewidth": 1, "alpha": 0.35}
        _plot(chart, axes, _few([(*point, text) for point in points], _MOST_PLACES), thin)
    said = f"{curve.name}, mean of {len(curve.seeds)} at"
    means = [(place, value, f"{said} {place:g}: {measure.value(value)}") for place, value in _means(curve)]
    _plot(chart, axes, _few(means, _MOST_PLACES), {**style, "linewidth": 2.2, "marker": "o", "ms": 4.5, "mew": 0})


def _means(curve: Curve) -> list[tuple[float, float]]:
    by_place: dict[float, list[float]] = {}
    for place, value in (point for points in curve.seeds.values() for point in points if is_known(point[1])):
        by_place.setdefault(place, []).append(value)
    return [(place, fmean(values)) for place, values in sorted(by_place.items())]


def _mean_text(arm: Arm, measure: Measure) -> str:
    if not is_known(arm.mean):
        return f"{arm.name}: no mean"
    limits = f" ({measure.value(arm.low)} to {measure.value(arm.high)})" if is_known(arm.low, arm.high) else ""
    return f"{arm.name}, mean of {len(arm.seeds)}: {measure.value(arm.mean)}{limits}"


def _points(name: str, seeds: Mapping[int, float], y: float, say: Callable[[float], str], most: int) -> list[Point]:
    """A point for every seed; of more than `most`, so many, evenly from the lowest to the highest."""
    ranked = sorted(seeds.items(), key=itemgetter(1))
    return _few([(value, y, f"{name}, seed {seed}: {say(value)}") for seed, value in ranked], most)


def _few(points: Sequence[Point], most: int) -> list[Point]:
    """At most so many of the points, evenly, the first and the last among them."""
    return [points[round(i)] for i in np.linspace(0, len(points) - 1, min(len(points), most))]


def _rows(chart: Chart, names: Sequence[str]) -> Axes:
    """Axes with a named row for each, from 0 on downwards."""
    axes = chart.figure.subplots()
    axes.set_ylim(max(len(names), 1), 0)
    labels = [short(name, 40) for name in names]
    axes.set_yticks([y + 0.5 for y in range(len(names))], labels, color=LIGHT["ink"], fontsize=13)
    return axes


def _write(axes: Axes, at: tuple[float, float], text: str, color: str, weight: str = "normal") -> None:
    """Text beside a row: so many pixels right of the axes, or left of them where negative."""
    style: Options = {"color": LIGHT[color], "weight": weight, "verticalalignment": "center_baseline"}
    spot, where = (float(at[0] > 0), at[1]), ("axes fraction", "data")
    axes.annotate(text, spot, (at[0], 0.0), xycoords=where, textcoords="offset points", **style)


def _plot(chart: Chart, axes: Axes, points: Sequence[Point], style: Options) -> None:
    """Marks at all points that are known, or a line through them without any; each shows its text under a pointer."""
    if known := [point for point in points if is_known(*point[:2])]:
        xs, ys, texts = zip(*known, strict=True)
        chart.hovers[gid := f"marks-{len(chart.hovers)}"] = list(texts if style["marker"] else texts[:1])
        axes.plot(xs, ys, gid=gid, **style)


def _bar(axes: Axes, limits: tuple[float, float], at: float, color: str, *, upright: bool = False) -> None:
    """A bar from limit to limit, with an arrow at an end that lies beyond the axis; nothing if one is not known."""
    if is_known(*limits):
        first, last = axes.get_ylim() if upright else axes.get_xlim()
        low, high = (min(max(limit, first), last) for limit in limits)
        (axes.vlines if upright else axes.hlines)(at, low, high, colors=color, linewidths=2)
        for limit, end, arrow in zip(limits, (low, high), "v^" if upright else "<>", strict=True):
            cap = ("_", 6, 1.8) if upright else ("|", 9, 1.8)
            marker, ms, mew = cap if limit == end else (arrow, 7, 0)
            axes.plot(*((at, end) if upright else (end, at)), color=color, marker=marker, ms=ms, mew=mew)


def _styles(chart: Chart, lines: Sequence[str]) -> Sequence[Options]:
    """Color, dash and symbol of each line, with a legend of them above. Raises ValueError for more than MOST_LINES."""
    if len(lines) > MOST_LINES:
        raise ValueError(f"{len(lines)} lines in one chart; at most {MOST_LINES} can be told apart: {', '.join(lines)}")
    styles = [{**_LINE, **style} for style, _ in zip(rcParams["axes.prop_cycle"], lines, strict=False)]
    if any(lines):
        handles = [Line2D([], [], **style) for style in styles]
        chart.figure.legend(handles, [short(name, 24) for name in lines], loc="outside upper left", ncols=3)
    return styles
