"""The verdict on a claim as a value: what was found, with its interval, and what it says in words. Judges nothing."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from mnist_ablate.statistics.collapses import SideCollapses
from mnist_ablate.statistics.decision_rule import Finding, Verdict, by_interval
from mnist_ablate.sweep.claim import Direction, Estimand, Scale

ALPHA = 0.05


@dataclass(frozen=True)
class PartVerdict:
    """One of several contrasts that must all hold: its name, its effect with the interval, and its own verdict."""

    name: str
    effect: float
    ci_low: float
    ci_high: float
    verdict: Verdict


@dataclass(frozen=True)
class ClaimVerdict:
    """What the rows say of one claim. `effect` and its interval are treatment minus control, whatever is claimed.

    They are of the claim's `estimand`: the seeds that trained on every side, or all. `differences` are those of these
    seeds, of all where fewer than 3 trained. `collapses` counts the trainings that collapsed, side by side.
    `confidence` is the level of the interval. It is infinite where the spread is unknown. `effect` is nan without a
    pair. `p_value` is the sign-flip p-value with Holm's correction over all claims, `p_raw` the one without it; no
    verdict rests on it. `seeds_needed` is None if the claim is decided, or if no number up to 10,000 would decide it.
    In an adaptive sweep `look` is the number of the look that decided, or the last one. Every number is of the seeds
    that this look read. The interval and `p_raw` are corrected for the looks.
    With `scale` ratio, effect, limits, margin and differences are factors. `measure` says what the effect is.
    Of a claim that holds only if all of its `parts` do, the numbers are of the part that decided, or of the nearest.
    `n_results` are those of each arm where they share no seeds: then there are no pairs, and the interval is Welch's.
    JSON leaves out `finding`, `direction`, `unit` and `rounding`, which is what float64 can have added to a difference.
    """

    name: str
    statement: str
    metric: str
    verdict: Verdict
    effect: float
    ci_low: float
    ci_high: float
    p_value: float
    p_raw: float
    n_pairs: int
    margin: float
    reason: str
    seeds_needed: int | None
    excluded: tuple[str, ...]
    differences: Mapping[int, float]
    unit: Annotated[str, Field(exclude=True)]
    rounding: Annotated[float, Field(exclude=True)]
    finding: Annotated[Finding, Field(exclude=True)]
    direction: Annotated[Direction, Field(exclude=True)]
    look: Annotated[int | None, Field(exclude_if=lambda look: look is None)] = None
    n_results: Annotated[tuple[int, ...] | None, Field(exclude_if=lambda found: found is None)] = None
    estimand: Estimand = "typical"
    confidence: float = 1.0 - ALPHA
    collapses: tuple[SideCollapses, ...] = ()
    collapse_p_value: float = 1.0
    kind: Annotated[str, Field(exclude_if=lambda kind: kind == "compare")] = "compare"
    scale: Annotated[Scale, Field(exclude_if=lambda scale: scale == "difference")] = "difference"
    measure: Annotated[str, Field(exclude_if=lambda measure: measure == "difference")] = "difference"
    notes: Annotated[tuple[str, ...], Field(exclude_if=lambda notes: not notes)] = ()
    parts: Annotated[tuple[PartVerdict, ...], Field(exclude_if=lambda parts: not parts)] = ()

    @property
    def is_judged(self) -> bool:
        """Whether the claim could be judged at all."""
        return self.finding is not Finding.NOT_JUDGED

    @property
    def is_open(self) -> bool:
        """Whether more seeds could decide the claim, which is not decided."""
        return self.verdict == "inconclusive" and self.finding not in (Finding.NOT_JUDGED, Finding.MIXED)

    @property
    def has_collapses(self) -> bool:
        """Whether any training collapsed."""
        return any(side.collapsed for side in self.collapses)

    def interval_says(self, say: Callable[[float], str], named: str = "") -> str:
        """What the interval says, as a predicate: `lies wholly below -0.002`.

        `say` writes a difference; `named` is put before a bound that is the margin.
        """
        downward = self.direction in ("lower", "not_lower")
        outward, inward = ("below", "above") if downward else ("above", "below")
        named = named if self.logarithm(self.margin) else ""
        is_ratio = self.scale == "ratio"
        at = (
            say(1.0 / self.margin if downward else self.margin)
            if is_ratio
            else say((-self.margin if downward else self.margin) + 0.0)
        )  # + 0.0: no -0
        bound = f"{named}{at}"
        size = say(self.margin).removeprefix("+")
        both = f"{named}{f'a factor of {size}' if is_ratio else f'±{size}'}"
        within, beyond = f"lies wholly within {both}", f"lies wholly {outward} {bound}"
        ruled_out, open_ = f"rules out a {self.measure} {outward} {bound}", f"includes {named or 'the margin, '}{at}"
        supported = beyond if self.direction in ("lower", "higher") else ruled_out
        if self.direction == "same":
            supported, beyond = within, f"lies wholly outside {both}"
            open_ = f"reaches across {'' if named else 'a margin of ' * (not is_ratio)}{both}"
        return {
            Finding.SUPPORTED: supported,
            Finding.BEYOND: beyond,
            Finding.EQUIVALENT: within,
            Finding.RULED_OUT: ruled_out,
            Finding.REVERSED: f"lies wholly {inward} {1 if is_ratio else 0}: the effect goes the other way",
        }.get(by_interval(self.direction, self.logarithm(self.margin), *self._limits), open_)

    def logarithm(self, value: float) -> float:
        """A number as the rule has it: of a factor the logarithm."""
        return math.log(value) if self.scale == "ratio" and value > 0.0 else value

    @property
    def _limits(self) -> tuple[float, float]:
        """The limits that the rule reads, with what rounding may have added."""
        return self.logarithm(self.ci_low) - self.rounding, self.logarithm(self.ci_high) + self.rounding

    @property
    def is_beyond_margin(self) -> bool:
        """Whether the interval lies wholly beyond the margin, one way or the other."""
        low, high = self._limits
        return low > self.logarithm(self.margin) or high < -self.logarithm(self.margin)

    @property
    def nearest(self) -> str:
        """The part that its numbers are of."""
        return next((part.name for part in self.parts if part.effect == self.effect), "")

    @property
    def axis(self) -> tuple[str, str]:
        """What a chart shows it on: its metric, and what its effect is."""
        return self.metric, self.measure
