"""Where drivers are run by the thousand: a process that has imported everything forks a cheap one for each command.

Cheap are: trials without Dask, a store made by copying, no fsync. Everything else (ledger, lock, mirror, uploader,
MLflow's own SQLite store, command line) is the real thing. What is lost without fsync is lost in a power cut only,
not when a process is killed.
"""

import errno
import gc
import itertools
import json
import logging
import os
import shutil
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import sqlalchemy
from fake_trainer import FakeTrainer
from mlflow.store.db import utils as mlflow_database
from mlflow_helpers import new_home, pending, until
from optuna.storages._rdb.storage import _VersionManager
from sweep_runs import sweep_file
from tiny_images import write_images
from typer import Typer
from typer.main import get_command

from mnist_ablate.cli import app
from mnist_ablate.errors import UnreachableError
from mnist_ablate.execution import driver, engine, recorded_report, worker_template
from mnist_ablate.execution.events import Event, Finished, Progress, Started
from mnist_ablate.settings import Settings
from mnist_ablate.tracking import home_store, mirror, uploader
from mnist_ablate.trial import Epoch, Outcome, Trial
from mnist_ablate.verification import raw_stores, verify

STUCK_S = 60.0
STUCK = -99
UPLOAD_S = 0.3
Change = Callable[[], object]
"""What is done in the process of a command before it begins."""
POINTS: dict[str, tuple[str, int]] = {
    "plan.make_plan": ("mnist_ablate.execution.driver:make_plan", 1),
    "plan.open": ("mnist_ablate.execution.driver:Ledger.__init__", 1),
    "plan.begin": ("mnist_ablate.ledger.ledger:Ledger.begin", 1),
    "plan.register": ("mnist_ablate.ledger.ledger:Ledger.note", 4),
    "run.start": ("mnist_ablate.execution.driver:Run._training", 1),
    "run.event": ("mnist_ablate.cli.live_view:Watch.event", 6),
    "run.epoch": ("mnist_ablate.tracking.uploader:Uploader.epoch", 3),
    "record.add": ("mnist_ablate.ledger.ledger:Record.add_all", 2),
    "record.trial": ("mnist_ablate.ledger.optuna_rows:TrialRows.add", 2),
    "record.statement": ("sqlalchemy.engine.default:DefaultDialect.do_execute", 60),
    "record.commit": ("sqlalchemy.engine.default:DefaultDialect.do_commit", 12),
    "record.queue": ("mnist_ablate.tracking.uploader:Uploader.outcome", 2),
    "mirror.open": ("mnist_ablate.tracking.mirror:Mirror.open", 1),
    "mirror.experiment": ("mlflow:MlflowClient.create_experiment", 1),
    "mirror.find": ("mlflow:MlflowClient.search_runs", 1),
    "mirror.run": ("mlflow:MlflowClient.create_run", 2),
    "mirror.batch": ("mlflow:MlflowClient.log_batch", 2),
    "mirror.end": ("mlflow:MlflowClient.set_terminated", 2),
    "mirror.settle": ("mnist_ablate.tracking.mirror:Mirror.settle", 1),
    "sync.outcome": ("mnist_ablate.tracking.mirror:Mirror.outcome", 2),
    "sync.verdicts": ("mnist_ablate.tracking.mirror:Mirror.verdicts", 1),
    "sync.publish": ("mnist_ablate.execution.recorded_report:publish", 1),
    "cache.store": ("mnist_ablate.tracking.home_store:_create", 1),
    "cache.copy": ("mnist_ablate.tracking.home_store:shutil.rmtree", 1),
    "report.of_rows": ("mnist_ablate.reports.judging:of_rows", 1),
    "report.markdown": ("mnist_ablate.execution.recorded_report:markdown", 1),
    "report.show": ("mnist_ablate.cli.sweeps:show", 1),
}
"""Where the program can be crashed, and how often a small sweep comes by."""
_SIGNALS = {"kill": signal.SIGKILL, "interrupt": signal.SIGINT, "terminate": signal.SIGTERM}
ACTIONS = (*_SIGNALS, "raise", "full")


