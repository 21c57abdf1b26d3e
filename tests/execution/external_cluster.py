"""A Dask cluster of our own commands or of Dask's, each part in a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from command import PROGRAM, base_environment, wait_for
from mlflow_helpers import free_port
from service_stack import process
from tiny_images import SUPPORT


@dataclass
class Cluster:
    """A scheduler, and how to start workers for it."""

    folder: Path
    port: int
    parts: ExitStack

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the scheduler, or start it again."""
        command = [PROGRAM, "scheduler", "--port", str(self.port)]
        self.scheduler = self._started("scheduler", command, {}, "scheduler at")

    def worker(self, name: str, *options: str, **environment: str) -> "subprocess.Popen[bytes]":
        command = [PROGRAM, "worker", self.address, "--jobs", "1", "--name", name, *options]
        return self._started(name, command, environment, f"{name} at")

    def plain_worker(self, name: str, **environment: str) -> "subprocess.Popen[bytes]":
        """One of Dask's own; workers of dask-jobqueue and dask-kubernetes are such."""
        command = [Path(sys.executable).with_name("dask"), "worker", self.address, "--nthreads", "1", "--name", name]
        return self._started(name, command, environment, "Registered to")

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def _started(self, name: str, command: list[object], changes: dict[str, str], up: str) -> "subprocess.Popen[bytes]":
        environment = {**base_environment(FAKE_DIR=str(self.folder)), "PYTHONPATH": str(SUPPORT), **changes}
        started = self.parts.enter_context(process(command, environment, self.folder / f"{name}.log"))
        wait_for(lambda: up in self.log(name), 60)
        return started


def kill(part: "subprocess.Popen[bytes]") -> None:
    os.killpg(part.pid, signal.SIGKILL)
    part.wait()


@pytest.fixture
def external(tmp_path: Path) -> Iterator[Cluster]:
    """One whose scheduler is up."""
    with ExitStack() as parts:
        made = Cluster(tmp_path, free_port(), parts)
        made.start()
        yield made
