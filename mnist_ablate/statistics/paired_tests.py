"""Statistics of paired differences: t interval, exact sign-flip p-value, Holm, power; knows no rows.

Written with numpy and `scipy.special` alone: `scipy.stats` and statsmodels, which the tests compare, take 0.9 s to
import.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

MOST_ENUMERATED = 36  # pairs: two halves of 2^18 sums, about 40 ms
MOST_GRIDDED = 1000
_CELLS_PER_PAIR, _MOST_CELLS = 1024, 2**18


class Interval(NamedTuple):
    """Mean, standard deviation and confidence limits, in the unit of the values."""

    mean: float
    sd: float
    low: float
    high: float


def t_interval(values: ArrayLike, alpha: float, rounding: float = 0.0) -> Interval:
    """The two-sided t interval of the mean at level 1 - alpha.

    It is infinite where the spread is unknown: for fewer than two values, and for two that agree within `rounding`,
    which shares counted on one test set do by chance. Without a value, mean and sd are nan.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size <= 1 or (x.size == 2 and abs(x[0] - x[1]) <= rounding):  # noqa: PLR2004 - as the docstring says
        return Interval(float(x.mean()) if x.size else math.nan, math.nan, -math.inf, math.inf)
    top = float(np.abs(x).max()) or 1.0  # squares of the largest floats would overflow
    mean, sd = float((x / top).mean()) * top, float((x / top).std(ddof=1)) * top
    half = t_quantile(x.size, alpha) * sd / math.sqrt(x.size)
    return Interval(mean, sd, mean - half, mean + half)


def equal_interval(value: float, n: int, alpha: float, span: tuple[float, float]) -> tuple[float, float]:
    """Exact limits, at level 1 - alpha or more, of the mean of values in `span` of which n were seen, all equal.

    If the true mean lay beyond a limit, n values equal to `value` would have a probability below alpha, wherever in the
    span other values lie: with a mean m above it, at most the share (high - m) / (high - value) can equal `value`.
    The limits are infinite if the span is.
    """
    share = alpha ** (1.0 / n)
    low, high = span
    return value - (value - low) * (1.0 - share), value + (high - value) * (1.0 - share)


def t_quantile(n: int, alpha: float) -> float:
    """Half the width of the interval of n values in standard errors."""
    return -float(scipy.special.stdtrit(n - 1, alpha / 2.0))


def sign_flip_p_value(differences: ArrayLike, rounding: float = 0.0) -> float:
    """The share of all 2^n sign patterns whose |sum| is at least the observed one: two-sided, about zero.

    Sums that differ by less than n * `rounding` are ties. Exact up to 36 pairs; up to 1,000 the sums are
    counted on a grid, which can only raise the result (measured: by a tenth at most); beyond, an upper bound:
    Bentkus and Dzindzalieta, "A tight Gaussian bound for weighted sums of Rademacher random variables".
    """
    d = np.asarray(differences, dtype=np.float64)
    d = d[np.abs(d) > rounding]
    if not d.size:
        return 1.0
    top = float(np.abs(d).max())
    sizes, observed = np.abs(d / top), abs(float((d / top).sum()))
    # Over the patterns, |sum| >= observed twice as often as the positive part reaches this:
    positive = (float(sizes.sum()) + observed - d.size * (rounding / top + 1e-15)) / 2.0
    if d.size <= MOST_ENUMERATED:
        tail = _enumerated_tail(sizes, positive)
    elif d.size <= MOST_GRIDDED:
        tail = _gridded_tail(sizes, positive)
    else:
        z = observed / math.sqrt(float((sizes**2).sum()))
        tail = float(scipy.special.ndtr(-z) / (4.0 * scipy.special.ndtr(-math.sqrt(2.0))))
    return min(1.0, 2.0 * tail)


def _enumerated_tail(sizes: Floats, threshold: float) -> float:
    """The share of subsets whose sum reaches the threshold, from the sorted sums of both halves."""
    halves = [np.zeros(1), np.zeros(1)]
    for place, size in enumerate(sizes):
        halves[place % 2] = np.concatenate((halves[place % 2], halves[place % 2] + size))
    left, right = map(np.sort, halves)
    reached = left.size * right.size - int(np.searchsorted(left, threshold - right).sum())
    return math.ldexp(reached, -sizes.size)


def _gridded_tail(sizes: Floats, threshold: float) -> float:
    """As `_enumerated_tail` with sizes rounded to cells; the threshold yields by what rounding took off."""
    scaled = sizes * (min(_MOST_CELLS, _CELLS_PER_PAIR * sizes.size) / float(sizes.sum()))
    widths = np.rint(scaled).astype(int)
    shares, used = np.zeros(int(widths.sum()) + 1), 1
    shares[0] = 1.0
    for width in widths:
        shares[:used] = kept = shares[:used] / 2.0
        used += int(width)
        shares[width:used] += kept
    lost = float(np.maximum(scaled - widths, 0.0).sum())
    first = math.floor(threshold * float(scaled.sum()) / float(sizes.sum()) - lost)
    return float(shares[max(first, 0) :].sum())


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given."""
    adjusted, highest = list(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(adjusted)), key=adjusted.__getitem__)):
        highest = max(highest, min(1.0, (len(adjusted) - rank) * adjusted[index]))
        adjusted[index] = highest
    return adjusted


def smallest_effect(n_seeds: int, n_claims: int, sd: float, alpha: float, power: float = 0.8) -> float:
    """The smallest |true effect| beyond the margin that is found with the given power, in the unit of `sd`.

    `sd` is that of the paired differences, taken as normal; the interval is the simultaneous one. inf for fewer than 3
    seeds, from which nothing is concluded.
    """
    if n_seeds < 3:  # noqa: PLR2004 - as the docstring says
        return math.inf
    each = alpha / max(n_claims, 1)
    return float(scipy.special.nctdtrinc(n_seeds - 1, 1.0 - power, t_quantile(n_seeds, each))) * sd / math.sqrt(n_seeds)
