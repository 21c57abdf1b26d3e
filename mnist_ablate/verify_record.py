"""What a record of the ledger says against itself: its checksum, its id, its numbers; knows no plan."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from mnist_ablate.raw_records import RawTrial
from mnist_ablate.trial import CONTROL_SEED, TRAINER_VERSION, TUNING_SEED, Recipe, Status

STATES = {"complete": "COMPLETE", "diverged": "COMPLETE", "failed": "FAIL", "lost": "FAIL", "pruned": "PRUNED"}
_RESULTS = frozenset({"complete", "diverged"})
FINAL = _RESULTS | {"pruned"}
_PARTS = ("trial", "stage", "outcome", "trial_id", "sha256")


@dataclass(frozen=True)
class Final:
    """The last record of a trial: its content as plain values, with nothing of the program's own types.

    `later` names the settings that did not exist when it was recorded; the recipe has their defaults.
    """

    trial_id: str
    recipe: Mapping[str, Any]
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
    defaults = {name: about.default for name, about in Recipe.model_fields.items() if name not in asked["recipe"]}
    recipe = {**asked["recipe"], **defaults}
    return Final(trial_id, recipe, asked["seed"], asked["data_digest"], arm, stage, outcome, frozenset(defaults))


def wrong(trial: RawTrial, final: Final) -> Iterator[str]:
    """What a record says against itself."""
    attrs, outcome = trial.attrs, final.outcome
    content = {part: json.loads(attrs[part]) for part in ("trial", "stage", "outcome")}
    if hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest() != json.loads(attrs["sha256"]):
        yield "was altered after it had been written"
    if final.trial_id != id_of(final.recipe, final.seed, final.data_digest):
        yield "does not have the content that its id stands for"
    if outcome["trial_id"] != final.trial_id:
        yield f"holds the outcome of trial {outcome['trial_id']}"
    if outcome["status"] not in get_args(Status) or STATES[outcome["status"]] != trial.state:
        yield f"is {trial.state} in Optuna, {outcome['status']} by its outcome"
    if trial.params.get("seed") != final.seed:
        yield f"has seed {trial.params.get('seed')} in Optuna, {final.seed} in its trial"
    if any(final.recipe.get(name, value) != value for name, value in final.arm.items()):
        yield "was trained with other factors than its arm's"
    yield from _wrong_numbers(trial, final)


def _wrong_numbers(trial: RawTrial, final: Final) -> Iterator[str]:
    outcome = final.outcome
    epochs, metrics = outcome["epochs"], outcome["metrics"]
    numbers = [*metrics.values(), *(value for epoch in epochs for value in epoch.values())]
    if not all(math.isfinite(value) for value in numbers):
        yield "holds a number that is not finite"
    if [epoch["number"] for epoch in epochs] != [*range(1, len(epochs) + 1)]:
        yield "lacks an epoch, or has one twice"
    if outcome["status"] == "complete" and len(epochs) != final.recipe["epochs"]:
        yield f"is complete with {len(epochs)} of {final.recipe['epochs']} epochs"
    if outcome["status"] == "pruned" and not 0 < len(epochs) < final.recipe["epochs"]:
        yield f"is pruned with {len(epochs)} of {final.recipe['epochs']} epochs"
    if trial.steps != {epoch["number"]: epoch["val_accuracy"] for epoch in epochs}:
        yield "has other epochs in Optuna than in its outcome"
    blind = TUNING_SEED <= final.seed < CONTROL_SEED and "test_accuracy" not in metrics  # older versions read it
    score = metrics.get("val_accuracy" if blind else "test_accuracy")
    if trial.values != (() if score is None or trial.state != "COMPLETE" else (score,)):
        yield f"has another value in Optuna than its {'validation' if blind else 'test'} accuracy"
    if any(not 0.0 <= value <= 1.0 for name, value in metrics.items() if name.endswith("_accuracy")):
        yield "has an accuracy that is none"
    if bool(metrics) != (outcome["status"] in _RESULTS):
        yield f"is {outcome['status']} with {len(metrics)} metrics"


def id_of(recipe: Mapping[str, Any], seed: int, data_digest: str) -> str:
    """A trial's id, computed from what it is made of."""
    defaults = {name: about.default for name, about in Recipe.model_fields.items()}
    changed = {name: value for name, value in recipe.items() if name not in defaults or value != defaults[name]}
    content = {"trainer": TRAINER_VERSION, "recipe": changed, "seed": seed, "data_digest": data_digest}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
