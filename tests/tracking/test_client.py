"""What a tracker that is dead, slow, foreign or locked makes the user read, and how fast; no proxy for this machine."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_helpers import free_port, mirror
from mlflow_stub import Reply, Stub, running

from mnist_ablate.errors import UnreachableError
from mnist_ablate.tracking import client

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's tables, SQLAlchemy 2.1
HTML = Reply(200, b"<html>hello</html>", {"Content-Type": "text/html"})
JSON = {"Content-Type": "application/json"}


def message(uri: str) -> str:
    with pytest.raises(UnreachableError) as caught:
        mirror(uri).open()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3
    return str(caught.value)


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply(401, b"You are not authenticated."), "refused the credentials (401): set MLFLOW_TRACKING_USERNAME and"),
        (Reply(403, b"Permission denied"), "refused the credentials (403): set MLFLOW_TRACKING_USERNAME and"),
        (Reply(403, b"Invalid Host header - possible DNS rebinding"), "refused its own host name (403): start it with"),
        (Reply(404, b"<html>nothing here</html>"), "is not an MLflow server (404): set MLFLOW_TRACKING_URI"),
        (Reply(404, b'{"detail": "Not Found"}', JSON), "is not an MLflow server (404)"),
        (Reply(405, b""), "is not an MLflow server (405)"),
        (HTML, "is not an MLflow server (200)"),
        (Reply(200, b'{"status": "ok"}', JSON), "is not an MLflow server (200)"),
        (Reply(200, b'{"experiment": 3}', JSON), "is not an MLflow server (200)"),
        (Reply(200, b""), "is not an MLflow server (200)"),
        (
            Reply(301, b"", {"Location": "http://127.0.0.1:1/"}),
            "redirects (301), which is not followed: set MLFLOW_TRACK",
        ),
        (Reply(503, b"busy"), "answers with an error (503)"),
        (Reply(429, b"", {"Retry-After": "3600"}), "answers with an error (429)"),
        (Reply(500, b'{"error_code": "INTERNAL_ERROR", "message": "x"}', JSON), "answers with an error (500)"),
    ],
)
def test_answer_is_told_in_one_line(reply: Reply, told: str) -> None:
    with running(Stub(reply)) as stub:
        started = time.monotonic()
        text = message(stub.uri)
    assert told in text
    assert stub.uri in text
    assert time.monotonic() - started < 4


def test_dead_server_costs_milliseconds() -> None:
    started = time.monotonic()
    text = message(f"http://127.0.0.1:{free_port()}")
    assert text.endswith("does not answer: Connection refused")
    assert time.monotonic() - started < 1


def test_unknown_host_is_told() -> None:
    assert "does not answer" in message("http://no-such-host.invalid:5000")


@pytest.mark.parametrize("uri", ["http://", "http://host:port", "http://[::1"])
def test_address_that_is_none_is_told(uri: str) -> None:
    assert "does not answer" in message(uri)


@pytest.mark.slow
def test_hung_server_is_given_up_within_five_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hung:
        started = time.monotonic()
        text = message(f"http://127.0.0.1:{hung.getsockname()[1]}")
    assert text.endswith("does not answer: timed out")
    assert time.monotonic() - started < 5


@pytest.mark.slow
def test_server_that_hangs_later_is_given_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr(client, "check_answer", lambda _uri: None)
    with socket.create_server(("127.0.0.1", 0)) as hung:
        assert message(f"http://127.0.0.1:{hung.getsockname()[1]}").endswith("does not answer: timed out")


def test_credentials_do_not_follow_a_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "someone")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "canary-password")
    with running(Stub(HTML)) as target, running(Stub(Reply(302, b"", {"Location": target.uri + "/x"}))) as stub:
        assert "redirects (302)" in message(stub.uri)
    assert target.seen == []
    assert any("Authorization" in headers for _, _, headers in stub.seen)
    assert "Authorization" not in stub.seen[0][2]  # whether it lives is asked without them


def test_a_local_server_is_asked_without_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    with running(Stub(Reply(401))) as stub, running(Stub(Reply(502))) as proxy:
        monkeypatch.setenv("http_proxy", proxy.uri)
        assert "refused the credentials (401)" in message(stub.uri)
    assert [path.rsplit("/", 1)[-1] for _, path, _ in stub.seen] == ["health", "get-by-name"]
    assert proxy.seen == []


def test_password_of_an_address_is_not_told() -> None:
    with running(Stub(Reply(401))) as stub:
        address = stub.uri.replace("//", "//someone:canary@")
        text = message(address)
    assert "canary" not in text
    assert "//someone:***@127.0.0.1" in text
    dead = message(f"http://someone:canary@127.0.0.1:{free_port()}")
    assert "canary" not in dead
    assert "Connection refused" in dead


def test_database_that_is_down_is_told_at_once() -> None:
    started = time.monotonic()
    text = message(f"postgresql+psycopg2://me:canary@127.0.0.1:{free_port()}/mlflow")
    assert "cannot be used: " in text
    assert "Connection refused" in text
    assert "canary" not in text
    assert time.monotonic() - started < 5


def test_store_that_is_no_database_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database, but long enough to be looked at " * 20)
    started = time.monotonic()
    assert "file is not a database" in message(f"sqlite:///{tmp_path}/mlflow.db")
    assert time.monotonic() - started < 5


def test_links_carry_no_credentials() -> None:
    assert client.public_uri("https://me:secret@host:8443/mlflow/?token=x") == "https://host:8443/mlflow"
    assert client.public_uri("http://[::1]:5000") == "http://[::1]:5000"


def test_mlflow_never_repeats_a_request_by_itself() -> None:
    with running(Stub(Reply(503))) as stub:
        message(stub.uri)
    assert [path.rsplit("/", 1)[-1] for _, path, _ in stub.seen] == ["health", "get-by-name"]
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    with running(Stub(Reply(204))) as stub:
        monkeypatch.setenv("http_proxy", stub.uri)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, "")
        yield stub


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_is_asked_directly(proxy: Stub, host: str) -> None:
    with running(Stub(Reply(200))) as stub:
        address = stub.uri.replace("127.0.0.1", host)
        assert client.opener(address).open(address, timeout=5).status == 200
    assert (len(stub.seen), proxy.seen) == (1, [])


def test_others_are_asked_as_the_environment_says(proxy: Stub) -> None:
    assert client.opener("http://tracker.invalid").open("http://tracker.invalid/x", timeout=5).status == 204
    assert len(proxy.seen) == 1


@pytest.mark.parametrize(
    ("address", "before", "after"),
    [
        ("http://127.0.0.1:5000", "", "127.0.0.1"),
        ("http://localhost", ".example.org, localhost", ".example.org, localhost"),
        ("http://[::1]:5000", ".example.org, db", ".example.org,db,::1"),
        ("http://localhost", "*", "*"),
        ("http://10.0.0.1", "", ""),
    ],
)
def test_only_this_machine_becomes_exempt_and_once(
    monkeypatch: pytest.MonkeyPatch, address: str, before: str, after: str
) -> None:
    monkeypatch.setenv("no_proxy", before)
    monkeypatch.delenv("NO_PROXY", raising=False)
    for _ in range(2):
        client.exempt_from_proxies(address)
    assert os.environ["no_proxy"] == after
