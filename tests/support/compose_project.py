"""The team's service in real containers: a folder as `stack init` makes it, Compose in it, and what people see of it.

It needs the engine that `tests/containers/run` starts; base images come from there too.
"""

import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from command import PROGRAM, base_environment
from sweep_runs import sweep_file

from mnist_ablate.workloads.keras_mnist.data import MNIST

PYTHON_IMAGE, POSTGRES_IMAGE, S3_IMAGE = "local/python:trixie", "local/postgres:17", "local/s3:1"
BUILT = ("mlflow", "account", "scheduler", "worker", "sweep", "service", "runner")
PROFILES = ("--profile", "cluster", "--profile", "service")
Completed = subprocess.CompletedProcess[str]


@dataclass
class Project:
    """One service: `folder` is its user's, `name` Compose's name of it, `home` what its host commands use."""

    folder: Path
    name: str = "mnist-ablate"
    variables: dict[str, str] = field(default_factory=dict)
    disk: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """Of a person at this machine, whose `docker` asks the engine of the tests."""
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return base_environment(
            **{"PATH": path, "HOME": str(self.folder), "COMPOSE_PROJECT_NAME": self.name, **self.variables}
        )

    def shell(self, script: str, timeout_s: float = 600) -> Completed:
        """Lines of the guide, as a person pastes them; every one of them must work."""
        return self._run(["bash", "-euo", "pipefail", "-c", script], timeout_s)

    def compose(self, *arguments: str, check: bool = True, timeout_s: float = 600) -> Completed:
        done = self._run(["docker", "compose", *PROFILES, *arguments], timeout_s)
        assert not check or done.returncode == 0, f"{shlex.join(arguments)}: {done.stdout} {done.stderr}"
        return done

    def _run(self, words: Sequence[str], timeout_s: float) -> Completed:
        null = subprocess.DEVNULL
        environment = {name: value for name, value in self.environment.items() if name != "MLFLOW_TRACKING_URI"}
        return subprocess.run(
            words, cwd=self.folder, env=environment, stdin=null, capture_output=True, text=True, timeout=timeout_s
        )

    def up(self, *services: str, workers: int = 2) -> None:
        """Start these and what they need, and wait until they are well; a tracker gets its account too."""
        scale = ["--scale", f"worker={workers}"] if "worker" in services else []
        self.compose("up", "-d", "--no-build", *scale, *services, *(["account"] if "mlflow" in services else []))
        self.wait_healthy(*services, timeout_s=300)

    def up_again(self, *services: str) -> None:
        """Start these after `down`, as `running` told them before, with two workers."""
        self.compose("up", "-d", "--no-build", "--scale", "worker=2", *services)
        self.wait_healthy(*({*services} - {"runner"}), timeout_s=300)

    def running(self) -> list[str]:
        """The services that run, by name."""
        return self.compose("ps", "--services").stdout.split()

    def container(self, service: str) -> str:
        """The id of a service's container; of the first, where there are several."""
        return self.compose("ps", "-a", "-q", service).stdout.split()[0]

    def kill(self, container: str) -> None:
        """Kill -9 what runs in a container, as the kernel would: Docker itself is not asked and restarts it."""
        pid = int(inspect(container)["State"]["Pid"])
        assert pid, f"{container} has ended already"  # 0 would be this process and all beside it
        os.kill(pid, 9)

    def rows(self, database: str, query: str) -> list[str]:
        """What the database answers to its administrator, a line a row."""
        done = self.compose("exec", "-T", "db", "psql", "-U", "postgres", "-d", database, "-qtAc", query)
        return done.stdout.split("\n")[:-1]

    def call(self, path: str, body: object = None, user: str = "admin", *, at: str = "") -> Any:
        """A request to the tracker through the published port, or `at` another address, and its JSON."""
        words = ["curl", "-sS", "--fail-with-body", "-m", "60", "-u", f"{user}:{self.password(user)}"]
        words += ["-H", "Content-Type: application/json"]
        words += ["-d", json.dumps(body)] if body is not None else []
        done = subprocess.run([*words, f"{at or self.address}{path}"], capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    @property
    def port(self) -> int:
        return int(self.settings.get("MLFLOW_PORT", "5000"))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    tracking_uri = address

    @property
    def secrets(self) -> dict[str, str]:
        """What nobody may see, by the names that the attacks use."""
        text = {path.name: path.read_text().strip() for path in (self.folder / "secrets").iterdir()}
        roles = {f"{role} role": text[f"{role}_pgpass"].rpartition(":")[2] for role in ("mlflow", "optuna")}
        alone = {name: text[name] for name in ("mlflow_session_key", "mlflow_admin_password", "postgres_password")}
        return {**alone, **roles, "account": self.password("sweeper")}

    @property
    def settings(self) -> dict[str, str]:
        lines = (self.folder / ".env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))

    def add_setting(self, line: str) -> None:
        """One more line of .env."""
        path = self.folder / ".env"
        path.write_text(f"{path.read_text()}{line}\n")

    @property
    def sweeps_port(self) -> int:
        return int(self.settings.get("SERVICE_PORT", "8080"))

    @property
    def sweeps_uri(self) -> str:
        return f"http://127.0.0.1:{self.sweeps_port}"

    def password(self, user: str) -> str:
        secrets = self.folder / "secrets"
        if user == "admin":
            return (secrets / "mlflow_admin_password").read_text().strip()
        return (secrets / "mlflow_credentials").read_text().strip().rpartition(" = ")[2]

    def wait_healthy(self, *services: str, timeout_s: float = 120) -> float:
        """Seconds until every container of these services is well."""
        began = time.monotonic()
        wait_until(lambda: all(self.health(each) == {"healthy"} for each in services), f"{services} well", timeout_s)
        return time.monotonic() - began

    def health(self, service: str) -> set[str]:
        """Of each container of a service: healthy, starting, unhealthy, or how it is without a check."""
        found = self.compose("ps", "-a", "-q", service).stdout.split()
        states = [inspect(each)["State"] for each in found]
        return {state.get("Health", {}).get("Status", state["Status"]) for state in states}

    def remove(self) -> None:
        """Everything of it that the engine holds."""
        self.compose("down", "-v", "--remove-orphans", "-t", "5", check=False)


def follow(project: Project, script: str) -> Completed:
    done = project.shell(script)
    assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done


def small(project: Project, name: str) -> str:
    """The script of a sweep of six trainings, by the host's own command."""
    sweep_file(project.folder / "data", name=name, seeds=2, fixed={"epochs": 1, "model": "mlp", "width": 100})
    return f". secrets/client.env && mnist-ablate sweep data/{name}.yaml"


def docker(*arguments: str, check: bool = True, timeout_s: float = 300) -> Completed:
    command = ["docker", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout_s)
    assert not check or done.returncode == 0, f"docker {shlex.join(arguments)}: {done.stderr}"
    return done


def inspect(container: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(docker("inspect", container).stdout)
    return found[0]


def machine_address() -> str:
    """Of this machine, as containers reach it that have a way out."""
    about = json.loads(docker("network", "inspect", "bridge").stdout)[0]
    return str(about["IPAM"]["Config"][0]["Gateway"])


def memory(project: Project, services: Sequence[str]) -> str:
    """What the first container of each of these services holds now."""
    found = [project.container(name) for name in services]
    lines = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", *found).stdout.splitlines()
    return ", ".join(f"{name} {line.split()[0]}" for name, line in zip(services, lines, strict=True))


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"never {what}"
        time.sleep(0.3)


def prepare(
    folder: Path, *, uid: int = 0, wrapped: Mapping[str, str] | None = None, disk: str = "", **env: str
) -> None:
    """What the tests give a user beside the guide: images to train on, base images, and how a build reaches an index.

    `wrapped` are more options for commands of `mnist-ablate`, which is first on the user's path. `disk` is the device
    of the tracker's files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bin").mkdir()
    program = folder / "bin" / "mnist-ablate"
    cases = "".join(f'{name}) exec {PROGRAM} "$@" {options} ;;\n' for name, options in (wrapped or {}).items())
    program.write_text(f'#!/bin/sh\ncase "$1" in\n{cases}*) exec {PROGRAM} "$@" ;;\nesac\n')
    program.chmod(0o755)
    (folder / "data").mkdir()
    write_digits(folder / "data" / "digits.npz")
    lines = {"PYTHON_IMAGE": PYTHON_IMAGE, "POSTGRES_IMAGE": POSTGRES_IMAGE, **env}
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    build = {"build": {"network": "host"}}
    services: dict[str, Any] = {name: dict(build) for name in BUILT}
    for name in ("sweep", "service", "runner"):
        services[name]["volumes"] = ["./data:/data:ro"]
    volume = {"driver_opts": {"type": "ext4", "device": disk}} if disk else {}
    document = {"services": services, "volumes": {"artifacts": volume}}
    (folder / "docker-compose.override.yml").write_text(yaml.safe_dump(document))
    if uid:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, uid, uid)


def write_digits(path: Path, train: int = 600, test: int = 200) -> None:
    """A few of the real images."""
    with np.load(MNIST) as file:
        counts = {name: train if name.endswith("train") else test for name in file}
        np.savez(path, **{name: file[name][: counts[name]] for name in file})


@contextmanager
def changed(path: Path) -> Iterator[None]:
    """A file that is as before after the block."""
    before = path.read_bytes()
    try:
        yield
    finally:
        path.write_bytes(before)


@contextmanager
def small_disk(folder: Path, size: str = "48M") -> Iterator[str]:
    """A device with an empty file system that everybody may write, which a test can fill."""
    image = folder / "disk.img"
    subprocess.run(["truncate", "-s", size, image], check=True)
    device = subprocess.run(
        ["losetup", "-f", "--show", image], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        make_empty(device, folder)
        yield device
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def make_empty(device: str, folder: Path) -> None:
    place = folder / "mounted"
    place.mkdir(exist_ok=True)
    subprocess.run(["mkfs.ext4", "-qF", "-m", "0", device], check=True)
    subprocess.run(["mount", device, place], check=True)
    (place / "lost+found").rmdir()
    place.chmod(0o1777)
    subprocess.run(["umount", place], check=True)


@contextmanager
def removed(project: Project) -> Iterator[Project]:
    """The project, of which nothing is left in the engine afterwards."""
    try:
        yield project
    finally:
        project.remove()
        shutil.rmtree(project.folder, ignore_errors=True)
