"""A webhook is told how a sweep ended, and never in the way: three seconds and a line at most, no secret in it."""

import json
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from command import Command
from judged_sweep import as_json, judged, with_claim, with_trials
from mlflow_stub import Reply, Stub, running
from sweep_runs import sweep_file

from mnist_ablate.errors import ConflictError
from mnist_ablate.service import webhook

SECRET = "services/T0/hook-canary"
CLAIM: dict[str, Any] = {"name": "c", "statement": "Tanh hurts.", "verdict": "supported", "effect": -0.02}
REPORT = with_trials(with_claim(judged()[0], **CLAIM), planned=6, complete=5, failed=1)
REPORT = REPORT.model_copy(update={"sweep": "small", "claims": REPORT.claims[:1]})


def ended(stub: Stub, link: str = "", exit_code: int = 0) -> str:
    line = webhook.ended(f"{stub.uri}/{SECRET}", REPORT, link, exit_code)
    assert "canary" not in line
    return line


def test_it_tells_counts_verdicts_and_the_page() -> None:
    link = "http://tracker/#/experiments/1"
    with running(Stub(Reply(204))) as stub:
        assert ended(stub, link, 1) == ""
    ((method, path, headers),) = stub.seen
    assert (method, path, headers["Content-Type"]) == ("POST", f"/{SECRET}", "application/json")
    text = f"small: 5 of 6 trials complete, exit code 1\nTanh hurts. supported\n{link}"
    about = {"sweep": "small", "exit_code": 1, "trials": as_json(REPORT)["trials"], "link": link}
    assert json.loads(stub.bodies[0]) == {**about, "verdicts": [CLAIM], "text": text}


def test_an_effect_that_is_unknown_is_null() -> None:
    with running(Stub(Reply(204))) as stub:
        webhook.ended(stub.uri, with_claim(REPORT, effect=float("nan")), "", 0)
    assert json.loads(stub.bodies[0])["verdicts"][0]["effect"] is None


@pytest.mark.parametrize("reply", [Reply(500), Reply(307, headers={"Location": "/stolen"})], ids=["refused", "moved"])
def test_what_is_refused_is_one_line_without_the_path(reply: Reply) -> None:
    with running(Stub(reply)) as stub:
        line = ended(stub)
    assert line == f"MNIST_ABLATE_WEBHOOK http://127.0.0.1/***: answered {reply.status}: no notification was sent"
    assert len(stub.seen) == 1


def test_a_webhook_that_drips_takes_no_longer_than_the_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def drip(server: socket.socket) -> None:
        with server.accept()[0] as connection, suppress(OSError):
            for _ in range(100):
                connection.send(b"H")
                time.sleep(0.1)

    monkeypatch.setattr(webhook, "TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=drip, args=(server,), daemon=True).start()
        started = time.monotonic()
        assert "no answer within" in webhook.post(f"http://127.0.0.1:{server.getsockname()[1]}", {})
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
    text = "small is being run by pid 1"
    with (
        running(Stub(Reply(204))) as stub,
        pytest.raises(ConflictError, match=rf"^{text}$"),
        webhook.failing(stub.uri, "small"),
    ):
        raise ConflictError(text)
    assert json.loads(stub.bodies[0]) == {"text": f"small: {text}", "sweep": "small", "exit_code": 6, "error": text}


@pytest.mark.slow
def test_a_sweep_tells_and_its_exit_code_stays(command: Command, images: Path) -> None:
    sweep_file(command.folder)
    words = ("sweep", "small.yaml", "--data", str(images))
    with running(Stub(Reply(204))) as stub:
        url = f"{stub.uri}/{SECRET}"
        done = command(*words, MNIST_ABLATE_WEBHOOK=url)
    told = json.loads(stub.bodies[0])
    assert (done.code, told["exit_code"]) == (7, 7)  # there is no MLflow
    assert told["verdicts"][0]["verdict"] in {"supported", "inconclusive"}
    again = command(*words, MNIST_ABLATE_WEBHOOK=url)
    assert again.code == 7
    assert "MNIST_ABLATE_WEBHOOK http://127.0.0.1/***: Connection refused: no notification was sent" in again.err
    assert "canary" not in done.err + done.out + again.err + again.out
