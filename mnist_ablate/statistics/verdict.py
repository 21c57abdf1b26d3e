"""From rows and claims to verdicts, each with its reason; `paired_tests` has the statistics, `pairing` the pairs."""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated

import numpy as np
from pydantic import Field

from mnist_ablate.statistics import unpaired
from mnist_ablate.statistics.bounded_mean import betting_interval
from mnist_ablate.statistics.collapses import Collapses, SideCollapses, collapses, is_collapsed, threshold
from mnist_ablate.statistics.decision_rule import (
    COLLAPSE_SHARE,
    FEWEST_PAIRS,
    SIGN,
    VERDICTS,
    Finding,
    Verdict,
    by_interval,
    with_collapses,
)
from mnist_ablate.statistics.paired_tests import (
    Floats,
    Interval,
    equal_interval,
    holm,
    sign_flip_p_value,
    t_interval,
    t_quantile,
)
from mnist_ablate.statistics.pairing import ArmRows, Pairs, by_arm, pairs, unusable
from mnist_ablate.sweep.adaptive_schedule import SINGLE_LOOK, Look
from mnist_ablate.sweep.sweep import Claim, Direction, Estimand
from mnist_ablate.trial import Row, Scalar

ALPHA = 0.05
MOST_SEEDS = 10_000  # more seeds than this are not worth naming: the effect sits on the margin


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

    They are of the claim's `estimand`: the seeds that trained on every side, or all. `differences` are those of these
    seeds, of all where fewer than 3 trained. `collapses` counts the trainings that collapsed, side by side.
    `confidence` is the level of the interval. It is infinite where the spread is unknown. `effect` is nan without a
    pair. `p_value` is the sign-flip p-value with Holm's correction over all claims, `p_raw` the one without it; no
    verdict rests on it. `seeds_needed` is None if the claim is decided, or if no number up to 10,000 would decide it.
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
    estimand: Estimand = "typical"
    confidence: float = 1.0 - ALPHA
    collapses: tuple[SideCollapses, ...] = ()
    collapse_p_value: float = 1.0

    @property
    def is_judged(self) -> bool:
        """Whether the claim could be judged at all."""
        return self.finding is not Finding.NOT_JUDGED

    @property
    def is_open(self) -> bool:
        """Whether more seeds could decide the claim, which is not decided."""
        return self.verdict == "inconclusive" and self.finding not in (Finding.NOT_JUDGED, Finding.MIXED)

    @property
    def has_collapses(self) -> bool:
        """Whether any training collapsed."""
        return any(side.collapsed for side in self.collapses)

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
        low, high = self.ci_low - self.rounding, self.ci_high + self.rounding
        return {
            Finding.SUPPORTED: supported,
            Finding.BEYOND: beyond,
            Finding.EQUIVALENT: within,
            Finding.RULED_OUT: ruled_out,
            Finding.REVERSED: f"lies wholly {inward} 0: the effect goes the other way",
        }.get(by_interval(self.direction, self.margin, low, high), open_)


def judge(
    rows: Sequence[Row],
    claims: Sequence[Claim],
    alpha: float = ALPHA,
    looks: Sequence[Look] = (),
    waiting: Collection[str] = (),
) -> tuple[ClaimVerdict, ...]:
    """One verdict for each claim, in order. In an adaptive sweep the first of its `looks` that decides gives it.

    A look is taken once all of its seeds are there. The first one is taken with the seeds that are there.
    The `waiting` claims are not judged but count: what they find later can only confirm the verdicts of the others.
    Raises SweepError if an arm has two rows with one seed.
    """
    arm_rows = by_arm(rows)
    verdicts: dict[int, ClaimVerdict] = {}
    p_raw = [1.0] * len(claims)
    open_ = [i for i, claim in enumerate(claims) if claim.name not in waiting]
    for look in looks or SINGLE_LOOK:
        found = {i: _pairs(arm_rows, claims[i], look.seeds) for i in open_}
        taken = {
            i: _Evidence(claims[i], each, collapses(arm_rows, claims[i], look.seeds), len(claims), alpha, look)
            for i, each in found.items()
            if look.number == 1 or each.seeds == look.seeds
        }
        for i, evidence in taken.items():
            p_raw[i] = min(p_raw[i], evidence.p_raw)
        p_values = holm(p_raw)
        verdicts |= {i: evidence.verdict(p_raw[i], p_values[i]) for i, evidence in taken.items()}
        open_ = [i for i in taken if verdicts[i].is_open]
    return tuple(verdicts[i] for i in sorted(verdicts))


