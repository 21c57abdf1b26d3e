"""The MLflow store in a home: made once, and at home again wherever the home was moved. Knows no run and no sweep."""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

from mnist_ablate.errors import UnreachableError
from mnist_ablate.processes import locked_file, whole_file
from mnist_ablate.settings import user_cache

ARTIFACTS = "mlartifacts"
_PREFIX = "sqlite:///"
_CREATION_TIMEOUT_S = 600.0
_PROGRAM = """# ends with whoever waits for it
import ctypes, runpy, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG
sys.argv = ["mlflow", "db", "upgrade", "sqlite:///mlflow.db"]
runpy.run_module("mlflow", run_name="__main__")
"""
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""The columns in which MLflow keeps absolute addresses of artifacts."""


def database(tracking_uri: str) -> Path | None:
    """The file of an SQLite address, None for any other address."""
    path = unquote(tracking_uri.removeprefix(_PREFIX).partition("?")[0])
    return Path(path).absolute() if tracking_uri.startswith(_PREFIX) else None


def artifact_root(path: Path) -> str:
    """The address of the artifacts of a store, which lie beside it."""
    return (path.parent / ARTIFACTS).as_uri()


def create_store(tracking_uri: str) -> None:
    """Makes the SQLite store unless it is there, and brings its addresses home; any other address is left alone.

    MLflow's migrations take seconds, hold the interpreter lock, and cannot be resumed when killed half-way
    or run by two processes. So another process makes a new file, and a rename puts it in place.
    Raises UnreachableError if the folder cannot be written, or the creation failed.
    """
    path = database(tracking_uri)
    if path is None or (path.exists() and not os.access(path, os.W_OK)):
        return
    try:
        with locked_file(path.parent / ".mlflow.lock", wait_s=2 * _CREATION_TIMEOUT_S):
            if not path.exists():
                _creating.set()
                _create(path)
            _bring_home(path, artifact_root(path))
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "strerror", None) or "its tables could not be made"
        raise UnreachableError(f"the MLflow store {path} cannot be created: {reason}") from None
    finally:
        _creating.clear()


_creating = threading.Event()


def is_creating() -> bool:
    """Whether this process waits for a store that is being made: by a time limit of its own, which is enough."""
    return _creating.is_set()


def _create(path: Path) -> None:
    """A copy of the template for the migrations that are installed; without one, they run and it is kept for later."""
    scratch, prefix = path.parent / ".mlflow-new", f"mlflow-{_migrations()}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    made = scratch / "mlflow.db"
    templates = user_cache() / "stores"
    for template in templates.glob(f"{prefix}-*.db"):
        shutil.copyfile(template, made)
        if template.stem == f"{prefix}-{_digest(made)}":
            break
        made.unlink()  # it was damaged
    else:
        _migrate(scratch)
        with suppress(OSError):  # there is no place for it: the next store takes as long
            templates.mkdir(parents=True, exist_ok=True)
            with whole_file(templates / f"{prefix}-{_digest(made)}.db") as template:
                shutil.copyfile(made, template)
    made.rename(path)
    shutil.rmtree(scratch, ignore_errors=True)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _migrations() -> str:
    """The version of MLflow, and a digest of the names of the migrations that are installed."""
    spec = find_spec("mlflow")
    folder = Path(spec.origin or "").parent / "store" / "db_migrations" / "versions" if spec else Path()
    names = sorted(each.name for each in folder.glob("*.py"))
    return f"{version('mlflow')}-{hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16]}"


def _migrate(scratch: Path) -> None:
    # MLflow makes the folder of a database as its address spells it, with every % in it. A relative one has none.
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "CRITICAL"}
    command = [sys.executable, "-c", _PROGRAM]
    subprocess.run(  # noqa: S603 - ours
        command, cwd=scratch, env=environment, check=True, capture_output=True, timeout=_CREATION_TIMEOUT_S
    )


@contextmanager
def folder_to_serve(path: Path) -> Iterator[Path]:
    """The folder of a store that can be written, else a folder with a copy whose addresses are those of now."""
    if not path.exists() or os.access(path, os.W_OK):
        yield path.parent
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copyfile(path, Path(folder) / path.name))
        _bring_home(copy, artifact_root(path))
        yield copy.parent


def _bring_home(path: Path, root: str) -> None:
    """After a home was renamed or copied: addresses of the artifacts where it was become those where it is.

    MLflow's own default experiment keeps its artifacts wherever the program was started. It gets a place in the home,
    and is deleted while it is empty: it stands for nothing here, and MLflow can restore it.
    """
    with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(path, timeout=30)) as connection, connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "experiments" not in tables:
            return
        stray = "artifact_location LIKE '%/mlruns/0' AND experiment_id NOT IN (SELECT experiment_id FROM runs)"
        connection.execute(f"UPDATE experiments SET artifact_location = ? WHERE {stray}", (f"{root}/0",))  # noqa: S608
        empty = "experiment_id = 0 AND name = 'Default' AND experiment_id NOT IN (SELECT experiment_id FROM runs)"
        connection.execute(f"UPDATE experiments SET lifecycle_stage = 'deleted' WHERE {empty}")  # noqa: S608
        for old in _old_roots(connection, root):
            for table, column in _ADDRESSES:
                if table in tables:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?)"  # noqa: S608 - names of our own
                        f" WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                        (root, len(old) + 1, old, len(old) + 1, f"{old}/"),
                    )


def _old_roots(connection: sqlite3.Connection, root: str) -> list[str]:
    """Where the artifacts of experiments are said to be, other than beside the store."""
    query = "SELECT DISTINCT artifact_location FROM experiments WHERE artifact_location LIKE ?"
    found = (address for (address,) in connection.execute(query, (f"%/{ARTIFACTS}",)))
    return [address for address in found if address != root]


@contextmanager
def without_stray_folders(tracking_uri: str) -> Iterator[bool]:
    """Removes the folder that MLflow makes for a path with % or ? in it: as the address spells it. Says if it may."""
    path = database(tracking_uri)
    spelled = Path(tracking_uri.removeprefix(_PREFIX)).parent
    if path is None or spelled == path.parent:
        yield False
        return
    missing = [folder for folder in (spelled, *spelled.parents) if not folder.exists()]
    try:
        yield True
    finally:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
