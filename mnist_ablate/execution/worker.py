"""What runs inside a Dask worker: it trains the trials it is given. It holds no database or tracker credentials."""

import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import cloudpickle
from distributed import WorkerPlugin, get_worker

from mnist_ablate.errors import AblateError, DataError, UnreachableError, mask, one_line
from mnist_ablate.execution.dask_settings import send_at_once
from mnist_ablate.processes import end_with_parent
from mnist_ablate.trial import Epoch, Outcome, Trial
from mnist_ablate.workloads import versions
from mnist_ablate.workloads.workload import Trainer, Workload, default_workload, epochs_of

TOPIC = "mnist-ablate"
OUT_OF_MEMORY = "out of memory"
WORKER, TRIALS = "MNIST_ABLATE_WORKER", "MNIST_ABLATE_TRIALS"
"""Variables of a process that trains: the worker's own name, and the folder under which each trial may have its own."""
BUNDLE_S = 0.2
"""How long the trials may take that a worker gets at once."""
_ORPHAN_CHECK_S = 0.5
_SET_UP_S, _LOOK_AGAIN_S = 300.0, 0.01
_BEFORE = "_mnist_ablate_before"
"""The attribute of a worker that has the plugin whose place another takes."""


@dataclass(eq=False)
class TrainerPlugin(WorkerPlugin):  # type: ignore[misc]  # distributed ships no types
    """Sets a worker up: reads its inputs once, and makes the trainer that its trials share.

    `factory` is `module:factory` of the trainer, '' for that of the `workload`. `inputs` are bytes of what the trials
    read, None for the inputs that ship. A
    local worker writes its output to `log_dir` and ends when the driver's process does. `environment` has the variables
    that the workload wants in a process that trains. In the copy that a worker has, `pruned` are the trials that are to
    end with their epoch, and `refusal` says why the worker cannot train.
    """

    factory: str
    data_digest: str
    inputs: bytes | None
    log_dir: Path | None
    workload: Workload = field(default_factory=default_workload)
    environment: Mapping[str, str] = field(default_factory=dict)
    driver_versions: Mapping[str, str] = field(default_factory=versions.deciding_versions)
    trainer: Trainer | None = None
    pruned: set[str] = field(default_factory=set)
    refusal: str = ""

    @property
    def name(self) -> str:
        """By which Dask knows it, and a trial finds it in its worker."""
        return f"mnist-ablate-{self.data_digest[:16]}-{self.factory or self.workload.trainer}"

    def setup(self, worker: Any) -> None:
        """Called by Dask when a worker starts, joins later or is restarted.

        Raises DataError if its inputs are not those that the driver planned with. Raises UnreachableError if it has
        other versions than the driver: its numbers would not be comparable.
        """
        send_at_once()
        if self.log_dir is not None:
            _follow_driver(self.log_dir / f"worker-{worker.name}.log")
        os.environ.update({WORKER: str(worker.name), **self.environment})
        before = worker.__dict__.pop(_BEFORE, None)
        if before is not None and before.trainer is not None and before.task() == self.task():
            self.trainer, self.pruned = before.trainer, before.pruned
            return
        try:
            self.trainer = self._make_trainer(f"worker {worker.address}")
        except Exception as error:
            text = str(error) if isinstance(error, AblateError) else f"{type(error).__name__}: {error}"
            self.refusal = one_line(text)
            raise

    def teardown(self, worker: Any) -> None:
        """Called by Dask, too, when another sweep of the same inputs begins on the same workers and sets them up."""
        setattr(worker, _BEFORE, self)

    def task(self) -> tuple[object, ...]:
        """What a trainer follows from: if that is the same, one sweep can go on with the trainer of another."""
        versions_ = sorted(self.driver_versions.items())
        workload = cloudpickle.dumps(self.workload)
        return self.factory, self.data_digest, sorted(self.environment.items()), versions_, workload

    def _make_trainer(self, worker: str) -> Trainer:
        if differs := versions.difference(self.driver_versions, versions.deciding_versions()):
            raise UnreachableError(f"{worker} has {differs}: install the same on all and run again")
        inputs = self.workload.load(self.inputs)
        if inputs.digest != self.data_digest:
            raise DataError(f"the data file changed, or {worker} has another: give all the same and run again")
        trainer: Trainer = resolve_name(self.factory or self.workload.trainer)(inputs)
        return trainer


class _PrunedError(Exception):
    """Ends the training of a trial that is pruned."""


def prune(plugin: str, trial_id: str, dask_worker: Any) -> None:
    """End a trial that trains here with its epoch, as "pruned". If it has ended already, nothing changes."""
    dask_worker.plugins[plugin].pruned.add(trial_id)


