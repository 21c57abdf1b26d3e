"""Trains a trial: settings in, outcome out. Saves its network. The only place that fits a model."""

import dataclasses
import json
import math
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from mnist_ablate.environment import override
from mnist_ablate.image_results import encoded
from mnist_ablate.trial import Epoch, Outcome, Trial
from mnist_ablate.workloads.keras_mnist import data
from mnist_ablate.workloads.keras_mnist.backend import tf
from mnist_ablate.workloads.keras_mnist.choices.frozen_bases import BASES
from mnist_ablate.workloads.keras_mnist.choices.normalizers import Transform
from mnist_ablate.workloads.keras_mnist.choices.tables import SHIPPED
from mnist_ablate.workloads.keras_mnist.compiled_program import Program, random_stream
from mnist_ablate.workloads.keras_mnist.costs import forget_peak_memory, peak_memory
from mnist_ablate.workloads.keras_mnist.dropout_masks import mask, packed_mask
from mnist_ablate.workloads.keras_mnist.frozen_features import FeatureCache, InputSource, input_source
from mnist_ablate.workloads.keras_mnist.lanes import LaneEpoch, LaneProgram, lanes_of, stacked
from mnist_ablate.workloads.keras_mnist.metrics import EPOCH_METRICS, chance_metrics, cost_metrics, curve_metrics
from mnist_ablate.workloads.keras_mnist.network_inputs import (
    Array,
    Inputs,
    altered_images,
    inputs_of,
    joined,
    read_only,
)
from mnist_ablate.workloads.keras_mnist.own_choices import ChoiceError, naming_place
from mnist_ablate.workloads.keras_mnist.program_cache import xla_flags
from mnist_ablate.workloads.keras_mnist.recipe import Recipe, program_key, recipe_of
from mnist_ablate.workloads.keras_mnist.saved_model import ABOUT, WEIGHTS, input_shape
from mnist_ablate.workloads.keras_mnist.training_images import ImageChoice, image_choice, images_of
from mnist_ablate.workloads.workload import Cost

PROGRAMS_KEPT = 8
INPUTS_KEPT = 2
MIN_IMAGES = 10_000
"""With fewer images, compiling for another number of columns costs an epoch more than leaving columns out saves."""
TIMED_PART = 10  # an epoch is timed on every tenth image


@dataclass(eq=False)
class _Training:
    """A training that runs: the trials that are `left`, the longest last, and what was reached so far."""

    classes: int
    left: list[Trial]
    program: Any
    inputs: Inputs
    diagnostics: dict[str, float]
    started_ms: int
    clock: float
    epochs: list[Epoch] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    diverged: bool = False

    def __post_init__(self) -> None:
        self.trial = self.left[-1]
        self.images = len(self.inputs.train[0])

    def take(self, epoch: Epoch | None) -> None:
        """Note an epoch, None for one whose loss is not finite."""
        self.diverged = epoch is None
        self.epochs += [epoch] if epoch else []

    def outcomes(self) -> Iterator[Outcome]:
        """Those that are reached now, while the program has the state of this training."""
        while self.left and (self.diverged or len(self.epochs) == recipe_of(self.left[0]).epochs):
            yield self._outcome(self.left.pop(0))

    def _outcome(self, trial: Trial) -> Outcome:
        with self.program.state_kept():
            tested, correct = ({}, "") if self.diverged or trial.is_blind else _tested(self.program, self.inputs)
            if self.diverged:
                final = chance_metrics(self.classes, blind=trial.is_blind)
            else:
                final = {**tested, **self.epochs[-1].metrics}
            diagnostics = {**self.diagnostics, **_probed(self.program, self.inputs, "end")}
        curve = curve_metrics(self.epochs, recipe_of(trial).epochs, self.classes)
        return Outcome(
            trial_id=trial.id,
            status="diverged" if self.diverged else "complete",
            metrics={**final, **curve, "images_per_epoch": float(self.images), **self.program.size},
            diagnostics={name: value for name, value in diagnostics.items() if math.isfinite(value)},
            epochs=tuple(self.epochs),
            reason=f"loss not finite in epoch {len(self.epochs) + 1}" if self.diverged else "",
            started_ms=self.started_ms,
            seconds=time.perf_counter() - self.clock,
            worker=socket.gethostname(),
            correct=correct,
        )


