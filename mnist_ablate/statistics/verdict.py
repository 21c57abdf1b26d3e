"""From rows and claims to verdicts, each with its reason; `paired_tests` has the statistics, `pairing` the pairs."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from mnist_ablate.statistics.paired_tests import (
    Floats,
    Interval,
    can_decide,
    equal_interval,
    fewest_seeds,
    holm,
    sign_flip_p_value,
    smallest_effect,
    t_interval,
    t_quantile,
)
from mnist_ablate.statistics.pairing import Pairs, by_arm, pairs, unusable
from mnist_ablate.sweep.adaptive_schedule import SINGLE_LOOK, Look
from mnist_ablate.sweep.sweep import Claim, Direction
from mnist_ablate.trial import Row, Scalar

__all__ = ["ALPHA", "Arm", "ClaimVerdict", "arms", "can_decide", "fewest_seeds", "judge", "smallest_effect"]

ALPHA = 0.05
MOST_SEEDS = 10_000
"""More seeds than this are not worth naming: the effect sits on the margin."""

Verdict = Literal["supported", "equivalent", "refuted", "inconclusive"]
_SIGN: dict[Direction, int] = {"lower": -1, "higher": 1, "not_lower": 1, "not_higher": -1, "same": 1}


class Finding(StrEnum):
    """What was found about a claim, in more detail than its verdict.

    SUPPORTED to OPEN are what an interval says. RULED_OUT, REVERSED and BEYOND are three ways to be refuted: an effect
    as large as claimed is excluded, the effect has the other sign, there is an effect that the claim denies.
    UNKNOWN: there is no interval. NOT_JUDGED: no number of seeds would help.
    """

    SUPPORTED = "supported"
    EQUIVALENT = "equivalent"
    RULED_OUT = "ruled out"
    REVERSED = "reversed"
    BEYOND = "beyond"
    OPEN = "open"
    UNKNOWN = "unknown"
    NOT_JUDGED = "not judged"


_VERDICTS: dict[Finding, Verdict] = {
    Finding.SUPPORTED: "supported",
    Finding.EQUIVALENT: "equivalent",
    Finding.RULED_OUT: "refuted",
    Finding.REVERSED: "refuted",
    Finding.BEYOND: "refuted",
}
_NEED_P_VALUE = (Finding.SUPPORTED, Finding.BEYOND)


@dataclass(frozen=True)
class Arm:
    """An arm over its seeds: the mean of the metric, its t interval (infinite if unknown), and how its trials ended."""

    params: Mapping[str, Scalar]
    n: int
    mean: float
    ci_low: float
    ci_high: float
    outcomes: Mapping[str, int]


@dataclass(frozen=True)
class ClaimVerdict:
    """What the rows say of one claim. `effect` and its interval are treatment minus control, whatever is claimed.

    `p_value` is the sign-flip p-value with Holm's correction over all claims, `p_raw` the one without it.
    `effect` is nan without a pair. The interval is infinite where the spread is unknown.
    `seeds_needed` is None if the claim is decided, or if no number up to 10,000 would decide it.
    In an adaptive sweep `look` is the number of the look that decided, or the last one. Every number is of the seeds
    that this look read. The interval and `p_raw` are corrected for the looks.
    JSON leaves out `finding`, `direction`, and `rounding`, which is what float64 can have added to a difference.
    """

    name: str
    statement: str
    metric: str
    verdict: Verdict
    effect: float
    ci_low: float
    ci_high: float
    p_value: float
    p_raw: float
    n_pairs: int
    margin: float
    reason: str
    seeds_needed: int | None
    excluded: tuple[str, ...]
    differences: Mapping[int, float]
    rounding: Annotated[float, Field(exclude=True)]
    finding: Annotated[Finding, Field(exclude=True)]
    direction: Annotated[Direction, Field(exclude=True)]
    look: Annotated[int | None, Field(exclude_if=lambda look: look is None)] = None

    @property
    def is_judged(self) -> bool:
        """Whether more seeds could decide the claim, if it is not decided."""
        return self.finding is not Finding.NOT_JUDGED

    @property
    def is_unbacked(self) -> bool:
        """Whether the interval shows what would decide the claim, and the sign-flip test does not."""
        return self.verdict == "inconclusive" and self.finding in _NEED_P_VALUE

    def interval_says(self, say: Callable[[float], str], named: str = "") -> str:
        """What the interval says, as a predicate: `lies wholly below -0.002`.

        `say` writes a difference; `named` is put before a bound that is the margin.
        """
        downward = self.direction in ("lower", "not_lower")
        outward, inward = ("below", "above") if downward else ("above", "below")
        named = named if self.margin else ""
        bound = f"{named}{say((-self.margin if downward else self.margin) + 0.0)}"  # + 0.0: no -0
        both = f"±{say(self.margin).removeprefix('+')}"
        if self.direction == "same":
            return {
                Finding.SUPPORTED: f"lies wholly within {named}{both}",
                Finding.BEYOND: f"lies wholly outside {named}{both}",
            }.get(self.finding, f"reaches across {named or 'a margin of '}{both}")
        ruled_out = f"rules out a difference {outward} {bound}"
        beyond = f"lies wholly {outward} {bound}"
        return {
            Finding.SUPPORTED: beyond if self.direction in ("lower", "higher") else ruled_out,
            Finding.BEYOND: beyond,
            Finding.EQUIVALENT: f"lies wholly within {named}{both}",
            Finding.RULED_OUT: ruled_out,
            Finding.REVERSED: f"lies wholly {inward} 0: the effect goes the other way",
        }.get(self.finding, f"includes {'' if named else 'the margin, '}{bound}")


@dataclass(frozen=True)
class _Estimate:
    """The numbers behind one verdict; `rounding` is how far float64 sums can be off at a limit.

    `span` is where differences can lie, if the interval follows from that and not from the spread.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float
    p_raw: float
    rounding: float
    span: tuple[float, float] | None

    def limits(self, n: int, alpha: float) -> tuple[float, float]:
        """The limits of the interval of n pairs with this mean and spread."""
        if self.span:
            return equal_interval(self.mean, n, alpha, self.span)
        half = t_quantile(n, alpha) * self.sd / math.sqrt(n)
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class _Family:
    """Claims that are judged together share one error rate. The looks at a claim share its part of it."""

    n_claims: int
    alpha: float
    look: Look

    @property
    def each(self) -> float:
        """The error rate of a claim, over all of its looks."""
        return self.alpha / max(self.n_claims, 1)

    @property
    def now(self) -> float:
        """The error rate of a claim at this look."""
        return self.each * self.look.share

    @property
    def flips(self) -> float:
        """The error rate of the sign-flip tests of all claims at this look."""
        return self.alpha * self.look.share


