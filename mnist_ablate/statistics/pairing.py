"""From finished rows to one difference for each seed, with the sides that kept a seed out. Judges nothing."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import mul

from mnist_ablate.errors import SweepError
from mnist_ablate.sweep.sweep import Claim
from mnist_ablate.trial import Row, Scalar
from mnist_ablate.workloads.workload import metric_named

Rest = frozenset[tuple[str, Scalar]]
"""The values of the factors that a claim does not name."""

_ROUNDING = 1e-12  # of the largest number in a difference: what sums in float64 can add to it
_NO_RESULT = ("failed", "lost")
LARGEST = 1e300
"""Metrics above this could overflow on the way to an interval."""


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
    `span` is what a difference can be at all: bounded if the metric is declared with bounds.
    """

    differences: Mapping[int, float]
    seeds: int = 0
    scale: float = 0.0
    excluded: tuple[str, ...] = ()
    problem: str = ""
    span: tuple[float, float] = (-math.inf, math.inf)

    def rounding(self, margin: float) -> float:
        """How far float64 sums can be off, in a difference and in what is compared with the margin."""
        return _ROUNDING * max(self.scale, margin)


def label(params: Mapping[str, Scalar]) -> str:
    """`normalizer=unit, activation=relu`."""
    return ", ".join(f"{name}={value}" for name, value in params.items()) or "(no factor)"


def by_arm(rows: Sequence[Row]) -> list[ArmRows]:
    """The rows by arm, in the order first seen. Raises SweepError if an arm has a seed twice."""
    arms: dict[Rest, ArmRows] = {}
    known: dict[int, ArmRows] = {}  # by the identity of params, which the rows of a table share
    for row in rows:
        arm = known.get(id(row.params))
        if arm is None:
            arm = known[id(row.params)] = arms.setdefault(frozenset(row.params.items()), ArmRows(row.params, {}))
        if arm.by_seed.setdefault(row.seed, row) is not row:
            raise SweepError(f"two results for {label(row.params)} with seed {row.seed}: keep one")
    return list(arms.values())


def unusable(row: Row | None, metric: str) -> str:
    """Why a row cannot enter a mean; '' if it can."""
    if row is None:
        return "is missing"
    if row.status in _NO_RESULT:
        return row.status
    value = row.metrics.get(metric)
    if value is None:
        return f"has no {metric}"
    return "" if math.isfinite(value) else f"has {metric} {value}"


def pairs(arms: Sequence[ArmRows], claim: Claim, first: int | None = None) -> Pairs:
    """One difference for each seed that has every side, averaged over the factors that the claim does not name.

    Only values of those factors that every side has are compared, and a seed needs all of them.
    With `first`, only so many seeds are read, the lowest ones.
    """
    found = compared(arms, claim)
    return found if isinstance(found, Pairs) else _differences(found, claim, first)


def compared(arms: Sequence[ArmRows], claim: Claim) -> list[tuple[float, list[ArmRows]]] | Pairs:
    """The arms on each side of a claim, with the side's sign; where they cannot be compared, why."""
    if claim.control is None and claim.reference is None:
        return Pairs({}, problem="the claim has neither control nor reference")
    sides = _sides(claim)
    named = {name for _, fixed in sides for name in fixed}
    cells: list[dict[Rest, ArmRows]] = []
    for _, fixed in sides:
        matches = [arm for arm in arms if all(arm.params.get(name) == value for name, value in fixed.items())]
        if problem := _ambiguous(matches, fixed, named):
            return Pairs({}, problem=problem)
        cells.append({_rest(arm, named): arm for arm in matches})
    shared = [rest for rest in cells[0] if all(rest in cell for cell in cells)]
    if not shared:
        absent = [label(fixed) for cell, (_, fixed) in zip(cells, sides, strict=True) if not cell]
        what = f"no result has {' or '.join(absent)}" if absent else "no two results differ only as claimed"
        return Pairs({}, problem=what)
    return [(sign, [cell[rest] for rest in shared]) for (sign, _), cell in zip(sides, cells, strict=True)]


def _sides(claim: Claim) -> list[tuple[float, dict[str, Scalar]]]:
    """The means that add up to the difference, each with its sign and the factors it fixes.

    What `versus` does not mention stays as `where` has it, so that both differences stand in one context.
    """
    first = [(1.0, claim.treatment)] + ([(-1.0, claim.control)] if claim.control is not None else [])
    sides = [(sign, {**claim.where, **params}) for sign, params in first]
    if claim.versus is not None:
        sides += [(-sign, {**claim.where, **claim.versus, **params}) for sign, params in first]
    return sides


def _rest(arm: ArmRows, named: set[str]) -> Rest:
    return frozenset(item for item in arm.params.items() if item[0] not in named)


def _ambiguous(matches: Sequence[ArmRows], fixed: Mapping[str, Scalar], named: set[str]) -> str:
    """The factor that another side names and this side leaves open with several values; '' if there is none."""
    for name in sorted(named - fixed.keys()):
        if len({arm.params.get(name) for arm in matches}) > 1:
            return f"{label(fixed)} leaves {name} open, which another side fixes: name it on every side"
    return ""


def _differences(sides: Sequence[tuple[float, Sequence[ArmRows]]], claim: Claim, first: int | None) -> Pairs:
    offset = claim.reference if claim.reference is not None and claim.versus is None else 0.0
    weighted = [(sign / len(side), arm) for sign, side in sides for arm in side]
    weights = [weight for weight, _ in weighted]
    found: dict[int, float] = {}
    excluded: list[str] = []
    problem, seen = "", [offset] if claim.reference is not None and claim.versus is None else []
    seeds = sorted(set().union(*(arm.by_seed for _, arm in weighted)))[:first]
    for seed in seeds:
        rows = [arm.by_seed.get(seed) for _, arm in weighted]
        faults = [unusable(row, claim.metric) for row in rows]
        if any(faults):
            sides_ = list(zip(weighted, rows, faults, strict=True))
            excluded += [f"seed {seed}: {label(arm.params)} {fault}" for (_, arm), _, fault in sides_ if fault]
            ended = [fault for _, row, fault in sides_ if fault and row and row.status not in _NO_RESULT]
            problem = problem or (f"seed {seed}: a trial {ended[0]}" if ended else "")
            continue
        values = [row.metrics[claim.metric] for row in rows if row is not None]
        found[seed] = sum(map(mul, weights, values)) - offset
        seen += values
    scale = max(map(abs, seen), default=0.0)
    if scale > LARGEST:
        return Pairs({}, excluded=tuple(excluded), problem=f"{claim.metric} is too large to add up: {scale:.4g}")
    span = _span([sign for sign, _ in sides], claim.metric, seen, offset)
    return Pairs(found, len(seeds), scale, tuple(excluded), problem, span)


def _span(signs: Sequence[float], metric: str, seen: Iterable[float], offset: float) -> tuple[float, float]:
    """The least and the largest difference of means within the metric's bounds.

    Infinite if the metric is not declared with two bounds, or if values were `seen` beyond them.
    """
    declared = metric_named(metric)
    low, high = declared.low, declared.high
    if not (math.isfinite(low) and math.isfinite(high) and all(low <= value <= high for value in seen)):
        return (-math.inf, math.inf)
    added, subtracted = signs.count(1.0), signs.count(-1.0)
    return (added * low - subtracted * high - offset, added * high - subtracted * low - offset)
