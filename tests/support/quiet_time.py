"""Processor time in seconds of a quiet machine: others' work slows memory and caches, and a limit must not know it."""

import time
from collections.abc import Callable

REFERENCE_S = 0.003
"""What `_reference` takes on the quiet machine that the limits were set on."""


def _reference() -> None:
    found: dict[str, int] = {}
    for number in range(20_000):
        found[str(number)] = number


def _thread_s(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def quiet_s(work: Callable[[], object], *, times: int = 4) -> float:
    """The least processor time of this thread that one of several calls took, less what the machine is slower now.

    Around each call a fixed piece of work is timed as well; only a machine slower than `REFERENCE_S` counts, a faster
    one does not tighten the limit.
    """
    timed = [(_thread_s(_reference), _thread_s(work), _thread_s(_reference)) for _ in range(times)]
    return min(spent / max(1.0, min(before, after) / REFERENCE_S) for before, spent, after in timed)
