"""A stored study as it lies in a ledger or a bundle, and where a record contradicts itself; knows no plan."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from mnist_ablate.image_results import decoded
from mnist_ablate.trial import CONTROL_SEED, TUNING_SEED, USUAL_SOURCES, Outcome, RecordedTrial, Scalar, Source, Status
from mnist_ablate.workloads.workload import Metric, Workload, epochs_of, stored_trial

STATES = {"complete": "COMPLETE", "diverged": "COMPLETE", "failed": "FAIL", "lost": "FAIL", "pruned": "PRUNED"}
FINAL = frozenset({"complete", "diverged", "pruned"})
_MOST_EPOCHS = 10_000
_CLOSE = 1e-12  # versions of Python add floats up in more than one way
_CONTENT = ("trial", "stage", "outcome")


@dataclass(frozen=True)
class RawTrial:
    """A trial of the study: `state` is Optuna's word; the values are as stored, the attributes still JSON."""

    number: int
    state: str
    params: Mapping[str, Scalar]
    values: tuple[float, ...]
    steps: Mapping[int, float]
    attrs: Mapping[str, str]


@dataclass(frozen=True)
class RawStudy:
    """A study: its own name, its attributes as JSON, its trials by number."""

    name: str
    attrs: Mapping[str, str]
    trials: tuple[RawTrial, ...]


class RawOutcome(TypedDict):
    """An outcome as it is stored. An epoch has its number, its end in ms since 1970, and its metrics by name."""

    trial_id: str
    status: Status
    metrics: dict[str, float]
    diagnostics: dict[str, float]
    epochs: list[dict[str, float]]
    started_ms: int
    seconds: float
    correct: NotRequired[str]


@dataclass(frozen=True)
class FinalRecord:
    """The last record of a trial: its content as plain values, with nothing of the program's own types.

    `vary` names what followed its seed. `later` names the settings that did not exist when it was recorded; `settings`
    has their defaults.
    """

    trial_id: str
    settings: Mapping[str, Scalar]
    seed: int
    data_digest: str
    arm: Mapping[str, Scalar]
    stage: str
    outcome: RawOutcome
    later: frozenset[str]
    vary: Sequence[Source] = USUAL_SOURCES


def recorded_trial(workload: Workload, params: Mapping[str, Scalar], attrs: Mapping[str, str]) -> RecordedTrial:
    """The trial that a record holds, and its outcome."""
    return RecordedTrial(
        trial=stored_trial(attrs["trial"], workload),
        params={name: value for name, value in params.items() if name != "seed"},
        stage=json.loads(attrs["stage"]),
        outcome=Outcome.model_validate_json(attrs["outcome"]),
    )


def record_problems(trial: RawTrial, workload: Workload) -> list[str]:
    """What is wrong with a record by itself, in words that follow "record 3". Empty if all is well."""
    if missing := missing_parts(trial):
        return [f"is incomplete, it lacks {', '.join(missing)}"]
    return [*content_problems(trial, final_of(trial, workload), workload)]


def missing_parts(trial: RawTrial) -> list[str]:
    """The parts of a record that are not there."""
    return [part for part in (*_CONTENT, "trial_id", "sha256") if part not in trial.attrs]


def final_of(trial: RawTrial, workload: Workload) -> FinalRecord:
    """The content of a record that is whole."""
    id_, asked, stage, outcome = (json.loads(trial.attrs[part]) for part in ("trial_id", *_CONTENT))
    arm = {name: value for name, value in trial.params.items() if name != "seed"}
    fields = workload.settings.model_fields if workload.fixed_defaults else {}
    later = {name: about.default for name, about in fields.items() if name not in asked["recipe"]}
    settings = {**asked["recipe"], **later}
    vary = asked.get("vary", USUAL_SOURCES)
    return FinalRecord(id_, settings, asked["seed"], asked["data_digest"], arm, stage, outcome, frozenset(later), vary)


