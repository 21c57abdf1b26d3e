"""The client of a service: it waits for a network that is away, sends no change twice, and tells errors in words."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command import wait_for
from mlflow_helpers import free_port
from queued_sweeps import ended, running, submitted
from sweep_server import SMALL, FixedAccounts, Server, serving

from mnist_ablate.errors import AblateError, ConflictError, SweepError, UnreachableError
from mnist_ablate.service import client as client_module
from mnist_ablate.service.client import ServiceClient, connect
from mnist_ablate.service.queue import put_state

Reply = Callable[[BaseHTTPRequestHandler], None]
KNOWN: dict[str, Any] = {
    "id": "a1",
    "name": "small",
    "owner": "ann",
    "question": "q",
    "state": "running",
    "priority": 0,
    "planned": 6,
    "recorded": 2,
    "exit_code": None,
    "reason": "",
    "link": "",
    "verdicts": {},
}

MINE: dict[str, Any] = {"scientific": {"a": [1, 2]}, "metrics": {"b": {}}, "seeds": 2}


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_PAUSE_S", 0.05)
    monkeypatch.setattr(client_module, "FIRST_WAIT_S", 0.3)
    monkeypatch.setattr(client_module, "WAIT_S", 600.0)
    for name in ("MNIST_ABLATE_SERVICE", "MNIST_ABLATE_SERVICE_USERNAME", "MLFLOW_TRACKING_USERNAME"):
        monkeypatch.delenv(name, raising=False)


def said(content: object, status: int = 200, kind: str = "application/json", **headers: str) -> Reply:
    """An answer, as JSON unless it is bytes."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        handler.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return reply


def dropped(handler: BaseHTTPRequestHandler) -> None:
    """The connection breaks before an answer."""
    handler.close_connection = True


@contextmanager
def stub(*replies: Reply, port: int = 0) -> Iterator[tuple[str, list[BaseHTTPRequestHandler]]]:
    """A server that answers so, one request after the other; its address, and what it was asked."""
    left, seen = iter(replies), list[BaseHTTPRequestHandler]()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.append(self)
            next(left)(self)

        do_GET = do_POST = do_PUT = answer  # noqa: N815 - the base class's names

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def problem(status: int, detail: str, exit_code: int) -> Reply:
    about = {"title": "t", "status": status, "detail": detail, "exit_code": exit_code, "places": []}
    return said(about, status, "application/problem+json")


@pytest.mark.parametrize(
    ("status", "exit_code", "kind"), [(422, 2, SweepError), (409, 6, ConflictError), (403, 3, UnreachableError)]
)
def test_a_problem_is_the_error_of_the_command_line(status: int, exit_code: int, kind: type[AblateError]) -> None:
    told = "small: no such key"
    with stub(problem(status, told, exit_code)) as (url, _), pytest.raises(kind, match=f"^{told}$") as error:
        ServiceClient(url).sweep("a1")
    assert error.value.exit_code == exit_code


def test_what_is_no_service_is_told_apart_from_one_that_is_away() -> None:
    with stub(said(b"<html>", kind="text/html"), said(b"", 404), said(b"", 302, Location="/x")) as (url, _):
        for reason in (r"is not a sweep service \(200\)", r"is not a sweep service \(404\)", r"redirects \(302\)"):
            with pytest.raises(UnreachableError, match=reason):
                ServiceClient(url).sweep("a1")
    with stub(said({"id": 3})) as (url, _), pytest.raises(UnreachableError, match="unknown form"):
        ServiceClient(url).sweep("a1")
    lines: list[str] = []
    with pytest.raises(UnreachableError, match="does not answer: Connection refused"):
        ServiceClient(f"http://127.0.0.1:{free_port()}", lines.append).sweeps()
    assert not lines, "an address that never answered is soon given up"
    for odd in ("sweeps.example.org", "ftp://x", "http://", "http://x:99999"):
        with pytest.raises(SweepError, match="no address of a service"):
            ServiceClient(odd)
    with pytest.raises(SweepError, match="give --service URL, or set MNIST_ABLATE_SERVICE"):
        connect(None)


