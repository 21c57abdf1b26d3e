"""Optuna's storage at a URL, and its errors as one line without a password; knows no sweep."""

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from sqlalchemy.exc import ArgumentError, InterfaceError, InternalError, OperationalError, SQLAlchemyError

from mnist_ablate.errors import AblateError, DiskError, UnreachableError, mask, one_line

_DOWN = (OperationalError, InterfaceError, InternalError)
_FULL = ("disk is full", "No space left", "readonly database", "unable to open database", "disk I/O error")
_REFUSED = ("authentication failed", "no password supplied", "permission denied", "role ", "no pg_hba.conf entry")


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite URL; None for PostgreSQL. Raises UnreachableError for any other kind."""
    try:
        parsed = sqlalchemy.make_url(url)
    except ArgumentError:
        raise UnreachableError(f"OPTUNA_STORAGE {mask(url)} is no database URL: {_KINDS}") from None
    if parsed.drivername == "postgresql+psycopg2":
        return None
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        raise UnreachableError(f"OPTUNA_STORAGE {mask(url)} cannot hold a ledger: {_KINDS}")
    return Path(str(parsed.database)).absolute()


def real_folder(file: Path) -> Path:
    """Where SQLite keeps its journal, and we the locks, of a file that may be a link."""
    return Path(os.path.realpath(file)).parent


_KINDS = "sqlite:////path/file.db or postgresql+psycopg2://user:password@host/database is expected"


ANSWER_S = 60.0
"""A PostgreSQL that says nothing for so long counts as down: its host, or the way to it, may be gone."""
_PROBES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}


def connect_args(url: str) -> dict[str, Any]:
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
    from psycopg2 import OperationalError as Failure
    from psycopg2 import extensions

    events = {extensions.POLL_READ: select.POLLIN, extensions.POLL_WRITE: select.POLLOUT}
    while (state := connection.poll()) != extensions.POLL_OK:
        waiting = select.poll()  # select.select takes no descriptor above 1023
        waiting.register(connection, events[state])
        if not waiting.poll(ANSWER_S * 1000):
            raise Failure(f"no answer for {ANSWER_S:.0f} s")


def open_storage(url: str, *, create: bool) -> optuna.storages.RDBStorage:
    """The storage, its tables made if `create`; every error of the database raises ours, at once.

    Optuna itself would write a trial again when an answer is lost, and so twice.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    safe = url.replace("{", "{{").replace("}", "}}")  # Optuna formats the URL
    kwargs = {"pool_pre_ping": True, "connect_args": connect_args(url)}
    storage = optuna.storages.RDBStorage(safe, engine_kwargs=kwargs, skip_table_creation=not create)

    @sqlalchemy.event.listens_for(storage.engine, "handle_error")
    def explain(context: sqlalchemy.ExceptionContext) -> None:
        if isinstance(context.sqlalchemy_exception, _DOWN) and not context.is_pre_ping:
            raise explanation(url, context.sqlalchemy_exception)

    return storage


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Raises DiskError or UnreachableError, one line, for what a database or its lock file raises inside."""
    try:
        yield
    except AblateError:
        raise
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError, ImportError) as error:
        raise explanation(url, error) from error


def explanation(url: str, error: BaseException) -> AblateError:
    """The error to raise for one of the database or of its lock file."""
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    text = one_line(str(getattr(cause, "orig", None) or cause))
    path = sqlite_file(url)
    where = str(path.parent if path else mask(url))
    no_file = isinstance(error, OSError) and path is not None
    if no_file or any(sign in text for sign in _FULL):
        return DiskError(f"no space on, or no right to write, {where}: free it and run again ({text})")
    if path is None and any(sign in text for sign in _REFUSED):
        return UnreachableError(f"database {where} refused the credentials: check OPTUNA_STORAGE ({text})")
    if path is not None:
        return UnreachableError(f"database {path} not usable: restore it, or move it away to begin anew ({text})")
    return UnreachableError(f"database {where} not reachable: start it or check OPTUNA_STORAGE ({text})")


def writable(folder: Path) -> bool:
    """Whether files can be made in a folder that exists."""
    return os.access(folder, os.W_OK)
