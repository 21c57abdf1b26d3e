"""Attacks on the running service, each a name, what was done, and whether it was refused; no test itself.

An attack is refused if the answer is a refusal, or if what it asked for did not happen; no answer may tell a secret.
"""

import http.client
import json
import secrets
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from service_stack import Stack

SEARCH = "/api/2.0/mlflow/experiments/search"
REFUSALS = frozenset({400, 401, 403, 404, 405, 413, 422, 431})
ANONYMOUS = ""
_KEPT = 3000


@dataclass(frozen=True)
class Answer:
    """`status` 0: the server cut the connection."""

    status: int
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def refused(self) -> bool:
        return self.status in REFUSALS or self.status == 0

    def __str__(self) -> str:
        return str(self.status) if self.status else "connection cut"


@dataclass(frozen=True)
class Finding:
    """What came back, in a few words, and whether the attack failed."""

    came_back: str
    refused: bool


@dataclass(frozen=True)
class Probe:
    """`attack` does it; `name` says what somebody tries."""

    family: str
    name: str
    attack: Callable[["Ground"], Finding]


class Ground:
    """The service under attack after a sweep, and an ordinary account's own experiment and run in it."""

    def __init__(self, service: Stack) -> None:
        self.service = service
        self.answers: list[str] = []
        self.home = service.folder / "person"
        self.home.mkdir()
        self.said = [f"{done.out} {done.err}" for done in service.swept(self.home)]
        name = {"name": f"probes-{secrets.token_hex(4)}"}
        self.experiment_id: str = service.call("/api/2.0/mlflow/experiments/create", name)["experiment_id"]
        run = service.call("/api/2.0/mlflow/runs/create", {"experiment_id": self.experiment_id})
        self.run_id: str = run["run"]["info"]["run_id"]

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        user: str = "sweeper",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """A request exactly as given: the path is not tidied. Every answer is kept for the search for secrets."""
        own = self._credentials(user) | {"Content-Type": "application/json"} | dict(headers or {})
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        try:
            found = self._sent(method, path, data, own)
        except (http.client.HTTPException, OSError):
            found = Answer(0)
        self.answers.append(f"{found.headers} {found.body}")
        return found

    def outside(self) -> list[str]:
        """Files below the folder of the service that an artifact route must not have made."""
        made = (path for path in self.service.folder.rglob("*planted*") if path.is_file())
        return [str(path) for path in made if self.service.artifacts not in path.parents]

    def _credentials(self, user: str) -> dict[str, str]:
        if not user:
            return {}
        name, _, password = user.partition(":")
        words = f"{name}:{password or self.service.password(name)}"
        return {"Authorization": f"Basic {b64encode(words.encode()).decode()}"}

    def _sent(self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            if data is not None:
                connection.putheader("Content-Length", str(len(data)))
            connection.endheaders()
            if data is not None:
                with suppress(BrokenPipeError):  # refused before all of it was sent
                    connection.send(data)
            reply = connection.getresponse()
            found = {name.lower(): value for name, value in reply.getheaders()}
            return Answer(reply.status, reply.read(_KEPT).decode(errors="replace"), found)
        finally:
            connection.close()


def each_refused(answers: Iterator[Answer] | list[Answer]) -> Finding:
    """Refused if every one of the answers is; tells how many of which."""
    found = list(answers)
    assert found, "nothing was tried"
    kinds = sorted({str(answer) for answer in found})
    counted = ", ".join(f"{sum(str(answer) == kind for answer in found)}x {kind}" for kind in kinds)
    return Finding(counted if len(found) > 1 else kinds[0], all(answer.refused for answer in found))


def all_probes() -> list[Probe]:
    """In the order of the table; those that look for secrets come last, when there is most to find."""
    import attacks_access
    import attacks_content
    import attacks_secrets

    return [*attacks_access.PROBES, *attacks_content.PROBES, *attacks_secrets.PROBES]
