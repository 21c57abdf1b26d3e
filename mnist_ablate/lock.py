"""One driver per sweep: a lock that dies with its process, so that none is ever left to remove by hand."""

import fcntl
import hashlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy
from sqlalchemy import text

from mnist_ablate.errors import ConflictError

_RETRY_S = 0.1


@contextmanager
def hold(url: str, home: Path, name: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock `name` of the ledger at `url`, waiting at most `wait_s` seconds for it.

    A file lock (flock) in `home` for SQLite, an advisory lock for PostgreSQL. Raises ConflictError that names the
    process that holds it.
    """
    lock = _postgresql(url, name, wait_s) if url.startswith("postgresql") else _file(home, name, wait_s)
    with lock:
        yield


@contextmanager
def _file(home: Path, name: str, wait_s: float) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True)
    with (home / f"{name}.lock").open("a+") as file:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    file.seek(0)
                    raise _conflict(name, file.read().strip() or "another process") from None
                time.sleep(_RETRY_S)
        file.truncate(0)
        file.write(_me())
        file.flush()
        yield


@contextmanager
def _postgresql(url: str, name: str, wait_s: float) -> Iterator[None]:
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
    engine = sqlalchemy.create_engine(url, connect_args={"application_name": f"mnist-ablate {_me()}"[:63]})
    with engine.connect() as connection:
        deadline = time.monotonic() + wait_s
        while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}):
            if time.monotonic() > deadline:
                raise _conflict(name, connection.scalar(_HOLDER, {"key": key & 0xFFFFFFFF}) or "another process")
            time.sleep(_RETRY_S)
        yield
    engine.dispose()


_HOLDER = text(
    "SELECT replace(application_name, 'mnist-ablate ', '') FROM pg_locks JOIN pg_stat_activity USING (pid) "
    "WHERE locktype = 'advisory' AND granted AND objid::bigint = :key"
)


def _me() -> str:
    return f"pid {os.getpid()} on {socket.gethostname()}"


def _conflict(name: str, holder: str) -> ConflictError:
    return ConflictError(f"{name} is being run by {holder}: wait for it, or stop it")
