"""What a sweep will cost and can find, before it is run: times one short trial of each network shape."""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_ablate.execution.cluster import default_jobs
from mnist_ablate.statistics.verdict import ALPHA, can_decide, fewest_seeds, smallest_effect
from mnist_ablate.sweep.adaptive_schedule import ONCE
from mnist_ablate.sweep.plan import Plan, control_count, count, expand, label, planned_settings
from mnist_ablate.sweep.sweep import Claim, Sweep
from mnist_ablate.text import counted
from mnist_ablate.workloads.keras_mnist import input_words
from mnist_ablate.workloads.workload import Inputs, default_workload, metric_named

START_S = 6.0
"""Starting the workers, and what they import and compile first."""


@dataclass(frozen=True)
class ClaimPower:
    """The smallest effect beyond its margin that a claim finds with 80% power; None if no size would be found."""

    name: str
    margin: float
    smallest_effect: float | None


@dataclass(frozen=True)
class Preview:
    """A plan's size, its time on this machine's cores, and the effects that it can find.

    Seeds, trials and time are the most that there can be. An adaptive sweep may need only the `least`.
    """

    sweep: str
    digest: str
    arms: list[str]
    seeds: int
    least_seeds: int
    tuning_trials: int
    as_written_trials: int
    control_trials: int
    trials: int
    least_trials: int
    jobs: int
    estimated_s: float
    claims: list[ClaimPower]
    fingerprints: list[dict[str, Any]]
    warnings: list[str]
    assumed_sd: float | None

    def document(self) -> dict[str, Any]:
        """As JSON; an effect that no size would reveal is null."""
        return dataclasses.asdict(self)

    def text(self) -> str:
        """As lines for a person."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        tuning = f", {self.tuning_trials} of them tuning" if self.tuning_trials else ""
        tuning += f", {self.as_written_trials} as written" if self.as_written_trials else ""
        control = f", {self.control_trials} of them the negative control" if self.control_trials else ""
        adaptive = self.least_seeds < self.seeds
        seeds = f"{self.least_seeds} to " * adaptive + counted(self.seeds, "seed")
        trials = f"from {self.least_trials:,} to " * adaptive + counted(self.trials, "trial")
        yield f"{self.sweep}: {counted(len(self.arms), 'arm')} x {seeds}, {trials}{tuning}{control}"
        yield from (f"  {arm}" for arm in self.arms)
        about, jobs = "at most" if adaptive else "about", counted(self.jobs, "job")
        yield f"{about} {self.estimated_s / 60:.1f} min with {jobs} (one short trial of each shape was timed)"
        for claim in self.claims:
            if claim.smallest_effect is not None:
                beyond = f"{claim.smallest_effect:.2%} beyond its margin of {claim.margin:.2%}"
                yield f"  {claim.name}: finds effects {beyond} (80% power)"
        if self.assumed_sd is not None:
            yield f"  (if paired differences between seeds have a standard deviation of {self.assumed_sd:.2%})"
        yield f"{input_words.TITLE}:"
        for found in self.fingerprints:
            yield f"  {found['normalizer']}"
            yield from (f"    {line}" for line in input_words.lines(found))
        yield from (f"warning: {warning}" for warning in self.warnings)


def preview(sweep: Sweep, path: Path | None, max_trials: int, weights: Path | None = None) -> Preview:
    """Expand a sweep, and time a short trial of each kind of arm on the data at `path`.

    `weights` is the file of --weights. What trials would lack is among the warnings.
    """
    workload = default_workload()
    inputs = workload.load(path)
    plan = expand(sweep, inputs.digest, max_trials)
    found = workload.fingerprints(inputs, planned_settings(plan))
    return Preview(
        sweep=sweep.name,
        digest=sweep.digest,
        arms=[label(arm.params) for arm in plan.arms],
        seeds=sweep.most_seeds,
        least_seeds=sweep.least_seeds,
        tuning_trials=plan.tuning_size,
        as_written_trials=len(plan.as_written_trials()),
        control_trials=control_count(sweep),
        trials=plan.size,
        least_trials=count(sweep, sweep.least_seeds),
        jobs=default_jobs(),
        estimated_s=_time_s(plan, inputs),
        claims=[_power(sweep, claim) for claim in sweep.claims],
        fingerprints=found,
        warnings=[*_warnings(sweep), *workload.warnings(planned_settings(plan), weights), *input_words.damage(found)],
        assumed_sd=next((sd for claim in sweep.claims if (sd := metric_named(claim.metric).seed_sd)), None),
    )


def _power(sweep: Sweep, claim: Claim) -> ClaimPower:
    seeds, alpha = sweep.most_seeds, ALPHA * (sweep.looks or ONCE)[-1].share
    sd = metric_named(claim.metric).seed_sd
    size = smallest_effect(seeds, len(sweep.claims), sd, alpha, margin=claim.margin) if sd else math.inf
    return ClaimPower(claim.name, claim.margin, size if math.isfinite(size) else None)


def _warnings(sweep: Sweep) -> Iterator[str]:
    claims = len(sweep.claims)
    most, looks = sweep.most_seeds, sweep.looks or ONCE
    if claims and not any(can_decide(look.seeds or most, claims, ALPHA * look.share) for look in looks):
        least = fewest_seeds(claims, ALPHA * looks[-1].share)
        way = f"set seeds.max={least}" if sweep.looks else f"seeds {least}"
        what = f"any of {claims} claims" if claims > 1 else "the claim"
        yield f"{counted(most, 'seed')} cannot support {what}: sign flips need {least} (--{way})"
    if not claims:
        yield "no claims: the sweep will show arms, and judge nothing"


def _time_s(plan: Plan, inputs: Inputs) -> float:
    """Seconds on all cores: what is prepared once, and an epoch of each arm times the epochs asked for."""
    workload = default_workload()
    cost = workload.cost(inputs, [arm.settings for arm in plan.arms])
    trial_s = [
        (float(arm.settings[workload.budget]) + 0.5) * epoch_s
        for arm, epoch_s in zip(plan.arms, cost.epoch_s, strict=True)
    ]
    runs = len(plan.points) + plan.sweep.most_seeds * (2 if plan.sweep.as_written else 1)
    control_s = control_count(plan.sweep) * trial_s[plan.arms.index(plan.control_arm)]
    tried = plan.tuning_size - len(plan.tuning)  # of a search or a path: as long as the last arm, if none is pruned
    return START_S + (cost.preparation_s + runs * sum(trial_s) + control_s + tried * trial_s[-1]) / default_jobs()
