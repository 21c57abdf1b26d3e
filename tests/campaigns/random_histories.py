"""Random histories of a sweep against a small model: what is recorded is what was finished, and in the end all is well.

Its engine does what it is told through a pipe, step by step, and says when the driver has dealt with it.
Run as a program with a number of histories it prints JSON; `test_fault_rows` runs a few.
"""

import json
import os
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import fake_trainer
from fork_server import Engine, Ground, cut_off, recorded, results, waited
from ledger_records import ended

from mnist_ablate.execution import engine
from mnist_ablate.execution.events import Event, Finished, Progress, Started
from mnist_ablate.settings import Settings
from mnist_ablate.trial import Trial
from mnist_ablate.verification import raw_stores

STEPS = 16
STEP_S = 30
_RESULTS = {"complete", "diverged"}


class ScriptedEngine(Engine):
    line: Connection

    def events(self, trials: Iterable[Trial]) -> Iterator[Event]:
        """Events as commanded: start, epoch, finish STATUS; `go` ends what runs, and without a drain all the rest."""
        coming, current, number, command = iter(trials), None, 0, ""
        self.line.send("ready")
        while True:
            if command != "go":
                command, _, status = self.line.recv().partition(" ")
            if command in {"start", "go"} and current is None:
                current, number = None if self.draining else next(coming, None), 0
                if current is None:
                    return
                yield Started(current, "puppet")
            if command == "epoch" and current is not None:
                number += 1
                yield Progress(current, fake_trainer.epoch(current, number))
            if command in {"finish", "go"} and current is not None:
                yield Finished(current, ended(current, status or "complete"))
                done, current = current, None
                self.line.send(f"{done.id} {status or 'complete'}")
            else:
                self.line.send(current.id if current else "none")


class Puppet:
    """A driver that is led step by step; MLflow cannot be reached while `outage` exists."""

    def __init__(self, ground: Ground, home: Path, outage: Path) -> None:
        self._line, theirs = Pipe()

        def prepare() -> None:
            self._line.close()
            ScriptedEngine.line = theirs
            engine.Engine = ScriptedEngine
            cut_off(outage)

        self._child = ground.start("sweep", home, prepare=prepare)
        theirs.close()

    def do(self, command: str) -> str:
        """Send a command; the answer comes when the driver has dealt with it, empty if it ended."""
        self._send(command)
        return self.answer()

    def answer(self) -> str:
        try:
            return str(self._line.recv())
        except (EOFError, ConnectionResetError):
            return ""

    def _send(self, command: str) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            self._line.send(command)

    def end(self, number: int = 0) -> int:
        """Send a signal, if any, let it go on to its end, and return its exit code."""
        if number:
            os.kill(self._child, number)
        self._send("go")
        code = waited(self._child, STEP_S)
        self._line.close()
        return code


