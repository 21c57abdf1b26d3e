"""Numbers and sentences of a report, the same in every format. Judges nothing and lays nothing out."""

import math
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

from mnist_ablate.errors import mask
from mnist_ablate.reports.report import Difference, ReachSetting, Report
from mnist_ablate.statistics.claim_verdict import ClaimVerdict
from mnist_ablate.statistics.claims.kind import kind_of
from mnist_ablate.statistics.controls import Check
from mnist_ablate.statistics.decision_rule import Finding
from mnist_ablate.statistics.evidence import MOST_SEEDS
from mnist_ablate.statistics.pairing import label
from mnist_ablate.sweep.claim import Claim
from mnist_ablate.text import counted, rate, value_name

if TYPE_CHECKING:
    from jinja2 import Environment  # where it is used, because commands that show no report do not need it

SIGNS = {"supported": "✓", "refuted": "✗", "equivalent": "≈", "inconclusive": "?"}


def number(value: float | None, unit: str) -> str:
    """A metric: shares in percent to two digits, anything else to four significant ones; a dash if there is none."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.2%}" if unit == "share" else f"{value:.4g}"


def effect(value: float, unit: str, digits: int = 2) -> str:
    """A difference with its sign and unit; of shares in percentage points. A dash if there is none."""
    if math.isnan(value):
        return "-"
    if unit == "ratio":
        return f"\N{MULTIPLICATION SIGN}{value:.3g}"
    if unit != "share":
        return f"{value + 0.0:+.4g}"
    return f"{round(100 * value, digits) + 0.0:+.{digits}f} pp"  # + 0.0: no -0


def minus(text: str) -> str:
    """Numbers with a minus sign as wide as a plus; hyphens in words stay."""
    return type(text)(re.sub(r"(?<!\w)-(?=[\d.])", "\N{MINUS SIGN}", text))  # what is escaped stays so


def is_known(*values: float) -> bool:
    """Whether all of them are numbers."""
    return all(map(math.isfinite, values))


def plain(name: str) -> str:
    """The name of a metric or setting in words: `test accuracy`."""
    return name.replace("_", " ")


def in_words(metric: str) -> str:
    """The same where there is room: `validation accuracy`."""
    return plain(metric).replace("val ", "validation ")


def listed(names: Sequence[str], most: int) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def interval(found: ClaimVerdict | Check | Difference) -> str:
    """The limits of a difference, or that they are unknown."""
    if not is_known(found.ci_low, found.ci_high):
        return "unknown"
    low, high = (effect(limit, found.unit, _digits(found)) for limit in (found.ci_low, found.ci_high))
    return f"{low.removesuffix(' pp')} to {high}"


def estimate(found: ClaimVerdict | Difference) -> str:
    """A difference with its limits, if they are known: `+0.24 pp (+0.12 to +0.37 pp)`; else with what collapsed."""
    limits = f" ({interval(found)})" if is_known(found.ci_low, found.ci_high) else ""
    if not limits and isinstance(found, ClaimVerdict) and found.has_collapses:
        most = max(found.collapses, key=lambda side: side.collapsed)
        limits = f" ({most.collapsed} of {most.n} collapsed)"
    return f"{effect(found.effect, found.unit)}{limits}"


def margin(claim: ClaimVerdict | Check) -> str:
    """The margin, without a sign."""
    return effect(claim.margin, claim.unit, _digits(claim)).lstrip("+")


def _digits(found: ClaimVerdict | Check | Difference) -> int:
    """As many as keep a limit that is not the margin from looking like it."""
    if isinstance(found, Difference):
        return 2
    sizes = {abs(value) for value in (found.ci_low, found.ci_high, found.margin) if is_known(value)}
    enough = (n for n in (2, 3) if len({f"{100 * size:.{n}f}" for size in sizes}) == len(sizes))
    return next(enough, 4)


def level(report: Report, claim: ClaimVerdict | None = None) -> str:
    """The confidence of each claim's interval, or of one's: all of them hold at once at level 1 - alpha."""
    found = claim.confidence if claim else 1 - report.alpha / max(len(report.claims), 1)
    return f"{100 * found:.3g}%"


def mark(report: Report) -> str:
    """What follows every claim of an exploratory sweep; empty for others."""
    return " (exploratory)" * report.is_exploratory


def sentence(claim: ClaimVerdict, report: Report) -> str:
    """Difference, interval, what it says of the margin, pairs, and what would decide an open claim."""
    if not claim.is_judged:
        return explanation(claim)
    nearest = f" ({claim.nearest})" if claim.parts else ""
    difference = f"{claim.measure[:1].upper()}{claim.measure[1:]}{nearest} {effect(claim.effect, claim.unit)}"
    if not is_known(claim.ci_low):
        return f"{difference}, no interval. {explanation(claim)}"
    called, look = "interval", ""
    if report.adaptive:
        called, look = "repeated interval", f", look {claim.look} of {len(report.adaptive.looks)}"
    says = f"its {level(report, claim)} {called}, {interval(claim)}, {_says(claim)}"
    numbers = f"{evidence(claim)}, p={claim.p_value:.3g}{look}"
    return f"{difference}; {says}; {numbers}. {collapsed(claim)}{_open(claim)}".rstrip()


def meanings(report: Report) -> str:
    """What the effects of its claims are, a sentence for each kind."""
    told = [kind_of(claim).glossary for claim in report.asked.claims]
    ratio = "With scale ratio: treatment divided by control." * any(
        claim.is_ratio and claim.kind != "spread" for claim in report.asked.claims
    )
    return " ".join(filter(None, (*dict.fromkeys(told), ratio)))


def found_in_words(asked: Claim, found: ClaimVerdict) -> str:
    """What was found of a claim, as its kind says it."""
    return kind_of(asked).sentence(asked, effect(found.effect, found.unit), found.nearest)


def evidence(claim: ClaimVerdict) -> str:
    """How many pairs there are, or how many results of each arm without pairs."""
    if claim.n_results is None:
        return counted(claim.n_pairs, "pair")
    return f"{' against '.join(f'{n:,}' for n in claim.n_results)} results without common seeds (Welch's interval)"


def caveats(claim: ClaimVerdict, report: Report) -> Iterator[str]:
    """What may explain a claim's difference besides, and was accepted, and what its reader must know of the results."""
    for audit in report.audits:
        if audit.name == claim.name:
            yield from (f"confounded by {each}, which was accepted" for each in audit.confounded if each.accepted)
            yield from audit.caveats
    yield from claim.notes


