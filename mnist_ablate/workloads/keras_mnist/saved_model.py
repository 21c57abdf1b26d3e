"""A saved network, as MLflow's registry serves it, and the files that it is; trains nothing."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mnist_ablate.errors import DataError
from mnist_ablate.trial import Trial
from mnist_ablate.workloads.keras_mnist import data
from mnist_ablate.workloads.keras_mnist.choices.frozen_bases import BASES
from mnist_ablate.workloads.keras_mnist.choices.normalizers import Transform
from mnist_ablate.workloads.keras_mnist.choices.tables import SHIPPED
from mnist_ablate.workloads.keras_mnist.compiled_program import random_stream
from mnist_ablate.workloads.keras_mnist.frozen_features import Extractor, InputSource, input_source
from mnist_ablate.workloads.keras_mnist.network import Network
from mnist_ablate.workloads.keras_mnist.recipe import recipe_of
from mnist_ablate.workloads.keras_mnist.training_images import image_choice, images_of

ABOUT, WEIGHTS = "model.json", "model.weights.h5"
"""The files of a model's folder: its trial with the shape of its inputs, and its weights."""
EVALUATION_ROWS = 2000
"""Rows per evaluation call: bounds memory for convolutions, and keeps a dense layer's rows in cache."""


def input_shape(source: InputSource, image_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what a network is fed: images, or features of a frozen base."""
    return BASES[source.base].outputs if source.base else image_shape


class Classifier:
    """A saved network as MLflow's registry serves it. A frozen base finds its weights as it did for the training."""

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        trial, dataset = Trial.model_validate(about["trial"]), data.load()
        if dataset.digest != trial.data_digest:
            raise DataError(
                f"the model {folder} was trained on other images than MNIST or with choices of your own, which it needs"
            )
        recipe, self._shape = recipe_of(trial), tuple(about["image_shape"])
        source = input_source(recipe)
        if not source.base:  # whose normalizer is fitted on the data set's own training images
            choice = image_choice(recipe, trial.seed_of("order"))
            dataset, _ = images_of(dataset, trial.split_seed, choice, random_stream)
        fit = partial(Extractor, source) if source.base else SHIPPED.normalizers[source.normalizer]
        self._transform: Transform = fit(dataset.x_train)
        self._network = Network(recipe, input_shape(source, self._shape), about["classes"])
        self._network.model.load_weights(folder / WEIGHTS)

    def predict(self, images: npt.ArrayLike, params: object = None) -> npt.NDArray[np.int64]:  # noqa: ARG002 - MLflow's
        """Images uint8 (n, 28, 28), 0-255, to the digits (n,)."""
        given = np.asarray(images, np.uint8).reshape(-1, *self._shape)
        digits = [np.zeros(0, np.int64)]
        for start in range(0, len(given), EVALUATION_ROWS):
            part = given[start : start + EVALUATION_ROWS]
            masks = [np.zeros((len(part), units), bool) for units in self._network.mask_units]
            logits = self._network.model([self._transform(part), *masks], training=False)[0]
            digits.append(np.asarray(logits).argmax(axis=1))
        return np.concatenate(digits)