@dataclass(frozen=True)
class Injection:
    """Do `action` before or after the `nth` time that the program comes by `point`."""

    point: str
    action: str
    nth: int = 1
    after: bool = False

    def __str__(self) -> str:
        return f"{self.action} {'after' if self.after else 'before'} {self.point} #{self.nth}"


class Engine(nullcontext):
    """Stands in for the driver's engine: trains in the driver itself, one trial after the other."""

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__(self)
        self.draining = False

    def drain(self, *, at_once: bool = False) -> None:  # noqa: ARG002 - as the engine has it
        self.draining = True

    def batches(
        self,
        trainings: Iterable[tuple[Trial, ...]],
        *,
        ahead: bool,  # noqa: ARG002 - as the real one
    ) -> Iterator[list[Event]]:
        for event in self.events(itertools.chain.from_iterable(trainings)):
            yield [event]

    def events(self, trials: Iterable[Trial]) -> Iterator[Event]:
        for trial in trials:
            if self.draining:
                return
            yield Started(trial, "double")
            epochs: list[Epoch] = []
            try:
                outcome = FakeTrainer().train(trial, epochs.append)
            except Exception as error:  # noqa: BLE001 - as in a worker
                failed = {"reason": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
                outcome = Outcome(trial_id=trial.id, status="failed", **failed)
            for epoch in epochs:
                yield Progress(trial, epoch, outcome.started_ms)
            yield Finished(trial, outcome)
            with suppress(AssertionError):  # a sweep would be over before its first run is sent
                until(lambda: not pending(_uploaders[-1]), UPLOAD_S)


_uploaders: list[uploader.Uploader] = []


class Ground:
    """A folder with images, a sweep, and the outcome of the same sweep that nothing interrupted."""

    def __init__(self, folder: Path, **sweep: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        _install_doubles(folder / "empty")
        self.images = write_images(folder / "images.npz")
        self.sweep = sweep_file(folder, **sweep)
        saved = os.dup(1), os.dup(2)
        _print_to(folder / "warm.log")
        try:
            for _ in range(2):  # in this process: what is imported and compiled here is so in every fork
                self._main("sweep", folder / "undisturbed")
        finally:
            for number, copy in enumerate(saved, start=1):
                os.dup2(copy, number)
                os.close(copy)
        self.expected = results(folder / "undisturbed", self.sweep.stem)
        gc.collect()
        gc.freeze()

    def run(self, command: str, home: Path, **options: Any) -> int:
        """The exit code of a command in a process of its own."""
        return waited(self.start(command, home, **options), STUCK_S)

    def start(self, command: str, home: Path, injection: Injection | None = None, prepare: Change | None = None) -> int:
        """The process of a command, which `prepare` changes; its injection leaves the file `fired`."""
        home.mkdir(exist_ok=True)
        fired(home).unlink(missing_ok=True)
        if child := os.fork():
            return child
        code = 99
        try:
            gc.disable()
            _print_to(home / "output")
            if prepare:
                prepare()
            if injection:
                _inject(injection, fired(home).touch)
            code = self._main(command, home)
        finally:
            os._exit(code)  # a forked copy of the campaign must not go on with it

    def problems(self, home: Path) -> list[str]:
        """What `verify` says of a home."""
        return verify.problems(self.sweep.stem, Settings(home=home))

    def _main(self, command: str, home: Path) -> int:
        name, *options = command.split()
        if name == "sweep":
            options += ["--data", str(self.images)]
        sys.argv = ["mnist-ablate", name, str(self.sweep), "--home", str(home), *options]
        try:
            app.main()
        except SystemExit as end:
            return int(end.code or 0)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
        return 0


def _inject(injection: Injection, fired: Callable[[], None]) -> None:
    """Wrap the point, for the rest of this process; `fired` is called just before the action."""
    module, _, path = POINTS[injection.point][0].partition(":")
    parent, _, name = path.rpartition(".")
    owner = resolve_name(f"{module}:{parent}")
    real = getattr(owner, name)
    passed = 0

    @wraps(real)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal passed
        passed += 1
        if passed != injection.nth:
            return real(*args, **kwargs)
        result = real(*args, **kwargs) if injection.after else None
        fired()
        _act(injection)
        return result if injection.after else real(*args, **kwargs)

    setattr(owner, name, wrapped)


def _act(injection: Injection) -> None:
    if injection.action in _SIGNALS:
        os.kill(os.getpid(), _SIGNALS[injection.action])
    elif injection.action == "raise":
        raise RuntimeError(str(injection))
    elif injection.point in {"record.statement", "record.commit"}:
        raise sqlite3.OperationalError("database or disk is full")
    else:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "disk")


def _install_doubles(scratch: Path) -> None:
    """In this process and those it forks."""
    os.environ.update(FAKE_EPOCH_S="0", MNIST_ABLATE_TRAINER="fake_trainer:factory")
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # as the program asks, before it imports MLflow
    if isinstance(app.app, Typer):
        app.app = get_command(app.app)  # built once, not by every fork
    new_home(scratch)
    home_store._create = lambda path: _copy(scratch / "mlflow.db", path)
    engine.Engine = Engine
    worker_template.importing = nullcontext  # there are no workers
    uploader.EPOCH_PAUSE_S = 0.0
    real = driver.Uploader
    driver.Uploader = lambda *args, **more: _uploaders.append(real(*args, **more)) or _uploaders[-1]
    uploader.Uploader.__init__.__kwdefaults__.update(first_wait_s=0.01, longest_wait_s=0.05)
    recorded_report._git_commit = lambda: "unknown"
    script, made = _VersionManager._create_alembic_script, []
    _VersionManager._create_alembic_script = lambda self: (made or made.append(script(self)) or made)[0]
    mlflow_database._get_latest_schema_revision = cache(mlflow_database._get_latest_schema_revision)
    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", _without_fsync)


def _copy(empty: Path, path: Path) -> None:
    """In place of MLflow's migrations, which take seconds; whole or not at all, as they are."""
    folder = path.parent / ".mlflow-new"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(empty, folder / "mlflow.db").rename(path)
    shutil.rmtree(folder, ignore_errors=True)


def _without_fsync(connection: Any, _record: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


def cut_off(outage: Path) -> None:
    """No call of the mirror gets through while the file exists."""
    real = mirror.Mirror._once

    def once(self: Any, action: Any) -> Any:
        if outage.exists():
            raise UnreachableError("MLflow at http://x does not answer: Connection refused")
        return real(self, action)

    mirror.Mirror._once = once


def _print_to(log: Path) -> None:
    """Everything that this process prints goes to the end of a file."""
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def fired(home: Path) -> Path:
    """Is there once the injection of the last command in a home has happened."""
    return home.with_suffix(".fired")


def ended(child: int, timeout_s: float) -> int | None:
    """The exit code of a child, if it ends in time."""
    deadline, pause_s = time.monotonic() + timeout_s, 0.002
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(pause_s)
        pause_s = min(0.01, pause_s * 1.2)
    return None


def waited(child: int, timeout_s: float) -> int:
    """The exit code of a child; it is killed, and the code is STUCK, if it does not end in time."""
    code = ended(child, timeout_s)
    if code is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return STUCK if code is None else code


def results(home: Path, name: str) -> dict[str, tuple[str, dict[str, float]]]:
    """Status and metrics of the last record of each trial."""
    outcomes = recorded(home, name)
    return {outcome["trial_id"]: (outcome["status"], outcome["metrics"]) for outcome in outcomes}


def recorded(home: Path, name: str = "small") -> list[dict[str, Any]]:
    """The outcomes in a ledger, as they lie there."""
    trials = raw_stores.read_ledger(Settings(home=home).ledger_url, name)[-1].trials
    return [json.loads(trial.attrs["outcome"]) for trial in trials]
