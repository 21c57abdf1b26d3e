"""From finished rows to one difference for each seed, with the sides that kept a seed out. Judges nothing."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from mnist_ablate.errors import SweepError
from mnist_ablate.statistics.estimators import Fraction
from mnist_ablate.statistics.paired_tests import Floats, Interval
from mnist_ablate.statistics.unpaired import Means
from mnist_ablate.sweep.claim import Direction
from mnist_ablate.trial import Row, Scalar
from mnist_ablate.workloads.workload import Metric

Factors = frozenset[tuple[str, Scalar]]  # values of factors, to look up by

_ROUNDING = 1e-12  # of the largest number in a difference: what sums in float64 can add to it
LARGEST = 1e300  # metrics above this could overflow on the way to an interval


@dataclass(frozen=True)
class ArmRows:
    """The rows of one arm by seed; `by_seed` is filled by `by_arm` and only read afterwards."""

    params: Mapping[str, Scalar]
    by_seed: dict[int, Row]


UNKNOWN = Metric("")


@dataclass(frozen=True)
class Side:
    """The arms of one side, the name of the side in sentences, and whether it is added (1.0) or subtracted (-1.0)."""

    name: str
    sign: float
    arms: Sequence[ArmRows]


@dataclass(frozen=True)
class Contrast:
    """What a claim compares: its arms side by side, and how the results of one seed become one number.

    That is their sum, each times its weight (in the order of the sides and their arms), less `offset`; else `number` of
    them. `reach` has the sums of the weights above and below zero. On a ratio's scale the results are logarithms.
    `estimator` takes the place of the numbers where one seed alone gives none: from results (seeds, arms) to intervals.
    `name` tells the contrasts of one claim apart; `margin` is that of the numbers. `problem` says why there is none.
    `counts_collapses`: seeds that collapsed are a statement of their own. `notes` are what a reader must know.
    """

    sides: tuple[Side, ...] = ()
    weights: tuple[float, ...] = ()
    problem: str = ""
    metric: str = ""
    margin: float = 0.0
    direction: Direction = "same"
    offset: float = 0.0
    seen: tuple[float, ...] = ()
    is_ratio: bool = False
    reach: tuple[float, float] = (1.0, 1.0)
    number: Callable[[Sequence[float]], float] | None = None
    estimator: Callable[[Floats], "Estimator | None"] | None = None
    name: str = ""
    about: Metric = UNKNOWN
    counts_collapses: bool = True
    notes: tuple[str, ...] = ()

    @property
    def arms(self) -> list[ArmRows]:
        """The arms in the order of the weights."""
        return [arm for side in self.sides for arm in side.arms]


class Estimator(Protocol):
    """An interval that is no t interval of one number a seed."""

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of results of each arm, or of the pairs alone."""

    @property
    def called(self) -> str:
        """What is said of its interval in a reason: ` of Welch`."""

    def interval(self, alpha: float, rounding: float = 0.0, times: float = 1.0) -> Interval:
        """The interval at level 1 - alpha, if there were so many times the seeds; sd is nan where it is unknown."""

    def p_value(self, null: float, rounding: float = 0.0) -> float:
        """The two-sided p-value of a null; 1 where the spread is unknown."""


@dataclass(frozen=True)
class Pairs:
    """Differences by seed, in the metric's unit.

    `seeds` is how many seeds any side has, `scale` the largest absolute metric in the differences. `excluded` names
    every side that kept a seed out. `problem`, unless empty, says why the claim must not be judged.
    `span` is what a difference can be at all: bounded if the metric is declared with bounds. `images` has, by seed, the
    results of single test images of each trial in the difference, with its weight.
    An `estimator` takes the place of the differences' t interval. `unpaired`: the sides have other seeds, or none.
    """

    differences: Mapping[int, float]
    seeds: int = 0
    scale: float = 0.0
    excluded: tuple[str, ...] = ()
    problem: str = ""
    span: tuple[float, float] = (-math.inf, math.inf)
    estimator: Estimator | None = None
    unpaired: bool = False
    images: Mapping[int, tuple[tuple[float, str], ...]] = field(default_factory=dict)

    def rounding(self, margin: float) -> float:
        """How far float64 sums can be off, in a difference and in what is compared with the margin."""
        return _ROUNDING * max(self.scale, margin)


def label(params: Mapping[str, Scalar]) -> str:
    """`normalizer=unit, activation=relu`."""
    return ", ".join(f"{name}={value}" for name, value in params.items()) or "(no factor)"


