"""The main effects and interactions of a factorial sweep: analysis of variance with seeds as blocks. Pure numpy.

The model: metric = mean + every main effect and interaction of the factors + seed + error, where a seed shifts all
arms alike (a randomized complete block design: Montgomery, "Design and Analysis of Experiments", chapters 4 and 5). The
error is what is left, all interactions of seed and arm pooled: (arms - 1)(seeds - 1) degrees of freedom. In a balanced
table the sums of squares do not depend on an order, so those of types I, II and III are the same; statsmodels'
`anova_lm` of `metric ~ factors * ... + C(seed)` gives these numbers. The F tests assume errors that are normal and as
large in every arm: an arm that collapses breaks that, and the verdicts, which compare pairs, do not rest on it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from math import nan, prod

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mnist_ablate.statistics.paired_tests import holm
from mnist_ablate.statistics.pairing import by_arm, unusable
from mnist_ablate.trial import Row, Scalar

MOST_FACTORS = 6

Floats = NDArray[np.float64]


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
    f: float = nan
    p_value: float = nan
    p_holm: float = nan
    share: float = nan
    omega: float = nan


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
    varied = {name: list(values) for name, values in factors.items() if len(values) > 1}
    if not 0 < len(varied) <= MOST_FACTORS:
        return None
    arms = {frozenset(arm.params.items()): arm.by_seed for arm in by_arm(rows)}
    fixed = [(name, value) for name, values in factors.items() if len(values) == 1 for value in values]
    cells = [
        arms.get(frozenset([*fixed, *zip(varied, values, strict=True)]), {}) for values in product(*varied.values())
    ]
    usable = [{seed for seed, row in cell.items() if not unusable(row, metric)} for cell in cells]
    seeds = sorted(set.intersection(*usable))
    if len(seeds) <= 1:
        return None
    values = np.array([[cell[seed].metrics[metric] for seed in seeds] for cell in cells], dtype=np.float64)
    shape = (*map(len, varied.values()), len(seeds))
    return _table(metric, len(set.union(*usable)) - len(seeds), list(varied), values.reshape(shape))


def _table(metric: str, left_out: int, names: Sequence[str], values: Floats) -> FactorialEffects:
    top = float(np.abs(values).max()) or 1.0  # squares of the largest floats would overflow
    y = values / top
    y -= y.mean()
    block_axis = y.ndim - 1
    cells, shifts = y.mean(axis=block_axis), y.mean(axis=tuple(range(block_axis)))
    residual = y - cells[..., np.newaxis] - shifts
    arms, n = cells.size, shifts.size
    error = Error(float((residual**2).sum()), (arms - 1) * (n - 1))
    found = [_against(effect, error, y.size) for effect in _effects(names, cells, n)]
    adjusted = iter(holm([effect.p_value for effect in found])) if found[0].p_value == found[0].p_value else None
    scaled = [_scaled(effect, top, next(adjusted) if adjusted else nan) for effect in found]
    seed = Effect(("seed",), float(arms * (shifts**2).sum()), n - 1)
    block = _scaled(_against(seed, error, y.size), top)
    return FactorialEffects(
        metric, n, left_out, tuple(scaled), block, replace(error, sum_of_squares=error.sum_of_squares * top * top)
    )


def _effects(names: Sequence[str], cells: Floats, seeds: int) -> Iterator[Effect]:
    """Sums of squares: of each set of factors, what averages over the others leave that no smaller set explains."""
    axes = range(len(names))
    for size in range(1, len(names) + 1):
        for kept in combinations(axes, size):
            part = cells
            for axis in axes:
                mean = part.mean(axis=axis, keepdims=True)
                part = part - mean if axis in kept else mean
            repeats = seeds * cells.size // part.size
            freedom = prod(cells.shape[axis] - 1 for axis in kept)
            yield Effect(tuple(names[axis] for axis in kept), float(repeats * (part**2).sum()), freedom)


def _against(effect: Effect, error: Error, n: int) -> Effect:
    """The effect with its F test against the error; as it is where nothing is left as error."""
    if error.sum_of_squares <= n * np.finfo(np.float64).eps ** 2:
        return effect
    noise = error.sum_of_squares / error.freedom
    f = effect.sum_of_squares / effect.freedom / noise
    share = effect.sum_of_squares / (effect.sum_of_squares + error.sum_of_squares)
    surplus = effect.sum_of_squares - effect.freedom * noise
    omega = surplus / (surplus + n * noise)
    p_value = float(special.fdtrc(effect.freedom, error.freedom, f))
    return Effect(effect.factors, effect.sum_of_squares, effect.freedom, f, p_value, nan, share, omega)


def _scaled(effect: Effect, top: float, p_holm: float = nan) -> Effect:
    """In the metric's unit."""
    return replace(effect, sum_of_squares=effect.sum_of_squares * top * top, p_holm=p_holm)
