"""The trial to keep of a finished sweep: the first seed of its best arm, chosen on validation data."""

from collections import defaultdict
from collections.abc import Mapping

from mnist_ablate.ledger import progress
from mnist_ablate.sweep.plan import Plan, label
from mnist_ablate.trial import RecordedTrial
from mnist_ablate.workloads.workload import default_workload

CHOSEN_BY = default_workload().selection_metric


def winner(plan: Plan, entries: Mapping[str, RecordedTrial]) -> RecordedTrial | None:
    """The search's winner, or the arm with the highest mean validation accuracy over its seeds, the first of equals.

    None while a trial is missing, or where no arm completed every seed.
    """
    arms: defaultdict[str, list[RecordedTrial]] = defaultdict(list)
    for planned in progress.verdict_trials(plan, entries):
        if planned.trial.id not in entries:
            return None
        arms[label(planned.arm.params)].append(entries[planned.trial.id])
    if plan.sweep.design == "search":
        arms = defaultdict(list, {name: arm for name, arm in arms.items() if name == label(plan.arms[-1].params)})
    whole = [arm for arm in arms.values() if all(entry.outcome.status == "complete" for entry in arm)]
    return max(whole, key=_score)[0] if whole else None


def _score(arm: list[RecordedTrial]) -> float:
    return sum(entry.outcome.metrics.get(CHOSEN_BY, 0.0) for entry in arm) / len(arm)
