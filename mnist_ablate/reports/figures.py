"""What the charts of a report show: its claims, arms and trials as the inputs of `charts`. Draws nothing itself."""

from collections.abc import Mapping, Sequence

from mnist_ablate.errors import SweepError
from mnist_ablate.reports import charts, wording
from mnist_ablate.reports.chart_axes import Measure
from mnist_ablate.reports.chart_files import Chart
from mnist_ablate.reports.chart_marks import MOST_LINES
from mnist_ablate.reports.report import RecordedSweep, Report
from mnist_ablate.reports.wording import is_known, plain
from mnist_ablate.statistics.verdict import Arm, ClaimVerdict
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.text import arm_name, value_name
from mnist_ablate.trial import Scalar
from mnist_ablate.workloads.workload import Curves, Ranges, metric_named

MOST_PLACES = 12
_DRAWN = ("complete", "diverged")


def measure(metric: str) -> Measure:
    """What an axis of a metric measures."""
    return Measure(plain(metric), metric_named(metric).is_share)


def claims(report: Report, metric: str) -> Chart:
    """Every claim about a metric: seeds as points, mean and interval above them, the margin as a band behind."""
    return charts.claims([_interval(each) for each in report.claims if each.metric == metric], measure(metric))


def _interval(claim: ClaimVerdict) -> charts.Interval:
    known = wording.unit(claim.metric)
    limits = f" ({wording.interval(claim).removesuffix(known)})" if is_known(claim.ci_low) else ""
    text = wording.minus(f"{wording.effect(claim.metric, claim.effect)}{limits}")
    low, high = ((limit if is_known(limit) else None) for limit in (claim.ci_low, claim.ci_high))
    mean = claim.effect if is_known(claim.effect) else None
    return charts.Interval(claim.name, claim.verdict, mean, low, high, claim.margin, claim.differences, text)


def arms(report: Report, shown: Sequence[Arm], record: RecordedSweep) -> Chart:
    """Arms with every seed's result, their mean and its interval; a diverged trial is a cross."""
    return charts.arms([_arm(arm, record, report.metric) for arm in shown], measure(report.metric))


def _arm(arm: Arm, record: RecordedSweep | None, metric: str, name: str = "") -> charts.Arm:
    found: dict[str, dict[int, float]] = {status: {} for status in _DRAWN}
    for entry in record.arm(arm.params) if record else ():
        if entry.outcome.status in _DRAWN and metric in entry.outcome.metrics:
            found[entry.outcome.status][entry.trial.seed] = entry.outcome.metrics[metric]
    low, high = (arm.ci_low, arm.ci_high) if is_known(arm.ci_low) else (None, None)
    mean = arm.mean if is_known(arm.mean) else None
    return charts.Arm(name or arm_name(arm.params), found["complete"], mean, low, high, found["diverged"])


def interaction(report: Report, record: RecordedSweep) -> Chart | None:
    """The means of two crossed factors; None unless there are two, with few enough values to be told apart."""
    shown = [arm for arm in report.arms if is_known(arm.mean)]
    names = list(shown[0].params) if shown else []
    if len(names) != 2:  # noqa: PLR2004 - a picture has two dimensions
        return None
    values = {name: list(dict.fromkeys(value_name(arm.params[name]) for arm in shown)) for name in names}
    across, factor = sorted(names, key=lambda name: -len(values[name]))
    if not 1 < len(values[factor]) <= MOST_LINES or len(values[across]) > MOST_PLACES:
        return None
    lines: dict[str, dict[str, charts.Arm]] = {f"{factor} {value}": {} for value in values[factor]}
    for arm in shown:
        place = value_name(arm.params[across])
        lines[f"{factor} {value_name(arm.params[factor])}"][place] = _arm(arm, record, report.metric)
    crossed = sum(len(cells) > 1 for cells in lines.values()) > 1
    return charts.interaction(lines, across, measure(report.metric)) if crossed else None


def curves(shown: Curves, arms: Sequence[Arm]) -> Chart:
    """Small panels: those arms share one that differ in the factor with the fewest values."""
    factor = _line_factor(arms)
    drawn = [
        charts.Curve(name, panel, line, shown.points[name])
        for arm in arms
        if (name := arm_name(arm.params)) in shown.points
        for panel, line in [_place(arm.params, factor)]
    ]
    return charts.curves(drawn, Measure(shown.measure, shown.is_share), shown.ends, from_zero_to=shown.at_least)


def _place(params: Mapping[str, Scalar], factor: str | None) -> tuple[str, str]:
    """The panel of an arm, and its line in it."""
    if factor is None:
        return arm_name(params), ""
    rest = {name: value for name, value in params.items() if name != factor}
    return arm_name(rest), f"{factor} {value_name(params[factor])}"


def _line_factor(arms: Sequence[Arm]) -> str | None:
    """The factor with the fewest values, at least two, if there is another factor to make panels of."""
    values = {name: {str(arm.params[name]) for arm in arms} for name in (arms[0].params if arms else ())}
    varied = {name: len(found) for name, found in values.items() if len(found) > 1}
    if len(varied) < 2:  # noqa: PLR2004 - one for the lines, one for the panels
        return None
    fewest = min(reversed(varied), key=varied.__getitem__)
    return fewest if varied[fewest] <= MOST_LINES else None


def ranges(shown: Ranges) -> Chart:
    """A row for each kind of input."""
    return charts.input_ranges([charts.InputRange(name, *numbers) for name, numbers in shown.rows.items()])


def main_chart(report: Report, record: RecordedSweep) -> Chart:
    """The one chart of an SVG or PNG file: claims about the first claim's metric; arms if there are no claims.

    Raises SweepError if nothing is recorded that could be drawn.
    """
    if report.claims:
        return claims(report, report.metric)
    if not report.arms:
        raise SweepError(f"{record.sweep.name}: no trial is recorded yet: run the sweep first")
    return arms(report, main_arms(report.arms, record.sweep, charts.MOST_ROWS), record)


def main_arms(arms: Sequence[Arm], sweep: Sweep, most: int) -> Sequence[Arm]:
    """At most so many arms, in their order: those that claims compare, then the best and the worst."""
    if len(arms) <= most:
        return arms
    sides = [{**claim.where, **side} for claim in sweep.claims for side in (claim.treatment, claim.control or {})]
    named = [i for i, arm in enumerate(arms) if any(side and side.items() <= arm.params.items() for side in sides)]
    ranked = sorted((i for i, arm in enumerate(arms) if is_known(arm.mean)), key=lambda i: -arms[i].mean)
    ends = [i for pair in zip(ranked, reversed(ranked), strict=True) for i in pair]
    chosen = list(dict.fromkeys([*named[: most - 2], *ends, *range(len(arms))]))[:most]
    return [arms[i] for i in sorted(chosen)]