def run(given: Sequence[tuple[tuple[Trial, ...], int]], plugin: str) -> list[Outcome]:
    """Train trainings, each for its submission, until `BUNDLE_S` have passed; at least one.

    A training has its trials, the longest last, by whose id messages go. Each outcome is also sent as a message when it
    is reached: fetching the result takes longer than a short trial.
    """
    worker, outcomes, clock = get_worker(), list[Outcome](), time.perf_counter()
    for trials, submission in given:

        def tell(trial_id: str = trials[-1].id, submission: int = submission, **parts: Any) -> None:
            worker.log_event(TOPIC, {"trial_id": trial_id, "submission": submission, **parts})

        def reached(outcome: Outcome, tell: Callable[..., None] = tell) -> None:
            outcomes.append(outcome)
            tell(outcome=outcome.model_dump())

        if cut_off := _train(trials, _plugin(worker, plugin), worker.address, tell, reached):
            ended = {outcome.trial_id for outcome in outcomes}
            for trial in trials:
                if trial.id not in ended:
                    reached(cut_off.model_copy(update={"trial_id": trial.id}))
        if time.perf_counter() - clock > BUNDLE_S:
            break
    return outcomes


def _plugin(worker: Any, name: str) -> TrainerPlugin:
    """The plugin of a worker. While Dask puts one in the place of another it is missing, or not set up, for a while."""
    deadline = time.monotonic() + _SET_UP_S
    while time.monotonic() < deadline:
        plugin: TrainerPlugin | None = worker.plugins.get(name)
        if plugin is not None and (plugin.trainer is not None or plugin.refusal):
            break
        time.sleep(_LOOK_AGAIN_S)
    found: TrainerPlugin = worker.plugins[name]
    return found


def _train(
    trials: tuple[Trial, ...],
    plugin: TrainerPlugin,
    address: str,
    tell: Callable[..., None],
    reached: Callable[[Outcome], None],
) -> Outcome | None:
    """What cut the training off. An exception is an outcome ("failed") with its traceback, not a lost worker."""
    trial = trials[-1]
    if plugin.trainer is None:  # Dask keeps a worker that joins later even if its set-up fails
        return Outcome(trial_id=trial.id, status="failed", reason=plugin.refusal or "its worker is not set up")
    epochs: list[Epoch] = []
    planned = epochs_of(plugin.workload, trial.settings)

    def on_epoch(epoch: Epoch) -> None:
        epochs.append(epoch)
        tell(epoch=epoch.model_dump())
        if trial.id in plugin.pruned and (planned is None or epoch.number < planned):
            raise _PrunedError

    def on_wait(text: str) -> None:
        tell(preparing=text)

    started_ms, clock = time.time_ns() // 1_000_000, time.perf_counter()
    tell(started=address, pid=os.getpid(), started_ms=started_ms)
    plugin.pruned.discard(trial.id)
    try:
        if trials == (trial,):
            reached(plugin.trainer.train(trial, on_epoch, on_wait))
        else:
            for outcome in plugin.trainer.train_together(trials, on_epoch, on_wait):
                reached(outcome)
        return None  # noqa: TRY300 - what follows is what cut it off
    except _PrunedError:
        reason = f"stopped after epoch {len(epochs)}{f' of {planned}' if planned else ''}"
        ended: dict[str, Any] = {"status": "pruned", "epochs": tuple(epochs), "reason": reason}
    except Exception as error:  # noqa: BLE001 - whatever a builder or an optimizer raises is this trial's outcome
        kind, text, trace = type(error).__name__, one_line(str(error)), mask(traceback.format_exc())
        if kind in {"MemoryError", "ResourceExhaustedError"}:
            ended = {"status": "lost", "reason": OUT_OF_MEMORY, "traceback": trace}
        else:
            ended = {"status": "failed", "reason": f"{kind}: {text}" if text else kind, "traceback": trace}
    times = {"started_ms": started_ms, "seconds": time.perf_counter() - clock, "worker": socket.gethostname()}
    return Outcome(trial_id=trial.id, **ended, **times)


def _follow_driver(log: Path) -> None:
    """Write all output to a log, and end when the driver does, even if it is killed and cannot tell."""
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    driver = os.getppid()
    end_with_parent()  # even while a trial holds the interpreter lock, and no thread of ours can run

    def end_with_driver() -> None:
        while os.getppid() == driver:  # another process adopts a worker whose driver has ended
            time.sleep(_ORPHAN_CHECK_S)
        os._exit(1)

    threading.Thread(target=end_with_driver, daemon=True).start()
