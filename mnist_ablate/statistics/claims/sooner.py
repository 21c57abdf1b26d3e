"""Sooner: epochs (images, seconds) to a level, which some may never reach; or ahead at every epoch."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from pydantic import Field

from mnist_ablate.statistics.claims.compare import Compare
from mnist_ablate.statistics.claims.kind import two_sides
from mnist_ablate.statistics.estimators import PartlyKnown
from mnist_ablate.statistics.paired_tests import Floats
from mnist_ablate.statistics.pairing import ArmRows, Contrast, Estimator
from mnist_ablate.sweep.claim import Claim, Problem
from mnist_ablate.trial import Row
from mnist_ablate.workloads.workload import Metric, default_workload

if TYPE_CHECKING:
    from mnist_ablate.sweep.sweep import Sweep

By = Literal["epochs", "images", "seconds"]
COSTS: dict[str, str] = {"images": "images_per_epoch", "seconds": "epoch_seconds"}
"""The metric that says what an epoch costs."""


class SoonerClaim(Claim):
    """When the curve of a metric first reaches a level; or, at every epoch, which curve is ahead."""

    metric: str = Field(
        default=default_workload().selection_metric, description="A metric that every epoch reports, whose curve it is."
    )
    level: float | None = Field(default=None, description="What the curve must reach.")
    by: By = Field(default="epochs", description="What is counted until then, and what the margin is of.")
    every_epoch: bool = Field(default=False, description="In place of level: the curve is ahead at every epoch.")
    never = ("reference", "versus", "scale")
    is_sum = False

    @property
    def measured_metric(self) -> str:
        """What an epoch costs, if that is counted."""
        return COSTS.get(self.by, self.metric)

    def problems(self, sweep: "Sweep") -> Iterator[Problem]:
        """Whether there is a curve, and one thing that is asked of it."""
        if self.control is None:
            yield "control", "is missing; give the arm that it is compared with"
        yield from super().problems(sweep) if self.control is not None else ()
        if (self.level is None) != self.every_epoch:
            yield "level", "or every_epoch: true must be there, and not both"
        if self.every_epoch and self.by != "epochs":
            yield "by", "goes with level; at every epoch nothing is counted"
        cost = COSTS.get(self.by)
        if cost and not sweep.train and cost not in sweep.workload.metrics and cost not in sweep.metrics:
            yield "by", f"{self.by} needs the metric {cost}, which trials do not report; write epochs"
        known = sweep.workload.metrics.get(self.metric) if not sweep.train else None
        if known and not known.per_epoch:
            curves = [name for name, metric in sweep.workload.metrics.items() if metric.per_epoch]
            yield "metric", f"{self.metric} has no curve; take one that every epoch reports: {', '.join(curves)}"


class Sooner(Compare):
    """A comparison of what follows from the curves.

    A training that does not reach the level is no missing value: its time is at least what it was trained for. So the
    interval reaches to the least and the most that the mean difference can be, and a side that never gets there can
    still lose. A training that collapsed counts as a collapse, as everywhere.
    """

    meaning = "X converges sooner; X is ahead at every epoch."
    keys = SoonerClaim
    is_paired_difference = False
    reads_curves = True
    glossary = "Sooner: what it takes until the level is reached, treatment minus control; below zero is sooner."
    example = """\
design: one_factor
baseline: {optimizer: sgd}
scientific:
  optimizer: [sgd, adam]
fixed: {model: mlp, epochs: 8}
seeds: {min: 4, max: 30}
claims:
  - name: adam-is-sooner
    kind: sooner                # epochs until a level; trainings that never reach it count as later than the last epoch
    statement: Adam converges sooner than SGD.
    treatment: {optimizer: adam}
    control: {optimizer: sgd}
    metric: val_accuracy        # a metric that every epoch reports
    level: 0.95                 # or every_epoch: true, ahead at every epoch (then the margin is of the metric)
    by: epochs                  # or images, seconds, where trials report images_per_epoch or epoch_seconds
    direction: lower            # fewer epochs
    margin: 1
