"""A report as one HTML file that needs nothing else: no script, no font, no request; it opens offline."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path

import jinja2

from mnist_ablate.errors import mask
from mnist_ablate.reports import chart_files, charts, figures, sections, wording
from mnist_ablate.reports.chart_files import Chart
from mnist_ablate.reports.report import RecordedSweep, Report
from mnist_ablate.reports.wording import minus, plain
from mnist_ablate.statistics.verdict import Arm
from mnist_ablate.sweep.sweep_file import reproduction
from mnist_ablate.text import arm_name, counted, value_name
from mnist_ablate.trial import Params
from mnist_ablate.workloads.workload import Curves, Section, Table, default_workload

MOST_ROWS = 1000
"""Of the table of arms: with them the file stays below 2 MB."""
MOST_FAILURES = 100
MOST_TRIED = 10
_MOST_LEFT_OUT = 20
_LONGEST_REASON = 300
_CONFIDENCE = 0.95
_CLAIMS = (
    "Points: one for each seed, treatment minus control. Symbol and bar: their mean and its {} interval."
    " Shaded: differences smaller than the margin. Arrow: the bar goes on."
)
_ARMS = (
    "Points: one for each seed; crosses: diverged. Diamond and bar: the mean and its {} interval. Arrow: the bar goes"
    " on. The verdicts do not compare these bars. They compare pairs of trials with the same seed."
)
_INTERACTION = (
    "Symbols: means with their intervals. Where lines are far from parallel, one factor changes what the other does."
)
_CURVES = "Thin lines: the seeds. Thick lines: their means, by epoch."
_VERIFY = (
    "Or compute the verdicts again from the recorded trials, without training and without TensorFlow. MLflow keeps the"
    " bundle beside this page. The bundle's digest is a tag of that run."
)
_FAILURES = (
    "A diverged trial counts with the metric that it reached, at worst that of guessing. A failed or lost trial leaves"
    " its pair out."
)


@dataclass(frozen=True)
class Figure:
    """A chart with its caption."""

    chart: Chart
    caption: str


@dataclass(frozen=True)
class Code:
    """Commands or a file, after a sentence; `folded` is the line that unfolds them."""

    text: str
    before: str = ""
    folded: str = ""


@dataclass(frozen=True)
class PageSection(Section):
    """A section of the page, with what only a page shows."""

    figures: tuple[Figure, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    folded: Table | None = None
    codes: tuple[Code, ...] = ()


def html(report: Report, record: RecordedSweep) -> str:
    """The page: verdicts first, then what they rest on, then how to check it."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mnist_ablate.reports"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(minus=minus, svg=chart_files.to_svg)
    return environment.get_template("report.html.jinja").render(
        report=report,
        sweep=record.sweep,
        alarms=[*wording.alarms(report), *_warnings(report)],
        counts=Counter(claim.verdict for claim in report.claims),
        size=_size(report, record),
        claims=list(zip(record.sweep.claims, report.claims, strict=True)),
        sections=list(_sections(report, record)),
        signs=charts.SIGNS,
        chart_style=chart_files.STYLE,
        wording=wording,
    )


