"""Sensitivity: how much a setting matters to each of two arms, over a grid of the setting's values."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from pydantic import Field, ValidationError

from mnist_ablate.statistics.claims.kind import ClaimKind, two_sides
from mnist_ablate.statistics.paired_tests import Floats
from mnist_ablate.statistics.pairing import ArmRows, Contrast, label, unusable
from mnist_ablate.sweep.claim import Claim, Problem
from mnist_ablate.sweep.designs import contains_value
from mnist_ablate.text import hint, listed
from mnist_ablate.trial import Params

if TYPE_CHECKING:
    from mnist_ablate.sweep.sweep import Sweep

By = Literal["worst", "range", "mean", "share"]
_FEWEST = 3  # values: two are a comparison
_UNEVEN = 1.3  # the largest step of a grid over the smallest, in logarithms: 0.001, 0.003, 0.01 is even


class SensitivityClaim(Claim):
    """Treatment and control, each over the same grid of a setting."""

    grid: str = Field(description="The factor whose values are the grid, evenly spaced in logarithms.")
    by: By = Field(
        default="worst",
        description="What a seed's results over the grid come to: the worst, their range, their mean, or the share of"
        " values within `within` of the best.",
    )
    within: float = Field(default=0.0, ge=0.0, description="For share: how far from the best still counts.")
    never = ("reference", "versus")
    is_sum = False

    def problems(self, sweep: "Sweep") -> Iterator[Problem]:
        """Whether the grid is one, even, and has the usual value of each arm."""
        if self.control is None:
            yield "control", "is missing; give the arm that it is compared with"
        yield from super().problems(sweep) if self.control is not None else ()
        if self.by == "share" and self.is_ratio:
            yield "scale", "must be difference: shares of a grid are compared by their difference"
        if (self.by == "share") != (self.within > 0.0):
            yield "within", "goes with by: share, and says how far from the best still counts (above 0)"
        values = sweep.columns.get(self.grid)
        if values is None:
            yield "grid", f"{self.grid} is no factor of this sweep; {hint(self.grid, sweep.columns, 'factors')}"
            return
        if any(self.grid in each for each in (self.treatment, self.control or {}, self.where)):
            yield "grid", f"{self.grid} is fixed by a side of the claim, so it is no grid; remove it there"
        numbers = sorted(float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool))
        if len(numbers) < max(_FEWEST, len(values)) or numbers[0] <= 0.0:
            yield "grid", f"{self.grid} needs {_FEWEST} numbers above 0 at least; not {listed(values)}"
            return
        steps = np.diff(np.log(numbers))
        if steps.max() > _UNEVEN * steps.min():
            yield "grid", f"{self.grid} is not evenly spaced in logarithms: {listed(values)}; write a x, b x, c x"
        for side in (self.treatment, self.control or {}):
            usual = _usual(sweep, self.grid, {**self.where, **side})
            if usual is not None and not contains_value(values, usual):
                yield "grid", f"{self.grid} lacks {usual:g}, the default for {label(side)}; add it"


def _usual(sweep: "Sweep", setting: str, arm: Params) -> float | None:
    """The default of a setting for an arm; None if it is no setting of the workload, or no number."""
    workload = sweep.workload
    if setting not in workload.settings.model_fields:
        return None
    try:
        known = {key: value for key, value in {**sweep.fixed, **arm}.items() if key in workload.settings.model_fields}
        found = workload.complete({key: value for key, value in known.items() if key != setting})[setting]
    except (ValidationError, KeyError):
        return None
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


class Sensitivity(ClaimKind):
    """One number a seed of each arm, from its results over the grid; then treatment minus control."""

    meaning = "X is less sensitive to the learning rate than Y; X allows larger rates."
    keys = SensitivityClaim
    glossary = (
        "Over a grid: what the results of one seed come to over all values of a setting, treatment minus control."
    )
    example = """\
design: factorial
baseline: {optimizer: sgd, learning_rate: 0.01}
scientific:
  optimizer: [sgd, adam]
  learning_rate: [0.0001, 0.001, 0.01, 0.1]   # even in logarithms, with the default of each arm in it
