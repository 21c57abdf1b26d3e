"""Parts of the report's JSON beside the verdicts: sizes of the claims' differences, the table of a factorial sweep."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from mnist_ablate.statistics import anova
from mnist_ablate.statistics.effect_sizes import Size, improvement, standardized
from mnist_ablate.statistics.verdict import ClaimVerdict
from mnist_ablate.sweep.sweep import Claim, Sweep
from mnist_ablate.trial import Row

_LOWER_IS_BETTER = ("loss", "epochs_to")


def sizes(claims: Sequence[Claim], verdicts: Sequence[ClaimVerdict], levels: Sequence[float]) -> list[dict[str, Any]]:
    """Of each claim, at the level of its interval: `standardized`, and `improvement`, null for a difference of two.

    `levels` are what each interval may err.
    """
    return [
        {
            "name": claim.name,
            "standardized": _size(standardized([*verdict.differences.values()], level, verdict.rounding)),
            "improvement": None if claim.versus is not None else _size(_improvement(claim, verdict, level)),
        }
        for claim, verdict, level in zip(claims, verdicts, levels, strict=True)
    ]


def _improvement(claim: Claim, verdict: ClaimVerdict, level: float) -> Size:
    """How often the treatment is the better one: the larger, or the smaller where less is better."""
    sign = -1.0 if any(part in claim.metric for part in _LOWER_IS_BETTER) else 1.0
    return improvement([sign * each for each in verdict.differences.values()], level, verdict.rounding)


def _size(found: Size) -> dict[str, float]:
    return {"value": found.value, "ci_low": found.low, "ci_high": found.high}


def factorial(sweep: Sweep, rows: Sequence[Row], metric: str) -> dict[str, Any] | None:
    """Main effects and interactions on the metric; None unless the design is factorial and every arm has two seeds."""
    found = anova.table(rows, sweep.factors, metric) if sweep.design == "factorial" else None
    if found is None:
        return None
    return {
        "metric": metric,
        "seeds": len(found.seeds),
        "left_out": found.left_out,
        "effects": [dataclasses.asdict(each) for each in found.effects],
        "block": dataclasses.asdict(found.block),
        "error": {key: getattr(found.error, key) for key in ("sum_of_squares", "freedom")},
    }
