"""A sweep in containers goes on through every fault: no trial lost or twice, MLflow in step, exit codes as documented.

The workers train the real networks, on a few of the images.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from compose_project import Project, docker, inspect, memory, prepare, removed, wait_until
from conftest import FIGURES
from sweep_runs import sweep_file

pytestmark = pytest.mark.timeout(1200)
SEEDS, EPOCHS = 7, 600  # a trial on a warm worker takes seconds: a part of them is still to come after several faults
PLANNED = 2 * SEEDS
TOLD = (
    "SELECT a.value_json FROM trials t JOIN studies s USING (study_id) JOIN trial_user_attributes a USING (trial_id) \
WHERE s.study_name LIKE '{name}/%' AND t.state = 'COMPLETE' AND a.key = 'trial_id'"
)
RUNS = "SELECT t.value FROM runs r JOIN experiments e USING (experiment_id) JOIN tags t USING (run_uuid) \
WHERE e.name = '{name}' AND r.lifecycle_stage = 'active' AND t.key = 'trial_id'"


@dataclass
class Sweep:
    """A sweep in a container of its own; the same command starts it and goes on with it."""

    project: Project
    name: str
    starts: int = 0

    def start(self) -> None:
        self.starts += 1
        options = ["run", "-d", "--no-deps", "--name", self.container, "sweep", "sweep", f"/data/{self.name}.yaml"]
        self.project.compose(*options, "--data", "/data/digits.npz", "--cluster", "tcp://scheduler:8786")

    @property
    def container(self) -> str:
        return f"sweep-{self.name}-{self.starts}"

    def recorded(self) -> list[str]:
        """The ids of finished trials in the ledger, each as often as it is there; none before the first sweep."""
        tables = self.project.rows("optuna", "SELECT 1 FROM pg_tables WHERE tablename = 'trial_user_attributes'")
        return self.project.rows("optuna", TOLD.format(name=self.name)) if tables else []

    def ended(self, timeout_s: float = 240) -> int:
        """The exit code, once it has ended."""
        return int(docker("wait", self.container, timeout_s=timeout_s).stdout)

    def said(self) -> str:
        done = docker("logs", self.container)
        return done.stdout + done.stderr

    def ask(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Another command of the same user."""
        return self.project.compose("run", "--rm", "-T", "--no-deps", "sweep", *words, check=False)

    def goes_on(self) -> None:
        """Waits until one more trial is recorded, and not all."""
        before = len(self.recorded())
        wait_until(lambda: len(self.recorded()) > before or self.is_over(), "one more trial recorded", 240)
        assert not self.is_over(), self.said()
        assert len(self.recorded()) < PLANNED

    def sync(self) -> None:
        """Gives MLflow what it missed."""
        synced = self.ask("sync", f"/data/{self.name}.yaml")
        assert synced.returncode == 0, synced.stdout + synced.stderr

    def is_over(self) -> bool:
        return inspect(self.container)["State"]["Status"] == "exited"


@contextmanager
def sweep(project: Project, name: str, faults: str) -> Iterator[Sweep]:
    """A sweep under way. After the block it is looked at: everything recorded once, here and in MLflow."""
    sweep_file(project.folder / "data", name=name, seeds=SEEDS, fixed={"epochs": EPOCHS, "width": 300, "model": "mlp"})
    found, began = Sweep(project, name), time.monotonic()
    found.start()
    found.goes_on()
    yield found
    trials, runs = found.recorded(), project.rows("mlflow", RUNS.format(name=name))
    lost, twice = PLANNED - len(set(trials)), len(trials) - len(set(trials))
    runs_lost, runs_twice = PLANNED - len(set(runs)), len(runs) - len(set(runs))
    told = f"lost/twice {lost}/{twice}, in MLflow {runs_lost}/{runs_twice}, {time.monotonic() - began:.0f} s"
    FIGURES.append((faults, told))
    assert (lost, twice, runs_lost, runs_twice) == (0, 0, 0, 0), found.said()
    verified = found.ask("verify", f"/data/{name}.yaml")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    for number in range(1, found.starts + 1):
        docker("rm", "-f", f"sweep-{name}-{number}")