def judge(
    rows: Sequence[Row], claims: Sequence[Claim], alpha: float = ALPHA, looks: Sequence[Look] = ()
) -> tuple[ClaimVerdict, ...]:
    """One verdict for each claim, in order. In an adaptive sweep the first of its `looks` that decides gives it.

    A look is taken once all of its seeds are there. The first one is taken with the seeds that are there.
    Raises SweepError if an arm has two rows with one seed.
    """
    arm_rows = by_arm(rows)
    verdicts: dict[int, ClaimVerdict] = {}
    p_raw = [1.0] * len(claims)
    open_ = list(range(len(claims)))
    for look in looks or SINGLE_LOOK:
        found = {i: pairs(arm_rows, claims[i], look.seeds) for i in open_}
        open_ = [i for i in open_ if look.number == 1 or found[i].seeds == look.seeds]
        family = _Family(len(claims), alpha, look)
        estimates = {i: _estimate(claims[i], found[i], family) for i in open_}
        for i, estimate in estimates.items():
            p_raw[i] = min(p_raw[i], estimate.p_raw)
        p_values = holm(p_raw)
        for i in open_:
            estimate = replace(estimates[i], p_raw=p_raw[i])
            verdicts[i] = _conclude(claims[i], found[i], estimate, p_values[i], family)
        open_ = [i for i in open_ if verdicts[i].verdict == "inconclusive" and not found[i].problem]
    return tuple(verdicts[i] for i in range(len(claims)))


