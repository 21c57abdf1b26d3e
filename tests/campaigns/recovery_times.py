"""How long it takes to go on: after a killed worker, after a killed driver, after a restart of PostgreSQL."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory
from types import ModuleType

import sqlalchemy
from command import Command, base_environment, fake_trainer_environment, wait_for
from keras_trials import each_event, keras_trial
from postgres import postgres
from sweep_runs import starts, sweep_file
from tiny_images import write_images

from mnist_ablate.execution.engine import Engine, Progress, Started
from mnist_ablate.execution.worker import TrainerPlugin
from mnist_ablate.settings import Settings
from mnist_ablate.verification import verify
from mnist_ablate.workloads.keras_mnist import data
from mnist_ablate.workloads.keras_mnist.recipe import Recipe

OUTAGE_S = 2.0
ORPHANS_END_S = 1.0


class Place:
    """A folder with a sweep of fake trials, and the command in an environment of its own."""

    def __init__(self, folder: Path, **sweep: object) -> None:
        self.folder, self.sweep = folder, sweep_file(folder, **sweep)
        write_images(folder / "images.npz")
        fake = fake_trainer_environment(folder, FAKE_EPOCH_S="0.1", MLFLOW_TRACKING_URI="")
        self.command = Command(folder, base_environment(**fake))

    def start(self, **environment: str) -> "Popen[str]":
        return self.command.start("sweep", str(self.sweep), "--data", "images.npz", **environment)

    def begun(self) -> int:
        """How many trials workers have begun."""
        return len(starts(self.folder))


def after_killed_worker(times: int = 4) -> list[float]:
    """From kill -9 of a worker in an epoch to the first sign of the same trial on another, in seconds."""
    waits = []
    sys.modules["__main__"] = ModuleType("__main__")  # workers would import this program, and MLflow with it
    with TemporaryDirectory() as folder:
        images = write_images(Path(folder) / "images.npz")
        os.environ.update(fake_trainer_environment(Path(folder), FAKE_EPOCH_S="0.1"))
        digest = data.load(images).digest
        plugin = TrainerPlugin("fake_trainer:factory", digest, images.read_bytes(), Path(folder))
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
    with TemporaryDirectory() as folder:
        place = Place(Path(folder), seeds=40)
        driver = place.start()
        wait_for(lambda: place.begun() > 3, 60)
        for _ in range(times):
            _kill(driver)
            time.sleep(ORPHANS_END_S)
            before, began = place.begun(), time.monotonic()
            driver = place.start()
            wait_for(lambda seen=before: place.begun() > seen, 60)
            waits.append(time.monotonic() - began)
            time.sleep(0.5)
        _kill(driver)
    return waits


def _kill(driver: "Popen[str]") -> None:
    driver.kill()
    driver.wait()


def after_database_restart() -> dict[str, float]:
    """PostgreSQL is down for 2 s in a sweep: seconds from its return to the next record, and what is lost."""
    with TemporaryDirectory() as folder, postgres() as server:
        place = Place(Path(folder), seeds=15)
        url = os.environ["OPTUNA_STORAGE"] = server.database()
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        driver = place.start(OPTUNA_STORAGE=url)
        wait_for(lambda: _recorded(engine) > 3, 60)
        server.crash()
        time.sleep(OUTAGE_S)
        server.start()
        back, before = time.monotonic(), _recorded(engine)
        wait_for(lambda: _recorded(engine) > before, 60)
        wait_s = time.monotonic() - back
        code = driver.wait(120)
        problems = verify.problems(place.sweep.stem, Settings(home=place.folder / ".mnist-ablate"))
        return {"seconds": wait_s, "code": code, "problems": len(problems), "trained": place.begun(), "planned": 30}


def _recorded(engine: sqlalchemy.Engine) -> int:
    try:
        with engine.connect() as connection:
            return int(connection.scalar(sqlalchemy.text("SELECT count(*) FROM trials")) or 0)
    except sqlalchemy.exc.SQLAlchemyError:
        return 0


MEASURES = {"worker": after_killed_worker, "driver": after_killed_driver, "database": after_database_restart}


if __name__ == "__main__":
    sys.stdout.write(json.dumps({name: MEASURES[name]() for name in sys.argv[1:] or MEASURES}) + "\n")
