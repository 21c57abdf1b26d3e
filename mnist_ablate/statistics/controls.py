"""The controls of a sweep: a comparison that must find nothing, and claims that must be found.

Negative control: the baseline is trained again with as many other seeds and compared with itself as a claim is, with
the same interval, level and margin. An interval that lies wholly beyond the margin raises the alarm, and so do more
collapses on one side, if their test shows them. If nothing is wrong and differences are near normal, at most alpha (5%)
of sweeps raise one. It finds what moves the baseline between sets of seeds: results that depend on the order
or the place of a trial, seeds that are no independent draws, a spread that few seeds do not show. It does not find what
moves all trials alike. The two sides share no seed, so its interval is wider than a claim's where pairing helps.

Positive control: a claim that is known to hold. If a sweep does not find it, its other verdicts cannot be trusted.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from mnist_ablate.statistics.claim_verdict import ClaimVerdict
from mnist_ablate.statistics.claims.kind import kind_of
from mnist_ablate.statistics.decision_rule import Finding, Verdict
from mnist_ablate.statistics.verdict import judge
from mnist_ablate.sweep.claim import Claim
from mnist_ablate.trial import Params, Row


@dataclass(frozen=True)
class ControlRuns:
    """The baseline's arm, and its rows with other seeds, renumbered from 0, of so many `planned`."""

    params: Params
    planned: int
    rows: tuple[Row, ...]

    @property
    def broken(self) -> int:
        """How many of its trials failed or were lost."""
        return sum(row.status in ("failed", "lost") for row in self.rows)


@dataclass(frozen=True)
class Check:
    """The baseline with other seeds minus the baseline, in one metric; nan and infinite where unknown."""

    metric: str
    margin: float
    n_pairs: int
    effect: float
    ci_low: float
    ci_high: float
    alarm: bool
    unit: Annotated[str, Field(exclude=True)]

    @property
    def excludes(self) -> float:
        """The interval excludes every difference (or factor) that is larger than this, either way."""
        if self.unit == "ratio":
            return max(1.0 / self.ci_low if self.ci_low > 0.0 else math.inf, self.ci_high)
        return max(abs(self.ci_low), abs(self.ci_high))

    @property
    def is_within(self) -> bool:
        """Whether the interval excludes every effect beyond the margin."""
        least = 1.0 / self.margin if self.unit == "ratio" else -self.margin
        return least <= self.ci_low and self.ci_high <= self.margin


@dataclass(frozen=True)
class NegativeControl:
    """The arm that was repeated, what became of its trials, each check, and whether any raised the alarm."""

    params: Params
    planned: int
    outcomes: Mapping[str, int]
    alarm: bool
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class PositiveControl:
    """The claims known to hold, the verdicts of those that were not found; an alarm only once all trials have run."""

    claims: tuple[str, ...]
    missed: Mapping[str, Verdict]
    alarm: bool


def negative_control(runs: ControlRuns, rows: Sequence[Row], claims: Sequence[Claim], alpha: float) -> NegativeControl:
    """Compare the baseline with itself, once for each metric and margin that is claimed.

    Margins of other numbers than sums of results count only where no claim has such a margin.
    """
    baseline = [row for row in rows if dict(row.params) == dict(runs.params)]
    sides = [replace(row, params={"side": "baseline"}) for row in baseline]
    sides += [replace(row, params={"side": "again"}) for row in runs.rows]
    of_results = [claim for claim in claims if claim.is_sum] or claims
    asked = {(claim.metric, claim.margin): claim for claim in of_results}
    checks = tuple(_check(sides, claim, alpha / len(claims)) for claim in asked.values())
    outcomes = dict(Counter[str](row.status for row in runs.rows))
    return NegativeControl(dict(runs.params), runs.planned, outcomes, any(each.alarm for each in checks), checks)


def _check(sides: Sequence[Row], asked: Claim, alpha: float) -> Check:
    """Compare both sides in the metric of a claim, seed by seed, at level 1 - alpha."""
    compared = {"treatment": {"side": "again"}, "control": {"side": "baseline"}, "where": {}, "direction": "higher"}
    if not kind_of(asked).compares_two:
        kept = asked.model_dump(include={"name", "statement", "metric", "margin", "scale", "estimand", "collapse_at"})
        asked = asked.compared_plainly(**kept, **compared)
    (found,) = judge(sides, [asked.model_copy(update={**compared, "reference": None, "versus": None})], alpha)
    margin = asked.margin
    by_collapses = found.finding in (Finding.COLLAPSES, Finding.COLLAPSES_AGAINST)
    is_alarm = found.is_judged and (found.is_beyond_margin or by_collapses)
    return Check(found.metric, margin, found.n_pairs, found.effect, found.ci_low, found.ci_high, is_alarm, found.unit)


def positive_control(
    claims: Sequence[Claim], verdicts: Sequence[ClaimVerdict], *, finished: bool
) -> PositiveControl | None:
    """What is known to hold, and what of it was missed; None if no claim is marked `positive_control`."""
    known = {claim.name for claim in claims if claim.positive_control}
    found = {verdict.name: verdict.verdict for verdict in verdicts if verdict.name in known}
    missed = {name: verdict for name, verdict in found.items() if verdict != "supported"}
    return PositiveControl(tuple(found), missed, finished and bool(missed)) if known else None
