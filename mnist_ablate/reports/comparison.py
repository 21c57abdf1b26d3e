"""Two judged sweeps side by side: the arms that both have, seed by seed, and their verdicts; reads no ledger."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnist_ablate.reports.summary import main_metric, plain
from mnist_ablate.statistics.paired_tests import t_interval
from mnist_ablate.statistics.pairing import ArmRows, by_arm, unusable
from mnist_ablate.statistics.verdict import ALPHA, judge
from mnist_ablate.sweep.sweep import Claim, Sweep
from mnist_ablate.trial import Row


@dataclass(frozen=True)
class Side:
    """One recorded sweep: `name` as it was asked for, `registered` ISO 8601, `rows` of its verdict stage."""

    name: str
    registered: str
    sweep: Sweep
    rows: Sequence[Row]


def compare(first: Side, second: Side, alpha: float = ALPHA) -> dict[str, Any]:
    """The JSON document of a comparison, second minus first.

    Arms match by their factors, rows by seed; the intervals of the arms' mean differences are simultaneous
    (Bonferroni over the arms). `identical` counts the seeds at which both have the same number to the last bit.
    `metric` is that of the second sweep's first claim. A number that does not exist is null.
    """
    metric = main_metric(second.sweep)
    sides = [{frozenset(arm.params.items()): arm for arm in by_arm(side.rows)} for side in (first, second)]
    both = [(sides[0][key], arm) for key, arm in sides[1].items() if key in sides[0]]
    content = {
        **{which: _about(side) for which, side in (("first", first), ("second", second))},
        "metric": metric,
        "alpha": alpha,
        "arms": [_arm(a, b, metric, alpha / len(both)) for a, b in both],
        "only_first": [dict(arm.params) for key, arm in sides[0].items() if key not in sides[1]],
        "only_second": [dict(arm.params) for key, arm in sides[1].items() if key not in sides[0]],
        "claims": _claims(first, second, alpha),
    }
    return {key: plain(value) for key, value in content.items()}


def _about(side: Side) -> dict[str, Any]:
    return {"sweep": side.name, "digest": side.sweep.digest, "registered": side.registered}


def _arm(first: ArmRows, second: ArmRows, metric: str, alpha: float) -> dict[str, Any]:
    seeds = [
        seed
        for seed, row in second.by_seed.items()
        if not unusable(row, metric) and not unusable(first.by_seed.get(seed), metric)
    ]
    before, after = ([arm.by_seed[seed].metrics[metric] for seed in seeds] for arm in (first, second))
    found = t_interval([b - a for a, b in zip(before, after, strict=True)], alpha)
    return {
        "params": dict(second.params),
        "pairs": len(seeds),
        "identical": sum(a == b for a, b in zip(before, after, strict=True)),
        "first": t_interval(before, alpha).mean,
        "second": t_interval(after, alpha).mean,
        "difference": found.mean,
        "ci_low": found.low,
        "ci_high": found.high,
    }


def _claims(first: Side, second: Side, alpha: float) -> list[dict[str, Any]]:
    """The verdicts of each side on its own claims; a claim of the same name is compared even if it was changed."""
    verdicts = [
        {v.name: v for v in judge(side.rows, side.sweep.claims, alpha, side.sweep.looks)} for side in (first, second)
    ]
    asked: list[Mapping[str, Claim]] = [{claim.name: claim for claim in side.sweep.claims} for side in (first, second)]
    return [
        {
            "name": name,
            "statement": claim.statement,
            "changed": claim != asked[0][name],
            **{
                which: {"verdict": found[name].verdict, "effect": found[name].effect}
                for which, found in zip(("first", "second"), verdicts, strict=True)
            },
        }
        for name, claim in asked[1].items()
        if name in asked[0]
    ]
