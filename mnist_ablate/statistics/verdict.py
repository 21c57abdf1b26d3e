"""From rows and claims to verdicts with reasons; the statistics are in `evidence`, the pairing in `pairs`."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

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
NOT_JUDGED = "not judged"
"""How the reason begins of a claim that no number of seeds would decide."""
UNBACKED = "but the sign-flip p-value"
"""What the reason holds of a claim that its interval would decide and the sign flips do not."""
REVERSED = "the effect goes the other way"
"""What the reason holds of a claim whose interval lies on the other side of zero."""
MOST_SEEDS = 10_000
"""More seeds than this are not worth naming: the effect sits on the margin."""

Verdict = Literal["supported", "equivalent", "refuted", "inconclusive"]
Finding = Literal["supported", "equivalent", "ruled_out", "reversed", "beyond", "open"]
"""What an interval alone says; ruled_out, reversed and beyond are the three ways to be refuted."""

_VERDICTS: dict[Finding, Verdict] = {
    "supported": "supported",
    "equivalent": "equivalent",
    "ruled_out": "refuted",
    "reversed": "refuted",
    "beyond": "refuted",
    "open": "inconclusive",
}
_NEED_P_VALUE: tuple[Finding, ...] = ("supported", "beyond")
_SIGN: dict[Direction, int] = {"lower": -1, "higher": 1, "not_lower": 1, "not_higher": -1, "same": 1}


@dataclass(frozen=True)
class Arm:
    """One setting over its seeds: mean of the metric, its t interval (infinite if unknown), its rows."""

    params: Mapping[str, Scalar]
    n: int
    mean: float
    ci_low: float
    ci_high: float
    outcomes: Mapping[str, int]


@dataclass(frozen=True)
class ClaimVerdict:
    """What the rows say of one claim; `effect` and its interval are treatment minus control in any direction.

    `p_value` is the sign-flip p-value after Holm's correction over all claims, `p_raw` the one before.
    `effect` is nan without a pair; the interval is infinite where the spread is unknown.
    `seeds_needed` is None unless inconclusive, and where no number up to 10,000 would decide.
    Of an adaptive sweep, `look` is the number of the look that decided, or the last one; interval and `p_raw` are
    corrected for the looks, and every number is of the seeds that it read.
    `rounding` is what float64 can have added to a difference.
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
    rounding: float
    look: int | None = None


@dataclass(frozen=True)
class _Estimate:
    """The numbers behind one verdict; `rounding` is what float64 sums can have added to a limit.

    `span` is what a difference can be, where that and not the spread gives the interval.
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
        """Of the interval that n pairs with this mean and spread have."""
        if self.span:
            return equal_interval(self.mean, n, alpha, self.span)
        half = t_quantile(n, alpha) * self.sd / math.sqrt(n)
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class _Family:
    """The claims that are judged together share one error rate, and the looks at a claim its part."""

    n_claims: int
    alpha: float
    look: Look

    @property
    def each(self) -> float:
        """What all looks at a claim may err together."""
        return self.alpha / max(self.n_claims, 1)

    @property
    def now(self) -> float:
        """What this look at a claim may err."""
        return self.each * self.look.share

    @property
    def flips(self) -> float:
        """What sign flips of all claims may err at this look."""
        return self.alpha * self.look.share


def judge(
    rows: Sequence[Row], claims: Sequence[Claim], alpha: float = ALPHA, looks: Sequence[Look] = ()
) -> tuple[ClaimVerdict, ...]:
    """One verdict per claim, in order: of an adaptive sweep that of the first of its `looks` that decides.

    A look is taken when its seeds are there; the first is taken with what there is.
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
    """The arms in the order first seen; a row counts in n and mean if it ended with a finite `metric`."""
    return tuple(_arm(each.params, list(each.by_seed.values()), metric, alpha) for each in by_arm(rows))


def _arm(params: Mapping[str, Scalar], rows: Sequence[Row], metric: str, alpha: float) -> Arm:
    values = [row.metrics[metric] for row in rows if not unusable(row, metric)]
    mean, _, low, high = t_interval(values, alpha)
    return Arm(params, len(values), mean, low, high, dict(Counter(row.status for row in rows)))


def _nulls(claim: Claim) -> tuple[float, ...]:
    """The differences about which signs are flipped: zero for an effect, the margins for the lack of one."""
    if claim.direction == "same":
        return (-claim.margin, claim.margin)
    return (0.0,) if claim.direction in ("lower", "higher") else (-_SIGN[claim.direction] * claim.margin,)


def interval(claim: Claim, found: Pairs, alpha: float) -> Interval:
    """The t interval of the differences; of equal ones that of `equal_interval`."""
    values = _values(found)
    usual = t_interval(values, alpha, found.rounding(claim.margin))
    span = _span(claim, found)
    return usual if span is None else Interval(usual.mean, 0.0, *equal_interval(usual.mean, values.size, alpha, span))


def _values(found: Pairs) -> Floats:
    return np.array(list(found.differences.values()), dtype=np.float64)


def _span(claim: Claim, found: Pairs) -> tuple[float, float] | None:
    """Where differences can lie that were not seen, if those that were are equal; else None.

    Beside those that show an effect there may be some that show none; beside others, whatever the metric can be.
    """
    values, rounding = _values(found), found.rounding(claim.margin)
    if values.size <= 1 or float(np.ptp(values)) > rounding:
        return None
    mean = float(values.mean())
    effects = ("supported", "reversed") if claim.direction in ("lower", "higher") else ("beyond",)
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
        inside = -margin < low and high < margin
        return "supported" if inside else "beyond" if low > margin or high < -margin else "open"
    if claim.direction in ("not_lower", "not_higher"):
        return "supported" if low > -margin else "beyond" if high < -margin else "open"
    if low > margin:
        return "supported"
    if high >= margin:
        return "open"
    if low > -margin:
        return "equivalent"
    return "reversed" if high < 0.0 else "ruled_out"


