"""A busy machine is no error: MLflow is waited for as long as it makes progress."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command import Command, base_environment, fake_trainer_environment
from sweep_runs import sweep_file

pytestmark = pytest.mark.slow


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """As many processes that want a processor each."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for each in running:
            each.kill()
            each.wait()


def swept(folder: Path, images: Path) -> float:
    """A sweep of two tiny trials in a new home, whose MLflow has to be made; the seconds that it takes."""
    folder.mkdir()
    (folder / "fake").mkdir()
    sweep_file(folder, seeds=1)
    environment = base_environment(**fake_trainer_environment(folder / "fake"))
    del environment["MLFLOW_TRACKING_URI"]
    began = time.monotonic()
    done = Command(folder, environment)("sweep", "small.yaml", "--data", str(images), "--jobs", "2")
    assert done.code == 0, done.err
    assert "not up to date" not in done.err
    return time.monotonic() - began


@pytest.mark.timeout(500)
def test_a_sweep_beside_two_busy_processes_ends_in_step_with_mlflow(tmp_path: Path, images: Path) -> None:
    with busy(2):
        swept(tmp_path / "busy", images)
