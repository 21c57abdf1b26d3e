"""A real PostgreSQL for tests, from Debian's binaries: a server of the test's own, which may be stopped and started."""

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


@dataclass
class Postgres:
    """Its programs, its data and the port that it listens on; everybody on this machine is let in as `ablate`."""

    binaries: Path
    data: Path
    port: int

    @property
    def url(self) -> str:
        return f"postgresql+psycopg2://ablate@127.0.0.1:{self.port}/postgres"

    def crash(self) -> None:
        """Stop at once, as a power loss would."""
        self.run("pg_ctl", "stop", "-m", "immediate", "-w")

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.data}"
        self.run("pg_ctl", "start", "-w", "-o", options, "-l", f"{self.data}/log")

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"ablate_{uuid.uuid4().hex[:12]}"
        engine = sqlalchemy.create_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self.url.removesuffix("postgres") + name

    def run(self, program: str, *arguments: str) -> None:
        command, null = [self.binaries / program, "-D", str(self.data), *arguments], subprocess.DEVNULL
        subprocess.run(command, check=True, stdout=null, stderr=null, cwd="/", timeout=60, **_ordinary_user())


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server, ended with everything it wrote; skips with the reason if there is none."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not programs:
        pytest.skip("no PostgreSQL: install Debian's postgresql")
    folder = Path(tempfile.mkdtemp(prefix="ablate-pg-"))
    if user := _ordinary_user():
        os.chown(folder, user["user"], user["group"])
    with socket.create_server(("127.0.0.1", 0)) as free:
        server = Postgres(programs[-1].parent, folder / "data", int(free.getsockname()[1]))
    try:
        server.run("initdb", "-U", "ablate", "-A", "trust", "--no-sync", "-E", "UTF8")
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
