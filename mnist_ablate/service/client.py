"""Speaks with a sweep service: submits, looks, follows, steers. Waits for a network that is away. Shows nothing."""

import json
import os
import ssl
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPException, HTTPResponse
from importlib.metadata import version
from typing import Any, Literal, TypeVar
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from mnist_ablate.errors import (
    AblateError,
    ConflictError,
    DataError,
    DiskError,
    SweepError,
    UnreachableError,
    mask,
    one_line,
)
from mnist_ablate.settings import service_address
from mnist_ablate.text import plainly
from mnist_ablate.tracking.client import RejectedError, opener, public_uri

FIRST_WAIT_S = 5.0
"""How long a service may be away that has not answered yet: its address may be wrong."""
WAIT_S = 600.0
"""How long a service may be away that has answered before."""
_PAUSE_S, _ANSWER_S, _SILENCE_S, _LONGEST_PAUSE_S = 1.0, 60.0, 45.0, 60.0
_LONGEST_PROBLEM = 1_000_000
_OVER = ("done", "failed", "cancelled")
_API = "/api/v1"
_BUSY, _SERVER_ERRORS, _GATEWAY_ERRORS = 429, range(500, 600), {502, 503, 504}
_ERRORS = {each.exit_code: each for each in (SweepError, RejectedError, DataError, DiskError, ConflictError)}
"""By the exit code that a problem has."""

Change = Literal["cancel", "pause", "resume"]
Found = TypeVar("Found", bound=BaseModel)


class RemoteSweep(BaseModel):
    """A sweep in a service. `exit_code` is what `sweep` would have ended with, None before the end."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    owner: str
    question: str
    state: str
    wanted: str = ""
    priority: int
    planned: int
    recorded: int
    exit_code: int | None
    reason: str
    link: str
    verdicts: Mapping[str, str]

    @property
    def is_over(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.state in _OVER


class Happening(BaseModel):
    """An event of a sweep: `state`, `message`, `verdict` or `snapshot`, with its data."""

    model_config = ConfigDict(frozen=True)

    number: int
    kind: str
    data: Mapping[str, Any]


class ServiceClient:
    """A service at an address. `say` gets a line when it is away, and when it answers again.

    All methods raise UnreachableError if it stays away or lets nobody in with these credentials, ConflictError and
    SweepError with its own words.
    """

    def __init__(self, url: str, say: Callable[[str], None] = lambda _: None) -> None:
        """The account is that of the address, else that of the environment, else MLflow's."""
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SweepError(f"{plainly(mask(url))}: no address of a service: write http://host:port or https://host")
        self.url = public_uri(url)
        self._opener, self._say, self._is_reached = opener(self.url), say, False
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        for prefix in ("MNIST_ABLATE_SERVICE", "MLFLOW_TRACKING"):
            user = user or os.environ.get(f"{prefix}_USERNAME", "")
            password = password or os.environ.get(f"{prefix}_PASSWORD", "") if user else ""
        self._headers = {"User-Agent": f"mnist-ablate/{version('mnist-ablate')}"}
        if user:
            self._headers["Authorization"] = f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"

    def submit(self, asked: Mapping[str, Any]) -> tuple[RemoteSweep, bool]:
        """Submit a question: the sweep, and whether it is new there.

        It has a `name`, or a `name` and the text of a `file`, and `set`, `seeds`, `quick` and `priority` as the options
        of `submit`. The same question twice is the same sweep, so it is sent again if an answer is lost.
        """
        found = self._json("POST", "/sweeps", asked, is_patient=True)
        return _read(RemoteSweep, found["sweep"]), bool(found["is_new"])

    def sweeps(self, state: str | None = None, owner: str | None = None, limit: int = 50) -> list[RemoteSweep]:
        """The latest submissions, the newest first."""
        asked = {"state": state, "owner": owner, "limit": limit}
        query = "&".join(f"{name}={quote(str(value))}" for name, value in asked.items() if value is not None)
        return [_read(RemoteSweep, each) for each in self._json("GET", f"/sweeps?{query}")["sweeps"]]

    def sweep(self, id_or_name: str) -> RemoteSweep:
        """One of them, by its id; by a name the latest of it."""
        return _read(RemoteSweep, self._json("GET", _path(id_or_name)))

    def change(self, id_: str, change: Change) -> RemoteSweep:
        """Cancel, pause or resume it."""
        return _read(RemoteSweep, self._json("POST", _path(id_, change), {}))

    def prioritize(self, id_: str, priority: int) -> RemoteSweep:
        """Have it wait before (after) others of its owner."""
        return _read(RemoteSweep, self._json("PUT", _path(id_, "priority"), {"priority": priority}))

    def records(self, id_: str) -> bytes:
        """What is recorded of it, as `export` writes it."""
        return self._answer("GET", _path(id_, "records.zip"), is_patient=True)

    def page(self, id_: str) -> str:
        """The address of its page."""
        return f"{self.url}{_path(id_)}"

    def events(self, id_: str, after: int = 0) -> Iterator[Happening]:
        """What happened to it since the event of that number, and what happens, until it has ended."""
        patience = _Patience(self)
        while True:
            try:
                for each in self._stream(id_, after):
                    patience.over()
                    after = each.number
                    yield each
                    if each.kind == "state" and each.data.get("state") in _OVER:
                        return
            except _AwayError as error:
                patience.wait(error)
                continue
            if self.sweep(id_).is_over:  # a stream that ended in order
                return
            time.sleep(_PAUSE_S)

    def _stream(self, id_: str, after: int) -> Iterator[Happening]:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        with self._translated(), closing(self._open("GET", _path(id_, "events"), None, headers, _SILENCE_S)) as reply:
            yield from _events(reply)

    def _json(
        self, method: str, path: str, content: Mapping[str, Any] | None = None, *, is_patient: bool | None = None
    ) -> Any:
        """An answer. What only looks is tried again while the service is away."""
        answer = self._answer(method, path, content, is_patient=method == "GET" if is_patient is None else is_patient)
        try:
            return json.loads(answer)
        except ValueError:
            raise self._foreign(200) from None

    def _answer(
        self, method: str, path: str, content: Mapping[str, Any] | None = None, *, is_patient: bool = False
    ) -> bytes:
        patience = _Patience(self)
        while True:
            try:
                with self._translated(), closing(self._open(method, path, content, {}, _ANSWER_S)) as reply:
                    found = bytes(reply.read())
            except _AwayError as error:
                if not is_patient and not error.was_refused:
                    raise
                patience.wait(error)
            else:
                patience.over()
                return found

    def _open(
        self, method: str, path: str, content: Mapping[str, Any] | None, headers: Mapping[str, str], timeout_s: float
    ) -> HTTPResponse:
        """A reply whose status is good. Raises _AwayError if waiting may help."""
        data = None if content is None else json.dumps(content).encode()
        kind = {"Content-Type": "application/json"} if data is not None else {}
        about = {"Accept": "application/json", **self._headers, **kind, **headers}
        request = urllib.request.Request(f"{self.url}{_API}{path}", data, about, method=method)  # noqa: S310 - checked
        try:
            reply: HTTPResponse = self._opener.open(request, timeout=timeout_s)
        except HTTPError as error:
            with closing(error):
                raise self._refusal(error) from None
        self._is_reached = True
        return reply

    def _refusal(self, error: HTTPError) -> AblateError:
        """The problem that the service tells, in its own words."""
        try:
            problem = json.loads(error.read(_LONGEST_PROBLEM))
            text, exit_code = mask(str(problem["detail"])), problem.get("exit_code", AblateError.exit_code)
        except (OSError, HTTPException, ValueError, TypeError, KeyError):
            text, exit_code = "", 0
        if error.code in {_BUSY, *_GATEWAY_ERRORS} or (error.code in _SERVER_ERRORS and not text):
            pause = error.headers.get("Retry-After", "")
            said = text or f"the service at {self.url} answers with an error ({error.code})"
            return _AwayError(said, float(pause) if pause.isdigit() else _PAUSE_S, was_refused=error.code == _BUSY)
        if not text:
            return self._foreign(error.code)
        return _ERRORS.get(exit_code, AblateError)(text)

    def _foreign(self, status: int) -> RejectedError:
        told = f"is not a sweep service ({status}): set MNIST_ABLATE_SERVICE or --service to one"
        if status in range(300, 400):
            told = f"redirects ({status}), which is not followed: give the final address"
        return RejectedError(f"{self.url} {told}")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """What the network says of a connection becomes _AwayError."""
        try:
            yield
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLCertVerificationError):
                told = f"the certificate of {self.url} is not trusted here ({reason.verify_message})"
                raise RejectedError(f"{told}: set SSL_CERT_FILE to the certificate of its authority") from None
            told = getattr(reason, "strerror", None) or one_line(str(reason)) or type(reason).__name__
            raise _AwayError(f"the service at {self.url} does not answer: {told}", _PAUSE_S) from None

    @property
    def wait_s(self) -> float:
        """How long it may be away now."""
        return WAIT_S if self._is_reached else FIRST_WAIT_S

    def say(self, text: str) -> None:
        """Tell the person."""
        self._say(text)


