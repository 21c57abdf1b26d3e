"""Numbers and sentences of a report, the same in every format. Judges nothing and lays nothing out."""

import re
from collections.abc import Iterator, Mapping, Sequence

from mnist_ablate.reports.report import Difference, Report
from mnist_ablate.statistics.controls import Check
from mnist_ablate.statistics.paired_tests import fewest_seeds
from mnist_ablate.statistics.verdict import MOST_SEEDS, ClaimVerdict
from mnist_ablate.sweep.sweep import Claim
from mnist_ablate.text import counted
from mnist_ablate.trial import Scalar
from mnist_ablate.workloads.workload import default_workload, metric_named

MEANINGS = {
    "supported": "The interval shows what is claimed: an effect beyond the margin, or that there is none.",
    "refuted": "The interval excludes what is claimed, or the effect goes the other way.",
    "equivalent": "The whole interval lies within the margin: the difference is too small to matter.",
    "inconclusive": "The interval includes the margin, or too few pairs support it. More seeds are needed.",
}
"""What each verdict says; also the order in which verdicts are counted."""
_MOST_DIGITS = 4
_MANY = 3


def number(metric: str, value: float | None) -> str:
    """A metric: shares in percent to two digits, anything else to four significant ones; a dash if there is none."""
    if value is None or value != value:  # noqa: PLR0124 - nan
        return "-"
    return f"{value:.2%}" if metric_named(metric).is_share else f"{value:.4g}"


def unit(metric: str) -> str:
    """What a difference is measured in, ready to follow its number: percentage points, or nothing."""
    return " pp" if metric_named(metric).is_share else ""


def effect(metric: str, value: float | None, digits: int = 2) -> str:
    """A difference with its sign and unit; of shares in percentage points."""
    return "-" if value is None or value != value else f"{signed(metric, value, digits)}{unit(metric)}"  # noqa: PLR0124


def signed(metric: str, value: float, digits: int = 2) -> str:
    """The same without the unit."""
    if not metric_named(metric).is_share:
        return f"{value + 0.0:+.4g}"
    return f"{round(100 * value, digits) + 0.0:+.{digits}f}"  # + 0.0: no -0


def minus(text: str) -> str:
    """Numbers with a minus sign as wide as a plus; hyphens in words stay."""
    return re.sub(r"(?<!\w)-(?=[\d.])", "\N{MINUS SIGN}", text)


def limits(metric: str, low: float, high: float, digits: int = 2) -> str:
    """An interval, or that it is unknown."""
    if not is_known(low, high):
        return "unknown"
    return f"{signed(metric, low, digits)} to {effect(metric, high, digits)}"


def is_known(*values: float) -> bool:
    """Whether all of them are numbers."""
    return all(abs(value) < float("inf") for value in values)


def plain(name: str) -> str:
    """The name of a metric or setting in words: `test accuracy`."""
    return name.replace("_", " ")


def listed(names: Sequence[str], most: int) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def interval(claim: ClaimVerdict | Check) -> str:
    """The limits of a claim's difference, or that they are unknown."""
    return limits(claim.metric, claim.ci_low, claim.ci_high, _digits(claim))


def estimate(claim: ClaimVerdict) -> str:
    """The difference with its limits: `+0.24 pp (+0.12 to +0.37)`."""
    limits = f" ({interval(claim).removesuffix(unit(claim.metric))})" if is_known(claim.ci_low) else ""
    return minus(f"{effect(claim.metric, claim.effect)}{limits}")


def margin(claim: ClaimVerdict | Check) -> str:
    """The margin, without a sign."""
    return effect(claim.metric, claim.margin, _digits(claim)).lstrip("+")


def _digits(claim: ClaimVerdict | Check) -> int:
    """As many as keep a limit that is not the margin from looking like it."""
    sizes = {abs(value) for value in (claim.ci_low, claim.ci_high, claim.margin) if is_known(value)}
    for digits in range(2, _MOST_DIGITS):
        if len({f"{100 * size:.{digits}f}" for size in sizes}) == len(sizes):
            return digits
    return _MOST_DIGITS


def level(report: Report) -> str:
    """The confidence of each claim's interval."""
    return f"{100 * report.level:.3g}%"


def p_value(value: float) -> str:
    """Three significant digits, small ones as a power of ten."""
    return f"{value:.3g}"


def mark(report: Report) -> str:
    """What follows every claim of an exploratory sweep; empty for others."""
    return " (exploratory)" if report.is_exploratory else ""


