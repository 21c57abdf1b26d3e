"""The command `serve`: what it refuses to start with, and one process tree that ends whole."""

import json
import logging
import signal
import socket
import urllib.request
from pathlib import Path
from typing import Any

import certificates
import pytest
from command import Command, base_environment, fake_trainer_environment, left_running, wait_for
from mlflow_helpers import free_port
from sweep_server import SMALL
from tiny_images import write_images

from mnist_ablate.errors import SweepError
from mnist_ablate.service import serving
from mnist_ablate.service.accounts import LocalAccounts, MlflowAccounts, ProxyAccounts
from mnist_ablate.service.monitoring import JsonLines
from mnist_ablate.service.serving import Listening
from mnist_ablate.settings import Settings


def test_a_service_without_accounts_is_reached_from_this_machine_alone(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "192.168.0.10", "::", "sweeps.example.org"):
        with pytest.raises(
            SweepError, match="without accounts anybody who reaches it could run sweeps: add --accounts"
        ):
            serving.accounts_of(Listening(host, 8080), Settings(tmp_path))
    for host in ("127.0.0.1", "localhost", "::1"):
        assert isinstance(serving.accounts_of(Listening(host, 8080), Settings(tmp_path)), LocalAccounts)


def test_accounts_are_those_that_were_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SweepError, match="--accounts mlflow: MLFLOW_TRACKING_URI is no server"):
        serving.accounts_of(Listening("0.0.0.0", 1, accounts="mlflow"), Settings(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    found = serving.accounts_of(Listening("0.0.0.0", 1, accounts="mlflow"), Settings(tmp_path))
    assert isinstance(found, MlflowAccounts)
    with pytest.raises(SweepError, match="name the proxy's address too: --trusted-proxy"):
        serving.accounts_of(Listening("0.0.0.0", 1, accounts="proxy", user_header="X-User"), Settings(tmp_path))
    with pytest.raises(SweepError, match="--trusted-proxy caddy: no address"):
        serving.accounts_of(
            Listening("0.0.0.0", 1, accounts="proxy", user_header="X-User", proxies=["caddy"]), Settings(tmp_path)
        )
    by_proxy = Listening("0.0.0.0", 1, accounts="proxy", user_header="X-User", proxies=["10.0.0.0/24"])
    assert isinstance(serving.accounts_of(by_proxy, Settings(tmp_path)), ProxyAccounts)
    (tmp_path / "roles.yaml").write_text("default: viewer\n")
    with pytest.raises(SweepError, match="--roles: without accounts there are no names"):
        serving.accounts_of(Listening("127.0.0.1", 1, roles=tmp_path / "roles.yaml"), Settings(tmp_path))


def test_the_names_of_a_service_are_its_own_and_those_that_people_use() -> None:
    doors = serving.doors_of(Listening("0.0.0.0", 8080, urls=["https://Sweeps.example.org"], accounts="mlflow"))
    assert {"sweeps.example.org", "sweeps.example.org:443", "localhost:8080", "127.0.0.1:8080"} <= doors.hosts
    assert "0.0.0.0:8080" not in doors.hosts
    assert "https://sweeps.example.org" in doors.origins
    assert "http://sweeps.example.org" not in doors.origins
    assert doors.is_secure
    assert not serving.doors_of(Listening("127.0.0.1", 8080)).is_secure
    for url in ("sweeps.example.org", "ftp://x", "https://x/path", "https://"):
        with pytest.raises(SweepError, match="write it as https://sweeps"):
            serving.doors_of(Listening("127.0.0.1", 8080, urls=[url]))


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SweepError, match=f"127.0.0.1 port {port} cannot be used .*choose another with --port"):
            serving.serve(Settings(tmp_path), Listening("127.0.0.1", port), None, print, open_page=False)


def test_a_certificate_that_cannot_be_used_is_told_with_its_file(tmp_path: Path) -> None:
    files, junk = certificates.made(tmp_path / "tls"), tmp_path / "junk.pem"
    junk.write_text("not PEM")
    for cert, key in ((junk, files.key), (tmp_path / "none.pem", files.key), (files.cert, files.ca_file)):
        listening = Listening("127.0.0.1", 1, tls_cert=cert, tls_key=key)
        with pytest.raises(SweepError, match=f"--tls-cert {cert} --tls-key {key}: no certificate and its key"):
            serving.serve(Settings(tmp_path), listening, None, print, open_page=False)


@pytest.mark.slow
def test_https_is_for_clients_that_trust_the_certificate(tmp_path: Path) -> None:
    files, port = certificates.made(tmp_path / "tls"), free_port()
    command = Command(tmp_path, base_environment(MNIST_ABLATE_SERVICE=f"https://127.0.0.1:{port}"))
    serve = ["serve", "--no-runner", "--port", str(port), "--tls-cert", str(files.cert), "--tls-key", str(files.key)]
    process = command.start(*serve)
    try:
        wait_for(lambda: command("queue", SSL_CERT_FILE=str(files.ca_file)).code == 0, 120)
        done = command("queue")
        assert (done.code, done.err.count("\n")) == (3, 1)
        assert "is not trusted here" in done.err
        assert "set SSL_CERT_FILE to the certificate of its authority" in done.err
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.slow
def test_a_sweep_is_submitted_and_run_and_nothing_is_left_behind(tmp_path: Path) -> None:
    images, port = write_images(tmp_path / "tiny.npz"), free_port()
    command = Command(tmp_path, base_environment(**fake_trainer_environment(tmp_path)))
    options = [
        "--port",
        str(port),
        "--data",
        str(images),
        "--jobs",
        "1",
        "--home",
        str(tmp_path / "home"),
        "--log-text",
    ]
    process = command.start("serve", *options)

    def ask(path: str, body: Any = None) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body and json.dumps(body).encode())
        if body:
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.load(reply)

    def is_ready() -> bool:
        try:
            return bool(ask("/readyz"))
        except OSError:
            return False

    try:
        wait_for(is_ready, 120)
        ask("/api/v1/sweeps", {"name": "small", "file": SMALL})
        wait_for(lambda: ask("/api/v1/sweeps/small")["state"] == "done", 120)
        found = ask("/api/v1/sweeps/small/report")
        assert found["trials"]["complete"] == found["trials"]["planned"] == 4
        ask("/api/v1/sweeps", {"name": "more", "file": SMALL, "set": ["fixed.epochs=400"]})
        wait_for(lambda: ask("/api/v1/sweeps/more")["state"] == "running", 120)
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "Traceback" not in err
    wait_for(lambda: not left_running(process.pid), 20)


def test_a_line_of_the_log_is_json_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", "very-secret-word")
    record = logging.LogRecord("x", logging.INFO, "", 0, "sent %s", ("very-secret-word",), None)
    record.sweep, record.path = "0123", 'http://ann:pass@host/"quoted"'
    line = json.loads(JsonLines().format(record))
    assert (line["level"], line["message"], line["sweep"]) == ("info", "sent ***", "0123")
    assert line["path"] == 'http://ann:***@host/"quoted"'
    assert line["time"].endswith("+00:00")
