"""The whole service on this machine: PostgreSQL with two databases and roles, MLflow with accounts, Dask with TLS.

Started by what the containers start (docker/), each part on its own port, secrets in files that only their user reads.
"""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import certificates
import sqlalchemy
from certificates import Files
from command import PROGRAM, Command, Done, base_environment, fake_trainer_environment, wait_for
from mlflow_helpers import free_port
from postgres import Postgres, postgres
from sweep_runs import sweep_file
from tiny_images import write_images

from mnist_ablate.service import stack as service_files

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
    sweeps_port: int
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def tracking_uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

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
            "OPTUNA_STORAGE": f"postgresql+psycopg2://optuna@127.0.0.1:{self.database_port}/optuna",
            "PGPASSFILE": str(self.folder / "secrets" / "optuna_pgpass"),
        }
        return base_environment(**{**own, **more})

    def swept(self, home: Path) -> list[Done]:
        """A small sweep on its workers by a person whose files are in `home`, and what verify says of it."""
        path, images = sweep_file(home), write_images(home / "tiny.npz")
        run = Command(home, self.environment(**fake_trainer_environment(home)))
        return [run("sweep", str(path), "--data", str(images), "--json", *self.cluster), run("verify", str(path))]

    @property
    def sweeps_uri(self) -> str:
        return f"http://127.0.0.1:{self.sweeps_port}"

    def call(self, path: str, body: object = None, user: str = USER, at: str = "") -> Any:
        """A request with credentials to MLflow's server or one at another address, and the JSON that comes back."""
        words = b64encode(f"{user}:{self.password(user)}".encode()).decode()
        headers = {"Authorization": f"Basic {words}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request((at or self.tracking_uri) + path, data, headers)
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.loads(reply.read() or b"{}")

    def answers(self) -> bool:
        """Whether MLflow's own health check passes, and both workers are there."""
        for name, part in self.processes.items():
            assert part.poll() is None, f"{name} ended: {self.log(name)[-2000:]}"
        return (
            "startup complete" in self.log("mlflow")
            and all(f"worker machine-{number} at tls:" in self.log(f"worker-{number}") for number in (1, 2))
            and "sweep service:" in self.log("sweeps")
        )


@contextmanager
def stack() -> Iterator[Stack]:
    """The service, ended with everything it wrote; its workers train with the fake trainer if a sweep says so."""
    with ExitStack() as parts:
        place = TemporaryDirectory(prefix="ablate-stack-", ignore_cleanup_errors=True)
        folder = Path(parts.enter_context(place))
        database = parts.enter_context(postgres())
        port, scheduler_port = free_port(), str(free_port())
        files = certificates.made(folder / "tls")
        words = write_secrets(folder / "secrets")
        sweeps_port = free_port()
        found = Stack(folder, port, database.port, f"tls://127.0.0.1:{scheduler_port}", files, words, sweeps_port)
        create_databases(database, folder / "secrets")

        def start(name: str, command: list[Any], environment: Mapping[str, str]) -> None:
            found.processes[name] = parts.enter_context(process(command, environment, folder / f"{name}.log"))

        server = base_environment(
            STACK_SECRETS=str(folder / "secrets"),
            STACK_SCRATCH=str(folder),
            STACK_PORT=str(port),
            STACK_DATABASE=f"postgresql+psycopg2://mlflow@127.0.0.1:{database.port}/mlflow",
            STACK_SERVER_PROCESSES="1",
            MLFLOW_ARTIFACTS_DESTINATION=found.artifacts.as_uri(),
        )
        start("mlflow", [sys.executable, SERVER, "serve"], server)
        start("scheduler", [PROGRAM, "scheduler", "--port", scheduler_port, *files.options], base_environment())
        worker = base_environment(PYTHONPATH=str(Path(__file__).parent), FAKE_DIR=str(folder))
        for number in (1, 2):
            options = ["--jobs", "1", "--name", f"machine-{number}", *files.options]
            start(f"worker-{number}", [PROGRAM, "worker", found.scheduler, *options], worker)
        start("sweeps", *_sweep_service(found))
        health = [sys.executable, SERVER, "health"]
        wait_for(
            lambda: found.answers() and not subprocess.run(health, env=server, capture_output=True).returncode, READY_S
        )
        subprocess.run([sys.executable, SERVER, "account"], env=server, check=True, capture_output=True, timeout=60)
        yield found


def _sweep_service(of: Stack) -> tuple[list[Any], dict[str, str]]:
    """The command of the sweep service, without a runner, and its environment. It takes code from one folder."""
    code = of.folder / "code"
    code.mkdir()
    (code / "train.py").write_text("def train(seed: int, lr: float): ...\n")
    (code / "away").symlink_to(of.folder / "secrets")
    (of.folder / "roles.yaml").write_text("roles: {admin: operator}\n")
    options = ["--accounts", "mlflow", "--roles", of.folder / "roles.yaml", "--code-path", code]
    command = [PROGRAM, "serve", "--no-runner", "--no-browser", "--port", str(of.sweeps_port), *options]
    own = of.environment()
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        del own[name]
    return [*command, "--home", of.folder / "service"], own


def write_secrets(folder: Path) -> dict[str, str]:
    """As `stack init` does; what is in the files."""
    service_files.write_secrets(folder)
    text = {path.name: path.read_text().strip() for path in folder.iterdir()}
    roles = {f"{role} role": text[f"{role}_pgpass"].rpartition(":")[2] for role in ("mlflow", "optuna")}
    alone = {name: text[name] for name in ("mlflow_session_key", "mlflow_admin_password")}
    return {**alone, **roles, "account": text["mlflow_credentials"].rpartition(" = ")[2]}


def create_databases(server: Postgres, folder: Path) -> None:
    """As the container does on its first start; from then on roles are let in by password alone."""
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


@contextmanager
def process(command: list[Any], environment: Mapping[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process in a group of its own, stopped as a service is: SIGTERM, then all that is left of the group."""
    words, null = [str(part) for part in command], subprocess.DEVNULL
    options: dict[str, Any] = {"env": dict(environment), "cwd": log.parent, "start_new_session": True}
    with log.open("wb") as file:
        running = subprocess.Popen(words, stdin=null, stdout=file, stderr=file, **options)
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            running.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
