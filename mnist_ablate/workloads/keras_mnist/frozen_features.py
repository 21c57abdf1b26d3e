"""The features of frozen bases: computed once, kept on disk by content, in chunks that are whole or absent.

Every process that wants features computes the chunks that nobody has. So the workers of a machine share the work, one
thread each. If a worker is killed, another computes its chunk again.
"""

import fcntl
import functools
import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from mnist_ablate.errors import DataError, DiskError
from mnist_ablate.processes import whole_file
from mnist_ablate.workloads import versions
from mnist_ablate.workloads.keras_mnist import weights_download
from mnist_ablate.workloads.keras_mnist.backend import keras, tf
from mnist_ablate.workloads.keras_mnist.choices.frozen_bases import BASES, CHANNELS
from mnist_ablate.workloads.keras_mnist.choices.models import MODELS
from mnist_ablate.workloads.keras_mnist.choices.normalizers import NORMALIZERS
from mnist_ablate.workloads.keras_mnist.compiled_program import random_stream
from mnist_ablate.workloads.keras_mnist.data import Dataset, Images
from mnist_ablate.workloads.keras_mnist.recipe import Recipe

BATCH = 50
"""Images at once. This bounds memory: 60 MB of activations for VGG16."""
CHUNK = 500
"""Images per file: about ten seconds of one core, the most work that a kill can lose."""
CACHE = "MNIST_ABLATE_CACHE"
_FORMAT = 2
_HASH_BYTES = 32
_POLL_S = 1.0

Features = npt.NDArray[np.float32]
Splits = dict[str, Features]
"""train, val and test, float32 (n, ...)."""


class InputSource(NamedTuple):
    """What a network is fed: normalized images or, with a base, the features that it makes of them."""

    normalizer: str
    base: str = ""
    weights: str = ""


def input_source(recipe: Recipe) -> InputSource:
    """The input source of a recipe. Weights matter only to a model with a frozen base."""
    base = MODELS[recipe.model].frozen_base
    return InputSource(recipe.normalizer, base, recipe.weights) if base else InputSource(recipe.normalizer)


def resized(images: Images, size: int) -> Images:
    """Images uint8 (n, height, width, channels) at size x size, by `cv2.resize` with its default interpolation."""
    small = np.stack([cv2.resize(image, (size, size)) for image in images])
    return small.reshape(len(images), size, size, images.shape[-1])


class Extractor:
    """A frozen base with its weights: images in, features out. Its normalizer is fitted on the resized training images.

    `train`: uint8 (n, height, width, 1 or 3). Raises DataError if the weights are not there, or for other channels.
    """

    def __init__(self, source: InputSource, train: Images) -> None:
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


def image_seconds(source: InputSource, train: Images) -> float:
    """Seconds of one core for an image. The weights make no difference."""
    extractor = Extractor(source._replace(weights="random"), train[:BATCH])
    extractor(train[:BATCH])
    clock = time.perf_counter()
    extractor(train[:BATCH])
    return (time.perf_counter() - clock) / len(train[:BATCH])


def _assign(network: Any, weights: str) -> None:
    layers = [layer for layer in network.layers if layer.weights]
    drawn = weights_download.weights_file(weights) is None
    values: Iterable[tuple[Any, Any]] = (
        _drawn(layers) if drawn else weights_download.read_layers(weights, [layer.name for layer in layers])
    )
    for layer, arrays in zip(layers, values, strict=True):
        layer.set_weights(arrays)


