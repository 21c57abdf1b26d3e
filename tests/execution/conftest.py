"""Which fixtures the tests of this folder share."""

import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from external_cluster import external

from mnist_ablate.execution import worker

__all__ = ["external"]


@pytest.fixture
def dask_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What a plugin sees of a worker. What it sets of this process is undone at the end."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    for name in (worker.WORKER, worker.TRIALS):
        monkeypatch.setenv(name, "")
    return SimpleNamespace(address="tcp://10.0.0.1:5", name="0", plugins={}, local_directory=str(tmp_path))
