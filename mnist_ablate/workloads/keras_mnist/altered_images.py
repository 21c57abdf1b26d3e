"""This workload on images that were altered in ways whose effect is known, for `selftest`. Needs no TensorFlow."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

from mnist_ablate.trial import Epoch, Outcome, Trial
from mnist_ablate.workloads.keras_mnist.recipe import Recipe
from mnist_ablate.workloads.keras_mnist.workload import KerasMnist

_KEPT = 2  # trainers, each with images of its own
_FIXED = 1_234_567  # the seed of what is drawn once for all trials


class AlteredRecipe(Recipe):
    """A training run, and what is done to the images before it."""

    wrong_labels: float = Field(default=0.0, ge=0.0, le=1.0, description="Training labels that are drawn at random.")
    permuted: bool = Field(default=False, description="Whether the pixels of all images are in another, fixed order.")
    share: float = Field(default=1.0, gt=0.0, le=1.0, description="The share of the training images that are used.")
    drawn_test: bool = Field(default=False, description="Whether each seed has another half of the test images.")


class Alteration(NamedTuple):
    """The same without what is trained; `test_seed` draws the test images, 0 takes all of them."""

    wrong_labels: float = 0.0
    permuted: bool = False
    share: float = 1.0
    test_seed: int = 0


class AlteredMnist(KerasMnist):
    """Networks on altered images."""

    name = "altered-mnist"
    settings = AlteredRecipe
    trainer = "mnist_ablate.workloads.keras_mnist.altered_images:AlteredTrainer"

    def lane_group(self, trial: Trial) -> None:
        """Each has images of its own."""


ALTERED_MNIST = AlteredMnist()


class AlteredTrainer:
    """Trains trials on images altered as their settings say. Programs are shared, because shapes stay."""

    def __init__(self, dataset: Any) -> None:
        from mnist_ablate.workloads.keras_mnist.trainer import Trainer

        self._make, self._dataset = Trainer, dataset
        self._program = Trainer(dataset).program
        self._trainer = lru_cache(_KEPT)(self._trainer_of)

    def train(self, trial: Trial, on_epoch: Callable[[Epoch], None], on_wait: Callable[[str], None]) -> Outcome:
        """The outcome of the trial on its images."""
        (outcome,) = self.train_together((trial,), on_epoch, on_wait)
        return outcome

    def train_together(
        self, trials: Sequence[Trial], on_epoch: Callable[[Epoch], None], on_wait: Callable[[str], None]
    ) -> Iterator[Outcome]:
        """The outcomes of trials that differ in their epochs alone, on their images."""
        recipe = AlteredRecipe.model_validate(trials[-1].settings)
        usual = [
            trial.model_copy(update={"settings": {key: trial.settings[key] for key in Recipe.model_fields}})
            for trial in trials
        ]
        test_seed = (1 + trials[-1].seed) * recipe.drawn_test
        alteration = Alteration(recipe.wrong_labels, recipe.permuted, recipe.share, test_seed)
        yield from self._trainer(alteration).train_together(usual, on_epoch, on_wait)

    def save(self, trial: Trial, folder: Path) -> None:
        """A selftest registers no model."""
        raise NotImplementedError

    def _trainer_of(self, alteration: Alteration) -> Any:
        trainer = self._make(altered(self._dataset, alteration))
        trainer.program = self._program
        return trainer


def altered(dataset: Any, how: Alteration) -> Any:
    """A data set with some training labels drawn at random, other pixel order, fewer training or other test images."""
    train = slice(round(how.share * len(dataset.x_train)))
    x = {name: getattr(dataset, name) for name in ("x_train", "x_val", "x_test")}
    x["x_train"], y_train, y_test = x["x_train"][train], dataset.y_train[train].copy(), dataset.y_test
    rng = np.random.default_rng(_FIXED)
    drawn = rng.random(len(y_train)) < how.wrong_labels
    y_train[drawn] = rng.integers(0, dataset.classes, int(drawn.sum()), dtype=y_train.dtype)
    if how.permuted:
        order = rng.permutation(int(np.prod(dataset.image_shape)))
        flat = {name: np.ascontiguousarray(images.reshape(len(images), -1)[:, order]) for name, images in x.items()}
        x = {name: images.reshape(x[name].shape) for name, images in flat.items()}
    if how.test_seed:
        rows = np.random.default_rng([_FIXED, how.test_seed]).permutation(len(y_test))[: len(y_test) // 2]
        x["x_test"], y_test = x["x_test"][rows], y_test[rows]
    return replace(dataset, **x, y_train=y_train, y_test=y_test)
