"""How long it takes to go on: after a killed worker, after a killed driver, after a restart of PostgreSQL."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy
from command import Command, base_environment, fake_trainer_environment, wait_for
from postgres import postgres
from sweep_runs import sweep_file
from tiny_images import write_images

from mnist_ablate.settings import Settings
from mnist_ablate.verification import verify

OUTAGE_S = 2.0
ORPHANS_END_S = 1.0
IN_AN_EPOCH_S = 0.3


class Place:
    """A folder with a sweep of fake trials, and the command in an environment of its own."""

    def __init__(self, folder: str, **sweep: object) -> None:
        self.folder, self.sweep = Path(folder), sweep_file(Path(folder), **sweep)
        write_images(self.folder / "images.npz")
        fake = fake_trainer_environment(self.folder, FAKE_EPOCH_S="0.1", MLFLOW_TRACKING_URI="")
        self.command = Command(self.folder, base_environment(**fake))

    def start(self, **environment: str) -> "Popen[str]":
        return self.command.start("sweep", str(self.sweep), "--data", "images.npz", **environment)

    def begun(self, of: str = "") -> list[list[str]]:
        """The trials that workers have begun, or how often this one: id, process, arm and seed."""
        path = self.folder / "starts"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split() for line in lines if line.startswith(of)]

    def seconds_to_next(self, of: str = "") -> float:
        """Until a worker begins a trial, or this one again."""
        began, before = time.monotonic(), len(self.begun(of))
        wait_for(lambda: len(self.begun(of)) > before, 60)
        return time.monotonic() - began


def after_killed_worker(times: int = 4) -> list[float]:
    """From kill -9 of a worker in an epoch until another one begins the same trial, in seconds."""
    waits = []
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        place = Place(folder, seeds=20, fixed={"epochs": 20})
        driver = place.start()
        for _ in range(times):
            place.seconds_to_next()
            time.sleep(IN_AN_EPOCH_S)
            trial, worker, _ = place.begun()[-1]
            os.kill(int(worker), signal.SIGKILL)
            waits.append(place.seconds_to_next(of=trial))
        driver.kill()
        driver.wait()
    return waits


def after_killed_driver(times: int = 2) -> list[float]:
    """From the same command, given again after kill -9 of the driver, to the first trial on a worker, in seconds."""
    waits = []
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        place = Place(folder, seeds=40)
        for number in range(times + 1):
            driver = place.start()
            wait_s = place.seconds_to_next()
            waits += [wait_s] if number else []
            time.sleep(0.5)
            driver.kill()
            driver.wait()
            time.sleep(ORPHANS_END_S)
    return waits


def after_database_restart() -> dict[str, Any]:
    """PostgreSQL is down for 2 s in a sweep: seconds from its return to the next record, and what is lost."""
    with TemporaryDirectory() as folder, postgres() as server:
        place = Place(folder, seeds=15)
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
        driver.communicate(timeout=120)
        problems = verify.problems(place.sweep.stem, Settings(home=place.folder / ".mnist-ablate"))
        counts = {"problems": problems, "trained": len(place.begun()), "planned": 30}
        return {"seconds": wait_s, "code": driver.returncode, **counts}


def _recorded(engine: sqlalchemy.Engine) -> int:
    try:
        with engine.connect() as connection:
            return int(connection.scalar(sqlalchemy.text("SELECT count(*) FROM trials")) or 0)
    except sqlalchemy.exc.SQLAlchemyError:
        return 0


MEASURES = {"worker": after_killed_worker, "driver": after_killed_driver, "database": after_database_restart}


if __name__ == "__main__":
    sys.stdout.write(json.dumps({name: MEASURES[name]() for name in sys.argv[1:] or MEASURES}) + "\n")