def arms(rows: Sequence[Row], metric: str, alpha: float = ALPHA) -> tuple[Arm, ...]:
    """The arms in the order first seen. A row counts in n and mean if it ended with a finite `metric`."""
    return tuple(_arm(each.params, list(each.by_seed.values()), metric, alpha) for each in by_arm(rows))


def _arm(params: Mapping[str, Scalar], rows: Sequence[Row], metric: str, alpha: float) -> Arm:
    values = [row.metrics[metric] for row in rows if not unusable(row, metric)]
    mean, _, low, high = t_interval(values, alpha)
    return Arm(params, len(values), mean, low, high, dict(Counter(row.status for row in rows)))


def _nulls(claim: Claim) -> tuple[float, ...]:
    """The values that signs are flipped about: zero for an effect, the margins for the lack of one."""
    if claim.direction == "same":
        return (-claim.margin, claim.margin)
    return (0.0,) if claim.direction in ("lower", "higher") else (-_SIGN[claim.direction] * claim.margin,)


def interval(claim: Claim, found: Pairs, alpha: float) -> Interval:
    """The t interval of the differences; for equal differences the one of `equal_interval`."""
    values = _values(found)
    usual = t_interval(values, alpha, found.rounding(claim.margin))
    span = _span(claim, found)
    return usual if span is None else Interval(usual.mean, 0.0, *equal_interval(usual.mean, values.size, alpha, span))


def _values(found: Pairs) -> Floats:
    return np.array(list(found.differences.values()), dtype=np.float64)


def _span(claim: Claim, found: Pairs) -> tuple[float, float] | None:
    """Where the differences of unseen seeds can lie, if all seen ones are equal; None if these differ.

    If the seen ones show an effect, unseen ones may show none: from zero to the effect. Otherwise they may be anything
    within the metric's bounds.
    """
    values, rounding = _values(found), found.rounding(claim.margin)
    if values.size <= 1 or float(np.ptp(values)) > rounding:
        return None
    mean = float(values.mean())
    is_about_effect = claim.direction in ("lower", "higher")
    effects = (Finding.SUPPORTED, Finding.REVERSED) if is_about_effect else (Finding.BEYOND,)
    is_effect = _finding(claim, mean - rounding, mean + rounding) in effects
    return (min(mean, 0.0), max(mean, 0.0)) if is_effect else found.span


def _estimate(claim: Claim, found: Pairs, family: _Family) -> _Estimate:
    values, rounding = _values(found), found.rounding(claim.margin)
    mean, sd, low, high = interval(claim, found, family.now)
    p_raw = max(sign_flip_p_value(values - null, rounding) for null in _nulls(claim))
    span = _span(claim, found)
    return _Estimate(values.size, mean, sd, low, high, min(1.0, p_raw / family.look.share), rounding, span)


def _finding(claim: Claim, low: float, high: float) -> Finding:
    """What the interval of the differences says, all limits excluded."""
    margin, sign = claim.margin, _SIGN[claim.direction]
    low, high = (low, high) if sign > 0 else (-high, -low)
    if claim.direction == "same":
        is_beyond = low > margin or high < -margin
        return Finding.SUPPORTED if -margin < low and high < margin else Finding.BEYOND if is_beyond else Finding.OPEN
    if claim.direction in ("not_lower", "not_higher"):
        return Finding.SUPPORTED if low > -margin else Finding.BEYOND if high < -margin else Finding.OPEN
    if low > margin:
        return Finding.SUPPORTED
    if high >= margin:
        return Finding.OPEN
    if low > -margin:
        return Finding.EQUIVALENT
    return Finding.REVERSED if high < 0.0 else Finding.RULED_OUT


