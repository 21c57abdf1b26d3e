"""Named points of the program at which a test kills, interrupts, raises or fills the disk; wrapped from outside."""

import errno
import os
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pkgutil import resolve_name
from typing import Any

POINTS = {
    "plan.make_plan": "mnist_ablate.execution.driver:make_plan",
    "plan.open": "mnist_ablate.execution.driver:Ledger.__init__",
    "plan.begin": "mnist_ablate.ledger.ledger:Ledger.begin",
    "plan.register": "optuna:Study.set_user_attr",
    "run.start": "mnist_ablate.execution.driver:_Run._training",
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
    "sync.publish": "mnist_ablate.execution.publishing:publish",
    "cache.store": "mnist_ablate.tracking.local_store:_create",
    "cache.copy": "mnist_ablate.tracking.local_store:shutil.rmtree",
    "report.of_rows": "mnist_ablate.reports.judging:of_rows",
    "report.markdown": "mnist_ablate.execution.publishing:markdown",
    "report.show": "mnist_ablate.cli.sweep_ending:show",
}
_SIGNALS = {"kill": signal.SIGKILL, "interrupt": signal.SIGINT, "terminate": signal.SIGTERM}
ACTIONS = (*_SIGNALS, "raise", "full")


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
    parent, _, name = path.rpartition(".")
    owner = resolve_name(f"{module}:{parent}")
    real = getattr(owner, name)
    passed = 0

    @wraps(real)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal passed
        passed += 1
        if passed != injection.nth:
            return real(*args, **kwargs)
        result = real(*args, **kwargs) if injection.after else None
        fired()
        act(injection)
        return result if injection.after else real(*args, **kwargs)

    setattr(owner, name, wrapped)


def act(injection: Injection) -> None:
    if injection.action in _SIGNALS:
        os.kill(os.getpid(), _SIGNALS[injection.action])
    elif injection.action == "raise":
        raise Injected(str(injection))
    elif injection.point in {"record.statement", "record.commit"}:
        raise sqlite3.OperationalError("database or disk is full")
    else:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "disk")
