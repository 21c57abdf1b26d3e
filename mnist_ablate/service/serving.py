"""Runs the service on a port until a signal comes, with a runner in it unless others run the sweeps."""

import asyncio
import os
import signal
import socket
import ssl
import threading
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal
from urllib.parse import urlsplit

import uvicorn
from starlette.types import ASGIApp

from mnist_ablate.errors import SweepError, one_line
from mnist_ablate.service.accounts import Accounts, LocalAccounts, MlflowAccounts, ProxyAccounts, Roles, network
from mnist_ablate.service.application import create_app
from mnist_ablate.service.event_stream import EventFeed
from mnist_ablate.service.gate import Doors
from mnist_ablate.service.http_limits import Rate, Rates
from mnist_ablate.service.monitoring import log_to_stderr
from mnist_ablate.service.queue import Queue
from mnist_ablate.service.runner import Runner
from mnist_ablate.service.sweep_service import SweepService
from mnist_ablate.settings import Settings
from mnist_ablate.text import plainly

AccountKind = Literal["none", "mlflow", "proxy"]
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_THREADS = 40
_END_S = 5
_NO_LIMIT = Rate(1e9, 1e9)


@dataclass(frozen=True)
class Listening:
    """Where the service listens, how people reach it, and how they are known.

    `urls` are addresses by which people reach it beside its own, the first of them the one that is told. `folders` are
    those of code, `roles` and `limits` are files. Of `accounts` by a proxy, `user_header` names the person.
    """

    host: str
    port: int
    urls: Sequence[str] = ()
    accounts: AccountKind = "none"
    user_header: str = ""
    proxies: Sequence[str] = ()
    roles: Path | None = None
    limits: Path | None = None
    folders: Sequence[Path] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    log_json: bool = False

    @property
    def url(self) -> str:
        """The address that people are told."""
        scheme = "https" if self.tls_cert else "http"
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104 - compared
        return self.urls[0].rstrip("/") if self.urls else f"{scheme}://{_bracketed(host)}:{self.port}"


def serve(
    settings: Settings, listening: Listening, runner: Runner | None, show: Callable[[str], None], *, open_page: bool
) -> int:
    """Serve until a signal comes; 128 + its number. Sweeps that the runner runs are handed over then.

    Raises SweepError if the port is taken or an option is wrong, and what the database says if it cannot be opened.
    """
    accounts, doors = accounts_of(listening, settings), doors_of(listening)
    _check_certificate(listening)
    os.environ.setdefault("MNIST_ABLATE_SERVICE_URL", listening.url)
    log_to_stderr(as_json=listening.log_json)
    settings.home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as parts:
        listener = parts.enter_context(_listener(listening))
        queue = Queue(settings.ledger_url, connections=_THREADS)
        parts.callback(queue.close)
        stop = threading.Event()
        if runner:
            parts.enter_context(_running(runner, stop))
        feeds: list[EventFeed] = []
        app = create_app(
            SweepService(queue, settings, listening.folders, listening.limits), accounts, doors, feeds.append
        )
        server = _Server(_config(app, listening), [stop.set, feeds[0].close])
        show(f"sweep service: {listening.url}")
        if open_page:
            webbrowser.open(listening.url)
        asyncio.run(server.serve([listener]))
        return 128 + server.signal


class _Server(uvicorn.Server):
    """Calls `on_signal` when a signal asks to end; a second one ends at once."""

    signal = 0

    def __init__(self, config: uvicorn.Config, on_signal: Sequence[Callable[[], None]]) -> None:
        super().__init__(config)
        self._on_signal = on_signal

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as uvicorn calls it
        """Take no more requests, and end those that last."""
        if self.signal:
            self.force_exit = True
        self.signal = self.signal or sig
        self.should_exit = True
        for each in self._on_signal:
            each()


@contextmanager
def _running(runner: Runner, stop: threading.Event) -> Iterator[None]:
    """A runner in a thread of this process; at the end it hands over what it has. Its error ends the service."""
    errors: list[Exception] = []

    def run() -> None:
        try:
            runner.run(stop)
        except Exception as error:  # noqa: BLE001 - raised below
            errors.append(error)
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=run, name="runner")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    for error in errors:
        raise error


def _config(app: ASGIApp, listening: Listening) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # the gate reads them, from proxies that are trusted
        server_header=False,
        h11_max_incomplete_event_size=32 * 1024,
        http="h11",
        ws="none",
        timeout_graceful_shutdown=_END_S,
        ssl_certfile=listening.tls_cert,
        ssl_keyfile=listening.tls_key,
    )


def _check_certificate(listening: Listening) -> None:
    if listening.tls_cert:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(listening.tls_cert, listening.tls_key)
        except OSError as error:  # SSLError is one
            files = f"--tls-cert {plainly(str(listening.tls_cert))} --tls-key {plainly(str(listening.tls_key))}"
            told = f"no certificate and its key ({one_line(str(error))})"
            raise SweepError(f"{files}: {told}: give two PEM files that belong together") from None


def _listener(listening: Listening) -> socket.socket:
    """The socket, taken before anything is started: two services on one port would share its requests."""
    try:
        family, *_, address = socket.getaddrinfo(listening.host, listening.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise SweepError(f"--host {plainly(listening.host)}: no address of this machine ({error.strerror})") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(256)
    except OSError as error:
        listener.close()
        where = f"{plainly(listening.host)} port {listening.port}"
        raise SweepError(f"{where} cannot be used ({error.strerror}): choose another with --port") from None
    return listener


def accounts_of(listening: Listening, settings: Settings) -> Accounts:
    """How people are known. Raises SweepError for what would let everybody in, or nobody."""
    roles = Roles(listening.roles)
    if listening.accounts == "mlflow":
        return MlflowAccounts(settings.tracking_uri, roles)
    if listening.accounts == "proxy":
        return ProxyAccounts(listening.user_header, listening.proxies, roles)
    if _bracketed(listening.host) not in _LOOPBACK:
        where = f"--host {plainly(listening.host)}: without accounts anybody who reaches it could run sweeps"
        raise SweepError(f"{where}: add --accounts mlflow, or --accounts proxy")
    if listening.roles:
        raise SweepError("--roles: without accounts there are no names: add --accounts mlflow, or --accounts proxy")
    return LocalAccounts()


def doors_of(listening: Listening) -> Doors:
    """The names that requests may give this service: those of `urls`, and those of this machine for itself."""
    scheme = "https" if listening.tls_cert else "http"
    own = {_bracketed(listening.host), *_LOOPBACK} - {"0.0.0.0", "[::]"}  # noqa: S104 - compared
    hosts = {f"{host}:{listening.port}" for host in own}
    origins = {f"{scheme}://{host}" for host in hosts}
    for url in listening.urls:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/") or parts.query:
            raise SweepError(f"--url {plainly(url)}: write it as https://sweeps.example.org, without a path")
        hosts |= {parts.netloc.lower(), f"{parts.hostname}:{parts.port or {'http': 80, 'https': 443}[parts.scheme]}"}
        origins.add(f"{parts.scheme}://{parts.netloc.lower()}")
    return Doors(
        frozenset(hosts),
        frozenset(origins),
        proxies=[network(each) for each in listening.proxies],
        is_secure=listening.url.startswith("https://"),
        rates=Rates(_NO_LIMIT, _NO_LIMIT) if listening.accounts == "none" else Rates(),
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host.lower()
