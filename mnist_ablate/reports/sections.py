"""The sections of a report, each made once: titles, texts, tables. The formats only render them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from mnist_ablate.reports import wording
from mnist_ablate.reports.report import ChosenValues, Report
from mnist_ablate.reports.wording import effect, is_known, number, plain
from mnist_ablate.statistics.anova import Effect
from mnist_ablate.statistics.effect_sizes import Size
from mnist_ablate.statistics.verdict import Arm, ClaimVerdict
from mnist_ablate.text import arm_name, counted, value_name
from mnist_ablate.workloads.workload import Section, Table, default_workload

MOST_EFFECTS = 15
"""Of the table in a report; the JSON has all. Four factors have so many."""
EXCEPTIONS = "not complete"
"""The head of the column that is there only if an arm has such trials."""
_FEW_COLUMNS = 6
_MOST_ARMS = 4
_IMPORTANCE_NOTE = (
    "PED-ANOVA: how far the best tenth of the trials differs from all trials in the values of each factor, as a share"
    " of the sum, with intervals from a bootstrap over the trials. It says what the best trials agree on, in the part"
    " of the space that the search visited. It is not the size of an effect."
)


def arm_table(report: Report, arms: Sequence[Arm]) -> Table:
    """Every factor, the seeds, the mean and its interval; the trials that did not complete, if there are any."""
    factors = tuple(arms[0].params) if arms else ()
    noted = [wording.exceptions(arm.outcomes) for arm in arms]
    last = 1 if any(noted) else 0
    heads = (*factors, "n", "mean", f"{100 * (1 - report.alpha):.3g}% interval", *[EXCEPTIONS][:last])
    rows = tuple((*_arm_cells(arm, report.metric), *[note][:last]) for arm, note in zip(arms, noted, strict=True))
    return Table(heads, rows, f"{plain(report.metric)} by arm", numbers_from=len(factors))


def _arm_cells(arm: Arm, metric: str) -> tuple[str, ...]:
    low, high = (number(metric, limit) for limit in (arm.ci_low, arm.ci_high))
    limits = f"{low} to {high}" if is_known(arm.ci_low) else "unknown"
    return (*(one_line(str(value)) for value in arm.params.values()), str(arm.n), number(metric, arm.mean), limits)


def one_line(text: str) -> str:
    """The text on one line."""
    return " ".join(text.split())


def inputs(report: Report) -> Iterator[Section]:
    """What the trials' inputs are like; nothing if that is unknown."""
    if report.fingerprints:
        yield default_workload().input_section(report.fingerprints)


def selection(report: Report) -> Iterator[Section]:
    """What was chosen on validation data, and what that changed; only what the sweep chooses."""
    yield from _as_written(report)
    yield from _path(report)
    yield from _tuning(report)
    yield from _search(report)


def _as_written(report: Report) -> Iterator[Section]:
    """Each claim's verdict on the recipe as written and on the tuned one."""
    found = report.as_written
    if not found or not report.claims:
        return
    written = ", ".join(f"{plain(name)} {' or '.join(map(value_name, each))}" for name, each in found.values.items())
    pairs = list(zip(found.claims, report.claims, strict=True))
    rows = tuple((tuned.name, _verdict(before), _verdict(tuned)) for before, tuned in pairs)
    differ = sum(before.verdict != tuned.verdict for before, tuned in pairs)
    counts, missing = found.trials.by_status, found.trials.missing
    lacking = [f"{counts[status]:,} {status}" for status in ("failed", "lost") if counts[status]]
    lacking += [f"{missing:,} not run yet"] if missing else []
    trials = f" Trials as written: {', '.join(lacking)}." if lacking else ""
    note = (
        f"{differ} of {len(rows)} verdicts differ. Both are judged on the same seeds at the same level, each set of"
        f" claims as if it were alone.{trials}"
    )
    yield Section(
        "as-written",
        "The recipe as written, and tuned",
        tables=(Table(("claim", f"as written ({written})", "tuned for each arm"), rows, numbers_from=3),),
        notes=(note,),
    )


