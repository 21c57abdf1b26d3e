"""The sections of a report, each made once: titles, texts, tables. The formats only render them."""

from collections.abc import Iterator, Sequence

from mnist_ablate.reports import report as parts
from mnist_ablate.reports import wording
from mnist_ablate.reports.report import Report
from mnist_ablate.reports.wording import is_known, number, plain, say
from mnist_ablate.statistics.anova import FactorialEffects
from mnist_ablate.statistics.claim_verdict import ClaimVerdict
from mnist_ablate.statistics.effect_sizes import Size
from mnist_ablate.statistics.verdict import Arm
from mnist_ablate.text import arm_name, value_name
from mnist_ablate.workloads.workload import Section, Table

MOST_EFFECTS = 15  # of the table in a report; the JSON has all. Four factors have so many
EXCEPTIONS = "not complete"  # the head of the column that is there only if an arm has such trials
_FEW_COLUMNS = 6


def arm_table(report: Report, arms: Sequence[Arm]) -> Table:
    """Every factor, the seeds, the mean and its interval; the trials that did not complete, if there are any."""
    factors = tuple(arms[0].params) if arms else ()
    rows, noted, unit = [], [], report.unit(report.metric)
    for arm in arms:
        low, high = (number(limit, unit) for limit in (arm.ci_low, arm.ci_high))
        limits = f"{low} to {high}" if is_known(arm.ci_low) else "unknown"
        values = (one_line(str(value)) for value in arm.params.values())
        rows.append((*values, str(arm.n), number(arm.mean, unit), limits))
        noted.append(", ".join(f"{n} {status}" for status, n in arm.outcomes.items() if n and status != "complete"))
    heads = (*factors, "n", "mean", f"{100 * (1 - report.alpha):.3g}% interval")
    if any(noted):
        heads, rows = (*heads, EXCEPTIONS), [(*row, note) for row, note in zip(rows, noted, strict=True)]
    return Table(heads, tuple(rows), f"{plain(report.metric)} by arm", numbers_from=len(factors))


def one_line(text: str) -> str:
    """The text on one line."""
    return " ".join(text.split())


def inputs(report: Report) -> Iterator[Section]:
    """What the trials' inputs are like; nothing if that is unknown."""
    if report.fingerprints:
        yield report.asked.workload.input_section(report.fingerprints)


def reach(report: Report) -> Iterator[Section]:
    """In which settings each claim came to which verdict; nothing if claims are asked in one setting."""
    if report.reach:
        rows = tuple((found.name, say("reach", found)) for found in report.reach)
        usual = ", ".join(
            f"{plain(name)} {value_name(value)}" for name, value in report.reach[0].settings[0].settings.items()
        )
        note = f"As usual: {usual}. The error rate is shared by all claims in all settings."
        table = Table(("claim", "verdicts"), rows, numbers_from=2, note=note)
        yield Section("reach", "How far the verdicts reach", tables=(table,))


def selection(report: Report) -> Iterator[Section]:
    """What was chosen on validation data, and what that changed; only what the sweep chooses."""
    if report.as_written and report.claims:
        yield _as_written(report.as_written, report.claims)
    if report.path:
        yield _path(report.path, report)
    if report.tuning:
        yield _tuning(report.tuning, report)
    if report.search and (report.search.gain or report.search.importances.factors):
        yield _search(report.search, report)


def _as_written(found: parts.AsWritten, claims: Sequence[ClaimVerdict]) -> Section:
    """Each claim's verdict on the recipe as written and on the tuned one."""
    written = ", ".join(f"{plain(name)} {' or '.join(map(value_name, each))}" for name, each in found.values.items())
    pairs = list(zip(found.claims, claims, strict=True))
    differ = sum(before.verdict != tuned.verdict for before, tuned in pairs)
    note = say("as_written", differ, len(pairs), found.trials)
    rows = tuple((tuned.name, _verdict(before), _verdict(tuned)) for before, tuned in pairs)
    table = Table(("claim", f"as written ({written})", "tuned for each arm"), rows, numbers_from=3)
    return Section("as-written", "The recipe as written, and tuned", tables=(table,), notes=(note,))


def _verdict(claim: ClaimVerdict) -> str:
    return f"{claim.verdict}, {wording.estimate(claim)}" if is_known(claim.effect) else claim.verdict


def _path(found: parts.Path, report: Report) -> Section:
    """Each change along an ablation path and its gain."""
    rows = []
    for place, step in enumerate(found.steps, 1):
        change = f"{plain(step.factor)}: {value_name(step.before)} to {value_name(step.after)}"
        scores = {name: number(score, report.unit(found.chosen_by)) for name, score in step.scores.items()}
        others = (f"{plain(name)} {score}" for name, score in scores.items() if name != step.factor)
        among = f"{scores[step.factor]}; {', '.join(others)}" if scores else "the last one"
        rows.append((str(place), change, among, wording.estimate(step) if step.n_pairs else "not confirmed yet"))
    heads = ("step", "change", "chosen among", f"gain, {100 * found.level:.3g}% interval")
    table = Table(heads, tuple(rows), numbers_from=4)
    return Section("path", "The path from the baseline to the target", tables=(table,), notes=(say("path", found),))


