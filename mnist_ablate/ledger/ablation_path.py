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

_SCORE = default_workload().selection_metric
_NO_SCORE = -1.0


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

    def ends(self, plan: Plan) -> bool:
        """Whether the target is reached."""
        return len(self.steps) == len(plan.sweep.changes)


def walk(plan: Plan, entries: Mapping[str, RecordedTrial]) -> Walk:
    """Follow the path as far as the recorded trials decide it; of equally good changes the first in `target`."""
    steps: list[Step] = []
    trials: list[PlannedTrial] = []
    left = dict(plan.sweep.changes)
    settings = dict(plan.sweep.baseline)
    while left:
        scores: dict[str, float] = {}
        if len(left) > 1:
            tried = {name: plan.changed({**settings, name: value}, len(steps)) for name, value in left.items()}
            found = [each for planned in tried.values() for each in planned]
            trials += found
            if any(each.trial.id not in entries for each in found):
                break
            scores = {name: fmean(_score(entries[each.trial.id]) for each in tried[name]) for name in tried}
        factor = max(left, key=lambda name: scores.get(name, 0.0))
        settings[factor] = left.pop(factor)
        steps.append(Step(factor, dict(settings), scores))
    return Walk(tuple(steps), tuple(trials))


def _score(entry: RecordedTrial) -> float:
    """A failed or lost trial counts as worse than any."""
    return entry.outcome.metrics.get(_SCORE, _NO_SCORE)