class Trainer:
    """Trains trials on one data set, keeping compiled programs and normalized images or features between them."""

    def __init__(self, dataset: data.Dataset) -> None:
        override(xla_flags())  # before the first program is compiled
        self.dataset = dataset
        self.tables = dataset.own.load(SHIPPED) if dataset.own else SHIPPED
        self.cache = FeatureCache(dataset, self.tables)
        self.program = lru_cache(PROGRAMS_KEPT)(partial(self._program, Program))
        self.lane_program = lru_cache(PROGRAMS_KEPT)(partial(self._program, LaneProgram))
        self._joined = lru_cache(1)(joined)
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
        training = self._begun(trials, self.program, on_wait)
        while training.left:
            begun = time.process_time()  # TensorFlow computes in threads of its own
            epoch = _epoch(training.program, training.inputs, training.trial, len(training.epochs) + 1)
            training.seconds.append(time.process_time() - begun)
            training.take(epoch)
            if epoch:
                on_epoch(epoch)
            for outcome in training.outcomes():
                costs = {**cost_metrics(training.seconds, training.images), **peak_memory()}
                yield outcome.model_copy(update={"metrics": {**outcome.metrics, **costs}})

    def train_lanes(
        self,
        trainings: Sequence[Sequence[Trial]],
        on_epoch: Callable[[Trial, Epoch], None],
        on_wait: Callable[[str], None],
    ) -> Iterator[Outcome]:
        """Trainings of one `lane_group` at once, one a lane: each outcome when it is reached.

        Each is what its trial gives alone, to rounding. What an epoch costs is not told: lanes share it. An ended or
        diverged lane is still computed, and ignored, until the last one ends.
        """
        with naming_place(self.dataset.own):
            yield from self._train_lanes(trainings, on_epoch, on_wait)

    def _train_lanes(
        self,
        trainings: Sequence[Sequence[Trial]],
        on_epoch: Callable[[Trial, Epoch], None],
        on_wait: Callable[[str], None],
    ) -> Iterator[Outcome]:
        lanes, values = list[_Training](), list[list[Array]]()
        for trials in trainings:
            lanes.append(self._begun(trials, self.lane_program, on_wait))
            values.append(lanes[-1].program.begun())
            lanes[-1].diagnostics["lanes"] = float(len(trainings))
        program: LaneProgram = lanes[0].program
        filled = [*range(len(lanes)), *[0] * (lanes_of(len(lanes)) - len(lanes))]
        state, number, n = stacked([values[lane] for lane in filled]), 0, lanes[0].images
        images, labels, places = self._joined(tuple(lane.inputs for lane in lanes))
        while any(lane.left for lane in lanes):
            number += 1
            order = np.stack([_order(lane.trial, number, n) + place for lane, place in zip(lanes, places, strict=True)])
            drawn = zip(*(_dropouts(program, lane.trial, number, n) for lane in lanes), strict=True)
            masks = [np.stack([packed_mask(program.batch_size, *each) for each in layer])[filled] for layer in drawn]
            found = [program.rates(recipe_of(lane.trial), number, n) for lane in lanes]
            rates = None if found[0] is None else tf.constant(np.stack(cast("list[Array]", found))[filled])
            given = LaneEpoch(images, labels, tf.constant(order[filled]), [*map(tf.constant, masks)], rates)
            state, losses, accuracies = program.epoch_of_lanes(state, given)
            for lane, training in enumerate(lanes):
                if not training.left:
                    continue
                program.put(state, lane)
                trained = float(losses[lane]), float(accuracies[lane])
                epoch = _validated(program, training.inputs, number, trained)
                training.take(epoch)
                if epoch:
                    on_epoch(training.trial, epoch)
                yield from training.outcomes()

    def _begun(
        self, trials: Sequence[Trial], program_of: Callable[[Recipe], Any], on_wait: Callable[[str], None]
    ) -> "_Training":
        """The training of these trials, at its start."""
        started_ms, clock = time.time_ns() // 1_000_000, time.perf_counter()
        trial, recipe = trials[-1], recipe_of(trials[-1])
        source = input_source(recipe)
        if source.base and self.cache.missing(source):
            self.cache.features(source, on_wait)
        forget_peak_memory()
        program = program_of(self.key(recipe))
        inputs = self.inputs(recipe, trial.split_seed, trial.seed_of("order"))
        program.reset(recipe, trial.seed_of("init"), trial.seed_of("dropout"))
        start = {**inputs.statistics, **_probed(program, inputs, "start"), **(program.kind if self.dataset.own else {})}
        return _Training(self.dataset.classes, [*trials], program, inputs, start, started_ms, clock)

    def epoch_seconds(self, recipe: Recipe) -> float:
        """Seconds of one epoch of a recipe, without compilation and frozen base, whose features are zeros here."""
        source = input_source(recipe)
        program = self.program(self.key(recipe))
        if source.base:
            shapes = {name: (len(images), *BASES[source.base].outputs) for name, images in self.dataset.images.items()}
            zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
            inputs = inputs_of(zeros, self.dataset.labels)
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

    def _program(self, kind: type[Program], shape: Recipe) -> Any:
        seen = input_shape(input_source(shape), self.dataset.image_shape)
        return kind(shape, seen, self.dataset.classes, tables=self.tables)

    def key(self, recipe: Recipe) -> Recipe:
        """What recipes that share a program have in common."""
        return program_key(recipe, self.tables.keras_builders)

    def _fitted(self, normalizer: str, split_seed: int | None, choice: ImageChoice | None) -> Transform:
        """A normalizer, fitted. What is the user's may not write to the images that all trials share."""
        fit, images = self.tables.normalizers[normalizer], self._seen(split_seed, choice)[0].x_train
        if normalizer in SHIPPED.normalizers:
            return cast("Transform", fit(images))
        transform = fit(read_only(images))

        def checked(images: Array) -> Array:
            inputs = np.asarray(transform(read_only(images)))
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
            return inputs_of(features, dataset.labels)
        transform = self._transform(source.normalizer, split_seed, choice)
        if augmentation:
            alter = self.tables.augmentations[augmentation]
            found = inputs_of(dataset.images, dataset.labels, transform)
            return dataclasses.replace(
                found,
                altered=lambda rng: tf.constant(transform(altered_images(augmentation, alter, dataset.x_train, rng))),
            )
        if not first_is_dense or len(dataset.y_train) < MIN_IMAGES:
            return inputs_of(dataset.images, dataset.labels, transform)
        background = transform(np.zeros_like(dataset.x_train[:1]))
        return inputs_of(dataset.images, dataset.labels, transform, background)