def _tuning(found: parts.Tuning, report: Report) -> Section:
    """The values chosen for each arm, with a warning for each that lies at the edge of what was tried."""
    names = list(dict.fromkeys(name for arm in found.arms for name in arm.values))
    heads = ("arm", *map(plain, names), plain(found.metric), "tried")
    rows, lines, warned = [], [], dict[tuple[str, str], list[str]]()
    for arm in found.arms:
        ends = {name: f" ({end} tried)" for name, end in arm.edges.items()}
        values = [value_name(arm.values[name]) + ends.get(name, "") for name in names]
        score = "unknown" if arm.score is None else number(arm.score, report.unit(found.metric))
        rows.append((arm_name(arm.params), *values, score, f"{arm.tried:,}"))
        chosen = ", ".join(map("{} {}".format, heads[1:-2], values))
        lines.append(f"{arm_name(arm.params)}: {chosen}; {heads[-2]} {score}, {arm.tried:,} tried")
        for edge in arm.edges.items():
            warned.setdefault(edge, []).append(f"{arm_name(arm.params)} ({value_name(arm.values[edge[0]])})")
    edges = [say("edge", name, end, wording.listed(arms, 4)) for (name, end), arms in warned.items()]
    outcomes = ", ".join(f"{n:,} {status}" for status, n in found.outcomes.items())
    return Section(
        "tuning",
        f"Chosen by {wording.in_words(found.metric)}",
        tables=(Table(heads, tuple(rows)),) if rows else (),
        lines=tuple(edges) if rows else ("Not all of the tuning trials have run yet.",),
        notes=(f"{found.trials:,} tuning trials with seeds that no verdict uses: {outcomes}.",),
        short={"": [*lines, *edges]} if rows and len(heads) > _FEW_COLUMNS else {},
    )


def _search(found: parts.Search, report: Report) -> Section:
    """What a search gained, as it looked and as it is, and what its best trials agree on."""
    factors, heads = found.importances.factors, ("factor", "importance", f"{found.importances.level:.0%} interval")
    rows = tuple((plain(f.factor), f"{f.share:.0%}", f"{f.low:.0%} to {f.high:.0%}") for f in factors)
    table = Table(heads, rows, "Importance of the searched factors", note=say("importances"))
    intro = say("search_gain", found.gain, report.unit(found.gain.chosen_by)) if found.gain else ""
    return Section("search", "What the search found", intro=intro, tables=(table,) if rows else ())


def effects(report: Report) -> Iterator[Section]:
    """The sizes of the claims' differences, and the analysis of variance of a factorial sweep."""
    none, tables, found = "of a difference of two: none", [], report.factorial_effects
    rows = tuple(
        (each.name, _size(each.standardized, ".2f"), _size(each.improvement, ".0%") if each.improvement else none)
        for each in report.effect_sizes
        if is_known(each.standardized.value)
    )
    if rows:
        heads = ("claim", "standardized (g_z)", "treatment better, of pairs")
        tables.append(Table(heads, rows, "Size of the differences", note=say("sizes", report)))
    if found and is_known(found.effects[0].f):
        tables.append(_effect_table(found))
    if tables:
        yield Section("effects", "Effects", tables=tuple(tables))


def _size(found: Size, form: str) -> str:
    limits = f" [{found.ci_low:{form}}, {found.ci_high:{form}}]" if is_known(found.ci_low, found.ci_high) else ""
    return f"{found.value:{form}}{limits}"


def _effect_table(found: FactorialEffects) -> Table:
    """A row for each effect, the largest first where there are more than fit, then the seeds."""
    shown = found.effects
    if len(shown) > MOST_EFFECTS:
        shown = tuple(sorted(shown, key=lambda each: -each.f)[:MOST_EFFECTS])
    title, note = f"Main effects and interactions on {plain(found.metric)}", say("anova", found, MOST_EFFECTS)
    rows = []
    for each in (*shown, found.block):
        p_value = each.p_holm if is_known(each.p_holm) else each.p_value
        numbers = (str(each.freedom), f"{each.f:.3g}", f"{p_value:.3g}", f"{each.omega:.2f}")
        rows.append((" x ".join(each.factors), *numbers))
    heads = ("effect", "df", "F", "p", "partial omega\N{SUPERSCRIPT TWO}")
    return Table(heads, tuple(rows), title, note=note)
