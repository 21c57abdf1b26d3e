"""Bugs planted in the program, one at a time: `verify` must find each, and say nothing of a healthy sweep.

Run as a program it prints JSON: what `verify` said of each bug, and of each healthy sweep.
"""

import json
import os
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from fault_points import Injection
from fork_server import Ground, waited
from mlflow import MlflowClient

from mnist_ablate.cli import live_view
from mnist_ablate.execution import driver, recorded_report
from mnist_ablate.ledger import database, ledger, optuna_rows, progress
from mnist_ablate.tracking import mirror, run_format

Bug = Callable[[Ground, Path], None]
NUISANCE: dict[str, Any] = {"nuisance": {"learning_rate": {"low": 1e-3, "high": 0.1, "log": True}}, "tuning_trials": 2}
SEARCH: dict[str, Any] = {
    "design": "search",
    "baseline": {"activation": "relu"},
    "scientific": {"activation": ["relu", "tanh"]},
    "nuisance": {"learning_rate": {"low": 1e-3, "high": 0.1, "log": True}},
    "tuning_trials": 3,
    "claims": [],
}
_SECRET = "postgresql+psycopg2://ablate:correct-horse@db/mlflow"


def _swept(prepare: Callable[[], object]) -> Bug:
    """A sweep run by a program that `prepare` has changed."""
    return lambda ground, home: (ground.run("sweep", home, prepare=prepare), None)[1]


def _patched(owner: Any, name: str, change: Callable[[Any], Any]) -> Bug:
    """A sweep run with a function replaced by what `change` makes of it."""
    return _swept(lambda: setattr(owner, name, change(getattr(owner, name))))


def _resumed(point: Injection, change: Callable[[], object]) -> Bug:
    """A changed program that is killed at a point, and resumed."""

    def bug(ground: Ground, home: Path) -> None:
        ground.run("sweep", home, point, change)
        ground.run("sweep", home, prepare=change)

    return bug


def _failing() -> None:
    os.environ["FAKE_FAULTS"] = '{"relu/0": "raise"}'


def _no_lock(ground: Ground, home: Path) -> None:
    """A driver waits between reading the record and training, while another one runs the sweep."""
    here, gate = home.parent / "here", home.parent / "gate"

    def prepare() -> None:
        ledger.hold = lambda *_, **__: nullcontext(database.Lock())  # type: ignore[attr-defined, assignment]

    def slowly() -> None:
        prepare()
        opened = live_view.Watch.opened

        def waiting(self: Any, *args: Any) -> None:
            opened(self, *args)
            here.touch()
            _until(gate.exists)

        live_view.Watch.opened = waiting  # type: ignore[method-assign]

    first, _ = ground.start("sweep", home, prepare=slowly)
    _until(here.exists)
    ground.run("sweep", home, prepare=prepare)
    gate.touch()
    waited(first, 30)


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)


def _as_complete(real: Any) -> Any:
    """A trial that failed is written as one that completed, with the value 0."""

    def finished(self: Any, planned: Any, outcome: Any) -> Any:
        trial = real(self, planned, outcome)
        if outcome.status == "failed":
            trial.state, trial.values = optuna.trial.TrialState.COMPLETE, [0.0]
        return trial

    return finished


def _two_transactions() -> None:
    """The trial is committed without what belongs to it, which comes after the crash."""

    def add(self: Any, trial: Any) -> None:
        optuna_rows._parts = lambda _trial: iter(())
        real(self, trial)
        os.kill(os.getpid(), 9)

    real = optuna_rows.TrialRows.add
    optuna_rows.TrialRows.add = add  # type: ignore[method-assign]


def _deleted_run(ground: Ground, home: Path) -> None:
    ground.run("sweep", home)
    with sqlite3.connect(home / "mlflow.db") as store:
        query = "select run_uuid from tags where key = 'trial_id' limit 1"
        store.execute(f"update runs set lifecycle_stage = 'deleted' where run_uuid in ({query})")


