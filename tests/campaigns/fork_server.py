"""Where drivers are run by the thousand: a process that has imported everything forks one for each command."""

import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fast_driver
import fault_points
from fault_points import Injection
from sweep_runs import sweep_file
from tiny_images import write_images

from mnist_ablate.cli import app
from mnist_ablate.settings import Settings
from mnist_ablate.verification import raw_ledger, verify

STUCK_S = 60.0
STUCK = -99

Outcomes = dict[str, tuple[str, dict[str, float]]]


class Ground:
    """A folder with images, a sweep, and the outcome of the same sweep that nothing interrupted."""

    def __init__(self, folder: Path, **sweep: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        fast_driver.install(folder / "empty")
        self.images = write_images(folder / "images.npz")
        self.sweep = sweep_file(folder, **sweep)
        for _ in range(2):  # in this process: what is imported and compiled here is so in every fork
            with quiet(folder / "warm.log"):
                self._main("sweep", folder / "undisturbed")
        self.expected = results(folder / "undisturbed", self.sweep.stem)
        gc.collect()
        gc.freeze()

    def run(
        self,
        command: str,
        home: Path,
        injection: Injection | None = None,
        prepare: Callable[[], object] = lambda: None,
    ) -> tuple[int, bool]:
        """The exit code of a command in a process of its own, and whether the injection happened."""
        child, fired = self.start(command, home, injection, prepare)
        code = waited(child, STUCK_S)
        return code, fired.exists()

    def start(
        self,
        command: str,
        home: Path,
        injection: Injection | None = None,
        prepare: Callable[[], object] = lambda: None,
    ) -> tuple[int, Path]:
        """The process of a command, and the file that its injection leaves."""
        fired = self.folder / f"fired-{home.name}"
        fired.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            self._child(command, home, injection, fired, prepare)
        return child, fired

    def problems(self, home: Path) -> list[str]:
        """What `verify` says of a home."""
        return verify.problems(self.sweep.stem, Settings(home=home))

    def _child(
        self, command: str, home: Path, injection: Injection | None, fired: Path, prepare: Callable[[], object]
    ) -> None:
        """Never returns: a forked copy of the campaign must not go on with it."""
        code = 99
        try:
            gc.disable()
            home.mkdir(exist_ok=True)
            log = os.open(home / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            prepare()
            if injection:
                fault_points.install(injection, lambda: fired.write_text("here"))
            code = self._main(command, home)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def _main(self, command: str, home: Path) -> int:
        name, *options = command.split()
        if name == "sweep":
            options += ["--data", str(self.images)]
        sys.argv = ["mnist-ablate", name, str(self.sweep), "--home", str(home), *options]
        try:
            app.main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0


def waited(child: int, timeout_s: float) -> int:
    """The exit code of a child; it is killed, and the code is STUCK, if it does not end in time."""
    deadline = time.monotonic() + timeout_s
    pause_s = 0.002
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(pause_s)
        pause_s = min(0.01, pause_s * 1.2)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return STUCK


@contextmanager
def quiet(log: Path) -> Iterator[None]:
    """Everything that is printed inside goes to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in enumerate(saved, start=1):
            os.dup2(copy, number)
            os.close(copy)


def results(home: Path, name: str) -> Outcomes:
    """Status and metrics of the last record of each trial."""
    trials = raw_ledger.read(Settings(home=home).ledger_url, name)[-1].trials
    outcomes = [json.loads(trial.attrs["outcome"]) for trial in trials]
    return {outcome["trial_id"]: (outcome["status"], outcome["metrics"]) for outcome in outcomes}