class History:
    """One sweep of four trials. The model: the last status of each recorded trial, and whether a driver is up."""

    def __init__(self, ground: Ground, number: int) -> None:
        self.ground, self.home, self.random = ground, ground.folder / f"history-{number}", random.Random(number)
        self.home.mkdir()
        self.outage = self.home / "outage"
        self.driver: Puppet | None = None
        self.current = ""
        self.recorded: dict[str, str] = {}
        self.tried: set[str] = set()
        self.registered = False

    def due(self) -> set[str]:
        return {id_ for id_ in self.ground.expected if self.recorded.get(id_) not in _RESULTS}

    def left(self) -> set[str]:
        """What this driver has left: a trial that failed waits for the next command."""
        return self.due() - self.tried

    def possible(self) -> list[Callable[[], None]]:
        """What may happen now."""
        found = [self.outage_begins_or_ends, *([self.look] if self.registered else [])]
        if self.driver is None:
            return [*found, self.start_or_resume, self.start_or_resume]
        found += [self.stop_at_once, self.interrupt, self.second_driver]
        if self.current:
            return [*found, self.epoch, self.finish, self.finish, self.finish]
        return [*found, *[self.begin if self.left() else self.let_it_end] * 3]

    def run(self, command: str) -> int:
        return self.ground.run(command, self.home, prepare=lambda: cut_off(self.outage))

    def start_or_resume(self) -> None:
        driver = Puppet(self.ground, self.home, self.outage)
        self.registered = True
        if driver.answer() == "ready":
            assert self.due(), "a driver trains though nothing is due"
            self.driver, self.tried = driver, set()
        else:
            assert not self.due(), "a driver trains nothing though something is due"
            assert driver.end() == (7 if self.outage.exists() and not self.is_published() else 0)

    def is_published(self) -> bool:
        """A finished sweep whose verdicts MLflow has needs no tracker."""
        study = raw_stores.read_ledger(Settings(home=self.home).ledger_url, "small")[-1]
        seen = json.loads(study.attrs.get("mirrored", "{}"))
        return bool(seen.get("records") == len(study.trials))

    def begin(self) -> None:
        self.current = self.driver.do("start")
        assert self.current in self.left(), "a trial is trained that needs none"
        self.tried.add(self.current)

    def let_it_end(self) -> None:
        failed = self.recorded.keys() & self.due()
        self.end(0, 1 if failed else 7 if self.outage.exists() else 0)

    def epoch(self) -> None:
        assert self.driver.do("epoch") == self.current

    def finish(self) -> None:
        status = self.random.choice(["complete", "complete", "complete", "diverged", "failed", "lost"])
        assert self.driver.do(f"finish {status}") == f"{self.current} {status}"
        self.recorded[self.current], self.current = status, ""

    def stop_at_once(self) -> None:
        number = self.random.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
        self.end(number, -9 if number == signal.SIGKILL else 128 + number)

    def interrupt(self) -> None:
        """A running trial may finish."""
        if self.current:
            self.recorded[self.current] = "complete"
        self.end(signal.SIGINT, 130)

    def end(self, number: int, code: int) -> None:
        assert self.driver.end(number) == code
        self.driver, self.current = None, ""

    def second_driver(self) -> None:
        assert self.run("sweep") == 6
        assert "is being run by pid" in (self.home / "output").read_text()

    def outage_begins_or_ends(self) -> None:
        (self.outage.unlink if self.outage.exists() else self.outage.touch)()

    def look(self) -> None:
        command = self.random.choice(["sync", "report"])
        assert self.run(command) == (3 if command == "sync" and self.outage.exists() else 0)

    def check_ledger(self) -> None:
        """It has what was finished."""
        outcomes = recorded(self.home) if self.registered else []
        assert {outcome["trial_id"]: outcome["status"] for outcome in outcomes} == self.recorded
        counts = Counter(outcome["trial_id"] for outcome in outcomes if outcome["status"] in _RESULTS)
        assert max(counts.values(), default=0) <= 1

    def close(self) -> None:
        """Whatever happened: the same command ends the sweep, and everything agrees."""
        if self.driver:
            self.driver.end(signal.SIGKILL)
        self.outage.unlink(missing_ok=True)
        diverged = {id_ for id_, status in self.recorded.items() if status == "diverged"}
        assert self.ground.run("sweep", self.home) == 0
        found = results(self.home, "small")
        assert all(found[id_] == expected for id_, expected in self.ground.expected.items() if id_ not in diverged)
        assert self.ground.problems(self.home) == []
        assert "Traceback" not in (self.home / "output").read_text()
        shutil.rmtree(self.home)


def play(histories: int) -> dict[str, object]:
    """So many histories, always the same; `problems` says how one was broken."""
    problems, steps = [], 0
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        ground = Ground(Path(folder), seeds=2)
        for number in range(histories):
            history, names = History(ground, number), []
            try:
                for _ in range(STEPS):
                    step = history.random.choice(history.possible())
                    names.append(step.__name__)
                    step()
                    history.check_ledger()
                history.close()
            except Exception as error:  # noqa: BLE001 - told
                problems.append(f"history {number}: {type(error).__name__}: {error} after {', '.join(names)}")
            steps += len(names)
    return {"histories": histories, "steps": steps, "problems": problems}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(play(int(sys.argv[1]))) + "\n")
