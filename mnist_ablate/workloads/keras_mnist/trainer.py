"""Trains a trial: settings in, outcome out. Saves its network. The only place that fits a model."""

import dataclasses
import json
import math
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from mnist_ablate.environment import override
from mnist_ablate.image_results import encoded
from mnist_ablate.trial import Epoch, Outcome, Trial
from mnist_ablate.workloads.keras_mnist import data
from mnist_ablate.workloads.keras_mnist.active_pixels import ActivePixels, group_by_active_pixels
from mnist_ablate.workloads.keras_mnist.backend import tf
from mnist_ablate.workloads.keras_mnist.choices.frozen_bases import BASES
from mnist_ablate.workloads.keras_mnist.choices.normalizers import Transform
from mnist_ablate.workloads.keras_mnist.choices.tables import SHIPPED
from mnist_ablate.workloads.keras_mnist.compiled_program import EvaluationBatch, Program, program_key, random_stream
from mnist_ablate.workloads.keras_mnist.costs import forget_peak_memory, peak_memory
from mnist_ablate.workloads.keras_mnist.data_gate import input_statistics
from mnist_ablate.workloads.keras_mnist.frozen_features import FeatureCache, InputSource, input_source
from mnist_ablate.workloads.keras_mnist.metrics import EPOCH_METRICS, chance_metrics, cost_metrics, curve_metrics
from mnist_ablate.workloads.keras_mnist.own_choices import ChoiceError, naming_place
from mnist_ablate.workloads.keras_mnist.program_cache import xla_flags
from mnist_ablate.workloads.keras_mnist.recipe import Recipe, recipe_of
from mnist_ablate.workloads.keras_mnist.saved_model import ABOUT, EVALUATION_ROWS, WEIGHTS, input_shape
from mnist_ablate.workloads.keras_mnist.training_images import ImageChoice, image_choice, images_of
from mnist_ablate.workloads.workload import Cost

Array = npt.NDArray[Any]
PROGRAMS_KEPT = 8
INPUTS_KEPT = 2
MIN_IMAGES = 10_000
"""With fewer images, compiling for another number of columns costs an epoch more than leaving columns out saves."""
TIMED_PART = 10  # an epoch is timed on every tenth image


@dataclass(frozen=True, eq=False)
class Inputs:
    """The splits as tensors float32 (n, ...), normalized images or features, and the training split's statistics.

    For a network whose first layer is dense on images, `active_pixels` has those of the training images, and the tensor
    of their difference from the background. `test` has the test images in `test_order`. `probe` is the first piece of
    the validation split, whole images. `altered` makes the training images of an epoch; None if they stay.
    """

    train: tuple[Any, Any]
    active_pixels: tuple[ActivePixels, Any] | None
    val: tuple[EvaluationBatch, ...]
    test: tuple[EvaluationBatch, ...]
    test_order: npt.NDArray[np.int64]
    probe: tuple[Any, Any]
    statistics: dict[str, float]
    altered: Callable[[np.random.Generator], Any] | None = None