def sentence(claim: ClaimVerdict, report: Report) -> str:
    """Difference, interval, what it says of the margin, pairs, and what would decide an open claim."""
    if not claim.is_judged:
        return explanation(claim, report)
    difference = f"Difference {effect(claim.metric, claim.effect)}"
    if not is_known(claim.ci_low):
        return f"{difference}, no interval: {claim.reason}."
    called = "repeated interval" if report.adaptive else "interval"
    look = f", look {claim.look} of {len(report.adaptive.looks)}" if report.adaptive else ""
    pairs = f"{counted(claim.n_pairs, 'pair')}, p={p_value(claim.p_value)}{look}"
    return (
        f"{difference}; its {level(report)} {called}, {interval(claim)}, {_says(claim)}; {pairs}.{_open(claim, report)}"
    )


def explanation(claim: ClaimVerdict, report: Report) -> str:
    """The same without the numbers that a table beside it gives."""
    if not claim.is_judged or not is_known(claim.ci_low):
        return f"{claim.reason[:1].upper()}{claim.reason[1:]}."
    return f"The interval {_says(claim)}.{_open(claim, report)}"


def _says(claim: ClaimVerdict) -> str:
    """What the interval says, and what a verdict adds to it."""
    added = {"equivalent": ", too small to matter", "refuted": ", so the claim is refuted"}.get(claim.verdict, "")
    digits = _digits(claim)
    says = claim.interval_says(lambda value: effect(claim.metric, value, digits) if value else "0", "the margin of ")
    return says + added


def _open(claim: ClaimVerdict, report: Report) -> str:
    """What keeps a claim undecided besides its interval, and the seeds that would decide it."""
    if claim.verdict != "inconclusive":
        return ""
    share = report.adaptive.looks[(claim.look or 1) - 1].share if report.adaptive else 1.0
    k, now, unsure = len(report.claims), report.alpha * share, ""
    if claim.is_unbacked:
        unsure = f" But p is above {report.alpha:.3g}."
        if claim.n_pairs < fewest_seeds(k, now):
            unsure += f" {claim.n_pairs} pairs cannot give less; {fewest_seeds(k, now)} can."
    many = f"Not even {MOST_SEEDS:,}" if claim.seeds_needed is None else f"About {claim.seeds_needed:,}"
    return f"{unsure} {many} seeds would decide it at this mean and spread."


def finding(claim: Claim, found: ClaimVerdict) -> str:
    """What was found, as one would say it."""
    if not is_known(found.effect):
        return "There is nothing to compare yet."
    metric, value, treatment = plain(claim.metric), found.effect, _words(claim.treatment)
    context = f", for {_words(claim.where)}" if claim.where else ""
    instead = f" in place of {_words(claim.control)}" if claim.control else ""
    size = f"{abs(100 * value):.2f} percentage points" if unit(claim.metric) else f"{abs(value):.4g}"
    if claim.control is None and claim.versus is None:
        side = "above" if value >= 0 else "below"
        return f"With {treatment}{context}, {metric} was {size} {side} {number(claim.metric, claim.reference)}."
    side = "higher" if value >= 0 else "lower"
    if claim.versus is None:
        return f"With {treatment}{instead}{context}, {metric} was {size} {side} on average."
    here = f" with {_words(claim.where)}" if claim.where else ""
    return f"The effect of {treatment}{instead} on {metric} was {size} {side}{here} than with {_words(claim.versus)}."


def _words(params: Mapping[str, Scalar]) -> str:
    """Factor values as one says them: words as they are, other values with their factor."""
    return ", ".join(value if isinstance(value, str) else f"{plain(name)} {value}" for name, value in params.items())


def doubt(claim: ClaimVerdict) -> str:
    """That the pairs do not decide it; empty if they do, or if there are none."""
    if claim.verdict != "inconclusive" or not claim.n_pairs:
        return ""
    return f"{counted(claim.n_pairs, 'pair')} {'are' if claim.n_pairs > 1 else 'is'} not enough to tell."


def left_out(claim: ClaimVerdict, most: int = _MANY) -> str:
    """The sides that kept seeds out, the first by name; empty if every pair is complete."""
    sides = [side.partition(": ") for side in claim.excluded]
    return f"Left out: {listed([f'{seed} ({fault})' for seed, _, fault in sides], most)}." if sides else ""


def glossary(report: Report) -> str:
    """What the words of the sentences mean."""
    claims = len(report.claims)
    over = [*([f"{claims} claims"] if claims > 1 else []), *(["the looks"] if report.adaptive else [])]
    flips = f"the exact sign-flip test{', corrected for ' * bool(over)}{' and '.join(over)}"
    pp = " pp: percentage points." if any(unit(claim.metric) for claim in report.claims) else ""
    return f"Difference: treatment minus control at the same seed, averaged over the seeds.{pp} p: of {flips}."


def tally(report: Report) -> str:
    """How many claims met which verdict: `4 claims: 3 supported, 1 refuted`."""
    verdicts = [claim.verdict for claim in report.claims]
    counts = ", ".join(f"{verdicts.count(name)} {name}" for name in MEANINGS if name in verdicts)
    return f"{counted(len(verdicts), 'claim')}: {counts}"


