"""The whole service on this machine: PostgreSQL with two databases and roles, MLflow with accounts, Dask with TLS.

Started by what the containers start (docker/), each part on its own port, secrets in files that only their user reads.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import certificates
import pytest
import sqlalchemy
from certificates import Files
from command import PROGRAM, Command, Done, base_environment
from mlflow_helpers import free_port
from postgres import Postgres, postgres
from sweep_runs import sweep_file
from tiny_images import write_images

DOCKER = Path(__file__).parents[2] / "docker"
SERVER = DOCKER / "mlflow_server.py"
USER, ADMIN = "sweeper", "admin"
READY_S = 120.0


@dataclass(frozen=True)
class Stack:
    """Where each part answers, what it may not tell, and what it wrote; `folder` is the test's own."""

    folder: Path
    port: int
    database_port: int
    scheduler: str
    certificates: Files
    secrets: Mapping[str, str]
    processes: Mapping[str, "subprocess.Popen[bytes]"]

    @property
    def tracking_uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    def database(self, name: str) -> str:
        return f"postgresql+psycopg2://{name}@127.0.0.1:{self.database_port}/{name}"

    def logs(self) -> dict[str, str]:
        return {path.stem: path.read_text(errors="replace") for path in self.folder.glob("*.log")}

    def password(self, user: str) -> str:
        return self.secrets["mlflow_admin_password" if user == ADMIN else "account"]

    @property
    def cluster(self) -> list[str]:
        """The options of a sweep that runs on its workers."""
        return ["--cluster", self.scheduler, *self.certificates.options]

    def environment(self, **more: str) -> dict[str, str]:
        """Of a person who runs sweeps against it."""
        own = {
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "MLFLOW_TRACKING_USERNAME": USER,
            "MLFLOW_TRACKING_PASSWORD": self.password(USER),
            "OPTUNA_STORAGE": self.database("optuna"),
            "PGPASSFILE": str(self.folder / "secrets" / "optuna_pgpass"),
        }
        return base_environment(**{**own, **more})

    def swept(self, home: Path) -> list[Done]:
        """A small sweep on its workers by a person whose files are in `home`, and what verify says of it."""
        path, images = sweep_file(home), write_images(home / "tiny.npz")
        fake = {"MNIST_ABLATE_TRAINER": "fake_trainer:factory", "PYTHONPATH": str(Path(__file__).parent)}
        run = Command(home, self.environment(**fake))
        return [run("sweep", str(path), "--data", str(images), "--json", *self.cluster), run("verify", str(path))]

    def call(self, path: str, body: object = None, user: str = USER) -> Any:
        """A request with credentials, and the JSON that comes back."""
        words = b64encode(f"{user}:{self.password(user)}".encode()).decode()
        headers = {"Authorization": f"Basic {words}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.tracking_uri + path, data, headers)
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.loads(reply.read() or b"{}")


@contextmanager
def stack() -> Iterator[Stack]:
    """The service, ended with everything it wrote; its workers train with the fake trainer if a sweep says so."""
    with ExitStack() as parts:
        place = tempfile.TemporaryDirectory(prefix="ablate-stack-", ignore_cleanup_errors=True)
        folder = Path(parts.enter_context(place))
        database = parts.enter_context(postgres())
        if database.binaries is None:
            pytest.skip("the service's own roles need a PostgreSQL server of the test's own")
        words = write_secrets(folder / "secrets", database.port)
        create_databases(database, folder / "secrets")
        files = certificates.made(folder / "tls")
        ports = free_port(), free_port()
        address = f"tls://127.0.0.1:{ports[1]}"
        running: dict[str, subprocess.Popen[bytes]] = {}

        def start(name: str, command: list[Any], environment: Mapping[str, str]) -> None:
            running[name] = parts.enter_context(process(command, environment, folder / f"{name}.log"))

        server = server_environment(folder, database.port, ports[0])
        start("mlflow", [sys.executable, SERVER, "serve"], server)
        start("scheduler", [PROGRAM, "scheduler", "--port", ports[1], *files.options], base_environment())
        for number in (1, 2):
            name = ["--jobs", "1", "--name", f"machine-{number}"]
            command = [PROGRAM, "worker", address, *name, *files.options]
            start(
                f"worker-{number}",
                command,
                base_environment(PYTHONPATH=str(Path(__file__).parent), FAKE_DIR=str(folder)),
            )
        found = Stack(folder, ports[0], database.port, address, files, words, running)
        until_it_answers(found, server)
        subprocess.run([sys.executable, SERVER, "account"], env=server, check=True, capture_output=True, timeout=60)
        yield found


def write_secrets(folder: Path, port: int) -> dict[str, str]:
    """Random ones, in the files that the service reads them from."""
    folder.mkdir(mode=0o700)
    found = {name: secrets.token_urlsafe(24) for name in ("mlflow_session_key", "mlflow_admin_password")}
    files = dict(found)
    for role in ("mlflow", "optuna"):
        found[f"{role} role"] = secrets.token_urlsafe(24)
        files[f"{role}_pgpass"] = f"127.0.0.1:{port}:{role}:{role}:{found[f'{role} role']}"
    found["account"] = secrets.token_urlsafe(24)
    lines = f"mlflow_tracking_username = {USER}\nmlflow_tracking_password = {found['account']}"
    files["mlflow_credentials"] = f"[mlflow]\n{lines}"
    for name, content in files.items():
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(f"{content}\n")
    return found


def create_databases(server: Postgres, folder: Path) -> None:
    """As the container does on its first start; from then on roles are let in by password alone."""
    assert server.binaries
    assert server.data
    command = [server.binaries / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(server.port)]
    command += ["-U", "ablate", "-d", "postgres", "-f", DOCKER / "databases.sql"]
    environment = {**os.environ, "STACK_SECRETS": str(folder)}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    rules = "host all ablate 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
    (server.data / "pg_hba.conf").write_text(rules)
    engine = sqlalchemy.create_engine(server.url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("SELECT pg_reload_conf()"))
    engine.dispose()


def server_environment(folder: Path, database_port: int, port: int) -> dict[str, str]:
    return base_environment(
        STACK_SECRETS=str(folder / "secrets"),
        STACK_SCRATCH=str(folder),
        STACK_PORT=str(port),
        STACK_DATABASE=f"postgresql+psycopg2://mlflow@127.0.0.1:{database_port}/mlflow",
        STACK_SERVER_PROCESSES="1",
        MLFLOW_ARTIFACTS_DESTINATION=(folder / "artifacts").as_uri(),
    )


@contextmanager
def process(command: list[Any], environment: Mapping[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process in a group of its own, stopped as a service is: SIGTERM, then all that is left of the group."""
    with log.open("wb") as file:
        running = subprocess.Popen(
            [str(part) for part in command],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=log.parent,
            start_new_session=True,
        )
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            running.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def until_it_answers(found: Stack, server: Mapping[str, str]) -> None:
    """Wait for MLflow's own health check, and for both workers."""
    end = time.monotonic() + READY_S
    while not (ready(found) and healthy(server)):
        for name, part in found.processes.items():
            assert part.poll() is None, f"{name} ended: {found.logs()[name][-2000:]}"
        assert time.monotonic() < end, found.logs()
        time.sleep(0.3)


def ready(found: Stack) -> bool:
    logs = found.logs()
    up = all(f"worker machine-{number} at tls:" in logs[f"worker-{number}"] for number in (1, 2))
    return up and "startup complete" in logs["mlflow"]


def healthy(server: Mapping[str, str]) -> bool:
    return not subprocess.run([sys.executable, SERVER, "health"], env=dict(server), capture_output=True).returncode
