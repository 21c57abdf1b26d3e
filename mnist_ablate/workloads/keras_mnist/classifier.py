"""A trained network as a model that MLflow's registry serves: images in, digits out. Reads no pickle."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_ablate.errors import DataError
from mnist_ablate.trial import Trial
from mnist_ablate.workloads.keras_mnist import data
from mnist_ablate.workloads.keras_mnist.choices.normalizers import NORMALIZERS, Transform
from mnist_ablate.workloads.keras_mnist.recipe import recipe_of

ABOUT, WEIGHTS = "model.json", "model.weights.h5"
"""The files of a model's folder: its trial with the shape of its inputs, and its weights."""
ROWS = 2000
"""Images at once, which bounds memory."""


class Classifier:
    """The network of a trial with its weights, and the normalizer or frozen base that it was trained with.

    The folder does not hold the weights of a frozen base: `weights_download` finds them as it did for the training.
    """

    def __init__(self, folder: Path) -> None:
        from mnist_ablate.workloads.keras_mnist import network
        from mnist_ablate.workloads.keras_mnist.choices.frozen_bases import BASES
        from mnist_ablate.workloads.keras_mnist.frozen_features import Extractor, input_source

        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        trial = Trial.model_validate(about["trial"])
        dataset = data.load()
        if dataset.digest != trial.data_digest:
            raise DataError(
                f"the model {folder} was trained on other images than MNIST, and its normalizer needs those"
            )
        self._shape = tuple(about["image_shape"])
        recipe = recipe_of(trial)
        source = input_source(recipe)
        self._transform: Transform = (
            Extractor(source, dataset.x_train) if source.base else NORMALIZERS[source.normalizer](dataset.x_train)
        )
        seen = BASES[source.base].outputs if source.base else self._shape
        self._network = network.build(recipe, seen, about["classes"])
        self._network.model.load_weights(folder / WEIGHTS)

    def predict(self, images: npt.ArrayLike, params: object = None) -> npt.NDArray[np.int64]:  # noqa: ARG002 - MLflow's
        """Images uint8 (n, 28, 28), 0-255, to the digits (n,)."""
        given = np.asarray(images, np.uint8).reshape(-1, *self._shape)
        starts = range(0, len(given), ROWS)
        return np.concatenate([np.zeros(0, np.int64), *(self._digits(given[start : start + ROWS]) for start in starts)])

    def _digits(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        masks = [np.zeros((len(images), units), bool) for units in self._network.mask_units]
        logits: Any = self._network.model([self._transform(images), *masks], training=False)[0]
        digits: npt.NDArray[np.int64] = np.asarray(logits).argmax(axis=1)
        return digits
