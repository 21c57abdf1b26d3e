"""A frozen base with its weights: images in, features out; keeps nothing."""

import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from mnist_ablate.errors import DataError
from mnist_ablate.workloads.keras_mnist import weights_download
from mnist_ablate.workloads.keras_mnist.backend import keras, tf
from mnist_ablate.workloads.keras_mnist.choices.frozen_bases import BASES, CHANNELS
from mnist_ablate.workloads.keras_mnist.choices.models import FROZEN
from mnist_ablate.workloads.keras_mnist.choices.normalizers import NORMALIZERS
from mnist_ablate.workloads.keras_mnist.compiled_program import stream
from mnist_ablate.workloads.keras_mnist.data import Images
from mnist_ablate.workloads.keras_mnist.recipe import Recipe

Features = npt.NDArray[np.float32]

BATCH = 50
"""Images at once: bounds memory, 60 MB of activations for VGG16."""


class Source(NamedTuple):
    """What a network is fed: images after a normalizer or, with a base, that base's features of them."""

    normalizer: str
    base: str = ""
    weights: str = ""


def source_of(recipe: Recipe) -> Source:
    """Of a recipe; its weights matter only to a model with a frozen base."""
    base = FROZEN.get(recipe.model, "")
    return Source(recipe.normalizer, base, recipe.weights) if base else Source(recipe.normalizer)


def resized(images: Images, size: int) -> Images:
    """Images uint8 (n, height, width, channels) at size x size, by `cv2.resize` with its default interpolation."""
    small = np.stack([cv2.resize(image, (size, size)) for image in images])
    return small.reshape(len(images), size, size, images.shape[-1])


class Extractor:
    """The base and weights of a source, and its normalizer fitted on the resized training images.

    `train`: uint8 (n, height, width, 1 or 3). Raises DataError if the weights are not there, or for other channels.
    """

    def __init__(self, source: Source, train: Images) -> None:
        if train.shape[-1] not in (1, CHANNELS):
            raise DataError(f"{source.base} takes gray or RGB images, not {train.shape[-1]} channels: see --data")
        base = BASES[source.base]
        self._size = base.size
        self._transform = NORMALIZERS[source.normalizer](resized(train, base.size))
        network = base.build(keras, base.inputs)
        _assign(network, source.weights)
        self._network = tf.function(
            lambda images: network(images, training=False),
            input_signature=[tf.TensorSpec((None, *base.inputs), tf.float32)],
        )

    def __call__(self, images: Images) -> Features:
        """Images uint8 (n, height, width, channels), 0-255, to features float32 (n, ...)."""
        return np.concatenate([self._batch(images[start : start + BATCH]) for start in range(0, len(images), BATCH)])

    def _batch(self, images: Images) -> Features:
        inputs = self._transform(resized(images, self._size))
        if inputs.shape[-1] != CHANNELS:
            inputs = np.repeat(inputs, CHANNELS, axis=-1)
        features: Features = self._network(inputs).numpy()
        return features


def image_seconds(source: Source, train: Images) -> float:
    """Seconds of one core for an image, whatever the weights."""
    extractor = Extractor(source._replace(weights="random"), train[:BATCH])
    extractor(train[:BATCH])
    clock = time.perf_counter()
    extractor(train[:BATCH])
    return (time.perf_counter() - clock) / len(train[:BATCH])


def _assign(network: Any, weights: str) -> None:
    layers = [layer for layer in network.layers if layer.weights]
    drawn = weights_download.file_of(weights) is None
    values: Iterable[tuple[Any, Any]] = (
        _drawn(layers) if drawn else weights_download.read(weights, [layer.name for layer in layers])
    )
    for layer, arrays in zip(layers, values, strict=True):
        layer.set_weights(arrays)


def _drawn(layers: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """As He et al. draw for relu, so that signals keep their size; from streams of their own, not a trial's."""
    for layer in layers:
        seed = int(stream(0, f"frozen/{layer.name}").integers(2**31))
        yield keras.initializers.HeNormal(seed)(tuple(layer.kernel.shape)), np.zeros(layer.bias.shape, np.float32)