def test_a_look_is_repeated_while_the_network_is_away_and_a_change_is_sent_once() -> None:
    lines: list[str] = []
    busy = said({"detail": "too many", "exit_code": 2}, 429, Retry_After="0")
    with stub(said(KNOWN), dropped, said(b"", 503), said(KNOWN), busy, said(KNOWN), dropped) as (url, seen):
        client = ServiceClient(url, lines.append)
        for _ in range(2):
            assert client.sweep("a1").name == "small"
        assert client.change("a1", "pause").id == "a1", "a refusal was no change"
        with pytest.raises(UnreachableError, match="does not answer"):
            client.change("a1", "pause")
    assert len(seen) == 7
    assert [line.partition(";")[2] for line in lines[::2]] == [" trying again for 10 minutes"] * 2
    assert lines[1::2] == ["the service answers again"] * 2


def test_a_submission_whose_answer_was_lost_is_sent_again() -> None:
    with stub(said(KNOWN), dropped, said({"sweep": KNOWN, "is_new": False}, 200)) as (url, seen):
        client = ServiceClient(url)
        client.sweep("a1")
        assert client.submit({"name": "small"}) == (client_module.RemoteSweep.model_validate(KNOWN), False)
    assert [each.command for each in seen] == ["GET", "POST", "POST"]


def test_events_go_on_where_a_stream_broke() -> None:
    def part(*numbers: int, end: bool = False) -> Reply:
        about = {"at": "2026-11-29T12:00:00Z"}
        events = [{**about, "number": n, "kind": "message", "data": {"text": str(n)}} for n in numbers]
        events += [{**about, "number": 9, "kind": "state", "data": {"state": "done"}}] if end else []
        text = "".join(f"id: {each['number']}\nevent: {each['kind']}\ndata: {json.dumps(each)}\n\n" for each in events)
        return said(f": alive\n\n{text}".encode(), kind="text/event-stream")

    with stub(part(1, 2), said(KNOWN), dropped, part(5), said(KNOWN), part(7, end=True)) as (url, seen):
        found = [each.number for each in ServiceClient(url).events("a1")]
    assert found == [1, 2, 5, 7, 9]
    asked = [each.headers["Last-Event-ID"] for each in seen if each.path.endswith("/events")]
    assert asked == ["0", "2", "2", "5"]


@pytest.mark.parametrize(
    ("address", "environment", "sent"),
    [
        ("http://ann:p%40ss@HOST", {"MLFLOW_TRACKING_USERNAME": "other"}, "ann:p@ss"),
        ("http://HOST", {"MLFLOW_TRACKING_USERNAME": "bo", "MLFLOW_TRACKING_PASSWORD": "b"}, "bo:b"),
        ("http://HOST", {"MNIST_ABLATE_SERVICE_USERNAME": "cy", "MNIST_ABLATE_SERVICE_PASSWORD": "c"}, "cy:c"),
        ("http://HOST", {}, None),
    ],
)
def test_the_account_is_that_of_the_address_or_the_environment(
    address: str, environment: dict[str, str], sent: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from base64 import b64decode

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with stub(said(KNOWN)) as (url, seen):
        client = ServiceClient(address.replace("HOST", url.removeprefix("http://")))
        client.sweep("a1")
    assert "@" not in client.page("a1")
    words = seen[0].headers["Authorization"]
    assert (words and b64decode(words.removeprefix("Basic ")).decode()) == sent


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("home"), FixedAccounts(ann="submitter", ben="submitter")) as made:
        yield made


def of_ann(server: Server) -> ServiceClient:
    return ServiceClient(server.url.replace("//", "//ann:annann@"))


