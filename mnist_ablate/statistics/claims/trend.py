"""A trend: how the metric changes along an ordered factor, by the slope at each seed; monotone if each step holds."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, cast

from pydantic import Field

from mnist_ablate.statistics.claims.indifferent import FactorClaim
from mnist_ablate.statistics.claims.kind import ClaimKind, contrast_of, matched, two_sides, values_of
from mnist_ablate.statistics.paired_tests import smallest_effect
from mnist_ablate.statistics.pairing import ArmRows, Contrast, Side
from mnist_ablate.sweep.claim import Claim, Problem
from mnist_ablate.text import shown
from mnist_ablate.trial import Scalar

if TYPE_CHECKING:
    from mnist_ablate.sweep.sweep import Sweep

Per = Literal["doubling", "unit", "range"]


class TrendClaim(FactorClaim):
    """The more of a factor, the more (lower: the less) of the metric."""

    per: Per = Field(
        default="range", description="What the margin is a change per: doubling or unit of the factor, or its range."
    )
    monotone: bool = Field(default=False, description="Whether every single step must go the same way too.")

    def problems(self, sweep: "Sweep") -> Iterator[Problem]:
        """Whether the factor is ordered, with a distance that its values have."""
        yield from super().problems(sweep)
        values = sweep.factors.get(self.factor, [])
        if words := [value for value in values if not _is_number(value)]:
            yield "factor", f"{self.factor} has {shown(words[0])} among its values: a trend is over numbers"
        elif self.per == "doubling" and any(float(value) <= 0.0 for value in values):
            yield "per", f"doubling needs values above 0, and {self.factor} has {min(map(float, values)):g}; write unit"
        if self.monotone and self.direction not in ("lower", "higher"):
            yield "monotone", f"needs direction: lower or higher, not {self.direction}"


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def slopes(values: Sequence[float], per: Per) -> dict[float, float]:
    """The weight of each value in the least-squares slope, times the range if it is per range."""
    places = [math.log2(value) if per == "doubling" else value for value in values]
    mean = math.fsum(places) / len(places)
    size = math.fsum((place - mean) ** 2 for place in places)
    scale = max(places) - min(places) if per == "range" else 1.0
    return {value: scale * (place - mean) / size for value, place in zip(values, places, strict=True)}


class Trend(ClaimKind):
    """The slope at each seed, and with `monotone` each step."""

    meaning = "The more data (noise, width), the better (worse)."
    keys = TrendClaim
    glossary = "Slope: of the least-squares line through the results of one seed, averaged over the seeds."
    example = """\
design: one_factor
baseline: {width: 100}
scientific:
  width: [25, 50, 100, 200, 400]
fixed: {model: mlp, epochs: 3}
seeds: {min: 4, max: 30}
claims:
  - name: wider-is-better
    kind: trend                 # the slope of the metric along an ordered factor
    statement: The wider the network, the better.
    factor: width
    per: doubling               # doubling, unit or range: what the margin is a change per
    # monotone: true            # every single step must go the same way too
    direction: higher
    margin: 0.001
"""

    def contrasts(self, arms: Sequence[ArmRows], claim: Claim) -> Sequence[Contrast]:
        """The slope, then the steps if it must be monotone."""
        asked = cast("TrendClaim", claim)
        name = asked.factor
        found = [each[name] for each in values_of(arms, [name], claim.where)]
        if len(found) <= 1 or not all(map(_is_number, found)):
            return (Contrast(problem=f"a trend is over several numbers: {name} has {found}", metric=claim.metric),)
        values = sorted(found, key=float)
        weights = slopes([float(value) for value in values], asked.per)
        ordered = [(str(value), 1.0, {**claim.where, name: value}) for value in values]
        levels, problem = matched(arms, ordered)
        if problem:
            return (Contrast(problem=problem, metric=claim.metric),)
        sides = tuple(
            Side(
                f"{part} {name}",
                sign,
                [
                    arm
                    for side, value in zip(levels, values, strict=True)
                    if _is_in(weights, value, sign)
                    for arm in side.arms
                ],
            )
            for part, sign in (("higher", 1.0), ("lower", -1.0))
        )
        n = len(levels[0].arms)
        slope = contrast_of(claim, sides, weigh=lambda arm: weights[float(arm.params[name])] / n, name="slope")
        if not asked.monotone:
            return (slope,)
        steps = [
            two_sides(arms, claim, {name: high}, {name: low}, f"{low} to {high}", margin=0.0)
            for low, high in pairwise(values)
        ]
        return (slope, *steps)

    def measure(self, claim: Claim) -> str:
        """What its effect is called."""
        asked = cast("TrendClaim", claim)
        what = "factor" if claim.is_ratio else "slope" if asked.per != "range" else "change"
        over = f"over the range of {asked.factor}" if asked.per == "range" else f"per {asked.per} of {asked.factor}"
        return f"{what} {over}"

    def smallest_effect(self, claim: Claim, sweep: "Sweep", n_seeds: int, n_claims: int, alpha: float) -> float:
        """A slope varies as its weights say."""
        asked, sd = cast("TrendClaim", claim), claim.about.seed_sd
        if not sd or claim.is_ratio:
            return math.inf
        weights = slopes([float(value) for value in sweep.factors[asked.factor]], asked.per).values()
        return smallest_effect(n_seeds, n_claims, sd * math.sqrt(sum(w * w for w in weights) / 2.0), alpha)


def _is_in(weights: Mapping[float, float], value: Scalar, sign: float) -> bool:
    weight = weights[float(value)]
    return weight > 0.0 if sign > 0.0 else weight <= 0.0


KIND = Trend()
