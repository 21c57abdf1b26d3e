"""A workload that is no network: it tosses a coin. It shows that nothing but `workloads/keras_mnist` knows networks."""

import hashlib
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mnist_ablate.trial import Epoch, Outcome, Params, Scalar, Trial
from mnist_ablate.workloads.workload import Contents, Cost, Inputs, Metric, Section


class Toss(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    coin: Literal["fair", "bent"] = Field(default="fair", description="Which coin is tossed.")
    lift: float = Field(default=0.0, ge=0.0, le=0.5, description="How much likelier heads are.")
    rounds: int = Field(default=2, ge=1, le=100, description="How many times a thousand tosses are made.")


class Hand:
    def __init__(self, _table: Inputs) -> None:
        pass

    def train(
        self, trial: Trial, on_epoch: Callable[[Epoch], None], on_wait: Callable[[str], None] = lambda _text: None
    ) -> Outcome:
        toss = Toss.model_validate(trial.settings)
        rng = random.Random(f"{trial.seed}")
        chance = 0.5 + toss.lift + (0.2 if toss.coin == "bent" else 0.0)
        epochs = []
        for number in range(1, toss.rounds + 1):
            heads = sum(rng.random() < chance for _ in range(1000)) / 1000
            epochs.append(Epoch(number=number, metrics={"heads": heads}, ended_ms=time.time_ns() // 1_000_000))
            on_epoch(epochs[-1])
        heads = epochs[-1].metrics["heads"]
        metrics = {"heads": heads} if trial.is_blind else {"heads": heads, "late_heads": heads}
        return Outcome(
            trial_id=trial.id, status="complete", metrics=metrics, epochs=tuple(epochs), started_ms=1, seconds=0.1
        )

    def save(self, trial: Trial, folder: Path) -> None:
        (folder / "coin.txt").write_text(str(trial.settings["coin"]))


class CoinWorkload:
    name = "coin"
    version = 1
    fixed_defaults = True
    runs_code = ""
    settings: type[BaseModel] = Toss
    metrics: Mapping[str, Metric] = {
        "late_heads": Metric("late_heads", "The share of heads in the last round.", "higher", "share", 0.0, 1.0),
        "heads": Metric("heads", "The share of heads in a round.", "higher", "share", 0.0, 1.0, per_epoch=True),
    }
    main_metric = "late_heads"
    selection_metric = "heads"
    budget = "rounds"
    derived: Mapping[str, str] = {}
    trainer = "coin_workload:Hand"
    shipped_digest = hashlib.sha256(b"a table").hexdigest()
    shipped_name = "a table"
    sources = ()
    trains_on_gpus = False
    choices: Mapping[str, Mapping[str, str]] = {
        "coin": {"fair": "Heads as often as tails.", "bent": "Heads seven times in ten."}
    }
    template = "question: Does ${name} fall on heads?\nscientific: {coin: [fair, bent]}\nseeds: 6\n"

    def complete(self, settings: Mapping[str, Scalar]) -> Params:
        return Toss.model_validate(settings).model_dump()

    def conflicts(self, settings: Params) -> Iterator[tuple[str, str]]:
        yield from ()

    def shared(self) -> AbstractContextManager[dict[str, str]]:
        return nullcontext({})

    def shares_trainings(self, settings: Mapping[str, Scalar]) -> bool:
        return False

    def lane_group(self, trial: Trial) -> None:
        return None

    def is_used(self, setting: str, settings: Mapping[str, Scalar]) -> bool:
        return True

    def pace(self, settings: Mapping[str, Scalar]) -> str:
        return "a toss"

    def load(self, _place: str | Path | bytes | None, *, run_code: bool = True) -> Inputs:
        return SimpleNamespace(digest=self.shipped_digest)

    def nothing(self, *_: object) -> list[Any]:
        """What a table needs, lacks and tells."""
        return []

    prepare = check = warnings = fingerprints = input_alarms = diagnostic_sections = nothing

    def sent(self, inputs: Inputs, source: str | None) -> bytes | None:
        return None

    def environment(self, given: Path | None) -> dict[str, str]:
        return {}

    def cost(self, inputs: Inputs, arms: Sequence[Params]) -> Cost:
        return Cost([0.01] * len(arms), 0.0)

    def implied_metrics(self, settings: Mapping[str, Any], data_digest: str, outcome: Outcome) -> dict[str, float]:
        return dict(outcome.epochs[-1].metrics) if outcome.status == "complete" else {}

    def generalization(self, vary: Sequence[str]) -> str:
        return "The verdicts generalize over tosses; the coins stay the same."

    def input_section(self, contents: Contents) -> Section:
        return Section("table", "The table")

    def open_model(self, folder: Path) -> Any:
        return (folder / "coin.txt").read_text()


COIN = CoinWorkload()
