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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any

from mnist_ablate.errors import SweepError, UnreachableError, one_line
from mnist_ablate.processes import Interrupted, raising
from mnist_ablate.settings import Settings
from mnist_ablate.tracking import page_view
from mnist_ablate.tracking.client import check_answer, deep_link, opener
from mnist_ablate.tracking.home_store import artifact_root, create_store, folder_to_serve
from mnist_ablate.workloads.workload import default_workload

_HOST = "127.0.0.1"
_START_TIMEOUT_S, _STOP_TIMEOUT_S, _POLL_S = 120.0, 4.0, 0.2
_REFUSED = frozenset({
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109,
    110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530,
    531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190,
    5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
})  # fmt: skip
"""The "bad ports" of the Fetch standard, which no browser opens."""
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


def serve(settings: Settings, port: int, *, open_browser: bool = False, show: Callable[[str], None] = print) -> int:
    """Serves the store of a home until a signal comes; returns 128 + its number, as a shell counts.

    `show` gets a line for each sweep: its name and its page. An empty store is made if there is none.
    Raises SweepError if the port is taken, UnreachableError if the store cannot be opened or the server ends by itself.
    """
    if port in _REFUSED:
        raise SweepError(f"port {port}: browsers refuse to open a page there: choose another with --port")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise SweepError(f"port {port} cannot be used ({error.strerror}): choose another with --port") from None
    create_store(settings.embedded_uri)
    check_answer(settings.embedded_uri)
    try:
        with raising(once=True), _server(settings, port) as (server, log):
            pages = _pages(server, log, port)
            for name, page in pages.items():
                show(f"{name}: {page}")
            if open_browser:
                webbrowser.open(next(iter(pages.values())))
            server.wait()
            raise UnreachableError(f"MLflow's server ended: {_last_line(log)}")
    except Interrupted as stop:
        return stop.exit_code


@contextmanager
def _server(settings: Settings, port: int) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """MLflow's server and its log; a process group of its own, which is ended whole."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", _HOST, "--port", str(port), "--workers", "1"]
    # Relative: MLflow would make a folder of the address as it is spelled, with every % in it.
    command += ["--backend-store-uri", "sqlite:///mlflow.db"]
    store = settings.home.absolute() / "mlflow.db"
    command += ["--default-artifact-root", artifact_root(store)]
    environment = {**os.environ, **_ENVIRONMENT}
    environment.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryFile() as log, folder_to_serve(store) as folder:
        server = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield server, log
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError):
                    os.killpg(server.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    server.wait(_STOP_TIMEOUT_S)


def _pages(server: subprocess.Popen[bytes], log: IO[bytes], port: int) -> dict[str, str]:
    """As soon as the server answers: the page of each sweep by name, the last changed first, else the front page."""
    host = f"http://{_HOST}:{port}"
    query = json.dumps({"max_results": 100, "filter": "tags.sweep LIKE '%'"}).encode()
    address, kind = f"{host}/api/2.0/mlflow/experiments/search", {"Content-Type": "application/json"}
    until = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < until:
        if server.poll() is not None:
            raise UnreachableError(f"MLflow's server did not start: {_last_line(log)}")
        with suppress(OSError):
            request = urllib.request.Request(address, query, kind)  # noqa: S310 - our own server
            with opener(host).open(request, timeout=_START_TIMEOUT_S) as reply:
                found = json.load(reply).get("experiments", [])
            metric = default_workload().main_metric
            pages = {each["name"]: deep_link(host, each["experiment_id"], metric, _view(each)) for each in found}
            return pages or {"no sweep yet": f"{host}/#/experiments?workflowType=machine_learning"}
        time.sleep(_POLL_S)
    raise UnreachableError(f"MLflow's server did not answer within {_START_TIMEOUT_S:.0f} s: {_last_line(log)}")


def _view(experiment: Mapping[str, Any]) -> str:
    """The key of the view of a sweep, empty if its experiment has none."""
    return page_view.KEY if any(tag["key"] == page_view.TAG for tag in experiment.get("tags", ())) else ""


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    return one_line("\n".join(reversed(log.read().decode(errors="replace").splitlines())))