def shared_values(first: Mapping[int, Row], second: Mapping[int, Row], metric: str) -> tuple[list[float], list[float]]:
    """The metric of two arms, given by seed, over the seeds at which both have it."""
    seeds = [each for each in second if not (unusable(second[each], metric) or unusable(first.get(each), metric))]
    return [first[seed].metrics[metric] for seed in seeds], [second[seed].metrics[metric] for seed in seeds]


def by_arm(rows: Sequence[Row]) -> list[ArmRows]:
    """The rows by arm, in the order first seen. Raises SweepError if an arm has a seed twice."""
    arms: dict[Factors, ArmRows] = {}
    by_params: dict[int, ArmRows] = {}  # rows of a table share the params of their arm
    for row in rows:
        arm = by_params.get(id(row.params))
        if arm is None:
            arm = arms.setdefault(frozenset(row.params.items()), ArmRows(row.params, {}))
            by_params[id(row.params)] = arm
        if arm.by_seed.setdefault(row.seed, row) is not row:
            raise SweepError(f"two results for {label(row.params)} with seed {row.seed}: keep one")
    return list(arms.values())


def unusable(row: Row | None, metric: str) -> str:
    """Why a row cannot enter a mean; '' if it can."""
    if row is None:
        return "is missing"
    if row.status in ("failed", "lost"):
        return row.status
    value = row.metrics.get(metric)
    if value is None:
        return f"has no {metric}"
    return "" if math.isfinite(value) else f"has {metric} {value}"


def pairs(contrast: Contrast, first: int | None = None, counted: Callable[[Row], bool] | None = None) -> Pairs:
    """One difference for each seed that has every side, averaged over the factors that the claim does not name.

    Only values of those factors that every side has are compared, and a seed needs all of them.
    With `first`, only so many seeds are read, the lowest ones. Arms without common seeds, and estimators, are of those
    results that are `counted`, by default all.
    """
    if contrast.problem:
        return Pairs({}, problem=contrast.problem)
    metric, arms, seen = contrast.metric, contrast.arms, [*contrast.seen]
    if not shares_seeds(arms):
        return _unpaired(contrast, first, counted)
    differences: dict[int, float] = {}
    images: dict[int, tuple[tuple[float, str], ...]] = {}
    results: dict[int, list[float]] = {}
    excluded: list[str] = []
    problem = lacking = ""
    seeds = sorted(set[int]().union(*(arm.by_seed for arm in arms)))[:first]
    for seed in seeds:
        faults = [(arm, unusable(arm.by_seed.get(seed), metric)) for arm in arms]
        if found := [(label(arm.params), fault) for arm, fault in faults if fault]:
            excluded += [f"seed {seed}: {name} {fault}" for name, fault in found]
            ended = [(f"seed {seed}: a trial {fault}", fault) for _, fault in found if fault.startswith("has ")]
            problem = problem or next((text for text, fault in ended if not fault.startswith("has no ")), "")
            lacking = lacking or next((text for text, _ in ended), "")
            continue
        results[seed] = [arm.by_seed[seed].metrics[metric] for arm in arms]
        images[seed] = tuple(
            (weight, arm.by_seed[seed].correct) for weight, arm in zip(contrast.weights, arms, strict=True)
        )
        seen += results[seed]
    problem = problem or ("" if results else lacking)  # a metric that no seed has everywhere is not recorded
    scale = max(map(abs, seen), default=0.0)
    if scale > LARGEST:
        return Pairs({}, excluded=tuple(excluded), problem=f"{metric} is too large to add up: {scale:.4g}")
    is_estimated, as_measured = contrast.estimator is not None, results
    if contrast.is_ratio and not is_estimated:
        contrast, problem, results, scale = _on_logarithms(contrast, problem, results)
    for seed, values in () if contrast.is_ratio and is_estimated else results.items():
        weighted = zip(contrast.weights, values, strict=True)
        total = contrast.number(values) if contrast.number else sum(weight * value for weight, value in weighted)
        differences[seed] = total - contrast.offset
    estimator = None
    if contrast.estimator:
        kept = [values for seed, values in as_measured.items() if _is_counted(arms, seed, counted)]
        estimator = contrast.estimator(np.array(kept, dtype=np.float64).reshape(len(kept), len(arms)))
    span = (-math.inf, math.inf) if contrast.is_ratio else _span(contrast, contrast.about, seen)
    return Pairs(differences, len(seeds), scale, tuple(excluded), problem, span, estimator, images=images)


