"""The negative control: the baseline against itself. Whatever it finds is not an effect of anything that varies.

The baseline is trained again with as many other seeds, and the two are compared as a claim is: same interval, same
level, same margin. What stands here decides only whether that comparison raises the alarm.

The criterion: an alarm for a metric and margin of the claims is an interval of the mean difference that lies wholly
above +margin or wholly below -margin. Its limits are those of a claim, at 1 - alpha/k for k claims, and there are at
most k different pairs of metric and margin; so if nothing is wrong, and differences are near normal, alarms come in at
most alpha (5%) of sweeps with margin 0, and in far fewer where the margin is as wide as a standard error. No sign flips
back it: with few seeds they could never, and an alarm must be easier than a verdict.
It finds what moves the baseline between sets of seeds by more than claims can tell: results that depend on the order
or the place of a trial, seeds that are no independent draws, a spread that few seeds do not show. It does not find
what moves all trials alike. The two sides share no seed, so its interval is wider than a claim's where pairing helps.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mnist_ablate.statistics.pairing import by_arm, pairs
from mnist_ablate.statistics.verdict import interval
from mnist_ablate.sweep.sweep import Claim
from mnist_ablate.trial import Params, Row


@dataclass(frozen=True)
class Again:
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
    """The baseline again minus the baseline, in one metric, against one margin; nan and infinite where unknown."""

    metric: str
    margin: float
    n_pairs: int
    effect: float
    ci_low: float
    ci_high: float
    alarm: bool


def document(again: Again, rows: Sequence[Row], claims: Sequence[Claim], alpha: float) -> dict[str, Any]:
    """For the report: the arm, what became of its trials, each check, and whether any raised the alarm."""
    baseline = [row for row in rows if dict(row.params) == dict(again.params)]
    asked = dict.fromkeys((claim.metric, claim.margin) for claim in claims)
    checks = [check(baseline, again.rows, metric, margin, alpha / len(claims)) for metric, margin in asked]
    return {
        "params": dict(again.params),
        "planned": again.planned,
        "outcomes": dict(Counter(row.status for row in again.rows)),
        "alarm": any(each.alarm for each in checks),
        "checks": [vars(each) for each in checks],
    }


def check(baseline: Sequence[Row], again: Sequence[Row], metric: str, margin: float, alpha: float) -> Check:
    """Compares two sets of rows of one arm, seed by seed, at level 1 - alpha."""
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
