"""Which trials adaptive sweeps and ablation paths ask for, worked out a second time; shares no code with the driver."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from mnist_ablate.statistics.verdict import judge
from mnist_ablate.sweep.plan import Plan, Planned
from mnist_ablate.sweep.sweep import Claim, Sweep
from mnist_ablate.trial import Row, Scalar
from mnist_ablate.workloads.workload import default_workload

Outcome = Mapping[str, Any]
Params = Mapping[str, Scalar]


def wanted(
    sweep: Sweep, trials: Sequence[Planned], outcome_of: Callable[[Planned], Outcome | None]
) -> tuple[Planned, ...]:
    """Of the trials with every seed those to be run, as far as the recorded outcomes tell; all if not adaptive."""
    if not sweep.looks:
        return tuple(trials)
    arms = {_key(each.arm.params): each.arm.params for each in trials}
    taken: list[Planned] = []
    running, earlier = set(arms), 0
    for number, look in enumerate(sweep.looks, 1):
        size = look.seeds or 0
        taken += [each for each in trials if earlier <= each.trial.seed < size and _key(each.arm.params) in running]
        outcomes = [(each, outcome_of(each)) for each in taken]
        rows = [Row(each.arm.params, each.trial.seed, o["metrics"], o["status"]) for each, o in outcomes if o]
        if len(rows) < len(taken):
            break
        judged = zip(sweep.claims, judge(rows, sweep.claims, looks=sweep.looks[:number]), strict=True)
        open_ = [
            claim
            for claim, found in judged
            if (found.look, found.verdict) == (number, "inconclusive") and found.is_judged
        ]
        running = {key for key, arm in arms.items() if any(_is_compared(arm, claim, arms.values()) for claim in open_)}
        earlier = size
    return tuple(taken)


def _is_compared(arm: Params, claim: Claim, arms: Iterable[Params]) -> bool:
    """Whether it is on a side of a claim, and every side has an arm that differs from it only in what sides name."""
    sides = _sides(claim)
    named = {name for side in sides for name in side}
    like = [other for other in arms if _without(other, named) == _without(arm, named)]
    return any(_has(arm, side) for side in sides) and all(any(_has(other, side) for other in like) for side in sides)


def _sides(claim: Claim) -> list[Params]:
    contexts = [claim.where] if claim.versus is None else [claim.where, {**claim.where, **claim.versus}]
    values = [claim.treatment] if claim.control is None else [claim.treatment, claim.control]
    return [{**context, **value} for context in contexts for value in values]


def _has(arm: Params, side: Params) -> bool:
    return side.items() <= arm.items()


def _without(arm: Params, names: set[str]) -> dict[str, Scalar]:
    return {name: value for name, value in arm.items() if name not in names}


def _key(arm: Params) -> frozenset[tuple[str, Scalar]]:
    return frozenset(arm.items())


def follow(
    plan: Plan, metrics_of: Callable[[Planned], Mapping[str, float] | None]
) -> tuple[list[Planned], dict[str, dict[str, Any]] | None]:
    """An ablation path as the recorded metrics decide it: trials that choose, and each arm's settings at its end.

    Keyed by the words for the arm, as the plan wants them; None before the path is whole.
    """
    here, asked, best = dict(plan.sweep.baseline), [], {}
    changes = [(name, value) for name, value in plan.sweep.target.items() if name in plan.sweep.changes]
    for number, arm in enumerate(plan.arms[1:]):
        chosen = 0
        if len(changes) > 1:
            tried = [plan.changed({**here, name: value}, number) for name, value in changes]
            asked += [each for planned in tried for each in planned]
            known = [[metrics_of(each) for each in planned] for planned in tried]
            if any(metrics is None for found in known for metrics in found):
                return asked, None
            sums = [
                fmean((metrics or {}).get(default_workload().selection_metric, -1.0) for metrics in found)
                for found in known
            ]
            chosen = sums.index(max(sums))
        name, value = changes.pop(chosen)
        here[name] = value
        best[" ".join(str(each) for each in arm.params.values())] = dict(here)
    return asked, best
