"""What one training run is asked to do, and what came back; knows nothing of how it is run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

Scalar = str | int | float | bool
Params = dict[str, Scalar]  # settings or factors by name
Status = Literal["complete", "diverged", "failed", "lost", "pruned"]
COUNTED: tuple[Status, ...] = ("complete", "diverged", "failed", "lost")
"""How a trial of a verdict can end; only one of a search is pruned."""

TUNING_SEED = 1_000_000
"""Choosing uses seeds from here on, which no verdict uses: nothing is judged on the luck that chose it."""
CONTROL_SEED = 2_000_000
"""The seeds of the negative control, from here on, are in no pair: it compares the baseline with itself."""


class Trial(BaseModel):
    """One training run: every setting, its seed, the sha256 of its data. `workload.trial_of` makes its id of them."""

    model_config = ConfigDict(frozen=True, validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    settings: Params = Field(alias="recipe")
    seed: int = Field(ge=0)
    data_digest: str
    id: str = ""

    @property
    def is_blind(self) -> bool:
        """Whether it must not read the test set: with a tuning seed it is there to choose, by validation data."""
        return TUNING_SEED <= self.seed < CONTROL_SEED


class Epoch(BaseModel):
    """One epoch: its number from 1, its metrics by name, its end in ms since 1970. All stand side by side in JSON."""

    model_config = ConfigDict(frozen=True)

    number: int
    metrics: dict[str, float]
    ended_ms: int

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, content: Any) -> Any:
        if not isinstance(content, dict) or "metrics" in content:
            return content
        own = {name: content[name] for name in ("number", "ended_ms") if name in content}
        return {**own, "metrics": {name: value for name, value in content.items() if name not in own}}

    @model_serializer
    def _flatten(self) -> dict[str, int | float]:
        return {"number": self.number, **self.metrics, "ended_ms": self.ended_ms}


class Outcome(BaseModel):
    """What came back from a trial; every number is finite.

    `metrics` has none of the test set if the trial is blind. It is empty for a trial that failed, was lost or was
    pruned. `diagnostics` explain the metrics. `reason` says why a trial did not complete.
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
    """What a verdict reads of a finished trial: its factors, its seed, its metrics, its status, its epochs if known."""

    params: Mapping[str, Scalar]
    seed: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    status: Status = "complete"
    epochs: Sequence[Epoch] = ()


@dataclass(frozen=True)
class RecordedTrial:
    """A finished trial as recorded: its arm's factors, its `stage` in the plan, and whether nobody altered it since."""

    trial: Trial
    params: Params
    stage: str
    outcome: Outcome
    intact: bool = True
