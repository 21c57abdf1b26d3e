"""What runs inside a Dask worker: it trains the trials it is given. It holds no database or tracker credentials."""

import itertools
import os
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import cloudpickle
from distributed import WorkerPlugin, get_worker

from mnist_ablate.errors import AblateError, DataError, UnreachableError, mask, one_line
from mnist_ablate.execution import gpus
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
        if self.workload.trains_on_gpus:
            gpus.take_one()
        if not os.environ.get(TRIALS):
            os.environ[TRIALS] = str(Path(tempfile.gettempdir(), "mnist-ablate-trials"))
        tempfile.tempdir = worker.local_directory  # TensorFlow leaves files there; Dask removes it with the worker
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


def run(given: Sequence[tuple[tuple[Trial, ...], int]], plugin: str, *, lanes: bool = False) -> list[Outcome]:
    """Train trainings, each for its submission, until `BUNDLE_S` have passed; at least one. All at once in `lanes`.

    A training has its trials, the longest last, by whose id messages go. Each outcome is also sent as a message when it
    is reached: fetching the result takes longer than a short trial.
    """
    worker, outcomes, clock = get_worker(), list[Outcome](), time.perf_counter()
    tells = dict[str, Callable[..., None]]()

    def reached(outcome: Outcome) -> None:
        outcomes.append(outcome)
        tells[outcome.trial_id](outcome=outcome.model_dump())

    for trials, submission in given:

        def tell(trial_id: str = trials[-1].id, submission: int = submission, **parts: Any) -> None:
            worker.log_event(TOPIC, {"trial_id": trial_id, "submission": submission, **parts})

        tells |= {trial.id: tell for trial in trials}
    trainings = [trials for trials, _ in given]
    for together in [trainings] if lanes else [[trials] for trials in trainings]:
        if cut_off := _train(together, _plugin(worker, plugin), worker.address, tells, reached):
            ended = {outcome.trial_id for outcome in outcomes}
            for trial in itertools.chain.from_iterable(together):
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
    trainings: Sequence[tuple[Trial, ...]],
    plugin: TrainerPlugin,
    address: str,
    tells: Mapping[str, Callable[..., None]],
    reached: Callable[[Outcome], None],
) -> Outcome | None:
    """What cut a training off, or several in lanes. An exception is an outcome ("failed") with its traceback.

    It is no lost worker. In lanes it is "lost", whatever it is: each of them is then trained by itself.
    """
    heads = [trials[-1] for trials in trainings]
    if plugin.trainer is None:  # Dask keeps a worker that joins later even if its set-up fails
        return Outcome(trial_id=heads[0].id, status="failed", reason=plugin.refusal or "its worker is not set up")
    epochs: list[Epoch] = []
    planned = epochs_of(plugin.workload, heads[0].settings)

    def on_epoch(trial: Trial, epoch: Epoch) -> None:
        epochs.append(epoch)
        tells[trial.id](epoch=epoch.model_dump())
        if trial.id in plugin.pruned and (planned is None or epoch.number < planned):
            raise _PrunedError

    def on_wait(text: str) -> None:
        for trial in heads:
            tells[trial.id](preparing=text)

    started_ms, clock = time.time_ns() // 1_000_000, time.perf_counter()
    for trial in heads:
        tells[trial.id](started=address, pid=os.getpid(), started_ms=started_ms)
        plugin.pruned.discard(trial.id)
    try:
        for outcome in _outcomes(plugin.trainer, trainings, on_epoch, on_wait):
            reached(outcome)
        return None  # noqa: TRY300 - what follows is what cut it off
    except _PrunedError:
        reason = f"stopped after epoch {len(epochs)}{f' of {planned}' if planned else ''}"
        ended: dict[str, Any] = {"status": "pruned", "epochs": tuple(epochs), "reason": reason}
    except Exception as error:  # noqa: BLE001 - whatever a builder or an optimizer raises is this trial's outcome
        ended = {**_raised(error, len(trainings)), "traceback": mask(traceback.format_exc())}
    times = {"started_ms": started_ms, "seconds": time.perf_counter() - clock, "worker": socket.gethostname()}
    return Outcome(trial_id=heads[0].id, **ended, **times)


def _outcomes(
    trainer: Trainer,
    trainings: Sequence[tuple[Trial, ...]],
    on_epoch: Callable[[Trial, Epoch], None],
    on_wait: Callable[[str], None],
) -> Iterator[Outcome]:
    """The outcomes of a training, or of several in lanes, each when it is reached."""
    if len(trainings) > 1:
        return trainer.train_lanes(trainings, on_epoch, on_wait)
    (trials,) = trainings
    on_own_epoch = partial(on_epoch, trials[-1])
    if len(trials) > 1:
        return trainer.train_together(trials, on_own_epoch, on_wait)
    return iter([trainer.train(trials[0], on_own_epoch, on_wait)])


def _raised(error: Exception, lanes: int) -> dict[str, str]:
    """Status and reason of a training that raised an error, or of several in lanes."""
    kind, text = type(error).__name__, one_line(str(error))
    out_of_memory = kind in {"MemoryError", "ResourceExhaustedError"}
    reason = OUT_OF_MEMORY if out_of_memory else f"{kind}: {text}" if text else kind
    if lanes > 1:
        return {"status": "lost", "reason": f"{reason}, in one of {lanes} lanes"}
    return {"status": "lost" if out_of_memory else "failed", "reason": reason}


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
