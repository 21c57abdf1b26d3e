"""What the charts of a report show: its claims, arms and trials as the inputs of `charts`. Draws nothing itself."""

from collections.abc import Sequence

from mnist_ablate.errors import SweepError
from mnist_ablate.reports import charts
from mnist_ablate.reports.chart_axes import Measure
from mnist_ablate.reports.chart_files import Chart
from mnist_ablate.reports.report import RecordedSweep, Report
from mnist_ablate.reports.wording import is_known, plain
from mnist_ablate.statistics.verdict import Arm
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.text import arm_name, value_name
from mnist_ablate.workloads.workload import Curves, metric_named

MOST_PLACES = 12


def measure(metric: str) -> Measure:
    """What an axis of a metric measures."""
    return Measure(plain(metric), metric_named(metric).is_share)


def claims(report: Report, metric: str) -> Chart:
    """Every claim about a metric: seeds as points, mean and interval above them, the margin as a band behind."""
    return charts.claims([each for each in report.claims if each.metric == metric], measure(metric))


def arms(report: Report, shown: Sequence[Arm], record: RecordedSweep) -> Chart:
    """Arms with every seed's result, their mean and its interval; a diverged trial is a cross."""
    return charts.arms([_arm(arm, record, report.metric) for arm in shown], measure(report.metric))


def _arm(arm: Arm, record: RecordedSweep, metric: str) -> charts.Arm:
    seeds, diverged = (
        {entry.trial.seed: entry.outcome.metrics[metric] for entry in found if metric in entry.outcome.metrics}
        for status in ("complete", "diverged")
        for found in [[entry for entry in record.arm(arm.params) if entry.outcome.status == status]]
    )
    return charts.Arm(arm_name(arm.params), seeds, arm.mean, arm.ci_low, arm.ci_high, diverged)


def interaction(report: Report, record: RecordedSweep) -> Chart | None:
    """The means of two crossed factors; None unless there are two, with few enough values to be told apart."""
    shown = [arm for arm in report.arms if is_known(arm.mean)]
    factor = _line_factor(shown)
    if factor is None or len(shown[0].params) != 2:  # noqa: PLR2004 - a picture has two dimensions
        return None
    (across,) = shown[0].params.keys() - {factor}
    lines: dict[str, dict[str, charts.Arm]] = {}
    for arm in shown:
        cells = lines.setdefault(f"{factor} {value_name(arm.params[factor])}", {})
        cells[value_name(arm.params[across])] = _arm(arm, record, report.metric)
    is_crossed = sum(len(cells) > 1 for cells in lines.values()) > 1
    is_wide = len({arm.params[across] for arm in shown}) > MOST_PLACES
    return charts.interaction(lines, across, measure(report.metric)) if is_crossed and not is_wide else None


def curves(shown: Curves, arms: Sequence[Arm]) -> Chart:
    """Small panels: those arms share one that differ in the factor with the fewest values."""
    factor = _line_factor(arms)
    drawn = []
    for params in (arm.params for arm in arms if arm_name(arm.params) in shown.points):
        panel = arm_name({name: value for name, value in params.items() if name != factor})
        line = "" if factor is None else f"{factor} {value_name(params[factor])}"
        drawn.append(charts.Curve(arm_name(params), panel, line, shown.points[arm_name(params)]))
    return charts.curves(drawn, Measure(shown.measure, shown.is_share), shown.ends, from_zero_to=shown.at_least)


def _line_factor(arms: Sequence[Arm]) -> str | None:
    """The factor with the fewest values, at least two, if there is another factor to make panels or places of."""
    values = {name: len({str(arm.params[name]) for arm in arms}) for name in (arms[0].params if arms else ())}
    varied = [name for name, count in values.items() if count > 1]
    fewest = min(reversed(varied), key=values.__getitem__, default="")
    return fewest if len(varied) > 1 and values[fewest] <= charts.MOST_LINES else None


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
