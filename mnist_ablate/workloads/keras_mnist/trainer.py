"""Trains a trial: settings in, outcome out. The only place that fits a model; knows no cluster and no ledger."""

import json
import math
import socket
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_ablate.trial import Epoch, Outcome, Trial
from mnist_ablate.workloads.keras_mnist.active_pixels import ActivePixels, group_by_active_pixels
from mnist_ablate.workloads.keras_mnist.backend import tf
from mnist_ablate.workloads.keras_mnist.choices.frozen_bases import BASES
from mnist_ablate.workloads.keras_mnist.choices.models import MODELS
from mnist_ablate.workloads.keras_mnist.choices.normalizers import NORMALIZERS
from mnist_ablate.workloads.keras_mnist.classifier import ABOUT, WEIGHTS
from mnist_ablate.workloads.keras_mnist.compiled_program import EvaluationBatch, Program, program_key, random_stream
from mnist_ablate.workloads.keras_mnist.data import Dataset, Labels
from mnist_ablate.workloads.keras_mnist.data_gate import input_statistics
from mnist_ablate.workloads.keras_mnist.frozen_features import FeatureCache, Features, InputSource, input_source
from mnist_ablate.workloads.keras_mnist.metrics import EPOCH_METRICS, chance_metrics, curve_metrics
from mnist_ablate.workloads.keras_mnist.recipe import Recipe, recipe_of

