"""A report as one HTML file that needs nothing else: no script, no font, no request; it opens offline."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_ablate.errors import mask
from mnist_ablate.reports import charts, drawing, sections, wording
from mnist_ablate.reports.report import RecordedSweep, Report
from mnist_ablate.reports.training_times import trained
from mnist_ablate.reports.wording import number, plain
from mnist_ablate.statistics.verdict import Arm
from mnist_ablate.sweep.sweep_file import reproduction
from mnist_ablate.text import arm_name, value_name
from mnist_ablate.trial import Params
from mnist_ablate.workloads.workload import Curves, Metric, Table, selection_score

if TYPE_CHECKING:
    from jinja2 import Template

MOST_FAILURES = 100


def html(report: Report, record: RecordedSweep) -> str:
    """The page: verdicts first, then what they rest on, then how to check it."""
    workload, arms = record.sweep.workload, charts.main_arms(report.arms, record.sweep, charts.MOST_ROWS)
    return template().render(
        charts=charts,
        drawing=drawing,
        sections=sections,
        wording=wording,
        report=report,
        record=record,
        workload=workload,
        arms=arms,
        settings=_settings(arms, record),
        learning=_learning(arms, record),
        tried=_best_tried(record),
        diagnostics=workload.diagnostic_sections({arm_name(arm.params): record.arm(arm.params) for arm in arms}),
        failures=_failures(record),
        shared=_shared_settings(record),
        again=reproduction(record.sweep, record.data_digest),
        trained=trained(entry.outcome for entry in record.every),
    )


def template() -> "Template":
    """What the page is made from, compiled once."""
    return wording.templates().get_template("report.html.jinja")


def write(report: Report, record: RecordedSweep, path: Path) -> Path:
    """Write the page to a file; folders on the way are made. Returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html(report, record), encoding="utf-8")
    return path


def _settings(arms: Sequence[Arm], record: RecordedSweep) -> Table | None:
    """The settings that differ between arms and are not told by their names; None if the names tell all."""
    settings = {arm_name(arm.params): own[0].trial.settings for arm in arms if (own := record.arm(arm.params))}
    told = {*record.sweep.nuisance, *(arms[0].params if arms else ())}
    every = dict.fromkeys(name for each in settings.values() for name in each)
    names = [name for name in every if name not in told and len({each[name] for each in settings.values()}) > 1]
    if record.sweep.design == "search":
        names = [*record.sweep.scientific, *record.sweep.nuisance]
    if not (names and settings):
        return None
    rows = tuple((arm, *(value_name(each[name]) for name in names)) for arm, each in settings.items())
    return Table(("arm", *map(plain, names)), rows, "Settings that differ", numbers_from=1 + len(names))


def _learning(arms: Sequence[Arm], record: RecordedSweep) -> Curves | None:
    """A metric epoch by epoch; None if no trial has two epochs."""
    about = _metric_of_epochs(record)
    metric = about.name
    points = {
        arm_name(arm.params): {
            entry.trial.seed: [(float(epoch.number), epoch.metrics[metric]) for epoch in epochs]
            for entry in record.arm(arm.params)
            if (epochs := [epoch for epoch in entry.outcome.epochs if metric in epoch.metrics])
        }
        for arm in arms
    }
    last = max((place for seeds in points.values() for seed in seeds.values() for place, _ in seed), default=0.0)
    if last <= 1.0:
        return None
    caption = "Thin lines: the seeds. Thick lines: their means, by epoch."
    return Curves(plain(metric), ("epoch 1", f"{last:g}"), points, caption, is_share=about.is_share)


def _metric_of_epochs(record: RecordedSweep) -> Metric:
    """What values are chosen by. Of own code that names nothing, the first metric that it reports of every step."""
    reported = (name for entry in record.entries for epoch in entry.outcome.epochs for name in epoch.metrics)
    return record.sweep.metric(record.sweep.workload.selection_metric or next(reported, ""))


def _best_tried(record: RecordedSweep) -> Table | None:
    """The best trials of a search, with what they tried."""
    if record.sweep.design != "search" or not record.tuning:
        return None
    metric, names = record.sweep.workload.selection_metric, [*record.sweep.scientific, *record.sweep.nuisance]
    workload, unit = record.sweep.workload, record.sweep.metric(metric).unit
    ranked = sorted(record.tuning, key=lambda entry: -selection_score(workload, entry.outcome.metrics))[:10]
    rows = []
    for place, entry in enumerate(ranked, 1):
        values = (value_name(entry.trial.settings[name]) for name in names)
        rows.append((str(place), *values, number(entry.outcome.metrics.get(metric), unit)))
    return Table(("place", *map(plain, names), plain(metric)), tuple(rows), numbers_from=1 + len(names))


def _failures(record: RecordedSweep) -> Table:
    """Every trial that diverged, failed or was lost, by arm and reason."""
    groups: dict[tuple[str, str, str], list[int]] = {}
    for entry in (each for arm in record.by_arm.values() for each in arm):
        if entry.outcome.status != "complete":
            reason = mask(entry.outcome.reason)[:300]
            groups.setdefault((arm_name(entry.params), entry.outcome.status, reason), []).append(entry.trial.seed)
    rows = tuple((arm, status, _in_words(seeds), reason) for (arm, status, reason), seeds in groups.items())
    rest = len(rows) - MOST_FAILURES
    more = f"There are {rest:,} more arms and reasons." if rest > 0 else ""
    return Table(("arm", "outcome", "seeds", "reason"), rows[:MOST_FAILURES], note=more, numbers_from=4)


def _in_words(seeds: Sequence[int]) -> str:
    """`0 to 4, 7`."""
    runs = [[seed for _, seed in run] for _, run in groupby(enumerate(sorted(seeds)), lambda each: each[1] - each[0])]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def _shared_settings(record: RecordedSweep) -> dict[str, str]:
    """The settings that all trials share; before any trial, those of the sweep."""
    settings: list[Params] = [entry.trial.settings for entry in record.entries]
    if not settings:
        return {name: str(value) for name, value in record.sweep.fixed.items()}
    used = record.sweep.workload.is_used
    return {
        name: str(value)
        for name, value in settings[0].items()
        if name not in record.sweep.columns and all(each[name] == value and used(name, each) for each in settings)
    }
