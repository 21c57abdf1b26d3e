"""What a tracker that is dead, slow or foreign makes the user read, and how fast; the store in the home is whole."""

import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

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
    assert "canary" not in str(caught.value)
    assert caught.value.exit_code == 3
    return str(caught.value)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply(401, b"You are not authenticated."), "refused the credentials (401): set MLFLOW_TRACKING_USERNAME and"),
        (Reply(403, b"Permission denied"), "refused this account (403): is the experiment another account's? Use"),
        (Reply(403, b"Invalid Host header - possible DNS rebinding"), "refused its own host name (403): start it with"),
        (Reply(404, b"<html>nothing here</html>"), "is not an MLflow server (404): set MLFLOW_TRACKING_URI"),
        (Reply(404, b'{"detail": "Not Found"}', JSON), "is not an MLflow server (404)"),
        (Reply(405, b""), "is not an MLflow server (405)"),
        (HTML, "is not an MLflow server (200)"),
        (Reply(200, b'{"status": "ok"}', JSON), "is not an MLflow server (200)"),
        (Reply(200, b'{"experiment": 3}', JSON), "is not an MLflow server (200)"),
        (Reply(200, b""), "is not an MLflow server (200)"),
        (Reply(301, b"", {"Location": "http://127.0.0.1:1/"}), "redirects (301), which is not followed: set MLFLOW_TR"),
        (Reply(503, b"busy"), "answers with an error (503)"),
        (Reply(429, b"", {"Retry-After": "3600"}), "answers with an error (429)"),
        (Reply(500, b'{"error_code": "INTERNAL_ERROR", "message": "x"}', JSON), "answers with an error (500)"),
    ],
)
def test_answer_is_told_in_one_line_and_no_request_is_repeated(reply: Reply, told: str) -> None:
    with running(Stub(reply)) as stub, within(4):
        text = message(stub.uri)
    assert told in text
    assert stub.uri in text
    assert [path.rsplit("/", 1)[-1] for _, path, _ in stub.seen] == ["health", "get-by-name"]
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_dead_server_costs_milliseconds() -> None:
    with within(1):
        assert message(f"http://127.0.0.1:{free_port()}").endswith("does not answer: Connection refused")


@pytest.mark.parametrize("later", [False, True])
def test_server_that_ends_in_the_middle_is_told_in_few_words(monkeypatch: pytest.MonkeyPatch, later: bool) -> None:
    if later:
        monkeypatch.setattr(client, "check_answer", lambda _uri: None)

    def end(server: socket.socket) -> None:
        with suppress(OSError):  # the test has closed it
            while True:
                accepted, _ = server.accept()
                accepted.recv(4096)
                accepted.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        Thread(target=end, args=(server,), daemon=True).start()
        text = message(f"http://127.0.0.1:{server.getsockname()[1]}")
        server.shutdown(socket.SHUT_RDWR)
    assert text.endswith("does not answer: Remote end closed connection without response")


@pytest.mark.parametrize("uri", ["http://no-such-host.invalid:5000", "http://", "http://host:port", "http://[::1"])
def test_address_where_nothing_can_be_is_told(uri: str) -> None:
    assert "does not answer" in message(uri)


@pytest.mark.slow
@pytest.mark.parametrize("later", [False, True])
def test_hung_server_is_given_up_within_five_seconds(monkeypatch: pytest.MonkeyPatch, later: bool) -> None:
    if later:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        monkeypatch.setattr(client, "check_answer", lambda _uri: None)
    with socket.create_server(("127.0.0.1", 0)) as hung, within(5):
        assert message(f"http://127.0.0.1:{hung.getsockname()[1]}").endswith("does not answer: timed out")


def test_credentials_do_not_follow_a_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "someone")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "canary-password")
    with running(Stub(HTML)) as target, running(Stub(Reply(302, b"", {"Location": target.uri + "/x"}))) as stub:
        assert "redirects (302)" in message(stub.uri)
    assert target.seen == []
    assert any("Authorization" in headers for _, _, headers in stub.seen)
    assert "Authorization" not in stub.seen[0][2]  # whether it lives is asked without them


def test_password_of_an_address_is_not_told() -> None:
    with running(Stub(Reply(401))) as stub:
        assert "//someone:***@127.0.0.1" in message(stub.uri.replace("//", "//someone:canary@"))
    assert "Connection refused" in message(f"http://someone:canary@127.0.0.1:{free_port()}")


def test_database_that_is_down_or_none_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database, but long enough to be looked at " * 20)
    with within(5):
        text = message(f"postgresql+psycopg2://me:canary@127.0.0.1:{free_port()}/mlflow")
        assert re.search("cannot be used: .*Connection refused", text)
        assert "cannot be used: file is not a database" in message(f"sqlite:///{tmp_path}/mlflow.db")


def test_links_carry_no_credentials() -> None:
    assert client.public_uri("https://me:secret@host:8443/mlflow/?token=x") == "https://host:8443/mlflow"
    assert client.public_uri("http://[::1]:5000") == "http://[::1]:5000"


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    with running(Stub(Reply(204))) as stub:
        monkeypatch.setenv("http_proxy", stub.uri)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, "")
        yield stub


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_is_asked_directly_and_others_as_the_environment_says(proxy: Stub, host: str) -> None:
    with running(Stub(Reply(401))) as stub:
        assert "refused the credentials (401)" in message(stub.uri.replace("127.0.0.1", host))
    assert (len(stub.seen), proxy.seen) == (2, [])
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
def test_only_this_machine_is_exempt(monkeypatch: pytest.MonkeyPatch, address: str, before: str, after: str) -> None:
    monkeypatch.setenv("no_proxy", before)
    monkeypatch.delenv("NO_PROXY", raising=False)
    for _ in range(2):
        client.opener(address)
    assert os.environ["no_proxy"] == after