def _verdict(claim: ClaimVerdict) -> str:
    if not is_known(claim.effect):
        return claim.verdict
    limits = f" ({wording.interval(claim)})" if is_known(claim.ci_low) else ""
    return f"{claim.verdict}, {effect(claim.metric, claim.effect)}{limits}"


def _path(report: Report) -> Iterator[Section]:
    """Each change along an ablation path and its gain."""
    found = report.path
    if not found:
        return
    rows = tuple(
        (
            str(place),
            f"{plain(step.factor)}: {value_name(step.before)} to {value_name(step.after)}",
            _choice(step.scores, step.factor, found.chosen_by),
            wording.gained(step) if step.n_pairs else "not confirmed yet",
        )
        for place, step in enumerate(found.steps, 1)
    )
    left = f" {found.left} more to choose." if found.left else ""
    total = f" From end to end: {wording.gained(found.whole)}." if found.whole.n_pairs else ""
    heads = ("step", "change", "chosen among", f"gain, {100 * found.level:.3g}% interval")
    note = (
        "In each round every remaining change was trained at every seed, and the one with the best mean"
        f" {_in_words(found.chosen_by)} was made (Fawcett and Hoos 2016). Gains are those of the arms on fresh seeds,"
        f" each over the one before. The intervals hold for all steps at once.{left}{total} In another order, the same"
        " changes would have other gains."
    )
    yield Section(
        "path",
        "The path from the baseline to the target",
        tables=(Table(heads, rows, numbers_from=4),),
        notes=(note,),
    )


def _choice(scores: Mapping[str, float], factor: str, metric: str) -> str:
    if not scores:
        return "the last one"
    others = [f"{plain(name)} {number(metric, score)}" for name, score in scores.items() if name != factor]
    return f"{number(metric, scores[factor])}; {', '.join(others)}"


def _in_words(metric: str) -> str:
    return plain(metric).replace("val ", "validation ")


def _tuning(report: Report) -> Iterator[Section]:
    """The values chosen for each arm, with a warning for each that lies at the edge of what was tried."""
    found = report.tuning
    if not found:
        return
    names = list(dict.fromkeys(name for arm in found.arms for name in arm.values))
    rows = tuple(
        (
            arm_name(arm.params),
            *(_value(arm, name) for name in names),
            "unknown" if arm.score is None else number(found.metric, arm.score),
            f"{arm.tried:,}",
        )
        for arm in found.arms
    )
    heads = ("arm", *map(plain, names), plain(found.metric), "tried")
    lines = [
        f"{row[0]}: {', '.join(map('{} {}'.format, heads[1:-2], row[1:-2]))}; {heads[-2]} {row[-2]}, {row[-1]} tried"
        for row in rows
    ]
    ends = ", ".join(f"{n:,} {status}" for status, n in found.outcomes.items())
    yield Section(
        "tuning",
        f"Chosen by {_in_words(found.metric)}",
        tables=(Table(heads, rows),) if rows else (),
        lines=tuple(_edges(found.arms)) if rows else ("Not all of the tuning trials have run yet.",),
        notes=(f"{found.trials:,} tuning trials with seeds that no verdict uses: {ends}.",),
        short={"": [*lines, *_edges(found.arms)]} if rows and len(heads) > _FEW_COLUMNS else {},
    )


def _value(arm: ChosenValues, name: str) -> str:
    end = arm.edges.get(name)
    return value_name(arm.values[name]) + (f" ({end} tried)" if end else "")


def _edges(arms: Sequence[ChosenValues]) -> Iterator[str]:
    """A warning for each factor whose chosen value is at an end of what was tried, with the arms it happened in."""
    found: dict[tuple[str, Literal["lowest", "highest"]], list[str]] = {}
    for arm in arms:
        for name, end in arm.edges.items():
            found.setdefault((name, end), []).append(f"{arm_name(arm.params)} ({value_name(arm.values[name])})")
    for (name, end), named in found.items():
        yield (
            f"At the edge: the best {plain(name)} is the {end} that was tried for {wording.listed(named, _MOST_ARMS)}."
            " A better one may lie outside: widen its range, or try more values."
        )


