"""From finished rows to one difference for each seed, with the sides that kept a seed out. Judges nothing."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mnist_ablate.errors import SweepError
from mnist_ablate.statistics.unpaired import Means
from mnist_ablate.sweep.sweep import Claim
from mnist_ablate.text import guess
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


@dataclass(frozen=True)
class Pairs:
    """Differences by seed, in the metric's unit.

    `seeds` is how many seeds any side has, `scale` the largest absolute metric in the differences. `excluded` names
    every side that kept a seed out. `problem`, unless empty, says why the claim must not be judged.
    `span` is what a difference can be at all: bounded if the metric is declared with bounds. `images` has, by seed, the
    results of single test images of each trial in the difference, with its weight.
    `means` take the place of the differences if the sides have other seeds, or none.
    """

    differences: Mapping[int, float]
    seeds: int = 0
    scale: float = 0.0
    excluded: tuple[str, ...] = ()
    problem: str = ""
    span: tuple[float, float] = (-math.inf, math.inf)
    means: Means | None = None
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


def pairs(
    arms: Sequence[ArmRows], claim: Claim, first: int | None = None, counted: Callable[[Row], bool] | None = None
) -> Pairs:
    """One difference for each seed that has every side, averaged over the factors that the claim does not name.

    Only values of those factors that every side has are compared, and a seed needs all of them.
    With `first`, only so many seeds are read, the lowest ones. Arms without common seeds are compared by those results
    that are `counted`, by default all.
    """
    sides, problem = compared(arms, claim)
    if problem:
        return Pairs({}, problem=problem)
    reference = claim.reference if claim.versus is None else None  # it cancels in a difference of two differences
    offset, seen = reference or 0.0, [] if reference is None else [reference]
    weighted = [(sign / len(side), arm) for sign, side in sides for arm in side]
    if not shares_seeds([arm for _, arm in weighted]):
        return _unpaired(weighted, claim, first, counted)
    differences: dict[int, float] = {}
    images: dict[int, tuple[tuple[float, str], ...]] = {}
    excluded: list[str] = []
    lacking = ""
    seeds = sorted(set[int]().union(*(arm.by_seed for _, arm in weighted)))[:first]
    for seed in seeds:
        faults = [(arm, unusable(arm.by_seed.get(seed), claim.metric)) for _, arm in weighted]
        if found := [(label(arm.params), fault) for arm, fault in faults if fault]:
            excluded += [f"seed {seed}: {name} {fault}" for name, fault in found]
            ended = [(f"seed {seed}: a trial {fault}", fault) for _, fault in found if fault.startswith("has ")]
            problem = problem or next((text for text, fault in ended if not fault.startswith("has no ")), "")
            lacking = lacking or next((text for text, _ in ended), "")
            continue
        values = [arm.by_seed[seed].metrics[claim.metric] for _, arm in weighted]
        differences[seed] = sum(weight * value for (weight, _), value in zip(weighted, values, strict=True)) - offset
        images[seed] = tuple((weight, arm.by_seed[seed].correct) for weight, arm in weighted)
        seen += values
    scale = max(map(abs, seen), default=0.0)
    if scale > LARGEST:
        return Pairs({}, excluded=tuple(excluded), problem=f"{claim.metric} is too large to add up: {scale:.4g}")
    span = _span([sign for sign, _ in sides], claim.about, seen, offset)
    problem = problem or ("" if differences else lacking)  # a metric that no seed has everywhere is not recorded
    return Pairs(differences, len(seeds), scale, tuple(excluded), problem, span, images=images)


def shares_seeds(arms: Sequence[ArmRows]) -> bool:
    """Whether there are pairs: every arm has at least half of the seeds of the arm with the fewest.

    It looks at seeds alone, never at results, so that no result chooses the method.
    """
    shared = set.intersection(*({*arm.by_seed} for arm in arms))
    return len(arms) == 1 or 2 * len(shared) >= min(len(arm.by_seed) for arm in arms)


def _unpaired(
    weighted: Sequence[tuple[float, ArmRows]], claim: Claim, first: int | None, counted: Callable[[Row], bool] | None
) -> Pairs:
    """The results of each arm by themselves, of each no more than `first`, and of these the `counted` ones."""
    values, excluded = [], []
    for _, arm in weighted:
        rows = [arm.by_seed[seed] for seed in sorted(arm.by_seed)[:first]]
        faults = [(row.seed, unusable(row, claim.metric)) for row in rows]
        excluded += [f"seed {seed}: {label(arm.params)} {fault}" for seed, fault in faults if fault]
        usable = [row for row in rows if not unusable(row, claim.metric) and (counted is None or counted(row))]
        values.append(np.array([row.metrics[claim.metric] for row in usable]))
    scale = max((float(np.abs(each).max()) for each in values if each.size), default=0.0)
    if scale > LARGEST:
        return Pairs({}, problem=f"{claim.metric} is too large to add up: {scale:.4g}")
    offset = 0.0 if claim.versus is not None else claim.reference or 0.0
    means = Means(tuple(weight for weight, _ in weighted), tuple(values), offset)
    return Pairs({}, min(means.counts), scale, tuple(excluded), means=means)


def compared(arms: Sequence[ArmRows], claim: Claim) -> tuple[list[tuple[float, list[ArmRows]]], str]:
    """The arms on each side of a claim, with the side's sign; or no side, and why they cannot be compared."""
    if claim.control is None and claim.reference is None:
        return [], "the claim has neither control nor reference"
    # What `versus` does not mention stays as `where` has it, so that both differences stand in one context.
    first = [(1.0, claim.treatment)] + ([(-1.0, claim.control)] if claim.control is not None else [])
    sides = [(sign, {**claim.where, **params}) for sign, params in first]
    if claim.versus is not None:
        sides += [(-sign, {**claim.where, **claim.versus, **params}) for sign, params in first]
    named = {name for _, fixed in sides for name in fixed}
    cells: list[dict[Factors, ArmRows]] = []
    for _, fixed in sides:
        matches = [arm for arm in arms if fixed.items() <= arm.params.items()]
        for name in sorted(named - fixed.keys()):
            if len({arm.params.get(name) for arm in matches}) > 1:
                return [], f"{label(fixed)} leaves {name} open, which another side fixes: name it on every side"
        cells.append({frozenset(item for item in arm.params.items() if item[0] not in named): arm for arm in matches})
    shared = [rest for rest in cells[0] if all(rest in cell for cell in cells)]
    if not shared:
        absent = [fixed for cell, (_, fixed) in zip(cells, sides, strict=True) if not cell]
        if not absent:
            return [], "no two results differ only as claimed"
        return [], f"no result has {' or '.join(map(label, absent))}{_nearest(absent, arms)}"
    return [(sign, [cell[rest] for rest in shared]) for (sign, _), cell in zip(sides, cells, strict=True)], ""


def _nearest(absent: Iterable[Mapping[str, Scalar]], arms: Sequence[ArmRows]) -> str:
    """A suggestion for a value that no result has, if one is close."""
    for name, value in (item for each in absent for item in each.items()):
        there = dict.fromkeys(arm.params.get(name) for arm in arms)
        if value not in there and (told := guess(value, there)):
            return f"; {told}"
    return ""


def _span(signs: Sequence[float], bounds: Metric, seen: Iterable[float], offset: float) -> tuple[float, float]:
    """The least and the largest difference of means within the metric's bounds.

    Infinite if the metric is not declared with two bounds, or if values were `seen` beyond them.
    """
    low, high = bounds.low, bounds.high
    if not (math.isfinite(low) and math.isfinite(high) and all(low <= value <= high for value in seen)):
        return (-math.inf, math.inf)
    added, subtracted = signs.count(1.0), signs.count(-1.0)
    return (added * low - subtracted * high - offset, added * high - subtracted * low - offset)
