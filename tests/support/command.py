"""The command line as a process of its own, with the fake trainer and without a real MLflow unless told."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_ablate.environment import of_user

PROGRAM = Path(sys.executable).with_name("mnist-ablate")
NO_TRACKER = "http://127.0.0.1:9"
"""Nobody listens on the discard port: refused at once, and no seconds for importing MLflow."""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.out)


Call = Callable[..., Done]


@dataclass(frozen=True)
class Command:
    """Runs mnist-ablate in `folder`, where its home is too, for `timeout_s` seconds at most."""

    folder: Path
    environment: Mapping[str, str]
    timeout_s: float = 200

    def __call__(self, *arguments: str, **environment: str) -> Done:
        process = self.start(*arguments, **environment)
        try:
            out, err = process.communicate(timeout=self.timeout_s)
        finally:
            process.kill()  # one that took too long, whose pipes another test would trip over
            process.communicate()
        return Done(process.returncode, out, err)

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        where = {"cwd": self.folder, "env": {**self.environment, **environment}, "start_new_session": True}
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([PROGRAM, *arguments], text=True, **where, **pipes)


def left_running(group: int) -> list[int]:
    """Processes of a session that `Command.start` began, which have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == group and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def wait_for(condition: Callable[[], object], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def base_environment(**more: str) -> dict[str, str]:
    ours = ("MNIST_ABLATE", "MLFLOW", "OPTUNA")
    kept = {name: value for name, value in of_user().items() if not name.startswith(ours)}
    return {**kept, "MLFLOW_TRACKING_URI": NO_TRACKER, **more}


def fake_trainer_environment(folder: Path, **more: str) -> dict[str, str]:
    """Workers train with the fake trainer, which notes in `folder` what it started."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return {"MNIST_ABLATE_TRAINER": "fake_trainer:factory", "PYTHONPATH": path, "FAKE_DIR": str(folder), **more}


def interrupt(process: "subprocess.Popen[str]", number: int = signal.SIGINT) -> None:
    """As a terminal does it: to the whole group, the workers too."""
    os.killpg(process.pid, number)


def left_in(temporary: Path) -> list[Path]:
    """The files in a temporary folder, but for Dask's empty locks."""
    return [path for path in temporary.rglob("*") if path.is_file() and not path.name.endswith("lock")]
