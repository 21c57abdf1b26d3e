"""From rows and claims to verdicts, each with its reason; `paired_tests` has the statistics, `pairing` the pairs."""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from mnist_ablate.statistics import unpaired
from mnist_ablate.statistics.paired_tests import (
    Floats,
    Interval,
    equal_interval,
    fewest_seeds,
    holm,
    sign_flip_p_value,
    t_interval,
    t_quantile,
)
from mnist_ablate.statistics.pairing import Pairs, by_arm, pairs, unusable
from mnist_ablate.sweep.adaptive_schedule import SINGLE_LOOK, Look
from mnist_ablate.sweep.sweep import Claim, Direction
from mnist_ablate.trial import Row, Scalar

ALPHA = 0.05
MOST_SEEDS = 10_000  # more seeds than this are not worth naming: the effect sits on the margin

Verdict = Literal["supported", "equivalent", "refuted", "inconclusive"]
_SIGN: dict[Direction, int] = {"lower": -1, "higher": 1, "not_lower": 1, "not_higher": -1, "same": 1}


class Finding(StrEnum):
    """What was found about a claim, in more detail than its verdict.

    Refuted is RULED_OUT (no effect as large as claimed), REVERSED (the effect has the other sign) or BEYOND (there is
    an effect that the claim denies). UNKNOWN: there is no interval. NOT_JUDGED: no number of seeds would help.
    """

    SUPPORTED = "supported"
    EQUIVALENT = "equivalent"
    RULED_OUT = "ruled out"
    REVERSED = "reversed"
    BEYOND = "beyond"
    OPEN = "open"
    UNKNOWN = "unknown"
    NOT_JUDGED = "not judged"


_VERDICTS: dict[Finding, Verdict] = {Finding.SUPPORTED: "supported", Finding.EQUIVALENT: "equivalent"}
_VERDICTS |= dict.fromkeys((Finding.RULED_OUT, Finding.REVERSED, Finding.BEYOND), "refuted")
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
    `n_results` are those of each arm where they share no seeds: then there are no pairs, and the interval is Welch's.
    JSON leaves out `finding`, `direction`, `unit` and `rounding`, which is what float64 can have added to a difference.
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
    unit: Annotated[str, Field(exclude=True)]
    rounding: Annotated[float, Field(exclude=True)]
    finding: Annotated[Finding, Field(exclude=True)]
    direction: Annotated[Direction, Field(exclude=True)]
    look: Annotated[int | None, Field(exclude_if=lambda look: look is None)] = None
    n_results: Annotated[tuple[int, ...] | None, Field(exclude_if=lambda found: found is None)] = None

    @property
    def is_judged(self) -> bool:
        """Whether the claim could be judged at all."""
        return self.finding is not Finding.NOT_JUDGED

    @property
    def is_open(self) -> bool:
        """Whether more seeds could decide the claim, which is not decided."""
        return self.verdict == "inconclusive" and self.is_judged

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
        at = say((-self.margin if downward else self.margin) + 0.0)  # + 0.0: no -0
        bound = f"{named}{at}"
        both = f"{named}±{say(self.margin).removeprefix('+')}"
        within, beyond = f"lies wholly within {both}", f"lies wholly {outward} {bound}"
        ruled_out, open_ = f"rules out a difference {outward} {bound}", f"includes {named or 'the margin, '}{at}"
        supported = beyond if self.direction in ("lower", "higher") else ruled_out
        if self.direction == "same":
            supported, beyond = within, f"lies wholly outside {both}"
            open_ = f"reaches across {'' if named else 'a margin of '}{both}"
        return {
            Finding.SUPPORTED: supported,
            Finding.BEYOND: beyond,
            Finding.EQUIVALENT: within,
            Finding.RULED_OUT: ruled_out,
            Finding.REVERSED: f"lies wholly {inward} 0: the effect goes the other way",
        }.get(self.finding, open_)


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
    open_ = [*range(len(claims))]
    for look in looks or SINGLE_LOOK:
        found = {i: pairs(arm_rows, claims[i], look.seeds) for i in open_}
        taken = {
            i: _Evidence(claims[i], each, len(claims), alpha, look)
            for i, each in found.items()
            if look.number == 1 or each.seeds == look.seeds
        }
        for i, evidence in taken.items():
            p_raw[i] = min(p_raw[i], evidence.p_raw)
        p_values = holm(p_raw)
        verdicts |= {i: evidence.verdict(p_raw[i], p_values[i]) for i, evidence in taken.items()}
        open_ = [i for i in taken if verdicts[i].is_open]
    return tuple(verdicts[i] for i in range(len(claims)))