fixed: {model: mlp, epochs: 3}
seeds: {min: 4, max: 30}
claims:
  - name: adam-is-robust
    kind: sensitivity           # each arm over the grid, then treatment minus control at the same seed
    statement: Adam is less sensitive to its learning rate than SGD.
    treatment: {optimizer: adam}
    control: {optimizer: sgd}
    grid: learning_rate
    by: worst                   # worst, range, mean, or share of the grid within `within` of the best
    # within: 0.01
    direction: higher           # of that number: the worst is higher; of range, lower is less sensitive
    margin: 0.01
"""

    def contrast(self, arms: Sequence[ArmRows], claim: Claim) -> Contrast:
        """Both sides with the grid's factor open."""
        asked = cast("SensitivityClaim", claim)
        found = two_sides(arms, claim, claim.treatment, claim.control or {})
        if found.problem:
            return found
        if not all(asked.grid in arm.params for arm in found.arms):
            return replace(found, problem=f"the results have no {asked.grid}, which is the grid")
        groups = [_groups(side.arms, asked.grid) for side in found.sides]
        if len(next(iter(groups[0].values()))) < _FEWEST:
            return replace(found, problem=f"fewer than {_FEWEST} values of {asked.grid} have results on both sides")
        first = len(found.sides[0].arms)
        stat = _statistic(asked)

        def number(values: Sequence[float]) -> float:
            x = np.array(values)
            means = [
                float(np.mean([stat(part[places]) for places in group.values()]))
                for part, group in zip((x[:first], x[first:]), groups, strict=True)
            ]
            return means[0] - means[1]

        notes = (*_edges(found, asked),)
        return replace(found, number=number, reach=(1.0, -1.0), counts_collapses=asked.by != "share", notes=notes)

    def measure(self, claim: Claim) -> str:
        """What its effect is called."""
        asked = cast("SensitivityClaim", claim)
        return f"{'ratio' if claim.is_ratio else 'difference'} of the {asked.by} over {asked.grid}"

    def unit(self, claim: Claim) -> str:
        """The unit of that."""
        return "share" if cast("SensitivityClaim", claim).by == "share" else super().unit(claim)


def _groups(arms: Sequence[ArmRows], grid: str) -> Mapping[tuple[object, ...], list[int]]:
    """The places of the arms that differ in the grid's factor alone."""
    found: dict[tuple[object, ...], list[int]] = {}
    for place, arm in enumerate(arms):
        found.setdefault(tuple(value for name, value in arm.params.items() if name != grid), []).append(place)
    return found


def _statistic(claim: SensitivityClaim) -> Callable[[Floats], float]:
    is_higher = claim.about.better == "higher"
    if claim.by == "worst":
        return lambda x: float(x.min() if is_higher else x.max())
    if claim.by == "range":
        return lambda x: float(np.ptp(x))
    if claim.by == "mean":
        return lambda x: float(x.mean())
    return lambda x: float(np.mean(x >= x.max() - claim.within if is_higher else x <= x.min() + claim.within))


def _edges(found: Contrast, claim: SensitivityClaim) -> Iterator[str]:
    """Sides whose best value, by the mean over seeds, is the lowest or the highest that was tried."""
    better = 1.0 if claim.about.better == "higher" else -1.0
    for side in found.sides:
        by_value: dict[float, list[float]] = {}
        for arm in side.arms:
            values = [row.metrics[claim.metric] for row in arm.by_seed.values() if not unusable(row, claim.metric)]
            by_value.setdefault(float(arm.params[claim.grid]), []).extend(values)
        means = {value: better * float(np.mean(seen)) for value, seen in by_value.items() if seen}
        if len(means) > 1 and (best := max(means, key=means.__getitem__)) in (min(means), max(means)):
            end = "lowest" if best == min(means) else "highest"
            yield f"the best {claim.grid} of the {side.name} is the {end} of the grid, {best:g}: widen it"


KIND = Sensitivity()
