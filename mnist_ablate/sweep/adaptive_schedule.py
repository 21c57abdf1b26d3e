"""When the claims of an adaptive sweep are judged, and what part of the error rate each judgment (look) may use.

By Bonferroni's inequality all intervals of a claim hold at once: repeated confidence intervals (Jennison and Turnbull,
J. R. Statist. Soc. B 51, 1989), whatever the parts are. These give the early looks much, because most claims are about
effects that few seeds show. docs/explanation/statistics.md compares them with others.
"""

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

SPENDING = "early"  # the name of the rule in the preregistration
_WEIGHTS = (4, 5, 4, 3, 2)  # of the first looks; every later one has the last. The first has too few seeds for most


@dataclass(frozen=True)
class Look:
    """One look at a claim: its `number` from 1, the `seeds` it reads (None: all there are), its `share` of alpha."""

    number: Annotated[int, Field(exclude=True)]
    seeds: int | None
    share: float


SINGLE_LOOK = (Look(1, None, 1.0),)  # the one look of a sweep with a fixed number of seeds


def look_schedule(least: int, most: int) -> tuple[Look, ...]:
    """The looks from `least` to `most` seeds; their shares add up to 1. A short last step joins the one before."""
    sizes = [least]
    while sizes[-1] < most:
        sizes.append(min(most, math.ceil(1.5 * sizes[-1])))  # closer looks cost more error rate than they save trials
    if len(sizes) > 2 and 2 * (sizes[-1] - sizes[-2]) < sizes[-2] - sizes[-3]:  # noqa: PLR2004 - the last two steps
        del sizes[-2]
    weights = [_WEIGHTS[min(place, len(_WEIGHTS) - 1)] for place in range(len(sizes))]
    return tuple(
        Look(number, seeds, weight / sum(weights))
        for number, (seeds, weight) in enumerate(zip(sizes, weights, strict=True), 1)
    )
