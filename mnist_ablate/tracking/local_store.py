"""The MLflow store kept in the home: where it is, and its creation in one step; no run is written here."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

from mnist_ablate.errors import UnreachableError
from mnist_ablate.processes import locked_file

_PREFIX = "sqlite:///"
_CREATION_TIMEOUT_S = 120.0
_PROGRAM = """
import os, runpy, sys
from mnist_ablate.processes import end_with_parent
end_with_parent()
os.nice(10)
sys.argv = ["mlflow", "db", "upgrade", sys.argv[1]]
runpy.run_module("mlflow", run_name="__main__")
"""
"""Ends with the driver, and leaves the processors to the trials."""


def uri(home: Path) -> str:
    """The address of the store of a home, as MLflow wants it."""
    path = str(home.absolute() / "mlflow.db")
    return _PREFIX + path.replace("%", "%25").replace("?", "%3F")


def database(tracking_uri: str) -> Path | None:
    """The file of an SQLite address, None for any other address."""
    if not tracking_uri.startswith(_PREFIX):
        return None
    return Path(unquote(tracking_uri.removeprefix(_PREFIX).partition("?")[0])).absolute()


def artifact_root(tracking_uri: str) -> Path | None:
    """The folder for plots and reports beside an SQLite store; None where a server chooses it."""
    path = database(tracking_uri)
    return path and path.parent / "mlartifacts"


def create(tracking_uri: str) -> None:
    """Makes the SQLite store unless it is there; any other address is left alone.

    MLflow's migrations take seconds, hold the interpreter lock, and cannot be resumed when killed half-way
    or run by two processes. So another process makes a new file, and a rename puts it in place.

    Raises:
        UnreachableError: the folder cannot be written, or the creation failed.
    """
    path = database(tracking_uri)
    if path is None:
        return
    try:
        with locked_file(path.parent / ".mlflow.lock", wait_s=2 * _CREATION_TIMEOUT_S):
            if not path.exists():
                _create(path)
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "strerror", None) or "its tables could not be made"
        raise UnreachableError(f"the MLflow store {path} cannot be created: {reason}") from None


def _create(path: Path) -> None:
    scratch = path.parent / ".mlflow-new"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    command = [sys.executable, "-c", _PROGRAM, uri(scratch)]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "CRITICAL"}
    timeout_s = _CREATION_TIMEOUT_S
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=timeout_s)  # noqa: S603 - ours
    (scratch / "mlflow.db").rename(path)
    shutil.rmtree(scratch, ignore_errors=True)
