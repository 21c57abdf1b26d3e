"""What one training run is asked to do, and what came back; knows nothing of how it is run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

Scalar = str | int | float | bool
Params = dict[str, Scalar]  # settings or factors by name
Status = Literal["complete", "diverged", "failed", "lost", "pruned"]
COUNTED: tuple[Status, ...] = ("complete", "diverged", "failed", "lost")
"""How a trial of a verdict can end; only one of a search is pruned."""

Source = Literal["init", "order", "dropout", "split", "test"]
SOURCES: tuple[Source, ...] = get_args(Source)
"""What can differ between trials of an arm: initial weights, order of the images, dropout masks, the split into
training and validation images; and which test images there are, which differ in no trial but count as a sample."""
USUAL_SOURCES = SOURCES[:3]
"""Those that seeds vary unless a sweep says otherwise."""
HELD_SEED = 0  # of the sources that a sweep holds fixed

TUNING_SEED = 1_000_000
"""Choosing uses seeds from here on, which no verdict uses: nothing is judged on the luck that chose it."""
CONTROL_SEED = 2_000_000
"""The seeds of the negative control, from here on, are in no pair: it compares the baseline with itself."""


class Trial(BaseModel):
    """One training run: every setting, its seed, the sha256 of its data. `workload.trial_of` makes its id of them.

    `vary` names what follows its seed; all else is drawn alike in every trial.
    """

    model_config = ConfigDict(frozen=True, validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    settings: Params = Field(alias="recipe")
    seed: int = Field(ge=0)
    data_digest: str
    id: str = ""
    vary: Annotated[tuple[Source, ...], Field(exclude_if=lambda vary: vary == USUAL_SOURCES)] = USUAL_SOURCES

    def seed_of(self, source: Source) -> int:
        """The seed that a source of variance is drawn from."""
        return self.seed if source in self.vary else HELD_SEED

    @property
    def split_seed(self) -> int | None:
        """The seed that draws the split; None if the data set's own split stays."""
        return self.seed if "split" in self.vary else None

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
    pruned. `diagnostics` explain the metrics. `reason` says why a trial did not complete. `correct` says of each test
    image whether it was classified correctly, as `image_results.encoded` writes it; empty if that is unknown.
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
    correct: Annotated[str, Field(exclude_if=lambda correct: not correct)] = ""


@dataclass(frozen=True)
class Row:
    """What a verdict reads of a finished trial: factors, seed, metrics, status, `correct` images, epochs if known."""

    params: Mapping[str, Scalar]
    seed: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    status: Status = "complete"
    correct: str = ""
    epochs: Sequence[Epoch] = ()


@dataclass(frozen=True)
class RecordedTrial:
    """A finished trial as recorded: its arm's factors, its `stage` in the plan, and whether nobody altered it since."""

    trial: Trial
    params: Params
    stage: str
    outcome: Outcome
    intact: bool = True
