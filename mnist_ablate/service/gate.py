"""What every request passes before a route: its host and origin, its size, who sends it and how often. Knows no route.

It is the outermost part of the application, so that nothing behind it can be reached without it.
"""

import logging
import secrets
from base64 import b64decode
from binascii import Error as NotBase64Error
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from math import ceil
from urllib.parse import quote

import anyio
from anyio import CapacityLimiter
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mnist_ablate.errors import UnreachableError
from mnist_ablate.service import problems
from mnist_ablate.service.accounts import Account, Accounts, Network, is_in
from mnist_ablate.service.browser_sessions import (
    COOKIE,
    CSRF_FIELD,
    CSRF_HEADER,
    FORM,
    SECURE_COOKIE,
    Sessions,
    fields,
)
from mnist_ablate.service.http_limits import BODY_BYTES, Allowance, BodyTooLargeError, Rates, limited, whole_body
from mnist_ablate.text import plainly, shortened

_LOG = logging.getLogger(__name__)
_SAFE = {"GET", "HEAD"}
_FORM_KINDS = (FORM, "multipart/form-data", "text/plain")  # what a page elsewhere can send without being asked
_PUBLIC = {"/healthz", "/readyz", "/login", "/style.css", "/favicon.ico"}
_PUBLIC_FOLDER = "/static/"
_ASKING = 8
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
_ONE_YEAR = "max-age=31536000"


@dataclass(frozen=True)
class Doors:
    """How the service is reached: `hosts` as browsers name it, `origins` of its own pages, proxies that are believed.

    `is_secure` says that people reach it by https, so that cookies are sent by that alone.
    """

    hosts: frozenset[str]
    origins: frozenset[str]
    proxies: Sequence[Network] = ()
    is_secure: bool = False
    body_bytes: int = BODY_BYTES
    rates: Rates = field(default_factory=Rates)


