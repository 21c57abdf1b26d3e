"""Writes what the team's service needs into a folder: its files, its secrets, its user; starts nothing."""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from mnist_ablate.errors import SweepError

COMPOSE = "docker-compose.yml"
SECRETS = "secrets"
ACCOUNT = "sweeper"
CONTAINER_USER = 10001
"""Who owns the secrets, and runs the containers, when root sets them up."""
_PACKAGE = Path(__file__).parents[1]
_NAME = "name: mnist-ablate"
_BYTES = 32
_PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600
_S3 = """\
# Only for ARTIFACTS=s3://bucket/path in .env. endpoint_url is for storage that is not Amazon's.
# [default]
# aws_access_key_id = ...
# aws_secret_access_key = ...
# endpoint_url = https://s3.example.com
"""
_CLIENT = """\
export MLFLOW_TRACKING_URI=http://127.0.0.1:5000
export MLFLOW_TRACKING_USERNAME={account}
export MLFLOW_TRACKING_PASSWORD={password}
"""


def init(folder: Path) -> list[Path]:
    """Write what is missing; what is there stays as it is, to the byte. Returns what was written.

    Raises SweepError if the folder holds something else's files, or some of the secrets but not all.
    """
    written = [*_files(folder), *write_secrets(folder / SECRETS)]
    return [*written, *_user(folder / ".env")]


def write_secrets(folder: Path) -> list[Path]:
    """Random secrets, each a file that only its owner reads, in letters that need no quoting in an address."""
    folder.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
    _check_private(folder)
    names = list(_CONTENT)
    there = [name for name in names if (folder / name).exists()]
    if there and len(there) < len(names):
        missing = ", ".join(sorted(set(names) - set(there)))
        raise SweepError(f"{folder}: some secrets are there, but not {missing}: restore them, or start with none")
    password = _word()
    written = [] if there else [_private(folder / name, make(password)) for name, make in _CONTENT.items()]
    if written and os.geteuid() == 0:
        for path in (folder, *written):
            os.chown(path, CONTAINER_USER, CONTAINER_USER)
    return written


def _word() -> str:
    return secrets.token_urlsafe(_BYTES)


_CONTENT: dict[str, Callable[[str], str]] = {
    "postgres_password": lambda _: _word(),
    "mlflow_pgpass": lambda _: f"*:*:*:mlflow:{_word()}\n",
    "optuna_pgpass": lambda _: f"*:*:*:optuna:{_word()}\n",
    "mlflow_admin_password": lambda _: _word(),
    "mlflow_session_key": lambda _: _word(),
    "mlflow_credentials": lambda password: (
        f"[mlflow]\nmlflow_tracking_username = {ACCOUNT}\nmlflow_tracking_password = {password}\n"
    ),
    "s3_credentials": lambda _: _S3,
    "client.env": lambda password: _CLIENT.format(account=ACCOUNT, password=password),
}


def _private(path: Path, text: str) -> Path:
    """Never another's file, and never readable by others, not for a moment."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
    return path


def _check_private(folder: Path) -> None:
    if folder.is_symlink() or folder.stat().st_mode & 0o077:
        raise SweepError(f"{folder}: other users can enter it: chmod 700 {folder}, or choose another folder")


def _user(path: Path) -> list[Path]:
    """Containers run as the owner of the secrets: a secret is a bind mount, which keeps its owner and mode."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if "STACK_UID=" in text:
        return []
    uid, gid = (os.geteuid(), os.getegid()) if os.geteuid() else (CONTAINER_USER, CONTAINER_USER)
    gap = "" if not text or text.endswith("\n") else "\n"
    path.write_text(f"{text}{gap}STACK_UID={uid}\nSTACK_GID={gid}\n", encoding="utf-8")
    return [path]


def _files(folder: Path) -> list[Path]:
    """The source tree that the images are built from; a checkout is one already."""
    if (folder / COMPOSE).exists():
        _check_ours(folder / COMPOSE)
        return []
    sources = dict(_sources())
    taken = [name for name in sources if (folder / name).exists()]
    if taken:
        raise SweepError(f"{folder}: {', '.join(taken)} would be overwritten: choose an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    skip = shutil.ignore_patterns("__pycache__", "deploy", "sweeps")
    for name, source in sources.items():
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=skip)
        else:
            shutil.copyfile(source, folder / name)
    return [folder / name for name in sources]


def _check_ours(path: Path) -> None:
    if _NAME not in path.read_text(encoding="utf-8", errors="replace").splitlines():
        raise SweepError(f"{path}: belongs to something else: choose an empty folder")


def _installed() -> bool:
    return (_PACKAGE / "deploy").is_dir()


def _sources() -> Iterator[tuple[str, Path]]:
    """Name in the tree and where it is now: in the package if it is installed, around it in a checkout."""
    deploy = _PACKAGE / "deploy" if _installed() else _PACKAGE.parent
    for name in (".dockerignore", "LICENSE", "README.md", "constraints.txt", "docker", "pyproject.toml"):
        yield name, deploy / name
    yield "mnist_ablate", _PACKAGE
    yield "sweeps", _PACKAGE / "sweeps" if _installed() else _PACKAGE.parent / "sweeps"
    yield COMPOSE, deploy / COMPOSE  # last: it says that the tree is complete
