"""Which of the trainings that wait a worker gets at once, to train them by one program, each in a lane. Starts none."""

from collections import deque
from collections.abc import Callable, Hashable
from typing import Protocol, TypeVar

from mnist_ablate.trial import Trial

ARMS_BESIDE = 8
"""So many times the lanes are looked at to fill them: trials of arms with other programs come in turn with theirs."""


class Waiting(Protocol):
    """A training that waits: its longest trial, how often it was lost, and whether nothing may run beside it."""

    losses: int
    alone: bool

    @property
    def trial(self) -> Trial:
        """The longest one."""


Task = TypeVar("Task", bound=Waiting)


def take_lanes(waiting: deque[Task], most: int, workers: int, group: Callable[[Trial], Hashable | None]) -> list[Task]:
    """Remove those that one program can train with the first, at most so many; none if there is no second.

    `group` says of a trial which others it can share a program with, None if it trains by itself. Those of a group are
    spread evenly over the workers. One that was lost trains by itself: it may be what others were lost by.
    """

    def group_of(task: Task) -> Hashable | None:
        return None if task.losses or task.alone else group(task.trial)

    own = group_of(waiting[0]) if most > 1 else None
    if own is None:
        return []
    alike = [task for task in waiting if group_of(task) == own]
    taken = alike[: min(most, -(-len(alike) // workers))]
    if len(taken) == 1:
        return []
    for task in taken:
        waiting.remove(task)
    return taken
