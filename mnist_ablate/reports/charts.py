"""The charts of a report, drawn by matplotlib: claims, arms, curves, interactions. Computes no verdict.

Importing this module loads matplotlib (0.7 s), so import it only where a chart is drawn. `drawing` saves charts.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count, islice
from operator import itemgetter
from statistics import fmean, median

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from mnist_ablate.errors import SweepError
from mnist_ablate.reports import drawing
from mnist_ablate.reports.drawing import LIGHT, Chart, Measure, Options, canvas, measure_of, set_scale, short
from mnist_ablate.reports.report import Reach, RecordedSweep, Report
from mnist_ablate.reports.wording import SIGNS, estimate, is_known, minus, say, settings_in_words
from mnist_ablate.statistics.claim_verdict import ClaimVerdict
from mnist_ablate.statistics.verdict import Arm
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.text import arm_name, value_name
from mnist_ablate.workloads.workload import Curves, Metric

MOST_ROWS = 60  # claims or arms in one chart; further ones are left out
MOST_PANELS = 24  # of curves; further ones are left out
MOST_POINTS = 2400  # single seeds in one chart: more make the file large and cannot be told apart
MOST_SEEDS = 600  # single seeds as lines in one chart
_MOST_LINES = 6  # colors, dashes and symbols that can be told apart: the style sheet has them
_MOST_PLACES = 12  # of an interaction
_MOST_EPOCHS = 60  # of one curve
_UNUSUAL = 5.0  # times the median width: such an interval does not set the scale
_SYMBOLS = {"supported": ("D", 8), "refuted": ("X", 10), "equivalent": ("s", 8.5), "inconclusive": ("o", 9)}
_SEED: Options = {"marker": "o", "ms": 6.4, "color": LIGHT["dot"], "alpha": 0.55, "mew": 0, "linestyle": "none"}
_LOST: Options = {"marker": "x", "ms": 7, "color": LIGHT["refuted"], "mew": 1.8, "linestyle": "none"}
_MEAN: Options = {"marker": "D", "ms": 6, "color": LIGHT["ink"], "mew": 0, "linestyle": "none", "zorder": 3}
_LINE: Options = {"ms": 8, "mec": LIGHT["paper"], "mew": 1, "linewidth": 2, "zorder": 3}

Point = tuple[float, float, str]  # where a mark stands, and what it shows under a pointer
Seeds = Mapping[int, Sequence[tuple[float, float]]]  # (place, value) of every seed of an arm, in the order of places


def main_chart(report: Report, record: RecordedSweep) -> Chart:
    """The one chart of an SVG or PNG file: all claims, on an axis for each measure; arms if there are no claims.

    Claims that are asked in several settings have a panel each.

    Raises SweepError if nothing is recorded that could be drawn.
    """
    metric = report.asked.metric(report.metric)
    if report.reach:
        return specifications(report, metric)
    if report.claims:
        by_axis: dict[tuple[str, str], list[ClaimVerdict]] = {}
        for each in report.main_claims:
            by_axis.setdefault(each.axis, []).append(each)
        return forests([(every, report.asked.metric(name)) for (name, _), every in by_axis.items()])
    if not report.arms:
        raise SweepError(f"{record.sweep.name}: no trial is recorded yet: run the sweep first")
    return arms(main_arms(report.arms, record.sweep, MOST_ROWS), record, metric)


def main_arms(every: Sequence[Arm], sweep: Sweep, most: int) -> Sequence[Arm]:
    """At most so many arms, in their order: those that claims compare, then the best and the worst."""
    if len(every) <= most:
        return every
    sides = [{**claim.where, **side} for claim in sweep.claims for side in (claim.treatment, claim.control or {})]
    named = [i for i, arm in enumerate(every) if any(side and side.items() <= arm.params.items() for side in sides)]
    ranked = sorted((i for i, arm in enumerate(every) if is_known(arm.mean)), key=lambda i: -every[i].mean)
    ends = [i for pair in zip(ranked, reversed(ranked), strict=True) for i in pair]
    chosen = list(dict.fromkeys([*named[: most - 2], *ends, *range(len(every))]))[:most]
    return [every[i] for i in sorted(chosen)]


def claims(every: Sequence[ClaimVerdict], metric: Metric) -> Chart:
    """A forest plot: for each claim its interval over its seeds, the margin as a band, the verdict as sign and word."""
    return forests([(every, metric)])


def forests(groups: Sequence[tuple[Sequence[ClaimVerdict], Metric]]) -> Chart:
    """Forest plots below each other in one chart, each of claims that are measured alike, on an axis of its own."""
    shown = [(every[:MOST_ROWS], measure_of(metric)) for every, metric in groups]
    called = [f"{every[0].measure if every else 'difference'} in {measure.name}" for every, measure in shown]
    heights = [46.0 * max(len(every), 1) + 76.0 for every, _ in shown]
    told = [f"{_told(each)}. " for every, _ in shown for each in every]
    title = f"Forest plot: {', '.join(called)}, with interval and margin, for {len(told)} claims"
    with canvas(title, "".join(told), sum(heights)) as chart:
        places = chart.figure.subplots(len(shown), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (every, measure), name in zip(places, shown, called, strict=True):
            _name_rows(axes, [each.name for each in every])
            _draw_forest(chart, axes, every, _measured(every[0], measure) if every else measure, name)
        names = [label for axes in places for label in axes.get_yticklabels()]
        width = max((name.get_window_extent().width for name in names), default=0.0)
        numbers = count(1)
        for axes in places:
            axes.tick_params("y", pad=width + 14.0)
            for y, name in enumerate(axes.get_yticklabels()):
                name.set_horizontalalignment("left")
                _write(axes, (-width - 38.0, y + 0.5), str(next(numbers)), "muted", "bold")
    return chart


def _told(claim: ClaimVerdict) -> str:
    return f"{claim.name}, {claim.verdict}: {_estimated(claim)}"


def _estimated(claim: ClaimVerdict) -> str:
    return minus(estimate(claim)).replace(" pp)", ")")


def _draw_forest(chart: Chart, axes: Axes, shown: Sequence[ClaimVerdict], measure: Measure, called: str) -> None:
    """The marks of these claims on axes with their rows."""
    bounds = [(each.logarithm(each.ci_low), each.logarithm(each.ci_high)) for each in shown]
    seeds_of = [{seed: each.logarithm(value) for seed, value in each.differences.items()} for each in shown]
    parts_of = [
        [(each.logarithm(p.effect), y + 0.39, f"{p.name}, {p.verdict}") for p in each.parts]
        for y, each in enumerate(shown)
    ]
    differences = [value for own in seeds_of for value in own.values()]
    differences += [place for own in parts_of for place, *_ in own]
    differences += [each.logarithm(each.effect) for each in shown]
    sizes = [each.logarithm(each.margin) for each in shown]
    span = drawing.span_of_differences(differences, [limit for each in bounds for limit in each], sizes)
    set_scale(axes, "x", span, measure.difference_tick, f"{called}{', percentage points' * measure.is_fraction}")
    axes.axvline(0.0, color=LIGHT["muted"], linewidth=1, zorder=1.5)
    margins = {measure.difference(size).lstrip("+") for size in sizes}
    margin = f"margin {'±' * (not measure.is_ratio)}{margins.pop()}" if len(margins) == 1 else "margin of each claim"
    axes.text(0.0, -0.12, margin, ha="center")
    for y, each in enumerate(shown):
        color, (symbol, size) = LIGHT[each.verdict], _SYMBOLS[each.verdict]
        axes.barh(y + 0.5, 2.0 * sizes[y], left=-sizes[y], height=0.86, color=LIGHT["band"], zorder=0.2)
        seeds = _points(each.name, seeds_of[y], y + 0.74, measure.difference, MOST_POINTS // len(shown))
        _plot(chart, axes, seeds, _SEED)
        _bar(axes, bounds[y], y + 0.39, color)
        _plot(chart, axes, parts_of[y], {**_MEAN, "marker": "|", "ms": 12, "mew": 1.5, "color": LIGHT["muted"]})
        mean = {**_MEAN, "marker": symbol, "ms": size, "color": color}
        _plot(chart, axes, [(each.logarithm(each.effect), y + 0.39, _told(each))], mean)
        _write(axes, (16.0, y + 0.34), f"{SIGNS[each.verdict]} {each.verdict}", each.verdict, "bold")
        _write(axes, (16.0, y + 0.71), _estimated(each), "muted")


def specifications(report: Report, metric: Metric) -> Chart:
    """Specification curves in small panels: each claim in every setting, sorted by its difference, with its verdict."""
    by_name, measure = {claim.name: claim for claim in report.claims}, measure_of(metric)
    found = [each for each in report.reach if by_name[each.name].metric == metric.name][:MOST_PANELS]
    title = f"Specification curves: difference in {measure.name} of {len(found)} claims in every setting"
    words = "".join(f"{each.name}: {say('reach', each)} " for each in found)
    columns = min(len(found), 3)
    rows, most = math.ceil(len(found) / columns), max(len(each.settings) for each in found)
    with canvas(title, words, (26.0 * most + 84.0) * rows) as chart:
        for i, each in enumerate(found):
            shown = [(by_name[setting.claim], settings_in_words(setting)) for setting in each.settings]
            shown.sort(key=lambda one: -math.inf if math.isnan(one[0].effect) else one[0].effect)
            first, as_shown = shown[0][0], _measured(shown[0][0], measure)
            title = (
                short(each.name, 40) if first.measure == "difference" else f"{short(each.name, 30)} ({first.measure})"
            )
            axes = chart.figure.add_subplot(rows, columns, i + 1, title=title, ylim=(most, 0))
            labels = [f"{SIGNS[claim.verdict]} {short(name, 16)}" for claim, name in shown]
            axes.set_yticks([y + 0.5 for y in range(len(shown))], labels)
            effects = [claim.logarithm(claim.effect) for claim, _ in shown]
            bounds = [(claim.logarithm(claim.ci_low), claim.logarithm(claim.ci_high)) for claim, _ in shown]
            margin = first.logarithm(first.margin)
            span = drawing.span_of_differences(effects, [limit for both in bounds for limit in both], [margin])
            set_scale(axes, "x", span, as_shown.difference_tick, "", 4)
            axes.axvline(0.0, color=LIGHT["muted"], linewidth=1, zorder=1.5)
            axes.axvspan(-margin, margin, color=LIGHT["band"], zorder=0.2)
            for y, (label, (claim, name)) in enumerate(zip(axes.get_yticklabels(), shown, strict=True)):
                color, (symbol, size) = LIGHT[claim.verdict], _SYMBOLS[claim.verdict]
                label.set_color(color)
                _bar(axes, bounds[y], y + 0.5, color)
                text = f"{each.name}, {name}, {claim.verdict}: {minus(estimate(claim))}"
                mean = {**_MEAN, "marker": symbol, "ms": size, "color": color}
                _plot(chart, axes, [(effects[y], y + 0.5, text)], mean)
        unit = ", percentage points" * measure.is_fraction
        chart.figure.supxlabel(f"difference in {measure.name}{unit}; each panel has its own scale", fontsize=12)
    return chart


def _measured(claim: ClaimVerdict, measure: Measure) -> Measure:
    """How the effect of a claim is written."""
    if claim.measure == "difference":
        return measure
    return replace(measure, is_fraction=claim.unit == "share", is_ratio=claim.unit == "ratio")


def specification(report: Report, found: Reach, metric: Metric) -> Chart:
    """A specification curve: a claim in every setting, sorted by its difference, the settings beside it."""
    by_name = {claim.name: claim for claim in report.claims}
    named = [replace(by_name[each.claim], name=settings_in_words(each)) for each in found.settings]
    return claims(sorted(named, key=lambda each: -math.inf if math.isnan(each.effect) else each.effect), metric)


def arms(every: Sequence[Arm], record: RecordedSweep, metric: Metric) -> Chart:
    """A row for each arm: a dot for every seed, a cross for a diverged one, the mean and its interval."""
    shown, measure = every[:MOST_ROWS], measure_of(metric)
    ends = ("complete", "", _SEED), ("diverged", ", diverged", _LOST)
    found = [[_seeds(record, arm, metric.name, status) for status, *_ in ends] for arm in shown]
    values = [value for seeds in found for each in seeds for value in each.values()]
    span = drawing.span_of_values([*values, *(arm.mean for arm in shown)], measure)
    title = f"{measure.name} of every trial in {len(shown)} arms, with means and intervals"
    words = "; ".join(_mean_text(arm, measure) for arm in shown)
    with canvas(title, words, 31.0 * max(len(shown), 1) + 62.0) as chart:
        axes = chart.figure.subplots()
        _name_rows(axes, [arm_name(arm.params) for arm in shown])
        set_scale(axes, "x", span, measure.tick, measure.name)
        for y, (arm, seeds) in enumerate(zip(shown, found, strict=True)):
            for each, (_, ended, style) in zip(seeds, ends, strict=True):
                name, most = f"{arm_name(arm.params)}{ended}", MOST_POINTS // len(shown)
                _plot(chart, axes, _points(name, each, y + 0.7, measure.value, most), style)
            _bar(axes, (arm.ci_low, arm.ci_high), y + 0.34, LIGHT["ink"])
            _plot(chart, axes, [(arm.mean, y + 0.34, _mean_text(arm, measure))], _MEAN)
            _write(axes, (16.0, y + 0.5), measure.value(arm.mean) if is_known(arm.mean) else "", "muted")
    return chart


def _seeds(record: RecordedSweep, arm: Arm, metric: str, status: str) -> dict[int, float]:
    """The metric of the trials of an arm that ended so, by seed."""
    found = ((entry.trial.seed, entry.outcome) for entry in record.arm(arm.params))
    return {seed: each.metrics[metric] for seed, each in found if each.status == status and metric in each.metrics}


def interaction(every: Sequence[Arm], metric: Metric) -> Chart | None:
    """Means of two crossed factors: a line for each value of one factor, over the values of the other.

    None unless there are two factors, with few enough values to be told apart.
    """
    shown, measure = [arm for arm in every if is_known(arm.mean)], measure_of(metric)
    factor = _line_factor(shown)
    if factor is None or len(shown[0].params) != 2:  # noqa: PLR2004 - a picture has two dimensions
        return None
    (across,) = shown[0].params.keys() - {factor}
    lines: dict[str, dict[str, Arm]] = {}
    for arm in shown:
        lines.setdefault(f"{factor} {value_name(arm.params[factor])}", {})[value_name(arm.params[across])] = arm
    places = list(dict.fromkeys(value_name(arm.params[across]) for arm in shown))
    if sum(len(cells) > 1 for cells in lines.values()) < 2 or len(places) > _MOST_PLACES:  # noqa: PLR2004 - two cross
        return None
    # One collapsed seed makes its interval very wide and must not set the scale.
    most = _UNUSUAL * median([arm.ci_high - arm.ci_low for arm in shown if is_known(arm.ci_low, arm.ci_high)] or [0.0])
    limits = [limit for arm in shown if arm.ci_high - arm.ci_low <= most for limit in (arm.ci_low, arm.ci_high)]
    span = drawing.span_of_values([*(arm.mean for arm in shown), *limits], measure)
    title = f"{measure.name} by {across}, a line for each of {', '.join(lines)}"
    words = "; ".join(_mean_text(arm, measure) for line in lines.values() for arm in line.values())
    with canvas(title, words, 368.0) as chart:
        axes = chart.figure.subplots()
        set_scale(axes, "y", span, measure.tick, f"{measure.name} by {across}")
        axes.set_xlim(-0.5, len(places) - 0.5)
        axes.set_xticks(range(len(places)), [short(place, 112 // len(places)) for place in places])
        for i, (style, line) in enumerate(zip(_styles(chart, list(lines)), lines.values(), strict=True)):
            known = {places.index(place) + 0.04 * (i - (len(lines) - 1) / 2): arm for place, arm in line.items()}
            for x, arm in known.items():
                _bar(axes, (arm.ci_low, arm.ci_high), x, style["color"], upright=True)
            _plot(chart, axes, [(x, arm.mean, _mean_text(arm, measure)) for x, arm in known.items()], style)
    return chart


def curves(found: Curves, every: Sequence[Arm]) -> Chart:
    """Small panels on one scale: a thin line for every seed, a thick one for their mean.

    Those arms share a panel that differ in the factor with the fewest values.
    """
    measure, factor = Measure(found.measure, found.is_share), _line_factor(every)
    panels: dict[str, dict[str, str]] = {}
    for params in (arm.params for arm in every if arm_name(arm.params) in found.points):
        rest = {name: value for name, value in params.items() if name != factor}
        line = f"{factor} {value_name(params[factor])}" if factor else ""
        panels.setdefault(arm_name(rest), {})[arm_name(params)] = line
    panels = dict(islice(panels.items(), MOST_PANELS))
    line_of = {name: line for panel in panels.values() for name, line in panel.items()}
    points = [point for name in line_of for seed in found.points[name].values() for point in seed] or [(0.0, 0.0)]
    span = drawing.span_of_values((value for _, value in points), measure)
    if found.at_least is not None:
        span = drawing.Span(0.0, max(found.at_least, 1.05 * span.high))
    first = min(place for place, _ in points)
    last = max(first + 1.0, *(place for place, _ in points))
    title = f"{measure.name} from {found.ends[0]} to {found.ends[1]}, in {len(panels)} panels"
    means = {name: _means(found.points[name]) for name in line_of}
    words = "; ".join(f"{name} ends at {measure.value(mean[-1][1])}" for name, mean in means.items() if mean)
    lines = list(dict.fromkeys(line_of.values()))
    rows = max(math.ceil(len(panels) / 4), 1)
    with canvas(title, words, 178.0 * rows + 34.0 * any(lines)) as chart:
        styles = dict(zip(lines, _styles(chart, lines), strict=True))
        for i, (panel, arms_) in enumerate(panels.items()):
            axes = chart.figure.add_subplot(rows, 4, i + 1, xlim=(first, last), title=short(panel, 28))
            axes.set_xticks([first, last], [short(end, 12) for end in found.ends])
            axes.get_xticklabels()[0].set_horizontalalignment("left")
            axes.get_xticklabels()[1].set_horizontalalignment("right")
            set_scale(axes, "y", span, measure.tick, "")
            axes.tick_params("y", labelleft=i % 4 == 0)
            axes.spines.bottom.set_visible(True)
            for name, line in arms_.items():
                _add_curve(chart, axes, name, found.points[name], styles[line], measure, MOST_SEEDS // len(line_of))
    return chart


def _line_factor(arms: Sequence[Arm]) -> str | None:
    """The factor with the fewest values, at least two, if there is another factor to make panels or places of."""
    values = {name: len({str(arm.params[name]) for arm in arms}) for name in (arms[0].params if arms else ())}
    varied = [name for name, count in values.items() if count > 1]
    fewest = min(reversed(varied), key=values.__getitem__, default="")
    return fewest if len(varied) > 1 and values[fewest] <= _MOST_LINES else None


def _add_curve(  # noqa: PLR0913, PLR0917 - what one curve shows, and where
    chart: Chart, axes: Axes, name: str, seeds: Seeds, style: Options, measure: Measure, most: int
) -> None:
    for seed, points in list(seeds.items())[:most]:
        text = f"{name}, seed {seed}: {' to '.join(measure.value(points[i][1]) for i in (0, -1) if points)}"
        thin = {"color": style["color"], "marker": "", "linestyle": "-", "linewidth": 1, "alpha": 0.35}
        _plot(chart, axes, _few([(*point, text) for point in points], _MOST_EPOCHS), thin)
    said = f"{name}, mean of {len(seeds)} at"
    means = [(place, value, f"{said} {place:g}: {measure.value(value)}") for place, value in _means(seeds)]
    _plot(chart, axes, _few(means, _MOST_EPOCHS), {**style, "linewidth": 2.2, "marker": "o", "ms": 4.5, "mew": 0})


def _means(seeds: Seeds) -> list[tuple[float, float]]:
    by_place: dict[float, list[float]] = {}
    for place, value in (point for points in seeds.values() for point in points if is_known(point[1])):
        by_place.setdefault(place, []).append(value)
    return [(place, fmean(values)) for place, values in sorted(by_place.items())]


def _mean_text(arm: Arm, measure: Measure) -> str:
    name, known = arm_name(arm.params), is_known(arm.ci_low, arm.ci_high)
    if not is_known(arm.mean):
        return f"{name}: no mean"
    limits = f" ({measure.value(arm.ci_low)} to {measure.value(arm.ci_high)})" if known else ""
    return f"{name}, mean of {arm.n}: {measure.value(arm.mean)}{limits}"


def _points(name: str, seeds: Mapping[int, float], y: float, say: Callable[[float], str], most: int) -> list[Point]:
    """A point for every seed; of more than `most`, so many, evenly from the lowest to the highest."""
    ranked = sorted(seeds.items(), key=itemgetter(1))
    return _few([(value, y, f"{name}, seed {seed}: {say(value)}") for seed, value in ranked], most)


def _few(points: Sequence[Point], most: int) -> list[Point]:
    """At most so many of the points, evenly, the first and the last among them."""
    return [points[round(i)] for i in np.linspace(0, len(points) - 1, min(len(points), most))]


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Make a named row for each, from 0 on downwards."""
    axes.set_ylim(max(len(names), 1), 0)
    labels = [short(name, 40) for name in names]
    axes.set_yticks([y + 0.5 for y in range(len(names))], labels, color=LIGHT["ink"], fontsize=13)


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
    """Color, dash and symbol of each line, with a legend of them above."""
    styles = [{**_LINE, **style} for style, _ in zip(rcParams["axes.prop_cycle"], lines, strict=False)]
    if any(lines):
        handles = [Line2D([], [], **style) for style in styles]
        chart.figure.legend(handles, [short(name, 24) for name in lines], loc="outside upper left", ncols=3)
    return styles
