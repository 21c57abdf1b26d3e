"""An engine that does what it is told through a pipe, step by step, and says when the driver has dealt with it."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from fake_trainer import CHANCE, epoch, metrics
from fork_server import Ground, waited

from mnist_ablate.errors import UnreachableError
from mnist_ablate.execution import driver
from mnist_ablate.execution.engine import Event, Finished, Progress, Started
from mnist_ablate.tracking import mirror
from mnist_ablate.trial import Outcome, Trial

STEP_S = 30


class Strings:
    """The child's end: commands come in, answers go out, a line each."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = os.fdopen(commands), os.fdopen(answers, "w")

    def next(self) -> str:
        return self._commands.readline().strip() or "go"

    def tell(self, text: str) -> None:
        self._answers.write(f"{text}\n")
        self._answers.flush()


class Engine:
    """Stands in for `driver.Engine`."""

    strings: Strings

    def __init__(self, *_: object, **__: object) -> None:
        self._draining = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def drain(self) -> None:
        self._draining = True

    def batches(self, trials: Iterable[Trial], *, ahead: bool) -> Iterator[list[Event]]:
        assert ahead in {True, False}
        for event in self._run(trials):
            yield [event]

    def _run(self, trials: Iterable[Trial]) -> Iterator[Event]:
        """Events as commanded: start, epoch, finish STATUS; `go` ends what runs, and without a drain all the rest."""
        coming, current, number = iter(trials), None, 0
        self.strings.tell("ready")
        while True:
            command, _, status = self.strings.next().partition(" ")
            if command in {"start", "go"} and current is None:
                current, number = None if self._draining else next(coming, None), 0
                if current is None:
                    return
                yield Started(current, "puppet")
            if command == "epoch" and current is not None:
                number += 1
                yield Progress(current, epoch(current, number))
            if command in {"finish", "go"} and current is not None:
                yield Finished(current, outcome(current, status or "complete"))
                done, current = current, None
                self.strings.tell(f"{done.id} {status or 'complete'}")
            elif command != "go":
                self.strings.tell(current.id if current else "none")


def outcome(trial: Trial, status: str) -> Outcome:
    """What the fake trainer would say."""
    now_ms = epoch(trial, 1).ended_ms
    ended = {"complete": trial.settings["epochs"], "diverged": 1}.get(status, 0)
    return Outcome.model_validate(
        {
            "trial_id": trial.id,
            "status": status,
            "metrics": {"complete": metrics(trial), "diverged": CHANCE}.get(status, {}),
            "epochs": tuple(epoch(trial, number + 1) for number in range(ended)),
            "reason": "" if status == "complete" else f"{status} {trial.id}",
            "started_ms": now_ms - 100 if ended else 0,
            "seconds": 0.1 if ended else 0.0,
        }
    )


@dataclass
class Puppet:
    """A driver that is led step by step."""

    child: int
    commands: Any
    answers: Any

    def do(self, command: str) -> str:
        """Send a command; the answer comes when the driver has dealt with it, empty if it ended."""
        self.send(command)
        return str(self.answers.readline().strip())

    def send(self, command: str) -> None:
        try:
            self.commands.write(f"{command}\n")
            self.commands.flush()
        except BrokenPipeError:
            pass

    def end(self, number: int = 0) -> int:
        """Send a signal, if any, let it go on to its end, and return its exit code."""
        if number:
            os.kill(self.child, number)
        self.send("go")
        self.commands.close()
        code = waited(self.child, STEP_S)
        self.answers.close()
        return code


def lead(ground: Ground, home: Path, outage: Path) -> Puppet:
    """Start a driver on strings; MLflow cannot be reached while `outage` exists."""
    child_reads, commands = os.pipe()
    answers, child_writes = os.pipe()

    def prepare() -> None:
        os.close(commands)
        os.close(answers)
        Engine.strings = Strings(child_reads, child_writes)
        driver.Engine = Engine  # type: ignore[misc, assignment]
        cut_off(outage)

    child, _ = ground.start("sweep", home, prepare=prepare)
    os.close(child_reads)
    os.close(child_writes)
    return Puppet(child, os.fdopen(commands, "w"), os.fdopen(answers))


def cut_off(outage: Path) -> None:
    """No call of the mirror gets through while the file exists."""
    real: Callable[..., Any] = mirror.Mirror._once

    def once(self: Any, action: Any) -> Any:
        if outage.exists():
            raise UnreachableError("MLflow at http://x does not answer: Connection refused")
        return real(self, action)

    mirror.Mirror._once = once  # type: ignore[method-assign]
