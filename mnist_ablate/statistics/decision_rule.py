"""The rule: what an interval of the typical effect, and the collapses beside it, say of a claim. Knows no rows.

docs/explanation/statistics.md states it in words, and benchmarks/verdict_simulation.py has its error rates.
"""

from enum import StrEnum
from typing import Literal

from mnist_ablate.sweep.claim import Direction

Verdict = Literal["supported", "equivalent", "refuted", "inconclusive"]
COLLAPSE_SHARE = 0.2  # of a claim's error rate, for the test of collapses; the interval has the rest if any was seen
FEWEST_PAIRS = 3  # of seeds that trained on every side: from fewer nothing is concluded
SIGN: dict[Direction, int] = {"lower": -1, "higher": 1, "not_lower": 1, "not_higher": -1, "same": 1}
_EFFECTS = ("lower", "higher")  # the directions that claim an effect; the others deny one


class Finding(StrEnum):
    """What was found about a claim, in more detail than its verdict.

    Refuted is RULED_OUT (no effect as large as claimed), REVERSED (the effect has the other sign), BEYOND (there is an
    effect that the claim denies), or COLLAPSES_AGAINST. HELD_BACK: the interval denies an effect, but collapses that
    were seen may be one. MIXED: interval and collapses contradict each other. UNKNOWN: there is no interval.
    NOT_JUDGED: no number of seeds would help.
    """

    SUPPORTED = "supported"
    EQUIVALENT = "equivalent"
    RULED_OUT = "ruled out"
    REVERSED = "reversed"
    BEYOND = "beyond"
    COLLAPSES = "collapses"
    COLLAPSES_AGAINST = "collapses against"
    OPEN = "open"
    HELD_BACK = "held back"
    MIXED = "mixed"
    UNKNOWN = "unknown"
    NOT_JUDGED = "not judged"


VERDICTS: dict[Finding, Verdict] = {
    **dict.fromkeys((Finding.SUPPORTED, Finding.COLLAPSES), "supported"),
    Finding.EQUIVALENT: "equivalent",
    **dict.fromkeys((Finding.RULED_OUT, Finding.REVERSED, Finding.BEYOND, Finding.COLLAPSES_AGAINST), "refuted"),
}
"""The verdict of each finding; inconclusive for all others."""


def by_interval(direction: Direction, margin: float, low: float, high: float) -> Finding:
    """What an interval of the difference says, all limits excluded."""
    if SIGN[direction] < 0:
        low, high = -high, -low
    if direction in _EFFECTS:
        if high >= margin:
            return Finding.SUPPORTED if low > margin else Finding.OPEN
        if low > -margin:
            return Finding.EQUIVALENT
        return Finding.REVERSED if high < 0.0 else Finding.RULED_OUT
    if low > -margin and (high < margin or direction != "same"):
        return Finding.SUPPORTED
    return Finding.BEYOND if high < -margin or (low > margin and direction == "same") else Finding.OPEN


def with_collapses(  # noqa: PLR0911 - a rule of three questions
    typical: Finding, direction: Direction, toward: float, *, shown: bool
) -> Finding:
    """The finding of both parts of a verdict.

    `toward` is above zero where the collapses seen push the difference the way of the claim's sign, below zero the
    other way. `shown`: their test says that this is no chance.
    """
    if toward == 0.0:
        return typical
    if direction not in _EFFECTS:
        if toward > 0.0 and direction != "same":
            return typical  # the way that the claim leaves free
        if shown:
            return Finding.COLLAPSES_AGAINST
        return Finding.HELD_BACK if typical is Finding.SUPPORTED else typical
    if toward > 0.0:
        if shown:
            return Finding.MIXED if typical is Finding.REVERSED else Finding.COLLAPSES
        is_denial = typical in (Finding.EQUIVALENT, Finding.RULED_OUT, Finding.REVERSED)
        return Finding.HELD_BACK if is_denial else typical
    if not shown or typical is Finding.OPEN:
        return typical
    return Finding.MIXED if typical is Finding.SUPPORTED else Finding.COLLAPSES_AGAINST