def _search(report: Report) -> Iterator[Section]:
    """What a search gained, as it looked and as it is, and what its best trials agree on."""
    found = report.search
    if not found or not (found.gain or found.importances.factors):
        return
    intro, tables = "", list[Table]()
    if gain := found.gain:
        selected, pairs = default_workload().selection_metric, gain.confirmed[0].n_pairs
        parts = [f"{plain(each.metric)} {wording.gained(each)}" for each in gain.confirmed]
        intro = (
            f"Gain over the baseline: the best of {gain.tried:,} trials had {effect(selected, gain.seen)} in"
            f" {_in_words(selected)}. That number flatters it, because the best of many is also the luckiest. With the"
            f" same settings on fresh seeds, where nothing is chosen any more: {', '.join(parts)} ({pairs} pairs, 95%"
            " intervals)."
        )
    if factors := found.importances.factors:
        rows = tuple(
            (plain(each.factor), f"{each.share:.0%}", f"{each.low:.0%} to {each.high:.0%}") for each in factors
        )
        heads = ("factor", "importance", f"{found.importances.level:.0%} interval")
        tables.append(Table(heads, rows, "Importance of the searched factors", note=_IMPORTANCE_NOTE))
    yield Section("search", "What the search found", intro=intro, tables=tuple(tables))


def effects(report: Report) -> Iterator[Section]:
    """The sizes of the claims' differences, and the analysis of variance of a factorial sweep."""
    tables = [*_size_table(report), *_effect_table(report)]
    if tables:
        yield Section("effects", "Effects", tables=tuple(tables))


def _size_table(report: Report) -> Iterator[Table]:
    """A row for each claim whose size is known."""
    rows = tuple(
        (found.name, _size(found.standardized, ".2f"), _share(found.improvement))
        for found in report.effect_sizes
        if is_known(found.standardized.value)
    )
    note = (
        f"Brackets: {wording.level(report)} intervals. g_z: the mean of the paired differences over their standard"
        " deviation, corrected for few pairs. It is relative to the spread between seeds: a tiny difference that hardly"
        " varies is large in it. Better: the share of seeds, with its score interval. No verdict depends on either."
    )
    if rows:
        heads = ("claim", "standardized (g_z)", "treatment better, of pairs")
        yield Table(heads, rows, "Size of the differences", note=note)


def _effect_table(report: Report) -> Iterator[Table]:
    """A row for each effect, the largest first where there are more than fit, then the seeds."""
    found = report.factorial_effects
    if not found or not is_known(found.effects[0].f):
        return
    shown, rest = found.effects, len(found.effects) - MOST_EFFECTS
    if rest > 0:
        shown = tuple(sorted(shown, key=lambda each: -each.f)[:MOST_EFFECTS])
    more = f" {rest} smaller effects are in the JSON." if rest > 0 else ""
    lacking = f" Left out: {counted(found.left_out, 'seed')} that not every arm has." if found.left_out else ""
    heads = ("effect", "df", "F", "p", "partial omega\N{SUPERSCRIPT TWO}")
    note = (
        f"Analysis of variance with {found.seeds} seeds as blocks; the error has {found.error.freedom} degrees of"
        f" freedom. p has Holm's correction over {len(found.effects)} effects.{lacking}{more} The F tests assume that"
        " all arms vary alike, which an arm that collapses breaks. The verdicts compare pairs and do not use this"
        " table."
    )
    title = f"Main effects and interactions on {plain(found.metric)}"
    yield Table(heads, tuple(map(_effect_cells, (*shown, found.block))), title, note=note)


def _effect_cells(found: Effect) -> tuple[str, ...]:
    p_value = found.p_holm if is_known(found.p_holm) else found.p_value
    numbers = (str(found.freedom), f"{found.f:.3g}", wording.p_value(p_value), f"{found.omega:.2f}")
    return (" x ".join(found.factors), *numbers)


def _size(found: Size, form: str) -> str:
    if not is_known(found.ci_low, found.ci_high):
        return f"{found.value:{form}}"
    return f"{found.value:{form}} [{found.ci_low:{form}}, {found.ci_high:{form}}]"


def _share(found: Size | None) -> str:
    return _size(found, ".0%") if found else "of a difference of two: none"