def content_problems(trial: RawTrial, final: FinalRecord, workload: Workload) -> Iterator[str]:
    """How the content of a whole record contradicts itself, in the same words."""
    status = final.outcome["status"]
    content = {part: json.loads(trial.attrs[part]) for part in _CONTENT}
    if hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest() != json.loads(trial.attrs["sha256"]):
        yield "was altered after it was written"
    if final.trial_id != content_id(workload, final):
        yield "has content that does not match its id"
    if final.outcome["trial_id"] != final.trial_id:
        yield f"holds the outcome of trial {final.outcome['trial_id']}"
    if STATES.get(status) != trial.state:
        yield f"is {trial.state} in Optuna, {status} by its outcome"
    if trial.params.get("seed") != final.seed:
        yield f"has seed {trial.params.get('seed')} in Optuna, {final.seed} in its trial"
    if any(final.settings.get(name, value) != value for name, value in final.arm.items()):
        yield "was trained with other factors than its arm's"
    yield from _epoch_problems(trial, final, workload)
    yield from _metric_problems(trial, final, workload)


def _epoch_problems(trial: RawTrial, final: FinalRecord, workload: Workload) -> Iterator[str]:
    status, epochs = final.outcome["status"], final.outcome["epochs"]
    planned, ended = epochs_of(workload, final.settings), len(epochs)
    numbers = [*final.outcome["metrics"].values(), *(value for epoch in epochs for value in epoch.values())]
    allowed = {"pruned": ended > 0}
    if workload.fixed_defaults and planned is not None:  # other code reports as often as it likes
        allowed = {
            "complete": ended == planned,
            "diverged": ended < planned <= _MOST_EPOCHS,
            "pruned": 0 < ended < planned,
        }
    if not all(map(math.isfinite, numbers)):
        yield "holds a number that is not finite"
    if [epoch["number"] for epoch in epochs] != [*range(1, ended + 1)]:
        yield "lacks an epoch, or has one twice"
    if not allowed.get(status, True):
        yield f"is {status} with {ended} of {planned} epochs"
    score = workload.selection_metric
    if trial.steps != {epoch["number"]: epoch[score] for epoch in epochs if score in epoch}:
        yield "has other epochs in Optuna than in its outcome"


def _metric_problems(trial: RawTrial, final: FinalRecord, workload: Workload) -> Iterator[str]:
    metrics, status = final.outcome["metrics"], final.outcome["status"]
    blind = TUNING_SEED <= final.seed < CONTROL_SEED and workload.main_metric not in metrics  # older versions read it
    scored_by = workload.selection_metric if blind else workload.main_metric
    score = metrics.get(scored_by)
    if trial.values != (() if score is None or trial.state != "COMPLETE" else (score,)):
        yield f"has another value in Optuna than its {scored_by}"
    for name, value in metrics.items():
        known = workload.metrics.get(name, Metric(name))
        if not known.low <= value <= known.high:
            yield f"has a {name} of {value:.6g}, which is not from {known.low:g} to {known.high:g}"
    if bool(metrics) != (status in {"complete", "diverged"}):
        yield f"is {status} with {len(metrics)} metrics"
    implied = workload.implied_metrics(final.settings, final.data_digest, Outcome.model_validate(final.outcome))
    differing = [
        name
        for name, value in metrics.items()
        if not math.isclose(value, implied.get(name, value), rel_tol=_CLOSE, abs_tol=_CLOSE)
    ]
    if correct := final.outcome.get("correct"):
        yield from _image_problems(correct, metrics, workload)
    if differing:
        source = "chance and its epochs" if status == "diverged" else "its epochs"
        yield f"has another {' and '.join(differing)} than {source} give"


def _image_problems(correct: str, metrics: Mapping[str, float], workload: Workload) -> Iterator[str]:
    try:
        share = float(decoded(correct).mean())
    except ValueError:
        yield "holds damaged results of the test images"
        return
    for name, value in metrics.items():
        if workload.metrics.get(name, Metric(name)).of_test_images and not math.isclose(value, share, rel_tol=_CLOSE):
            yield f"has another {name} than its results of the test images give"


def content_id(workload: Workload, final: FinalRecord) -> str:
    """The id of a trial with this content. It is worked out here again, so that it can find the planner's id wrong."""
    known = workload.settings().model_dump() if workload.fixed_defaults else {}
    changed = {name: value for name, value in final.settings.items() if name not in known or value != known[name]}
    content = {"trainer": workload.version, "recipe": changed, "seed": final.seed, "data_digest": final.data_digest}
    if [*final.vary] != [*USUAL_SOURCES]:
        content["vary"] = final.vary
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
