"""What runs inside a Dask worker: it trains the trials it is given. It holds no database or tracker credentials."""

import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from distributed import WorkerPlugin, get_worker

from mnist_ablate import versions
from mnist_ablate.errors import AblateError, DataError, UnreachableError
from mnist_ablate.execution.dask_settings import send_at_once
from mnist_ablate.masking import mask, one_line
from mnist_ablate.processes import end_with_parent
from mnist_ablate.trial import Epoch, Outcome, Trial
from mnist_ablate.workloads.workload import Trainer, default_workload, epochs_of

TOPIC = "mnist-ablate"
OUT_OF_MEMORY = "out of memory"
_MEMORY_ERRORS = ("MemoryError", "ResourceExhaustedError")
_ORPHAN_CHECK_S = 0.5


class TrainerPlugin(WorkerPlugin):  # type: ignore[misc]  # distributed ships no types
    """Sets a worker up: its inputs once by content, and the trainer that its trials share.

    `inputs` is a data file as bytes, None for the inputs that ship. `trainer` is `module:factory`. A local worker
    writes its noise to `log_dir` and ends when the driver's process does. `environment` has the variables that the
    workload wants in a process that trains.
    """

    def __init__(
        self,
        trainer: str,
        data_digest: str,
        inputs: bytes | None,
        log_dir: Path | None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = f"mnist-ablate-{data_digest[:16]}-{trainer}"
        self._trainer = trainer
        self._data_digest = data_digest
        self._inputs = inputs
        self._log_dir = log_dir
        self._environment = dict(environment or {})
        self._versions = versions.versions()
        self.trainer: Trainer | None = None
        self.pruned: set[str] = set()
        """Trials that are to end with their epoch."""
        self.refusal = ""
        """Why the worker that this copy is in cannot train."""

    def setup(self, worker: Any) -> None:
        """Called by Dask when a worker starts, and for workers that join or are restarted later.

        Raises DataError if the inputs are not those that the driver planned with, UnreachableError if the worker
        has other versions than the driver: its numbers would not be comparable.
        """
        send_at_once()
        if self._log_dir is not None:
            _follow_driver(self._log_dir / f"worker-{worker.name}.log")
        os.environ.update(self._environment)
        try:
            self.trainer = self._made(worker.address)
        except Exception as error:
            self.refusal = one_line(
                f"{type(error).__name__}: {error}" if not isinstance(error, AblateError) else str(error)
            )
            raise

    def _made(self, address: str) -> Trainer:
        if differs := versions.difference(self._versions, versions.versions()):
            raise UnreachableError(f"worker {address} has {differs}: install the same on all and run again")
        inputs = default_workload().read(self._inputs)
        if inputs.digest != self._data_digest:
            raise DataError(f"the data file changed, or worker {address} has another: give all the same and run again")
        made: Trainer = resolve_name(self._trainer)(inputs)
        return made

    def __getstate__(self) -> dict[str, Any]:
        """The trainer itself stays in its worker."""
        return {**self.__dict__, "trainer": None}


class _PrunedError(Exception):
    """Raised out of a trial that is to end."""


def prune(plugin: str, trial_id: str, dask_worker: Any) -> None:
    """Let a trial that trains here end with its epoch, as "pruned"; of one that is over nothing is changed."""
    dask_worker.plugins[plugin].pruned.add(trial_id)


def run(trial: Trial, plugin: str, submission: int) -> Outcome:
    """Train one trial; its outcome is told too, as the last message: to fetch it takes longer than a short trial."""
    worker = get_worker()

    def tell(message: dict[str, Any]) -> None:
        worker.log_event(TOPIC, {"trial_id": trial.id, "submission": submission, **message})

    outcome = _trained(trial, worker.plugins[plugin], worker.address, tell)
    tell({"outcome": outcome.model_dump()})
    return outcome


def _trained(trial: Trial, set_up: TrainerPlugin, address: str, tell: Callable[[dict[str, Any]], None]) -> Outcome:
    """An exception is an outcome ("failed") with its traceback, not a lost worker."""
    if set_up.trainer is None:  # Dask lets a worker in that joins later, whatever its set-up says
        return Outcome(trial_id=trial.id, status="failed", reason=set_up.refusal or "its worker is not set up")
    epochs: list[Epoch] = []

    def on_epoch(epoch: Epoch) -> None:
        epochs.append(epoch)
        tell({"epoch": epoch.model_dump()})
        if trial.id in set_up.pruned and epoch.number < epochs_of(trial):
            raise _PrunedError

    tell({"started": address, "pid": os.getpid()})
    started_ms, clock = time.time_ns() // 1_000_000, time.perf_counter()
    set_up.pruned.discard(trial.id)
    try:
        return set_up.trainer.train(trial, on_epoch, lambda text: tell({"preparing": text}))
    except _PrunedError:
        return Outcome(
            trial_id=trial.id,
            status="pruned",
            epochs=tuple(epochs),
            reason=f"stopped after epoch {len(epochs)} of {epochs_of(trial)}",
            started_ms=started_ms,
            seconds=time.perf_counter() - clock,
            worker=socket.gethostname(),
        )
    except Exception as error:  # noqa: BLE001 - whatever a builder or an optimizer raises is this trial's outcome
        kind = type(error).__name__
        trace = mask(traceback.format_exc())
        if kind in _MEMORY_ERRORS:
            return Outcome(trial_id=trial.id, status="lost", reason=OUT_OF_MEMORY, traceback=trace)
        text = one_line(str(error))
        reason = f"{kind}: {text}" if text else kind
        return Outcome(trial_id=trial.id, status="failed", reason=reason, traceback=trace)


def _follow_driver(log: Path) -> None:
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    driver = os.getppid()
    end_with_parent()  # even where a trial holds the interpreter lock, and no thread of ours can
    threading.Thread(target=_end_with, args=(driver,), daemon=True).start()


def _end_with(parent: int) -> None:
    """A killed driver cannot tell its workers: they notice that another process adopted them."""
    while os.getppid() == parent:
        time.sleep(_ORPHAN_CHECK_S)
    os._exit(1)
