"""What tests of whole sweeps share: a small sweep, who watches it, and a tracker that is not MLflow."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mnist_ablate.errors import UnreachableError
from mnist_ablate.execution.events import Event, Finished, Retried
from mnist_ablate.execution.live_progress import verdict_line
from mnist_ablate.statistics.claim_verdict import ClaimVerdict
from mnist_ablate.sweep.plan import Plan, PlannedTrial
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.tracking.mirror import FinishedTrial
from mnist_ablate.trial import Epoch, Outcome, RecordedTrial, Scalar, Trial

SWEEP: dict[str, Any] = yaml.safe_load("""
name: small
question: Does tanh hurt?
scientific: {activation: [relu, tanh]}
fixed: {epochs: 2}
seeds: 3
negative_control: none
claims:
  - {name: tanh-hurts, statement: Tanh hurts., treatment: {activation: tanh}, control: {activation: relu},
     direction: lower, margin: 0.002}
""")


def small(**changes: Any) -> Sweep:
    return Sweep.model_validate({**SWEEP, **changes})


def sweep_file(folder: Path, **changes: Any) -> Path:
    content = {key: value for key, value in {**SWEEP, **changes}.items() if key != "name"}
    path = folder / f"{changes.get('name', 'small')}.yaml"
    path.write_text(json.dumps(content))  # JSON is YAML
    return path


def starts(fake: Path) -> list[str]:
    """What workers began to train, as activation/seed, in that order."""
    path = fake / "starts"
    return [line.split()[2] for line in path.read_text().splitlines()] if path.exists() else []


class Watcher:
    """A driver.View that remembers; `stop_after` finished trials it raises, as a crash would."""

    def __init__(self, stop_after: int = -1, error: BaseException | None = None) -> None:
        self.events: list[tuple[PlannedTrial, Event]] = []
        self.messages: list[str] = []
        self.before: Mapping[str, RecordedTrial] = {}
        self._stop_after, self._error = stop_after, error or RuntimeError("crash")

    def opened(self, _plan: Plan, entries: Mapping[str, RecordedTrial]) -> None:
        self.before = dict(entries)

    def event(self, planned: PlannedTrial, event: Event) -> None:
        self.events.append((planned, event))
        if isinstance(event, Finished) and len(self.finished) == self._stop_after:
            raise self._error

    def verdict(self, found: ClaimVerdict) -> None:
        self.message(verdict_line(found))

    def message(self, text: str) -> None:
        self.messages.append(text)

    @property
    def finished(self) -> list[Finished]:
        return [event for _, event in self.events if isinstance(event, Finished)]

    @property
    def retried(self) -> list[Retried]:
        return [event for _, event in self.events if isinstance(event, Retried)]


class Tracker:
    """A `Mirror` of one sweep without MLflow; `down` makes it unreachable."""

    def __init__(self) -> None:
        self.down = False
        self.outcomes: dict[str, Outcome] = {}
        self.notes: list[str] = []
        self.tags: dict[str, str] = {}
        self.settled = 0
        self.link, self.notice = "http://tracker/#/experiments/1", ""

    def _reach(self) -> None:
        if self.down:
            raise UnreachableError("MLflow at http://tracker does not answer: Connection refused")

    def open(self) -> None:
        self._reach()

    def epoch(self, _trial: Trial, _arm: Mapping[str, Scalar], _started_ms: int, *_epochs: Epoch) -> None:
        self._reach()

    def outcome(self, trial: Trial, _arm: Mapping[str, Scalar], outcome: Outcome, _stage: str = "") -> bool:
        self._reach()
        known = self.outcomes.get(trial.id) == outcome
        self.outcomes[trial.id] = outcome
        return not known

    def outcomes_together(self, ended: Sequence[FinishedTrial]) -> dict[str, bool]:
        """Takes half of them."""
        self._reach()
        return {each[0].id: self.outcome(*each) for each in ended[::2]}

    def tag(self, tags: Mapping[str, str]) -> None:
        self._reach()
        self.tags |= tags

    def verdicts(
        self,
        texts: tuple[str, str],
        _metrics: Mapping[str, float],
        _artifacts: Sequence[Path],
        _tags: Mapping[str, str],
        _ended_ms: int | None = None,
    ) -> None:
        self._reach()
        self.notes.append(texts[0])

    def settle(self) -> None:
        self._reach()
        self.settled += 1
