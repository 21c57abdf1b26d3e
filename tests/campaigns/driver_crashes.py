"""The crash campaign: a sweep is crashed again and again, each time at another point, and resumed to its end."""

import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fault_points import ACTIONS, POINTS, Injection
from fork_server import STUCK, Ground, results

from mnist_ablate.settings import Settings
from mnist_ablate.verification import raw_ledger, raw_mlflow

SEEDS = 6
PER_SWEEP = 40
_MANY = {
    "record.statement": 60,
    "record.commit": 12,
    "plan.register": 4,
    "run.event": 6,
    "run.epoch": 3,
    **dict.fromkeys(("record.add", "record.trial", "record.queue", "sync.outcome"), 2),
    **dict.fromkeys(("mirror.run", "mirror.batch", "mirror.end"), 2),
}
_WEIGHTS = {"kill": 48, "interrupt": 8, "terminate": 8, "raise": 8, "full": 8}
_CODES = {"kill": {-9}, "interrupt": {130}, "terminate": {143}, "raise": {0, 1, 7}, "full": {0, 3, 5, 7}}
_FIRST = ("cache.store", "cache.copy", "plan.register", "mirror.experiment", "record.statement")
_OF_SYNC = ("sync.verdicts", "sync.publish", "report.of_rows", "report.markdown")
_AT_THE_END = (*_OF_SYNC, "report.show")
_BETWEEN = tuple(point for point in POINTS if point not in {*_FIRST[:4], *_AT_THE_END})
_OFTEN = (
    *("record.statement",) * 24,
    *("record.commit",) * 8,
    "record.add",
    "record.trial",
    "mirror.run",
    "mirror.batch",
    "mirror.end",
)
AFTERWARDS = 3


@dataclass
class Tally:
    """What came of a campaign; `problems` says it in words."""

    crashes: Counter[str] = field(default_factory=Counter)
    sweeps: int = 0
    lost: int = 0
    duplicated: int = 0
    stuck: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        self.crashes += other.crashes
        self.problems += other.problems
        for name in ("sweeps", "lost", "duplicated", "stuck"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def crash_one(ground: Ground, home: Path, random_: random.Random) -> Tally:
    """Crash one sweep again and again, resume it to its end, crash what follows, and check what is left."""
    tally = Tally(sweeps=1)
    for point in (*random_.sample(_FIRST, 2), *random_.choices((*_BETWEEN, *_OFTEN), k=PER_SWEEP)):
        if _crash(ground, home, "sweep", _injection(random_, point), tally) == 0:
            break
    for point in random_.sample(_AT_THE_END, AFTERWARDS):
        _crash(ground, home, "sync" if point in _OF_SYNC else "sweep", _injection(random_, point), tally)
    tally.add(_checked(ground, home))
    return tally


def _crash(ground: Ground, home: Path, command: str, injection: Injection, tally: Tally) -> int:
    code, fired = ground.run(command, home, injection)
    if fired:
        tally.crashes[f"{injection.point} {injection.action}"] += 1
    tally.stuck += code == STUCK
    if fired and code not in _CODES[injection.action]:
        tally.problems.append(f"{home.name}: {injection}: exit code {code} of {command}: {_last(home)}")
    return code


def _injection(random_: random.Random, point: str) -> Injection:
    """Mostly a kill; in the mirror's thread anything else hardly stops a sweep."""
    weights = [_WEIGHTS[action] // (4 if point.startswith("mirror") and action != "kill" else 1) for action in ACTIONS]
    nth = random_.randint(1, _MANY.get(point, 1))
    return Injection(point, random_.choices(ACTIONS, weights)[0], nth, after=random_.random() < 0.5)


def _last(home: Path) -> str:
    return " / ".join((home / "output").read_text().splitlines()[-3:])


def _checked(ground: Ground, home: Path) -> Tally:
    """Resume to the end; then everything must be there, once, as if nothing had happened."""
    tally = Tally()
    code = ground.run("sweep", home)[0]
    tally.stuck += code != 0
    if code:
        tally.problems.append(f"{home.name}: the last command ended with {code}: {_last(home)}")
        return tally
    found = results(home, "small")
    tally.lost = sum(found.get(trial) != expected for trial, expected in ground.expected.items())
    tally.duplicated = doubles(home)
    output = (home / "output").read_text()
    wrong = [*ground.problems(home), *_said(output)]
    tally.stuck += sum("RUNNING" in line for line in wrong)
    tally.problems += [f"{home.name}: {line}" for line in wrong]
    if not tally.problems:
        shutil.rmtree(home)
    return tally


def _said(output: str) -> list[str]:
    """Tracebacks, each with where it came from and what it was."""
    lines = output.splitlines()
    starts = [place for place, line in enumerate(lines) if "Traceback" in line or "Exception in thread" in line]
    return [" / ".join(line.strip() for line in lines[max(0, start - 1) : start + 40])[:1500] for start in starts]


def doubles(home: Path) -> int:
    """Trials with two results, runs of one trial beyond the first, and points that are there twice."""
    settings = Settings(home=home)
    trials = raw_ledger.read(settings.ledger_url, "small")[-1].trials
    ids = Counter(trial.attrs["trial_id"] for trial in trials if trial.state == "COMPLETE")
    experiment = raw_mlflow.read(settings.tracking_uri, "small")
    assert experiment is not None
    runs = Counter(run.tags.get("trial_id", "the sweep") for run in experiment.runs)
    points = Counter((run.run_id, key, step) for run in experiment.runs for key, step, _, _ in run.points if step)
    return sum(count - 1 for counted in (ids, runs, points) for count in counted.values())


def campaign(crashes: int, seed: int) -> Tally:
    """At least so many crashes, of as many sweeps as that takes."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="crashes-", dir=shared if shared.is_dir() else None))
    random_, total = random.Random(seed), Tally()
    try:
        ground = Ground(folder, seeds=SEEDS)
        while total.crashes.total() < crashes:
            total.add(crash_one(ground, folder / f"home-{total.sweeps}", random_))
        return total
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(vars(campaign(int(sys.argv[1]), int(sys.argv[2])))) + "\n")
