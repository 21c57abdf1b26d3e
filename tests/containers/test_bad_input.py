"""What keeps the service from starting is one line of `stack check`, with the real Docker beside it."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from compose_project import Project, prepare
from mlflow_helpers import free_port

PORT = free_port()
SECRET = "secrets/mlflow_pgpass"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    prepare(tmp_path / "team", MLFLOW_PORT=str(PORT))
    made = Project(tmp_path / "team", "never-started")
    assert made.shell("mnist-ablate stack init").returncode == 0
    return made


def test_a_folder_that_stack_init_made_is_ready(project: Project) -> None:
    done = project.shell("mnist-ablate stack check")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ready: Docker ")
    assert done.stdout.endswith(f", secrets of uid 10001, port {PORT}\n")


FAULTS: dict[str, tuple[Callable[[Project], object], int, str]] = {
    "no .env": (lambda p: (p.folder / ".env").unlink(), 2, ".env: has no STACK_UID, the user of the containers: run "),
    "others read": (lambda p: (p.folder / SECRET).chmod(0o644), 2, "mlflow_pgpass: other users can read it: chmod 600"),
    "another owner": (lambda p: os.chown(p.folder / SECRET, 1, 1), 2, "belongs to uid 1, but the containers run as"),
    "a secret lost": (lambda p: (p.folder / SECRET).unlink(), 2, "no mlflow_pgpass: restore them from your copy"),
    "no engine": (
        lambda p: p.variables.update(DOCKER_HOST="unix:///nowhere/docker.sock"),
        3,
        "Docker's engine does not answer: ",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_line_says_what_to_mend(project: Project, fault: str) -> None:
    spoil, code, told = FAULTS[fault]
    spoil(project)
    done = project.shell("mnist-ablate stack check")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1), done.stderr
    assert told in done.stderr


def test_a_taken_port_is_named(project: Project) -> None:
    with socket.create_server(("127.0.0.1", PORT)):
        done = project.shell("mnist-ablate stack check")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"port {PORT} on 127.0.0.1: address already in use: set another MLFLOW_PORT in .env")
