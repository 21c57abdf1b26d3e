"""Does MLflow show what the ledger holds? One run a trial, every number once; shares no code with the mirror."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from mnist_ablate.ledger.raw_records import FinalRecord, RawOutcome
from mnist_ablate.statistics.verdict import judge
from mnist_ablate.verification.ledger_check import CheckedLedger
from mnist_ablate.verification.raw_mlflow import RawExperiment, RawRun
from mnist_ablate.workloads.workload import default_workload

_STATUSES = {"complete": "FINISHED", "diverged": "FINISHED", "failed": "FAILED", "lost": "KILLED", "pruned": "KILLED"}
_SYNC = "run sync"
_ANEW = "delete that run in MLflow, then run sync"
_OVER = "FINISHED"
_CLOSE = 1e-9


def problems(ledger: CheckedLedger, experiment: RawExperiment | None) -> Iterator[str]:
    """What differs, a line each."""
    name, digest = ledger.sweep.name, ledger.sweep.digest
    if experiment is None:
        yield f"MLflow: no experiment {name}: {_SYNC}"
        return
    own = [run for run in experiment.runs if run.tags.get("sweep_digest") == digest]
    parents = [run for run in own if run.tags.get("kind") == "sweep"]
    children = [run for run in own if run.tags.get("kind") == "trial"]
    for run in own:
        if run not in parents and run not in children:
            yield f"MLflow: run {run.run_id} is neither the sweep nor a trial of it: delete it"
    if len(parents) != 1:
        yield f"MLflow: {len(parents)} runs stand for the sweep {name}: {_SYNC}"
    yield from _stray(experiment, ledger, own, parents)
    yield from _trials(ledger.finals, children, parents)
    if len(parents) == 1:
        yield from _parent(ledger, parents[0])


def _stray(
    experiment: RawExperiment, ledger: CheckedLedger, own: Sequence[RawRun], parents: Sequence[RawRun]
) -> Iterator[str]:
    """Runs that nobody knows, and runs that nobody runs."""
    ids = {run.run_id for run in parents}
    for run in experiment.runs:
        if run not in own and (run.tags.get("mlflow.parentRunId") in ids or run.tags.get("trial_id") in ledger.finals):
            yield f"MLflow: run {run.run_id} belongs to no record of the sweep: delete it"
        if run not in own and run.tags.get("kind") and run.status == "RUNNING":
            yield f"MLflow: run {run.run_id} of an older record is RUNNING: delete it, or sync that record"
    for run in own:
        if run.status not in {*_STATUSES.values()}:
            yield f"MLflow: run {run.run_id} is {run.status}: {_SYNC} unless the sweep is running"


def _trials(finals: Mapping[str, FinalRecord], children: Sequence[RawRun], parents: Sequence[RawRun]) -> Iterator[str]:
    by_trial: dict[str, list[RawRun]] = {}
    for run in children:
        by_trial.setdefault(run.tags.get("trial_id", ""), []).append(run)
    for trial_id in sorted(by_trial.keys() - finals.keys()):
        for run in by_trial[trial_id]:
            if run.tags.get("outcome") or run.status == _OVER or not trial_id:
                yield f"MLflow: run {run.run_id} is of a trial ({trial_id}) that is not recorded: delete it"
    for trial_id, final in finals.items():
        found = by_trial.get(trial_id, [])
        if len(found) != 1:
            yield f"MLflow: {len(found) or 'no'} run{'s' * (len(found) > 1)} of trial {trial_id}: {_SYNC}"
        for run in found:
            parent = parents[0].run_id if len(parents) == 1 else None
            yield from (f"MLflow: run of trial {trial_id} {text}: {_ANEW}" for text in _wrong(run, final, parent))


def _wrong(run: RawRun, final: FinalRecord, parent: str | None) -> Iterator[str]:
    outcome = final.outcome
    if run.status != _STATUSES[outcome["status"]]:
        yield f"is {run.status}, the ledger says {outcome['status']}"
    tags = {"outcome": outcome["status"], "seed": str(final.seed), "data_digest": final.data_digest}
    if parent:
        tags["mlflow.parentRunId"] = parent
    for name, value in tags.items():
        if run.tags.get(name) != value:
            yield f"has the tag {name} {run.tags.get(name)!r}, not {value!r}"
    params = {name: str(value) for name, value in final.settings.items()} | {"seed": str(final.seed)}
    unused = {name for name in final.settings if not default_workload().is_used(name, final.settings)}
    found = {**{name: params[name] for name in final.later | unused}, **run.params}  # sent or not, by version
    if found != params:
        differing = sorted(name for name in {*found, *params} if found.get(name) != params.get(name))
        yield f"has other parameters than the trial ({', '.join(differing)})"
    yield from _wrong_points(run, outcome)


def _wrong_points(run: RawRun, outcome: RawOutcome) -> Iterator[str]:
    """One row for each metric and step, with the recorded value and time."""
    wanted = _points(outcome)
    rows = Counter((key, step) for key, step, _, _ in run.points)
    doubled = sorted(f"{key} at step {step}" for (key, step), times in rows.items() if times > 1)
    if doubled:
        yield f"has {len(doubled)} points twice ({doubled[0]})"
    found = {(key, step): (at_ms, value) for key, step, at_ms, value in run.points}
    lacking = sorted(f"{key} at step {step}" for key, step in wanted.keys() - found.keys())
    if lacking:
        yield f"lacks {len(lacking)} points ({lacking[0]})"
    extra = sorted(f"{key} at step {step}" for key, step in found.keys() - wanted.keys())
    if extra:
        yield f"has {len(extra)} points that the ledger does not have ({extra[0]})"
    differing = sorted(
        f"{key} at step {step}" for (key, step), point in wanted.items() if _differs(point, found.get((key, step)))
    )
    if differing:
        yield f"has {len(differing)} points with another value or time ({differing[0]})"


def _points(outcome: RawOutcome) -> dict[tuple[str, int], tuple[int, float]]:
    """Time and value by metric and step. The numbers of the whole run stand at its last epoch."""
    epochs = outcome["epochs"]
    curves = {
        (key, int(epoch["number"])): (int(epoch["ended_ms"]), value)
        for epoch in epochs
        for key, value in _curves(epoch)
    }
    last = len(epochs) + (outcome["status"] == "diverged")
    ended_ms = outcome["started_ms"] + round(outcome["seconds"] * 1000) if outcome["started_ms"] else 0
    diagnostics = {f"diagnostics/{name}": value for name, value in outcome["diagnostics"].items()}
    whole = {**outcome["metrics"], **diagnostics, "seconds": outcome["seconds"]}
    return {**{(key, last): (ended_ms, value) for key, value in whole.items()}, **curves}


def _curves(epoch: Mapping[str, float]) -> list[tuple[str, float]]:
    return [(key, value) for key, value in epoch.items() if key not in ("number", "ended_ms")]


def _differs(wanted: tuple[int, float], found: tuple[int, float] | None) -> bool:
    if found is None:
        return False
    close = abs(found[1] - wanted[1]) <= _CLOSE * max(1e-300, abs(wanted[1]))
    return found[0] != wanted[0] or not close


def _parent(ledger: CheckedLedger, parent: RawRun) -> Iterator[str]:
    """The sweep's own run shows the verdicts of what is recorded, once all is."""
    if ledger.missing:
        return
    if parent.status != _OVER:
        yield f"MLflow: the run of the sweep is {parent.status}: {_SYNC}"
    shown = {key: value for key, _, _, value in sorted(parent.points, key=lambda point: point[2])}
    verdicts = judge(ledger.rows, ledger.sweep.claims, looks=ledger.sweep.looks)
    judged = {f"effect.{verdict.name}": verdict.effect for verdict in verdicts}
    effects = {key: effect for key, effect in judged.items() if math.isfinite(effect)}
    for key in sorted(effects.keys() - shown.keys()):
        yield f"MLflow: the run of the sweep lacks {key}: {_SYNC}"
    for key in sorted(effects.keys() & shown.keys()):
        if _differs((0, effects[key]), (0, shown[key])):
            yield f"MLflow: {key} is {shown[key]:.6g}, the recorded trials say {effects[key]:.6g}: {_SYNC}"
