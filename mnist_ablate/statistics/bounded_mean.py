"""An interval for the mean of bounded numbers that assumes nothing else of them; knows no rows.

Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", J. R. Statist. Soc. B 86 (2024): bet
on every candidate mean; one at which the winnings pass 1/alpha is excluded. Rare collapses cannot deceive it, as the
t interval can be. The price is seeds: hundreds where the t interval takes ten.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

_LARGEST_BET = 0.75  # of what a bet could lose at most


def betting_interval(values: ArrayLike, alpha: float, span: tuple[float, float]) -> tuple[float, float]:
    """The interval of the mean at level 1 - alpha or more, of values in `span`, in the order in which they came."""
    low, high = span
    x = (np.asarray(values, dtype=np.float64) - low) / (high - low)
    if not x.size:
        return span
    places = np.arange(1, x.size + 1)
    means = (0.5 + np.cumsum(x)) / (places + 1)
    variances = (0.25 + np.cumsum((x - means) ** 2)) / (places + 1)
    before = np.concatenate(([0.25], variances[:-1]))  # a bet knows only what came earlier
    bets = np.sqrt(2.0 * math.log(2.0 / alpha) / (x.size * before))
    needed = math.log(2.0 / alpha)

    def wins_above(mean: float) -> bool:
        """Whether betting that the mean is larger wins enough."""
        return bool(np.cumsum(np.log1p(np.minimum(bets, _LARGEST_BET / mean) * (x - mean))).max() >= needed)

    def wins_below(mean: float) -> bool:
        return bool(np.cumsum(np.log1p(np.minimum(bets, _LARGEST_BET / (1.0 - mean)) * (mean - x))).max() >= needed)

    lower, upper = _last(wins_above), 1.0 - _last(lambda rest: wins_below(1.0 - rest))
    return low + (high - low) * lower, low + (high - low) * upper


def smallest_mean(n: int, alpha: float, margin: float, width: float) -> float:
    """How far beyond the margin n numbers within ±width must be for their interval to show it, if none differs.

    Numbers that differ show less. Infinite if n cannot show any.
    """

    def is_shown(beyond: float) -> bool:
        return betting_interval(np.full(n, margin + beyond), alpha, (-width, width))[0] > margin

    most = width - margin
    if not (math.isfinite(width) and most > 0.0 and is_shown(most)):
        return math.inf
    return most * (1.0 - _last(lambda share: is_shown(most * (1.0 - share))))


def _last(wins: Callable[[float], bool]) -> float:
    """The largest number in (0, 1) that still wins, where smaller ones do too; 0 if none does."""
    below, above = 0.0, 1.0
    for _ in range(40):
        middle = (below + above) / 2.0
        below, above = (middle, above) if wins(middle) else (below, middle)
    return below
