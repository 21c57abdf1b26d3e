"""What was chosen by validation data, and what that changed, as parts of the report. Trains nothing."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Literal

from mnist_ablate.ledger import progress
from mnist_ablate.reports import report
from mnist_ablate.statistics.claim_verdict import ALPHA
from mnist_ablate.statistics.paired_tests import t_interval
from mnist_ablate.statistics.pairing import by_arm, shared_values
from mnist_ablate.statistics.verdict import arms, judge
from mnist_ablate.sweep.designs import CONFIGURATION
from mnist_ablate.sweep.plan import Plan, label
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import Params, RecordedTrial, Row, Scalar
from mnist_ablate.workloads.workload import selection_metric

Seeds = Mapping[int, Row]  # the rows of an arm by seed


def main_metric(sweep: Sweep) -> str:
    """What arms are summed up by: the metric of the first claim."""
    return sweep.claims[0].metric if sweep.claims else sweep.workload.main_metric


def select(plan: Plan, entries: progress.Entries) -> report.Selection:
    """The parts of the report about choices; each is None where a sweep chooses nothing of the kind."""
    tried = [entry for entry in entries.values() if entry.stage == "tuning"]
    is_path = plan.sweep.design == "ablation_path"
    return report.Selection(
        tuning=_tuning(plan, entries, tried) if tried and not is_path else None,
        as_written=_as_written(plan, entries) if plan.sweep.as_written else None,
        search=_search(plan, entries, tried) if plan.sweep.design == "search" else None,
        path=_path(plan, entries) if is_path else None,
    )


def _tuning(plan: Plan, entries: progress.Entries, tried: Sequence[RecordedTrial]) -> report.Tuning:
    """The values chosen for each arm, and where they lie among those tried; no arms before all are tried."""
    metric, best, chosen = plan.sweep.workload.selection_metric, progress.tuned(plan, entries) or {}, []
    for arm in plan.arms:
        if (values := best.get(label(arm.params))) is not None:
            own = [entry for entry in tried if entry.params == arm.params]
            same = (entry for entry in own if values.items() <= entry.trial.settings.items())
            chosen.append(
                report.ChosenValues(
                    params=arm.params,
                    values=values,
                    score=next((entry.outcome.metrics.get(metric) for entry in same), None),
                    tried=len(own),
                    edges=dict(_edges(values, own)),
                )
            )
    outcomes = dict(Counter(entry.outcome.status for entry in tried))
    return report.Tuning(metric=metric, trials=len(tried), outcomes=outcomes, arms=tuple(chosen))


def _edges(values: Params, tried: Sequence[RecordedTrial]) -> Iterator[tuple[str, Literal["lowest", "highest"]]]:
    """The chosen numbers at an end of what was tried: a better one may lie beyond."""
    for name, value in values.items():
        others = {number for entry in tried if not isinstance(number := entry.trial.settings[name], str)}
        if not isinstance(value, str | bool) and len(others) > 1 and value in (min(others), max(others)):
            yield name, "lowest" if value == min(others) else "highest"


def _as_written(plan: Plan, entries: progress.Entries) -> report.AsWritten:
    """The verdicts at the fixed values, judged as those at the tuned ones are: same seeds, claims and level."""
    sweep, trials = plan.sweep, progress.as_written_trials(plan, entries)
    rows = progress.rows(plan, entries, trials)
    return report.AsWritten(
        values={name: tuple(dict.fromkeys(arm.settings[name] for arm in plan.arms)) for name in sweep.nuisance},
        trials=report.TrialCounts.model_validate(progress.counts(plan, entries, trials)),
        arms=arms(rows, main_metric(sweep)),
        claims=judge(rows, sweep.every_claim, looks=sweep.looks),
    )


def _search(plan: Plan, entries: progress.Entries, tried: Sequence[RecordedTrial]) -> report.Search:
    """What the search gained, and which factors the best trials agree on.

    The best that was seen is a maximum over many trials; the winner on fresh seeds is none.
    """
    from mnist_ablate.ledger.importance import LEVEL, RESAMPLES, importances  # here, because it imports optuna

    factors = tuple(
        report.Importance(factor=name, share=share, low=low, high=high)
        for name, share, low, high in importances(plan.sweep, tried)
    )
    workload, found, gain = plan.sweep.workload, _by_configuration(plan, entries), None
    metric = workload.selection_metric
    scores = [entry.outcome.metrics[metric] for entry in tried if metric in entry.outcome.metrics]
    baseline = [row.metrics[metric] for row in found.get("baseline", {}).values() if metric in row.metrics]
    if scores and baseline and "winner" in found:
        shown = dict.fromkeys((metric, main_metric(plan.sweep)))
        confirmed = tuple(_difference(found["winner"], found["baseline"], plan, each, ALPHA) for each in shown)
        best = min(scores) if selection_metric(workload).better == "lower" else max(scores)
        seen = best - fmean(baseline)
        gain = report.Gain(chosen_by=metric, tried=len(tried), seen=seen, confirmed=confirmed)
    shares = report.Importances(level=LEVEL, resamples=RESAMPLES, factors=factors)
    return report.Search(gain=gain, importances=shares)


def _path(plan: Plan, entries: progress.Entries) -> report.Path:
    """Each change in the order made, what it was chosen among, and what it gained; intervals hold for all at once."""
    (walked, _), found, metric = progress.walk(plan, entries), _by_configuration(plan, entries), main_metric(plan.sweep)
    names = [arm.params[CONFIGURATION] for arm in plan.arms]
    alpha = ALPHA / max(len(plan.sweep.changes), 1)
    sign = -1.0 if selection_metric(plan.sweep.workload).better == "lower" else 1.0
    steps = tuple(
        report.PathStep(
            configuration=name,
            factor=step.factor,
            before=plan.sweep.baseline[step.factor],
            after=step.settings[step.factor],
            scores={name: sign * score for name, score in step.scores.items()},
            **dict(_difference(found.get(name, {}), found.get(previous, {}), plan, metric, alpha)),
        )
        for previous, name, step in zip(names, names[1:], walked, strict=False)
    )
    return report.Path(
        chosen_by=plan.sweep.workload.selection_metric,
        level=1 - alpha,
        steps=steps,
        left=len(names) - 1 - len(steps),
        whole=_difference(found.get(names[-1], {}), found.get(names[0], {}), plan, metric, ALPHA),
    )


def _by_configuration(plan: Plan, entries: progress.Entries) -> dict[Scalar, Seeds]:
    """What the verdicts read, by the name of the arm, then the seed."""
    return {arm.params[CONFIGURATION]: arm.by_seed for arm in by_arm(progress.rows(plan, entries))}


def _difference(better: Seeds, baseline: Seeds, plan: Plan, metric: str, alpha: float) -> report.Difference:
    """One arm minus another over the seeds that both have, with its t interval at level 1 - alpha."""
    before, after = shared_values(baseline, better, metric)
    mean, _, low, high = t_interval([b - a for a, b in zip(before, after, strict=True)], alpha)
    unit = plan.sweep.metric(metric).unit
    return report.Difference(metric=metric, unit=unit, effect=mean, ci_low=low, ci_high=high, n_pairs=len(after))