"""

    def contrasts(self, arms: Sequence[ArmRows], claim: Claim) -> Sequence[Contrast]:
        """Of the epochs to the level, or of the metric at each epoch."""
        asked = cast("SoonerClaim", claim)
        if asked.level is not None:
            found = two_sides([_with_times(arm, asked) for arm in arms], claim, claim.treatment, claim.control or {})
            about = Metric(
                _time(asked),
                better="lower",
                low=0.0,
                high=_last_epoch(arms) + 1.0 if asked.by == "epochs" else math.inf,
            )
            return (
                replace(
                    found,
                    metric=_time(asked),
                    about=about,
                    number=lambda values: sum(w * abs(v) for w, v in zip(found.weights, values, strict=True)),
                    estimator=lambda results: _partly_known(results, found.weights),
                ),
            )
        last = _last_epoch(arms)
        if not last:
            return (Contrast(problem=f"the results have no curve of {claim.metric}", metric=claim.metric),)
        curves = [_with_curve(arm, claim.metric) for arm in arms]
        parts = [
            two_sides(curves, claim, claim.treatment, claim.control or {}, f"epoch {n}") for n in range(1, last + 1)
        ]
        return [replace(part, metric=_at(claim.metric, n)) for n, part in enumerate(parts, 1)]

    def sides(self, arms: Sequence[ArmRows], claim: Claim) -> list[tuple[float, Sequence[ArmRows]]]:
        """As the rows have them, without what follows from the curves."""
        found = two_sides(arms, claim, claim.treatment, claim.control or {})
        return [(side.sign, side.arms) for side in found.sides]

    def measure(self, claim: Claim) -> str:
        """What its effect is called."""
        asked = cast("SoonerClaim", claim)
        return "lead at an epoch" if asked.level is None else f"difference in {asked.by} to {asked.level:g}"

    def unit(self, claim: Claim) -> str:
        """The unit of that."""
        asked = cast("SoonerClaim", claim)
        return claim.about.unit if asked.level is None else asked.by

    def smallest_effect(self, claim: Claim, sweep: "Sweep", n_seeds: int, n_claims: int, alpha: float) -> float:
        """Unknown for times."""
        known = cast("SoonerClaim", claim).level is None
        return super().smallest_effect(claim, sweep, n_seeds, n_claims, alpha) if known else math.inf


def _time(claim: SoonerClaim) -> str:
    return f"{claim.by} to {claim.metric} {claim.level:g}"


def _at(metric: str, epoch: int) -> str:
    return f"{metric} at epoch {epoch}"


def _last_epoch(arms: Iterable[ArmRows]) -> int:
    return max((len(row.epochs) for arm in arms for row in arm.by_seed.values()), default=0)


def _with_curve(arm: ArmRows, metric: str) -> ArmRows:
    """The arm with the value at each epoch as a metric of its own."""
    return _changed(
        arm, lambda row: {_at(metric, e.number): e.metrics[metric] for e in row.epochs if metric in e.metrics}
    )


def _with_times(arm: ArmRows, claim: SoonerClaim) -> ArmRows:
    """The arm with the time to the level as a metric; below zero, so far as it was trained without reaching it."""
    better = 1.0 if claim.about.better == "higher" else -1.0
    planned = _last_epoch([arm])

    def times(row: Row) -> dict[str, float]:
        curve = [(epoch.number, epoch.metrics.get(claim.metric, math.nan)) for epoch in row.epochs]
        cost = 1.0 if claim.by == "epochs" else row.metrics.get(COSTS[claim.by], math.nan)
        if not curve or math.isnan(cost):
            return {}
        reached = (number for number, value in curve if better * value >= better * (claim.level or 0.0))
        return {_time(claim): cost * next(reached, -(planned + 1.0))}

    return _changed(arm, times)


def _changed(arm: ArmRows, more: Callable[[Row], dict[str, float]]) -> ArmRows:
    rows = {seed: replace(row, metrics={**row.metrics, **more(row)}) for seed, row in arm.by_seed.items()}
    return ArmRows(arm.params, rows)


def _partly_known(results: Floats, weights: Sequence[float]) -> Estimator | None:
    """None if all is known."""
    if not (results < 0.0).any():
        return None
    w = np.array(weights)
    sizes = np.abs(results) * w
    least = np.where((results < 0.0) & (w < 0.0), -np.inf, sizes).sum(axis=1)
    most = np.where((results < 0.0) & (w > 0.0), np.inf, sizes).sum(axis=1)
    top = float(np.abs(results).max())
    return PartlyKnown(least, most, sizes.sum(axis=1), (-top, top))


KIND = Sooner()