def explanation(claim: ClaimVerdict) -> str:
    """The same without the numbers that a table beside it gives, and without collapses where there were none."""
    by_counts = claim.finding in (Finding.COLLAPSES, Finding.COLLAPSES_AGAINST)
    if not claim.is_judged or (not is_known(claim.ci_low) and not by_counts):
        return f"{claim.reason[:1].upper()}{claim.reason[1:]}."
    says = f"The interval {_says(claim)}. " if is_known(claim.ci_low) else ""
    return f"{says}{collapsed(claim) * claim.has_collapses}{_open(claim)}".rstrip()


def _says(claim: ClaimVerdict) -> str:
    """What the interval says, and what a verdict adds to it."""
    by_interval = claim.finding not in (Finding.COLLAPSES, Finding.COLLAPSES_AGAINST)
    added = {"equivalent": ", too small to matter", "refuted": ", so the claim is refuted"}.get(claim.verdict, "")
    digits = _digits(claim)
    says = claim.interval_says(lambda value: effect(value, claim.unit, digits) if value else "0", "the margin of ")
    return says + added * by_interval


def collapsed(claim: ClaimVerdict) -> str:
    """How many trainings collapsed on each side, with the rates that so many seeds do not exclude."""
    if not claim.collapses or not all(side.n for side in claim.collapses):
        return ""
    if not claim.has_collapses:
        fewest = min(claim.collapses, key=lambda side: side.n)
        return f"No training of {fewest.n} a side collapsed: at most {rate(fewest.upper)} do. "
    return say("collapses", claim) + " "


def _open(claim: ClaimVerdict) -> str:
    """The seeds that would decide a claim that is open."""
    if claim.verdict != "inconclusive" or not claim.is_open:
        return ""
    many = f"Not even {MOST_SEEDS:,}" if claim.seeds_needed is None else f"About {claim.seeds_needed:,}"
    rest = [part.name for part in claim.parts if part.verdict != "supported"]
    still = f" Open: {listed(rest, 4)}." if rest else ""
    return f"{many} seeds would decide it at this mean and spread.{still}"


def settings_in_words(setting: ReachSetting) -> str:
    """What a setting of `across` changes: `epochs 10`; of the usual one, that it is that."""
    return ", ".join(f"{plain(name)} {value_name(value)}" for name, value in setting.changes.items()) or "as usual"


def left_out(claim: ClaimVerdict, most: int = 3) -> str:
    """The sides that kept seeds out, the first by name; empty if every pair is complete."""
    sides = [side.partition(": ") for side in claim.excluded]
    return f"Left out: {listed([f'{seed} ({fault})' for seed, _, fault in sides], most)}." if sides else ""


def alarms(report: Report) -> Iterator[str]:
    """What must be known before any verdict is read: controls that failed, a late question, damaged inputs."""
    negative, positive = report.negative_control, report.positive_control
    if negative and negative.alarm:
        yield say("negative_control_failed", report)
    if positive and positive.alarm:
        yield say("positive_control_failed", positive)
    if report.is_exploratory and report.claims:
        yield say("exploratory", report.preregistration)
    yield from report.asked.workload.input_alarms(report.fingerprints)


def remarks(report: Report) -> Iterator[str]:
    """What stands below the verdicts: what they generalize over, when the question was registered, quiet controls."""
    positive = report.positive_control
    yield report.generalizes_over
    if report.preregistration and report.claims and not report.is_exploratory:
        yield say("preregistered", report.preregistration)
    if report.adaptive:
        yield say("adaptive_seeds", report.adaptive, report.trials)
    yield from filter(None, [control(report)])
    if positive and not positive.missed:
        yield f"Positive control: what is known to hold was found: {', '.join(positive.claims)}."


def control(report: Report) -> str:
    """What the negative control came to; empty if there is none, or if it raised the alarm."""
    found = report.negative_control
    if not found or found.alarm:
        return ""
    return say("negative_control", report)


@cache
def templates() -> "Environment":
    """The templates of pages and texts. What stands in a page is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    made = Environment(
        loader=PackageLoader("mnist_ablate.reports"),
        extensions=["jinja2.ext.do"],
        autoescape=select_autoescape(["html.jinja"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(mask=mask, minus=minus)
    functions = (
        counted,
        effect,
        estimate,
        in_words,
        interval,
        is_known,
        label,
        level,
        margin,
        meanings,
        number,
        plain,
        rate,
        settings_in_words,
    )
    made.globals.update({each.__name__: each for each in functions})
    return made


def say(name: str, *given: object) -> str:
    """One of the texts in `texts.jinja`, on one line."""
    return " ".join(str(getattr(templates().get_template("texts.jinja").module, name)(*given)).split())
