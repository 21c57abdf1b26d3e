"""How long it takes to go on: after a killed worker, after a killed driver, after a restart of PostgreSQL."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import sqlalchemy
from engine_runs import each_event
from keras_trials import keras_trial
from mlflow_helpers import until
from postgres import postgres
from sweep_runs import starts, sweep_file
from tiny_images import SUPPORT, write_images

from mnist_ablate.execution.engine import Engine, Progress, Started
from mnist_ablate.execution.worker import TrainerPlugin
from mnist_ablate.settings import Settings
from mnist_ablate.verification import verify
from mnist_ablate.workloads.keras_mnist import data
from mnist_ablate.workloads.keras_mnist.recipe import Recipe

COMMAND = Path(sys.executable).with_name("mnist-ablate")
OUTAGE_S = 2.0
ORPHANS_END_S = 1.0


class Place:
    """A folder with a sweep of fake trials, and the command in an environment of its own."""

    def __init__(self, folder: Path, **sweep: object) -> None:
        self.home, self.fake = folder / "home", folder / "fake"
        self.fake.mkdir()
        self.images, self.sweep = write_images(folder / "images.npz"), sweep_file(folder, **sweep)
        self.environment = {
            **os.environ,
            "MNIST_ABLATE_TRAINER": "fake_trainer:factory",
            "PYTHONPATH": str(SUPPORT),
            "FAKE_DIR": str(self.fake),
            "FAKE_EPOCH_S": "0.1",
        }

    def start(self) -> "subprocess.Popen[str]":
        command = [str(COMMAND), "sweep", str(self.sweep), "--home", str(self.home), "--data", str(self.images)]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command, env=self.environment, text=True, stdout=quiet, stderr=quiet)

    def begun(self) -> int:
        """How many trials workers have begun."""
        return len(starts(self.fake))


def after_killed_worker(times: int = 4) -> list[float]:
    """From kill -9 of a worker in an epoch to the first sign of the same trial on another, in seconds."""
    waits = []
    sys.modules["__main__"] = ModuleType("__main__")  # workers would import this program, and MLflow with it
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        os.environ.update({name: place.environment[name] for name in ("PYTHONPATH", "FAKE_DIR", "FAKE_EPOCH_S")})
        digest = data.load(place.images).digest
        plugin = TrainerPlugin("fake_trainer:factory", digest, place.images.read_bytes(), Path(folder))
        trials = [keras_trial(Recipe(epochs=4), seed, digest) for seed in range(times * 3)]
        with Engine(plugin, jobs=2) as engine:
            killed: dict[str, float] = {}
            for event in each_event(engine, trials):
                id_ = event.trial.id
                if isinstance(event, Started) and id_ in killed:
                    waits.append(time.monotonic() - killed.pop(id_))
                    continue
                chosen = isinstance(event, Progress) and event.epoch.number == 2 and event.trial.seed % 3 == 0
                if chosen and len(waits) + len(killed) < times:
                    killed[id_] = time.monotonic()
                    os.kill(engine._running[id_].pid, signal.SIGKILL)
    return waits


def after_killed_driver(times: int = 2) -> list[float]:
    """From the same command, given again after kill -9 of the driver, to the first trial on a worker, in seconds."""
    waits = []
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), seeds=40)
        driver = place.start()
        until(lambda: place.begun() > 3, 60)
        for _ in range(times):
            driver.kill()
            driver.wait()
            time.sleep(ORPHANS_END_S)
            before, began = place.begun(), time.monotonic()
            driver = place.start()
            until(lambda seen=before: place.begun() > seen, 60)
            waits.append(time.monotonic() - began)
            time.sleep(0.5)
        driver.kill()
        driver.wait()
    return waits


def after_database_restart() -> dict[str, float]:
    """PostgreSQL is down for 2 s in a sweep: seconds from its return to the next record, and what is lost."""
    with tempfile.TemporaryDirectory() as folder, postgres() as server:
        place = Place(Path(folder), seeds=15)
        place.environment["OPTUNA_STORAGE"] = os.environ["OPTUNA_STORAGE"] = server.database()
        engine = sqlalchemy.create_engine(os.environ["OPTUNA_STORAGE"], poolclass=sqlalchemy.NullPool)
        driver = place.start()
        until(lambda: _recorded(engine) > 3, 60)
        server.crash()
        time.sleep(OUTAGE_S)
        server.start()
        back, before = time.monotonic(), _recorded(engine)
        until(lambda: _recorded(engine) > before, 60)
        wait_s = time.monotonic() - back
        code = driver.wait(120)
        problems = verify.problems(place.sweep.stem, Settings(home=place.home))
        return {"seconds": wait_s, "code": code, "problems": len(problems), "trained": place.begun(), "planned": 30}


def _recorded(engine: sqlalchemy.Engine) -> int:
    try:
        with engine.connect() as connection:
            return int(connection.scalar(sqlalchemy.text("SELECT count(*) FROM trials")) or 0)
    except sqlalchemy.exc.SQLAlchemyError:
        return 0


MEASURES: dict[str, Callable[[], object]] = {
    "worker": after_killed_worker,
    "driver": after_killed_driver,
    "database": after_database_restart,
}


if __name__ == "__main__":
    sys.stdout.write(json.dumps({name: MEASURES[name]() for name in sys.argv[1:] or MEASURES}) + "\n")