def kill(project: Project, service: str) -> None:
    """Kill -9 of a service, which then comes back by its policy alone."""
    container = project.container(service)
    before = inspect(container)["State"]["StartedAt"]

    def is_back() -> bool:
        state = inspect(container)["State"]
        return bool(state["Running"]) and state["StartedAt"] != before

    project.kill(container)
    wait_until(is_back, f"{service} started again", 60)


def test_kill_9_of_every_part_and_of_the_sweep_itself(cluster: Project) -> None:
    """One after the other in one sweep. Only a killed scheduler ends it, and the same command goes on with it."""
    with sweep(cluster, "killed", "kill -9 of db, worker, scheduler, sweep, mlflow") as running:
        for service in ("db", "worker"):
            kill(cluster, service)
            cluster.wait_healthy(service)
            running.goes_on()
        kill(cluster, "scheduler")
        assert running.ended() == 3, running.said()
        cluster.wait_healthy("scheduler")
        running.start()
        running.goes_on()
        cluster.kill(running.container)
        assert running.ended() == 137
        running.start()
        running.goes_on()
        assert "resuming" in running.said()
        FIGURES.append(("memory while a sweep runs", memory(cluster, ("db", "mlflow", "scheduler", "worker"))))
        kill(cluster, "mlflow")
        code = running.ended()
        cluster.wait_healthy("mlflow")
        assert code in {0, 7}, running.said()
        if code:
            running.sync()


@pytest.mark.minutes
def test_restart_down_and_up_and_the_engine_itself_killed(cluster: Project) -> None:
    with sweep(cluster, "restarted", "`restart`, `down` and `up`, kill -9 of dockerd") as running:
        cluster.compose("restart", "-t", "10", "db", "mlflow", "scheduler", "worker")
        assert running.ended() == 3, running.said()
        cluster.wait_healthy("db", "mlflow", "scheduler", "worker")
        running.start()
        running.goes_on()
        docker("stop", "-t", "10", running.container)
        assert running.ended() == 143, running.said()
        parts = cluster.running()
        cluster.compose("down", "-t", "10", "--remove-orphans")
        cluster.up_again(*parts)
        running.start()
        running.goes_on()
        cache = Path(os.environ["MNIST_ABLATE_CONTAINERS"])
        os.kill(int((cache / "run" / "docker.pid").read_text()), 9)
        subprocess.run([Path(__file__).with_name("engine.sh"), "start"], check=True, timeout=120)
        cluster.wait_healthy("db", "mlflow", "scheduler", "worker", timeout_s=240)
        if running.ended() != 0:
            running.start()
            assert running.ended() == 0, running.said()


@pytest.mark.long
def test_database_away_for_two_minutes(cluster: Project) -> None:
    """Far longer than a restart of it, which the tests above have."""
    with sweep(cluster, "database-away", "database stopped for two minutes") as running:
        cluster.compose("stop", "db")
        time.sleep(120)
        assert not running.is_over(), running.said()
        cluster.compose("start", "db")
        code = running.ended()
        assert "database" in running.said()
        cluster.wait_healthy("db", "mlflow")
        assert code in {0, 7}, running.said()
        if code:
            running.sync()


EATER = """
held = []
while True:
    held.append(b"1" * (1 << 24))
"""
"""Takes what a worker's container still may, until the kernel ends it."""


FILLER = """
import contextlib, os
file = open("/artifacts/fill", "wb", 0)
for size in (1 << 20, 1 << 10, 1 << 10):
    with contextlib.suppress(OSError):
        while True:
            file.write(bytes(size))
    os.fsync(file)
"""
"""What is kept back for a write under way is there again once it has ended."""


