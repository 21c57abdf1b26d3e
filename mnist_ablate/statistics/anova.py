"""The main effects and interactions of a factorial sweep: analysis of variance with seeds as blocks. Pure numpy.

The model: metric = mean + every main effect and interaction of the factors + seed + error, where a seed shifts all
arms alike. The error is what is left, all interactions of seed and arm pooled. The table is balanced, so the sums of
squares of types I, II and III are the same. The F tests assume errors that are normal and as large in every arm; an arm
that collapses breaks that. Formulas and sources: docs/explanation/statistics.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from math import isnan, nan, prod

import numpy as np
import scipy
from numpy.typing import NDArray

from mnist_ablate.statistics.paired_tests import holm
from mnist_ablate.statistics.pairing import by_arm, unusable
from mnist_ablate.trial import Row, Scalar

MOST_FACTORS = 6


@dataclass(frozen=True)
class Effect:
    """A line of the table: of `factors` (one: a main effect; several: their interaction), or of the seeds.

    `share` is partial eta squared, what the effect explains of what neither other effects nor seeds explain, and
    `omega` partial omega squared, the same less what chance adds (below zero: nothing). `p_holm` is corrected for all
    effects of the table. nan where there is no such number.
    """

    factors: tuple[str, ...]
    sum_of_squares: float
    freedom: int
    f: float
    p_value: float
    p_holm: float
    share: float
    omega: float


@dataclass(frozen=True)
class Error:
    """What neither effects nor seeds explain."""

    sum_of_squares: float
    freedom: int


@dataclass(frozen=True)
class FactorialEffects:
    """The effects, main effects first; `seeds` is how many every arm has, `left_out` how many other seeds there are."""

    metric: str
    seeds: int
    left_out: int
    effects: tuple[Effect, ...]
    block: Effect
    error: Error


def table(rows: Sequence[Row], factors: Mapping[str, Sequence[Scalar]], metric: str) -> FactorialEffects | None:
    """The table of a metric over all combinations of the factors' values.

    None if there are too many factors or none, or if a combination, or a second seed that all have, is lacking.
    """
    varied = [name for name, values in factors.items() if len(values) > 1]
    if not 0 < len(varied) <= MOST_FACTORS:
        return None
    arms = {frozenset(arm.params.items()): arm.by_seed for arm in by_arm(rows)}
    cells = [arms.get(frozenset(zip(factors, values, strict=True)), {}) for values in product(*factors.values())]
    usable = [{seed for seed, row in cell.items() if not unusable(row, metric)} for cell in cells]
    seeds = sorted(set.intersection(*usable))
    if len(seeds) <= 1:
        return None
    values = np.array([[cell[seed].metrics[metric] for seed in seeds] for cell in cells], dtype=np.float64)
    y = values.reshape(*(len(factors[name]) for name in varied), len(seeds))
    top = float(np.abs(y).max()) or 1.0  # squares of the largest floats would overflow
    y = y / top - (y / top).mean()
    means, shifts = y.mean(axis=-1), y.mean(axis=tuple(range(len(varied))))
    left = float(((y - means[..., np.newaxis] - shifts) ** 2).sum())
    error = Error(left * top * top, (means.size - 1) * (shifts.size - 1))
    if left <= y.size * np.finfo(np.float64).eps ** 2:
        left = nan  # nothing to test against

    def effect(names: tuple[str, ...], squares: float, freedom: int) -> Effect:
        noise = left / error.freedom
        f, surplus = squares / freedom / noise, squares - freedom * noise
        p_value, omega = float(scipy.special.fdtrc(freedom, error.freedom, f)), surplus / (surplus + y.size * noise)
        return Effect(names, squares * top * top, freedom, f, p_value, nan, squares / (squares + left), omega)

    effects = [effect(*each) for each in _sums_of_squares(varied, means, shifts.size)]
    corrected = [nan] * len(effects) if isnan(left) else holm([each.p_value for each in effects])
    effects = [replace(each, p_holm=p_holm) for each, p_holm in zip(effects, corrected, strict=True)]
    block = effect(("seed",), float(means.size * (shifts**2).sum()), shifts.size - 1)
    return FactorialEffects(metric, len(seeds), len(set.union(*usable)) - len(seeds), tuple(effects), block, error)


def _sums_of_squares(
    names: Sequence[str], means: NDArray[np.float64], seeds: int
) -> Iterator[tuple[tuple[str, ...], float, int]]:
    """Of each set of factors, what averages over the others leave that no smaller set explains; with its freedom."""
    axes = range(len(names))
    for size in range(1, len(names) + 1):
        for kept in combinations(axes, size):
            part = means
            for axis in axes:
                mean = part.mean(axis=axis, keepdims=True)
                part = part - mean if axis in kept else mean
            repeats = seeds * means.size // part.size
            freedom = prod(means.shape[axis] - 1 for axis in kept)
            yield tuple(names[axis] for axis in kept), float(repeats * (part**2).sum()), freedom
