"""The JSON document of a judged sweep, as `report`, `sweep` and `judge` print it; computes no statistics."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mnist_ablate.reports import effects
from mnist_ablate.statistics import negative_control, positive_control
from mnist_ablate.statistics.negative_control import Again
from mnist_ablate.statistics.verdict import ALPHA, ClaimVerdict, arms, judge
from mnist_ablate.sweep.adaptive_schedule import SINGLE_LOOK, SPENDING
from mnist_ablate.sweep.sweep import Claim, Sweep
from mnist_ablate.trial import Row

SELECTION = ("tuning", "as_written", "search", "path")
"""The parts of a document on what was chosen by validation data, null where there is none."""


@dataclass(frozen=True)
class About:
    """What a report says beside the verdicts.

    `fingerprints` are documents of the normalizers, none if unknown; `again` is the negative control, if there is one;
    `preregistration` says what was written down before the first trial, if anything was; `selection` has the parts
    on what was chosen by validation data.
    """

    fingerprints: Sequence[Mapping[str, Any]] = ()
    again: Again | None = None
    preregistration: Mapping[str, Any] | None = None
    selection: Mapping[str, Any] = field(default_factory=dict)


NOTHING = About()


def document(
    sweep: Sweep, rows: Sequence[Row], counts: Mapping[str, int], about: About = NOTHING, alpha: float = ALPHA
) -> dict[str, Any]:
    """The contract's JSON; a number that does not exist (the interval of one seed) is null.

    `metric`, which the arms are summed up by, is that of the first claim.
    """
    metric, judged = main_metric(sweep), judge(rows, sweep.claims, alpha, sweep.looks)
    found = claims(sweep, judged)
    by_name = {verdict["name"]: verdict["verdict"] for verdict in found}
    finished = counts["planned"] <= sum(n for status, n in counts.items() if status != "planned")
    content = {
        "sweep": sweep.name,
        "digest": sweep.digest,
        "metric": metric,
        "alpha": alpha,
        "trials": dict(counts),
        "arms": [dataclasses.asdict(arm) for arm in arms(rows, metric, alpha)],
        "claims": found,
        "preregistration": about.preregistration and dict(about.preregistration),
        "negative_control": about.again and _control(about.again, sweep, rows, alpha),
        "positive_control": positive_control.document(sweep.claims, by_name, finished=finished),
        "adaptive": _adaptive(sweep) if sweep.looks else None,
        "effect_sizes": effects.sizes(sweep.claims, judged, [_level(sweep, verdict, alpha) for verdict in judged]),
        "factorial_effects": effects.factorial(sweep, rows, metric),
        **{part: about.selection.get(part) for part in SELECTION},
        "fingerprints": [dict(each) for each in about.fingerprints],
    }
    return {key: plain(value) for key, value in content.items()}


def claims(sweep: Sweep, verdicts: Sequence[ClaimVerdict]) -> list[dict[str, Any]]:
    """The verdicts; of an adaptive sweep each with its `look`."""
    left_out = ("rounding",) if sweep.looks else ("rounding", "look")
    found = [dataclasses.asdict(verdict) for verdict in verdicts]
    return [{key: value for key, value in verdict.items() if key not in left_out} for verdict in found]


def _level(sweep: Sweep, verdict: ClaimVerdict, alpha: float) -> float:
    """What the interval of a claim may err, at its look if there are several."""
    return alpha / len(sweep.claims) * (sweep.looks or SINGLE_LOOK)[(verdict.look or 1) - 1].share


def _control(again: Again, sweep: Sweep, rows: Sequence[Row], alpha: float) -> dict[str, Any]:
    """At the level of a claim: in an adaptive sweep, of one at the look whose seeds the control has."""
    share = next((look.share for look in sweep.looks if look.seeds == again.planned), 1.0)
    return negative_control.document(again, rows, sweep.claims, alpha * share)


def _adaptive(sweep: Sweep) -> dict[str, Any]:
    return {
        "min": sweep.min_seeds,
        "max": sweep.max_seeds,
        "spending": SPENDING,
        "looks": [{"seeds": look.seeds, "share": look.share} for look in sweep.looks],
    }


def main_metric(sweep: Sweep) -> str:
    """What arms are summed up by: the metric of the first claim."""
    return sweep.claims[0].metric if sweep.claims else str(Claim.model_fields["metric"].default)


def plain(value: Any) -> Any:
    """The same with text keys, lists for tuples, and null for nan and infinity: plain JSON."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
