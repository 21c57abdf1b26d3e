"""Does MLflow show what the ledger holds? One run a trial, every number once; shares no code with the mirror."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from mnist_ablate.ledger.raw_records import FinalRecord, RawOutcome
from mnist_ablate.statistics.verdict import decide
from mnist_ablate.text import shown
from mnist_ablate.verification.ledger_check import CheckedLedger
from mnist_ablate.verification.raw_stores import RawExperiment, RawRun
from mnist_ablate.workloads.workload import Workload

_STATUSES = {"complete": "FINISHED", "diverged": "FINISHED", "failed": "FAILED", "lost": "KILLED", "pruned": "KILLED"}
_SYNC = "run sync"
_ANEW = "delete that run in MLflow, then run sync"
_OVER = "FINISHED"
_MOST_TOLD = 2
_SAME_TIME_MS = 100
_PUBLISHED = ("report.html", "bundle.zip")
Points = Iterable[tuple[str, int, int, float]]  # key, step, time in ms since 1970 and value of each


def problems(ledger: CheckedLedger, experiment: RawExperiment | None) -> Iterator[str]:
    """What differs, a line each."""
    if experiment is None:
        yield f"MLflow: no experiment {ledger.sweep.name}: {_SYNC}"
        return
    own = [run for run in experiment.runs if run.tags.get("sweep_digest") == ledger.runs_digest]
    parents = [run for run in own if run.tags.get("kind") == "sweep"]
    if len(parents) != 1:
        yield f"MLflow: {len(parents)} runs stand for the sweep {ledger.sweep.name}: {_SYNC}"
    yield from _stray(ledger, experiment, {run.run_id for run in parents})
    runs: defaultdict[str, list[RawRun]] = defaultdict(list)
    for run in own:
        if run.tags.get("kind") == "trial":
            runs[run.tags.get("trial_id", "")].append(run)
    for trial_id, final in ledger.finals.items():
        if len(found := runs[trial_id]) != 1:
            yield f"MLflow: {len(found) or 'no'} run{'s' * (len(found) > 1)} of trial {trial_id}: {_SYNC}"
        for run in found:
            if wrong := _differences(
                run, final, parents[0].run_id if len(parents) == 1 else None, ledger.sweep.workload
            ):
                more = f" and {len(wrong) - _MOST_TOLD} more" * (len(wrong) > _MOST_TOLD)
                yield f"MLflow: run of trial {trial_id} has {', '.join(wrong[:_MOST_TOLD])}{more}: {_ANEW}"
            yield from _wrong_times(run, final)
    yield from _unfetched(own)
    if len(parents) == 1 and not ledger.missing:
        yield from _wrong_effects(ledger, parents[0])


def _unfetched(runs: Sequence[RawRun]) -> Iterator[str]:
    """Artifacts that cannot be fetched, and those that the run of the sweep lacks."""
    for run in runs:
        for name, why in run.artifacts.items():
            if why:
                yield f"MLflow: run {run.run_id}: {name} cannot be fetched ({why}): {_SYNC}"
        if run.tags.get("kind") == "sweep" and run.status == _OVER:
            lacking = [name for name in _PUBLISHED if name not in run.artifacts]
            yield from (f"MLflow: the run of the sweep has no {name}: {_SYNC}" for name in lacking)


def _stray(ledger: CheckedLedger, experiment: RawExperiment, parents: set[str]) -> Iterator[str]:
    """Runs that nobody knows, and runs that nobody runs."""
    for run in experiment.runs:
        where, kind, trial_id = f"MLflow: run {run.run_id}", run.tags.get("kind"), run.tags.get("trial_id", "")
        is_known = trial_id in ledger.finals
        digest = run.tags.get("sweep_digest")
        if digest != ledger.runs_digest:
            if run.tags.get("mlflow.parentRunId") in parents or (is_known and digest not in ledger.earlier_digests):
                yield f"{where} belongs to no record of the sweep: delete it"
            if kind and run.status == "RUNNING":
                yield f"{where} of an older record is RUNNING: delete it, or sync that record"
            continue
        if run.status not in _STATUSES.values():
            yield f"{where} is {run.status}: {_SYNC} unless the sweep is running"
        if kind not in ("sweep", "trial"):
            yield f"{where} is neither the sweep nor a trial of it: delete it"
        if kind == "trial" and not is_known and (run.tags.get("outcome") or run.status == _OVER or not trial_id):
            yield f"{where} is of a trial ({trial_id}) that is not recorded: delete it"


def _differences(run: RawRun, final: FinalRecord, parent: str | None, workload: Workload) -> list[str]:
    """What the run of a trial says otherwise than its record, or does not say, or says twice."""
    tags = {"outcome": final.outcome["status"], "seed": str(final.seed), "data_digest": final.data_digest}
    tags |= {"mlflow.parentRunId": parent} if parent else {}
    settings = {name: str(value) for name, value in final.settings.items()}
    unused = {name for name in settings if not workload.is_used(name, final.settings)}
    optional = {name: settings[name] for name in final.later | unused}  # sent or not, by version
    wanted = {"status": _STATUSES[final.outcome["status"]], **_named("tag", tags), **_facts(_points(final.outcome))}
    wanted |= _named("parameter", {**settings, "seed": str(final.seed)})
    told = {"status": run.status, **_named("tag", {name: run.tags.get(name) for name in tags}), **_facts(run.points)}
    told |= _named("parameter", {**optional, **run.params})
    return [
        f"{name} {shown(told.get(name))}, not {shown(wanted.get(name))}"
        for name in {**wanted, **told}
        if not _is_same(told.get(name), wanted.get(name))
    ]


def _wrong_times(run: RawRun, final: FinalRecord) -> Iterator[str]:
    """The run must begin and end when its trial did, unless that was never known."""
    started_ms = final.outcome["started_ms"]
    ended_ms = started_ms + round(final.outcome["seconds"] * 1000)
    for what, told, wanted in (("starts", run.started_ms, started_ms), ("ends", run.ended_ms, ended_ms)):
        off_ms = abs((told or 0) - wanted)
        if started_ms and off_ms > _SAME_TIME_MS:
            yield f"MLflow: run of trial {final.trial_id} {what} {off_ms / 1000:.1f} s off its trial: {_SYNC}"


def _named(kind: str, values: Mapping[str, str | None]) -> dict[str, object]:
    return {f"{kind} {name}": value for name, value in values.items()}


def _facts(points: Points) -> dict[str, object]:
    facts: dict[str, object] = {}
    for key, step, at_ms, value in points:
        place = f"{key} at step {step}"
        place += " twice" * (place in facts)
        facts |= {place: value, f"time of {place}": at_ms}
    return facts


def _points(outcome: RawOutcome) -> Points:
    """Every number of a trial, once. Those of the whole run stand at its last epoch, unless this has one of its own."""
    last = len(outcome["epochs"]) + (outcome["status"] == "diverged")
    ended_ms = outcome["started_ms"] + round(outcome["seconds"] * 1000) if outcome["started_ms"] else 0
    diagnostics = {f"diagnostics/{name}": value for name, value in outcome["diagnostics"].items()}
    whole = {**outcome["metrics"], **diagnostics, "seconds": outcome["seconds"]}
    points = {(key, last): (ended_ms, value) for key, value in whole.items()}
    for epoch in outcome["epochs"]:
        step, at_ms = int(epoch["number"]), int(epoch["ended_ms"])
        points |= {(key, step): (at_ms, value) for key, value in epoch.items() if key not in ("number", "ended_ms")}
    return [(*place, *point) for place, point in points.items()]


def _is_same(told: object, wanted: object) -> bool:
    if isinstance(told, float) and isinstance(wanted, float):
        return math.isclose(told, wanted, rel_tol=1e-9)
    return told == wanted


def _wrong_effects(ledger: CheckedLedger, parent: RawRun) -> Iterator[str]:
    """The sweep's own run shows the verdicts of what is recorded."""
    if parent.status != _OVER:
        yield f"MLflow: the run of the sweep is {parent.status}: {_SYNC}"
    latest = {key: value for key, _, _, value in sorted(parent.points, key=lambda point: point[2])}
    for verdict in decide(ledger.rows, ledger.sweep.every_claim, ledger.sweep.looks):
        told = latest.get(re.sub(r"[^\w.\-]", "_", f"effect.{verdict.name}")[:250])
        if math.isfinite(verdict.effect) and not _is_same(told, verdict.effect):
            yield f"MLflow: effect.{verdict.name} is {shown(told)}, the trials say {shown(verdict.effect)}: {_SYNC}"
