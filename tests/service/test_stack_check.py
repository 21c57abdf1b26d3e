"""`stack check` names the first thing that keeps `docker compose up` from working, and what to do, in one line."""

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from command import Command, Done, base_environment

from mnist_ablate.service import stack

ENGINE, COMPOSE = "26.1.5+dfsg1", "2.26.1-4"


def ready(folder: Path, **settings: str) -> Path:
    """A folder with secrets, as `stack init` leaves it."""
    stack.write_secrets(folder / "secrets")
    stack._write_user(folder / ".env")
    with (folder / ".env").open("a") as file:
        file.writelines(f"{name}={value}\n" for name, value in settings.items())
    return folder


def checked(folder: Path, *, engine: str = ENGINE, compose: str = COMPOSE, has_docker: bool = True) -> Done:
    """What `stack check` says where `docker` is a script that tells these versions; it fails where there are none."""
    place = folder / "path"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for name in ("sh", "echo"):
        (place / name).symlink_to(shutil.which(name) or "")
    if has_docker:
        lines = [
            "#!/bin/sh",
            'case "$*" in',
            f'"compose version --short") [ "{compose}" ] || exit 125; echo "{compose}" ;;',
            f'"version "*) [ "{engine}" ] || {{ echo Cannot connect >&2; exit 1; }}; echo "{engine}" ;;',
            "esac",
        ]
        (place / "docker").write_text("\n".join(lines))
        (place / "docker").chmod(0o755)
    return Command(folder, base_environment(PATH=str(place)))("stack", "check")


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def test_a_folder_that_is_ready_is_told_so(tmp_path: Path) -> None:
    done = checked(ready(tmp_path, MLFLOW_PORT=free_port()))
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("ready: Docker 26.1.5, Compose 2.26.1, ")


@pytest.mark.parametrize(
    ("versions", "code", "said"),
    [
        ({"has_docker": False}, 2, "docker: no such command: install Docker 25 and Compose 2.24, or newer"),
        ({"compose": ""}, 2, "docker compose: not installed: install Compose 2.24 or newer"),
        ({"compose": "v2.17.3"}, 2, "Compose v2.17.3 is too old: install 2.24 or newer"),
        ({"engine": "20.10.24"}, 2, "Docker 20.10.24 is too old: install 25.0 or newer"),
        ({"engine": ""}, 3, "Docker's engine does not answer: Cannot connect: start it, or set DOCKER_HOST"),
    ],
)
def test_docker_that_is_missing_old_or_stopped(tmp_path: Path, versions: dict[str, str], code: int, said: str) -> None:
    done = checked(ready(tmp_path), **versions)
    assert (done.code, done.err.count("\n")) == (code, 1)
    assert said in done.err


def no_settings(folder: Path) -> str:
    (folder / ".env").unlink()
    return ".env: has no STACK_UID, the user of the containers: run mnist-ablate stack init"


def no_secrets(folder: Path) -> str:
    shutil.rmtree(folder / "secrets")
    return "secrets: no secrets: run mnist-ablate stack init"


def half_of_the_secrets(folder: Path) -> str:
    (folder / "secrets" / "optuna_pgpass").unlink()
    return "secrets: no optuna_pgpass: restore them from your copy"


def open_secret(folder: Path) -> str:
    (folder / "secrets" / "postgres_password").chmod(0o644)
    return "chmod 600 secrets/postgres_password"


def open_folder(folder: Path) -> str:
    (folder / "secrets").chmod(0o755)
    return "secrets: other users can read it: chmod 700 secrets"


def another_owner(folder: Path) -> str:
    text = (folder / ".env").read_text()
    uid = (folder / "secrets").stat().st_uid
    (folder / ".env").write_text(text.replace(f"STACK_UID={uid}", f"STACK_UID={uid + 1}"))
    return f"belongs to uid {uid}, but the containers run as {uid + 1} (STACK_UID in .env): chown -R {uid + 1} secrets"


def port_of_no_kind(folder: Path) -> str:
    with (folder / ".env").open("a") as file:
        file.write("MLFLOW_PORT=http\n")
    return "MLFLOW_PORT=http: give a number from 1 to 65535"


BROKEN = (no_settings, no_secrets, half_of_the_secrets, open_secret, open_folder, another_owner, port_of_no_kind)


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_wrong_in_the_folder(tmp_path: Path, broken: Callable[[Path], str]) -> None:
    said = broken(ready(tmp_path))
    done = checked(tmp_path)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert said in done.err


def test_port_that_something_else_listens_on(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = checked(ready(tmp_path, MLFLOW_PORT=str(port)))
    assert (done.code, done.out) == (2, "")
    assert f"port {port} on 127.0.0.1: address already in use: set another MLFLOW_PORT in .env" in done.err
