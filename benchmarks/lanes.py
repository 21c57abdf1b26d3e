"""Trials a second in lanes, beside one at a time and beside Keras's `fit` on the same device.

Usage: lanes.py [--models mlp mlp3 cnn] [--lanes 1 16 64 256] [--images 60000] [--minutes 8]

A trial has 5 epochs. What is timed is the epoch with its validation, after the one that compiles. Convolutions have no
fast form with kernels of several lanes, so cnn is trained one at a time whatever is asked. On a CPU, `--lanes 1 3 8
--images 12000` takes a few minutes. Rows for which there is no time left are not measured.
"""

# mypy: disable-error-code="no-untyped-call"

import argparse
import math
import os
import tempfile
import time
from itertools import pairwise
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
from usual_models import build, load

from mnist_ablate.trial import Outcome, Trial
from mnist_ablate.workloads.keras_mnist import data
from mnist_ablate.workloads.keras_mnist.backend import GPUS, tf
from mnist_ablate.workloads.keras_mnist.recipe import Recipe
from mnist_ablate.workloads.keras_mnist.trainer import Trainer
from mnist_ablate.workloads.keras_mnist.workload import KERAS_MNIST
from mnist_ablate.workloads.workload import trial_of

EPOCHS = 5  # of a trial
TIMED = 3  # epochs, of which the first compiles
COMPARED = 3  # trials of a row that are trained one at a time too


def usual_s(model: str, images: int, file: Path) -> float:
    """Seconds of an epoch with its validation of the network that a user writes."""
    (x, y), _test = load(file)
    network = build(model, "relu")
    ends: list[float] = []
    for _ in range(TIMED):
        ends.append(time.perf_counter())
        network.fit(x[:images], y[:images], batch_size=128, epochs=1, validation_split=0.3, verbose=0)
    return min(b - a for a, b in pairwise([*ends[1:], time.perf_counter()]))


def trained(trainer: Trainer, trials: list[Trial], *, lanes: bool) -> tuple[list[Outcome], float, float]:
    """The outcomes, seconds to compile, seconds of an epoch of all."""
    ends = [time.perf_counter()]
    left = len(trials)

    def on_epoch(*_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            ends.append(time.perf_counter())
            left = len(trials)

    if lanes:
        outcomes = [*trainer.train_lanes([(trial,) for trial in trials], on_epoch, print)]
    else:
        outcomes = [trainer.train(trials[0], on_epoch, print)]
    first, *others = [b - a for a, b in pairwise(ends)]
    return outcomes, first - min(others), min(others)


def differences(trainer: Trainer, outcomes: list[Outcome], trials: list[Trial]) -> tuple[float, float]:
    """How far trials are at most from those trained one at a time: of a test accuracy, and of a loss by its size."""
    worst = 0.0, 0.0
    by_id = {outcome.trial_id: outcome.metrics for outcome in outcomes}
    for trial in trials[:COMPARED]:
        alone, found = trainer.train(trial).metrics, by_id[trial.id]
        accuracy = abs(alone["test_accuracy"] - found["test_accuracy"])
        loss = max(abs(found[name] / alone[name] - 1) for name in ("train_loss", "val_loss"))
        worst = max(worst[0], accuracy), max(worst[1], loss)
    return worst


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="+", default=["mlp", "mlp3", "cnn"])
    parser.add_argument("--lanes", nargs="+", type=int, default=[1, 16, 64, 256])
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--minutes", type=float, default=8.0)
    asked = parser.parse_args()
    end = time.monotonic() + 60 * asked.minutes
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mnist.npz"
        full = data.load()
        parts = np.concatenate([full.x_train, full.x_val]), np.concatenate([full.y_train, full.y_val])
        x, y = (part[: asked.images] for part in parts)
        shape = (-1, *full.image_shape[:2])
        np.savez(file, x_train=x.reshape(shape), y_train=y, x_test=full.x_test.reshape(shape), y_test=full.y_test)
        print(f"{tf.config.experimental.get_device_details(GPUS[0]) if GPUS else 'no GPU'}; {asked.images} images\n")
        print(
            "| model | lanes | s to compile | s an epoch of all | trials a second | beside `fit` | largest difference |"
        )
        print("|---|---:|---:|---:|---:|---:|---:|")
        for model in asked.models:
            usual = usual_s(model, asked.images, file)
            print(f"| {model}, Keras's `fit` | | | {usual:.2f} | {1 / (EPOCHS * usual):.2f} | 1.0 | |", flush=True)
            trainer = Trainer(data.load(file))
            expected = 0.0
            for lanes in (0, *asked.lanes):  # 0: one at a time, without lanes
                trials = [
                    trial_of(KERAS_MNIST, Recipe(model=model, epochs=TIMED).model_dump(), seed, trainer.dataset.digest)
                    for seed in range(max(lanes, 1))
                ]
                if lanes and KERAS_MNIST.lane_group(trials[0]) is None:
                    print(f"| {model} | {lanes} | trains one at a time | | | | |")
                    continue
                if time.monotonic() + expected > end:
                    print(f"| {model} | {lanes} | no time left | | | | |")
                    continue
                began = time.monotonic()
                outcomes, compile_s, epoch_s = trained(trainer, trials, lanes=lanes > 0)
                rate = len(trials) / (EPOCHS * epoch_s)
                accuracy, loss = differences(trainer, outcomes, trials) if lanes else (math.nan, math.nan)
                far = f"{100 * accuracy:.2f} pp, {loss:.0e} of a loss" if lanes else ""
                name = str(lanes or "none")
                times = f"{compile_s:.1f} | {epoch_s:.2f} | {rate:.2f} | {rate * EPOCHS * usual:.1f}"
                print(f"| {model} | {name} | {times} | {far} |", flush=True)
                expected = 4 * (time.monotonic() - began)


if __name__ == "__main__":
    main()