def _conclude(claim: Claim, found: Pairs, estimate: _Estimate, p_value: float, family: _Family) -> ClaimVerdict:
    finding = _finding(claim, estimate.low - estimate.rounding, estimate.high + estimate.rounding)
    if finding == "reversed" and p_value > family.alpha:
        finding = "ruled_out"
    unbacked = finding in _NEED_P_VALUE and p_value > family.alpha
    verdict: Verdict = "inconclusive" if found.problem or unbacked else _VERDICTS[finding]
    undecided = verdict == "inconclusive" and not found.problem
    seeds = _seeds_needed(claim, estimate, family) if undecided else None
    repeated = "repeated " if family.look.seeds else ""
    limits = f"the {100 * (1 - family.each):.4g}% {repeated}interval, {estimate.low:.4g} to {estimate.high:.4g},"
    says = f"{limits} {_says(claim, finding)}"
    if found.problem:
        reason = f"{NOT_JUDGED}: {found.problem}"
    elif math.isnan(estimate.sd) or (estimate.span and math.isinf(estimate.low)):
        reason = _unknown(claim, estimate, seeds)
    elif unbacked:
        reason = f"{says}, {_too_high(estimate.n, p_value, family)}; {_wanted(seeds)}"
    else:
        equal = f"{estimate.n} equal differences do not show their spread: " if estimate.span else ""
        reason = f"{equal}{says}; {_wanted(seeds)}" if undecided else says
    return ClaimVerdict(
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
        reason=reason,
        seeds_needed=seeds,
        excluded=found.excluded,
        differences=found.differences,
        rounding=estimate.rounding,
        look=family.look.number if family.look.seeds else None,
    )


def _unknown(claim: Claim, estimate: _Estimate, seeds: int | None) -> str:
    """Why there is no interval, and what would give one."""
    if estimate.span:
        return f"{estimate.n} equal differences do not show their spread, and {claim.metric} has no known bounds"
    lacking = "one pair has no spread" if estimate.n else "no seed has every side"
    return f"{lacking}; at least {seeds} seeds are needed"


def _says(claim: Claim, finding: Finding) -> str:
    """What the interval says, as a predicate, in the unit and sign of the difference."""
    downward = claim.direction in ("lower", "not_lower")
    outward, inward = ("below", "above") if downward else ("above", "below")
    bound = f"{(-claim.margin if downward else claim.margin) + 0.0:.4g}"  # + 0.0: no -0
    within = f"lies wholly within ±{claim.margin:.4g}"
    if claim.direction == "same":
        return {"supported": within, "beyond": f"lies wholly outside ±{claim.margin:.4g}"}.get(
            finding, f"reaches across a margin of ±{claim.margin:.4g}"
        )
    ruled_out = f"rules out a difference {outward} {bound}"
    beyond = f"lies wholly {outward} {bound}"
    shows_effect = claim.direction in ("lower", "higher")
    return {
        "supported": beyond if shows_effect else ruled_out,
        "beyond": beyond,
        "equivalent": within,
        "ruled_out": ruled_out,
        "reversed": f"lies wholly {inward} 0: {REVERSED}",
        "open": f"includes the margin, {bound}",
    }[finding]


def _too_high(n: int, p_value: float, family: _Family) -> str:
    over = f" after Holm's correction over {family.n_claims} claims" if family.n_claims > 1 else ""
    over += f"{' and' * bool(over)} corrected for the looks" if family.look.seeds else ""
    text = f"{UNBACKED}, {p_value:.3g}{over}, is above {family.alpha:.4g}"
    if can_decide(n, family.n_claims, family.flips):
        return text
    return f"{text}: {n} pairs cannot be sure to give less, {fewest_seeds(family.n_claims, family.flips)} can"


def _wanted(seeds: int | None) -> str:
    if seeds is None:
        return f"not even {MOST_SEEDS:,} seeds would decide it if mean and spread stay as they are"
    return f"about {seeds:,} seeds would decide it if mean and spread stay as they are"


def _seeds_needed(claim: Claim, estimate: _Estimate, family: _Family) -> int | None:
    """The smallest number of seeds that decides if mean and spread stay; if unknown, that can at all."""
    fewest = fewest_seeds(family.n_claims, family.flips)
    if math.isnan(estimate.sd):
        return max(fewest, estimate.n + 1)
    backed = max(fewest, _seeds_for_p_value(claim, estimate, family.now))
    for n in range(estimate.n + 1, MOST_SEEDS + 1):
        low, high = estimate.limits(n, family.now)
        finding = _finding(claim, low - estimate.rounding, high + estimate.rounding)
        if finding != "open" and (n >= backed or finding not in _NEED_P_VALUE):
            return n
    return None


def _seeds_for_p_value(claim: Claim, estimate: _Estimate, alpha: float) -> float:
    """From how many seeds on the sign flips reject, as normally they do where |sum d| > z * sqrt(sum d^2)."""
    distance = min(abs(estimate.mean - null) for null in _nulls(claim))
    if distance <= estimate.rounding:
        return math.inf
    return t_quantile(MOST_SEEDS, alpha) ** 2 * (1.0 + (estimate.sd / distance) ** 2)
