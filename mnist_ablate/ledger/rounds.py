"""Which trials of a plan come next, by what is recorded: tuning, then verdicts with their controls. Runs nothing."""

from collections.abc import Iterator, Mapping

from mnist_ablate.ledger import progress
from mnist_ablate.ledger.ablation_path import walk
from mnist_ablate.sweep.plan import Plan, PlannedTrial
from mnist_ablate.trial import RecordedTrial

Round = tuple[PlannedTrial, ...]


def due(plan: Plan, entries: Mapping[str, RecordedTrial]) -> Round:
    """The unrecorded trials, each once, of the first round that lacks any; none when nothing is left to run.

    A function of the plan and of what is recorded alone: after a crash it asks for exactly the same trials.
    What a search will try is not among them: that is decided trial by trial (`search`).
    """
    for found in rounds(plan, entries):
        lacking = {each.id: each for each in found if each.id not in entries}
        if lacking:
            return tuple(lacking.values())
    return ()


def rounds(plan: Plan, entries: Mapping[str, RecordedTrial]) -> Iterator[Round]:
    """The trials that are known to be wanted, those to be done first in a round of their own.

    When all are recorded, another call may know of more: in an adaptive sweep those of claims that are still open.
    """
    tuning = walk(plan, entries).trials if plan.sweep.design == "ablation_path" else plan.tuning
    if tuning:
        yield tuning
    judged = progress.verdict_trials(plan, entries) + progress.control_trials(plan, entries)
    if judged:
        yield judged + progress.as_written_trials(plan, entries)
