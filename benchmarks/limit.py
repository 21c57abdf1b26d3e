"""How near the trainer comes to what one core of this machine can multiply, in one run: sgemm, products, epochs.

Prints a Markdown table in GFLOP/s: of the products that a network is made of, as `model.fit` multiplies them, and of
what the trainer multiplies of them, which leaves out background pixels.
"""

# mypy: disable-error-code="no-untyped-call"

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", TF_CPP_MIN_LOG_LEVEL="3")

import numpy as np

from mnist_ablate.workloads.keras_mnist import data
from mnist_ablate.workloads.keras_mnist.backend import tf
from mnist_ablate.workloads.keras_mnist.compiled_program import EvaluationBatch
from mnist_ablate.workloads.keras_mnist.data import Dataset
from mnist_ablate.workloads.keras_mnist.network_inputs import Inputs
from mnist_ablate.workloads.keras_mnist.recipe import Recipe, program_key
from mnist_ablate.workloads.keras_mnist.trainer import Trainer
from mnist_ablate.workloads.workload import default_workload, trial_of

ROUNDS, BATCH = 5, 128


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


def flops(layers: list[int], first: float, *, training: bool) -> float:
    """Of one image's products: forward, and in training the gradients of kernels and of all inputs but the images.

    `first` is the share of the first layer's inputs that is multiplied.
    """
    work = [first * layers[0], *layers[1:]]
    return sum(work) + (sum(work) + sum(work[1:]) if training else 0)


def trained_share(inputs: Inputs) -> float:
    """The share of an image's pixels that the first layer multiplies in an epoch."""
    if inputs.active_pixels is None:
        return 1.0
    order = np.random.default_rng(0).permutation(len(inputs.train[0])).astype(np.int32)
    columns = inputs.active_pixels[0].columns(order, BATCH)
    return float(columns.index.shape[1] / columns.position.shape[1]) if columns else 1.0


def evaluated_share(slices: Sequence[EvaluationBatch], pixels: int) -> float:
    """The same of an evaluation."""
    shares = [1.0 if each.index is None else len(each.index) / pixels for each in slices]
    return float(np.average(shares, weights=[len(each.labels) for each in slices]))


def rates(model: str, digits: Dataset) -> Iterator[tuple[str, float, float]]:
    """What was timed, and FLOP/s of the network's products and of those that were multiplied."""
    trainer = Trainer(digits)
    recipe = Recipe(model=model, learning_rate=0.001, batch_size=BATCH, epochs=1)
    trainer.train(trial_of(default_workload(), recipe.model_dump(), 0, digits.digest))
    program, inputs = trainer.program(program_key(recipe)), trainer.inputs(recipe)
    shares = trained_share(inputs), evaluated_share(inputs.val, digits.x_val[0].size)
    layers = LAYERS[model]
    train, left_of_train = (len(digits.x_train) * flops(layers, share, training=True) for share in (1, shares[0]))
    val, left_of_val = (len(digits.x_val) * flops(layers, share, training=False) for share in (1, shares[1]))
    seconds = min(trainer.epoch_seconds(recipe) for _ in range(ROUNDS))
    left = left_of_train + left_of_val
    yield "epoch and validation, with masks, shuffle and Adam", (train + val) / seconds, left / seconds
    seconds = best(partial(program.evaluate, inputs.val), 1)
    yield "validation alone", val / seconds, left_of_val / seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(LAYERS), choices=LAYERS)
    models = parser.parse_args().models
    digits = data.load()
    peak = sgemm()
    print(f"sgemm of one core: {peak / 1e9:.0f} GFLOP/s\n")
    print("| what | GFLOP/s | of sgemm | multiplied, GFLOP/s | of sgemm |\n|---|---|---|---|---|")

    def row(what: str, rate: float, multiplied: float) -> None:
        columns = " | ".join(f"{each / 1e9:.0f} | {each / peak:.0%}" for each in (rate, multiplied))
        print(f"| {what} | {columns} |", flush=True)

    forward, gradient = products(BATCH, 784, 500)
    row(f"({BATCH}, 784) x (784, 500), alone", forward, forward)
    row(f"its kernel's gradient, (500, {BATCH}) x ({BATCH}, 784), alone", gradient, gradient)
    for model in models:
        for what, rate, multiplied in rates(model, digits):
            row(f"{model}: {what}", rate, multiplied)


if __name__ == "__main__":
    main()
