"""Random histories of a sweep against a small model: what is recorded is what was finished, and in the end all is well.

Run as a program with a number of histories it prints JSON; `test_states` runs a few.
"""

import json
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from fork_server import Ground, results
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from hypothesis.strategies import sampled_from
from scripted_engine import Puppet, cut_off, lead

from mnist_ablate.settings import Settings
from mnist_ablate.verification import raw_ledger

STEPS = 14
_RESULTS = {"complete", "diverged"}


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

    def _due(self) -> set[str]:
        return {id_ for id_ in self.ground.expected if self.recorded.get(id_) not in _RESULTS}

    def _run(self, command: str) -> int:
        return self.ground.run(command, self.home, prepare=lambda: cut_off(self.outage))[0]

    @precondition(lambda self: self.driver is None)
    @rule()
    def start_or_resume(self) -> None:
        driver = lead(self.ground, self.home, self.outage)
        self.registered = True
        if driver.answers.readline().strip() == "ready":
            assert self._due(), "a driver trains though nothing is due"
            self.driver, self.tried = driver, set()
        else:
            assert not self._due(), "a driver trains nothing though something is due"
            assert driver.end() == (7 if self.outage.exists() and not self._published() else 0)

    def _published(self) -> bool:
        """A finished sweep whose verdicts MLflow has needs no tracker."""
        study = raw_ledger.read(Settings(home=self.home).ledger_url, "small")[-1]
        seen = json.loads(study.attrs.get("mirrored", "{}"))
        return bool(seen.get("records") == len(study.trials))

    @precondition(lambda self: self.driver and not self.current and self._left())
    @rule()
    def begin(self) -> None:
        assert self.driver
        self.current = self.driver.do("start")
        assert self.current in self._left(), "a trial is trained that needs none"
        self.tried.add(self.current)

    def _left(self) -> set[str]:
        """What this driver has left: a trial that failed waits for the next command."""
        return self._due() - self.tried

    @precondition(lambda self: self.driver and not self.current and not self._left())
    @rule()
    def let_it_end(self) -> None:
        failed = self.recorded.keys() & self._due()
        self._ended(0, 1 if failed else 7 if self.outage.exists() else 0)

    @precondition(lambda self: self.current)
    @rule()
    def epoch(self) -> None:
        assert self.driver
        assert self.driver.do("epoch") == self.current

    @precondition(lambda self: self.current)
    @rule(status=sampled_from(["complete", "complete", "complete", "diverged", "failed", "lost"]))
    def finish(self, status: str) -> None:
        assert self.driver
        assert self.driver.do(f"finish {status}") == f"{self.current} {status}"
        self.recorded[self.current], self.current = status, ""

    @precondition(lambda self: self.driver)
    @rule(number=sampled_from([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP]))
    def stop_at_once(self, number: signal.Signals) -> None:
        self._ended(number, {signal.SIGKILL: -9}.get(number, 128 + number))

    @precondition(lambda self: self.driver)
    @rule()
    def interrupt(self) -> None:
        """A running trial may finish."""
        if self.current:
            self.recorded[self.current] = "complete"
        self._ended(signal.SIGINT, 130)

    def _ended(self, number: int, code: int) -> None:
        assert self.driver
        assert self.driver.end(number) == code
        self.driver, self.current = None, ""

    @precondition(lambda self: self.driver)
    @rule()
    def second_driver(self) -> None:
        assert self._run("sweep") == 6
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
        expected = 3 if command == "sync" and self.outage.exists() else 0
        assert self._run(command) == expected

    @invariant()
    def the_ledger_has_what_was_finished(self) -> None:
        Histories.steps += 1
        if not self.registered:
            return
        trials = raw_ledger.read(Settings(home=self.home).ledger_url, "small")[-1].trials
        outcomes = [json.loads(trial.attrs["outcome"]) for trial in trials]
        assert {outcome["trial_id"]: outcome["status"] for outcome in outcomes} == self.recorded
        counts = Counter(outcome["trial_id"] for outcome in outcomes if outcome["status"] in _RESULTS)
        assert max(counts.values(), default=0) <= 1

    def teardown(self) -> None:
        """Whatever happened: the same command ends the sweep, and everything agrees."""
        if self.driver:
            self.driver.end(signal.SIGKILL)
        self.outage.unlink(missing_ok=True)
        diverged = {id_ for id_, status in self.recorded.items() if status == "diverged"}
        assert self.ground.run("sweep", self.home)[0] == 0
        found = results(self.home, "small")
        assert all(found[id_] == expected for id_, expected in self.ground.expected.items() if id_ not in diverged)
        assert self.ground.problems(self.home) == []
        assert "Traceback" not in (self.home / "output").read_text()
        shutil.rmtree(self.home)


def play(histories: int) -> dict[str, object]:
    """So many histories, always the same; `problems` says how one was broken."""
    folder = Path(tempfile.mkdtemp(prefix="states-"))
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
    try:
        Histories.ground = Ground(folder / "ground", seeds=2)
        run_state_machine_as_test(Histories, settings=options)
    except Exception as error:  # noqa: BLE001 - told
        notes = "\n".join(getattr(error, "__notes__", []))
        problems.append(f"{type(error).__name__}: {error}\n{notes}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {"histories": Histories.histories, "steps": Histories.steps, "problems": problems}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(play(int(sys.argv[1]))) + "\n")
