"""Features of a frozen base, computed once and kept on disk by content, in chunks that are whole or absent.

Every process that wants them takes the chunks that nobody has: the workers of a machine share the work, one thread
each, and what a killed one was at is done again by another.
"""

import fcntl
import functools
import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np

from mnist_ablate.errors import DiskError
from mnist_ablate.processes import whole_file
from mnist_ablate.workloads import versions
from mnist_ablate.workloads.keras_mnist import weights_download
from mnist_ablate.workloads.keras_mnist.choices.frozen_bases import BASES
from mnist_ablate.workloads.keras_mnist.data import Digits
from mnist_ablate.workloads.keras_mnist.extractor import Extractor, Features, Source

CHUNK = 500
"""Images a file: some ten seconds of one core, which is what a kill can cost."""
CACHE = "MNIST_ABLATE_CACHE"
_FORMAT = 2
_HASH_BYTES = 32
_POLL_S = 1.0

Splits = dict[str, Features]
"""train, val and test, float32 (n, ...)."""


def cache_folder() -> Path:
    """MNIST_ABLATE_CACHE, else mnist-ablate in the user's cache: one for all sweeps and homes of a machine."""
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


class Store:
    """The features of one data set's images by source; what is missing is computed when it is asked for."""

    def __init__(self, digits: Digits) -> None:
        self._images = {"train": digits.x_train, "val": digits.x_val, "test": digits.x_test}

    def prepare(self, source: Source, tell: Callable[[str], None]) -> None:
        """Compute what is missing of the features of a source, as `features` does."""
        if self.missing(source):
            self.features(source, tell)

    def features(self, source: Source, tell: Callable[[str], None] = lambda _text: None) -> Splits:
        """All splits; says how far it is while it computes, or waits for another process that does.

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

    def missing(self, source: Source) -> int:
        """The number of images whose features are not there."""
        return sum(chunk.stop - chunk.start for chunk in self._chunks(source) if not chunk.path.is_file())

    def folder(self, source: Source) -> Path:
        """Where the features of a source are, named by all that they depend on."""
        file = weights_download.file_of(source.weights)
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
        """Of the images themselves: the data set's may be that of more than these."""
        content = hashlib.sha256()
        for name, images in self._images.items():
            content.update(f"{name} {images.shape}".encode())
            content.update(np.ascontiguousarray(images).data)
        return content.hexdigest()

    def _chunks(self, source: Source) -> list[_Chunk]:
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
        """The features of a chunk, which are written too; None if another process is at it."""
        with _locked(locks, chunk.index) as ours:
            if not ours:
                return None
            if (values := _read(chunk)) is None:  # another may have ended it just now
                values = extractor()(self._images[chunk.split][chunk.start : chunk.stop])
                _write(chunk.path, values)
            return values

    def _progress(self, source: Source) -> str:
        """By the files that are there, whoever wrote them."""
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
    """Whether the chunk is ours alone; the kernel unlocks it when the process ends, however that does."""
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
    """The features of a chunk, unless its file is absent or is not as it was written."""
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
    """Whole or not at all, whenever the process or the machine ends; its SHA-256 is its end."""
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
