"""Spread: results vary less (more) from seed to seed, by the ratio of the standard deviations."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mnist_ablate.statistics.claims.kind import ClaimKind, two_sides
from mnist_ablate.statistics.decision_rule import FEWEST_PAIRS
from mnist_ablate.statistics.estimators import Fraction
from mnist_ablate.statistics.paired_tests import Floats, t_quantile
from mnist_ablate.statistics.pairing import ArmRows, Contrast, Estimator
from mnist_ablate.sweep.claim import Claim, Problem, Scale

if TYPE_CHECKING:
    from mnist_ablate.sweep.sweep import Sweep

_DRAWN, _LARGEST = 600, 100.0  # simulated sweeps for a plan, and the largest ratio that it names


class SpreadClaim(Claim):
    """Of a treatment whose results are claimed to vary less or more than those of the control."""

    scale: Scale = Field(default="ratio", description="Always ratio: the margin is that of the standard deviations.")
    never = ("reference", "versus")
    is_sum = False

    def problems(self, sweep: "Sweep") -> Iterator[Problem]:
        """Whether two arms are compared, by their ratio."""
        if self.control is None:
            yield "control", "is missing; give the arm whose spread it is compared with"
        yield from super().problems(sweep) if self.control is not None else ()
        if self.scale != "ratio":
            yield "scale", "must be ratio: spreads are compared by their ratio, such as margin: 2"

    def scale_problems(self, *, is_declared: bool) -> Iterator[Problem]:  # noqa: ARG002 - any metric has a spread
        """The margin must be a factor; the metric may be negative."""
        yield from super().scale_problems(is_declared=False)


class Spread(ClaimKind):
    """Absolute deviations of results from the median of their arm, paired by seed (Brown and Forsythe's idea).

    Pitman and Morgan's test of a ratio of variances is wrong up to 16% of the time with skewed or heavy-tailed results;
    this one keeps its level. It needs 15 to 30 seeds for a ratio of three.
    """

    meaning = "X varies less from seed to seed; X is unstable."
    keys = SpreadClaim
    compares_two = True
    glossary = "Ratio of spreads: mean absolute deviations from the median of each arm, treatment over control."
    example = """\
design: one_factor
baseline: {dropout: 0.0}
scientific:
  dropout: [0.0, 0.5]
fixed: {model: mlp, epochs: 3}
seeds: {min: 15, max: 40}       # spreads need more seeds than means: plan says which ratio so many find
claims:
  - name: dropout-is-unstable
    kind: spread                # the standard deviation over seeds, treatment over control
    statement: Dropout makes results vary more from seed to seed.
    treatment: {dropout: 0.5}
    control: {dropout: 0.0}
    direction: higher           # higher: varies more; lower: varies less
    margin: 1.5                 # a factor: 1.5 times the standard deviation
"""

    def contrast(self, arms: Sequence[ArmRows], claim: Claim) -> Contrast:
        """Both sides, with the deviations of each arm."""
        found = two_sides(arms, claim, claim.treatment, claim.control or {})
        return replace(found, estimator=lambda kept: _deviations(kept, found.weights))

    def measure(self, claim: Claim) -> str:  # noqa: ARG002 - the same for all
        """What its effect is called."""
        return "ratio of spreads"

    def smallest_effect(self, claim: Claim, sweep: "Sweep", n_seeds: int, n_claims: int, alpha: float) -> float:  # noqa: ARG002
        """The ratio beyond the margin that is found with 80% power where results are normal, by simulation."""
        if n_seeds < FEWEST_PAIRS:
            return math.inf
        rng = np.random.default_rng(n_seeds)
        one, other = (
            np.abs(x - np.median(x, axis=1, keepdims=True)) for x in rng.standard_normal((2, _DRAWN, n_seeds))
        )
        quantile = t_quantile(n_seeds, alpha / n_claims)

        def power(factor: float) -> float:
            d = factor * one - other
            return float((d.mean(axis=1) > quantile * d.std(axis=1, ddof=1) / math.sqrt(n_seeds)).mean())

        low, high = 1.0, _LARGEST
        if power(high) < 0.8:  # noqa: PLR2004 - 80%
            return math.inf
        for _ in range(14):
            middle = math.sqrt(low * high)
            low, high = (low, middle) if power(middle) >= 0.8 else (middle, high)  # noqa: PLR2004
        return high


def _deviations(results: Floats, weights: Sequence[float]) -> Estimator:
    """The absolute deviations of each side, seed by seed, averaged over its arms."""
    found = np.abs(results - np.median(results, axis=0)) if len(results) else results
    added = np.array(weights) > 0.0
    return Fraction(found[:, added].mean(axis=1), found[:, ~added].mean(axis=1), " of Fieller")


KIND = Spread()
