"""A tiny HTTP server for tests: answers as told, or passes requests on to a real MLflow server and then misbehaves."""

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    wait_s: float = 0.0


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
        self._lock = threading.Lock()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        self._count(1)
        try:
            self._handle(request)
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._lock:
            self.busy += change

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        path = request.path.partition("?")[0]
        self.seen.append((request.command, path, dict(request.headers)))
        self.bodies.append(body)
        if self.reply:
            _answer(request, self.reply)
            return
        fault = next((each for each in self.faults if path.endswith(each.path) and each.times > 0), None)
        if fault is None:
            _answer(request, self._pass_on(request, body))
            return
        fault.times -= 1
        time.sleep(fault.wait_s)
        passed = self._pass_on(request, body) if fault.passed_on else None
        answer = fault.reply or (passed if fault.wait_s else None)
        if answer:
            _answer(request, answer)
        else:
            request.close_connection = True

    def _pass_on(self, request: BaseHTTPRequestHandler, body: bytes) -> Reply:
        upstream = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=30)
        headers = {key: value for key, value in request.headers.items() if key.lower() != "host"}
        upstream.request(request.command, request.path, body, headers)
        reply = upstream.getresponse()
        content = reply.read()
        upstream.close()
        return Reply(reply.status, content, {"Content-Type": reply.headers.get("Content-Type", "")})


def _answer(request: BaseHTTPRequestHandler, reply: Reply) -> None:
    time.sleep(reply.wait_s)
    request.send_response(reply.status)
    for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(reply.body)


@contextmanager
def running(stub: Stub, port: int = 0) -> Iterator[Stub]:
    server = ThreadingHTTPServer(("127.0.0.1", port), _handler(stub.handle))
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


def _handler(handle: Callable[[BaseHTTPRequestHandler], None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                handle(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client gave up first

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            pass

    return Handler
