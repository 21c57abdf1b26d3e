"""A driver's process made cheap for thousands of crashes: trials without Dask, a store made by copying, no fsync.

Everything else (ledger, lock, mirror, uploader, MLflow's own SQLite store, command line) is the real thing. What
is lost without fsync is lost in a power cut only, not when a process is killed.
"""

import logging
import os
import shutil
import sqlite3
import time
import traceback
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Self

import sqlalchemy
from fake_trainer import FakeTrainer
from mlflow.store.db import utils as mlflow_database
from mlflow_helpers import new_home, pending
from optuna.storages._rdb.storage import _VersionManager
from typer import Typer
from typer.main import get_command

from mnist_ablate.cli import app
from mnist_ablate.execution import driver, recorded_report
from mnist_ablate.execution.engine import Event, Finished, Progress, Started
from mnist_ablate.tracking import client, uploader
from mnist_ablate.trial import Epoch, Outcome, Trial

LONGEST_WAIT_S = 0.3


class Engine:
    """Trains in the driver itself, one trial after the other; drains as the real one."""

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
        for trial in trials:
            if self._draining:
                return
            yield Started(trial, "double")
            epochs: list[Epoch] = []
            outcome = _trained(trial, epochs)
            for epoch in epochs:
                yield Progress(trial, epoch)
            yield Finished(trial, outcome)
            _wait_for_mlflow()


_uploaders: list[uploader.Uploader] = []


def _wait_for_mlflow() -> None:
    """Trials here take no time: without this a sweep would be over before its first run is sent."""
    ends = time.monotonic() + LONGEST_WAIT_S
    while pending(_uploaders[-1]) and time.monotonic() < ends:
        time.sleep(0.002)


def _trained(trial: Trial, epochs: list[Epoch]) -> Outcome:
    try:
        return FakeTrainer().train(trial, epochs.append)
    except Exception as error:  # noqa: BLE001 - as in a worker
        text = traceback.format_exc()
        return Outcome(trial_id=trial.id, status="failed", reason=f"{type(error).__name__}: {error}", traceback=text)


def install(scratch: Path) -> None:
    """Put the doubles in place, for this process and those it forks."""
    os.environ.update(FAKE_EPOCH_S="0", MNIST_ABLATE_TRAINER="fake_trainer:factory")
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # as the program asks, before it imports MLflow
    if isinstance(app.app, Typer):
        app.app = get_command(app.app)  # type: ignore[assignment] - built once, not by every fork
    driver.Engine = Engine  # type: ignore[misc, assignment]
    client._create = _copied(scratch)
    uploader.EPOCH_PAUSE_S = 0.0
    real = driver.Uploader
    driver.Uploader = lambda *args, **more: _uploaders.append(real(*args, **more)) or _uploaders[-1]  # type: ignore[misc, assignment, func-returns-value]
    waits: dict[str, Any] = uploader.Uploader.__init__.__kwdefaults__
    waits.update(first_wait_s=0.01, longest_wait_s=0.05)
    recorded_report._git_commit = lambda: "unknown"
    versions = _VersionManager
    versions._create_alembic_script = _remembered(versions._create_alembic_script)  # type: ignore[method-assign]
    mlflow_database._get_latest_schema_revision = cache(mlflow_database._get_latest_schema_revision)
    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", _without_fsync)


def _copied(scratch: Path) -> Any:
    """`embedded._create` with a copy in place of MLflow's migrations, which take seconds."""
    new_home(scratch)

    def create(path: Path) -> None:
        folder = path.parent / ".mlflow-new"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copy(scratch / "mlflow.db", folder / "mlflow.db")
        (folder / "mlflow.db").rename(path)
        shutil.rmtree(folder, ignore_errors=True)

    return create


def _remembered(real: Any) -> Any:
    """Optuna's migrations, which it loads each time it opens a storage, loaded once."""
    made: list[Any] = []

    def script(self: Any) -> Any:
        made[:] = made or [real(self)]
        return made[0]

    return script


def _without_fsync(connection: Any, _record: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")
