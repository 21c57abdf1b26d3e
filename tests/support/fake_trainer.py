"""A trainer for tests: 20 ms epochs, numbers from arm and seed, faults as told; no TensorFlow.

FAKE_FAULTS is JSON from "activation/seed" (either may be *) to a fault: raise, hang, kill_once, kill, diverge,
memory, slow, percent, leak (FAKE_LEAK), prepare. FAKE_DIR is a folder where each start leaves a line in `starts`. With
FAKE_SET_UP the first worker that is set up kills itself.
"""

import ctypes
import hashlib
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from mnist_ablate.trial import Epoch, Outcome, Trial
from mnist_ablate.workloads.keras_mnist.data import Dataset

EPOCH_S = 0.02
SLOW_S = 1.0
PREPARE_S = 0.5
CHANCE = {"test_accuracy": 0.1, "test_loss": math.log(10), "val_accuracy": 0.1, "val_loss": math.log(10)}


class FakeTrainer:
    def train(
        self, trial: Trial, on_epoch: Callable[[Epoch], None], on_wait: Callable[[str], None] = lambda _text: None
    ) -> Outcome:
        (outcome,) = self.train_together((trial,), on_epoch, on_wait)
        return outcome

    def train_together(
        self, trials: Sequence[Trial], on_epoch: Callable[[Epoch], None], on_wait: Callable[[str], None]
    ) -> Iterator[Outcome]:
        trial, started_ms, epochs = trials[-1], time.time_ns() // 1_000_000, list[Epoch]()
        again, fault = _log_start(trial), fault_of(trial)
        if fault == "prepare":
            for part in range(4):
                on_wait(f"{part} of 4")
                time.sleep(PREPARE_S)
        for number in range(1, _epochs(trial) + 1):
            if number == 2 or _epochs(trial) == 1:
                _fail(fault.removesuffix("_once") if not again else fault)
            if fault == "diverge" and number == 2:
                break
            time.sleep(SLOW_S if fault == "slow" else float(os.environ.get("FAKE_EPOCH_S", EPOCH_S)))
            epochs.append(epoch(trial, number))
            on_epoch(epochs[-1])
            if shorter := next((each for each in trials[:-1] if _epochs(each) == number), None):
                yield self._outcome(shorter, epochs, fault, started_ms)
        for each in trials:
            if each is trial or _epochs(each) > len(epochs):
                yield self._outcome(each, epochs, fault, started_ms)

    def train_lanes(
        self,
        trainings: Sequence[Sequence[Trial]],
        on_epoch: Callable[[Trial, Epoch], None],
        on_wait: Callable[[str], None],
    ) -> Iterator[Outcome]:
        """As one after the other; their number is a line in `lanes`."""
        if folder := os.environ.get("FAKE_DIR"):
            with (Path(folder) / "lanes").open("a") as file:
                file.write(f"{len(trainings)}\n")
        for trials in trainings:
            yield from self.train_together(trials, partial(on_epoch, trials[-1]), on_wait)

    def _outcome(self, trial: Trial, reached: Sequence[Epoch], fault: str, started_ms: int) -> Outcome:
        epochs = [epoch(trial, each.number) for each in reached]
        diverged = len(epochs) < _epochs(trial)
        told = CHANCE if diverged else metrics(trial)
        told = {name: 100 * value for name, value in told.items()} if fault == "percent" else told
        return Outcome(
            trial_id=trial.id,
            status="diverged" if diverged else "complete",
            metrics={name: value for name, value in told.items() if not (trial.is_blind and name.startswith("test_"))},
            epochs=tuple(epochs),
            reason="loss not finite in epoch 2" if diverged else "",
            started_ms=started_ms,
            seconds=float(os.environ.get("FAKE_TRIAL_S", "0.1")),  # what it says, not what it takes
            worker=str(os.getpid()),
        )

    def save(self, trial: Trial, folder: Path) -> None:
        (folder / "model.json").write_text(trial.id)
        (folder / "model.weights.h5").write_text(trial.id)


def _epochs(trial: Trial) -> int:
    return int(trial.settings["epochs"])


def factory(_digits: Dataset) -> FakeTrainer:
    if "hang" in os.environ.get("FAKE_FAULTS", ""):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "FAKE_SET_UP" in os.environ:
        with suppress(FileExistsError), (Path(os.environ["FAKE_DIR"]) / "killed").open("x"):
            os.kill(os.getpid(), signal.SIGKILL)
    return FakeTrainer()


def fault_of(trial: Trial) -> str:
    faults: dict[str, str] = json.loads(os.environ.get("FAKE_FAULTS", "{}"))
    names = (f"{arm}/{seed}" for arm in (trial.settings["activation"], "*") for seed in (trial.seed, "*"))
    return next((faults[name] for name in names if name in faults), "")


def metrics(trial: Trial) -> dict[str, float]:
    """Best near a learning rate of 0.01; a little luck that depends on everything."""
    luck = int(hashlib.sha256(trial.id.encode()).hexdigest()[:6], 16) / 16**6
    accuracy = 0.96 + 0.01 * luck - (0.02 if trial.settings["activation"] == "tanh" else 0.0)
    fit = -abs(trial.settings["learning_rate"] - 0.01)
    return {"test_accuracy": accuracy, "test_loss": 1 - accuracy, "val_accuracy": accuracy + fit, "val_loss": 0.1}


def epoch(trial: Trial, number: int) -> Epoch:
    """Rises to what the trial's metrics say of its last epoch."""
    last, missing = metrics(trial), _epochs(trial) - number
    loss, accuracy = last["val_loss"] + 0.1 * missing, last["val_accuracy"] - 0.01 * missing
    values = {"train_loss": 1 / number, "train_accuracy": 0.9, "val_loss": loss, "val_accuracy": accuracy}
    return Epoch(number=number, **values, ended_ms=time.time_ns() // 1_000_000)


def _fail(fault: str) -> None:
    if fault in {"raise", "leak"}:
        raise RuntimeError("no such layer" if fault == "raise" else os.environ["FAKE_LEAK"])
    if fault == "memory":
        raise MemoryError
    if fault == "eat":
        eaten = bytearray(600_000_000)
        time.sleep(5)
        del eaten
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "hang":
        ctypes.PyDLL(None).sleep(60)  # keeps the interpreter lock


def _log_start(trial: Trial) -> bool:
    """Whether the trial was started before."""
    folder = os.environ.get("FAKE_DIR")
    if not folder:
        return False
    starts = Path(folder) / "starts"
    again = starts.exists() and any(line.startswith(trial.id) for line in starts.read_text().splitlines())
    with starts.open("a") as file:
        file.write(f"{trial.id} {os.getpid()} {trial.settings['activation']}/{trial.seed}\n")
    return again
