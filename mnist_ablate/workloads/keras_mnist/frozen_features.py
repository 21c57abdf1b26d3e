"""The features of frozen bases: computed once, kept on disk by content, in chunks that are whole or absent.

Every process that wants features computes the chunks that nobody has. So the workers of a machine share the work, one
thread each. If a worker is killed, another computes its chunk again.
"""

import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from mnist_ablate.errors import DataError, DiskError
from mnist_ablate.processes import locked_file, whole_file
from mnist_ablate.settings import user_cache
from mnist_ablate.workloads import versions
from mnist_ablate.workloads.keras_mnist import weights_download
from mnist_ablate.workloads.keras_mnist.backend import keras, tf
from mnist_ablate.workloads.keras_mnist.choices.frozen_bases import BASES, CHANNELS
from mnist_ablate.workloads.keras_mnist.choices.models import MODELS
from mnist_ablate.workloads.keras_mnist.choices.tables import SHIPPED, Tables
from mnist_ablate.workloads.keras_mnist.compiled_program import random_stream
from mnist_ablate.workloads.keras_mnist.data import Dataset, Images
from mnist_ablate.workloads.keras_mnist.recipe import Recipe

BATCH = 50  # images at once. This bounds memory: 60 MB of activations for VGG16
CHUNK = 500  # images per file: about ten seconds of one core, the most work that a kill can lose
CACHE = "MNIST_ABLATE_CACHE"
_HASH_BYTES = 32
_POLL_S = 1.0

Features = npt.NDArray[np.float32]


class InputSource(NamedTuple):
    """What a network is fed: normalized images or, with a base, the features that it makes of them."""

    normalizer: str
    base: str = ""
    weights: str = ""


def input_source(recipe: Recipe) -> InputSource:
    """The input source of a recipe. Weights matter only to a model with a frozen base."""
    model = MODELS.get(recipe.model)  # a user's own has no frozen base
    base = model.frozen_base if model else ""
    return InputSource(recipe.normalizer, base, recipe.weights if base else "")


def resized(images: Images, size: int) -> Images:
    """Images uint8 (n, height, width, channels) at size x size, by `cv2.resize` with its default interpolation."""
    small = np.stack([cv2.resize(image, (size, size)) for image in images])
    return small.reshape(len(images), size, size, images.shape[-1])


