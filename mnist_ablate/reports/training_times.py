"""When the trials of a sweep were trained: from when to when, with which pauses between. Reads outcomes alone."""

from collections.abc import Iterable
from datetime import UTC, datetime

from mnist_ablate.text import counted
from mnist_ablate.trial import Outcome

PAUSE_S = 60.0
"""No trial of a sweep that goes on is missing for so long; where none ran for longer, the sweep was resumed."""


def ended_ms(outcomes: Iterable[Outcome]) -> int | None:
    """When the last trial ended, in ms since 1970; None if that was never known."""
    return max((round(end) for _, end in _intervals(outcomes)), default=None)


def trained(outcomes: Iterable[Outcome]) -> str:
    """From when to when, how long, and the pauses; empty if nothing is known of that."""
    found = _intervals(outcomes)
    if not found:
        return ""
    first, last = found[0][0], max(end for _, end in found)
    minutes = sum(end - start for start, end in found) / 60_000
    paused = [*_pauses(found)]
    said = f", with {counted(len(paused), 'pause')} of {sum(paused) / 60:,.0f} minutes" if paused else ""
    return f"{_shown(first)} to {_shown(last)}{said}, {minutes:,.1f} minutes of training in {len(found):,} trials"


def _intervals(outcomes: Iterable[Outcome]) -> list[tuple[float, float]]:
    started = [each for each in outcomes if each.started_ms]
    return sorted((each.started_ms, each.started_ms + 1000 * each.seconds) for each in started)


def _pauses(intervals: Iterable[tuple[float, float]]) -> Iterable[float]:
    """How long, in seconds, no trial was trained, of each time that this was long."""
    last: float | None = None
    for start, end in intervals:
        if last is not None and start - last > 1000 * PAUSE_S:
            yield (start - last) / 1000
        last = end if last is None else max(last, end)


def _shown(at_ms: float) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