@pytest.mark.minutes
def test_memory_limit_of_a_worker_and_full_disk_of_the_tracker(cluster: Project) -> None:
    """The kernel ends the training first, as it is told to. Its trial is tried again."""
    with sweep(cluster, "limits", "memory limit of a worker, the tracker's disk full") as running:
        worker = cluster.container("worker")
        before = oom_kills(worker)
        numbers = docker("top", worker, "-eo", "rss,pid").stdout.split()[2:]
        _, training = max(zip(map(int, numbers[::2]), numbers[1::2], strict=True))
        Path(f"/proc/{training}/oom_score_adj").write_text("1000")
        docker("exec", worker, "python", "-c", EATER, check=False)
        assert oom_kills(worker) > before
        assert not Path(f"/proc/{training}").exists()
        wait_until(lambda: "lost" in running.said(), "told that a trial was lost")
        running.goes_on()
        tracker = cluster.container("mlflow")
        docker("exec", tracker, "python", "-c", FILLER)
        assert running.ended() == 7, running.said()
        docker("exec", tracker, "rm", "/artifacts/fill")
        running.sync()


def oom_kills(container: str) -> int:
    """How often the kernel ended a process of a container for its memory."""
    found = inspect(container)["Id"]
    paths = (
        Path("/sys/fs/cgroup/memory/docker") / found / "memory.oom_control",
        *Path("/sys/fs/cgroup").glob(f"**/*{found}*/memory.events"),
    )
    texts = [path.read_text() for path in paths if path.exists()]
    return sum(int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("oom_kill "))


def test_first_start_of_the_database_cut_off_anywhere(tmp_path: Path) -> None:
    """After each cut `up` leads to a database with its roles, and what was left is kept aside and named."""
    prepare(tmp_path / "cut", MLFLOW_PORT="5057")
    with removed(Project(tmp_path / "cut", "cut-off")) as project:
        assert project.shell("mnist-ablate stack init").returncode == 0
        project.compose("create", "--no-build", "db")
        container = project.container("db")
        docker("update", "--cpus", "0.2", "--restart", "no", container)  # slow enough to be cut off, and then left so
        mounts = {each["Destination"]: Path(each["Source"]) for each in inspect(container)["Mounts"]}
        for mark in ("PG_VERSION", "global/pg_control", "postmaster.pid"):
            began, path = time.time(), mounts["/var/lib/postgresql/data"] / "server" / mark
            docker("start", container)
            wait_until(lambda path=path, began=began: path.exists() and path.stat().st_mtime > began, mark)
            project.kill(container)
            wait_until(lambda: not inspect(container)["State"]["Running"], "ended")
        project.compose("up", "-d", "--no-build", "--force-recreate", "db")
        project.wait_healthy("db", timeout_s=300)
        assert "the first start was cut off" in said(project)
        project.rows("optuna", "CREATE TABLE kept ()")
        project.compose("up", "-d", "--no-build", "--force-recreate", "db")  # what is recorded stays
        project.wait_healthy("db")
        assert project.rows("optuna", "SELECT count(*) FROM kept") == ["0"]
        assert "cut off" not in said(project)
        project.rows("postgres", "ALTER ROLE mlflow PASSWORD 'of earlier secrets'")
        project.compose("restart", "db")
        wait_until(
            lambda: "role mlflow cannot log in with secrets/mlflow_pgpass" in said(project), "said what is wrong"
        )
        assert "role optuna cannot" not in said(project)
        project.rows("postgres", "DROP DATABASE optuna")
        project.rows("postgres", "DROP ROLE optuna")
        project.compose("restart", "db")
        wait_until(lambda: "lacks the roles" in said(project), "said what is wrong")
    FIGURES.append(("database's first start cut off, at three places", "whole again"))


def said(project: Project) -> str:
    """By the database."""
    done = docker("logs", project.container("db"))
    return done.stdout + done.stderr
