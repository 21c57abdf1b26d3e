"""The crash campaigns: a sweep is crashed again and again and resumed to its end; then everything is there once.

`points` crashes drivers at named points of the program, `workers` drivers with real Dask workers, at any moment.
"""

import json
import os
import random
import shutil
import signal
import sys
import types
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from command import left_running, wait_for
from fork_server import ACTIONS, POINTS, STUCK, Ground, Injection, ended, fired, results, waited
from tiny_images import SUPPORT

from mnist_ablate.execution import engine, worker_template
from mnist_ablate.settings import Settings
from mnist_ablate.verification import raw_stores

PER_SWEEP = 40
_REAL = engine.Engine, worker_template.importing
AFTERWARDS = 3
ORPHAN_S = 2.5
_CODES = {"kill": {-9}, "interrupt": {130}, "terminate": {143}, "raise": {0, 1, 7}, "full": {0, 3, 5, 7}}
_FIRST = ("cache.store", "cache.copy", "plan.register", "mirror.experiment", "record.statement")
_OF_SYNC = ("sync.verdicts", "sync.publish", "report.of_rows", "report.markdown")
_AT_THE_END = (*_OF_SYNC, "report.show")
_BETWEEN = tuple(point for point in POINTS if point not in {*_FIRST[:4], *_AT_THE_END})
_SIGNALS = (*[signal.SIGKILL] * 3, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass
class Tally:
    """What came of a campaign: crashes by point and action, or by signal; `problems` says the rest in words."""

    crashes: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    duplicated: int = 0
    stuck: int = 0
    orphans: int = 0
    problems: list[str] = field(default_factory=list)

    def check(self, ground: Ground, home: Path, code: int) -> None:
        """The last command ended with `code`: everything is there, once, as if nothing had happened."""
        found = results(home, "small")
        wrong = [*ground.problems(home), *([f"the last command ended with {code}: {_last(home)}"] if code else [])]
        self.lost += sum(found.get(trial) != expected for trial, expected in ground.expected.items())
        self.duplicated += doubles(home)
        self.stuck += (code != 0) + sum("RUNNING" in line for line in wrong)
        self.problems += [f"{home.name}: {line}" for line in wrong]


def at_points(ground: Ground, home: Path, random_: random.Random, tally: Tally) -> None:
    """Crash one sweep at one point after the other, resume it to its end, and crash what follows."""
    between = random_.choices(_BETWEEN, [POINTS[point][1] for point in _BETWEEN], k=PER_SWEEP)
    for point in (*random_.sample(_FIRST, 2), *between):
        if _crash(ground, home, "sweep", _injection(random_, point), tally) == 0:
            break
    for point in random_.sample(_AT_THE_END, AFTERWARDS):
        _crash(ground, home, "sync" if point in _OF_SYNC else "sweep", _injection(random_, point), tally)
    tally.check(ground, home, ground.run("sweep", home))
    tally.problems += [f"{home.name}: {text}" for text in _tracebacks((home / "output").read_text().splitlines())]


def _crash(ground: Ground, home: Path, command: str, injection: Injection, tally: Tally) -> int:
    code = ground.run(command, home, injection=injection)
    tally.stuck += code == STUCK
    if fired(home).exists():
        tally.crashes[f"{injection.point} {injection.action}"] += 1
        if code not in _CODES[injection.action]:
            tally.problems.append(f"{home.name}: {injection}: exit code {code} of {command}: {_last(home)}")
    return code


def _injection(random_: random.Random, point: str) -> Injection:
    """Mostly a kill; in the mirror's thread anything else hardly stops a sweep."""
    other = 0.25 if point.startswith("mirror") else 1
    (action,) = random_.choices(ACTIONS, [6 if action == "kill" else other for action in ACTIONS])
    return Injection(point, action, random_.randint(1, POINTS[point][1]), after=random_.random() < 0.5)


def _last(home: Path) -> str:
    return " / ".join((home / "output").read_text().splitlines()[-3:])


def _tracebacks(lines: list[str]) -> list[str]:
    """Each with where it came from and what it was."""
    starts = [place for place, line in enumerate(lines) if "Traceback" in line or "Exception in thread" in line]
    return [" / ".join(line.strip() for line in lines[max(0, start - 1) : start + 40])[:1500] for start in starts]


def at_any_moment(ground: Ground, home: Path, random_: random.Random, tally: Tally) -> None:
    """Kill or interrupt a sweep with real workers, and resume it, until it gets to its end."""
    before = tally.crashes.total()
    while True:
        child = ground.start("sweep", home, prepare=_real)
        more_s = 0.5 * (tally.crashes.total() - before)  # a busy machine gets further with time
        code = ended(child, random_.uniform(0.3, 2.4 + more_s))
        if code is not None:
            break
        chosen = random_.choice(_SIGNALS)
        os.kill(child, chosen)
        tally.crashes[chosen.name] += 1
        code = waited(child, 40)
        with suppress(AssertionError):
            wait_for(lambda group=child: not left_running(group), ORPHAN_S)
        tally.orphans += len(left_running(child))
        if code in {0, STUCK}:
            break
    tally.check(ground, home, code)


def _real() -> None:
    """Take the doubles out, in the driver's process alone."""
    os.setsid()
    os.environ.update(FAKE_EPOCH_S="0.25", PYTHONPATH=str(SUPPORT))
    engine.Engine, worker_template.importing = _REAL
    sys.modules["__main__"] = types.ModuleType("__main__")  # workers would import this program


def doubles(home: Path) -> int:
    """Trials with two results, runs of one trial beyond the first, and points that are there twice."""
    settings = Settings(home=home)
    trials = raw_stores.read_ledger(settings.ledger_url, "small")[-1].trials
    ids = Counter(trial.attrs["trial_id"] for trial in trials if trial.state == "COMPLETE")
    experiment = raw_stores.read_mlflow(settings.tracking_uri, "small")
    assert experiment is not None
    runs = Counter(run.tags.get("trial_id", "the sweep") for run in experiment.runs)
    points = Counter((run.run_id, key, step) for run in experiment.runs for key, step, _, _ in run.points if step)
    return sum(count - 1 for counted in (ids, runs, points) for count in counted.values())


def campaign(kind: str, crashes: int, seed: int) -> Tally:
    """At least so many crashes, of as many sweeps as that takes."""
    memory = Path("/dev/shm")
    one = {"points": at_points, "workers": at_any_moment}[kind]
    random_, tally = random.Random(seed), Tally()
    with TemporaryDirectory(dir=memory if memory.is_dir() else None, ignore_cleanup_errors=True) as folder:
        ground = Ground(Path(folder), seeds=6)
        while tally.crashes.total() < crashes:
            home = ground.folder / f"home-{tally.crashes.total()}"
            one(ground, home, random_, tally)
            shutil.rmtree(home, ignore_errors=True)
    return tally


if __name__ == "__main__":
    sys.stdout.write(json.dumps(vars(campaign(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))) + "\n")
