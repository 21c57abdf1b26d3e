"""Intervals of numbers that no single seed has: a ratio of means (Fieller), and differences that are known in part.

Knows no rows and no claims.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy

from mnist_ablate.statistics.decision_rule import FEWEST_PAIRS
from mnist_ablate.statistics.paired_tests import Floats, Interval, equal_interval, t_interval, t_quantile


def least_times(
    interval: Callable[[float], Interval], now: int, decides: Callable[[Interval], bool], most: int
) -> int | None:
    """The fewest results of an arm, above `now` and up to `most`, whose interval decides; None if no number does.

    `interval` is that of so many times the results.
    """
    low, high = now + 1, most
    if now < FEWEST_PAIRS or not decides(interval(high / now)):
        return FEWEST_PAIRS if now < FEWEST_PAIRS else None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(interval(middle / now)) else (middle + 1, high)
    return low


@dataclass(frozen=True)
class Fraction:
    """The logarithm of mean(above) / mean(below), numbers of the same seeds that are not negative.

    Fieller's interval (J. R. Statist. Soc. B 16, 1954): the ratios r for which a paired t test of above - r * below
    finds nothing. It is unbounded where the mean below may be zero.
    """

    above: Floats
    below: Floats
    called: str = ""

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of pairs."""
        return (self.above.size,)

    @property
    def is_known(self) -> bool:
        """Whether both sides show their size, which numbers that are all zero do not."""
        return self.above.size >= FEWEST_PAIRS and bool(self.above.any() and self.below.any())

    def interval(self, alpha: float, rounding: float = 0.0, times: float = 1.0) -> Interval:  # noqa: ARG002
        """As the class says, with so many times the pairs."""
        if not self.is_known:
            return Interval(math.nan, math.nan, -math.inf, math.inf)
        n = max(FEWEST_PAIRS, round(self.above.size * times))
        top = max(float(self.above.max()), float(self.below.max()))
        x, y = self.above / top, self.below / top
        squared = t_quantile(n, alpha) ** 2 / n
        (xx, xy), (_, yy) = np.cov(x, y, ddof=1)
        mx, my = float(x.mean()), float(y.mean())
        a, b, c = my * my - squared * yy, mx * my - squared * xy, mx * mx - squared * xx
        root = math.sqrt(max(b * b - a * c, 0.0))
        low = (b - root) / a if a > 0.0 else (b - root) / a if c > 0.0 and a < 0.0 else 0.0
        high = (b + root) / a if a > 0.0 else math.inf
        spread = math.sqrt(max(xx / mx**2 + yy / my**2 - 2 * xy / (mx * my), 0.0))
        return Interval(math.log(mx / my), spread, math.log(low) if low > 0.0 else -math.inf, math.log(high))

    def p_value(self, null: float, rounding: float = 0.0) -> float:
        """Of the paired t test of above - exp(null) * below."""
        if not self.is_known:
            return 1.0
        d = self.above - math.exp(null) * self.below
        if float(np.ptp(d)) <= rounding:
            return 1.0
        t = abs(float(d.mean())) / float(d.std(ddof=1)) * math.sqrt(d.size)
        return float(2.0 * scipy.special.stdtr(d.size - 1, -t))


@dataclass(frozen=True)
class PartlyKnown:
    """The mean of differences of which some are known only to be above or below a number: `least` and `most` of each.

    The interval reaches from the lower limit if all were as small as can be to the upper one if as large. It holds
    whatever the unknown ones are. `span` is where the known ones can lie, `shown` what is given as the estimate.
    """

    least: Floats
    most: Floats
    shown: Floats
    span: tuple[float, float]
    called: str = ", with what was not reached as open,"

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of pairs."""
        return (self.shown.size,)

    def interval(self, alpha: float, rounding: float = 0.0, times: float = 1.0) -> Interval:
        """As the class says, with so many times the pairs."""
        mean = float(self.shown.mean()) if self.shown.size else math.nan
        if self.shown.size < FEWEST_PAIRS:
            return Interval(mean, math.nan, -math.inf, math.inf)
        low, high = (self._limits(each, alpha, rounding, times) for each in (self.least, self.most))
        return Interval(mean, float(self.shown.std(ddof=1)), low[0], high[1])

    def _limits(self, values: Floats, alpha: float, rounding: float, times: float) -> tuple[float, float]:
        if not np.isfinite(values).all():
            return -math.inf, math.inf
        n = max(FEWEST_PAIRS, round(values.size * times))
        if float(np.ptp(values)) <= rounding:
            return equal_interval(float(values.mean()), n, alpha, self.span)
        found = t_interval(values, alpha)
        half = t_quantile(n, alpha) * found.sd / math.sqrt(n)
        return found.mean - half, found.mean + half

    def p_value(self, null: float, rounding: float = 0.0) -> float:
        """Twice the smaller one of both t tests: the null lies below the least, or above the most; 1 if unknown."""
        tails = [1.0]
        for values, sign in ((self.least, 1.0), (self.most, -1.0)):
            if values.size >= FEWEST_PAIRS and np.isfinite(values).all() and float(np.ptp(values)) > rounding:
                t = sign * (float(values.mean()) - null) / float(values.std(ddof=1)) * math.sqrt(values.size)
                tails.append(2.0 * float(scipy.special.stdtr(values.size - 1, -t)))
        return min(1.0, *tails)
