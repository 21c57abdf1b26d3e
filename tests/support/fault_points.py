"""Named points of the program at which a test kills, interrupts, raises or fills the disk; wrapped from outside."""

import errno
import os
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from typing import Any

POINTS = {
    "plan.make_plan": "mnist_ablate.execution.driver:make_plan",
    "plan.open": "mnist_ablate.execution.driver:Ledger.__init__",
    "plan.begin": "mnist_ablate.ledger.ledger:Ledger.begin",
    "plan.register": "optuna:Study.set_user_attr",
    "run.start": "mnist_ablate.execution.driver:Run._training",
    "run.event": "mnist_ablate.cli.live_view:Watch.event",
    "run.epoch": "mnist_ablate.tracking.uploader:Uploader.epoch",
    "record.add": "mnist_ablate.ledger.ledger:Record.add_all",
    "record.trial": "mnist_ablate.ledger.optuna_rows:TrialRows.add",
    "record.statement": "sqlalchemy.engine.default:DefaultDialect.do_execute",
    "record.commit": "sqlalchemy.engine.default:DefaultDialect.do_commit",
    "record.queue": "mnist_ablate.tracking.uploader:Uploader.outcome",
    "mirror.open": "mnist_ablate.tracking.mirror:Mirror.open",
    "mirror.experiment": "mlflow:MlflowClient.create_experiment",
    "mirror.find": "mlflow:MlflowClient.search_runs",
    "mirror.run": "mlflow:MlflowClient.create_run",
    "mirror.batch": "mlflow:MlflowClient.log_batch",
    "mirror.end": "mlflow:MlflowClient.set_terminated",
    "mirror.settle": "mnist_ablate.tracking.mirror:Mirror.settle",
    "sync.outcome": "mnist_ablate.tracking.mirror:Mirror.outcome",
    "sync.verdicts": "mnist_ablate.tracking.mirror:Mirror.verdicts",
    "sync.publish": "mnist_ablate.execution.recorded_report:publish",
    "cache.store": "mnist_ablate.tracking.client:_create",
    "cache.copy": "mnist_ablate.tracking.client:shutil.rmtree",
    "report.of_rows": "mnist_ablate.reports.judging:of_rows",
    "report.markdown": "mnist_ablate.execution.recorded_report:markdown",
    "report.show": "mnist_ablate.cli.sweeps:show",
}
ACTIONS = ("kill", "interrupt", "terminate", "raise", "full")


@dataclass(frozen=True)
class Injection:
    """Do `action` before or after the `nth` time that the program comes by `point`."""

    point: str
    action: str
    nth: int = 1
    after: bool = False

    def __str__(self) -> str:
        return f"{self.action} {'after' if self.after else 'before'} {self.point} #{self.nth}"


class Injected(Exception):  # noqa: N818 - a fault, not an error of ours
    """What `raise` raises."""


def install(injection: Injection, fired: Callable[[], None]) -> None:
    """Wrap the point, for the rest of this process; `fired` is called just before the action."""
    module, _, path = POINTS[injection.point].partition(":")
    owner: Any = import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    real = getattr(owner, name)
    passed = 0

    @wraps(real)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal passed
        passed += 1
        here = passed == injection.nth
        if here and not injection.after:
            fired()
            act(injection)
        result = real(*args, **kwargs)
        if here and injection.after:
            fired()
            act(injection)
        return result

    setattr(owner, name, wrapped)


def act(injection: Injection) -> None:
    if injection.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif injection.action == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
    elif injection.action == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)
    elif injection.action == "raise":
        raise Injected(str(injection))
    elif injection.point in {"record.statement", "record.commit"}:
        raise sqlite3.OperationalError("database or disk is full")
    else:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "disk")
