"""What was chosen on validation data, and what that changed, as the report's JSON; trains and judges nothing itself."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from mnist_ablate.ledger import progress
from mnist_ablate.ledger.ablation_path import walk
from mnist_ablate.reports.summary import claims, main_metric
from mnist_ablate.statistics.paired_tests import t_interval
from mnist_ablate.statistics.verdict import ALPHA, arms, judge
from mnist_ablate.sweep.plan import Arm, Plan, label
from mnist_ablate.trial import Params, RecordedTrial, Scalar
from mnist_ablate.workloads.workload import default_workload

METRIC = default_workload().selection_metric
"""What values are chosen by."""
CONFIGURATION = "configuration"
"""The factor of the two arms that a search confirms."""
Metrics = Mapping[str, float]


def document(plan: Plan, entries: Mapping[str, RecordedTrial]) -> dict[str, Any]:
    """The parts of the report about choices; each is null where a sweep chooses nothing of the kind."""
    return {
        "tuning": _tuning(plan, entries),
        "as_written": _as_written(plan, entries),
        "search": _search(plan, entries) if plan.sweep.design == "search" else None,
        "path": _path(plan, entries) if plan.sweep.design == "ablation_path" else None,
    }


def _tuning(plan: Plan, entries: Mapping[str, RecordedTrial]) -> dict[str, Any] | None:
    """The values chosen for each arm, and where they lie among those tried; no arms before all are tried."""
    tried = [entry for entry in entries.values() if entry.stage == "tuning"]
    if not tried or plan.sweep.design == "ablation_path":
        return None
    best = progress.tuned(plan, entries) or {}
    return {
        "metric": METRIC,
        "trials": len(tried),
        "outcomes": dict(Counter(entry.outcome.status for entry in tried)),
        "arms": [_chosen(arm, best[label(arm.params)], tried) for arm in plan.arms if label(arm.params) in best],
    }


def _chosen(arm: Arm, values: Params, tried: Sequence[RecordedTrial]) -> dict[str, Any]:
    own = [entry for entry in tried if entry.params == arm.params]
    same = (entry for entry in own if _has(entry, values))
    return {
        "params": dict(arm.params),
        "values": dict(values),
        "score": next((entry.outcome.metrics.get(METRIC) for entry in same), None),
        "tried": len(own),
        "edges": dict(_edges(values, own)),
    }


def _has(entry: RecordedTrial, values: Params) -> bool:
    return all(entry.trial.settings[name] == value for name, value in values.items())


def _edges(values: Params, tried: Sequence[RecordedTrial]) -> Iterator[tuple[str, str]]:
    """The numbers that nothing was tried beyond: "lowest" or "highest". What lies beyond may be better."""
    for name, value in values.items():
        if isinstance(value, str | bool):
            continue
        others = {entry.trial.settings[name] for entry in tried}
        if len(others) > 1 and value in (min(others), max(others)):
            yield name, "lowest" if value == min(others) else "highest"


def _search(plan: Plan, entries: Mapping[str, RecordedTrial]) -> dict[str, Any]:
    """What the search gained, as it looked and as it was confirmed, and which factors the best trials agree on."""
    from mnist_ablate.ledger.importance import LEVEL, RESAMPLES, importances  # here, because it imports optuna

    tried = [entry for entry in entries.values() if entry.stage == "tuning"]
    return {
        "gain": _gain(plan, entries, tried),
        "importances": {
            "level": LEVEL,
            "resamples": RESAMPLES,
            "factors": [vars(each) for each in importances(plan.sweep, tried)],
        },
    }


def _gain(plan: Plan, entries: Mapping[str, RecordedTrial], tried: Sequence[RecordedTrial]) -> dict[str, Any] | None:
    """The best that was seen, a maximum over many trials, and the winner on fresh seeds, which is none."""
    scores = [entry.outcome.metrics[METRIC] for entry in tried if METRIC in entry.outcome.metrics]
    found = _by_configuration(plan, entries)
    baseline = [metrics[METRIC] for metrics in found.get("baseline", {}).values() if METRIC in metrics]
    if not (scores and baseline and "winner" in found):
        return None
    metrics = dict.fromkeys((METRIC, main_metric(plan.sweep)))
    return {
        "tried": len(tried),
        "seen": max(scores) - fmean(baseline),
        "confirmed": [_difference(found["winner"], found["baseline"], metric, ALPHA) for metric in metrics],
    }


def _path(plan: Plan, entries: Mapping[str, RecordedTrial]) -> dict[str, Any]:
    """Each change in the order made, what it was chosen among, and what it gained; intervals hold for all at once."""
    walked, found, metric = walk(plan, entries), _by_configuration(plan, entries), main_metric(plan.sweep)
    names = [arm.params[CONFIGURATION] for arm in plan.arms]
    alpha = ALPHA / max(len(plan.sweep.changes), 1)
    steps = [
        {
            "configuration": name,
            "factor": step.factor,
            "from": plan.sweep.baseline[step.factor],
            "to": step.settings[step.factor],
            "scores": dict(step.scores),
            **_difference(found.get(name, {}), found.get(before, {}), metric, alpha),
        }
        for before, name, step in zip(names, names[1:], walked.steps, strict=False)
    ]
    whole = _difference(found.get(names[-1], {}), found.get(names[0], {}), metric, ALPHA)
    return {
        "chosen_by": METRIC,
        "level": 1 - alpha,
        "steps": steps,
        "left": len(names) - 1 - len(steps),
        "whole": whole,
    }


def _by_configuration(plan: Plan, entries: Mapping[str, RecordedTrial]) -> dict[Scalar, dict[int, Metrics]]:
    """The verdicts' metrics by the name of the arm, then the seed."""
    found: dict[Scalar, dict[int, Metrics]] = {}
    for row in progress.rows(plan, entries):
        found.setdefault(row.params[CONFIGURATION], {})[row.seed] = row.metrics
    return found


def _difference(
    better: Mapping[int, Metrics], baseline: Mapping[int, Metrics], metric: str, alpha: float
) -> dict[str, Any]:
    """One arm minus another over the seeds that both have, with its t interval at level 1 - alpha."""
    seeds = [seed for seed, metrics in better.items() if metric in metrics and metric in baseline.get(seed, {})]
    mean, _, low, high = t_interval([better[seed][metric] - baseline[seed][metric] for seed in seeds], alpha)
    return {"metric": metric, "effect": mean, "ci_low": low, "ci_high": high, "n_pairs": len(seeds)}


def _as_written(plan: Plan, entries: Mapping[str, RecordedTrial]) -> dict[str, Any] | None:
    """The verdicts at the fixed values, judged as those at the tuned ones are: same seeds, claims and level."""
    sweep = plan.sweep
    if not sweep.as_written:
        return None
    rows = progress.as_written(plan, entries)
    recipes = [arm.settings for arm in plan.arms]
    return {
        "values": {name: list(dict.fromkeys(each[name] for each in recipes)) for name in sweep.nuisance},
        "trials": progress.as_written_counts(plan, entries),
        "arms": [dataclasses.asdict(arm) for arm in arms(rows, main_metric(sweep), ALPHA)],
        "claims": claims(sweep, judge(rows, sweep.claims, ALPHA, sweep.looks)),
    }
