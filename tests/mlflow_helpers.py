"""Trials, outcomes and a ready-made embedded store for the tests of the mirror."""

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from mnist_ablate import embedded
from mnist_ablate.mirror import Mirror
from mnist_ablate.trial import Epoch, Outcome, Recipe, Scalar, Trial

START_MS = 1_700_000_000_000
ARM: dict[str, Scalar] = {"normalizer": "centered", "activation": "relu"}
DIGEST = "ab" * 32


def trial(seed: int = 3) -> Trial:
    return Trial(recipe=Recipe(normalizer="centered"), seed=seed, data_digest="d1" * 32)


def epochs(count: int = 3, start_ms: int = START_MS, **values: float) -> tuple[Epoch, ...]:
    curves = {"train_loss": 0.5, "train_accuracy": 0.9, "val_loss": 0.4, "val_accuracy": 0.91, **values}
    numbers = range(1, count + 1)
    return tuple(Epoch(number=number, ended_ms=start_ms + number * 1000, **curves) for number in numbers)


def outcome(of: Trial, status: str = "complete", **changes: object) -> Outcome:
    content = {
        "trial_id": of.id,
        "status": status,
        "metrics": {"test_accuracy": 0.97, "test_loss": 0.1},
        "diagnostics": {"dead_units": 0.25},
        "epochs": epochs(),
        "started_ms": START_MS,
        "seconds": 3.25,
        "worker": "worker-1",
        **changes,
    }
    return Outcome.model_validate(content)


def mirror(uri: str, name: str = "normalization", tags: Mapping[str, str] | None = None) -> Mirror:
    return Mirror(uri, name, DIGEST, "Do centered inputs hurt relu?", tags or {"git_commit": "abc123"})


def rows(uri: str, query: str) -> list[tuple[object, ...]]:
    """What the embedded store really holds, past MLflow."""
    path = embedded.database(uri)
    assert path is not None
    connection = sqlite3.connect(path)
    try:
        return sorted(connection.execute(query).fetchall())
    finally:
        connection.close()


def points(uri: str) -> list[tuple[object, ...]]:
    """Every point of every run that is not deleted."""
    query = """select t.value, m.key, m.step, m.timestamp, m.value from metrics m join runs r using (run_uuid)
        join tags t using (run_uuid) where r.lifecycle_stage = 'active' and t.key = 'trial_id'"""
    return rows(uri, query)


def active_runs(uri: str) -> list[tuple[object, ...]]:
    """Kind, trial id and status of every run that is not deleted."""
    query = """select k.value, coalesce(t.value, ''), r.status from runs r
        join tags k on k.run_uuid = r.run_uuid and k.key = 'kind'
        left join tags t on t.run_uuid = r.run_uuid and t.key = 'trial_id' where r.lifecycle_stage = 'active'"""
    return rows(uri, query)


def new_home(template: Path, home: Path) -> str:
    """The address of an empty store in a home of its own, without the seconds MLflow takes to make one."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "mlflow.db").write_bytes(template.read_bytes())
    return embedded.uri(home)
