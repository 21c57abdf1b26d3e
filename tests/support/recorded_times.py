"""When things happened in sweeps that were run: recorded once, played again to whatever shows a running sweep.

To record: `python tests/support/recorded_times.py FILE.csv SWEEP SEEDS MACHINE` in the repository, with 0 for the seeds
of the file, on a machine that does nothing else.
"""

import csv
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TextIO

from mnist_ablate.execution.engine import Event, Finished, Preparing, Progress, Retried, Started
from mnist_ablate.sweep import sweep_file
from mnist_ablate.sweep.plan import Plan, PlannedTrial, make_plan
from mnist_ablate.trial import Epoch, Outcome, RecordedTrial, Trial

DATA = "d1" * 32
COLUMNS = ("at_s", "what", "trial", "stage", "arm", "detail")
"""`trial` and `arm` are numbers from 0. `detail` is the worker that started it, an epoch, a text, or how it ended."""


class Moment(NamedTuple):
    """What happened to a trial, and after how many seconds."""

    at_s: float
    planned: PlannedTrial
    event: Event


def played(path: Path) -> tuple[Plan, list[Moment]]:
    """The plan of a recorded sweep, and all that happened. Trials have the settings of their arms."""
    first, *lines = path.read_text(encoding="utf-8").splitlines()
    _, source, seeds = first.partition(",")[0].split()
    plan = make_plan(sweep_file.load(source, seeds=int(seeds) or None), DATA)
    return plan, [_moment(plan, row) for row in csv.DictReader(lines)]


def _moment(plan: Plan, row: Mapping[str, str]) -> Moment:
    arm, detail = plan.arms[int(row["arm"])], row["detail"]
    trial = Trial(settings=arm.settings, seed=int(row["trial"]), data_digest=DATA, id=row["trial"])
    event: Event
    match row["what"]:
        case "start":
            event = Started(trial, detail)
        case "prepare":
            event = Preparing(trial, detail)
        case "epoch":
            event = Progress(trial, Epoch(number=int(detail), metrics={}, ended_ms=0))
        case "again":
            event = Retried(trial, detail, 1)
        case _:
            event = Finished(trial, Outcome(trial_id=trial.id, status=detail))  # type: ignore[arg-type] # read back
    return Moment(float(row["at_s"]), PlannedTrial(trial, arm, row["stage"]), event)


class Recorder:
    """A `driver.View` that notes when things happen."""

    def __init__(self, file: TextIO) -> None:
        self._write = csv.writer(file, lineterminator="\n").writerow
        self._write(COLUMNS)
        self._trials: dict[str, int] = {}

    def opened(self, plan: Plan, _entries: Mapping[str, RecordedTrial]) -> None:
        self._arms = {repr(arm.params): number for number, arm in enumerate(plan.arms)}
        self._began = 0.0

    def event(self, planned: PlannedTrial, event: Event) -> None:
        now = time.monotonic()
        self._began = self._began or now
        trial = self._trials.setdefault(planned.id, len(self._trials))
        what, detail = next(_described(event))
        at = f"{now - self._began:.2f}"
        self._write((at, what, trial, planned.stage, self._arms[repr(planned.arm.params)], detail))

    def verdict(self, _found: object) -> None:
        """Nothing to note."""

    def message(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")


def _described(event: Event) -> Iterator[tuple[str, object]]:
    match event:
        case Started():
            yield "start", event.worker.rpartition(":")[2]
        case Preparing():
            yield "prepare", event.text
        case Progress():
            yield "epoch", event.epoch.number
        case Retried():
            yield "again", event.reason
        case Finished():
            yield "end", event.outcome.status


def record(path: Path, source: str, seeds: int, machine: str) -> None:
    """Run a sweep on two workers, and write what happened when."""
    from mnist_ablate.execution.driver import drive
    from mnist_ablate.settings import Settings

    with path.open("w", encoding="utf-8", newline="", buffering=1) as file, tempfile.TemporaryDirectory() as home:
        file.write(f"# {source} {seeds}, two workers, {datetime.now(UTC):%Y-%m-%d}, {machine}\n")
        drive(sweep_file.load(source, seeds=seeds or None), Settings(home=Path(home), jobs=2), Recorder(file))


if __name__ == "__main__":
    record(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