def write(report: Report, record: RecordedSweep, path: Path) -> Path:
    """Write the page to a file; folders on the way are made. Returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html(report, record), encoding="utf-8")
    return path


def _size(report: Report, record: RecordedSweep) -> str:
    sweep = record.sweep
    seeds = f"{sweep.min_seeds:,} to " * bool(sweep.looks) + counted(sweep.max_seeds, "seed")
    return f"{counted(len(report.arms), 'arm')}, {seeds} each. {wording.trials(report)}."


def _warnings(report: Report) -> Iterator[str]:
    counts = report.trials
    if counts.missing:
        yield f"Preliminary: {counts.missing:,} of {counts.planned:,} planned trials have not run yet."
    broken = [f"{n:,} {status}" for status, n in (("failed", counts.failed), ("lost", counts.lost)) if n]
    if broken:
        yield f"{' and '.join(broken)}: their pairs are left out of the comparisons and named below."


def _sections(report: Report, record: RecordedSweep) -> Iterator[Section]:
    """What follows the verdicts, in order."""
    arms = figures.main_arms(report.arms, record.sweep, charts.MOST_ROWS)
    few = figures.main_arms(arms, record.sweep, charts.MOST_PANELS)
    yield from sections.inputs(report)
    chosen = {section.name: section for section in sections.selection(report)}
    yield from (section for name, section in chosen.items() if name == "as-written")
    if report.claims:
        yield PageSection("differences", "Differences and margins", figures=tuple(_claim_charts(report)))
    yield from _settings(arms, record)
    yield _arms(report, arms, record)
    yield from sections.effects(report)
    if (drawn := figures.interaction(report, record)) is not None:
        yield PageSection("interaction", "Two factors together", figures=(Figure(drawn, _INTERACTION),))
    yield from _drawn(_learning(arms, record), few, report)
    yield from (section for name, section in chosen.items() if name != "as-written")
    yield from _best_tried(record)
    trials = {arm_name(arm.params): record.arm(arm.params) for arm in arms}
    for section in default_workload().diagnostic_sections(trials):
        yield from _drawn([section], few, report)
    yield _failures(report, record)
    yield _caveats(report, record)
    yield _reproduction(record)
    yield _provenance(record)


def _drawn(found: Iterable[Section], arms: Sequence[Arm], report: Report) -> Iterator[Section]:
    """Sections with their charts drawn; curves of a few arms at most."""
    for section in found:
        drawn = [
            Figure(
                figures.curves(each, arms), each.caption + _part_of(arms, report.arms, "arms") + _fewer(each, len(arms))
            )
            for each in section.charts
        ]
        own = {each.name: getattr(section, each.name) for each in fields(Section)}
        yield PageSection(**own, figures=tuple(drawn))


def _claim_charts(report: Report) -> Iterator[Figure]:
    for metric in dict.fromkeys(claim.metric for claim in report.claims):
        claims = [claim for claim in report.claims if claim.metric == metric]
        shown = claims[: charts.MOST_ROWS]
        note = _part_of(shown, claims, "claims") + _thinned(len(shown), (claim.n_pairs for claim in shown))
        yield Figure(figures.claims(report, metric), _CLAIMS.format(wording.level(report)) + note)


def _part_of(shown: Sequence[object], every: Sequence[object], what: str) -> str:
    return f" Shown: {len(shown)} of {len(every):,} {what}." if len(shown) < len(every) else ""


def _thinned(rows: int, points: Iterable[int]) -> str:
    each = charts.MOST_POINTS // max(rows, 1)
    return f" Of more than {each} points in a row, {each} are drawn." if max(points, default=0) > each else ""


def _fewer(shown: Curves, arms: int) -> str:
    each, most = charts.MOST_SEEDS // max(arms, 1), max(map(len, shown.points.values()), default=0)
    return f" Of more than {each} thin lines of an arm, {each} are drawn; the means are of all." if most > each else ""


def _settings(arms: Sequence[Arm], record: RecordedSweep) -> Iterator[Section]:
    """The settings that differ between arms and are not told by their names; none if the names tell all."""
    settings = {arm_name(arm.params): own[0].trial.settings for arm in arms if (own := record.arm(arm.params))}
    told = {*record.sweep.nuisance, *(arms[0].params if arms else ())}
    every = dict.fromkeys(name for each in settings.values() for name in each)
    names = [name for name in every if name not in told and len({each[name] for each in settings.values()}) > 1]
    if record.sweep.design == "search":
        names = [*record.sweep.scientific, *record.sweep.nuisance]
    if names and settings:
        rows = tuple((arm, *(value_name(each[name]) for name in names)) for arm, each in settings.items())
        table = Table(("arm", *map(plain, names)), rows, "Settings that differ", numbers_from=1 + len(names))
        yield Section("settings", "What the arms are", tables=(table,))


def _arms(report: Report, shown: Sequence[Arm], record: RecordedSweep) -> Section:
    title, rest = "Every arm", len(report.arms) - MOST_ROWS
    if not report.arms:
        return Section("arms", title, intro="No trial has been recorded yet.")
    note = _part_of(shown, report.arms, "arms") + _thinned(len(shown), (arm.n for arm in shown))
    caption = _ARMS.format(f"{1 - report.alpha:.0%}") + note
    more = f"There are {rest:,} more arms. mnist-ablate report --format json has all of them." if rest > 0 else ""
    table = sections.arm_table(report, report.arms[:MOST_ROWS])
    numbers = Table(table.heads, table.rows, table.caption, more, table.numbers_from)
    return PageSection("arms", title, figures=(Figure(figures.arms(report, shown, record), caption),), folded=numbers)


def _learning(arms: Sequence[Arm], record: RecordedSweep) -> Iterator[Section]:
    """The metric that values are chosen by, epoch by epoch; none if no trial has two epochs."""
    metric = default_workload().selection_metric
    points = {
        arm_name(arm.params): {
            entry.trial.seed: [
                (float(epoch.number), epoch.metrics[metric])
                for epoch in entry.outcome.epochs
                if metric in epoch.metrics
            ]
            for entry in record.arm(arm.params)
            if entry.outcome.epochs
        }
        for arm in arms
    }
    last = max((place for seeds in points.values() for seed in seeds.values() for place, _ in seed), default=0.0)
    if last > 1.0:
        measure, ends = figures.measure(metric), ("epoch 1", f"{last:g}")
        curves = Curves(measure.name, ends, points, _CURVES, is_share=measure.is_fraction)
        yield Section("curves", "Learning curves", charts=(curves,))


def _best_tried(record: RecordedSweep) -> Iterator[Section]:
    """The best trials of a search, with what they tried."""
    if record.sweep.design != "search" or not record.tuning:
        return
    metric, names = default_workload().selection_metric, [*record.sweep.scientific, *record.sweep.nuisance]
    ranked = sorted(record.tuning, key=lambda entry: -entry.outcome.metrics.get(metric, -1.0))[:MOST_TRIED]
    rows = tuple(
        (
            str(place),
            *(value_name(entry.trial.settings[name]) for name in names),
            wording.number(metric, entry.outcome.metrics.get(metric)),
        )
        for place, entry in enumerate(ranked, 1)
    )
    heads = ("place", *map(plain, names), plain(metric))
    title = f"The best {len(rows)} that were tried"
    intro = (
        "Each was trained with a seed that no verdict uses. What counts is how the winner does on fresh seeds, above."
    )
    yield Section("tried", title, intro=intro, tables=(Table(heads, rows, numbers_from=1 + len(names)),))


def _failures(report: Report, record: RecordedSweep) -> Section:
    """Every trial that diverged, failed or was lost, by arm and reason, and the pairs left out for them."""
    groups: dict[tuple[str, str, str], list[int]] = {}
    for entry in (each for arm in record.by_arm.values() for each in arm):
        if entry.outcome.status != "complete":
            reason = mask(entry.outcome.reason)[:_LONGEST_REASON]
            groups.setdefault((arm_name(entry.params), entry.outcome.status, reason), []).append(entry.trial.seed)
    if not groups:
        return Section("failures", "What went wrong", intro="Nothing: every recorded trial completed.")
    rows = tuple((arm, status, seeds_in_words(seeds), reason) for (arm, status, reason), seeds in groups.items())
    rest = len(rows) - MOST_FAILURES
    more = f"There are {rest:,} more arms and reasons. " if rest > 0 else ""
    table = Table(("arm", "outcome", "seeds", "reason"), rows[:MOST_FAILURES], note=more + _FAILURES, numbers_from=4)
    left = [(claim.name, wording.left_out(claim, _MOST_LEFT_OUT)) for claim in report.claims]
    lines = tuple(f"{name}: {text}" for name, text in left if text)
    return Section("failures", "What went wrong", tables=(table,), lines=lines)


def seeds_in_words(seeds: Sequence[int]) -> str:
    """`0 to 4, 7`."""
    runs: list[list[int]] = []
    for seed in sorted(seeds):
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def _caveats(report: Report, record: RecordedSweep) -> Section:
    """What was held fixed, what the method assumes, and what so many seeds can miss."""
    n = record.sweep.min_seeds
    none = f"none of whose {n} seeds collapsed" if n > 1 else "whose one seed did not collapse"
    missed = 1 - (1 - _CONFIDENCE) ** (1 / n)
    rare = (
        f"Rare collapses can go unseen: an arm {none} may still collapse in up to {missed:.0%} of trainings"
        f" ({_CONFIDENCE:.0%} confidence). {default_workload().seeds_vary}"
    )
    return PageSection(
        "caveats",
        "Caveats",
        intro="The verdicts hold for these settings and this data set. What every arm had in common:",
        facts=_shared_settings(record),
        lines=(*([_method(report)] if report.claims else []), rare),
    )


def _method(report: Report) -> str:
    claims = len(report.claims)
    together = f", so that all {claims} hold at once at {1 - report.alpha:.0%}" if claims > 1 else ""
    holm = " with Holm's correction" if claims > 1 else ""
    return (
        f"Each claim is judged by the {wording.level(report)} t interval of its differences between trials with the"
        f" same seed{together}. It assumes that the seeds are independent and that their differences are close to"
        f" normal. An exact sign-flip test{holm} must also support an effect. It assumes only that, without an effect,"
        " each difference would be as likely to have the other sign."
    )


def _shared_settings(record: RecordedSweep) -> dict[str, str]:
    """The settings that all trials share; before any trial, those of the sweep."""
    settings: list[Params] = [entry.trial.settings for entry in record.entries]
    if not settings:
        return {name: str(value) for name, value in record.sweep.fixed.items()}
    used = default_workload().is_used
    return {
        name: str(value)
        for name, value in settings[0].items()
        if name not in record.sweep.factors and all(each[name] == value and used(name, each) for each in settings)
    }


def _reproduction(record: RecordedSweep) -> Section:
    """The command, with the file it needs unless it is a shipped one, and how to check the verdicts without it."""
    (command, text), name = reproduction(record.sweep, record.data_digest), record.sweep.name
    file = [Code(text, folded=f"with this file, saved as {name}.yaml")] if text else []
    verify = f"mnist-ablate report {name} --format bundle --output {name}.zip\nmnist-ablate verify {name}.zip"
    same = "A trial with the same settings, seed, data and versions gives the same numbers."
    codes = (Code(command, same), *file, Code(verify, _VERIFY))
    return PageSection("reproduce", "Run it again", codes=codes)


def _provenance(record: RecordedSweep) -> Section:
    """Digests, times, versions."""
    workload = default_workload()
    data = f" ({workload.shipped_name})" if record.data_digest == workload.shipped_digest else ""
    rows = {
        "sweep": record.sweep.name,
        "digest of the sweep": record.sweep.digest,
        "registered, before the first trial": record.registered,
        "trained": _trained(record),
        "data digest": f"{record.data_digest}{data}",
        "trainer": f"version {workload.version}",
        **{name.removeprefix("version."): value for name, value in record.provenance.items() if name != "data_digest"},
    }
    cells = tuple((name, mask(value)) for name, value in rows.items() if value)
    table = Table(("what", "value"), cells, note="The versions are those that wrote this page.", numbers_from=2)
    return Section("provenance", "Provenance", tables=(table,))


def _trained(record: RecordedSweep) -> str:
    every = (*record.entries, *record.tuning, *record.control)
    outcomes = [entry.outcome for entry in every if entry.outcome.started_ms]
    if not outcomes:
        return ""
    first = min(outcome.started_ms for outcome in outcomes)
    last = max(outcome.started_ms + 1000 * outcome.seconds for outcome in outcomes)
    minutes = sum(outcome.seconds for outcome in outcomes) / 60
    return f"{_time(first)} to {_time(last)}, {minutes:,.1f} minutes of training in {len(outcomes):,} trials"


def _time(ms: float) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
