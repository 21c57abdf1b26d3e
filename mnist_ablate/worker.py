"""What runs inside a Dask worker: trains the trials it is given; holds no database or tracker credentials."""

import contextlib
import importlib
import io
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from distributed import WorkerPlugin, get_worker

from mnist_ablate import data
from mnist_ablate.trial import Epoch, Outcome, Trial

TOPIC = "mnist-ablate"
from mnist_ablate.settings import KERAS_TRAINER
_NOT_NEEDED = ("pandas", "sklearn", "matplotlib")
_ORPHAN_CHECK_S = 0.5


class Trainer(Protocol):
    """Made once a worker from the images; trains one trial at a time."""

    def train(self, trial: Trial, on_epoch: Callable[[Epoch], None]) -> Outcome:
        """The outcome of the trial, after telling each epoch."""


class TrainerPlugin(WorkerPlugin):  # type: ignore[misc]  # distributed ships no types
    """Sets a worker up: images once by content, keras once, and the trainer that its trials share.

    `images` is a `.npz` as bytes, None for the packaged MNIST; `trainer` is `module:factory`. A local worker
    writes its noise to `log_dir`, leaves Ctrl-C to the driver, and ends when the driver's process does.
    """

    def __init__(self, name: str, trainer: str, images: bytes | None, log_dir: Path | None) -> None:
        self.name = name
        self._trainer = trainer
        self._images = images
        self._log_dir = log_dir
        self.trainer: Trainer | None = None

    def setup(self, worker: Any) -> None:
        """Called by Dask when a worker starts, and for workers that join or are restarted later."""
        if self._log_dir is not None:
            _follow_driver(self._log_dir / f"worker-{worker.name}.log")
        digits = data.load() if self._images is None else data.read("--data", io.BytesIO(self._images))
        module, _, factory = self._trainer.partition(":")
        with _without(_NOT_NEEDED):
            self.trainer = getattr(importlib.import_module(module), factory)(digits)

    def __getstate__(self) -> dict[str, Any]:
        """The trainer itself stays in its worker."""
        return {**self.__dict__, "trainer": None}


def run(trial: Trial, plugin: str) -> Outcome:
    """Train one trial; an exception is an outcome ("failed") with its traceback, not a lost worker."""
    worker = get_worker()
    trainer: Trainer = worker.plugins[plugin].trainer
    send = _sender(worker, trial.id)
    send({"started": worker.address})
    try:
        return trainer.train(trial, lambda epoch: send({"epoch": epoch.model_dump()}))
    except Exception as error:  # noqa: BLE001 - whatever a builder or an optimizer raises is this trial's outcome
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}"
        return Outcome(trial_id=trial.id, status="failed", reason=reason, traceback=traceback.format_exc())


def _sender(worker: Any, trial_id: str) -> Callable[[dict[str, Any]], None]:
    return lambda message: worker.log_event(TOPIC, {"trial_id": trial_id, **message})


def _follow_driver(log: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """A killed driver cannot tell its workers: they notice that another process adopted them."""
    while os.getppid() == parent:
        time.sleep(_ORPHAN_CHECK_S)
    os._exit(1)


@contextlib.contextmanager
def _without(modules: tuple[str, ...]) -> Iterator[None]:
    """Hide modules that keras imports only because they are there: 2 s a worker."""
    hidden = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None marks a module as absent
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
