"""Runners as processes of their own with the fake trainer, and the queue that they share with a test."""

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from command import Command, base_environment, fake_trainer_environment, left_running, wait_for
from tiny_images import write_images

from mnist_ablate.execution import recorded_report
from mnist_ablate.service.queue import Queue
from mnist_ablate.service.submissions import Submission
from mnist_ablate.settings import Settings
from mnist_ablate.verification import raw_stores

PATIENCE_S = 120


@dataclass
class Ground:
    """A folder with a home and images; `url` is the ledger's, and the environment says it where it is no file."""

    folder: Path
    url: str
    environment: dict[str, str]
    queue: Queue
    running: list["subprocess.Popen[str]"] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def runner(self, *options: str, **environment: str) -> "subprocess.Popen[str]":
        command = Command(self.folder, {**self.environment, **environment})
        where = ("--home", str(self.home), "--data", str(self.folder / "tiny.npz"), "--jobs", "2")
        process = command.start("runner", *where, *options)
        self.running.append(process)
        return process

    def now(self, sweep: Submission) -> Submission:
        found = self.queue.get(sweep.id)
        assert found
        return found

    def wait(self, condition: Callable[[], object]) -> None:
        try:
            wait_for(condition, PATIENCE_S)
        except AssertionError as error:
            found = [f"{each.name}: {each.state} {each.recorded} {each.reason}" for each in self.queue.list()]
            raise AssertionError(f"waited in vain: {found}") from error

    def wait_for_state(self, state: str, *sweeps: Submission) -> None:
        self.wait(lambda: all(self.now(each).state == state for each in sweeps))

    def recorded(self, name: str) -> Counter[str]:
        """How often each trial of a sweep is recorded as complete."""
        trials = raw_stores.read_ledger(self.url, name)[-1].trials
        return Counter(trial.attrs["trial_id"] for trial in trials if trial.state == "COMPLETE")

    def verdicts(self, name: str) -> list[tuple[str, str, float]]:
        report, _ = recorded_report.report(name, Settings(home=self.home))
        return [(claim.name, claim.verdict, claim.effect) for claim in report.claims]


def end(process: "subprocess.Popen[str]", number: int = signal.SIGTERM) -> tuple[int, str]:
    """Its exit code and what it said, once it and everything that it started has gone."""
    process.send_signal(number)
    _, said = process.communicate(timeout=PATIENCE_S)
    wait_for(lambda: not left_running(process.pid), 10)
    return process.returncode, said


@contextmanager
def ground(folder: Path, url: str = "", **more: str) -> Iterator[Ground]:
    """All runners are ended with it."""
    folder.mkdir(parents=True, exist_ok=True)
    fake = folder / "fake"
    fake.mkdir()
    write_images(folder / "tiny.npz")
    where = {"OPTUNA_STORAGE": url} if url else {}
    environment = base_environment(**fake_trainer_environment(fake), **where, **more)
    url = url or f"sqlite:///{folder / 'home' / 'ledger.db'}"
    made = Ground(folder, url, environment, Queue(url))
    try:
        yield made
    finally:
        for process in made.running:
            process.kill()
            process.communicate()
            for left in left_running(process.pid):
                os.kill(left, signal.SIGKILL)
        made.queue.close()
