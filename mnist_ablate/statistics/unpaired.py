"""Arms that share no seeds: Welch's interval of a difference of means, in place of pairs. Knows no rows of a table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from mnist_ablate.statistics.paired_tests import Floats, Interval

LEAST = 3  # results of an arm: with two the interval is wrong too often where spreads differ


@dataclass(frozen=True)
class Means:
    """The mean of each arm times its weight, summed: treatment minus control, or a difference of differences.

    `values` are the results of each arm, `weights` what its mean counts; `offset` is subtracted.
    """

    weights: tuple[float, ...]
    values: tuple[Floats, ...]
    offset: float = 0.0
    called: str = " of Welch"

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of results of each arm."""
        return tuple(each.size for each in self.values)

    @property
    def estimate(self) -> float:
        """The sum; nan if an arm has no result."""
        if not all(self.counts):
            return math.nan
        return sum(w * float(each.mean()) for w, each in zip(self.weights, self.values, strict=True)) - self.offset

    def parts(self, counts: Sequence[float]) -> Floats:
        """What each arm adds to the variance of the sum, if it had so many results with the spread it has."""
        return np.array(
            [w * w * float(x.var(ddof=1)) / n for w, x, n in zip(self.weights, self.values, counts, strict=True)]
        )

    def interval(self, alpha: float, rounding: float = 0.0, times: float = 1.0) -> Interval:
        """Welch's interval at level 1 - alpha, with Satterthwaite's degrees of freedom.

        It is infinite where the spread is unknown: for fewer than three results of an arm, or if those of every arm are
        equal. `times` tells what it would be with so many times the results.
        """
        mean = self.estimate
        if min(self.counts, default=0) < LEAST or all(np.ptp(each) <= rounding for each in self.values):
            return Interval(mean, math.nan, -math.inf, math.inf)
        counts = [n * times for n in self.counts]
        parts = self.parts(counts)
        variance = float(parts.sum())
        freedom = variance**2 / float(sum(part**2 / (n - 1) for part, n in zip(parts, counts, strict=True)))
        half = -float(scipy.special.stdtrit(freedom, alpha / 2)) * math.sqrt(variance)
        return Interval(mean, math.sqrt(variance * sum(counts)), mean - half, mean + half)

    def p_value(self, null: float, rounding: float = 0.0) -> float:
        """Welch's two-sided p-value of the estimate against a null; 1 where the spread is unknown."""
        found = self.interval(0.05, rounding)
        if math.isnan(found.sd):
            return 1.0
        parts = self.parts(self.counts)
        variance = float(parts.sum())
        freedom = variance**2 / float(sum(p**2 / (n - 1) for p, n in zip(parts, self.counts, strict=True)))
        return float(2 * scipy.special.stdtr(freedom, -abs(found.mean - null) / math.sqrt(variance)))
