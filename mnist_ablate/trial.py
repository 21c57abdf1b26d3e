"""What one training run is asked to do, and what came back; knows nothing of how it is run."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Scalar = str | int | float | bool
Params = dict[str, Scalar]
"""Settings or factors by name."""
Status = Literal["complete", "diverged", "failed", "lost", "pruned"]
COUNTED: tuple[Status, ...] = ("complete", "diverged", "failed", "lost")
"""How a trial of a verdict can end; only one of a search is pruned."""

TRAINER_VERSION = 4
"""Part of every trial id: raised when the same trial would give other numbers."""
TUNING_SEED = 1_000_000
"""Choosing uses seeds from here on, which no verdict uses: nothing is judged on the luck that chose it."""
CONTROL_SEED = 2_000_000
"""The seeds of the negative control, from here on, are in no pair: it compares the baseline with itself."""


class Recipe(BaseModel):
    """Every setting of one training run; the only place where their defaults stand.

    `learning_rate` 0 stands for the optimizer's own default, which `plan` fills in; `weights` are those of a frozen
    base, and mean nothing to a model without one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str = "mlp"
    activation: str = "relu"
    normalizer: str = "unit"
    optimizer: str = "adam"
    learning_rate: float = Field(default=0.0, ge=0.0, le=1e3)
    dropout: float = Field(default=0.5, ge=0.0, lt=1.0)
    norm_layer: str = "none"
    initializer: str = "glorot_uniform"
    weights: str = "imagenet"
    width: int = Field(default=500, ge=1, le=8192)
    batch_size: int = Field(default=128, ge=1, le=42_000)
    epochs: int = Field(default=5, ge=1, le=10_000)


class Trial(BaseModel):
    """One training run: its recipe, its seed and the data it is trained on (sha256 of the arrays)."""

    model_config = ConfigDict(frozen=True)

    recipe: Recipe
    seed: int = Field(ge=0)
    data_digest: str

    @property
    def is_blind(self) -> bool:
        """Whether it must not read the test set: with a tuning seed it is there to choose, by validation data."""
        return TUNING_SEED <= self.seed < CONTROL_SEED

    @property
    def id(self) -> str:
        """The first 16 hexadecimal digits of the sha256 of the content: equal trials have equal ids.

        Defaults are left out, so that a setting added later, off by default, changes no id.
        """
        content = {"trainer": TRAINER_VERSION, **self.model_dump(exclude_defaults=True)}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


class Epoch(BaseModel):
    """One epoch: mean losses in nats, accuracies as fractions, end time in ms since 1970."""

    model_config = ConfigDict(frozen=True)

    number: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    ended_ms: int


class Outcome(BaseModel):
    """What came back from a trial; every number is finite.

    `metrics` holds test_accuracy, test_loss and the like, none of the test set if the trial is blind, and is empty
    for a trial that failed, was lost, or was pruned;
    `diagnostics` what explains them. `reason` says why a trial did not complete.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    trial_id: str
    status: Status
    metrics: dict[str, float] = {}
    diagnostics: dict[str, float] = {}
    epochs: tuple[Epoch, ...] = ()
    reason: str = ""
    traceback: str = ""
    started_ms: int = 0
    seconds: float = 0.0
    worker: str = ""


@dataclass(frozen=True)
class Row:
    """What a verdict reads of a finished trial: its factors, its seed, its metrics, its status."""

    params: Mapping[str, Scalar]
    seed: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    status: Status = "complete"


@dataclass(frozen=True)
class RecordedTrial:
    """A finished trial as recorded; `params` are its arm's factors, `stage` is "tuning", "verdict" or "control".

    `intact` is false if it was altered after it had been written.
    """

    trial: Trial
    params: Params
    stage: str
    outcome: Outcome
    intact: bool = True
