"""Random histories of a sweep against a small model: what is recorded is what was finished, and in the end all is well.

Its engine does what it is told through a pipe, step by step, and says when the driver has dealt with it.
Run as a program with a number of histories it prints JSON; `test_random_histories` runs a few.
"""

import json
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import fake_trainer
from fork_server import Engine, Ground, cut_off, recorded, results, waited
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from hypothesis.strategies import sampled_from
from ledger_records import ended

from mnist_ablate.execution import driver
from mnist_ablate.execution.engine import Event, Finished, Progress, Started
from mnist_ablate.settings import Settings
from mnist_ablate.trial import Trial
from mnist_ablate.verification import raw_ledger

STEPS = 14
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
            driver.Engine = ScriptedEngine
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


is_up = precondition(lambda self: self.driver)
is_training = precondition(lambda self: self.current)
has_none = precondition(lambda self: self.driver is None)
has_more = precondition(lambda self: self.driver and not self.current and self.left())
has_no_more = precondition(lambda self: self.driver and not self.current and not self.left())


class Histories(RuleBasedStateMachine):
    """One sweep of four trials. The model: the last status of each recorded trial, and whether a driver is up."""

    ground: Ground
    histories = steps = 0

    def __init__(self) -> None:
        super().__init__()
        Histories.histories += 1
        self.home = self.ground.folder / f"history-{Histories.histories}"
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

    def run(self, command: str) -> int:
        return self.ground.run(command, self.home, prepare=lambda: cut_off(self.outage))

    @has_none
    @rule()
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
        study = raw_ledger.read(Settings(home=self.home).ledger_url, "small")[-1]
        seen = json.loads(study.attrs.get("mirrored", "{}"))
        return bool(seen.get("records") == len(study.trials))

    @has_more
    @rule()
    def begin(self) -> None:
        self.current = self.driver.do("start")
        assert self.current in self.left(), "a trial is trained that needs none"
        self.tried.add(self.current)

    @has_no_more
    @rule()
    def let_it_end(self) -> None:
        failed = self.recorded.keys() & self.due()
        self.end(0, 1 if failed else 7 if self.outage.exists() else 0)

    @is_training
    @rule()
    def epoch(self) -> None:
        assert self.driver.do("epoch") == self.current

    @is_training
    @rule(status=sampled_from(["complete", "complete", "complete", "diverged", "failed", "lost"]))
    def finish(self, status: str) -> None:
        assert self.driver.do(f"finish {status}") == f"{self.current} {status}"
        self.recorded[self.current], self.current = status, ""

    @is_up
    @rule(number=sampled_from([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP]))
    def stop_at_once(self, number: signal.Signals) -> None:
        self.end(number, -9 if number == signal.SIGKILL else 128 + number)

    @is_up
    @rule()
    def interrupt(self) -> None:
        """A running trial may finish."""
        if self.current:
            self.recorded[self.current] = "complete"
        self.end(signal.SIGINT, 130)

    def end(self, number: int, code: int) -> None:
        assert self.driver.end(number) == code
        self.driver, self.current = None, ""

    @is_up
    @rule()
    def second_driver(self) -> None:
        assert self.run("sweep") == 6
        assert "is being run by pid" in (self.home / "output").read_text()

    @rule()
    def outage_begins_or_ends(self) -> None:
        if self.outage.exists():
            self.outage.unlink()
        else:
            self.outage.touch()

    @precondition(lambda self: self.registered)
    @rule(command=sampled_from(["sync", "report"]))
    def look(self, command: str) -> None:
        assert self.run(command) == (3 if command == "sync" and self.outage.exists() else 0)

    @invariant()
    def the_ledger_has_what_was_finished(self) -> None:
        Histories.steps += 1
        if not self.registered:
            return
        outcomes = recorded(self.home)
        assert {outcome["trial_id"]: outcome["status"] for outcome in outcomes} == self.recorded
        counts = Counter(outcome["trial_id"] for outcome in outcomes if outcome["status"] in _RESULTS)
        assert max(counts.values(), default=0) <= 1

    def teardown(self) -> None:
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
    options = settings(
        max_examples=histories,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    problems = []
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Histories.ground = Ground(Path(folder), seeds=2)
        try:
            run_state_machine_as_test(Histories, settings=options)
        except Exception as error:  # noqa: BLE001 - told
            problems.append("\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])]))
    return {"histories": Histories.histories, "steps": Histories.steps, "problems": problems}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(play(int(sys.argv[1]))) + "\n")
