"""A real MLflow server, and a tiny one that answers as told, or passes requests on to the real one and misbehaves."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from command import wait_for


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Fault:
    """For requests whose path ends with `path`: wait, pass on (or not), then answer, or drop the connection."""

    path: str = ""
    times: int = 10**6
    wait_s: float = 0.0
    passed_on: bool = False
    reply: Reply | None = None
    """None drops the connection; with `passed_on` that loses the reply of something that was done."""


class Stub:
    """Give it `reply` for canned answers, or `upstream` (a port) and `faults` for a proxy."""

    def __init__(self, reply: Reply | None = None, upstream: int = 0) -> None:
        self.reply = reply
        self.upstream = upstream
        self.faults: list[Fault] = []
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[bytes] = []
        self.port = 0
        self.busy = 0
        self.lock = threading.Lock()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        with self.lock:
            self.busy += 1
        try:
            body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
            path = request.path.partition("?")[0]
            self.seen.append((request.command, path, dict(request.headers)))
            self.bodies.append(body)
            reply = self.reply_to(request, path, body)
            if reply is None:
                request.close_connection = True
            else:
                _answer(request, reply)
        finally:
            with self.lock:
                self.busy -= 1

    def reply_to(self, request: BaseHTTPRequestHandler, path: str, body: bytes) -> Reply | None:
        """None drops the connection."""
        if self.reply:
            return self.reply
        fault = next((each for each in self.faults if path.endswith(each.path) and each.times > 0), None)
        if fault is None:
            return self.pass_on(request, body)
        fault.times -= 1
        time.sleep(fault.wait_s)
        passed = self.pass_on(request, body) if fault.passed_on else None
        return fault.reply or (passed if fault.wait_s else None)

    def pass_on(self, request: BaseHTTPRequestHandler, body: bytes) -> Reply:
        upstream = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=30)
        headers = {key: value for key, value in request.headers.items() if key.lower() != "host"}
        upstream.request(request.command, request.path, body, headers)
        reply = upstream.getresponse()
        content = reply.read()
        upstream.close()
        return Reply(reply.status, content, {"Content-Type": reply.headers.get("Content-Type", "")})


def _answer(request: BaseHTTPRequestHandler, reply: Reply) -> None:
    request.send_response(reply.status)
    for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(reply.body)


@contextmanager
def running(stub: Stub, port: int = 0, host: str = "127.0.0.1") -> Iterator[Stub]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                stub.handle(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client gave up first

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    stub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def mlflow_server(uri: str, port: int) -> Iterator[None]:
    """A process of its own."""
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", uri, "--default-artifact-root", f"{Path(uri[10:]).parent}/art"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    null = subprocess.DEVNULL
    server = subprocess.Popen(command, env=environment, stdout=null, stderr=null, start_new_session=True)
    try:
        wait_for(lambda: _answers(port), 90)
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
