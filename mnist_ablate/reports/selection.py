"""What was chosen by validation data, and what that changed, as parts of the report. Trains nothing."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Literal

from mnist_ablate.ledger import progress
from mnist_ablate.reports.report import (
    AsWritten,
    ChosenValues,
    Difference,
    Gain,
    Importance,
    Importances,
    Path,
    PathStep,
    Search,
    Selection,
    TrialCounts,
    Tuning,
)
from mnist_ablate.statistics.paired_tests import t_interval
from mnist_ablate.statistics.verdict import ALPHA, arms, judge
from mnist_ablate.sweep.plan import Arm, Plan, label
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import Params, RecordedTrial, Scalar
from mnist_ablate.workloads.workload import default_workload

CONFIGURATION = "configuration"
"""The factor of the arms that a search or a path confirms."""
Entries = Mapping[str, RecordedTrial]
Metrics = Mapping[str, float]


def main_metric(sweep: Sweep) -> str:
    """What arms are summed up by: the metric of the first claim."""
    return sweep.claims[0].metric if sweep.claims else default_workload().main_metric


def select(plan: Plan, entries: Entries) -> Selection:
    """The parts of the report about choices; each is None where a sweep chooses nothing of the kind."""
    return Selection(
        tuning=_tuning(plan, entries),
        as_written=_as_written(plan, entries),
        search=_search(plan, entries) if plan.sweep.design == "search" else None,
        path=_path(plan, entries) if plan.sweep.design == "ablation_path" else None,
    )


def _tried(entries: Entries) -> list[RecordedTrial]:
    return [entry for entry in entries.values() if entry.stage == "tuning"]


def _tuning(plan: Plan, entries: Entries) -> Tuning | None:
    """The values chosen for each arm, and where they lie among those tried; no arms before all are tried."""
    tried = _tried(entries)
    if not tried or plan.sweep.design == "ablation_path":
        return None
    best = progress.tuned(plan, entries) or {}
    return Tuning(
        metric=default_workload().selection_metric,
        trials=len(tried),
        outcomes=dict(Counter(entry.outcome.status for entry in tried)),
        arms=tuple(_chosen(arm, best[label(arm.params)], tried) for arm in plan.arms if label(arm.params) in best),
    )


def _chosen(arm: Arm, values: Params, tried: Sequence[RecordedTrial]) -> ChosenValues:
    own = [entry for entry in tried if entry.params == arm.params]
    same = (entry for entry in own if values.items() <= entry.trial.settings.items())
    metric = default_workload().selection_metric
    return ChosenValues(
        params=arm.params,
        values=values,
        score=next((entry.outcome.metrics.get(metric) for entry in same), None),
        tried=len(own),
        edges=dict(_edges(values, own)),
    )


def _edges(values: Params, tried: Sequence[RecordedTrial]) -> Iterator[tuple[str, Literal["lowest", "highest"]]]:
    """The chosen numbers at an end of what was tried: a better one may lie beyond."""
    for name, value in values.items():
        others = {number for entry in tried if not isinstance(number := entry.trial.settings[name], str)}
        if not isinstance(value, str | bool) and len(others) > 1 and value in (min(others), max(others)):
            yield name, "lowest" if value == min(others) else "highest"


def _search(plan: Plan, entries: Entries) -> Search:
    """What the search gained, as it looked and as it was confirmed, and which factors the best trials agree on."""
    from mnist_ablate.ledger.importance import LEVEL, RESAMPLES, importances  # here, because it imports optuna

    tried = _tried(entries)
    found = importances(plan.sweep, tried)
    factors = tuple(Importance(factor=name, share=share, low=low, high=high) for name, share, low, high in found)
    shares = Importances(level=LEVEL, resamples=RESAMPLES, factors=factors)
    return Search(gain=_gain(plan, entries, tried), importances=shares)


def _gain(plan: Plan, entries: Entries, tried: Sequence[RecordedTrial]) -> Gain | None:
    """The best that was seen, which is a maximum over many trials, and the winner on fresh seeds, which is none."""
    metric = default_workload().selection_metric
    scores = [entry.outcome.metrics[metric] for entry in tried if metric in entry.outcome.metrics]
    found = _by_configuration(plan, entries)
    baseline = [metrics[metric] for metrics in found.get("baseline", {}).values() if metric in metrics]
    if not (scores and baseline and "winner" in found):
        return None
    shown = dict.fromkeys((metric, main_metric(plan.sweep)))
    confirmed = tuple(_difference(found["winner"], found["baseline"], each, ALPHA) for each in shown)
    return Gain(tried=len(tried), seen=max(scores) - fmean(baseline), confirmed=confirmed)


def _path(plan: Plan, entries: Entries) -> Path:
    """Each change in the order made, what it was chosen among, and what it gained; intervals hold for all at once."""
    (walked, _), found, metric = progress.walk(plan, entries), _by_configuration(plan, entries), main_metric(plan.sweep)
    names = [arm.params[CONFIGURATION] for arm in plan.arms]
    alpha = ALPHA / max(len(plan.sweep.changes), 1)
    steps = tuple(
        PathStep(
            configuration=name,
            factor=step.factor,
            before=plan.sweep.baseline[step.factor],
            after=step.settings[step.factor],
            scores=step.scores,
            **_difference(found.get(name, {}), found.get(previous, {}), metric, alpha).model_dump(),
        )
        for previous, name, step in zip(names, names[1:], walked, strict=False)
    )
    return Path(
        chosen_by=default_workload().selection_metric,
        level=1 - alpha,
        steps=steps,
        left=len(names) - 1 - len(steps),
        whole=_difference(found.get(names[-1], {}), found.get(names[0], {}), metric, ALPHA),
    )


def _by_configuration(plan: Plan, entries: Entries) -> dict[Scalar, dict[int, Metrics]]:
    """The verdicts' metrics by the name of the arm, then the seed."""
    found: dict[Scalar, dict[int, Metrics]] = {}
    for row in progress.rows(plan, entries):
        found.setdefault(row.params[CONFIGURATION], {})[row.seed] = row.metrics
    return found


def _difference(
    better: Mapping[int, Metrics], baseline: Mapping[int, Metrics], metric: str, alpha: float
) -> Difference:
    """One arm minus another over the seeds that both have, with its t interval at level 1 - alpha."""
    seeds = [seed for seed, metrics in better.items() if metric in metrics and metric in baseline.get(seed, {})]
    mean, _, low, high = t_interval([better[seed][metric] - baseline[seed][metric] for seed in seeds], alpha)
    return Difference(metric=metric, effect=mean, ci_low=low, ci_high=high, n_pairs=len(seeds))


def _as_written(plan: Plan, entries: Entries) -> AsWritten | None:
    """The verdicts at the fixed values, judged as those at the tuned ones are: same seeds, claims and level."""
    sweep = plan.sweep
    if not sweep.as_written:
        return None
    trials = progress.as_written_trials(plan, entries)
    rows = progress.rows(plan, entries, trials)
    settings = [arm.settings for arm in plan.arms]
    return AsWritten(
        values={name: tuple(dict.fromkeys(each[name] for each in settings)) for name in sweep.nuisance},
        trials=TrialCounts.model_validate(progress.counts(plan, entries, trials)),
        arms=arms(rows, main_metric(sweep), ALPHA),
        claims=judge(rows, sweep.claims, ALPHA, sweep.looks),
    )
