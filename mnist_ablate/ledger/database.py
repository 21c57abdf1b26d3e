"""The database at a URL: opened, locked for one driver, waited for while down; its errors are one line each.

Knows no sweep. Optuna is imported when a storage is opened: whoever only reads does without.
"""

import hashlib
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy import text
from sqlalchemy.exc import ArgumentError, InterfaceError, InternalError, OperationalError, SQLAlchemyError

from mnist_ablate.errors import AblateError, BusyError, DiskError, UnreachableError, mask, one_line
from mnist_ablate.processes import lock_holder, locked_file

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

ANSWER_S = 60.0  # a PostgreSQL that says nothing for so long counts as down: its host, or the way to it, may be gone
_RETRY_S = 0.5
_STOPPING_S = 10.0
_PROBES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}
_DOWN = (OperationalError, InterfaceError, InternalError)
_FULL = ("disk is full", "No space left", "readonly database", "unable to open database", "disk I/O error")
_REFUSED = ("authentication failed", "no password supplied", "permission denied", "role ", "no pg_hba.conf entry")
_KINDS = "expected sqlite:////path/file.db or postgresql+psycopg2://user:password@host/database"
_TAKE_AGAIN_S = 0.1
_LOST_S = 2.0
_PREFIX = "mnist-ablate "
_TAKE = text("SELECT pg_try_advisory_lock(:key)")
_SESSION = text("SELECT pg_backend_pid()")
_END = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE pid = :session AND application_name = current_setting('application_name')"
)
_PROBE = text("SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3")
"""The server finds within 25 s that a driver's machine is gone, and frees its lock."""
_HOLDER = text(
    f"SELECT replace(application_name, '{_PREFIX}', '') FROM pg_locks JOIN pg_stat_activity USING (pid) "  # noqa: S608
    "WHERE locktype = 'advisory' AND granted AND objid::bigint = :key"
)


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite URL; None for PostgreSQL. Raises UnreachableError for any other kind."""
    try:
        parsed = sqlalchemy.make_url(url)
    except ArgumentError:
        raise UnreachableError(f"OPTUNA_STORAGE {mask(url)} is not a database URL: {_KINDS}") from None
    if parsed.drivername == "postgresql+psycopg2":
        return None
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        raise UnreachableError(f"OPTUNA_STORAGE {mask(url)} cannot hold a ledger: {_KINDS}")
    return Path(str(parsed.database)).absolute()


def connect_args(url: str) -> dict[str, int]:
    """Options for every connection to a URL, but for those that it gives itself: dead peers are noticed in 25 s."""
    if sqlite_file(url) is not None:
        return {}
    bound_silence()
    return {name: value for name, value in _PROBES.items() if name not in sqlalchemy.make_url(url).query}


def bound_silence() -> None:
    """From the first call on, every read of this process from a PostgreSQL ends after ANSWER_S."""
    from psycopg2 import extensions

    extensions.set_wait_callback(_wait)


def _wait(connection: Any) -> None:
    """What psycopg2 calls in place of a read that could wait for ever."""
    import psycopg2
    from psycopg2 import extensions

    events = {extensions.POLL_READ: select.POLLIN, extensions.POLL_WRITE: select.POLLOUT}
    while (state := connection.poll()) != extensions.POLL_OK:
        waiting = select.poll()  # select.select takes no descriptor above 1023
        waiting.register(connection, events[state])
        if not waiting.poll(ANSWER_S * 1000):
            raise psycopg2.OperationalError(f"no answer for {ANSWER_S:.0f} s")


def open_engine(url: str) -> sqlalchemy.Engine:
    """What a ledger is read with; it connects when it is first used. Every error of the database raises ours."""
    return _explained(url, sqlalchemy.create_engine(url, pool_pre_ping=True, connect_args=connect_args(url)))


def open_storage(url: str, *, create: bool = True) -> "RDBStorage":
    """Optuna's storage; its tables are made if `create`. Every error of the database raises ours, at once.

    Optuna itself would write a trial again when an answer is lost, and so twice.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    safe = url.replace("{", "{{").replace("}", "}}")  # Optuna formats the URL
    options = {"pool_pre_ping": True, "connect_args": connect_args(url)}
    storage = optuna.storages.RDBStorage(safe, engine_kwargs=options, skip_table_creation=not create)
    _explained(url, storage.engine)
    return storage


def _explained(url: str, engine: sqlalchemy.Engine) -> sqlalchemy.Engine:
    @sqlalchemy.event.listens_for(engine, "handle_error")
    def explain(context: sqlalchemy.ExceptionContext) -> None:
        if isinstance(context.sqlalchemy_exception, _DOWN) and not context.is_pre_ping:
            raise _explanation(url, context.sqlalchemy_exception)

    return engine


@contextmanager
def translate_errors(url: str) -> Iterator[None]:
    """Raise DiskError or UnreachableError, one line, for what a database or its lock file raises inside."""
    try:
        yield
    except AblateError:
        raise
    except Exception as error:
        cause = error.__cause__ if isinstance(error.__cause__, SQLAlchemyError) else error  # Optuna wraps some
        if not isinstance(cause, SQLAlchemyError | OSError | ImportError) and not _is_of_driver(cause):
            raise
        raise _explanation(url, cause) from error


