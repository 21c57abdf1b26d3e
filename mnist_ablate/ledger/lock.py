"""One driver per sweep: a lock that dies with its process, so that none is ever left to remove by hand."""

import hashlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import sqlalchemy
from sqlalchemy import text

from mnist_ablate.errors import ConflictError
from mnist_ablate.ledger.database import connect_args, resolved_folder, sqlite_file, translate_errors
from mnist_ablate.processes import locked_file

_RETRY_S = 0.1
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
                try:
                    file = stack.enter_context(locked_file(resolved_folder(path) / f"{name}.lock", wait_s))
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


class _AdvisoryLock(Lock):
    """Held by one session: when the database restarts, the session and the lock are gone.

    When only the way to the database was cut, the session may live on there without us: it is ended then.
    """

    def __init__(self, url: str, connection: sqlalchemy.Connection, name: str) -> None:
        self._url, self._connection, self._name = url, connection, name
        self._key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
        connection.execute(_PROBE)

    def take(self, wait_s: float) -> None:
        deadline = time.monotonic() + wait_s
        while not self._connection.scalar(_TAKE, {"key": self._key}):
            if time.monotonic() > deadline:
                raise _conflict(self._name, self._connection.scalar(_HOLDER, {"key": self._key & 0xFFFFFFFF}))
            time.sleep(_RETRY_S)
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


def _conflict(name: str, holder: str | None) -> ConflictError:
    return ConflictError(f"{name} is being run by {holder or 'another process'}: wait for it, or stop it")
