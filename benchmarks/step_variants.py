"""What might make a training step of the dense network faster, each beside the trainer's own in one run, in turn.

Prints two Markdown tables: epochs of variants, and the first layer's products by XLA, oneDNN and in bfloat16. To see
what huge pages do, run it again with NUMPY_MADVISE_HUGEPAGE=0 in the environment.
"""

import argparse
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", TF_CPP_MIN_LOG_LEVEL="3")

import numpy as np

from mnist_ablate.workloads.keras_mnist.backend import tf
from mnist_ablate.workloads.keras_mnist.compiled_program import Program
from mnist_ablate.workloads.keras_mnist.recipe import Recipe, program_key
from mnist_ablate.workloads.keras_mnist.trainer import Trainer
from mnist_ablate.workloads.workload import default_workload

REPEATS = 200
UNIT = np.float32(1 / 256)
OWN = "the trainer's own"
SAME = "the same 128 images again and again (what no gather could save)"


class StoredAs(Program):
    """Images are stored as whole numbers of a type, and normalized in the step."""

    def _step(self, x: Any, y: Any, masks: list[Any], columns: Any) -> tuple[Any, Any]:
        return super()._step(tf.cast(x, tf.float32) * UNIT, y, masks, columns)


def in_turn(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median seconds of each way. A first call of each, which may compile, does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            clock = time.perf_counter()
            run()
            if number:
                seconds[name].append(time.perf_counter() - clock)
    return {name: float(np.median(each)) for name, each in seconds.items()}


def epochs(rounds: int) -> dict[str, float]:
    """Seconds of an epoch of each variant, with the same order and masks."""
    digits: Any = default_workload().load(None)
    trainer, recipe = Trainer(digits), Recipe(learning_rate=0.001)
    inputs = trainer.inputs(recipe)
    assert inputs.active_pixels is not None
    count = len(digits.x_train)
    order = np.random.default_rng(0).permutation(count).astype(np.int32)
    columns = inputs.active_pixels[0].columns(order, recipe.batch_size)
    labels = inputs.train[1]
    images = {
        OWN: inputs.active_pixels[1],
        "images stored as uint8": tf.constant(digits.x_train),
        "images stored as bfloat16": tf.cast(tf.constant(digits.x_train), tf.bfloat16),
    }
    same = np.resize(order[: recipe.batch_size], count)
    same_columns = inputs.active_pixels[0].columns(same, recipe.batch_size)
    ways: dict[str, Callable[[], object]] = {}
    for name, stored in images.items():
        kind = Program if name == OWN else StoredAs
        program = kind(program_key(recipe), digits.image_shape, digits.classes)
        program.reset(recipe, 0)
        draws = np.random.default_rng(1)
        masks = [tf.constant(draws.random((count, units)) < recipe.dropout) for units in program.network.mask_units]
        ways[name] = partial(program.epoch, stored, labels, order, masks, columns)
        if name == OWN:
            ways[SAME] = partial(program.epoch, stored, labels, same, masks, same_columns)
    return in_turn(ways, rounds)


def repeated(call: Callable[[], Any]) -> None:
    """Many products, until the last is there."""
    for _ in range(REPEATS):
        result = call()
    result.numpy()


def products(rounds: int) -> dict[str, tuple[float, float]]:
    """Microseconds of the first layer's product and of its kernel's gradient, by way."""
    rng = np.random.default_rng(0)
    x, kernel, errors = (rng.random(shape, np.float32) for shape in ((128, 576), (576, 500), (128, 500)))
    found: dict[str, tuple[float, float]] = {}
    for name, kind, compiled in (
        ("XLA, float32", tf.float32, True),
        ("oneDNN, float32", tf.float32, False),
        ("oneDNN, bfloat16 (not the same numbers)", tf.bfloat16, False),
    ):
        a, b, c = (tf.cast(tf.constant(each), kind) for each in (x, kernel, errors))

        def forward(a: Any = a, b: Any = b) -> Any:
            return tf.matmul(a, b)

        def gradient(a: Any = a, c: Any = c) -> Any:
            return tf.matmul(a, c, transpose_a=True)

        calls = [tf.function(each, jit_compile=compiled) for each in (forward, gradient)]
        forward_s, gradient_s = in_turn(
            {str(i): partial(repeated, call) for i, call in enumerate(calls)}, rounds
        ).values()
        found[name] = forward_s / REPEATS * 1e6, gradient_s / REPEATS * 1e6
    return found


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    rounds = parser.parse_args().rounds
    seconds = epochs(rounds)
    print("| an epoch of 784-500-10, one core | seconds | of the trainer's own |\n|---|---:|---:|")
    for name, value in seconds.items():
        print(f"| {name} | {value:.3f} | {value / seconds[OWN]:.2f} |")
    print()
    print("| (128, 576) x (576, 500) | product, us | kernel's gradient, us |\n|---|---:|---:|")
    for name, (forward, gradient) in products(rounds).items():
        print(f"| {name} | {forward:.0f} | {gradient:.0f} |")


if __name__ == "__main__":
    main()
