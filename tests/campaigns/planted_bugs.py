"""Bugs planted in the program, one at a time: `verify` must find each, and say nothing of a healthy sweep.

Run as a program it prints JSON: what `verify` said of each bug, and of each healthy sweep.
"""

import json
import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
from command import wait_for
from fork_server import Change, Ground, Injection, waited
from mlflow import MlflowClient

from mnist_ablate.cli import live_view
from mnist_ablate.execution import driver, recorded_report
from mnist_ablate.ledger import database, ledger, optuna_rows, progress
from mnist_ablate.tracking import mirror, run_format

Bug = Callable[[Ground, Path], object]
NUISANCE: dict[str, Any] = {"nuisance": {"learning_rate": {"low": 1e-3, "high": 0.1, "log": True}}, "tuning_trials": 2}
SEARCH: dict[str, Any] = {
    "design": "search",
    "baseline": {"activation": "relu"},
    "scientific": {"activation": ["relu", "tanh"]},
    **NUISANCE,
    "tuning_trials": 3,
    "claims": [],
}
_SECRET = "postgresql+psycopg2://ablate:correct-horse@db/mlflow"
_RUN_KILLED = Injection("mirror.batch", "kill", 1)


def _around(owner: Any, name: str, function: Callable[..., Any]) -> Change:
    """Calls of a function or method go to another one, whose first argument is the real one."""

    def change() -> None:
        real = getattr(owner, name)
        setattr(owner, name, lambda *args, **kwargs: function(real, *args, **kwargs))

    return change


def _faults(**faults: str) -> Change:
    return lambda: os.environ.update(FAKE_FAULTS=json.dumps(faults))


_failing = _faults(**{"relu/0": "raise"})


def _swept(*changes: Change, command: str = "sweep", injection: Injection | None = None) -> Bug:
    """A command of a program that was changed."""
    return lambda ground, home: ground.run(
        command, home, injection=injection, prepare=lambda: [change() for change in changes]
    )


def _then(*steps: Bug) -> Bug:
    return lambda ground, home: [step(ground, home) for step in steps]


def _resumed(point: Injection, *changes: Change) -> Bug:
    """A changed program that is killed at a point, and resumed."""
    return _then(_swept(*changes, injection=point), _swept(*changes))


def _edited(file: str, statement: str) -> Bug:
    """A sweep, after which somebody changes a database."""

    def edit(_ground: Ground, home: Path) -> None:
        with sqlite3.connect(home / file) as store:
            store.execute(statement)

    return _then(_swept(), edit)


def _recorded(changed: Callable[[Any, Any], Any]) -> Bug:
    """Every trial and its outcome are changed before they are recorded."""
    return _swept(
        _around(ledger.Record, "add_all", lambda real, record, done: real(record, [changed(*each) for each in done]))
    )


def _no_lock(ground: Ground, home: Path) -> None:
    """A driver waits between reading the record and training, while another one runs the sweep."""
    here, gate = home.parent / "here", home.parent / "gate"
    unlocked = _around(ledger, "hold", lambda *_, **__: nullcontext(database.Lock()))

    def opened(real: Any, *args: Any) -> None:
        real(*args)
        here.touch()
        wait_for(gate.exists)

    slow = _around(live_view.Watch, "opened", opened)
    first = ground.start("sweep", home, prepare=lambda: (unlocked(), slow()))
    wait_for(here.exists)
    ground.run("sweep", home, prepare=unlocked)
    gate.touch()
    waited(first, 30)


def _as_complete(real: Any, record: Any, planned: Any, outcome: Any) -> Any:
    """A trial that failed is written as one that completed, with the value 0."""
    trial = real(record, planned, outcome)
    if outcome.status == "failed":
        trial.state, trial.values = optuna.trial.TrialState.COMPLETE, [0.0]
    return trial


def _in_two_transactions(real: Any, rows: Any, trial: Any) -> None:
    """The trial is committed without what belongs to it, which comes after the crash."""
    optuna_rows._parts = lambda _trial: iter(())
    real(rows, trial)
    os.kill(os.getpid(), 9)


def _replaced(outcome: Any, **changes: Any) -> Any:
    return outcome.model_copy(update=changes)


_before: list[Any] = []


def _every_second(real: Any, *args: Any, **kwargs: Any) -> Any:
    """Calls of the function, each second one left out."""
    _before.append(args)
    return real(*args, **kwargs) if len(_before) % 2 else None


def _mixed_up(planned: Any, outcome: Any) -> Any:
    """The outcome of one trial is recorded as that of the next."""
    _before.append(outcome)
    return planned, _replaced(_before[max(0, len(_before) - 2)], trial_id=planned.trial.id)


def _twice(real: Any, *args: Any, **kwargs: Any) -> Any:
    real(*args, **kwargs)
    return real(*args, **kwargs)


def _wrong_seed(planned: Any, outcome: Any) -> Any:
    trial = planned.trial.model_copy(update={"seed": planned.trial.seed + 100})
    return replace(planned, trial=trial), _replaced(outcome, trial_id=trial.id)


def _doubled_points(real: Any, client: Any, run_id: str, metrics: Any = (), **rest: Any) -> None:
    """A lost reply is answered by sending again, with another time."""
    real(client, run_id, metrics=metrics, **rest)
    real(client, run_id, metrics=[type(m)(m.key, m.value, m.timestamp + 7, m.step) for m in metrics])


def _parent_alone(real: Any, *where: Any) -> Any:
    return {trial: run for trial, run in real(*where).items() if not trial}