def _pairs(arm_rows: Sequence[ArmRows], claim: Claim, first: int | None) -> Pairs:
    """The pairs of a claim. Arms without common seeds are compared by the results that its estimand is about."""
    trained = (lambda row: not is_collapsed(row, claim)) if claim.estimand == "typical" else None
    return pairs(arm_rows, claim, first, trained)


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
    collapses: Collapses
    n_claims: int
    alpha: float
    look: Look

    @property
    def level(self) -> float:
        """The error rate of this claim's interval over all looks: less where the test of collapses needs its share."""
        each = self.alpha / self.n_claims
        return each * (1.0 - COLLAPSE_SHARE) if self.is_typical and self.collapses.seeds else each

    @property
    def now(self) -> float:
        """The same at this look."""
        return self.level * self.look.share

    @property
    def is_typical(self) -> bool:
        """Whether the claim is about the seeds that trained, with collapses as a statement of their own."""
        return self.claim.estimand == "typical"

    @cached_property
    def trained(self) -> Mapping[int, float]:
        """The differences that the interval is of."""
        collapsed = self.collapses.seeds if self.is_typical else frozenset[int]()
        return {seed: value for seed, value in self.pairs.differences.items() if seed not in collapsed}

    @cached_property
    def shown(self) -> Mapping[int, float]:
        """The same; if they are too few for an interval, all of them."""
        return self.trained if len(self.trained) >= FEWEST_PAIRS else self.pairs.differences

    @cached_property
    def values(self) -> Floats:
        return np.array([*self.shown.values()], dtype=np.float64)

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
        return (0.0,) if direction in ("lower", "higher") else (-SIGN[direction] * margin,)

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
        if not self.is_typical or self.values.size <= 1 or float(np.ptp(self.values)) > self.rounding:
            return None
        mean = float(self.values.mean())
        is_about_effect = self.claim.direction in ("lower", "higher")
        effects = (Finding.SUPPORTED, Finding.REVERSED) if is_about_effect else (Finding.BEYOND,)
        return (min(mean, 0.0), max(mean, 0.0)) if self.says(mean, mean) in effects else self.pairs.span

    @cached_property
    def interval(self) -> Interval:
        """Mean, spread, and the limits of the estimand: infinite from fewer than 3 pairs."""
        if self.pairs.means and not self.problem:
            return self.pairs.means.interval(self.now, self.rounding)
        usual = t_interval(self.values, self.now, self.rounding)
        if len(self.trained) < FEWEST_PAIRS or self.problem:
            return Interval(usual.mean, math.nan, -math.inf, math.inf)
        return Interval(usual.mean, usual.sd, *self.limits(self.values.size, usual))

    def limits(self, n: int, of: Interval) -> tuple[float, float]:
        """The limits of the interval of n pairs with the mean and the spread of another."""
        if not self.is_typical:
            return betting_interval(np.resize(self.values, n), self.now, self.pairs.span)
        if self.span is not None:
            return equal_interval(of.mean, n, self.now, self.span)
        half = t_quantile(n, self.now) * of.sd / math.sqrt(n)
        return of.mean - half, of.mean + half

    def says(self, low: float, high: float) -> Finding:
        """What an interval of the differences says."""
        return by_interval(self.claim.direction, self.claim.margin, low - self.rounding, high + self.rounding)

    @property
    def toward(self) -> float:
        """Above zero if the collapses push the difference the way of the claim's sign."""
        worse = -1 if self.claim.about.better == "higher" else 1
        return self.collapses.excess * worse * SIGN[self.claim.direction]

    def shows_collapses(self, times: int = 1) -> bool:
        """Whether the treatment and the control collapse unequally often, with so many times the seeds."""
        level = self.alpha / self.n_claims * COLLAPSE_SHARE * self.look.share
        return self.collapses.p_value(times) <= level

    @cached_property
    def finding(self) -> Finding:
        """What both parts of the verdict come to."""
        _, sd, low, high = self.interval
        if self.problem:
            return Finding.NOT_JUDGED
        is_unknown = math.isnan(sd) or (self.span is not None and math.isinf(low))
        typical = Finding.UNKNOWN if is_unknown else self.says(low, high)
        if not self.is_typical:
            return typical
        return with_collapses(typical, self.claim.direction, self.toward, shown=self.shows_collapses())

    @property
    def problem(self) -> str:
        """Why the claim must not be judged; empty if it may."""
        if not self.is_typical and self.pairs.means:
            return "estimand: mean compares pairs, and the arms have no common seeds"
        if not self.is_typical and math.isinf(self.pairs.span[0]) and not self.pairs.problem:
            return f"estimand: mean needs a metric with bounds, and {self.claim.metric} has none"
        return self.pairs.problem

    def verdict(self, p_raw: float, p_value: float) -> ClaimVerdict:
        """The verdict, with p-values over the looks so far, without and with Holm's correction."""
        mean, _, low, high = self.interval
        verdict = VERDICTS.get(self.finding, "inconclusive")
        is_open = verdict == "inconclusive" and self.finding not in (Finding.NOT_JUDGED, Finding.MIXED)
        made = ClaimVerdict(
            **self.claim.model_dump(include={"name", "statement", "metric", "margin", "direction", "estimand"}),
            verdict=verdict,
            effect=mean,
            ci_low=low,
            ci_high=high,
            p_value=p_value,
            p_raw=p_raw,
            n_pairs=self.values.size,
            reason="",
            seeds_needed=self._seeds_needed() if is_open else None,
            excluded=self.pairs.excluded,
            differences=self.shown,
            unit=self.claim.about.unit,
            rounding=self.rounding,
            finding=self.finding,
            look=self.look.number if self.look.seeds else None,
            n_results=self.pairs.means.counts if self.pairs.means else None,
            confidence=1.0 - self.level,
            collapses=self.collapses.sides,
            collapse_p_value=self.collapses.p_value(),
        )
        return replace(made, reason=self._reason(made))

    def _reason(self, made: ClaimVerdict) -> str:
        """Why a verdict is what it is, in the metric's own unit: a field of the JSON."""
        if made.finding is Finding.NOT_JUDGED:
            return f"not judged: {self.problem}"
        counts = ", ".join(f"{side.words} {side.collapsed} of {side.n}" for side in made.collapses)
        collapsed = f"collapsed: {counts}" * made.has_collapses
        if made.finding in (Finding.COLLAPSES, Finding.COLLAPSES_AGAINST):
            return f"{collapsed}, by Barnard's test p={made.collapse_p_value:.2g}"
        if made.finding is Finding.UNKNOWN:
            return self._unknown(made, collapsed)
        name = f"the {100 * made.confidence:.4g}% {'repeated ' * bool(self.look.seeds)}interval"
        name = f"without common seeds {name} of Welch" if self.pairs.means else name
        says = f"{name}, {made.ci_low:.4g} to {made.ci_high:.4g}, {made.interval_says('{:.4g}'.format)}"
        if made.verdict != "inconclusive":
            return f"{says}; {collapsed}" if collapsed else says
        if made.finding is Finding.MIXED:
            return f"{says}, but trainings collapse the other way ({collapsed})"
        many = f"not even {MOST_SEEDS:,}" if made.seeds_needed is None else f"about {made.seeds_needed:,}"
        decide = f"; {many} seeds would decide it if mean and spread stay as they are"
        if made.finding is Finding.HELD_BACK:
            says += f", but collapses may be an effect ({collapsed})"
        if self.span:
            says = f"{made.n_pairs} equal differences do not show their spread: {says}"
        return f"{says}{decide}"

    def _unknown(self, made: ClaimVerdict, collapsed: str) -> str:
        """Why there is no interval, and what to do."""
        n, wanted, trained = made.n_pairs, made.seeds_needed, len(self.trained)
        if means := self.pairs.means:
            few = f"{' and '.join(map(str, means.counts))} results without pairs do not show their spread"
            return f"{few}; each arm needs at least {wanted or unpaired.LEAST}"
        if self.span and trained >= FEWEST_PAIRS:
            return f"{n} equal differences do not show their spread, and {made.metric} has no known bounds"
        why = {0: "no seed has every side", 1: "one pair has no spread"}.get(n, f"{n} pairs are too few")
        if self.collapses.seeds:
            why = f"{trained} of {len(self.pairs.differences)} seeds trained on every side; {collapsed}"
            limit = threshold(self.claim)
            if limit is not None and all(side.collapsed == side.n for side in self.collapses.sides):
                why += f"; if {made.metric} beyond {limit:g} is no collapse here, set collapse_at in the claim"
        return why if wanted is None else f"{why}; at least {wanted:,} seeds are needed"

    def _seeds_needed(self) -> int | None:
        """The fewest seeds that decide the claim if mean, spread and rates of collapse stay."""
        if means := self.pairs.means:
            return means.least_times(
                lambda times: self.says(*means.interval(self.now, self.rounding, times)[2:]) is not Finding.OPEN,
                MOST_SEEDS,
            )
        n, found = len(self.pairs.differences), list[int]()
        if self.finding is Finding.UNKNOWN and not (self.span and len(self.trained) >= FEWEST_PAIRS):
            if not self.collapses.seeds:
                return max(FEWEST_PAIRS, n + 1)
            trained = len(self.trained)
            found += [max(n + 1, math.ceil(FEWEST_PAIRS * n / trained))] if trained else []
        elif self.finding is not Finding.HELD_BACK:
            size = self.values.size

            def decide(seeds: int) -> bool:
                return self.says(*self.limits(seeds, self.interval)) is not Finding.OPEN

            more = range(size + 1, MOST_SEEDS + 1)
            place = bisect_left(more, x=True, key=decide)  # intervals that shrink about one mean stay decided
            found += [math.ceil(more[place] * n / size)] if place < len(more) else []
        if self.is_typical and self.toward and self.collapses.p_value() < 1.0 and n:
            times = next((k for k in range(2, 1 + min(60, MOST_SEEDS // n)) if self.shows_collapses(k)), None)
            found += [times * n] if times else []
        return min(found, default=None)