class _AwayError(UnreachableError):
    """No answer, or one that says to come later: after `pause_s`. If it `was_refused`, nothing was done."""

    def __init__(self, text: str, pause_s: float, *, was_refused: bool = False) -> None:
        super().__init__(text)
        self.pause_s, self.was_refused = min(pause_s, _LONGEST_PAUSE_S), was_refused


class _Patience:
    """How long one request has been tried, and whether the person was told."""

    def __init__(self, client: ServiceClient) -> None:
        self._client, self._until, self._is_told = client, 0.0, False

    def wait(self, error: _AwayError) -> None:
        """Wait before the next try. Raises the error if that has gone on for too long."""
        now = time.monotonic()
        self._until = self._until or now + self._client.wait_s
        if now + error.pause_s > self._until:
            raise error
        if not self._is_told and self._client.wait_s > FIRST_WAIT_S:
            self._is_told = True
            self._client.say(f"{error}; trying again for {self._client.wait_s / 60:.0f} minutes")
        time.sleep(error.pause_s)

    def over(self) -> None:
        """It answered."""
        if self._is_told:
            self._client.say("the service answers again")
        self._until, self._is_told = 0.0, False


def connect(url: str | None, say: Callable[[str], None] = lambda _: None) -> ServiceClient:
    """The service at an address, else at that of the environment. Raises SweepError if there is none."""
    if not (address := service_address(url)):
        raise SweepError("no service is named: give --service URL, or set MNIST_ABLATE_SERVICE")
    return ServiceClient(address, say)


def _path(id_: str, *parts: str) -> str:
    return "/".join(("/sweeps", quote(id_, safe=""), *parts))


def _read(model: type[Found], content: Any) -> Found:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        about = one_line(str(error.errors()[0]["loc"]))
        raise RejectedError(f"the service answers in an unknown form ({about}): is it of this version?") from None


def _events(lines: Iterable[bytes]) -> Iterator[Happening]:
    """What a stream of server-sent events tells; comments, which keep it open, are nothing."""
    data: list[str] = []
    for line in lines:
        text = line.decode(errors="replace").rstrip("\r\n")
        name, _, value = text.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))
        if not text and data:
            yield _read(Happening, json.loads("\n".join(data)))
            data = []