def _is_of_driver(error: Exception) -> bool:
    """SQLAlchemy lets the driver's own error through where it puts the isolation level of a broken connection back."""
    return any(base.__module__ in {"psycopg2", "sqlite3"} and base.__name__ == "Error" for base in type(error).__mro__)


def _explanation(url: str, error: Exception) -> AblateError:
    why = one_line(str(getattr(error, "orig", None) or error))
    path = sqlite_file(url)
    where = str(path.parent if path else mask(url))
    if (path and isinstance(error, OSError)) or any(sign in why for sign in _FULL):
        return DiskError(f"no space on, or no right to write, {where}: free it and run again ({why})")
    if path:
        return UnreachableError(f"database {path} not usable: restore it, or move it away to begin anew ({why})")
    if any(sign in why for sign in _REFUSED):
        return UnreachableError(f"database {where} refused the credentials: check OPTUNA_STORAGE ({why})")
    return UnreachableError(f"database {where} not reachable: start it or check OPTUNA_STORAGE ({why})")


class Lock:
    """A lock that is held; that on a file for as long as the process lives."""

    def ensure(self) -> None:
        """Return if it is still held; take it again if a restart of the database dropped it.

        Raises ConflictError if another process took it meanwhile.
        """


@contextmanager
def hold(url: str, name: str, wait_s: float = 0.0) -> Iterator[Lock]:
    """Hold the lock `name` of the ledger at `url`, waiting at most `wait_s` seconds for it.

    A file lock (flock) beside the file of SQLite, an advisory lock for PostgreSQL. Raises ConflictError that names
    the process that holds it; DiskError or UnreachableError if there can be no lock.
    """
    me = f"pid {os.getpid()} on {socket.gethostname()}"
    with ExitStack() as stack:
        with translate_errors(url):
            if path := sqlite_file(url):
                lock = Lock()
                folder = path.resolve().parent  # of the file that a link leads to: SQLite keeps its journal there
                try:
                    file = stack.enter_context(locked_file(folder / f"{name}.lock", wait_s))
                except BlockingIOError as error:
                    raise _conflict(name, str(error)) from None
                file.truncate(0)
                file.write(me)
                file.flush()
            else:
                engine = sqlalchemy.create_engine(
                    url,
                    isolation_level="AUTOCOMMIT",  # a server could end a session idle in a transaction for hours
                    connect_args={**connect_args(url), "application_name": f"{_PREFIX}{me}"[:63]},
                )
                stack.callback(engine.dispose)
                lock = _AdvisoryLock(url, stack.enter_context(engine.connect()), name)
                lock.take(wait_s)
        yield lock


def holder(url: str, name: str) -> str | None:
    """The process that holds the lock `name` of the ledger at `url`, None if nobody does; takes no lock away."""
    with translate_errors(url):
        if path := sqlite_file(url):
            return lock_holder(path.resolve().parent / f"{name}.lock")
        engine = sqlalchemy.create_engine(url, connect_args=connect_args(url), poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            found = connection.scalar(_HOLDER, {"key": _key(name) & 0xFFFFFFFF})
            return None if found is None else str(found)


def _key(name: str) -> int:
    """What PostgreSQL knows the lock of a name by."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)


class _AdvisoryLock(Lock):
    """Held by one session: when the database restarts, the session and the lock are gone.

    When only the way to the database was cut, the session may live on there without us: it is ended then.
    """

    def __init__(self, url: str, connection: sqlalchemy.Connection, name: str) -> None:
        self._url, self._connection, self._name = url, connection, name
        self._key = _key(name)
        connection.execute(_PROBE)

    def take(self, wait_s: float) -> None:
        deadline = time.monotonic() + wait_s
        while not self._connection.scalar(_TAKE, {"key": self._key}):
            if time.monotonic() > deadline:
                raise _conflict(self._name, self._connection.scalar(_HOLDER, {"key": self._key & 0xFFFFFFFF}))
            time.sleep(_TAKE_AGAIN_S)
        self._session = self._connection.scalar(_SESSION)

    def ensure(self) -> None:
        with translate_errors(self._url):
            try:
                session = self._connection.scalar(_SESSION)
            except sqlalchemy.exc.DBAPIError:  # the connection was lost: the next statement opens another session
                self._connection.rollback()
                session = self._connection.scalar(_SESSION)
            if session != self._session:
                self._connection.execute(_END, {"session": self._session})
                self.take(_LOST_S)


def _conflict(name: str, holder: str | None) -> BusyError:
    return BusyError(f"{name} is being run by {holder or 'another process'}: wait for it, or stop it")


@dataclass
class Outage:
    """Waits while the database is down, at most `limit_s`, or 10 s once `stopping` is true; tells it once."""

    tell: Callable[[str], None]
    limit_s: float
    stopping: Callable[[], bool]

    def retry_until_available(self, write: Callable[[], None]) -> None:
        """Call `write` until it succeeds; it must be safe to call again.

        Raises the UnreachableError of the last attempt when the time is over.
        """
        began, told = time.monotonic(), False
        while True:
            try:
                write()
            except UnreachableError as error:
                if time.monotonic() - began > (min(self.limit_s, _STOPPING_S) if self.stopping() else self.limit_s):
                    raise UnreachableError(f"{error}; run the same command again to continue") from error
                if not told:
                    self.tell("database not reachable, retrying")
                told = True
                time.sleep(_RETRY_S)
            else:
                return