class Trainer:
    """Trains trials on one data set, keeping compiled programs and normalized images or features between them."""

    def __init__(self, dataset: data.Dataset) -> None:
        override(xla_flags())  # before the first program is compiled
        self.dataset = dataset
        self.tables = dataset.own.load(SHIPPED) if dataset.own else SHIPPED
        self.cache = FeatureCache(dataset, self.tables)
        self.program = lru_cache(PROGRAMS_KEPT)(self._program)
        self._inputs = lru_cache(INPUTS_KEPT)(self._load)
        self._seen = lru_cache(1)(partial(images_of, dataset, stream=random_stream))
        self._transform = lru_cache(len(self.tables.normalizers))(self._fitted)

    def train(
        self,
        trial: Trial,
        on_epoch: Callable[[Epoch], None] = lambda _epoch: None,
        on_wait: Callable[[str], None] = lambda _text: None,
    ) -> Outcome:
        """Train from the seed to the last epoch, or to the first whose loss is not finite ("diverged").

        `on_wait` is told what takes long before the first epoch. A diverged trial counts with chance: accuracy
        1 / classes, loss ln(classes). A blind trial never sees the test set. The same trial has the same outcome, to
        the bit, whatever else runs. Exceptions of the user's functions name file and line.
        """
        (outcome,) = self.train_together((trial,), on_epoch, on_wait)
        return outcome

    def train_together(
        self, trials: Sequence[Trial], on_epoch: Callable[[Epoch], None], on_wait: Callable[[str], None]
    ) -> Iterator[Outcome]:
        """One training for trials that differ in their epochs alone, the longest last: each outcome when it is reached.

        Each is what `train` of that trial gives, to the bit: an epoch knows its number, and not how many will follow.
        """
        with naming_place(self.dataset.own):
            yield from self._train(trials, on_epoch, on_wait)

    def _train(
        self, trials: Sequence[Trial], on_epoch: Callable[[Epoch], None], on_wait: Callable[[str], None]
    ) -> Iterator[Outcome]:
        started_ms, clock = time.time_ns() // 1_000_000, time.perf_counter()
        recipe = recipe_of(trials[-1])
        source = input_source(recipe)
        if source.base and self.cache.missing(source):
            self.cache.features(source, on_wait)
        forget_peak_memory()
        program = self.program(self.key(recipe))
        inputs = self.inputs(recipe, trials[-1].split_seed, trials[-1].seed_of("order"))
        program.reset(recipe, trials[-1].seed_of("init"), trials[-1].seed_of("dropout"))
        start = {**inputs.statistics, **_probed(program, inputs, "start")}
        if self.dataset.own:
            start |= program.kind
        epochs: list[Epoch] = []
        seconds: list[float] = []
        diverged = False
        for trial, planned in ((each, recipe_of(each).epochs) for each in trials):
            while not diverged and len(epochs) < planned:
                begun = time.process_time()  # TensorFlow computes in threads of its own
                epoch = _epoch(program, inputs, trials[-1], len(epochs) + 1)
                seconds.append(time.process_time() - begun)
                if epoch:
                    epochs.append(epoch)
                    on_epoch(epoch)
                diverged = epoch is None
            with program.state_kept():
                tested, correct = ({}, "") if diverged or trial.is_blind else _tested(program, inputs)
                if diverged:
                    final = chance_metrics(self.dataset.classes, blind=trial.is_blind)
                else:
                    final = {**tested, **epochs[-1].metrics}
                diagnostics = {**start, **_probed(program, inputs, "end")}
            yield Outcome(
                trial_id=trial.id,
                status="diverged" if diverged else "complete",
                metrics={
                    **final,
                    **curve_metrics(epochs, planned, self.dataset.classes),
                    **cost_metrics(seconds, len(inputs.train[0])),
                    **program.size,
                    **peak_memory(),
                },
                diagnostics={name: value for name, value in diagnostics.items() if math.isfinite(value)},
                epochs=tuple(epochs),
                reason=f"loss not finite in epoch {len(epochs) + 1}" if diverged else "",
                started_ms=started_ms,
                seconds=time.perf_counter() - clock,
                worker=socket.gethostname(),
                correct=correct,
            )

    def epoch_seconds(self, recipe: Recipe) -> float:
        """Seconds of one epoch of a recipe, without compilation and frozen base, whose features are zeros here."""
        source = input_source(recipe)
        program = self.program(self.key(recipe))
        if source.base:
            shapes = {name: (len(images), *BASES[source.base].outputs) for name, images in self.dataset.images.items()}
            zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
            inputs = _inputs_of(zeros, self.dataset.labels)
        else:
            inputs = self.inputs(recipe)
        trial = Trial(settings=recipe.model_dump(), seed=0, data_digest=self.dataset.digest)
        program.reset(recipe, trial.seed)
        _epoch(program, inputs, trial, 1)
        clock = time.perf_counter()
        _epoch(program, inputs, trial, 2)
        return time.perf_counter() - clock

    def save(self, trial: Trial, folder: Path) -> None:
        """Write `ABOUT`, and as Keras does (.weights.h5) the weights after the last training of this shape."""
        self.program(self.key(recipe_of(trial))).model.save_weights(folder / WEIGHTS)
        about = {"image_shape": self.dataset.image_shape, "classes": self.dataset.classes, "trial": trial.model_dump()}
        (folder / ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")

    def _program(self, shape: Recipe) -> Program:
        seen = input_shape(input_source(shape), self.dataset.image_shape)
        return Program(shape, seen, self.dataset.classes, tables=self.tables)

    def key(self, recipe: Recipe) -> Recipe:
        """What recipes that share a program have in common."""
        return program_key(recipe, self.tables)

    def _fitted(self, normalizer: str, split_seed: int | None, choice: ImageChoice | None) -> Transform:
        """A normalizer, fitted. What is the user's may not write to the images that all trials share."""
        fit, images = self.tables.normalizers[normalizer], self._seen(split_seed, choice)[0].x_train
        if normalizer in SHIPPED.normalizers:
            return cast("Transform", fit(images))
        transform = fit(_read_only(images))

        def checked(images: Array) -> Array:
            inputs = np.asarray(transform(_read_only(images)))
            if inputs.shape != images.shape or inputs.dtype.kind not in "fiu":
                made = f"{inputs.dtype} {inputs.shape} of images {images.shape}"
                raise ChoiceError(f"normalizer {normalizer}: makes {made}; numbers of the same shape are expected")
            if not np.isfinite(inputs).all():
                raise ChoiceError(f"normalizer {normalizer}: makes values that are not finite (NaN or infinity)")
            return inputs.astype(np.float32)

        return checked

    def inputs(self, recipe: Recipe, split_seed: int | None = None, image_seed: int = 0) -> Inputs:
        """What the recipe's network is fed. It is kept for the next trial that is fed the same."""
        first, choice = self.program(self.key(recipe)).network.first, image_choice(recipe, image_seed)
        augmentation = "" if recipe.augmentation == "none" else recipe.augmentation
        return self._inputs(input_source(recipe), split_seed, choice, augmentation, first_is_dense=first is not None)

    def _load(
        self,
        source: InputSource,
        split_seed: int | None,
        choice: ImageChoice | None,
        augmentation: str,
        *,
        first_is_dense: bool,
    ) -> Inputs:
        dataset, rows = self._seen(split_seed, choice)
        if source.base:  # computed once: its normalizer stays fitted on the data set's own training images
            features = self.cache.features(source)
            if split_seed is not None:
                features = data.split_anew(features, self.dataset.order(random_stream(split_seed, "split")))
            if rows is not None:
                features = {**features, "train": features["train"][rows]}
            return _inputs_of(features, dataset.labels)
        transform = self._transform(source.normalizer, split_seed, choice)
        if augmentation:
            alter = self.tables.augmentations[augmentation]
            found = _inputs_of(dataset.images, dataset.labels, transform)
            return dataclasses.replace(
                found, altered=lambda rng: tf.constant(transform(_altered(augmentation, alter, dataset.x_train, rng)))
            )
        if not first_is_dense or len(dataset.y_train) < MIN_IMAGES:
            return _inputs_of(dataset.images, dataset.labels, transform)
        background = transform(np.zeros_like(dataset.x_train[:1]))
        return _inputs_of(dataset.images, dataset.labels, transform, background)


def _inputs_of(
    splits: Mapping[str, Array],
    labels: Mapping[str, data.Labels],
    transform: Callable[[Array], Array] = np.asarray,
    background: Array | None = None,
) -> Inputs:
    train, val = transform(splits["train"]), transform(splits["val"])
    images, active_pixels = tf.constant(train), None
    if background is not None:
        is_zero = not background.any()
        difference = train if is_zero else train - background
        active_pixels = ActivePixels(difference, background), images if is_zero else tf.constant(difference)
    test, test_order = _batches(transform(splits["test"]), labels["test"], background)
    return Inputs(
        train=(images, tf.constant(labels["train"])),
        active_pixels=active_pixels,
        val=_batches(val, labels["val"], background)[0],
        test=test,
        test_order=test_order,
        probe=(tf.constant(val[:EVALUATION_ROWS]), tf.constant(labels["val"][:EVALUATION_ROWS])),
        statistics=input_statistics(train),
    )


def _altered(name: str, alter: Callable[..., Any], images: Array, rng: np.random.Generator) -> Array:
    """Training images altered, checked to be such images."""
    found = np.asarray(alter(_read_only(images), rng))
    if (found.shape, found.dtype) != (images.shape, images.dtype):
        made = f"{found.dtype} {found.shape} of images {images.dtype} {images.shape}"
        raise ChoiceError(f"augmentation {name}: makes {made}; images of the same shape and type are expected")
    return found


def _read_only(images: Array) -> Array:
    view = images.view()
    view.flags.writeable = False
    return view


def _batches(
    images: Array, labels: Array, background: Array | None
) -> tuple[tuple[EvaluationBatch, ...], npt.NDArray[np.int64]]:
    """A split in parts: whole images or, with a background, the few columns of each part that differ from it.

    And which image of the split stands where in the parts.
    """
    order = np.arange(len(images))
    if background is None:
        parts = (slice(start, start + EVALUATION_ROWS) for start in range(0, len(images), EVALUATION_ROWS))
        return tuple(EvaluationBatch(tf.constant(images[part]), tf.constant(labels[part])) for part in parts), order
    flat = (images - background).reshape(len(images), -1)
    left_out = tf.constant(background.ravel()) if background.any() else None
    groups = [*group_by_active_pixels(flat, EVALUATION_ROWS)]
    batches = (
        EvaluationBatch(tf.constant(flat[np.ix_(rows, index)]), tf.constant(labels[rows]), tf.constant(index), left_out)
        for rows, index in groups
    )
    return tuple(batches), np.concatenate([rows for rows, _ in groups])


def _epoch(program: Program, inputs: Inputs, trial: Trial, number: int) -> Epoch | None:
    """Train and validate one epoch; None if its loss is not finite."""
    n = len(inputs.train[0])
    order = random_stream(trial.seed_of("order"), f"shuffle/{number}").permutation(n).astype(np.int32)
    rate = float(trial.settings["dropout"])
    masks = [
        _mask(
            random_stream(trial.seed_of("dropout"), f"{name}/{number}"),
            n,
            units,
            rate if own_rate is None else own_rate,
        )
        for name, units, own_rate in program.network.dropouts
    ]
    (images, labels), columns = inputs.train, None
    if inputs.altered:
        images = inputs.altered(random_stream(trial.seed_of("order"), f"augmentation/{number}"))
    if inputs.active_pixels and (columns := inputs.active_pixels[0].columns(order, program.batch_size)):
        images = inputs.active_pixels[1]
    program.set_rates(recipe_of(trial), number, n)
    train_loss, train_accuracy = program.epoch(images, labels, order, masks, columns)
    val_loss, val_accuracy = program.evaluate(inputs.val)
    if not (math.isfinite(train_loss) and math.isfinite(val_loss)):
        return None
    values = (train_loss, train_accuracy, val_loss, val_accuracy)
    return Epoch(
        number=number, metrics=dict(zip(EPOCH_METRICS, values, strict=True)), ended_ms=time.time_ns() // 1_000_000
    )


def _mask(rng: np.random.Generator, rows: int, units: int, rate: float) -> Any:
    """Bool (rows, units), true with probability 1 - rate, to one part in 65,536 where a bit or a byte is not exact."""
    if rate == 0.5:  # noqa: PLR2004 - what a bit is
        draws = np.frombuffer(rng.bytes(-(-rows * units // 8)), np.uint8)
        return tf.constant(np.unpackbits(draws, count=rows * units).view(bool).reshape(rows, units))
    bits = 8 if (rate * 256).is_integer() else 16
    draws = np.frombuffer(rng.bytes(rows * units * bits // 8), f"u{bits // 8}")
    return tf.constant((draws >= round(rate * 2**bits)).reshape(rows, units))


def _tested(program: Program, inputs: Inputs) -> tuple[dict[str, float], str]:
    """The metrics of the test set, and which of its images are right, in the order of the data set."""
    loss, hits = program.evaluate_images(inputs.test)
    loss = loss if math.isfinite(loss) else float(np.finfo(np.float32).max)
    correct = np.empty_like(hits)
    correct[inputs.test_order] = hits
    return {"test_loss": loss, "test_accuracy": float(hits.mean())}, encoded(correct)


def _probed(program: Program, inputs: Inputs, when: str) -> dict[str, float]:
    return {f"{name}_{when}": value for name, value in program.probe(*inputs.probe).items()}


def cost(dataset: data.Dataset, recipes: Sequence[Recipe]) -> Cost:
    """Seconds of one core for an epoch of each recipe on all images, and for missing features of frozen bases."""
    trainer = Trainer(dataset.every(TIMED_PART))

    def kind(recipe: Recipe) -> tuple[object, ...]:
        return trainer.key(recipe), image_choice(recipe, 0), recipe.augmentation

    shapes = {kind(recipe): recipe for recipe in recipes}
    epoch_s = {shape: TIMED_PART * trainer.epoch_seconds(recipe) for shape, recipe in shapes.items()}
    preparation_s = FeatureCache(dataset, trainer.tables).missing_seconds(map(input_source, recipes))
    return Cost([epoch_s[kind(recipe)] for recipe in recipes], preparation_s)
