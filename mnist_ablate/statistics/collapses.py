"""Trainings that collapsed: how many on each side of a claim, and what the counts show. Decides no claim.

A training collapsed if it diverged, or if its metric is worse than the threshold that the workload declares. Rare
collapses make no normal mean: a seed in fifty that falls to chance moves it by more than most margins, and ten seeds
rarely show it. So they are counted by themselves, and typical effects are of the seeds that trained on every side.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import numpy as np
import scipy
from pydantic import Field

from mnist_ablate.statistics.paired_tests import Floats
from mnist_ablate.statistics.pairing import Contrast, unusable
from mnist_ablate.sweep.claim import Claim
from mnist_ablate.trial import Row

BOUND_ALPHA = 0.05  # of the bound that is printed for each side, which is no verdict
_RATES = np.linspace(0.0, 1.0, 129)  # of the null hypothesis, to find the largest p-value among


@dataclass(frozen=True)
class SideCollapses:
    """Of the `n` seeds of a side so many collapsed; `upper`: rates above it are excluded, each side at 95%."""

    side: str
    n: int
    collapsed: int
    upper: float

    @property
    def words(self) -> str:
        """The side's name in a sentence."""
        return self.side.replace("_versus", " of versus")


@dataclass(frozen=True)
class Collapses:
    """The sides of a claim in the order treatment, control, and those of `versus`; the `seeds` with any collapse.

    `excess` is by how much more of the treatment's seeds collapsed, as a share; with `versus` a difference of two.
    """

    sides: tuple[SideCollapses, ...]
    seeds: Annotated[frozenset[int], Field(exclude=True)]
    excess: Annotated[float, Field(exclude=True)]

    def p_value(self, times: int = 1) -> float:
        """Of Barnard's test that the side with more collapses does not collapse more often; 1 if nothing is compared.

        A difference of two differences has no such test, nor has a number that was claimed. `times` as many seeds with
        the same shares may be asked for.
        """
        if len(self.sides) != 2 or not self.excess:  # noqa: PLR2004 - one treatment, one control
            return 1.0
        less, more = sorted(self.sides, key=lambda side: side.collapsed / side.n)
        return barnard_p_value(times * more.collapsed, times * more.n, times * less.collapsed, times * less.n)


def collapses(contrast: Contrast, claim: Claim, first: int | None = None) -> Collapses:
    """Count the seeds of each side in which any of its trials collapsed; with `first` only the lowest seeds."""
    if not contrast.counts_collapses:
        return Collapses((), frozenset(), 0.0)
    seeds = sorted({seed for arm in contrast.arms for seed in arm.by_seed})[:first]
    has_collapsed = collapse_of(claim)
    counted, touched, excess = [], set[int](), 0.0
    for side in contrast.sides:
        n, found = 0, set[int]()
        for seed in seeds:
            rows = [row for arm in side.arms if not unusable(row := arm.by_seed.get(seed), contrast.metric)]
            n += len(rows) == len(side.arms)
            if any(has_collapsed(row) for row in rows if row):
                touched.add(seed)
                found |= {seed} if len(rows) == len(side.arms) else set()
        counted.append(SideCollapses(side.name, n, len(found), upper_bound(len(found), n)))
        excess += side.sign * len(found) / n if n else 0.0
    return Collapses(tuple(counted), frozenset(touched), excess)


def collapse_of(claim: Claim) -> Callable[[Row], bool]:
    """Whether a training collapsed, of those that have the claim's metric."""
    limit, metric, is_higher_better = threshold(claim), claim.metric, claim.about.better == "higher"

    def has_collapsed(row: Row) -> bool:
        value = row.metrics.get(metric)
        if row.status == "diverged" or limit is None or value is None:  # of what follows from a curve; the row has it
            return row.status == "diverged"
        return value < limit if is_higher_better else value > limit

    return has_collapsed


def threshold(claim: Claim) -> float | None:
    """The value of the claim's metric beyond which a training collapsed: its own, else the workload's, else none."""
    return claim.about.collapse_at if claim.collapse_at is None else claim.collapse_at


def upper_bound(collapsed: int, n: int, alpha: float = BOUND_ALPHA) -> float:
    """The exact one-sided bound of a rate (Clopper and Pearson 1934): 0 of 8 do not exclude 31%."""
    return 1.0 if collapsed >= n else float(scipy.special.betaincinv(collapsed + 1, n - collapsed, 1.0 - alpha))


@cache
def barnard_p_value(more: int, n_more: int, less: int, n_less: int) -> float:
    """One-sided: how probable are these counts, or ones that differ more, if the first rate is at most the second?

    Barnard's unconditional exact test with the pooled score, Biometrika 34 (1947): the largest probability over the
    common rate, on a grid that is refined twice. It takes the sides as independent. If one seed makes both collapse, it
    is cautious.
    """
    observed = _score(np.array([float(more)]), n_more, np.array([float(less)]), n_less)[0, 0]
    firsts, seconds = np.arange(n_more + 1.0), np.arange(n_less + 1.0)
    reached = (_score(firsts, n_more, seconds, n_less) >= observed - 1e-9).sum(axis=1)  # the least seconds, for each
    at = np.flatnonzero(reached)
    log_choose = (
        scipy.special.gammaln(n_more + 1.0) - scipy.special.gammaln(at + 1.0) - scipy.special.gammaln(n_more - at + 1.0)
    )

    def probabilities(rates: Floats) -> Floats:
        rates = np.clip(rates, 1e-9, 1.0 - 1e-9)[:, None]
        log_first = log_choose + at * np.log(rates) + (n_more - at) * np.log1p(-rates)
        return np.asarray((np.exp(log_first) * scipy.special.bdtr(reached[at] - 1.0, n_less, rates)).sum(axis=1))

    rates, found = _RATES, probabilities(_RATES)
    for _ in range(2):
        best, step = rates[found.argmax()], rates[1] - rates[0]
        rates = np.linspace(best - step, best + step, 33)
        found = np.maximum(probabilities(rates), found.max())
    return min(1.0, float(found.max()))


def _score(first: Floats, n_first: int, second: Floats, n_second: int) -> Floats:
    """The difference of two rates in its standard errors, pooled, for every pair of counts; 0 for equal rates."""
    difference = first[:, None] / n_first - second[None, :] / n_second
    pooled = (first[:, None] + second[None, :]) / (n_first + n_second)
    error = np.sqrt(pooled * (1.0 - pooled) * (1.0 / n_first + 1.0 / n_second))
    return np.asarray(np.divide(difference, error, out=np.zeros_like(difference), where=error > 0.0))
