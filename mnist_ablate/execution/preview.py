"""What a sweep will cost and what it can find, before it is run. Times one short trial of each kind."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dask.system import CPU_COUNT
from pydantic import JsonValue

from mnist_ablate.errors import SweepError
from mnist_ablate.ledger import progress
from mnist_ablate.reports.wording import templates
from mnist_ablate.statistics.bounded_mean import smallest_mean
from mnist_ablate.statistics.claim_verdict import ALPHA
from mnist_ablate.statistics.claims.kind import kind_of
from mnist_ablate.statistics.decision_rule import FEWEST_PAIRS
from mnist_ablate.sweep.adaptive_schedule import SINGLE_LOOK
from mnist_ablate.sweep.claim import Claim, Estimand
from mnist_ablate.sweep.plan import Plan, count, label, make_plan, planned_settings
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.text import counted
from mnist_ablate.workloads.workload import Inputs

START_S = 6.0  # starting the workers, and what they import and compile first


@dataclass(frozen=True)
class ClaimPower:
    """The smallest effect beyond its margin that a claim finds with 80% power. None if it would find no size.

    With `estimand: mean` it finds this only if all seeds are alike, because its interval assumes no spread.
    """

    name: str
    metric: str
    unit: str
    margin: float
    smallest_effect: float | None
    estimand: Estimand = "typical"


@dataclass(frozen=True)
class Preview:
    """A plan's size, its time on this machine's cores, and the effects that it can find.

    Seeds, trials, trainings and time are the most that the sweep can need; one training serves the arms that differ in
    their epochs alone. An adaptive sweep may need only the `least`.
    `fingerprints` describe its inputs. `warnings` say what trials would lack. `assumed_sd` is what `claims` assume: the
    standard deviation of paired differences between seeds. `runs_code` names the user's code that trials run. Then the
    time is unknown, because a plan does not run it. `recorded` of the trials need not be trained again; None if no home
    was looked into.
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
    trainings: int
    least_trainings: int
    jobs: int
    estimated_s: float | None
    claims: list[ClaimPower]
    fingerprints: list[dict[str, JsonValue]]
    warnings: list[str]
    assumed_sd: float | None
    runs_code: str
    recorded: int | None = None

    def text(self, sweep: Sweep) -> str:
        """The same for a person."""
        inputs = self.fingerprints and sweep.workload.input_section(self.fingerprints)
        return templates().get_template("preview.txt.jinja").render(vars(self), inputs=inputs).rstrip()


def preview(
    sweep: Sweep, data: str | None, max_trials: int, weights: Path | None = None, ledger_url: str = ""
) -> Preview:
    """Expand a sweep, and time a short trial of each kind of arm on `data`; `weights` are of --weights.

    The trials that the ledger at `ledger_url` has are counted, unless it is empty.
    """
    workload = sweep.workload
    inputs = workload.load(data, run_code=False)
    plan = make_plan(sweep, inputs.digest, max_trials)
    found = outline(plan, inputs, weights)
    described = workload.fingerprints(inputs, planned_settings(plan))
    return replace(
        found,
        estimated_s=_time_s(plan, inputs),
        fingerprints=described,
        warnings=[*found.warnings, *workload.input_alarms(described)],
        recorded=_recorded(plan, ledger_url) if ledger_url else None,
    )


def outline(plan: Plan, inputs: Inputs, weights: Path | None = None) -> Preview:
    """The same at once: neither is a trial timed, nor are the inputs described. `inputs` are those of the plan."""
    sweep, workload, settings = plan.sweep, plan.sweep.workload, planned_settings(plan)
    workload.check(inputs, settings)
    powers = [_power(sweep, claim) for claim in sweep.claims]
    return Preview(
        sweep=sweep.name,
        digest=sweep.digest,
        arms=[label(arm.params) for arm in plan.arms],
        seeds=sweep.max_seeds,
        least_seeds=sweep.min_seeds,
        tuning_trials=plan.tuning_size,
        as_written_trials=len(plan.as_written_trials()),
        control_trials=sweep.control_seeds,
        trials=plan.size,
        least_trials=count(sweep, sweep.min_seeds),
        trainings=plan.training_count(plan.size, sweep.max_seeds),
        least_trainings=plan.training_count(count(sweep, sweep.min_seeds), sweep.min_seeds),
        jobs=CPU_COUNT,
        estimated_s=None,
        claims=powers,
        fingerprints=[],
        warnings=[*_warnings(sweep, powers), *workload.warnings(settings, weights)],
        assumed_sd=next((sd for claim in sweep.claims if (sd := claim.about.seed_sd)), None),
        runs_code=workload.runs_code,
    )


def _recorded(plan: Plan, ledger_url: str) -> int:
    """How many of the plan's trials a ledger has, whichever record they are in last."""
    from mnist_ablate.ledger.ledger import Ledger  # here, because it imports optuna

    ledger = Ledger(ledger_url)
    try:
        return progress.done(plan, ledger.find(plan.sweep.name).entries())
    except SweepError:
        return 0


def _power(sweep: Sweep, claim: Claim) -> ClaimPower:
    seeds, alpha = sweep.max_seeds, ALPHA * (sweep.looks or SINGLE_LOOK)[-1].share
    kind, n_claims = kind_of(claim), len(sweep.every_claim)
    if claim.estimand == "mean":
        size = smallest_mean(seeds, alpha / n_claims, claim.margin, claim.about.high - claim.about.low)
    else:
        size = kind.smallest_effect(claim, sweep, seeds, n_claims, alpha)
    found = size if math.isfinite(size) else None
    return ClaimPower(claim.name, claim.metric, kind.unit(claim), claim.margin, found, claim.estimand)


def _warnings(sweep: Sweep, powers: Sequence[ClaimPower]) -> Iterator[str]:
    if not sweep.claims:
        yield "no claims: the sweep will show arms and judge nothing"
    elif sweep.max_seeds < FEWEST_PAIRS:
        option = f"--set seeds.max={FEWEST_PAIRS}" if sweep.looks else f"--seeds {FEWEST_PAIRS}"
        yield f"{counted(sweep.max_seeds, 'seed')} cannot decide a claim: {FEWEST_PAIRS} are the fewest ({option})"
    for each in powers:
        if each.estimand == "mean" and each.smallest_effect is None:
            seeds = counted(sweep.max_seeds, "seed")
            yield f"claims.{each.name}: with estimand: mean {seeds} cannot decide it, whatever they find"


def _time_s(plan: Plan, inputs: Inputs) -> float | None:
    """Seconds on all cores: what is prepared once, and the epochs of each trial. Half an epoch stands for the rest."""
    workload = plan.sweep.workload
    cost = workload.cost(inputs, [arm.settings for arm in plan.arms])
    if cost is None:
        return None
    epochs = [float(arm.settings[workload.budget]) + 0.5 for arm in plan.arms]
    trial_s = [number * epoch_s for number, epoch_s in zip(epochs, cost.epoch_s, strict=True)]
    longest = [each[-1] for each in plan.arms_together]
    runs = len(plan.points) + plan.sweep.max_seeds * (2 if plan.sweep.as_written else 1)
    round_s = sum(seconds for arm, seconds in zip(plan.arms, trial_s, strict=True) if arm in longest)
    control_s = plan.sweep.control_seeds * trial_s[plan.arms.index(plan.control_arm)]
    tried = plan.tuning_size - len(plan.tuning)  # of a search or a path: as long as the last arm, if none is pruned
    return START_S + (cost.preparation_s + runs * round_s + control_s + tried * trial_s[-1]) / int(CPU_COUNT)
