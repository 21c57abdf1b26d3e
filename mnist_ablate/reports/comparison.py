"""Two judged sweeps side by side: the arms that both have, seed by seed, and their verdicts; reads no ledger."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from mnist_ablate.reports.selection import main_metric
from mnist_ablate.reports.wording import effect, number
from mnist_ablate.statistics.paired_tests import t_interval
from mnist_ablate.statistics.pairing import ArmRows, by_arm, label, unusable
from mnist_ablate.statistics.verdict import ALPHA, Verdict, judge
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import Params, Row


@dataclass(frozen=True)
class Side:
    """One recorded sweep: `name` as it was asked for, `registered` ISO 8601, `rows` of its verdict stage."""

    name: str
    registered: str
    sweep: Sweep
    rows: Sequence[Row]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AboutSide(_Part):
    """Which sweep it is, and when it was registered."""

    sweep: str
    digest: str
    registered: str


class ArmComparison(_Part):
    """An arm that both have, second minus first over `pairs` seeds, of which `identical` agree to the last bit."""

    params: Params
    pairs: int
    identical: int
    first: float
    second: float
    difference: float
    ci_low: float
    ci_high: float


class ClaimResult(_Part):
    """The verdict on a claim, and the effect that it rests on."""

    verdict: Verdict
    effect: float


class ClaimComparison(_Part):
    """A claim that both make; `changed` says whether it was altered under the same name."""

    name: str
    statement: str
    changed: bool
    first: ClaimResult
    second: ClaimResult


class Comparison(_Part):
    """Two sweeps, second minus first. `metric` is that of the second sweep's first claim.

    Arms match by their factors, rows by seed. The intervals of the arms' mean differences are simultaneous (Bonferroni
    over the arms). A number that does not exist is null in JSON.
    """

    first: AboutSide
    second: AboutSide
    metric: str
    alpha: float
    arms: tuple[ArmComparison, ...]
    only_first: tuple[Params, ...]
    only_second: tuple[Params, ...]
    claims: tuple[ClaimComparison, ...]

    def text(self) -> str:
        """The same as lines for a person."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        first, second, metric = self.first, self.second, self.metric
        yield f"{first.sweep} ({first.registered}) -> {second.sweep} ({second.registered}), {metric}"
        identical, pairs = sum(arm.identical for arm in self.arms), sum(arm.pairs for arm in self.arms)
        yield f"{identical} of {pairs} trials with the same factors and seed have the same number to the last bit"
        for arm in self.arms:
            change = effect(metric, arm.difference)
            if arm.identical < arm.pairs:
                change += f" ({effect(metric, arm.ci_low)} to {effect(metric, arm.ci_high)})"
            yield f"  {label(arm.params)}: {number(metric, arm.first)} -> {number(metric, arm.second)}, {change}"
        for found, side in ((self.only_first, first), (self.only_second, second)):
            if found:
                yield f"only in {side.sweep}: {'; '.join(map(label, found))}"
        for claim in self.claims:
            before, after = claim.first.verdict, claim.second.verdict
            note = " (the claim itself was changed)" if claim.changed else ""
            yield f"{'still' if before == after else f'{before} ->'} {after}: {claim.statement}{note}"
        if self.arms:
            level = 1 - self.alpha / len(self.arms)
            yield f"intervals: {level:.1%}, of the mean difference over the seeds that both have"


def compare(first: Side, second: Side, alpha: float = ALPHA) -> Comparison:
    """Compare two recorded sweeps."""
    metric = main_metric(second.sweep)
    before, after = ({frozenset(arm.params.items()): arm for arm in by_arm(side.rows)} for side in (first, second))
    both = [(before[key], arm) for key, arm in after.items() if key in before]
    return Comparison(
        first=_about(first),
        second=_about(second),
        metric=metric,
        alpha=alpha,
        arms=tuple(_arm(a, b, metric, alpha / len(both)) for a, b in both),
        only_first=tuple(dict(arm.params) for key, arm in before.items() if key not in after),
        only_second=tuple(dict(arm.params) for key, arm in after.items() if key not in before),
        claims=tuple(_claims(first, second, alpha)),
    )


def _about(side: Side) -> AboutSide:
    return AboutSide(sweep=side.name, digest=side.sweep.digest, registered=side.registered)


def _arm(first: ArmRows, second: ArmRows, metric: str, alpha: float) -> ArmComparison:
    seeds = [
        seed
        for seed, row in second.by_seed.items()
        if not unusable(row, metric) and not unusable(first.by_seed.get(seed), metric)
    ]
    before, after = ([arm.by_seed[seed].metrics[metric] for seed in seeds] for arm in (first, second))
    found = t_interval([b - a for a, b in zip(before, after, strict=True)], alpha)
    return ArmComparison(
        params=dict(second.params),
        pairs=len(seeds),
        identical=sum(a == b for a, b in zip(before, after, strict=True)),
        first=t_interval(before, alpha).mean,
        second=t_interval(after, alpha).mean,
        difference=found.mean,
        ci_low=found.low,
        ci_high=found.high,
    )


def _claims(first: Side, second: Side, alpha: float) -> Iterator[ClaimComparison]:
    """The verdicts of each side on its own claims; a claim of the same name is compared even if it was changed."""
    before, after = (
        {verdict.name: verdict for verdict in judge(side.rows, side.sweep.claims, alpha, side.sweep.looks)}
        for side in (first, second)
    )
    asked = {claim.name: claim for claim in first.sweep.claims}
    for claim in second.sweep.claims:
        if claim.name in asked:
            one, other = (
                ClaimResult(verdict=v.verdict, effect=v.effect) for v in (before[claim.name], after[claim.name])
            )
            yield ClaimComparison(
                name=claim.name, statement=claim.statement, changed=claim != asked[claim.name], first=one, second=other
            )