def arms(rows: Sequence[Row], metric: str, alpha: float = ALPHA) -> tuple[Arm, ...]:
    """The arms in the order first seen. A row counts in n and mean if it ended with a finite `metric`."""
    found = []
    for arm in by_arm(rows):
        values = [row.metrics[metric] for row in arm.by_seed.values() if not unusable(row, metric)]
        mean, _, low, high = t_interval(values, alpha)
        outcomes = Counter[str](row.status for row in arm.by_seed.values())
        found.append(Arm(arm.params, len(values), mean, low, high, dict(outcomes)))
    return tuple(found)


@dataclass(frozen=True)
class _Evidence:
    """What one look at a claim finds. The `n_claims` share the error rate `alpha`, the looks at a claim its part."""

    claim: Claim
    pairs: Pairs
    n_claims: int
    alpha: float
    look: Look

    @property
    def now(self) -> float:
        """The error rate of this claim at this look."""
        return self.alpha / self.n_claims * self.look.share

    @property
    def flips(self) -> float:
        """The error rate of the sign-flip tests of all claims at this look."""
        return self.alpha * self.look.share

    @cached_property
    def values(self) -> Floats:
        return np.array([*self.pairs.differences.values()], dtype=np.float64)

    @cached_property
    def rounding(self) -> float:
        """How far float64 sums can be off at a limit."""
        return self.pairs.rounding(self.claim.margin)

    @property
    def nulls(self) -> tuple[float, ...]:
        """The values that signs are flipped about: zero for an effect, the margins for the lack of one."""
        direction, margin = self.claim.direction, self.claim.margin
        if direction == "same":
            return (-margin, margin)
        return (0.0,) if direction in ("lower", "higher") else (-_SIGN[direction] * margin,)

    @cached_property
    def p_raw(self) -> float:
        """The sign-flip p-value, corrected for the looks."""
        if self.pairs.means:
            found = [self.pairs.means.p_value(null, self.rounding) for null in self.nulls]
        else:
            found = [sign_flip_p_value(self.values - null, self.rounding) for null in self.nulls]
        return min(1.0, max(found) / self.look.share)

    @cached_property
    def span(self) -> tuple[float, float] | None:
        """Where the differences of unseen seeds can lie, if all seen ones are equal; None if these differ.

        If the seen ones show an effect, unseen ones may show none: from zero to the effect. Otherwise they may be
        anything within the metric's bounds.
        """
        if self.values.size <= 1 or float(np.ptp(self.values)) > self.rounding:
            return None
        mean = float(self.values.mean())
        is_about_effect = self.claim.direction in ("lower", "higher")
        effects = (Finding.SUPPORTED, Finding.REVERSED) if is_about_effect else (Finding.BEYOND,)
        return (min(mean, 0.0), max(mean, 0.0)) if self.finding(mean, mean) in effects else self.pairs.span

    @cached_property
    def interval(self) -> Interval:
        """The t interval of the differences; for equal differences the one of `equal_interval`."""
        if self.pairs.means:
            return self.pairs.means.interval(self.now, self.rounding)
        usual = t_interval(self.values, self.now, self.rounding)
        return usual if self.span is None else Interval(usual.mean, 0.0, *self.limits(self.values.size, usual))

    def limits(self, n: int, of: Interval) -> tuple[float, float]:
        """The limits of the interval of n pairs with the mean and the spread of another."""
        if self.span is not None:
            return equal_interval(of.mean, n, self.now, self.span)
        half = t_quantile(n, self.now) * of.sd / math.sqrt(n)
        return of.mean - half, of.mean + half

    def finding(self, low: float, high: float) -> Finding:
        """What an interval of the differences says, all limits excluded."""
        direction, margin = self.claim.direction, self.claim.margin
        low, high = low - self.rounding, high + self.rounding
        if _SIGN[direction] < 0:
            low, high = -high, -low
        if direction in ("lower", "higher"):
            if high >= margin:
                return Finding.SUPPORTED if low > margin else Finding.OPEN
            if low > -margin:
                return Finding.EQUIVALENT
            return Finding.REVERSED if high < 0.0 else Finding.RULED_OUT
        if low > -margin and (high < margin or direction != "same"):
            return Finding.SUPPORTED
        return Finding.BEYOND if high < -margin or (low > margin and direction == "same") else Finding.OPEN

    def verdict(self, p_raw: float, p_value: float) -> ClaimVerdict:
        """The verdict, with p-values over the looks so far, without and with Holm's correction."""
        mean, sd, low, high = self.interval
        finding = self.finding(low, high)
        if self.pairs.problem:
            finding = Finding.NOT_JUDGED
        elif math.isnan(sd) or (self.span and math.isinf(low)):
            finding = Finding.UNKNOWN
        elif finding is Finding.REVERSED and p_value > self.alpha:
            finding = Finding.RULED_OUT
        is_backed = finding not in _NEED_P_VALUE or p_value <= self.alpha or self.pairs.means is not None
        verdict = _VERDICTS.get(finding, "inconclusive") if is_backed else "inconclusive"
        made = ClaimVerdict(
            **self.claim.model_dump(include={"name", "statement", "metric", "margin", "direction"}),
            verdict=verdict,
            effect=mean,
            ci_low=low,
            ci_high=high,
            p_value=p_value,
            p_raw=p_raw,
            n_pairs=self.values.size,
            reason="",
            seeds_needed=None if verdict != "inconclusive" or self.pairs.problem else self._seeds_needed(),
            excluded=self.pairs.excluded,
            differences=self.pairs.differences,
            unit=self.claim.about.unit,
            rounding=self.rounding,
            finding=finding,
            look=self.look.number if self.look.seeds else None,
            n_results=self.pairs.means.counts if self.pairs.means else None,
        )
        return replace(made, reason=self._reason(made))

    def _reason(self, made: ClaimVerdict) -> str:
        """Why a verdict is what it is, in the metric's own unit: a field of the JSON."""
        n, wanted = made.n_pairs, made.seeds_needed
        if made.finding is Finding.NOT_JUDGED:
            return f"not judged: {self.pairs.problem}"
        if made.finding is Finding.UNKNOWN:
            if self.span:
                return f"{n} equal differences do not show their spread, and {made.metric} has no known bounds"
            if self.pairs.means:
                few = (
                    f"{' and '.join(map(str, self.pairs.means.counts))} results without pairs do not show their spread"
                )
                return f"{few}; each arm needs at least {wanted or unpaired.LEAST}"
            return f"{'one pair has no spread' if n else 'no seed has every side'}; at least {wanted} seeds are needed"
        name = f"the {100 * (1 - self.alpha / self.n_claims):.4g}% {'repeated ' * bool(self.look.seeds)}interval"
        name = f"without common seeds {name} of Welch" if self.pairs.means else name
        says = f"{name}, {made.ci_low:.4g} to {made.ci_high:.4g}, {made.interval_says('{:.4g}'.format)}"
        if made.verdict != "inconclusive":
            return says
        if made.is_unbacked:
            says += f", {self._too_high(made)}"
        elif self.span:
            says = f"{n} equal differences do not show their spread: {says}"
        many = f"not even {MOST_SEEDS:,}" if wanted is None else f"about {wanted:,}"
        return f"{says}; {many} seeds would decide it if mean and spread stay as they are"

    def _too_high(self, made: ClaimVerdict) -> str:
        over = f" after Holm's correction over {self.n_claims} claims" if self.n_claims > 1 else ""
        over += f"{' and' * bool(over)} corrected for the looks" if self.look.seeds else ""
        fewest = fewest_seeds(self.n_claims, self.flips)
        few = f": {made.n_pairs} pairs cannot be sure to give less, {fewest} can" if made.n_pairs < fewest else ""
        return f"but the sign-flip p-value, {made.p_value:.3g}{over}, is above {self.alpha:.4g}{few}"

    def _seeds_needed(self) -> int | None:
        """The fewest seeds that decide the claim if mean and spread stay; if these are unknown, that can decide one."""
        if means := self.pairs.means:
            return means.least_times(
                lambda times: self.finding(*means.interval(self.now, self.rounding, times)[2:]) is not Finding.OPEN,
                MOST_SEEDS,
            )
        n, fewest = self.values.size, fewest_seeds(self.n_claims, self.flips)
        if math.isnan(self.interval.sd):
            return max(fewest, n + 1)
        distance = min(abs(self.interval.mean - null) for null in self.nulls)
        backed = math.inf
        if distance > self.rounding:  # sign flips reject, by the normal rule, where |sum d| > z * sqrt(sum d^2)
            z = t_quantile(MOST_SEEDS, self.now)
            backed = max(fewest, z**2 * (1.0 + (self.interval.sd / distance) ** 2))

        def decide(seeds: int) -> bool:
            finding = self.finding(*self.limits(seeds, self.interval))
            return finding is not Finding.OPEN and (seeds >= backed or finding not in _NEED_P_VALUE)

        more = range(n + 1, MOST_SEEDS + 1)
        place = bisect_left(more, x=True, key=decide)  # intervals that shrink about one mean stay decided
        return more[place] if place < len(more) else None
