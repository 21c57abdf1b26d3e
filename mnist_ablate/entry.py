"""A finished trial as the ledger has it; knows no storage, so that verdicts can be computed without one."""

from dataclasses import dataclass

from mnist_ablate.sweep import Params
from mnist_ablate.trial import Outcome, Trial


@dataclass(frozen=True)
class Entry:
    """A finished trial as recorded; `params` are its arm's factors, `stage` is "tuning", "verdict" or "control".

    `intact` is false if it was altered after it had been written.
    """

    trial: Trial
    params: Params
    stage: str
    outcome: Outcome
    intact: bool = True
