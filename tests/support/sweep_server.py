"""The sweep service in this process on a port of its own, and requests to it as they are, with the whole answer."""

import contextlib
import http.client
import json
import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import uvicorn
from command import wait_for
from mlflow_helpers import free_port

from mnist_ablate.service.accounts import Account, Accounts, LocalAccounts
from mnist_ablate.service.application import create_app
from mnist_ablate.service.gate import Doors
from mnist_ablate.service.http_limits import Rate, Rates
from mnist_ablate.service.queue import Queue
from mnist_ablate.service.sweep_service import SweepService
from mnist_ablate.settings import Settings

NO_LIMITS = Rates(Rate(1e9, 1e9), Rate(1e9, 1e9), Rate(1e9, 1e9))
SMALL = "question: q\nscientific: {activation: [relu, tanh]}\nfixed: {epochs: 2}\nseeds: 2\n"


class FixedAccounts:
    """Accounts with passwords, in memory; the password of each is its name twice."""

    takes_passwords = True

    def __init__(self, **roles: str) -> None:
        self.roles: dict[str, Any] = roles

    def of_request(self, _peer: str, _headers: Mapping[str, str]) -> Account | None:
        return None

    def of_password(self, name: str, password: str) -> Account | None:
        return Account(name, self.roles[name]) if name in self.roles and password == name * 2 else None


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")


@dataclass
class Server:
    """A service that runs; `service` is what its routes call."""

    service: SweepService
    port: int
    user: str = ""
    cookie: str = ""
    answers: list[Answer] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        *,
        form: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> Answer:
        """A request to the API by JSON, by a form, or with the body as it is."""
        about = dict(headers or {})
        name = self.user if user is None else user
        if name and not self.cookie:
            words = name if ":" in name else f"{name}:{name * 2}"
            about.setdefault("Authorization", f"Basic {b64encode(words.encode()).decode()}")
        if self.cookie:
            about.setdefault("Cookie", self.cookie)
        data = body
        if form is not None:
            data = urlencode(form).encode()
            about.setdefault("Content-Type", "application/x-www-form-urlencoded")
        elif isinstance(body, dict | list):
            data = json.dumps(body).encode()
            about.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, data, about)
            reply = connection.getresponse()
            told = {key.lower(): value for key, value in reply.getheaders()}
            answer = Answer(reply.status, told, reply.read())
        self.answers.append(answer)
        return answer

    def api(self, method: str, path: str, body: object = None, **more: Any) -> Answer:
        return self.ask(method, f"/api/v1{path}", body, **more)


@contextlib.contextmanager
def serving(
    home: Path,
    accounts: Accounts | None = None,
    *,
    rates: Rates = NO_LIMITS,
    folders: list[Path] | None = None,
    limits: Path | None = None,
    **settings: Any,
) -> Iterator[Server]:
    """A service on a home, without a runner."""
    home.mkdir(parents=True, exist_ok=True)
    of_home, port = Settings(home, **settings), free_port()
    queue = Queue(of_home.ledger_url)
    service = SweepService(queue, of_home, folders or [], limits)
    hosts = frozenset({f"127.0.0.1:{port}", f"localhost:{port}"})
    doors = Doors(hosts, frozenset(f"http://{host}" for host in hosts), rates=rates)
    feeds: list[Any] = []
    app = create_app(service, accounts or LocalAccounts(), doors, feeds.append)
    config = uvicorn.Config(app, port=port, log_config=None, proxy_headers=False, server_header=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    try:
        wait_for(lambda: server.started, 30)
        yield Server(service, port)
    finally:
        server.should_exit = True
        server.servers and server.servers[0].get_loop().call_soon_threadsafe(feeds[0].close)
        thread.join(20)
        queue.close()
    assert not thread.is_alive()