class RefusedError(Exception):
    """The request goes no farther; `response` is the answer."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class Gate:
    """An ASGI application before another one. It sets `request.state`: account, subject, client, request_id."""

    def __init__(self, app: ASGIApp, doors: Doors, accounts: Accounts, sessions: Sessions) -> None:
        self._app, self._doors, self._accounts, self._sessions = app, doors, accounts, sessions
        rates = doors.rates
        self._looks, self._changes, self._failures = map(Allowance, (rates.looks, rates.changes, rates.failures))
        self._asking: CapacityLimiter | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_started = False

        async def hardened(message: Message) -> None:
            nonlocal is_started
            if message["type"] == "http.response.start":
                is_started = True
                headers = MutableHeaders(scope=message)
                secure = {"Strict-Transport-Security": _ONE_YEAR} if self._doors.is_secure else {}
                kept = {"Cache-Control": "no-cache"} if scope["path"].startswith(_PUBLIC_FOLDER) else {}
                for name, value in {**_HEADERS, **secure, **kept}.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, await self._admitted(scope, receive), hardened)
        except RefusedError as refused:
            await refused.response(scope, receive, hardened)
        except BodyTooLargeError as error:
            await problems.answer(error.status_code, error.detail, error.headers)(scope, receive, hardened)
        except Exception:  # noqa: BLE001 - no traceback leaves
            _LOG.exception("internal error", extra={"request": scope["state"]["request_id"]})
            if not is_started:
                text = f"internal error: the log of the service says more under request {scope['state']['request_id']}"
                await problems.answer(500, text)(scope, receive, hardened)

    async def _admitted(self, scope: Scope, receive: Receive) -> Receive:
        """Set the state of a request that may go on, and give its messages. Raises RefusedError."""
        headers, state = Headers(scope=scope), scope.setdefault("state", {})
        state |= {"request_id": secrets.token_hex(8), "account": None, "subject": "login", "client": ""}
        state["client"] = client = self._client(scope, headers)
        self._check_source(scope, headers)
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:  # which PostgreSQL takes in no text
            raise RefusedError(problems.answer(400, "an address with a NUL character: remove it"))
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise RefusedError(problems.answer(400, "Content-Length is no number"))
        if int(length) > self._doors.body_bytes:
            raise BodyTooLargeError(self._doors.body_bytes)
        receive = limited(receive, self._doors.body_bytes)
        account, subject = await self._sender(scope, headers, client)
        state |= {"account": account, "subject": subject or "login"}
        state["is_still_allowed"] = lambda: self._is_still(account, scope, headers, client)
        self._check_rate(scope, account, client)
        if scope["method"] not in _SAFE and subject is not None:
            receive = await self._checked_form(headers, subject, receive)
        return receive

    def _client(self, scope: Scope, headers: Headers) -> str:
        """The address that a request comes from: what a trusted proxy says, else the connection's."""
        peer = scope["client"][0] if scope.get("client") else ""
        forwarded = headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
        return forwarded[:64] if forwarded and is_in(peer, self._doors.proxies) else peer

    def _check_source(self, scope: Scope, headers: Headers) -> None:
        """Refuse what a page of another site sends, and a name that another site gave this address."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._doors.hosts:
            name = plainly(shortened(hosts[0] if hosts else "no name"))
            raise RefusedError(
                problems.answer(403, f"{name}: not a name of this service: start it with --url to add one")
            )
        origin = headers.get("origin")
        foreign = origin is not None and origin.lower() not in self._doors.origins
        if foreign or (
            scope["method"] not in _SAFE and headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}
        ):
            raise RefusedError(problems.answer(403, "from a page of another site: open the service's own page"))

    async def _sender(self, scope: Scope, headers: Headers, client: str) -> tuple[Account | None, str | None]:
        """Who sends it, and to whom its forms were shown; that is None for a password in the request itself.

        Raises RefusedError for nobody, unless the route is public.
        """
        peer = scope["client"][0] if scope.get("client") else ""
        if account := self._accounts.of_request(peer, headers):
            return account, f"name {account.name}"
        path: str = scope["path"]
        is_public = path in _PUBLIC or path.startswith(_PUBLIC_FOLDER)
        if self._accounts.takes_passwords:
            if "authorization" in headers:
                name, password = _basic(headers["authorization"])
                return await self.account(name, password, client), None
            session = self._sessions.find(cookie_parser(headers.get("cookie", "")).get(self.cookie, ""))
            if session:
                try:
                    return await self.account(session.name, session.password, client), f"session {session.token}"
                except RefusedError as refused:
                    if refused.response.status_code == HTTPStatus.UNAUTHORIZED:
                        self._sessions.end(session.token)
                    if not is_public:
                        raise
        if is_public:
            return None, "login"
        if self._accounts.takes_passwords and scope["method"] in _SAFE and "text/html" in headers.get("accept", ""):
            raise RefusedError(RedirectResponse(f"/login?next={quote(path, safe='/')}", 303))
        raise RefusedError(self._unknown(is_browser="sec-fetch-mode" in headers))

    async def _is_still(self, account: Account | None, scope: Scope, headers: Headers, client: str) -> bool:
        """Whether who sent a long request may still see its answer. Accounts that cannot be asked now say yes."""
        try:
            return (await self._sender(scope, headers, client))[0] == account
        except RefusedError as refused:
            return refused.response.status_code != HTTPStatus.UNAUTHORIZED

    async def account(self, name: str, password: str, client: str) -> Account:
        """The account with this password. Raises RefusedError if there is none, or too many were tried."""
        self._asking = self._asking or CapacityLimiter(_ASKING)
        self._check(self._failures.wait_s(client, cost=0.0))
        try:
            found = await anyio.to_thread.run_sync(self._accounts.of_password, name, password, limiter=self._asking)
        except UnreachableError as error:
            raise RefusedError(problems.answer(503, str(error), {"Retry-After": "5"})) from None
        if found is None:
            self._failures.wait_s(client, cost=1.0 if name else 0.0)  # no name guesses nothing
            raise RefusedError(self._unknown())
        return found

    @property
    def is_secure(self) -> bool:
        """Whether people reach the service by https alone."""
        return self._doors.is_secure

    @property
    def cookie(self) -> str:
        """The name of the session's cookie."""
        return SECURE_COOKIE if self._doors.is_secure else COOKIE

    def _unknown(self, *, is_browser: bool = False) -> Response:
        if not self._accounts.takes_passwords:
            return problems.answer(401, "nobody is named: reach the service by its proxy, or ask for a role")
        text = "no such account, or no role: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or log in"
        # A browser would keep the password that it asks for then, and send it with what other sites ask.
        asked = {} if is_browser else {"WWW-Authenticate": 'Basic realm="mnist-ablate", charset="UTF-8"'}
        return problems.answer(401, text, asked)

    def _check_rate(self, scope: Scope, account: Account | None, client: str) -> None:
        sender = f"account {account.name}" if account else f"client {client}"
        self._check((self._looks if scope["method"] in _SAFE else self._changes).wait_s(sender))

    @staticmethod
    def _check(wait_s: float) -> None:
        if wait_s > 0:
            seconds = ceil(wait_s)
            text = f"too many requests: wait {seconds} s"
            raise RefusedError(problems.answer(429, text, {"Retry-After": str(seconds)}))

    async def _checked_form(self, headers: Headers, subject: str, receive: Receive) -> Receive:
        """Refuse what a browser sends that no page of ours showed; a session proves it always, others in forms."""
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if not subject.startswith("session ") and kind not in _FORM_KINDS:
            return receive
        token = headers.get(CSRF_HEADER, "")
        if not token and kind == FORM:
            body, receive = await whole_body(receive)
            token = fields(body).get(CSRF_FIELD, "")
        if not self._sessions.is_csrf(subject, token):
            raise RefusedError(problems.answer(403, "the page is from an earlier session: load it again and repeat"))
        return receive


def _basic(words: str) -> tuple[str, str]:
    """Name and password of an Authorization header; empty for anything else."""
    scheme, _, given = words.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        name, _, password = b64decode(given.strip(), validate=True).decode().partition(":")
    except (NotBase64Error, ValueError):
        return "", ""
    return name, password