def _swapped(real: Any, outcome: Any) -> Any:
    values = outcome.metrics
    changed = {**values, "test_accuracy": values["test_loss"], "test_loss": values["test_accuracy"]}
    return real(_replaced(outcome, metrics=changed))


def _worst(real: Any, plan: Any, entries: Any) -> Any:
    """Tuning that takes the worst value."""
    losses = {id_: {"val_accuracy": -entry.outcome.metrics["val_accuracy"]} for id_, entry in entries.items()}
    changed = {id_: _replaced(entry.outcome, metrics=losses[id_]) for id_, entry in entries.items()}
    return real(plan, {id_: replace(entry, outcome=changed[id_]) for id_, entry in entries.items()})


_DELETED = "lifecycle_stage = 'deleted'"
_ACTIVE = "select run_uuid from runs where lifecycle_stage = 'active'"
_ONE_TRIAL = f"select run_uuid from tags where key = 'trial_id' and run_uuid in ({_ACTIVE}) limit 1"
_WORSE = "replace(value_json, '\"test_accuracy\": 0.9', '\"test_accuracy\": 0.8')"
_NO_DELETION = _around(MlflowClient, "delete_run", lambda *_: None)
_TRIED_AGAIN = _around(driver, "_is_tried_again", lambda *_: True)
BUGS: dict[str, Bug] = {
    "skip the lock": _no_lock,
    "drop the trial-id look-up before a run is created": _resumed(
        _RUN_KILLED, _around(mirror.Mirror, "_runs", _parent_alone), _NO_DELETION
    ),
    "write a result in two transactions, with a crash between": _swept(
        _around(optuna_rows.TrialRows, "add", _in_two_transactions)
    ),
    "record a result twice": _swept(_around(optuna_rows.TrialRows, "add", _twice)),
    "train again what is recorded": _resumed(Injection("record.add", "kill", 3), _TRIED_AGAIN),
    "record another seed": _recorded(_wrong_seed),
    "record the outcome of another trial": _recorded(_mixed_up),
    "record only every second result": _swept(_around(ledger.Record, "add_all", _every_second)),
    "lose an epoch in MLflow": _swept(
        _around(run_format, "epoch_metrics", lambda real, epochs: real([each for each in epochs if each.number != 2]))
    ),
    "lose an epoch in the ledger": _recorded(
        lambda planned, outcome: (planned, _replaced(outcome, epochs=outcome.epochs[:1]))
    ),
    "mark failed trials as finished": _swept(_failing, lambda: run_format.STATUSES.update(failed="FINISHED")),
    "mark failed trials as complete in the ledger": _swept(_failing, _around(ledger.Record, "_finished", _as_complete)),
    "swap two metrics": _swept(_around(run_format, "all_metrics", _swapped)),
    "forget to end a run": _swept(_around(MlflowClient, "set_terminated", _every_second)),
    "keep the run that a lost reply left": _swept(_around(MlflowClient, "create_run", _twice), _NO_DELETION),
    "send points again with another time": _swept(_around(MlflowClient, "log_batch", _doubled_points)),
    "send other parameters": _swept(
        _around(run_format, "params", lambda real, trial: {**real(trial), "dropout": "0.1"})
    ),
    "tune to the worst value": _swept(_around(progress, "tuned", _worst)),
    "delete a run": _edited("mlflow.db", f"update runs set {_DELETED} where run_uuid in ({_ONE_TRIAL})"),
    "alter a recorded number": _edited(
        "ledger.db", f"update trial_user_attributes set value_json = {_WORSE} where key = 'outcome'"
    ),
    "leave the verdicts of before": _then(_swept(_failing), _swept(_around(run_format, "changed", lambda *_: []))),
    "send a password": _swept(
        _around(mirror, "mask", lambda _real, text: str(text)),
        _around(recorded_report, "provenance", lambda real, *args: {**real(*args), "store": _SECRET}),
    ),
}
HEALTHY: dict[str, Bug] = {
    "as it should be": _swept(),
    "diverged": _swept(_faults(**{"relu/0": "diverge"})),
    "failed": _swept(_failing),
    "failed, then run again": _then(_swept(_faults(**{"*/0": "raise"})), _swept()),
    "killed and resumed": _resumed(_RUN_KILLED),
    "begun anew": _then(_swept(), _swept(command="sweep --fresh")),
    "begun anew with more seeds": _then(_swept(command="sweep --seeds 1"), _swept(command="sweep --fresh")),
}


def caught() -> dict[str, dict[str, list[str]]]:
    """What `verify` says of each bug and of each healthy sweep."""
    said: dict[str, dict[str, list[str]]] = {"bugs": {}, "healthy": {}}
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        sweeps = {"small": {}, "tuned": NUISANCE, "searched": SEARCH}
        grounds = {name: Ground(Path(folder, name), name=name, seeds=2, **more) for name, more in sweeps.items()}
        for kind, cases in (("bugs", BUGS), ("healthy", HEALTHY)):
            for place, (name, case) in enumerate(cases.items()):
                ground = grounds["tuned" if name == "tune to the worst value" else "small"]
                home = ground.folder / f"{kind}-{place}"
                case(ground, home)
                said[kind][name] = ground.problems(home) if (home / "ledger.db").exists() else []
        for name in ("tuned", "searched"):
            said["healthy"][name] = grounds[name].problems(grounds[name].folder / "undisturbed")
    return said


if __name__ == "__main__":
    sys.stdout.write(json.dumps(caught(), indent=1) + "\n")