def _epoch(program: Program, inputs: Inputs, trial: Trial, number: int) -> Epoch | None:
    """Train and validate one epoch; None if its loss is not finite."""
    n = len(inputs.train[0])
    order = _order(trial, number, n)
    masks = [tf.constant(mask(*each)) for each in _dropouts(program, trial, number, n)]
    (images, labels), columns = inputs.train, None
    if inputs.altered:
        images = inputs.altered(random_stream(trial.seed_of("order"), f"augmentation/{number}"))
    if inputs.active_pixels and (columns := inputs.active_pixels[0].columns(order, program.batch_size)):
        images = inputs.active_pixels[1]
    program.set_rates(recipe_of(trial), number, n)
    return _validated(program, inputs, number, program.epoch(images, labels, order, masks, columns))


def _order(trial: Trial, number: int, images: int) -> npt.NDArray[np.int32]:
    """In which order the trial takes the images in an epoch."""
    return random_stream(trial.seed_of("order"), f"shuffle/{number}").permutation(images).astype(np.int32)


def _dropouts(
    program: Program, trial: Trial, number: int, images: int
) -> Iterator[tuple[np.random.Generator, int, int, float]]:
    """What the mask of each dropout layer in an epoch is drawn from: a stream, images, units, the rate."""
    rate = float(trial.settings["dropout"])
    for name, units, own_rate in program.network.dropouts:
        stream = random_stream(trial.seed_of("dropout"), f"{name}/{number}")
        yield stream, images, units, rate if own_rate is None else own_rate


def _validated(program: Program, inputs: Inputs, number: int, trained: tuple[float, float]) -> Epoch | None:
    """The epoch, of the loss and accuracy while it was trained; None if a loss is not finite."""
    values = (*trained, *program.evaluate(inputs.val))
    if not (math.isfinite(values[0]) and math.isfinite(values[2])):
        return None
    return Epoch(
        number=number, metrics=dict(zip(EPOCH_METRICS, values, strict=True)), ended_ms=time.time_ns() // 1_000_000
    )


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