PROGRAMS_KEPT = 8
INPUTS_KEPT = 2
EVALUATION_ROWS = 2000
"""Rows per evaluation call: bounds memory for convolutions, and keeps a dense layer's rows in cache."""
MIN_IMAGES = 10_000
"""With fewer images, compiling for another number of columns costs an epoch more than leaving columns out saves."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """The splits as tensors float32 (n, ...), normalized images or features, and the training split's statistics.

    For a network whose first layer is dense on images, `active_pixels` has those of the training images, and the tensor
    of their difference from the background. `probe` is the first piece of the validation split, whole images.
    """

    train: tuple[Any, Any]
    active_pixels: tuple[ActivePixels, Any] | None
    val: tuple[EvaluationBatch, ...]
    test: tuple[EvaluationBatch, ...]
    probe: tuple[Any, Any]
    statistics: dict[str, float]


class Trainer:
    """Trains trials on one data set, keeping compiled programs and normalized images or features between them."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.cache = FeatureCache(dataset)
        self.program = lru_cache(PROGRAMS_KEPT)(self._program)
        self._inputs = lru_cache(INPUTS_KEPT)(self._load)
        self._transform = lru_cache(len(NORMALIZERS))(lambda name: NORMALIZERS[name](dataset.x_train))

    def train(
        self,
        trial: Trial,
        on_epoch: Callable[[Epoch], None] = lambda _epoch: None,
        on_wait: Callable[[str], None] = lambda _text: None,
    ) -> Outcome:
        """Train from the seed to the last epoch, or to the first whose loss is not finite ("diverged").

        `on_wait` is told what takes long before the first epoch. A diverged trial counts with chance: accuracy
        1 / classes, loss ln(classes). A blind trial never sees the test set. The same trial has the same outcome, to
        the bit, whatever else runs.
        """
        started_ms, clock = _now_ms(), time.perf_counter()
        recipe = recipe_of(trial)
        source = input_source(recipe)
        if source.base:
            self.cache.prepare(source, on_wait)
        program, inputs = self.program(program_key(recipe)), self.inputs(recipe)
        program.reset(recipe, trial.seed)
        diagnostics = {**inputs.statistics, **_with_suffix(program.probe(*inputs.probe), "start")}
        epochs: list[Epoch] = []
        for number in range(1, recipe.epochs + 1):
            epoch = _epoch(program, inputs, trial, number)
            if epoch is None:
                break
            epochs.append(epoch)
            on_epoch(epoch)
        diverged = len(epochs) < recipe.epochs
        parts = ("train", "val") if trial.is_blind else ("test", "train", "val")
        final = chance_metrics(self.dataset.classes, parts) if diverged else _final(program, inputs, epochs[-1], parts)
        return Outcome(
            trial_id=trial.id,
            status="diverged" if diverged else "complete",
            metrics={**final, **curve_metrics(epochs, recipe.epochs, self.dataset.classes)},
            diagnostics=_finite({**diagnostics, **_with_suffix(program.probe(*inputs.probe), "end")}),
            epochs=tuple(epochs),
            reason=f"loss not finite in epoch {len(epochs) + 1}" if diverged else "",
            started_ms=started_ms,
            seconds=time.perf_counter() - clock,
            worker=socket.gethostname(),
        )

    def epoch_seconds(self, recipe: Recipe) -> float:
        """Seconds of one epoch of a recipe, without compilation and frozen base, whose features are zeros here."""
        source = input_source(recipe)
        program = self.program(program_key(recipe))
        inputs = self._zeros(source.base) if source.base else self.inputs(recipe)
        trial = Trial(settings=recipe.model_dump(), seed=0, data_digest=self.dataset.digest)
        program.reset(recipe, trial.seed)
        _epoch(program, inputs, trial, 1)
        clock = time.perf_counter()
        _epoch(program, inputs, trial, 2)
        return time.perf_counter() - clock

    def save(self, trial: Trial, folder: Path) -> None:
        """Write `ABOUT`, and as Keras does (.weights.h5) the weights after the last training of this shape."""
        self.program(program_key(recipe_of(trial))).model.save_weights(folder / WEIGHTS)
        about = {"image_shape": self.dataset.image_shape, "classes": self.dataset.classes, "trial": trial.model_dump()}
        (folder / ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")

    def _program(self, shape: Recipe) -> Program:
        base = input_source(shape).base
        seen = BASES[base].outputs if base else self.dataset.image_shape
        return Program(shape, seen, self.dataset.classes, compiled=MODELS[shape.model].compiled)

    def inputs(self, recipe: Recipe) -> Inputs:
        """What the recipe's network is fed. It is kept for the next trial that is fed the same."""
        first = self.program(program_key(recipe)).network.first
        return self._inputs(input_source(recipe), first_is_dense=first is not None)

    def _load(self, source: InputSource, *, first_is_dense: bool) -> Inputs:
        if source.base:
            return self._inputs_from(self.cache.features(source), _as_is)
        images, transform = self.dataset.images, self._transform(source.normalizer)
        if not first_is_dense or len(images["train"]) < MIN_IMAGES:
            return self._inputs_from(images, transform)
        return self._inputs_from(images, transform, transform(np.zeros_like(images["train"][:1])))

    def _zeros(self, base: str) -> Inputs:
        shapes = {name: (len(images), *BASES[base].outputs) for name, images in self.dataset.images.items()}
        return self._inputs_from({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, _as_is)

    def _inputs_from(
        self,
        splits: Mapping[str, npt.NDArray[Any]],
        transform: Callable[[Any], Features],
        background: Features | None = None,
    ) -> Inputs:
        dataset, train = self.dataset, transform(splits["train"])
        images = tf.constant(train)
        return Inputs(
            train=(images, tf.constant(dataset.y_train)),
            active_pixels=None if background is None else _active_pixels(train, images, background[0]),
            val=_slices(transform, splits["val"], dataset.y_val, background),
            test=_slices(transform, splits["test"], dataset.y_test, background),
            probe=_whole(transform, splits["val"], dataset.y_val, slice(EVALUATION_ROWS)),
            statistics=input_statistics(train),
        )


def _as_is(features: Features) -> Features:
    return features


def _active_pixels(train: Features, images: Any, background: Features) -> tuple[ActivePixels, Any]:
    if not background.any():
        return ActivePixels(train, background), images
    difference = train - background
    return ActivePixels(difference, background), tf.constant(difference)


def _slices(
    transform: Callable[[Any], Features],
    images: npt.NDArray[Any],
    labels: Labels,
    background: Features | None,
) -> tuple[EvaluationBatch, ...]:
    """A split in pieces: whole images or, with a background, the few columns of each piece that differ from it."""
    if background is None:
        starts = range(0, len(images), EVALUATION_ROWS)
        pieces = [slice(start, start + EVALUATION_ROWS) for start in starts]
        return tuple(EvaluationBatch(*_whole(transform, images, labels, piece)) for piece in pieces)
    flat = (transform(images) - background).reshape(len(images), -1)
    left_out = tf.constant(background.ravel()) if background.any() else None
    return tuple(
        EvaluationBatch(tf.constant(flat[np.ix_(rows, index)]), tf.constant(labels[rows]), tf.constant(index), left_out)
        for rows, index in group_by_active_pixels(flat, EVALUATION_ROWS)
    )


def _whole(
    transform: Callable[[Any], Features], images: npt.NDArray[Any], labels: Labels, piece: slice
) -> tuple[Any, Any]:
    return tf.constant(transform(images[piece])), tf.constant(labels[piece])


def _epoch(program: Program, inputs: Inputs, trial: Trial, number: int) -> Epoch | None:
    """Train and validate one epoch; None if its loss is not finite."""
    n = len(inputs.train[0])
    order = random_stream(trial.seed, f"shuffle/{number}").permutation(n).astype(np.int32)
    masks = [
        _mask(random_stream(trial.seed, f"dropout_{i}/{number}"), n, units, float(trial.settings["dropout"]))
        for i, units in enumerate(program.network.mask_units, 1)
    ]
    (images, labels), columns = inputs.train, None
    if inputs.active_pixels and (columns := inputs.active_pixels[0].columns(order, program.batch_size)):
        images = inputs.active_pixels[1]
    train_loss, train_accuracy = program.epoch(images, labels, order, masks, columns)
    val_loss, val_accuracy = program.evaluate(inputs.val)
    if not (math.isfinite(train_loss) and math.isfinite(val_loss)):
        return None
    values = (train_loss, train_accuracy, val_loss, val_accuracy)
    return Epoch(number=number, metrics=dict(zip(EPOCH_METRICS, values, strict=True)), ended_ms=_now_ms())


def _mask(rng: np.random.Generator, rows: int, units: int, rate: float) -> Any:
    """Bool (rows, units), true with probability 1 - rate, to one part in 65,536 where a bit or a byte is not exact."""
    if rate == 0.5:  # noqa: PLR2004 - what a bit is
        draws = np.frombuffer(rng.bytes(-(-rows * units // 8)), np.uint8)
        return tf.constant(np.unpackbits(draws, count=rows * units).view(bool).reshape(rows, units))
    bits = 8 if (rate * 256).is_integer() else 16
    draws = np.frombuffer(rng.bytes(rows * units * bits // 8), f"u{bits // 8}")
    return tf.constant((draws >= round(rate * 2**bits)).reshape(rows, units))


def _final(program: Program, inputs: Inputs, last: Epoch, parts: Collection[str]) -> dict[str, float]:
    if "test" not in parts:
        return dict(last.metrics)
    test_loss, test_accuracy = program.evaluate(inputs.test)
    if not math.isfinite(test_loss):
        test_loss = float(np.finfo(np.float32).max)
    return {"test_loss": test_loss, "test_accuracy": test_accuracy, **last.metrics}


def _with_suffix(values: dict[str, float], when: str) -> dict[str, float]:
    return {f"{name}_{when}": value for name, value in values.items()}


def _finite(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