def _altered(ground: Ground, home: Path) -> None:
    ground.run("sweep", home)
    with sqlite3.connect(home / "ledger.db") as store:
        change = "replace(value_json, '\"test_accuracy\": 0.9', '\"test_accuracy\": 0.8')"
        store.execute(f"update trial_user_attributes set value_json = {change} where key = 'outcome'")


def _stale_effect(ground: Ground, home: Path) -> None:
    """The verdicts on the parent are those of before a failed trial was run again."""
    ground.run("sweep", home, prepare=_failing)
    ground.run("sweep", home, prepare=lambda: setattr(run_format, "changed", lambda *_: []))


def _replaced(outcome: Any, **changes: Any) -> Any:
    return outcome.model_copy(update=changes)


def _swapped(values: Mapping[str, float]) -> dict[str, float]:
    return {**values, "test_accuracy": values["test_loss"], "test_loss": values["test_accuracy"]}


def _every_second(real: Any) -> Any:
    """Calls of the function, each second one left out."""
    calls = 0

    def sometimes(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return None if calls % 2 == 0 else real(*args, **kwargs)

    return sometimes


def _twice(real: Any) -> Any:
    return lambda *args, **kwargs: (real(*args, **kwargs), real(*args, **kwargs))[1]


def _wrong_seed(real: Any) -> Any:
    def changed(planned: Any, outcome: Any) -> Any:
        trial = planned.trial.model_copy(update={"seed": planned.trial.seed + 100})
        return replace(planned, trial=trial), _replaced(outcome, trial_id=trial.id)

    return _each(real, changed)


def _mixed_up(real: Any) -> Any:
    """The outcome of one trial is recorded as that of the next."""
    before: list[Any] = []

    def changed(planned: Any, outcome: Any) -> Any:
        before.append(outcome)
        return planned, _replaced(before[max(0, len(before) - 2)], trial_id=planned.trial.id)

    return _each(real, changed)


def _each(real: Any, changed: Callable[[Any, Any], Any]) -> Any:
    """`Record.add_all` with every trial and outcome changed."""
    return lambda self, finished: real(self, [changed(*each) for each in finished])


def _doubled_points(real: Any) -> Any:
    """A lost reply is answered by sending again, with another time."""

    def log_batch(self: Any, run_id: str, metrics: Any = (), **rest: Any) -> None:
        real(self, run_id, metrics=metrics, **rest)
        again = [type(metric)(metric.key, metric.value, metric.timestamp + 7, metric.step) for metric in metrics]
        real(self, run_id, metrics=again)

    return log_batch


def _ghosts() -> None:
    MlflowClient.create_run = _twice(MlflowClient.create_run)  # type: ignore[method-assign]
    MlflowClient.delete_run = lambda *_: None  # type: ignore[method-assign]


def _no_look_up() -> None:
    MlflowClient.delete_run = lambda *_: None  # type: ignore[method-assign]
    real = mirror.Mirror._runs
    mirror.Mirror._runs = lambda *where: {of: run for of, run in real(*where).items() if not of}  # type: ignore[method-assign]


def _with_secret(real: Any) -> Any:
    return lambda *args: {**real(*args), "store": _SECRET}


def _unmasked() -> None:
    mirror.mask = str  # type: ignore[assignment]
    recorded_report.provenance = _with_secret(recorded_report.provenance)


def _worst(real: Any) -> Any:
    """Tuning that takes the worst value."""

    def tuned(plan: Any, entries: Any) -> Any:
        upside = {
            id_: replace(
                entry,
                outcome=_replaced(entry.outcome, metrics={"val_accuracy": -entry.outcome.metrics["val_accuracy"]}),
            )
            for id_, entry in entries.items()
        }
        return real(plan, upside)

    return tuned


_RUN_KILLED = Injection("mirror.batch", "kill", 1)

BUGS: dict[str, Bug] = {
    "skip the lock": _no_lock,
    "drop the trial-id look-up before a run is created": _resumed(_RUN_KILLED, _no_look_up),
    "write a result in two transactions, with a crash between": _swept(_two_transactions),
    "record a result twice": _patched(optuna_rows.TrialRows, "add", _twice),
    "train again what is recorded": _resumed(
        Injection("record.add", "kill", 3), lambda: setattr(driver, "_is_tried_again", lambda *_: True)
    ),
    "record another seed": _patched(ledger.Record, "add_all", _wrong_seed),
    "record the outcome of another trial": _patched(ledger.Record, "add_all", _mixed_up),
    "record only every second result": _patched(ledger.Record, "add_all", _every_second),
    "lose an epoch in MLflow": _patched(
        run_format, "epoch_metrics", lambda real: lambda epochs: real([each for each in epochs if each.number != 2])
    ),
    "lose an epoch in the ledger": _patched(
        ledger.Record,
        "add_all",
        lambda real: _each(real, lambda planned, outcome: (planned, _replaced(outcome, epochs=outcome.epochs[:1]))),
    ),
    "mark failed trials as finished": _swept(lambda: (_failing(), run_format.STATUSES.update(failed="FINISHED"))),
    "mark failed trials as complete in the ledger": _swept(
        lambda: (_failing(), setattr(ledger.Record, "_finished", _as_complete(ledger.Record._finished)))
    ),
    "swap two metrics": _patched(
        run_format, "all_metrics", lambda real: lambda told: real(_replaced(told, metrics=_swapped(told.metrics)))
    ),
    "forget to end a run": _patched(MlflowClient, "set_terminated", _every_second),
    "keep the run that a lost reply left": _swept(_ghosts),
    "send points again with another time": _patched(MlflowClient, "log_batch", _doubled_points),
    "send other parameters": _patched(
        run_format, "params", lambda real: lambda trial: {**real(trial), "dropout": "0.1"}
    ),
    "tune to the worst value": _patched(progress, "tuned", _worst),
    "delete a run": _deleted_run,
    "alter a recorded number": _altered,
    "leave the verdicts of before": _stale_effect,
    "send a password": _swept(_unmasked),
}


def _healthy(**faults: str) -> Bug:
    def run(ground: Ground, home: Path) -> None:
        ground.run("sweep", home, prepare=lambda: os.environ.update(FAKE_FAULTS=json.dumps(faults)))

    return run


def _begun_anew(ground: Ground, home: Path) -> None:
    ground.run("sweep", home)
    ground.run("sweep --fresh", home)


HEALTHY: dict[str, Bug] = {
    "as it should be": _healthy(),
    "diverged": _healthy(**{"relu/0": "diverge"}),
    "failed": _healthy(**{"relu/0": "raise"}),
    "failed, then run again": lambda ground, home: (
        _healthy(**{"*/0": "raise"})(ground, home),
        _healthy()(ground, home),
    )[1],
    "killed and resumed": _resumed(_RUN_KILLED, lambda: None),
    "begun anew": _begun_anew,
}
_GROUND = {"tune to the worst value": NUISANCE}
_HEALTHY_GROUNDS = {"tuned": NUISANCE, "searched": SEARCH}


def caught() -> dict[str, dict[str, list[str]]]:
    """What `verify` says of each bug and of each healthy sweep."""
    folder = Path(tempfile.mkdtemp(prefix="planted-"))
    try:
        grounds = {name: Ground(folder / name, name=name, seeds=2, **content) for name, content in _grounds().items()}
        said: dict[str, dict[str, list[str]]] = {"bugs": {}, "healthy": {}}
        for kind, cases in (("bugs", BUGS), ("healthy", HEALTHY)):
            for place, (name, case) in enumerate(cases.items()):
                ground = grounds["tuned" if name in _GROUND else "small"]
                home = ground.folder / f"{kind}-{place}"
                case(ground, home)
                said[kind][name] = _problems(ground, home)
        for name in _HEALTHY_GROUNDS:
            said["healthy"][name] = grounds[name].problems(grounds[name].folder / "undisturbed")
        return said
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _grounds() -> dict[str, dict[str, Any]]:
    return {"small": {}, **_HEALTHY_GROUNDS}


def _problems(ground: Ground, home: Path) -> list[str]:
    if not (home / "ledger.db").exists():
        return []  # nothing was run: nothing was shown
    return ground.problems(home)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(caught(), indent=1) + "\n")
