"""The ablation path from one configuration to another: each round trains every change that is left, the best one stays.

As Fawcett and Hoos ("Analysing differences between algorithm configurations through ablation", 2016), by training every
candidate at every seed. Rounds choose by mean validation accuracy on seeds that no verdict uses, and the arms along the
path are confirmed on the verdicts' seeds: what a step gains is not told by the luck that chose it. The last change is
not chosen, so it is not tried by itself. A function of the plan and of what is recorded; reads no storage.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from mnist_ablate.sweep.plan import Plan, PlannedTrial
from mnist_ablate.trial import Params, RecordedTrial
from mnist_ablate.workloads.workload import default_workload

CHOSEN_BY = default_workload().selection_metric


@dataclass(frozen=True)
class Step:
    """A change that was made: `settings` after it; `scores` of all that were tried then, none for the last one."""

    factor: str
    settings: Params
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Walk:
    """The steps decided so far, in order, and all trials of choosing that are known to be wanted."""

    steps: tuple[Step, ...]
    trials: tuple[PlannedTrial, ...]


def walk(plan: Plan, entries: Mapping[str, RecordedTrial]) -> Walk:
    """Follow the path as far as the recorded trials decide it; of equally good changes the first in `target`."""
    steps: list[Step] = []
    trials: list[PlannedTrial] = []
    left, settings = dict(plan.sweep.changes), dict(plan.sweep.baseline)
    while left:
        scores: dict[str, float] = {}
        if len(left) > 1:
            tried = {name: plan.changed({**settings, name: value}, len(steps)) for name, value in left.items()}
            found = [each for planned in tried.values() for each in planned]
            trials += found
            if any(each.id not in entries for each in found):
                break
            scores = {name: fmean(score(entries[each.id]) for each in planned) for name, planned in tried.items()}
        factor = max(left, key=lambda name: scores.get(name, 0.0))
        settings[factor] = left.pop(factor)
        steps.append(Step(factor, dict(settings), scores))
    return Walk(tuple(steps), tuple(trials))


def score(entry: RecordedTrial) -> float:
    """What a choice compares: validation accuracy; a failed or lost trial counts as worse than any."""
    return entry.outcome.metrics.get(CHOSEN_BY, -1.0)