def test_a_real_service_is_understood(server: Server) -> None:
    client = of_ann(server)
    sweep, is_new = client.submit({"name": "real", "file": SMALL, "set": ["fixed.epochs=1"], "seeds": 3})
    assert (sweep.name, sweep.owner, sweep.state, sweep.planned, is_new) == ("real", "ann", "waiting", 6, True)
    assert client.submit({"name": "real", "file": SMALL, "set": ["fixed.epochs=1"], "seeds": 3}) == (sweep, False)
    assert client.sweep("real") == client.sweep(sweep.id) == sweep
    assert sweep in client.sweeps(owner="ann", state="waiting")
    assert client.prioritize(sweep.id, 4).priority == 4
    assert client.change(sweep.id, "pause").state == "paused"
    assert client.change(sweep.id, "cancel").is_over
    with pytest.raises(ConflictError, match="is cancelled already"):
        client.change(sweep.id, "cancel")
    with pytest.raises(SweepError, match=r"real\.yaml:4:1: sedes: unknown key"):
        client.submit({"name": "real", "file": SMALL.replace("seeds", "sedes")})
    with pytest.raises(UnreachableError, match="no such account"):
        ServiceClient(server.url.replace("//", "//ann:wrong@")).sweeps()


@pytest.mark.slow
def test_python_submits_waits_and_has_the_report(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweep_runs import small

    import mnist_ablate as ma

    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///{tmp_path}/elsewhere.db")
    service = ma.connect(server.url.replace("//", "//ann:annann@"))
    found = service.submit(small(name="from-python"))
    assert found.status.state == "waiting"
    with pytest.raises(SweepError, match="no trial is recorded yet"):
        _ = found.report
    waiting = server.service.submission(found.id)
    running(server.service.queue, waiting, "a line")
    monkeypatch.delenv("OPTUNA_STORAGE")
    ended(server.service, waiting)
    report = found.wait()
    assert [*report.claims["name"]] == ["tanh-hurts"]
    assert len(report.trials) == 6
    assert report.save(tmp_path / "report.zip").exists()
    assert "a line" in capsys.readouterr().err
    again = service.sweep("from-python")
    assert repr(again).startswith("from-python: done, 6 of 6 trials: http")
    with pytest.raises(SweepError, match="runs only its own code"):
        service.submit(ma.Sweep("mine", "q", train=lambda seed, a=1: {"b": seed + a}, **MINE))
    other = service.submit(small(name="not-for-long"))
    other.cancel()
    with pytest.raises(AblateError, match="not-for-long: cancelled"):
        other.wait(progress=False)
    assert other.id in {each.id for each in service.sweeps(state="cancelled")}
    assert "OPTUNA_STORAGE" not in os.environ


def test_a_notebook_shows_a_sweep_of_a_service_live(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    import mnist_ablate as ma

    shown: list[dict[str, str]] = []

    def display(content: dict[str, str], **_options: bool) -> SimpleNamespace:
        shown.append(content)
        return SimpleNamespace(update=lambda again, **_options: shown.append(again))

    monkeypatch.setattr("IPython.display.display", display)
    sweep = submitted(server.service.queue, name="in-a-notebook")
    ma.connect(server.url.replace("//", "//ann:annann@")).sweep("in-a-notebook")._ipython_display_()
    assert "in-a-notebook: waiting, 0 of 6 trials" in shown[-1]["text/html"], "the cell ends at once"
    running(server.service.queue, sweep, "a worker <joined>")
    wait_for(lambda: "2 of 6 trials, 1 running" in shown[-1]["text/html"])
    with server.service.queue.writing() as connection:
        put_state(connection, sweep.id, "cancelled", "cancelled by ben")
    wait_for(lambda: "<div>cancelled by ben</div>" in shown[-1]["text/html"])
    assert "<div>a worker &lt;joined&gt;</div>" in shown[-1]["text/html"]
    wait_for(lambda: not any(each.name == "show-sweep" for each in threading.enumerate()))
