"""What one look at one contrast finds: its interval, its finding, the seeds that would decide it, and why."""

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mnist_ablate.statistics.bounded_mean import betting_interval
from mnist_ablate.statistics.claim_verdict import ClaimVerdict, PartVerdict
from mnist_ablate.statistics.claims.kind import kind_of, margin_of
from mnist_ablate.statistics.collapses import Collapses, threshold
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
from mnist_ablate.statistics.estimators import least_times
from mnist_ablate.statistics.image_sampling import half_width, image_differences, image_variance
from mnist_ablate.statistics.paired_tests import (
    Floats,
    Interval,
    equal_interval,
    sign_flip_p_value,
    t_interval,
    t_quantile,
)
from mnist_ablate.statistics.pairing import Contrast, Pairs
from mnist_ablate.sweep.adaptive_schedule import Look
from mnist_ablate.sweep.claim import Claim

MOST_SEEDS = 10_000  # more seeds than this are not worth naming: the effect sits on the margin


@dataclass(frozen=True)
class Evidence:
    """What one look at a contrast finds. The `n_claims` share the error rate `alpha`, the looks at a claim its part."""

    claim: Claim
    contrast: Contrast
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
        """The same as numbers."""
        return np.array([*self.shown.values()], dtype=np.float64)

    @cached_property
    def rounding(self) -> float:
        """How far float64 sums can be off at a limit."""
        return self.pairs.rounding(self.contrast.margin)

    @property
    def nulls(self) -> tuple[float, ...]:
        """The values that signs are flipped about: zero for an effect, the margins for the lack of one."""
        direction, margin = self.contrast.direction, self.contrast.margin
        if direction == "same":
            return (-margin, margin)
        return (0.0,) if direction in ("lower", "higher") else (-SIGN[direction] * margin,)

    @cached_property
    def p_raw(self) -> float:
        """The sign-flip p-value, corrected for the looks."""
        if self.pairs.estimator:
            found = [self.pairs.estimator.p_value(null, self.rounding) for null in self.nulls]
        else:
            found = [sign_flip_p_value(self.values - null, self.rounding) for null in self.nulls]
        return min(1.0, max(found) / self.look.share)

    @cached_property
    def span(self) -> tuple[float, float] | None:
        """Where the differences of unseen seeds can lie, if all seen ones are equal; None if these differ.

        If the seen ones show an effect, unseen ones may show none: from zero to the effect. Otherwise they may be
        anything within the metric's bounds.
        """
        if (
            self.pairs.estimator
            or not self.is_typical
            or self.values.size <= 1
            or float(np.ptp(self.values)) > self.rounding
        ):
            return None
        mean = float(self.values.mean())
        is_about_effect = self.contrast.direction in ("lower", "higher")
        effects = (Finding.SUPPORTED, Finding.REVERSED) if is_about_effect else (Finding.BEYOND,)
        return (min(mean, 0.0), max(mean, 0.0)) if self.says(mean, mean) in effects else self.pairs.span

    @cached_property
    def interval(self) -> Interval:
        """Mean, spread, and the limits of the estimand: infinite from fewer than 3 pairs."""
        if self.pairs.estimator and not self.problem:
            return self.pairs.estimator.interval(self.now, self.rounding)
        usual = t_interval(self.values, self.now, self.rounding)
        if len(self.trained) < FEWEST_PAIRS or self.problem:
            return Interval(usual.mean, math.nan, -math.inf, math.inf)
        return Interval(usual.mean, usual.sd, *self.limits(self.values.size, usual))

    def limits(self, n: int, of: Interval) -> tuple[float, float]:
        """The limits of the interval of n pairs with the mean and the spread of another."""
        if not self.is_typical:
            return betting_interval(np.resize(self.values, n), self.now, self.pairs.span)
        if self.span is not None:
            alpha = self.now / 2 if self.image_variance else self.now  # one interval about the other
            low, high = equal_interval(of.mean, n, alpha, self.span)
            half = half_width(self.image_variance, alpha)
            return low - half, high + half
        seeds = t_quantile(n, self.now) * of.sd / math.sqrt(n)
        half = math.hypot(seeds, half_width(self.image_variance, self.now))
        return of.mean - half, of.mean + half

    @cached_property
    def image_variance(self) -> float:
        """The variance that sampling the test images adds to the effect; 0 if the claim holds for these images."""
        if not self.claim.samples_images:
            return 0.0
        return image_variance(image_differences([self.pairs.images[seed] for seed in self.trained]))

    def says(self, low: float, high: float) -> Finding:
        """What an interval of the differences says."""
        return by_interval(self.contrast.direction, self.contrast.margin, low - self.rounding, high + self.rounding)

    @property
    def toward(self) -> float:
        """Above zero if the collapses push the difference the way of the claim's sign."""
        worse = -1 if self.claim.about.better == "higher" else 1
        return self.collapses.excess * worse * SIGN[self.contrast.direction]

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
        return with_collapses(typical, self.contrast.direction, self.toward, shown=self.shows_collapses())

    @property
    def problem(self) -> str:
        """Why the claim must not be judged; empty if it may."""
        if not self.is_typical and self.pairs.unpaired:
            return "estimand: mean compares pairs, and the arms have no common seeds"
        if not self.is_typical and math.isinf(self.pairs.span[0]) and not self.pairs.problem:
            return f"estimand: mean needs a metric with bounds, and {self.contrast.metric} has none"
        if self.claim.samples_images and not self.pairs.problem:
            return self._images_problem
        return self.pairs.problem

    @property
    def _images_problem(self) -> str:
        """Why the test images cannot be taken as a sample; empty if they can."""
        if self.pairs.unpaired:
            return "vary: test compares pairs, and the arms have no common seeds"
        if self.pairs.estimator or self.contrast.number or self.contrast.is_ratio:
            return f"vary: test is for differences of means, which kind: {self.claim.kind} does not ask here"
        lacking = [seed for seed in self.trained if not all(text for _, text in self.pairs.images[seed])]
        return (
            f"vary: test needs a result of each test image, which a trial of seed {lacking[0]} lacks" if lacking else ""
        )

    @property
    def verdict(self) -> Verdict:
        """That of the finding."""
        return VERDICTS.get(self.finding, "inconclusive")

    def part(self) -> PartVerdict:
        """The same as one of several contrasts of a claim."""
        effect, low, high = (self.told(value) for value in (self.interval.mean, *self.interval[2:]))
        return PartVerdict(self.contrast.name, effect, low, high, self.verdict)

    def told(self, value: float) -> float:
        """A number in the unit of the effect: of a logarithm the factor. What is infinite stays so."""
        return math.exp(min(value, 700.0)) if self.contrast.is_ratio and math.isfinite(value) else value

    def judged(self, p_raw: float, p_value: float, *, explained: bool) -> ClaimVerdict:
        """The verdict, with p-values over the looks so far, without and with Holm's correction.

        Only if it is `explained` it has its reason, and the seeds that it needs.
        """
        kind = kind_of(self.claim)
        made = ClaimVerdict(
            **self.claim.model_dump(include={"name", "statement", "metric", "estimand", "kind", "scale"}),
            margin=self.told(self.contrast.margin)
            if self.contrast.margin != margin_of(self.claim)
            else self.claim.margin,
            direction=self.contrast.direction,
            verdict=self.verdict,
            effect=self.told(self.interval.mean),
            ci_low=self.told(self.interval.low),
            ci_high=self.told(self.interval.high),
            p_value=p_value,
            p_raw=p_raw,
            n_pairs=self.n_pairs,
            reason="",
            seeds_needed=self.seeds_needed if explained and self.is_open else None,
            excluded=self.pairs.excluded,
            differences={seed: self.told(value) for seed, value in self.shown.items()},
            unit=kind.unit(self.claim),
            rounding=self.rounding,
            finding=self.finding,
            look=self.look.number if self.look.seeds else None,
            n_results=self.pairs.estimator.counts if self.pairs.estimator and self.pairs.unpaired else None,
            confidence=1.0 - self.level,
            collapses=self.collapses.sides,
            collapse_p_value=self.collapses.p_value(),
            measure=kind.measure(self.claim),
            notes=self.contrast.notes,
        )
        return replace(made, reason=self._reason(made)) if explained else made

    @property
    def is_open(self) -> bool:
        """Whether more seeds could decide it."""
        return self.verdict == "inconclusive" and self.finding not in (Finding.NOT_JUDGED, Finding.MIXED)

    @property
    def n_pairs(self) -> int:
        """How many pairs of seeds the interval is of."""
        is_paired = self.pairs.estimator and not self.pairs.unpaired
        return self.pairs.estimator.counts[0] if self.pairs.estimator and is_paired else self.values.size

    @property
    def outward(self) -> float:
        """How far the effect lies beyond the margin as claimed: the least of several is the one to show."""
        sign = SIGN[self.contrast.direction]
        if self.contrast.direction == "same":
            return -abs(self.interval.mean)
        return sign * self.interval.mean - self.contrast.margin

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
        called = self.pairs.estimator.called if self.pairs.estimator else ""
        name = f"{'without common seeds ' * self.pairs.unpaired}{name}{called}"
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
        n, wanted, trained = (
            made.n_pairs,
            made.seeds_needed,
            made.n_pairs if self.pairs.estimator else len(self.trained),
        )
        if self.pairs.estimator and self.pairs.unpaired:
            few = (
                f"{' and '.join(map(str, self.pairs.estimator.counts))} results without pairs do not show their spread"
            )
            return f"{few}; each arm needs at least {wanted or FEWEST_PAIRS}"
        if self.span and trained >= FEWEST_PAIRS:
            return f"{n} equal differences do not show their spread, and {made.metric} has no known bounds"
        why = {0: "no seed has every side", 1: "one pair has no spread"}.get(n, f"{n} pairs are too few")
        if self.collapses.seeds:
            every = len(self.pairs.differences) or self.pairs.seeds
            why = f"{trained} of {every} seeds trained on every side; {collapsed}"
            limit = threshold(self.claim)
            if limit is not None and all(side.collapsed == side.n for side in self.collapses.sides):
                why += f"; if {made.metric} beyond {limit:g} is no collapse here, set collapse_at in the claim"
        return why if wanted is None else f"{why}; at least {wanted:,} seeds are needed"

    @cached_property
    def seeds_needed(self) -> int | None:
        """The fewest seeds that decide the claim if mean, spread and rates of collapse stay."""
        if estimator := self.pairs.estimator:
            return least_times(
                lambda times: estimator.interval(self.now, self.rounding, times),
                min(estimator.counts, default=0),
                lambda interval: self.says(*interval[2:]) is not Finding.OPEN,
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