class Extractor:
    """A frozen base with its weights: images in, features out. Its normalizer is fitted on the resized training images.

    `train`: uint8 (n, height, width, 1 or 3). Raises DataError if the weights are not there, or for other channels.
    """

    def __init__(self, source: InputSource, train: Images, tables: Tables = SHIPPED) -> None:
        if train.shape[-1] not in (1, CHANNELS):
            raise DataError(f"{source.base} takes gray or RGB images, not {train.shape[-1]} channels: see --data")
        base = BASES[source.base]
        self._size = base.size
        self._transform = tables.normalizers[source.normalizer](resized(train, base.size))
        network = base.build(keras, base.inputs)
        layers = [layer for layer in network.layers if layer.weights]
        values: Iterable[Sequence[Any]] = map(_drawn, layers)
        if weights_download.weights_file(source.weights):
            values = weights_download.read_layers(source.weights, [layer.name for layer in layers])
        for layer, arrays in zip(layers, values, strict=True):
            layer.set_weights(arrays)
        self._network = tf.function(
            lambda images: network(images, training=False),
            input_signature=[tf.TensorSpec((None, *base.inputs), tf.float32)],
            autograph=False,
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


def _drawn(layer: Any) -> tuple[Any, Any]:
    """Drawn as He et al. do for relu, so that signals keep their size. The streams belong to no trial."""
    seed = int(random_stream(0, f"frozen/{layer.name}").integers(2**31))
    return keras.initializers.HeNormal(seed)(tuple(layer.kernel.shape)), np.zeros(layer.bias.shape, np.float32)


class _Chunk(NamedTuple):
    split: str
    rows: slice
    path: Path
    shape: tuple[int, ...]


class FeatureCache:
    """The features of one data set's images by source. Missing ones are computed on demand."""

    def __init__(self, dataset: Dataset, tables: Tables = SHIPPED) -> None:
        self._images, self._own, self._tables = dataset.images, dataset.own, tables

    def features(self, source: InputSource, tell: Callable[[str], None] = lambda _text: None) -> dict[str, Features]:
        """The features of train, val and test. Tells its progress while it computes, or while another process does.

        Raises DataError if the weights are not there, DiskError if the cache cannot be written.
        """
        extractor = cache(lambda: Extractor(source, self._images["train"], self._tables))
        outputs = BASES[source.base].outputs
        found = {name: np.empty((len(images), *outputs), np.float32) for name, images in self._images.items()}
        missing, waited = self._chunks(source), False
        while missing:
            taken = []
            for chunk in missing:
                values = _read(chunk)
                news = waited or values is None
                if values is None and (values := self._computed(chunk, extractor)) is None:
                    taken.append(chunk)
                    continue
                found[chunk.split][chunk.rows] = values
                if news:
                    tell(self._progress(source))
            if missing := taken:
                tell(self._progress(source))
                time.sleep(_POLL_S)
                waited = True
        return found

    def missing(self, source: InputSource) -> int:
        """The number of images without features."""
        return sum(chunk.shape[0] for chunk in self._chunks(source) if not chunk.path.is_file())

    def missing_seconds(self, sources: Iterable[InputSource]) -> float:
        """Seconds of one core for the missing features of these sources. The weights make no difference."""
        images = self._images["train"][:BATCH]

        @cache
        def image_s(base: str) -> float:
            extractor = Extractor(InputSource("unit", base, "random"), images)
            extractor(images)
            clock = time.perf_counter()
            extractor(images)
            return (time.perf_counter() - clock) / len(images)

        return sum(n * image_s(each.base) for each in set(sources) if each.base and (n := self.missing(each)))

    def folder(self, source: InputSource) -> Path:
        """The folder of a source's features in the cache of this machine, named by all that they depend on."""
        file = weights_download.weights_file(source.weights)
        content = {
            "format": 2,
            "images": self._digest,
            "source": source,
            "size": BASES[source.base].size,
            "weights": file.digest if file else "",
            "tensorflow": versions.deciding_versions()["tensorflow"],
        }
        if self._own and source.normalizer not in SHIPPED.normalizers:
            content["code"] = self._own.digest
        key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
        shared = Path(os.environ.get(CACHE) or user_cache())
        return shared / "features" / f"{source.base}-{source.weights}-{source.normalizer}-{key}"

    @cached_property
    def _digest(self) -> str:
        """The digest of these images. That of the data set can cover more images."""
        content = hashlib.sha256()
        for name, images in self._images.items():
            content.update(f"{name} {images.shape}".encode())
            content.update(np.ascontiguousarray(images).data)
        return content.hexdigest()

    def _chunks(self, source: InputSource) -> list[_Chunk]:
        folder, outputs = self.folder(source), BASES[source.base].outputs
        return [
            _Chunk(split, rows, folder / f"{split}-{rows.start:06d}.features", (len(images[rows]), *outputs))
            for split, images in self._images.items()
            for rows in (slice(start, start + CHUNK) for start in range(0, len(images), CHUNK))
        ]

    def _computed(self, chunk: _Chunk, extractor: Callable[[], Extractor]) -> Features | None:
        """Compute a chunk and write it, whole or not at all, with its SHA-256; None if another process is at it."""
        try:
            with locked_file(chunk.path.with_suffix(".lock"), wait_s=0.0):
                if (values := _read(chunk)) is None:  # another process may just have finished it
                    values = extractor()(self._images[chunk.split][chunk.rows])
                    body = io.BytesIO()
                    np.save(body, values)
                    with whole_file(chunk.path) as part:
                        part.write_bytes(body.getvalue() + hashlib.sha256(body.getvalue()).digest())
                return values
        except BlockingIOError:
            return None
        except OSError as error:
            advice = f"free it, or set {CACHE} to another folder"
            raise DiskError(f"{chunk.path}: {error.strerror or error}: {advice}") from error

    def _progress(self, source: InputSource) -> str:
        """Progress by the files that exist, whichever process wrote them."""
        total = sum(map(len, self._images.values()))
        done = total - self.missing(source)
        return f"features of {source.base} ({source.weights}, {source.normalizer}): {done:,} of {total:,} images"


def _read(chunk: _Chunk) -> Features | None:
    """The features of a chunk; None if its file is absent or damaged."""
    try:
        content = chunk.path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    body, digest = content[:-_HASH_BYTES], content[-_HASH_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        return None
    values: Features = np.load(io.BytesIO(body), allow_pickle=False)
    return values if values.shape == chunk.shape and values.dtype == np.float32 else None
