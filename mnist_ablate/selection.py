"""What was chosen on validation data, and what that changed, as the report's JSON; trains and judges nothing itself."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mnist_ablate import standing
from mnist_ablate.entry import Entry
from mnist_ablate.plan import Arm, Plan, label
from mnist_ablate.summary import count, main_metric
from mnist_ablate.sweep import Params
from mnist_ablate.verdict import ALPHA, arms, judge

METRIC = "val_accuracy"
"""What values are chosen by."""


def document(plan: Plan, entries: Mapping[str, Entry]) -> dict[str, Any]:
    """The parts of the report about choices; each is null where a sweep chooses nothing of the kind."""
    return {"tuning": _tuning(plan, entries), "as_written": _as_written(plan, entries)}


def _tuning(plan: Plan, entries: Mapping[str, Entry]) -> dict[str, Any] | None:
    """The values chosen for each arm, and where they lie among those tried; no arms before all are tried."""
    tried = [entry for entry in entries.values() if entry.stage == "tuning"]
    if not tried:
        return None
    best = standing.tuned(plan, entries) or {}
    return {
        "metric": METRIC,
        "trials": len(tried),
        "outcomes": dict(Counter(entry.outcome.status for entry in tried)),
        "arms": [_chosen(arm, best[label(arm.params)], tried) for arm in plan.arms if label(arm.params) in best],
    }


def _chosen(arm: Arm, values: Params, tried: Sequence[Entry]) -> dict[str, Any]:
    own = [entry for entry in tried if entry.params == arm.params]
    same = (entry for entry in own if _has(entry, values))
    return {
        "params": dict(arm.params),
        "values": dict(values),
        "score": next((entry.outcome.metrics.get(METRIC) for entry in same), None),
        "tried": len(own),
        "edges": dict(_edges(values, own)),
    }


def _has(entry: Entry, values: Params) -> bool:
    return all(getattr(entry.trial.recipe, name) == value for name, value in values.items())


def _edges(values: Params, tried: Sequence[Entry]) -> Iterator[tuple[str, str]]:
    """The numbers that nothing was tried beyond: "lowest" or "highest". What lies beyond may be better."""
    for name, value in values.items():
        if isinstance(value, str | bool):
            continue
        others = {getattr(entry.trial.recipe, name) for entry in tried}
        if len(others) > 1 and value in (min(others), max(others)):
            yield name, "lowest" if value == min(others) else "highest"


def _as_written(plan: Plan, entries: Mapping[str, Entry]) -> dict[str, Any] | None:
    """The verdicts at the fixed values, judged as those at the tuned ones are: same seeds, claims and level."""
    sweep = plan.sweep
    if not sweep.as_written:
        return None
    rows = standing.as_written(plan, entries)
    recipes = [arm.recipe for arm in plan.arms]
    return {
        "values": {name: list(dict.fromkeys(getattr(each, name) for each in recipes)) for name in sweep.nuisance},
        "trials": count(rows, len(plan.as_written_trials())),
        "arms": [dataclasses.asdict(arm) for arm in arms(rows, main_metric(sweep), ALPHA)],
        "claims": [dataclasses.asdict(verdict) for verdict in judge(rows, sweep.claims, ALPHA)],
    }
