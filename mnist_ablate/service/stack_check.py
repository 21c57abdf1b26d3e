"""Whether `docker compose up` can work in a folder, said in one line before it tries; starts and changes nothing."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

from mnist_ablate.errors import SweepError, UnreachableError
from mnist_ablate.service.stack import new_secrets

ENGINE, COMPOSE = (25, 0), (2, 24)
"""The oldest versions that know everything in docker-compose.yml."""
_TIMEOUT_S = 20
_DEFAULT_PORT = "5000"


def check(folder: Path) -> str:
    """What was found, in a line. Raises SweepError or UnreachableError with the first thing to mend."""
    compose = _compose(folder)
    engine = _engine(folder)
    settings = _settings(folder / ".env")
    _secrets(folder / "secrets", int(settings["STACK_UID"]))
    port = _port(folder, settings.get("MLFLOW_PORT", _DEFAULT_PORT))
    return f"ready: Docker {engine}, Compose {compose}, secrets of uid {settings['STACK_UID']}, port {port}"


def _compose(folder: Path) -> str:
    need = ".".join(map(str, COMPOSE))
    if shutil.which("docker") is None:
        raise SweepError(f"docker: no such command: install Docker {ENGINE[0]} and Compose {need}, or newer")
    done = _docker(folder, "compose", "version", "--short")
    if done.returncode:
        raise SweepError(f"docker compose: not installed: install Compose {need} or newer, as a plugin of Docker")
    return _new_enough("Compose", done.stdout, COMPOSE)


def _engine(folder: Path) -> str:
    done = _docker(folder, "version", "--format", "{{.Server.Version}}")
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        raise UnreachableError(f"Docker's engine does not answer: {said}: start it, or set DOCKER_HOST")
    return _new_enough("Docker", done.stdout, ENGINE)


def _new_enough(name: str, said: str, oldest: tuple[int, int]) -> str:
    found = re.search(r"(\d+)\.(\d+)[\d.]*", said)
    if found is None or (int(found[1]), int(found[2])) < oldest:
        need = ".".join(map(str, oldest))
        raise SweepError(f"{name} {said.strip() or 'of an unknown version'} is too old: install {need} or newer")
    return found[0]


def _settings(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        lines = []
    except OSError as error:
        raise SweepError(f"{path}: {error.strerror}: it must be yours to read") from None
    found = dict(line.strip().split("=", 1) for line in lines if "=" in line and not line.lstrip().startswith("#"))
    for name in ("STACK_UID", "STACK_GID"):
        if not found.get(name, "").isdecimal():
            raise SweepError(f"{path}: has no {name}, the user of the containers: run mnist-ablate stack init")
    return found


def _secrets(folder: Path, uid: int) -> None:
    names = [".", *sorted(new_secrets())]
    try:
        found = {name: (folder / name).stat() for name in names if (folder / name).exists()}
    except PermissionError:
        raise SweepError(f"{folder}: belongs to another user: run this as that user, or as root") from None
    if missing := [name for name in names if name not in found]:
        known = "restore them from your copy" if len(found) > 1 else "run mnist-ablate stack init"
        raise SweepError(f"{folder}: no {', '.join(missing) if len(found) > 1 else 'secrets'}: {known}")
    for name, about in found.items():
        path, mode = folder / name, "700" if name == "." else "600"
        if about.st_mode & 0o077:
            raise SweepError(f"{path}: other users can read it: chmod {mode} {path}")
        if about.st_uid != uid:
            words = f"belongs to uid {about.st_uid}, but the containers run as {uid} (STACK_UID in .env)"
            raise SweepError(f"{path}: {words}: chown -R {uid} {folder}")


def _port(folder: Path, port: str) -> str:
    if not port.isdecimal() or not 0 < int(port) < 2**16:
        raise SweepError(f"{folder / '.env'}: MLFLOW_PORT={port}: give a number from 1 to 65535")
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", int(port)))
        except OSError as error:
            if _docker(folder, "compose", "ps", "--status", "running", "-q", "mlflow").stdout.strip():
                return f"{port} (this service's, running)"
            known = "set another MLFLOW_PORT in .env, and in secrets/client.env"
            raise SweepError(f"port {port} on 127.0.0.1: {(error.strerror or 'taken').lower()}: {known}") from None
    return port


def _docker(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [shutil.which("docker") or "docker", *words]
    where = folder if folder.is_dir() else None
    try:
        return subprocess.run(  # noqa: S603 - fixed words
            command,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
            cwd=where,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnreachableError(f"docker: {type(error).__name__}: start Docker, or set DOCKER_HOST") from None