def _is_counted(arms: Sequence[ArmRows], seed: int, counted: Callable[[Row], bool] | None) -> bool:
    return counted is None or all(counted(arm.by_seed[seed]) for arm in arms)


def _on_logarithms(
    contrast: Contrast, problem: str, results: Mapping[int, list[float]]
) -> tuple[Contrast, str, dict[int, list[float]], float]:
    """The results as logarithms. With zeros among them the ratio is that of the means, by Fieller's interval."""
    values = np.array([*results.values()], dtype=np.float64).reshape(len(results), len(contrast.weights))
    if (values < 0.0).any():
        return contrast, f"scale: ratio, and {contrast.metric} is {values.min():g} somewhere", dict(results), 1.0
    if (values > 0.0).all():
        found = {seed: [math.log(value) for value in each] for seed, each in results.items()}
        return contrast, problem, found, max(1.0, float(np.abs(np.log(values)).max(initial=0.0)))
    weights = np.array(contrast.weights)
    above, below = values @ np.maximum(weights, 0.0), values @ np.maximum(-weights, 0.0)
    if len(contrast.sides) > 2 or contrast.number or not (above.any() and (below.any() or (weights > 0.0).all())):  # noqa: PLR2004
        return contrast, f"scale: ratio, and {contrast.metric} is 0 too often; claim the difference", dict(results), 1.0

    def of_means(kept: Floats) -> Estimator:
        subtracted = (
            kept @ np.maximum(-weights, 0.0) if (weights < 0.0).any() else np.exp(np.full(len(kept), contrast.offset))
        )
        return Fraction(kept @ np.maximum(weights, 0.0), subtracted, " of the ratio of means (some results are 0)")

    usable = {seed: each for seed, each in results.items() if min(each) > 0.0}
    found = {seed: [math.log(value) for value in each] for seed, each in usable.items()}
    return replace(contrast, estimator=of_means), problem, found, 1.0


def shares_seeds(arms: Sequence[ArmRows]) -> bool:
    """Whether there are pairs: every arm has at least half of the seeds of the arm with the fewest.

    It looks at seeds alone, never at results, so that no result chooses the method.
    """
    shared = set.intersection(*({*arm.by_seed} for arm in arms))
    return len(arms) == 1 or 2 * len(shared) >= min(len(arm.by_seed) for arm in arms)


def _unpaired(contrast: Contrast, first: int | None, counted: Callable[[Row], bool] | None) -> Pairs:
    """The results of each arm by themselves, of each no more than `first`, and of these the `counted` ones."""
    if contrast.number or contrast.estimator:
        return Pairs({}, problem="this kind of claim needs common seeds, and the arms have none")
    values, excluded = [], []
    for arm in contrast.arms:
        rows = [arm.by_seed[seed] for seed in sorted(arm.by_seed)[:first]]
        faults = [(row.seed, unusable(row, contrast.metric)) for row in rows]
        excluded += [f"seed {seed}: {label(arm.params)} {fault}" for seed, fault in faults if fault]
        usable = [row for row in rows if not unusable(row, contrast.metric) and (counted is None or counted(row))]
        values.append(np.array([row.metrics[contrast.metric] for row in usable]))
    scale = max((float(np.abs(each).max()) for each in values if each.size), default=0.0)
    if scale > LARGEST:
        return Pairs({}, problem=f"{contrast.metric} is too large to add up: {scale:.4g}")
    if contrast.is_ratio:
        if any((each <= 0.0).any() for each in values):
            return Pairs({}, problem=f"scale: ratio without common seeds, and {contrast.metric} is not always above 0")
        values, scale = [np.log(each) for each in values], max(1.0, abs(math.log(scale))) if scale else 1.0
    means = Means(contrast.weights, tuple(values), contrast.offset)
    return Pairs({}, min(means.counts), scale, tuple(excluded), estimator=means, unpaired=True)


def _span(contrast: Contrast, bounds: Metric, seen: Iterable[float]) -> tuple[float, float]:
    """The least and the largest difference of means within the metric's bounds.

    Infinite if the metric is not declared with two bounds, or if values were `seen` beyond them.
    """
    low, high = bounds.low, bounds.high
    if not (math.isfinite(low) and math.isfinite(high) and all(low <= value <= high for value in seen)):
        return (-math.inf, math.inf)
    added, subtracted = contrast.reach[0], -contrast.reach[1]
    return (
        added * low - subtracted * high - contrast.offset,
        added * high - subtracted * low - contrast.offset,
    )
