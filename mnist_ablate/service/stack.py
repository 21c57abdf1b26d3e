"""Writes what the team's service needs into a folder: its files, its secrets, its user; starts nothing."""

import os
import secrets
import shutil
from functools import partial
from pathlib import Path

from mnist_ablate.errors import SweepError

_COMPOSE = "docker-compose.yml"
_CONTAINER_USER = 10001  # owns the secrets, and runs the containers, when root sets them up
_ADDED = {"mail_password"}
"""Secrets that earlier versions had not: they are written beside the others."""
_PACKAGE = Path(__file__).parents[1]
_S3 = """\
# Only for ARTIFACTS=s3://bucket/path in .env. endpoint_url is for storage that is not Amazon's.
# [default]
# aws_access_key_id = ...
# aws_secret_access_key = ...
# endpoint_url = https://s3.example.com
"""
_CLIENT = """\
export MLFLOW_TRACKING_URI=http://127.0.0.1:5000
export MLFLOW_TRACKING_USERNAME=sweeper
export MLFLOW_TRACKING_PASSWORD={password}
# Files in S3 go through the server. Without this, MLflow's own client asks the storage itself, maybe in vain.
export MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD=false
"""


def init(folder: Path) -> list[Path]:
    """Write what is missing; what is there stays as it is, to the byte. Returns what was written.

    Raises SweepError if the folder holds something else's files, or some of the secrets but not all.
    """
    return [*_write_files(folder), *write_secrets(folder / "secrets"), *_write_user(folder / ".env")]


def new_secrets() -> dict[str, str]:
    """Random secrets by the name of their file, in letters that need no quoting in an address."""
    postgres, mlflow, optuna, admin, session, account = (secrets.token_urlsafe(32) for _ in range(6))
    return {
        "postgres_password": postgres,
        "mlflow_pgpass": f"*:*:*:mlflow:{mlflow}\n",
        "optuna_pgpass": f"*:*:*:optuna:{optuna}\n",
        "mlflow_admin_password": admin,
        "mlflow_session_key": session,
        "mlflow_credentials": f"[mlflow]\nmlflow_tracking_username = sweeper\nmlflow_tracking_password = {account}\n",
        "s3_credentials": _S3,
        "mail_password": "",
        "client.env": _CLIENT.format(password=account),
    }


def write_secrets(folder: Path) -> list[Path]:
    """Secrets, each a file that only its owner reads, unless they are there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_mode & 0o077:
        raise SweepError(f"{folder}: other users can enter it: chmod 700 {folder}, or choose another folder")
    content = new_secrets()
    missing = sorted(name for name in content if not (folder / name).exists())
    if not missing:
        return []
    if {*missing} <= _ADDED:
        content = {name: content[name] for name in missing}
    elif len(missing) < len(content):
        lost = ", ".join(missing)
        raise SweepError(f"{folder}: some secrets are there, but not {lost}: restore them, or start with none")
    written = [folder / name for name in content]
    for path in written:
        path.touch(mode=0o600, exist_ok=False)  # never another's file, never readable by others, not for a moment
        path.write_text(content[path.name], encoding="ascii")
    if os.geteuid() == 0:
        for path in (folder, *written):
            os.chown(path, _CONTAINER_USER, _CONTAINER_USER)
    return written


def _write_user(path: Path) -> list[Path]:
    """Containers run as the owner of the secrets: a secret is a bind mount, which keeps its owner and mode."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if "STACK_UID=" in text:
        return []
    uid, gid = (os.geteuid(), os.getegid()) if os.geteuid() else (_CONTAINER_USER, _CONTAINER_USER)
    gap = "" if not text or text.endswith("\n") else "\n"
    path.write_text(f"{text}{gap}STACK_UID={uid}\nSTACK_GID={gid}\n", encoding="utf-8")
    return [path]


def _write_files(folder: Path) -> list[Path]:
    """The source tree that the images are built from; a checkout is one already."""
    compose = folder / _COMPOSE
    if compose.exists():
        if "name: mnist-ablate" not in compose.read_text(encoding="utf-8", errors="replace").splitlines():
            raise SweepError(f"{compose}: belongs to something else: choose an empty folder")
        return []
    sources = _sources()
    if taken := [name for name in sources if (folder / name).exists()]:
        raise SweepError(f"{folder}: {', '.join(taken)} would be overwritten: choose an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    copy_tree = partial(shutil.copytree, ignore=shutil.ignore_patterns("__pycache__", "deploy", "sweeps"))
    for name, source in sources.items():
        (copy_tree if source.is_dir() else shutil.copyfile)(source, folder / name)
    return [folder / name for name in sources]


def _sources() -> dict[str, Path]:
    """Name in the tree and where it is now: in the package if it is installed, around it in a checkout."""
    installed = (_PACKAGE / "deploy").is_dir()
    around = _PACKAGE / "deploy" if installed else _PACKAGE.parent
    names = (".dockerignore", "LICENSE", "README.md", "constraints.txt", "docker", "pyproject.toml")
    packed = {"mnist_ablate": _PACKAGE, "sweeps": (_PACKAGE if installed else around) / "sweeps"}
    last = {_COMPOSE: around / _COMPOSE}  # it says that the tree is complete
    return {name: around / name for name in names} | packed | last
