"""The web page starts at the right view and leaves nothing behind."""

import io
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import Mock

import pytest
from mlflow_helpers import ARM, free_port, mirror, outcome, trial
from mlflow_stub import Reply, Stub, running

from mnist_ablate import processes
from mnist_ablate.errors import SweepError, UnreachableError
from mnist_ablate.tracking import local_store, web_ui

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's tables, SQLAlchemy 2.1
SERVE = """
import sys; from pathlib import Path; from mnist_ablate.tracking import web_ui as ui
sys.exit(ui.serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), show=lambda line: print(line, flush=True)))
"""


@contextmanager
def page(home: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", SERVE, local_store.uri(home), str(home / "mlartifacts"), str(port)]
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def processes_on(port: int) -> list[str]:
    commands = [path.read_bytes().replace(b"\0", b" ").decode() for path in Path("/proc").glob("[0-9]*/cmdline")]
    return [command for command in commands if f"--port {port} " in command]


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as reply:
        return bytes(reply.read())


@pytest.mark.service
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_page_shows_the_sweep_and_ends_whole(tmp_path: Path, number: signal.Signals) -> None:
    uri, port = local_store.uri(tmp_path), free_port()
    (tmp_path / "report.md").write_text("supported")
    sender = mirror(uri)
    sender.outcome(trial(), ARM, outcome(trial()))
    sender.verdicts("note", {}, [tmp_path / "report.md"])
    with page(tmp_path, port) as process:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line == f"normalization: {sender.link}".replace("5000", str(port))
        host = f"http://127.0.0.1:{port}"
        assert b"<html" in get(host)
        assert json.loads(get(f"{host}/api/2.0/mlflow/experiments/get?experiment_id=1"))["experiment"]["tags"]
        parent = next(path.parent.parent.name for path in (tmp_path / "mlartifacts").rglob("report.md"))
        assert get(f"{host}/get-artifact?path=report.md&run_uuid={parent}") == b"supported"
        assert len(processes_on(port)) == 2
        started = time.monotonic()
        process.send_signal(number)
        process.send_signal(number)  # a second one must not cut the clean-up short
        assert process.wait(10) == 128 + number
        assert time.monotonic() - started < 5
    assert processes_on(port) == []


@pytest.mark.service
def test_page_of_an_empty_home_starts_too(tmp_path: Path) -> None:
    port = free_port()
    with page(tmp_path, port) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"no sweep yet: http://127.0.0.1:{port}\n"
        process.terminate()
        process.wait(10)
    assert processes_on(port) == []


def test_port_in_use_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SweepError, match=f"port {port} cannot be used .*: choose another with --port"):
            web_ui.serve(local_store.uri(tmp_path / "home"), tmp_path, port)
    assert not (tmp_path / "home").exists()


def test_the_page_is_asked_without_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_ui, "_START_TIMEOUT_S", 1.0)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    running_server = Mock(poll=lambda: None)
    with running(Stub(Reply(200, b"{}"))) as stub:
        web_ui._wait_for_answer(running_server, io.BytesIO(), stub.port)
        assert web_ui._pages(stub.port) == {"no sweep yet": stub.uri}


@pytest.mark.service
def test_store_of_another_mlflow_is_told(tmp_path: Path) -> None:
    before = {number: signal.getsignal(number) for number in processes._CAUGHT}
    local_store.create(local_store.uri(tmp_path))
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        store.execute("update alembic_version set version_num = 'ffffffffffff'")
    store.close()
    with pytest.raises(UnreachableError, match=r"MLflow's server did not start: .*out-of-date database schema"):
        web_ui.serve(local_store.uri(tmp_path), tmp_path / "mlartifacts", free_port())
    assert {number: signal.getsignal(number) for number in processes._CAUGHT} == before


def test_store_that_is_no_database_is_told_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database, but long enough to be looked at " * 20)
    with pytest.raises(UnreachableError, match="cannot be used: file is not a database"):
        web_ui.serve(local_store.uri(tmp_path), tmp_path / "mlartifacts", free_port())


def test_password_of_the_store_is_no_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[list[str], dict[str, str]]] = []

    def popen(command: list[str], *, env: dict[str, str], **_: object) -> None:
        started.append((command, env))
        raise OSError

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(web_ui, "check_answer", lambda _uri: None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    with pytest.raises(OSError):  # noqa: PT011 - raised above
        web_ui.serve("postgresql+psycopg2://me:canary@db/mlflow", tmp_path, free_port())
    ((command, environment),) = started
    assert "canary" not in " ".join(command)
    assert environment["MLFLOW_BACKEND_STORE_URI"].endswith("me:canary@db/mlflow")
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert "MLFLOW_TRACKING_URI" not in environment
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://elsewhere"
