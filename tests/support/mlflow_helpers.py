"""Trials, outcomes and a ready-made embedded store for the tests of the mirror."""

import os
import socket
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from command import wait_for
from keras_trials import keras_trial
from mlflow import MlflowClient
from mlflow.entities import Run

from mnist_ablate.settings import Settings
from mnist_ablate.tracking.home_store import create_store, database
from mnist_ablate.tracking.mirror import Mirror
from mnist_ablate.tracking.uploader import Uploader
from mnist_ablate.trial import Epoch, Outcome, Scalar, Trial
from mnist_ablate.workloads.keras_mnist.recipe import Recipe

START_MS = 1_700_000_000_000
ARM: dict[str, Scalar] = {"normalizer": "centered", "activation": "relu"}
DIGEST = "ab" * 32


def trial(seed: int = 3) -> Trial:
    return keras_trial(Recipe(normalizer="centered"), seed, "d1" * 32)


def epochs(count: int = 3, start_ms: int = START_MS, **values: float) -> tuple[Epoch, ...]:
    curves = {"train_loss": 0.5, "train_accuracy": 0.9, "val_loss": 0.4, "val_accuracy": 0.91, **values}
    return tuple(Epoch(number=n, ended_ms=start_ms + n * 1000, **curves) for n in range(1, count + 1))


def outcome(of: Trial, status: str = "complete", **changes: object) -> Outcome:
    results = {"metrics": {"test_accuracy": 0.97, "test_loss": 0.1}, "diagnostics": {"dead_units": 0.25}}
    ran = {"epochs": epochs(), "started_ms": START_MS, "seconds": 3.25, "worker": "worker-1"}
    return Outcome.model_validate({"trial_id": of.id, "status": status, **results, **ran, **changes})


def mirror(uri: str, name: str = "normalization", tags: Mapping[str, str] | None = None) -> Mirror:
    return Mirror(uri, name, DIGEST, "Do centered inputs hurt relu?", tags or {"git_commit": "abc123"})


def rows(uri: str, query: str) -> list[tuple[Any, ...]]:
    """What the embedded store really holds, past MLflow."""
    path = database(uri)
    assert path is not None
    with closing(sqlite3.connect(path)) as connection:
        return sorted(connection.execute(query).fetchall())


def points(uri: str) -> list[tuple[Any, ...]]:
    """Every point of every run that is not deleted."""
    query = """select t.value, m.key, m.step, m.timestamp, m.value from metrics m join runs r using (run_uuid)
        join tags t using (run_uuid) where r.lifecycle_stage = 'active' and t.key = 'trial_id'"""
    return rows(uri, query)


def active_runs(uri: str) -> list[tuple[Any, ...]]:
    """Kind, trial id and status of every run that is not deleted."""
    query = """select k.value, coalesce(t.value, ''), r.status from runs r
        join tags k on k.run_uuid = r.run_uuid and k.key = 'kind'
        left join tags t on t.run_uuid = r.run_uuid and t.key = 'trial_id' where r.lifecycle_stage = 'active'"""
    return rows(uri, query)


def new_home(home: Path) -> str:
    """The address of an empty store in a home of its own, without the seconds MLflow takes to make one."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "mlflow.db").write_bytes(_empty_store())
    return Settings(home=home).embedded_uri


@cache
def _empty_store() -> bytes:
    """TEST_MLFLOW_STORE names the file of one: many programs that each need it do not each make it."""
    if made := os.environ.get("TEST_MLFLOW_STORE"):
        return Path(made).read_bytes()
    with TemporaryDirectory() as home:
        create_store(Settings(home=Path(home)).embedded_uri)
        return (Path(home) / "mlflow.db").read_bytes()


def trial_runs(uri: str) -> list[Run]:
    """The runs of all trials, as MLflow shows them."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("normalization")
    assert experiment is not None
    return [run for run in client.search_runs([experiment.experiment_id]) if run.data.tags["kind"] == "trial"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(true: Callable[[], object], seconds: float = 5.0) -> None:
    wait_for(true, seconds)


def pending(uploader: Uploader) -> int:
    """Outcomes that MLflow does not have."""
    return len(uploader._outcomes) + uploader._refused