def trials(report: Report) -> str:
    """How many trials were planned and what became of them."""
    parts = [f"{n:,} {status}" for status, n in report.trials.by_status.items() if n]
    parts += [f"{report.trials.missing:,} not run yet"] if report.trials.missing and parts else []
    return f"{counted(report.trials.planned, 'trial')} planned: {', '.join(parts) or 'none recorded'}"


def exceptions(outcomes: Mapping[str, int]) -> str:
    """The outcomes of an arm that are not complete: `2 diverged, 1 lost`."""
    return ", ".join(f"{n} {status}" for status, n in outcomes.items() if n and status != "complete")


def alarms(report: Report) -> Iterator[str]:
    """What must be known before any verdict is read: controls that failed, a late question, damaged inputs."""
    control, positive = report.negative_control, report.positive_control
    if control and control.alarm:
        found = "; ".join(_checked(each, report) for each in control.checks if each.alarm)
        yield (
            f"Negative control failed: the baseline differs from itself with other seeds by more than the margin:"
            f" {found}. Do not rely on the verdicts before this is explained. By chance alone this happens in at most"
            f" {report.alpha:.0%} of sweeps."
        )
    if positive and positive.alarm:
        named = "; ".join(f"{name} came out {verdict}" for name, verdict in positive.missed.items())
        yield (
            f"Positive control failed: what is known to hold was not found: {named}."
            " Do not rely on the other verdicts before this is explained."
        )
    if report.is_exploratory and report.preregistration and report.claims:
        reasons = "; ".join(report.preregistration.reasons)
        yield (
            f"Exploratory verdicts: {reasons}. They can suggest a claim."
            " Fresh seeds or another data set must confirm it."
        )
    yield from default_workload().input_alarms(report.fingerprints)


def remarks(report: Report) -> Iterator[str]:
    """What stands below the verdicts: when the question was registered, how seeds were added, quiet controls."""
    registered, positive = report.preregistration, report.positive_control
    if registered and report.claims and not report.is_exploratory:
        yield (
            f"Preregistered {registered.registered}: question, plan, claims and margins were recorded before the first"
            f" trial, digest {registered.digest[:12]}."
        )
    yield from filter(None, (_saving(report), control(report)))
    if positive and not positive.missed:
        yield f"Positive control: what is known to hold was found: {', '.join(positive.claims)}."


def _saving(report: Report) -> str:
    """How seeds were added and what that saved; empty for a sweep with a fixed number of seeds."""
    if not report.adaptive:
        return ""
    first, *middle, last = (str(look.seeds) for look in report.adaptive.looks)
    more = f"{', '.join(middle)} and {last}" if middle else last
    text = (
        f"Adaptive seeds: every arm has {first}. The arms of open claims get more, up to {more}. The looks share the"
        " error rate, so each interval holds wherever its claim stopped."
    )
    saved, fixed = report.trials.saved or 0, report.trials.planned
    if not saved:
        return text
    of_all = f"of the {fixed:,} trials of {report.adaptive.max} seeds for every arm"
    return f"{text} Saved: {saved:,} {of_all} ({saved / fixed:.0%})."


def control(report: Report) -> str:
    """What the negative control came to; empty if there is none, or if it raised the alarm."""
    found = report.negative_control
    if not found or found.alarm:
        return ""
    if not found.outcomes:
        return f"Negative control: not run yet ({counted(found.planned, 'trial')} of the baseline with other seeds)."
    counts = {status: found.outcomes.get(status, 0) for status in ("failed", "lost")}
    counts["not run yet"] = found.planned - sum(found.outcomes.values())
    lacking = ", ".join(f"{n} {what}" for what, n in counts.items() if n)
    checks = "; ".join(_checked(each, report) for each in found.checks)
    none = "no effect beyond the margin"
    if not all(each.is_within for each in found.checks):
        none = "no effect was shown, but one beyond the margin is not excluded,"
    text = f"Negative control: {none} between the baseline and itself with other seeds: {checks}"
    return f"{text} ({lacking})." if lacking else f"{text}."


def _checked(check: Check, report: Report) -> str:
    if not is_known(check.effect):
        return f"{plain(check.metric)} has no pair"
    within = f"{level(report)} interval {interval(check)}" if is_known(check.ci_low) else "interval unknown"
    difference = f"{plain(check.metric)} {effect(check.metric, check.effect)}"
    return f"{difference}, {within}, margin {margin(check)}, {counted(check.n_pairs, 'pair')}"


def gained(difference: Difference) -> str:
    """A difference with its interval, if that is known."""
    metric, low, high = difference.metric, difference.ci_low, difference.ci_high
    known = f" ({limits(metric, low, high)})" if is_known(low, high) else ""
    return effect(metric, difference.effect) + known
