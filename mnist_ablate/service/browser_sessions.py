"""Who is logged in with a browser, and the tokens that prove that a form came from a page of ours."""

import hmac
import secrets
import threading
import time
from dataclasses import dataclass
from urllib.parse import parse_qsl

from fastapi import Request

from mnist_ablate.service.accounts import Account

LIFE_S = 12 * 3600.0
COOKIE, SECURE_COOKIE = "mnist-ablate-session", "__Host-mnist-ablate-session"
CSRF_FIELD, CSRF_HEADER = "csrf", "x-csrf-token"
FORM = "application/x-www-form-urlencoded"
_MOST = 10_000
_MOST_FIELDS = 100


@dataclass(frozen=True)
class Session:
    """Somebody who logged in. The password is kept to ask the accounts again: one that was removed is out then."""

    token: str
    name: str
    password: str
    ends_at: float


class Sessions:
    """Those who are logged in, in the memory of this process: whoever restarts the service logs in again."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._open: dict[str, Session] = {}
        self._lock = threading.Lock()

    def begin(self, name: str, password: str) -> Session:
        """Log somebody in, whose password was right."""
        session = Session(secrets.token_urlsafe(32), name, password, time.monotonic() + LIFE_S)
        with self._lock:
            now = time.monotonic()
            self._open = {token: each for token, each in self._open.items() if each.ends_at > now}
            while len(self._open) >= _MOST:
                self._open.pop(next(iter(self._open)))
            self._open[session.token] = session
        return session

    def find(self, token: str) -> Session | None:
        """The session of a cookie, if it has not ended."""
        with self._lock:
            session = self._open.get(token)
        return session if session and session.ends_at > time.monotonic() else None

    def end(self, token: str) -> None:
        """Log out."""
        with self._lock:
            self._open.pop(token, None)

    def csrf(self, subject: str) -> str:
        """The token of forms that are shown to one session, or to one person whom a request itself names."""
        return hmac.digest(self._key, subject.encode("utf-8", "surrogatepass"), "sha256").hex()

    def is_csrf(self, subject: str, token: str) -> bool:
        """Whether a form was shown by us to this session or person."""
        return hmac.compare_digest(self.csrf(subject).encode(), token.encode("utf-8", "surrogatepass"))


def account_of(request: Request) -> Account:
    """Who sends a request. Only a public route has nobody, and does not ask."""
    account: Account = request.state.account
    return account


def csrf_of(request: Request) -> str:
    """The value of the hidden field `csrf` in every form of an answer to this request."""
    sessions: Sessions = request.app.state.sessions
    return sessions.csrf(request.state.subject)


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form that was sent; of one that is there twice the last. It has been checked that it is ours."""
    return fields(await request.body())


def fields(body: bytes) -> dict[str, str]:
    """The fields of a form's text. One that is no form has none."""
    try:
        found = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        return {}
    return dict(found)