def _conclude(claim: Claim, found: Pairs, estimate: _Estimate, p_value: float, family: _Family) -> ClaimVerdict:
    finding = _finding(claim, estimate.low - estimate.rounding, estimate.high + estimate.rounding)
    if found.problem:
        finding = Finding.NOT_JUDGED
    elif math.isnan(estimate.sd) or (estimate.span and math.isinf(estimate.low)):
        finding = Finding.UNKNOWN
    elif finding is Finding.REVERSED and p_value > family.alpha:
        finding = Finding.RULED_OUT
    is_unbacked = finding in _NEED_P_VALUE and p_value > family.alpha
    verdict = "inconclusive" if is_unbacked else _VERDICTS.get(finding, "inconclusive")
    is_open = verdict == "inconclusive" and finding is not Finding.NOT_JUDGED
    made = ClaimVerdict(
        name=claim.name,
        statement=claim.statement,
        metric=claim.metric,
        verdict=verdict,
        effect=estimate.mean,
        ci_low=estimate.low,
        ci_high=estimate.high,
        p_value=p_value,
        p_raw=estimate.p_raw,
        n_pairs=estimate.n,
        margin=claim.margin,
        reason="",
        seeds_needed=_seeds_needed(claim, estimate, family) if is_open else None,
        excluded=found.excluded,
        differences=found.differences,
        rounding=estimate.rounding,
        finding=finding,
        direction=claim.direction,
        look=family.look.number if family.look.seeds else None,
    )
    return replace(made, reason=_reason(made, found, estimate, family))


def _reason(verdict: ClaimVerdict, found: Pairs, estimate: _Estimate, family: _Family) -> str:
    """Why a verdict is what it is, in the metric's own unit: a field of the JSON."""
    if verdict.finding is Finding.NOT_JUDGED:
        return f"not judged: {found.problem}"
    if verdict.finding is Finding.UNKNOWN:
        if estimate.span:
            return f"{estimate.n} equal differences do not show their spread, and {verdict.metric} has no known bounds"
        lacking = "one pair has no spread" if estimate.n else "no seed has every side"
        return f"{lacking}; at least {verdict.seeds_needed} seeds are needed"
    repeated = "repeated " if family.look.seeds else ""
    limits = f"the {100 * (1 - family.each):.4g}% {repeated}interval, {estimate.low:.4g} to {estimate.high:.4g},"
    says = f"{limits} {verdict.interval_says('{:.4g}'.format)}"
    if verdict.is_unbacked:
        return f"{says}, {_too_high(estimate.n, verdict.p_value, family)}; {_wanted(verdict.seeds_needed)}"
    if verdict.verdict != "inconclusive":
        return says
    equal = f"{estimate.n} equal differences do not show their spread: " if estimate.span else ""
    return f"{equal}{says}; {_wanted(verdict.seeds_needed)}"


def _too_high(n: int, p_value: float, family: _Family) -> str:
    over = f" after Holm's correction over {family.n_claims} claims" if family.n_claims > 1 else ""
    over += f"{' and' * bool(over)} corrected for the looks" if family.look.seeds else ""
    text = f"but the sign-flip p-value, {p_value:.3g}{over}, is above {family.alpha:.4g}"
    if can_decide(n, family.n_claims, family.flips):
        return text
    return f"{text}: {n} pairs cannot be sure to give less, {fewest_seeds(family.n_claims, family.flips)} can"


def _wanted(seeds: int | None) -> str:
    if seeds is None:
        return f"not even {MOST_SEEDS:,} seeds would decide it if mean and spread stay as they are"
    return f"about {seeds:,} seeds would decide it if mean and spread stay as they are"


def _seeds_needed(claim: Claim, estimate: _Estimate, family: _Family) -> int | None:
    """The smallest number of seeds that decides the claim if mean and spread stay; if unknown, that can decide one."""
    fewest = fewest_seeds(family.n_claims, family.flips)
    if math.isnan(estimate.sd):
        return max(fewest, estimate.n + 1)
    backed = max(fewest, _seeds_for_p_value(claim, estimate, family.now))
    for n in range(estimate.n + 1, MOST_SEEDS + 1):
        low, high = estimate.limits(n, family.now)
        finding = _finding(claim, low - estimate.rounding, high + estimate.rounding)
        if finding is not Finding.OPEN and (n >= backed or finding not in _NEED_P_VALUE):
            return n
    return None


def _seeds_for_p_value(claim: Claim, estimate: _Estimate, alpha: float) -> float:
    """The number of seeds from which on the sign flips reject, by the normal rule: |sum d| > z * sqrt(sum d^2)."""
    distance = min(abs(estimate.mean - null) for null in _nulls(claim))
    if distance <= estimate.rounding:
        return math.inf
    return t_quantile(MOST_SEEDS, alpha) ** 2 * (1.0 + (estimate.sd / distance) ** 2)
