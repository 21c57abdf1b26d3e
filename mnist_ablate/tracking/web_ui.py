"""MLflow's web page on a store, at the right view; runs until a signal comes and leaves no process behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from mnist_ablate.errors import SweepError, UnreachableError, one_line
from mnist_ablate.processes import Interrupted, raising
from mnist_ablate.tracking import local_store
from mnist_ablate.tracking.client import check_answer, deep_link, opener

HOST = "127.0.0.1"
_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 4.0
_POLL_S = 0.2
_ENVIRONMENT = {
    # Eight job consumers would take 1.5 GB and 12 seconds, for language models.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # MLflow's own list lets in any name that begins with 10. or 192.168.
    "MLFLOW_SERVER_ALLOWED_HOSTS": "localhost:*,127.0.0.1:*",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_UVICORN_OPTS": "--log-level warning",
}


def serve(
    tracking_db_uri: str,
    artifact_root: Path,
    port: int = 5000,
    *,
    open_browser: bool = False,
    show: Callable[[str], None] = print,
) -> int:
    """Serves the store until a signal comes; returns 128 + its number, as a shell counts.

    `show` gets a line for each sweep: its name and its page. An empty store is made if there is none.

    Raises:
        SweepError: the port is taken.
        UnreachableError: the store cannot be opened, or the server ended by itself.
    """
    _check_free(port)
    local_store.create(tracking_db_uri)
    check_answer(tracking_db_uri)
    try:
        with raising(once=True), _server(tracking_db_uri, artifact_root, port) as (server, log):
            _wait_for_answer(server, log, port)
            pages = _pages(port)
            for name, page in pages.items():
                show(f"{name}: {page}")
            if open_browser:
                webbrowser.open(next(iter(pages.values())))
            server.wait()
            raise UnreachableError(f"MLflow's server ended: {_last_line(log)}")
    except Interrupted as stop:
        return stop.exit_code


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise SweepError(f"port {port} cannot be used ({error.strerror}): choose another with --port") from None


@contextmanager
def _server(
    tracking_db_uri: str, artifact_root: Path, port: int
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """MLflow's server and its log; a process group of its own, which is ended whole."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    # The address of the store may hold a password: `ps` shows arguments to everybody.
    stores = {"MLFLOW_BACKEND_STORE_URI": tracking_db_uri, "MLFLOW_DEFAULT_ARTIFACT_ROOT": artifact_root.as_uri()}
    environment = {**os.environ, **_ENVIRONMENT, **stores}
    environment.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield server, log
        finally:
            _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        server.wait(_STOP_TIMEOUT_S)
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def _wait_for_answer(server: subprocess.Popen[bytes], log: IO[bytes], port: int) -> None:
    until = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < until:
        if server.poll() is not None:
            raise UnreachableError(f"MLflow's server did not start: {_last_line(log)}")
        with suppress(OSError):
            host = f"http://{HOST}:{port}"
            opener(host).open(f"{host}/health", timeout=_START_TIMEOUT_S).close()
            return
        time.sleep(_POLL_S)
    raise UnreachableError(f"MLflow's server did not answer within {_START_TIMEOUT_S:.0f} s: {_last_line(log)}")


def _pages(port: int) -> dict[str, str]:
    """The page of each sweep by name, the last changed first; the front page if there is none."""
    host = f"http://{HOST}:{port}"
    query = json.dumps({"max_results": 100, "filter": "tags.sweep LIKE '%'"}).encode()
    request = urllib.request.Request(  # noqa: S310 - our own server
        f"{host}/api/2.0/mlflow/experiments/search", query, {"Content-Type": "application/json"}
    )
    with opener(host).open(request, timeout=_START_TIMEOUT_S) as reply:
        found = json.load(reply).get("experiments", [])
    return {each["name"]: deep_link(host, each["experiment_id"]) for each in found} or {"no sweep yet": host}


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").split("\n")
    return one_line("\n".join(reversed(lines)))
