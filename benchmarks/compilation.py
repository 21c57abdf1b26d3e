"""Which kinds of layer train faster compiled by XLA: `python benchmarks/compilation.py` prints the table as Markdown.

`compiled_program.is_faster_compiled` rests on it. Seconds are of the processor, of an epoch of 4,096 images in batches
of 128, the least of three; a program that takes longer than a minute is given up.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from mnist_ablate.workloads.keras_mnist.backend import keras, tf
from mnist_ablate.workloads.keras_mnist.choices.tables import SHIPPED
from mnist_ablate.workloads.keras_mnist.compiled_program import Program, random_stream
from mnist_ablate.workloads.keras_mnist.recipe import Recipe

IMAGES, BATCH, SHAPE = 4096, 128, (28, 28, 1)
GIVEN_UP_S = 60.0
layers = keras.layers


def _dense(*between: Any) -> list[Any]:
    return [layers.Flatten(), layers.Dense(256), *between, layers.Dense(10)]


def _conv(*between: Any) -> list[Any]:
    return [layers.Conv2D(16, 3), *between, layers.Flatten(), layers.Dense(10)]


KINDS: dict[str, Callable[[], list[Any]]] = {
    "Dense, relu": lambda: _dense(layers.ReLU()),
    "Dense, tanh": lambda: _dense(layers.Activation("tanh")),
    "Dense, gelu": lambda: _dense(layers.Activation("gelu")),
    "Dense, softmax": lambda: [*_dense(layers.ReLU()), layers.Softmax()],
    "Dense, Dropout": lambda: _dense(layers.ReLU(), layers.Dropout(0.5)),
    "Dense, BatchNormalization": lambda: _dense(layers.BatchNormalization(), layers.ReLU()),
    "Dense, LayerNormalization": lambda: _dense(layers.LayerNormalization(), layers.ReLU()),
    "Dense, GaussianNoise": lambda: _dense(layers.ReLU(), layers.GaussianNoise(0.1)),
    "Dense 3x": lambda: _dense(*[layers.Dense(256, activation="relu") for _ in range(2)]),
    "MultiHeadAttention": lambda: [
        layers.Reshape((28, 28)),
        _Attention(),
        layers.Flatten(),
        layers.Dense(10),
    ],
    "LSTM": lambda: [layers.Reshape((28, 28)), layers.LSTM(32), layers.Dense(10)],
    "Conv2D": lambda: _conv(layers.ReLU()),
    "Conv2D, MaxPooling2D": lambda: _conv(layers.ReLU(), layers.MaxPooling2D()),
    "DepthwiseConv2D": lambda: [layers.DepthwiseConv2D(3), layers.Flatten(), layers.Dense(10)],
    "AveragePooling2D": lambda: [layers.AveragePooling2D(2), layers.Flatten(), layers.Dense(10)],
    "GlobalAveragePooling2D": lambda: [layers.Dense(16), layers.GlobalAveragePooling2D(), layers.Dense(10)],
    "Conv2D, BatchNormalization": lambda: _conv(layers.BatchNormalization(), layers.ReLU()),
    "Conv2D, SpatialDropout2D": lambda: _conv(layers.SpatialDropout2D(0.2)),
    "RandomFlip": lambda: [layers.RandomFlip("horizontal"), *_dense(layers.ReLU())],
    "RandomTranslation": lambda: [layers.RandomTranslation(0.1, 0.1), *_dense(layers.ReLU())],
    "RandomRotation": lambda: [layers.RandomRotation(0.1), *_dense(layers.ReLU())],
}


class _Attention(layers.Layer):  # type: ignore[misc, name-defined]  # keras ships no types
    def build(self, input_shape: Any) -> None:
        self.attention = layers.MultiHeadAttention(2, 16)
        self.attention.build(input_shape, input_shape)

    def call(self, x: Any) -> Any:
        return self.attention(x, x)


def program(kind: str, *, compiled: bool | None) -> Program:
    """The program of a network of a kind; by the rule if `compiled` is None."""
    build = {kind: lambda *_: keras.Sequential([keras.Input(SHAPE), *KINDS[kind]()])}
    recipe = Recipe(model=kind, batch_size=BATCH, learning_rate=0.001)
    made = Program(recipe, SHAPE, 10, compiled=compiled, tables=SHIPPED.with_own({"keras_builders": build}))
    made.reset(recipe, 0)
    return made


def seconds(kind: str, *, compiled: bool, epochs: int = 3) -> float:
    """Of an epoch, the least of some after the first; infinite if it cannot be compiled."""
    random, made = np.random.default_rng(0), program(kind, compiled=compiled)
    x = tf.constant(random.random((IMAGES, *SHAPE), np.float32))
    y = tf.constant(random.integers(0, 10, IMAGES, np.int32))
    found = math.inf
    for number in range(epochs + 1):
        order = random_stream(0, f"shuffle/{number}").permutation(IMAGES).astype(np.int32)
        masks = [tf.constant(random.random((IMAGES, units)) < 0.5) for units in made.network.mask_units]  # noqa: PLR2004
        clock = time.process_time()
        try:
            made.epoch(x, y, order, masks)
        except tf.errors.OpError:  # XLA has no such operation
            return math.inf
        taken = time.process_time() - clock
        if taken > GIVEN_UP_S:
            return taken
        found = min(found, taken) if number else math.inf
    return found


def main() -> None:
    """Print a line for each kind."""
    print("| layers | graph, s | XLA, s | the rule compiles |\n|---|---|---|---|")
    for kind in KINDS:
        graph, xla = (seconds(kind, compiled=compiled) for compiled in (False, True))
        rule = "yes" if program(kind, compiled=None).compiled else "no"
        print(f"| {kind} | {graph:.2f} | {f'{xla:.2f}' if math.isfinite(xla) else 'cannot'} | {rule} |", flush=True)


if __name__ == "__main__":
    main()
