"""What a record of the ledger says against itself: its checksum, its id, its numbers; knows no plan."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from mnist_ablate.ledger.raw_records import RawTrial
from mnist_ablate.trial import CONTROL_SEED, TUNING_SEED, Outcome, Status
from mnist_ablate.workloads.workload import default_workload, metric_named, trial_id

STATES = {"complete": "COMPLETE", "diverged": "COMPLETE", "failed": "FAIL", "lost": "FAIL", "pruned": "PRUNED"}
_RESULTS = frozenset({"complete", "diverged"})
FINAL = _RESULTS | {"pruned"}
_MOST_EPOCHS = 10_000
_CLOSE = 1e-12
"""Versions of Python add floats up in more than one way."""
_PARTS = ("trial", "stage", "outcome", "trial_id", "sha256")


@dataclass(frozen=True)
class Final:
    """The last record of a trial: its content as plain values, with nothing of the program's own types.

    `later` names the settings that did not exist when it was recorded; the recipe has their defaults.
    """

    trial_id: str
    settings: Mapping[str, Any]
    seed: int
    data_digest: str
    arm: Mapping[str, Any]
    stage: str
    outcome: Mapping[str, Any]
    later: frozenset[str]


def against_itself(trial: RawTrial) -> list[str]:
    """What is wrong with a record by itself, in words that follow "record 3"; nothing if all is well."""
    if lacks := lacking(trial):
        return [f"is not whole, it lacks {', '.join(lacks)}"]
    return [*wrong(trial, final_of(trial))]


def lacking(trial: RawTrial) -> list[str]:
    """The parts of a record that are not there."""
    return [part for part in _PARTS if part not in trial.attrs]


def final_of(trial: RawTrial) -> Final:
    """The content of a record that is whole."""
    asked, outcome = json.loads(trial.attrs["trial"]), json.loads(trial.attrs["outcome"])
    arm = {name: value for name, value in trial.params.items() if name != "seed"}
    stage, trial_id = json.loads(trial.attrs["stage"]), json.loads(trial.attrs["trial_id"])
    fields = default_workload().settings.model_fields
    defaults = {name: about.default for name, about in fields.items() if name not in asked["recipe"]}
    recipe = {**asked["recipe"], **defaults}
    return Final(trial_id, recipe, asked["seed"], asked["data_digest"], arm, stage, outcome, frozenset(defaults))


def wrong(trial: RawTrial, final: Final) -> Iterator[str]:
    """What a record says against itself."""
    attrs, outcome = trial.attrs, final.outcome
    content = {part: json.loads(attrs[part]) for part in ("trial", "stage", "outcome")}
    if hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest() != json.loads(attrs["sha256"]):
        yield "was altered after it had been written"
    if final.trial_id != trial_id(default_workload(), final.settings, final.seed, final.data_digest):
        yield "does not have the content that its id stands for"
    if outcome["trial_id"] != final.trial_id:
        yield f"holds the outcome of trial {outcome['trial_id']}"
    if outcome["status"] not in get_args(Status) or STATES[outcome["status"]] != trial.state:
        yield f"is {trial.state} in Optuna, {outcome['status']} by its outcome"
    if trial.params.get("seed") != final.seed:
        yield f"has seed {trial.params.get('seed')} in Optuna, {final.seed} in its trial"
    if any(final.settings.get(name, value) != value for name, value in final.arm.items()):
        yield "was trained with other factors than its arm's"
    yield from _wrong_numbers(trial, final)


def _wrong_numbers(trial: RawTrial, final: Final) -> Iterator[str]:
    outcome = final.outcome
    epochs, metrics = outcome["epochs"], outcome["metrics"]
    numbers = [*metrics.values(), *(value for epoch in epochs for value in epoch.values())]
    if not all(math.isfinite(value) for value in numbers):
        yield "holds a number that is not finite"
    yield from _wrong_epochs(trial, final)
    workload = default_workload()
    blind = TUNING_SEED <= final.seed < CONTROL_SEED and workload.main_metric not in metrics  # older versions read it
    scored_by = workload.selection_metric if blind else workload.main_metric
    score = metrics.get(scored_by)
    if trial.values != (() if score is None or trial.state != "COMPLETE" else (score,)):
        yield f"has another value in Optuna than its {scored_by}"
    for name, value in metrics.items():
        if not (known := metric_named(name)).low <= value <= known.high:
            yield f"has a {name} of {value:.6g}, which is not from {known.low:g} to {known.high:g}"
    if bool(metrics) != (outcome["status"] in _RESULTS):
        yield f"is {outcome['status']} with {len(metrics)} metrics"
    expected = _expected(final)
    if differing := [name for name, value in metrics.items() if not _is_close(value, expected.get(name, value))]:
        source = "chance and its epochs" if outcome["status"] == "diverged" else "its epochs"
        yield f"has another {' and '.join(differing)} than {source} give"


def _wrong_epochs(trial: RawTrial, final: Final) -> Iterator[str]:
    status, epochs, planned = (
        final.outcome["status"],
        final.outcome["epochs"],
        final.settings[default_workload().budget],
    )
    ended = len(epochs)
    allowed = {
        "complete": ended == planned,
        "diverged": ended < planned <= _MOST_EPOCHS,
        "pruned": 0 < ended < planned,
    }
    if [epoch["number"] for epoch in epochs] != [*range(1, ended + 1)]:
        yield "lacks an epoch, or has one twice"
    if not allowed.get(status, True):
        yield f"is {status} with {ended} of {planned} epochs"
    if trial.steps != {epoch["number"]: epoch[default_workload().selection_metric] for epoch in epochs}:
        yield "has other epochs in Optuna than in its outcome"


def _expected(final: Final) -> dict[str, float]:
    """The metrics that follow from a record's epochs."""
    outcome = Outcome.model_validate({**final.outcome, "metrics": {**final.outcome["metrics"]}})
    return default_workload().implied_metrics(final.settings, final.data_digest, outcome)


def _is_close(value: float, other: float) -> bool:
    return math.isclose(value, other, rel_tol=_CLOSE, abs_tol=_CLOSE)
