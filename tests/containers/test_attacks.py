"""The attacks of tests/campaigns on the service in containers, through its port and from inside its networks."""

import json
import secrets as random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from attacks import (
    MLFLOW,
    Answer,
    Attack,
    Finding,
    Ground,
    all_probes,
    each_refused,
    open_to_others,
    read_of_processes,
    told,
)
from compose_project import Project, docker, inspect
from conftest import FIGURES

pytestmark = pytest.mark.timeout(300)
SERVICES = ("db", "mlflow", "account", "scheduler", "worker")
REACH = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 4)"


class Contained(Ground):
    """As `Ground`, of the service in containers. What it has written lies in them."""

    def __init__(self, project: Project) -> None:
        self.service: Any = project
        self.answers: list[str] = []
        self.said: list[str] = []
        name = {"name": f"probes-{random.token_hex(4)}"}
        own = {"experiment_id": project.call(f"{MLFLOW}/experiments/create", name, "sweeper")["experiment_id"]}
        run = project.call(f"{MLFLOW}/runs/create", own, "sweeper")
        self._filled = {"EXPERIMENT_ID": own["experiment_id"], "RUN_ID": run["run"]["info"]["run_id"]}
        self._filled["PORT"] = str(project.port)

    def is_whole(self) -> bool:
        """Nothing planted outside the artifacts, in any place that the tracker can write."""
        words = ("find", "/", "-xdev", "-name", "*planted*", "-not", "-path", "/artifacts/*")
        found = docker("exec", self.service.container("mlflow"), *words, check=False).stdout.split()
        scratch = docker("exec", self.service.container("mlflow"), "find", "/tmp", "-name", "*planted*").stdout.split()
        return not found and not scratch


@pytest.fixture(scope="module")
def ground(service: Project) -> Contained:
    return Contained(service)


def logs(ground: Ground) -> Finding:
    return told(ground, [done.stdout + done.stderr for done in (docker("logs", each) for each in containers(ground))])


def containers(ground: Ground) -> list[str]:
    return [ground.service.container(name) for name in SERVICES]


def described(ground: Ground) -> Finding:
    """What `docker inspect` shows: environment, command, labels, mounts."""
    return told(ground, [json.dumps(inspect(each)) for each in containers(ground)])


def arguments(ground: Ground) -> Finding:
    shown = subprocess.run(["ps", "-eww", "-o", "args="], capture_output=True, text=True, check=True).stdout
    return told(ground, shown.splitlines())


def environments(ground: Ground, *names: str) -> Finding:
    """Of every process in the containers of these services, as root reads them."""
    numbers = [each for name in names for each in processes(ground, name)]
    return told(ground, read_of_processes(Path(f"/proc/{number}/environ") for number in numbers))


def processes(ground: Ground, name: str) -> list[str]:
    return docker("top", ground.service.container(name), "-eo", "pid").stdout.split()[1:]


def modes(ground: Ground) -> Finding:
    found = open_to_others([*(ground.service.folder / "secrets").iterdir()])
    inside = docker(
        "exec", ground.service.container("mlflow"), "find", "/run/secrets", "/tmp", "-type", "f", "-perm", "/077"
    )
    return Finding(
        found.came_back,
        found.refused and not [line for line in inside.stdout.split() if "secret" in line or "auth" in line],
    )


def images(ground: Ground) -> Finding:
    names = ("mnist-ablate:0.1.0", "mnist-ablate-mlflow:0.1.0")
    return told(
        ground, [docker(*words, name).stdout for name in names for words in (("inspect",), ("history", "--no-trunc"))]
    )


def databases(ground: Ground) -> Finding:
    """From the tracker's own container, which reaches the database: other roles, default passwords."""
    words = ground.service.secrets
    tries = [("optuna", words["optuna role"], "mlflow"), ("mlflow", words["mlflow role"], "optuna")]
    tries += [(role, guess, role) for role in ("mlflow", "optuna") for guess in ("", role, "postgres", "password")]
    tries += [("postgres", "postgres", "postgres")]
    program = """
import json, sys, psycopg2
for user, word, name in json.load(sys.stdin):
    try:
        psycopg2.connect(host="db", user=user, password=word, dbname=name, passfile="/nonexistent", connect_timeout=5)
    except psycopg2.OperationalError as error:
        assert "authentication" in str(error) or "permission denied" in str(error) or "no password" in str(error), error
        print(403)
    else:
        print(200)
"""
    command = ["docker", "exec", "-i", ground.service.container("mlflow"), "python", "-c", program]
    done = subprocess.run(command, input=json.dumps(tries), capture_output=True, text=True, check=True, timeout=120)
    assert len(done.stdout.split()) == len(tries), done.stderr
    return each_refused([Answer(int(status)) for status in done.stdout.split()])


def reached(ground: Ground, source: str, host: str, port: int) -> Answer:
    done = docker("exec", ground.service.container(source), "python", "-c", REACH, host, str(port), check=False)
    return Answer(0 if done.returncode else 200)


def dask(ground: Ground) -> Finding:
    """The scheduler from the tracker, which is in another network and knows no such name."""
    return each_refused([reached(ground, "mlflow", "scheduler", 8786)])


REPLACED: dict[str, Attack] = {
    "database: other roles, default passwords": databases,
    "Dask: no TLS, no certificate, another authority's": dask,
    "arguments of all processes": arguments,
    "environments, for other users": described,
    "environments of workers and scheduler": lambda ground: environments(ground, "worker", "scheduler", "db"),
    "files with secrets, for other users": modes,
    "logs of every part": logs,
    "runs, tags, notes, ledger in the databases": lambda ground: told(
        ground,
        [
            ground.service.compose("exec", "-T", "db", "pg_dump", "-U", "postgres", name).stdout
            for name in ("mlflow", "optuna")
        ],
    ),
    "artifacts and reports": lambda ground: told(
        ground, [docker("exec", ground.service.container("mlflow"), "tar", "-C", "/artifacts", "-cf", "-", ".").stdout]
    ),
    "what the sweep printed": images,
    "error messages and tracebacks": logs,
}
"""Where the place to look is another one than for plain processes."""
FAMILIES: dict[str, list[Any]] = {}
for each in all_probes():
    FAMILIES.setdefault(each.family, []).append(each._replace(attack=REPLACED.get(each.name, each.attack)))


@pytest.mark.parametrize("family", FAMILIES)
def test_attacks_are_refused(ground: Contained, family: str) -> None:
    found = {probe.name: probe.attack(ground) for probe in FAMILIES[family]}
    FIGURES.append((f"attacks, {family}", f"{len(found)} refused"))
    assert not {name: finding.came_back for name, finding in found.items() if not finding.refused}


def test_every_replacement_replaces_something() -> None:
    assert set(REPLACED) <= {probe.name for probes in FAMILIES.values() for probe in probes}
