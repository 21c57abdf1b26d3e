"""The controls of a sweep: a comparison that must find nothing, and claims that must be found.

Negative control: the baseline is trained again with as many other seeds and compared with itself, as a claim is: same
interval, same level, same margin. Whatever this finds is not an effect of anything that varies. An interval of the mean
difference that lies wholly above +margin or wholly below -margin raises the alarm. Its limits are those of a claim, at
1 - alpha/k for k claims, and there are at most k pairs of metric and margin. So if nothing is wrong and differences are
near normal, at most alpha (5%) of sweeps with margin 0 raise an alarm, and far fewer where the margin is as wide as a
standard error. The sign-flip test has no part in it: with few seeds it could never back an alarm, and an alarm must be
easier than a verdict.
It finds what moves the baseline between sets of seeds by more than claims can tell: results that depend on the order or
the place of a trial, seeds that are no independent draws, a spread that few seeds do not show. It does not find what
moves all trials alike. The two sides share no seed, so its interval is wider than a claim's where pairing helps.

Positive control: a claim that is known to hold. If a sweep does not find it, its other verdicts cannot be trusted.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mnist_ablate.statistics.pairing import by_arm, pairs
from mnist_ablate.statistics.verdict import ClaimVerdict, Verdict, interval
from mnist_ablate.sweep.sweep import Claim
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

    @property
    def is_within(self) -> bool:
        """Whether the interval excludes every effect beyond the margin."""
        return -self.margin <= self.ci_low and self.ci_high <= self.margin


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
    """Compare the baseline with itself, once for each metric and margin that is claimed."""
    baseline = [row for row in rows if dict(row.params) == dict(runs.params)]
    asked = dict.fromkeys((claim.metric, claim.margin) for claim in claims)
    checks = tuple(check(baseline, runs.rows, metric, margin, alpha / len(claims)) for metric, margin in asked)
    outcomes = dict(Counter[str](row.status for row in runs.rows))
    return NegativeControl(dict(runs.params), runs.planned, outcomes, any(each.alarm for each in checks), checks)


def check(baseline: Sequence[Row], again: Sequence[Row], metric: str, margin: float, alpha: float) -> Check:
    """Compare two sets of rows of one arm, seed by seed, at level 1 - alpha."""
    sides: Mapping[str, Sequence[Row]] = {"baseline": baseline, "again": again}
    rows = [replace(row, params={"side": side}) for side, found in sides.items() for row in found]
    claim = Claim(
        name="negative-control",
        statement="The baseline differs from itself.",
        treatment={"side": "again"},
        control={"side": "baseline"},
        metric=metric,
        direction="higher",
        margin=margin,
    )
    found = pairs(by_arm(rows), claim)
    rounding = found.rounding(margin)
    mean, _, low, high = interval(claim, found, alpha)
    alarm = not found.problem and (low - rounding > margin or high + rounding < -margin)
    return Check(metric, margin, len(found.differences), mean, low, high, alarm)


def positive_control(
    claims: Sequence[Claim], verdicts: Sequence[ClaimVerdict], *, finished: bool
) -> PositiveControl | None:
    """What is known to hold, and what of it was missed; None if no claim is marked `positive_control`."""
    known = {claim.name for claim in claims if claim.positive_control}
    found = {verdict.name: verdict.verdict for verdict in verdicts if verdict.name in known}
    missed = {name: verdict for name, verdict in found.items() if verdict != "supported"}
    return PositiveControl(tuple(found), missed, finished and bool(missed)) if known else None
