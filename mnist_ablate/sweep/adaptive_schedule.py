"""When the claims of an adaptive sweep are judged, and what part of the error rate each judgment (look) may use.

With `seeds: {min: a, max: b}` every claim is judged when its arms have a seeds, then half as many more, and so on up
to b. A claim that is decided gets no more seeds. Each look spends a share of alpha: the seeds that are new at it, over
b. This is an alpha-spending function that is linear in the seeds: alpha * t of Kim and DeMets, "Design and analysis of
group sequential tests based on the type I error spending rate function", Biometrika 74 (1987). What a look spends is
the level of its interval (Bonferroni over the looks). All intervals of a claim, each with its t quantile, then hold at
once at level 1 - alpha, whatever made the sweep stop. They are repeated confidence intervals: Jennison and Turnbull,
"Interim analyses: the repeated confidence interval approach", J. R. Statist. Soc. B 51 (1989).

Why not the boundaries of Lan and DeMets (Biometrika 70, 1983), which use how the looks depend on each other: they are
computed for a known variance. With t quantiles at 6 to 30 seeds 5.4% of their intervals miss (simulated) where 5% may,
and for sign flips there is nothing exact of this kind. The price is about 6% more trials at half a margin.
Why linear: a spending function like O'Brien and Fleming's gives the first looks almost nothing. Sign flips of few pairs
cannot have small p-values, so they could never support an effect there.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

SPENDING = "linear"
"""The name of the rule in the preregistration."""
GROWTH = 1.5
"""Seeds at a look, over those at the one before. Closer looks would cost more error rate than they save trials."""


@dataclass(frozen=True)
class Look:
    """One look at a claim: its `number` from 1, the `seeds` it reads (None: all there are), its `share` of alpha."""

    number: int
    seeds: int | None
    share: float


SINGLE_LOOK = (Look(1, None, 1.0),)
"""The one look of a sweep with a fixed number of seeds."""


def look_schedule(least: int, most: int) -> tuple[Look, ...]:
    """The looks from `least` to `most` seeds; their shares add up to 1. A short last step joins the one before."""
    sizes = [least]
    while sizes[-1] < most:
        sizes.append(min(most, math.ceil(GROWTH * sizes[-1])))
    if len(sizes) > 2 and 2 * (sizes[-1] - sizes[-2]) < sizes[-2] - sizes[-3]:  # noqa: PLR2004 - the last two steps
        del sizes[-2]
    steps = [later - earlier for earlier, later in pairwise([0, *sizes])]
    return tuple(
        Look(number, seeds, step / most) for number, (seeds, step) in enumerate(zip(sizes, steps, strict=True), 1)
    )
