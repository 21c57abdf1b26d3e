"""The web page starts at the right view and leaves nothing behind."""

import io
import signal
import socket
import sqlite3
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import Mock

import pytest
from command import PROGRAM
from mlflow_helpers import ARM, free_port, mirror, outcome, trial
from mlflow_stub import Reply, Stub, running

from mnist_ablate import processes
from mnist_ablate.errors import SweepError, UnreachableError
from mnist_ablate.settings import Settings
from mnist_ablate.tracking import home_store, web_ui

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's tables, SQLAlchemy 2.1

EXPERIMENTS = "/#/experiments?workflowType=machine_learning"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@contextmanager
def page(settings: Settings, port: int) -> Iterator[subprocess.Popen[str]]:
    command = [PROGRAM, "ui", "--no-open", "--home", settings.home, "--port", str(port)]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def processes_on(port: int) -> list[str]:
    commands = [path.read_bytes().replace(b"\0", b" ").decode() for path in Path("/proc").glob("[0-9]*/cmdline")]
    return [command for command in commands if f"--port {port} " in command]


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as reply:
        return bytes(reply.read())


@pytest.mark.service
def test_page_shows_the_sweep(settings: Settings, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "report.md").write_text("supported")
    sender = mirror(settings.embedded_uri)
    sender.outcome(trial(), ARM, outcome(trial()))
    sender.verdicts(("note", "note"), {}, [tmp_path / "report.md"], {})
    with page(settings, port) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == f"normalization: {sender.link}".replace("5000", str(port))
        host = f"http://127.0.0.1:{port}"
        assert b"<html" in get(host)
        parent = next(path.parent.parent.name for path in (tmp_path / "mlartifacts").rglob("report.md"))
        assert get(f"{host}/get-artifact?path=report.md&run_uuid={parent}") == b"supported"
        process.terminate()
        process.wait(10)


@pytest.mark.service
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_page_of_an_empty_home_starts_and_ends_whole(settings: Settings, number: signal.Signals) -> None:
    port = free_port()
    with page(settings, port) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"no sweep yet: http://127.0.0.1:{port}{EXPERIMENTS}\n"
        assert len(processes_on(port)) == 3  # the command, the server, its worker
        process.send_signal(number)
        process.send_signal(number)  # a second one must not cut the clean-up short
        assert process.wait(5) == 128 + number
    assert processes_on(port) == []


def test_port_in_use_and_a_store_that_is_no_database_are_told_before_anything_starts(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SweepError, match=f"port {port} cannot be used .*: choose another with --port"):
            web_ui.serve(settings, port)
    assert list(settings.home.iterdir()) == []
    (settings.home / "mlflow.db").write_text("not a database, but long enough to be looked at " * 20)
    with pytest.raises(UnreachableError, match="cannot be used: file is not a database"):
        web_ui.serve(settings, free_port())


@pytest.mark.parametrize("port", [1, 5060, 6000, 10080])
def test_a_port_that_no_browser_opens_is_refused_in_words(settings: Settings, port: int) -> None:
    with pytest.raises(SweepError, match=f"port {port}: browsers refuse to open a page there: choose another"):
        web_ui.serve(settings, port)


def test_the_page_is_asked_without_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_ui, "_START_TIMEOUT_S", 1.0)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with running(Stub(Reply(200, b"{}"))) as stub:
        assert web_ui._pages(Mock(poll=lambda: None), io.BytesIO(), stub.port) == {
            "no sweep yet": f"{stub.uri}{EXPERIMENTS}"
        }
        with pytest.raises(UnreachableError, match="did not answer within 1 s: last words"):
            web_ui._pages(Mock(poll=lambda: None), io.BytesIO(b"words\nlast words\n"), free_port())


@pytest.mark.service
def test_store_of_another_mlflow_is_told(settings: Settings) -> None:
    before = {number: signal.getsignal(number) for number in processes._CAUGHT}
    home_store.create_store(settings.embedded_uri)
    with sqlite3.connect(settings.home / "mlflow.db") as store:
        store.execute("update alembic_version set version_num = 'ffffffffffff'")
    store.close()
    with pytest.raises(UnreachableError, match=r"MLflow's server did not start: .*out-of-date database schema"):
        web_ui.serve(settings, free_port())
    assert {number: signal.getsignal(number) for number in processes._CAUGHT} == before


def test_server_runs_no_jobs_and_knows_no_other_tracker(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    popen = Mock(side_effect=OSError)
    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    with pytest.raises(OSError), web_ui._server(settings, 5000):  # noqa: PT011 - raised above
        pass
    environment = popen.call_args.kwargs["env"]
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert "MLFLOW_TRACKING_URI" not in environment
