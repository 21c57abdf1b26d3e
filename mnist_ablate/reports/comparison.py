"""Two judged sweeps side by side: the arms that both have, seed by seed, and their verdicts; reads no ledger."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from mnist_ablate.reports.report import Part
from mnist_ablate.reports.selection import main_metric
from mnist_ablate.reports.wording import templates
from mnist_ablate.statistics.claim_verdict import ALPHA
from mnist_ablate.statistics.decision_rule import Verdict
from mnist_ablate.statistics.paired_tests import t_interval
from mnist_ablate.statistics.pairing import by_arm, shared_values
from mnist_ablate.statistics.verdict import judge
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import Params, Row, Scalar


class Side(Part):
    """One recorded sweep: its name as it was asked for, `registered` ISO 8601, `rows` of its verdict stage."""

    sweep: str
    digest: str
    registered: str
    asked: Annotated[Sweep, Field(exclude=True)]
    rows: Annotated[Sequence[Row], Field(exclude=True)]


class ArmComparison(Part):
    """An arm that both have, second minus first over `pairs` seeds, of which `identical` agree to the last bit."""

    params: Params
    pairs: int
    identical: int
    first: float
    second: float
    difference: float
    ci_low: float
    ci_high: float


class ClaimResult(Part, from_attributes=True):
    """The verdict on a claim, and the effect that it rests on."""

    verdict: Verdict
    effect: float


class ClaimComparison(Part):
    """A claim that both make; `changed` says whether it was altered under the same name."""

    name: str
    statement: str
    changed: bool
    first: ClaimResult
    second: ClaimResult


class Comparison(Part):
    """Two sweeps, second minus first. `metric` is that of the second sweep's first claim.

    Arms match by their factors, rows by seed. The intervals of the arms' mean differences are simultaneous (Bonferroni
    over the arms). A claim of the same name is compared even if it was changed. A number that does not exist is null in
    JSON.
    """

    first: Side
    second: Side
    metric: str
    alpha: float
    arms: tuple[ArmComparison, ...]
    only_first: tuple[Params, ...]
    only_second: tuple[Params, ...]
    claims: tuple[ClaimComparison, ...]

    def text(self) -> str:
        """The same as lines for a person."""
        return (
            templates()
            .get_template("comparison.txt.jinja")
            .render(dict(self), unit=self.second.asked.metric(self.metric).unit)
            .rstrip()
        )


def compare(first: Side, second: Side) -> Comparison:
    """Compare two recorded sweeps."""
    metric, sides = main_metric(second.asked), (first, second)
    before, after = ({frozenset(arm.params.items()): arm for arm in by_arm(side.rows)} for side in sides)
    verdicts = [
        {verdict.name: verdict for verdict in judge(side.rows, side.asked.every_claim, looks=side.asked.looks)}
        for side in sides
    ]
    asked = {claim.name: claim for claim in first.asked.every_claim}
    both = [(arm.params, before[key].by_seed, arm.by_seed) for key, arm in after.items() if key in before]
    return Comparison(
        first=first,
        second=second,
        metric=metric,
        alpha=ALPHA,
        arms=tuple(_arm(*each, metric, ALPHA / len(both)) for each in both),
        only_first=tuple(dict(arm.params) for key, arm in before.items() if key not in after),
        only_second=tuple(dict(arm.params) for key, arm in after.items() if key not in before),
        claims=tuple(
            ClaimComparison(
                name=claim.name,
                statement=claim.statement,
                changed=claim != asked[claim.name],
                first=ClaimResult.model_validate(verdicts[0][claim.name]),
                second=ClaimResult.model_validate(verdicts[1][claim.name]),
            )
            for claim in second.asked.every_claim
            if claim.name in asked
        ),
    )


def _arm(
    params: Mapping[str, Scalar], first: Mapping[int, Row], second: Mapping[int, Row], metric: str, alpha: float
) -> ArmComparison:
    before, after = shared_values(first, second, metric)
    found = t_interval([b - a for a, b in zip(before, after, strict=True)], alpha)
    return ArmComparison(
        params=dict(params),
        pairs=len(after),
        identical=sum(a == b for a, b in zip(before, after, strict=True)),
        first=t_interval(before, alpha).mean,
        second=t_interval(after, alpha).mean,
        difference=found.mean,
        ci_low=found.low,
        ci_high=found.high,
    )
