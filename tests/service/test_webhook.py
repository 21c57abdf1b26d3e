"""A webhook is told how a sweep ended, and never in the way: three seconds and a line at most, no secret in it."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from command import Command
from judged_sweep import as_json, judged, with_claim, with_trials
from sweep_runs import sweep_file

from mnist_ablate.errors import ConflictError, mask
from mnist_ablate.service import webhook

SECRET = "services/T0/hook-canary"
REPORT = with_trials(
    with_claim(judged()[0], name="c", statement="Tanh hurts.", verdict="supported", effect=-0.02),
    planned=6,
    complete=5,
    failed=1,
)
REPORT = REPORT.model_copy(update={"sweep": "small", "claims": REPORT.claims[:1]})
DOCUMENT = as_json(REPORT)


@contextmanager
def hook(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[tuple[str, list[Any]]]:
    """The address of a server that notes what it is sent."""
    taken: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            taken.append((self.path, self.headers["Content-Type"], json.loads(content)))
            answer(self)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/{SECRET}", taken
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def accept(request: BaseHTTPRequestHandler) -> None:
    request.send_response(204)
    request.end_headers()


def refuse(request: BaseHTTPRequestHandler) -> None:
    request.send_response(500)
    request.end_headers()


def elsewhere(request: BaseHTTPRequestHandler) -> None:
    request.send_response(307)
    request.send_header("Location", request.path + "/stolen")
    request.end_headers()


def drip(request: BaseHTTPRequestHandler) -> None:
    with suppress(OSError):
        for _ in range(100):
            request.wfile.write(b"H")
            time.sleep(0.1)


def test_it_tells_counts_verdicts_and_the_page() -> None:
    with hook(accept) as (url, taken):
        assert webhook.ended(url, REPORT, "http://tracker/#/experiments/1", 1) == ""
    ((path, kind, content),) = taken
    assert (path, kind) == (f"/{SECRET}", "application/json")
    claim = {"name": "c", "statement": "Tanh hurts.", "verdict": "supported", "effect": -0.02}
    link = "http://tracker/#/experiments/1"
    text = f"small: 5 of 6 trials complete, exit code 1\nTanh hurts. supported\n{link}"
    about = {"sweep": "small", "exit_code": 1, "trials": DOCUMENT["trials"], "link": link}
    assert content == {**about, "verdicts": [claim], "text": text}


@pytest.mark.parametrize(("answer", "told"), [(refuse, "answered 500"), (elsewhere, "answered 307")])
def test_what_is_refused_is_one_line_without_the_path(answer: Any, told: str) -> None:
    with hook(answer) as (url, taken):
        line = webhook.ended(url, REPORT, "", 0)
    assert line.endswith(f"{told}: no notification was sent")
    assert line.startswith("MNIST_ABLATE_WEBHOOK http://127.0.0.1/***: ")
    assert "canary" not in line
    assert len(taken) == 1


def test_a_webhook_that_drips_takes_no_longer_than_the_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT_S", 0.3)
    with hook(drip) as (url, _):
        started = time.monotonic()
        assert "no answer within" in webhook.ended(url, REPORT, "", 0)
        assert time.monotonic() - started < 3  # it drips for ten seconds


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"http://user:pw-canary@127.0.0.1:9/{SECRET}", "http://127.0.0.1/***: "),
        (f"http://nowhere.invalid/{SECRET}", "http://nowhere.invalid/***: "),
        (f"file:///etc/{SECRET}", "is not an http(s) URL"),
        (SECRET, "is not an http(s) URL"),
        (f"http://[{SECRET}", "is not an http(s) URL"),
        (f"http://127.0.0.1:port/{SECRET}", "no notification was sent"),
    ],
)
def test_an_address_that_nobody_answers_is_one_line(url: str, told: str) -> None:
    line = webhook.post(url, {})
    assert told in line
    assert "canary" not in line
    assert "\n" not in line


def test_an_error_that_ends_a_sweep_is_told_and_goes_on_up() -> None:
    with hook(accept) as (url, taken), pytest.raises(ConflictError, match=r"^small is being run"):  # noqa: SIM117
        with webhook.failing(url, "small"):
            raise ConflictError("small is being run by pid 1")
    assert taken[0][2] == {
        "text": "small: small is being run by pid 1",
        "sweep": "small",
        "exit_code": 6,
        "error": "small is being run by pid 1",
    }


def test_the_address_is_masked_wherever_it_shows_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_ABLATE_WEBHOOK", f"https://hooks.example/{SECRET}")
    assert mask(f"error at https://hooks.example/{SECRET}") == "error at ***"


@pytest.mark.slow
def test_a_sweep_tells_and_its_exit_code_stays(command: Command, images: Path) -> None:
    sweep_file(command.folder)
    words = ("sweep", "small.yaml", "--data", str(images))
    with hook(accept) as (url, taken):
        done = command(*words, MNIST_ABLATE_WEBHOOK=url)
    assert done.code == 7  # there is no MLflow
    assert taken[0][2]["verdicts"][0]["verdict"] in {"supported", "inconclusive"}
    assert taken[0][2]["exit_code"] == 7
    again = command(*words, MNIST_ABLATE_WEBHOOK=url)
    assert again.code == 7
    assert "MNIST_ABLATE_WEBHOOK http://127.0.0.1/***: Connection refused: no notification was sent" in again.err
    assert "canary" not in done.err + done.out + again.err + again.out