def _drawn(layers: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Drawn as He et al. do for relu, so that signals keep their size. The streams belong to no trial."""
    for layer in layers:
        seed = int(random_stream(0, f"frozen/{layer.name}").integers(2**31))
        yield keras.initializers.HeNormal(seed)(tuple(layer.kernel.shape)), np.zeros(layer.bias.shape, np.float32)


def cache_folder() -> Path:
    """MNIST_ABLATE_CACHE, else mnist-ablate in the user's cache. All sweeps and homes of a machine share it."""
    if named := os.environ.get(CACHE):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mnist-ablate"


@dataclass(frozen=True)
class _Chunk:
    index: int
    split: str
    start: int
    stop: int
    path: Path
    shape: tuple[int, ...]


class FeatureCache:
    """The features of one data set's images by source. Missing ones are computed on demand."""

    def __init__(self, dataset: Dataset) -> None:
        self._images = dataset.images

    def prepare(self, source: InputSource, tell: Callable[[str], None]) -> None:
        """Compute the missing features of a source, as `features` does."""
        if self.missing(source):
            self.features(source, tell)

    def features(self, source: InputSource, tell: Callable[[str], None] = lambda _text: None) -> Splits:
        """The features of all splits. Tells its progress while it computes, or while another process does.

        Raises DataError if the weights are not there, DiskError if the cache cannot be written.
        """
        extractor = functools.cache(lambda: Extractor(source, self._images["train"]))
        chunks = self._chunks(source)
        found = {name: np.empty((len(self._images[name]), *chunks[0].shape[1:]), np.float32) for name in self._images}
        missing = {chunk.index: chunk for chunk in chunks}
        waited = False
        with _locks(self.folder(source)) as locks:
            while missing:
                for chunk in list(missing.values()):
                    values = _read(chunk)
                    news = waited or values is None
                    if values is None:
                        values = self._computed(chunk, extractor, locks)
                    if values is not None:
                        found[chunk.split][chunk.start : chunk.stop] = values
                        del missing[chunk.index]
                        if news:
                            tell(self._progress(source))
                if missing:
                    tell(self._progress(source))
                    time.sleep(_POLL_S)
                    waited = True
        return found

    def missing(self, source: InputSource) -> int:
        """The number of images without features."""
        return sum(chunk.stop - chunk.start for chunk in self._chunks(source) if not chunk.path.is_file())

    def folder(self, source: InputSource) -> Path:
        """The folder of a source's features. Its name depends on all that they depend on."""
        file = weights_download.weights_file(source.weights)
        content = {
            "format": _FORMAT,
            "images": self._digest,
            "source": source,
            "size": BASES[source.base].size,
            "weights": file.digest if file else "",
            "tensorflow": versions.deciding_versions()["tensorflow"],
        }
        key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
        return cache_folder() / "features" / f"{source.base}-{source.weights}-{source.normalizer}-{key}"

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
        parts = [
            (split, start, min(start + CHUNK, len(images)))
            for split, images in self._images.items()
            for start in range(0, len(images), CHUNK)
        ]
        return [
            _Chunk(index, split, start, stop, folder / f"{split}-{start:06d}.features", (stop - start, *outputs))
            for index, (split, start, stop) in enumerate(parts)
        ]

    def _computed(self, chunk: _Chunk, extractor: Callable[[], Extractor], locks: IO[bytes]) -> Features | None:
        """Compute and write the features of a chunk; None if another process is at it."""
        with _locked(locks, chunk.index) as ours:
            if not ours:
                return None
            if (values := _read(chunk)) is None:  # another process may just have finished it
                values = extractor()(self._images[chunk.split][chunk.start : chunk.stop])
                _write(chunk.path, values)
            return values

    def _progress(self, source: InputSource) -> str:
        """Progress by the files that exist, whichever process wrote them."""
        total = sum(map(len, self._images.values()))
        done = total - self.missing(source)
        return f"features of {source.base} ({source.weights}, {source.normalizer}): {done:,} of {total:,} images"


@contextmanager
def _locks(folder: Path) -> Iterator[IO[bytes]]:
    """The file whose n-th byte is locked by the process that computes the n-th chunk."""
    with _writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "locks").open("ab")
    with file:
        yield file


@contextmanager
def _locked(locks: IO[bytes], index: int) -> Iterator[bool]:
    """Whether the chunk is ours alone. The kernel unlocks it when the process ends, for whatever reason."""
    try:
        fcntl.lockf(locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, index)
    except (BlockingIOError, PermissionError):
        yield False
        return
    try:
        yield True
    finally:
        fcntl.lockf(locks, fcntl.LOCK_UN, 1, index)


def _read(chunk: _Chunk) -> Features | None:
    """The features of a chunk; None if its file is absent or damaged."""
    try:
        content = chunk.path.read_bytes()
    except FileNotFoundError:
        return None
    body, digest = content[:-_HASH_BYTES], content[-_HASH_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        return None
    values: Features = np.load(io.BytesIO(body), allow_pickle=False)
    return values if values.shape == chunk.shape and values.dtype == np.float32 else None


def _write(path: Path, values: Features) -> None:
    """Write the whole file or nothing, even if the process or the machine dies. The file ends with its SHA-256."""
    body = io.BytesIO()
    np.save(body, values)
    content = body.getvalue()
    with _writable(path), whole_file(path) as part:
        part.write_bytes(content + hashlib.sha256(content).digest())


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(f"{path}: {error.strerror or error}: free it, or set {CACHE} to another folder") from error
