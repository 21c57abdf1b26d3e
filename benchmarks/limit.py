"""How near the trainer comes to what one core of this machine can multiply, in one run: sgemm, products, epochs.

Usage: limit.py; prints a Markdown table in GFLOP/s, and the time that a trial of five epochs cannot go below.
"""

# mypy: disable-error-code="no-untyped-call"

import os
import time
from collections.abc import Callable
from functools import partial

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", TF_CPP_MIN_LOG_LEVEL="3")

import numpy as np

from mnist_ablate import data
from mnist_ablate.backend import tf
from mnist_ablate.program import shape_of
from mnist_ablate.train import Trainer
from mnist_ablate.trial import Recipe, Trial

ROUNDS, EPOCHS, BATCH = 5, 5, 128


def dense(inputs: int, units: int) -> int:
    """FLOP of one image."""
    return 2 * inputs * units


def conv(side: int, channels: int, filters: int) -> int:
    """FLOP of one image, 3x3, with side x side outputs."""
    return side**2 * dense(9 * channels, filters)


LAYERS = {
    "mlp": [dense(784, 500), dense(500, 10)],
    "mlp3": [dense(784, 500), dense(500, 500), dense(500, 500), dense(500, 10)],
    "cnn": [
        conv(26, 1, 32),
        conv(24, 32, 32),
        dense(12 * 12 * 32, 500),
        dense(500, 500),
        dense(500, 500),
        dense(500, 10),
    ],
}


def best(run: Callable[[], object], repeats: int) -> float:
    """Seconds of one of `repeats` calls, in the best of the rounds: what the machine can do between its pauses."""
    run()
    times = []
    for _ in range(ROUNDS):
        clock = time.perf_counter()
        for _ in range(repeats):
            run()
        times.append((time.perf_counter() - clock) / repeats)
    return min(times)


def sgemm() -> float:
    """FLOP/s of numpy's product of two square matrices of 2,048."""
    a, b = (np.random.default_rng(i).random((2048, 2048), np.float32) for i in range(2))
    return 2 * 2048**3 / best(lambda: a @ b, 1)


def products(rows: int, inputs: int, units: int) -> tuple[float, float]:
    """FLOP/s of a dense layer's forward product and of its kernel's gradient, each compiled alone."""
    x, kernel, errors = (tf.random.normal(s) for s in ((rows, inputs), (units, inputs), (rows, units)))
    forward = tf.function(lambda: tf.matmul(x, kernel, transpose_b=True), jit_compile=True)
    gradient = tf.function(lambda: tf.matmul(errors, x, transpose_a=True), jit_compile=True)
    work = 2 * rows * inputs * units
    return work / best(forward, 300), work / best(gradient, 300)


def flops(layers: list[int], *, training: bool) -> int:
    """Of one image's products: forward, and in training the gradients of kernels and of all inputs but the images."""
    return sum(layers) + (sum(layers) + sum(layers[1:]) if training else 0)


def main() -> None:
    """Measure and print."""
    digits = data.load()
    peak = sgemm()
    print(f"sgemm of one core: {peak / 1e9:.0f} GFLOP/s\n\n| what | GFLOP/s | of sgemm |\n|---|---|---|")

    def row(what: str, rate: float) -> None:
        print(f"| {what} | {rate / 1e9:.0f} | {rate / peak:.0%} |", flush=True)

    forward, gradient = products(BATCH, 784, 500)
    row(f"({BATCH}, 784) x (784, 500), alone", forward)
    row(f"its kernel's gradient, (500, {BATCH}) x ({BATCH}, 784), alone", gradient)
    floors = []
    for model, layers in LAYERS.items():
        trainer = Trainer(digits)
        recipe = Recipe(model=model, learning_rate=0.001, batch_size=BATCH, epochs=1)
        trial = Trial(recipe=recipe, seed=0, data_digest=digits.digest)
        trainer.train(trial)
        program, inputs = trainer.program(shape_of(recipe)), trainer.inputs(recipe)
        train = len(digits.x_train) * flops(layers, training=True)
        val, test = (len(x) * flops(layers, training=False) for x in (digits.x_val, digits.x_test))
        seconds = min(trainer.epoch_seconds(recipe) for _ in range(ROUNDS))
        row(f"{model}: epoch and validation, with masks, shuffle and Adam", (train + val) / seconds)
        row(f"{model}: validation alone", val / best(partial(program.evaluate, inputs.val), 1))
        floors.append((model, (EPOCHS * (train + val) + test) / peak))
    print()
    for model, seconds in floors:
        print(f"{model}: a trial of {EPOCHS} epochs is at least {seconds:.2f} s of one core at the rate of sgemm")


if __name__ == "__main__":
    main()
