"""What happens to trials while an engine runs them. Importing this imports nothing of Dask."""

from typing import NamedTuple

from mnist_ablate.trial import Epoch, Outcome, Trial

RETRIES = 2
"""How often a lost trial is run again."""


class Started(NamedTuple):
    """A worker took the trial."""

    trial: Trial
    worker: str


class Preparing(NamedTuple):
    """The trial prepares something that takes long before its first epoch. `text` says what, and how far it is.

    Without a text, the trial says that it runs.
    """

    trial: Trial
    text: str


class Progress(NamedTuple):
    """The trial ended an epoch. It started at `started_ms` by its worker's clock, in ms since 1970."""

    trial: Trial
    epoch: Epoch
    started_ms: int = 0


class Retried(NamedTuple):
    """The trial was lost. It is run again, for the `attempt`-th of at most `RETRIES` times."""

    trial: Trial
    reason: str
    attempt: int


class Finished(NamedTuple):
    """The trial has its final outcome."""

    trial: Trial
    outcome: Outcome


Event = Started | Preparing | Progress | Retried | Finished
