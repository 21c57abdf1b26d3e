"""Drivers with real Dask workers, killed or interrupted at any moment, and resumed: what is left, and who is left."""

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import types
from contextlib import suppress
from pathlib import Path

from driver_crashes import doubles
from fork_server import STUCK, Ground, results, waited
from tiny_images import SUPPORT

from mnist_ablate.execution import driver, engine

ORPHAN_S = 2.5
_SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _real() -> None:
    """Take the doubles out, in the driver's process alone."""
    os.setsid()
    os.environ.update(FAKE_EPOCH_S="0.25", PYTHONPATH=str(SUPPORT))
    driver.Engine = engine.Engine  # type: ignore[misc]
    sys.modules["__main__"] = types.ModuleType("__main__")  # workers would import this program


def left_behind(session: int) -> list[int]:
    """The processes of a session that are still there."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session and fields[0] != "Z":
                    found.append(int(entry.name))
    return found


def crash(times: int, seed: int) -> dict[str, object]:
    """Sweep after sweep, each killed a few times and resumed, until so many drivers were killed."""
    random_ = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="dask-"))
    counted: dict[str, object] = {"lost": 0, "duplicated": 0, "stuck": 0, "orphans": 0}
    problems: list[str] = []
    crashes = sweeps = 0
    try:
        ground = Ground(folder / "ground", seeds=6)
        while crashes < times:
            home = ground.folder / f"home-{sweeps}"
            sweeps += 1
            found, tally = _one(ground, home, random_)
            crashes += found
            problems += tally.pop("problems")  # type: ignore[arg-type]
            counted = {key: counted[key] + tally[key] for key in counted}  # type: ignore[operator]
        return {"crashes": crashes, "sweeps": sweeps, **counted, "problems": problems}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _one(ground: Ground, home: Path, random_: random.Random) -> tuple[int, dict[str, object]]:
    crashes = orphans = 0
    code = 1
    while code:
        child, _ = ground.start("sweep", home, prepare=_real)
        end = time.monotonic() + random_.uniform(0.3, 2.4 + 0.5 * crashes)  # a busy machine gets further with time
        ended = 0
        while not ended and time.monotonic() < end:
            ended, status = os.waitpid(child, os.WNOHANG)
            time.sleep(0.02)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            break
        os.kill(child, random_.choice(_SIGNALS))
        crashes += 1
        code = waited(child, 40)
        deadline = time.monotonic() + ORPHAN_S
        while left_behind(child) and time.monotonic() < deadline:
            time.sleep(0.05)
        orphans += len(left_behind(child))
        if code == STUCK:
            break
    found = results(home, ground.sweep.stem)
    problems = ground.problems(home)
    problems += [f"ended with {code}"] if code else []
    return crashes, {
        "lost": sum(found.get(id_) != expected for id_, expected in ground.expected.items()),
        "duplicated": doubles(home),
        "stuck": int(code != 0),
        "orphans": orphans,
        "problems": [f"{home.name}: {line}" for line in problems],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(crash(int(sys.argv[1]), int(sys.argv[2]))) + "\n")
