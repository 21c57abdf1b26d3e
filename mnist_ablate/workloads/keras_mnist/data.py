"""The images: a checked `.npz` in Keras's layout, with the article's split; trains nothing."""

import hashlib
import zipfile
import zlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt

from mnist_ablate.errors import DataError
from mnist_ablate.workloads.keras_mnist.workload import MNIST_DIGEST

MNIST = Path(__file__).with_name("mnist.npz")
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
VALIDATION_PART = 0.3
MAX_BYTES = 4 * 2**30
MAX_RATIO = 100
"""Images shrink to a fifth. What shrinks further may unpack to UNPACKED_BYTES: a few bytes can become gigabytes."""
UNPACKED_BYTES = 64 * 2**20
FEWEST_IMAGES = 10
MOST_CLASSES = 1000

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images uint8 (n, height, width, channels), 0-255; labels int32 (n,), 0 to classes - 1; the sha256 of it all."""

    x_train: Images
    y_train: Labels
    x_val: Images
    y_val: Labels
    x_test: Images
    y_test: Labels
    digest: str

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width, channels)."""
        return self.x_train.shape[1:]

    @property
    def images(self) -> dict[str, Images]:
        """The images by split: train, val and test."""
        return {"train": self.x_train, "val": self.x_val, "test": self.x_test}

    def every(self, step: int) -> Self:
        """Every `step`-th image of each split, with its label. The digest stays that of all images."""
        names = ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test")
        return replace(self, **{name: getattr(self, name)[::step] for name in names})

    @cached_property
    def classes(self) -> int:
        """The number of classes: one more than the largest label."""
        return 1 + int(max(self.y_train.max(), self.y_val.max(), self.y_test.max()))


def load(path: Path | None = None) -> Dataset:
    """Read and check `path`, or the packaged MNIST. The last 30% of the training images are the validation split.

    Raises DataError with one line that names the file, what is wrong and what is expected.
    """
    path = path or MNIST
    if not path.is_file():
        raise DataError(f"{path}: no such data file: give a .npz with {', '.join(ARRAYS)} (see --data)")
    with path.open("rb") as file:
        dataset = read(str(path), file)
    if path == MNIST and dataset.digest != MNIST_DIGEST:
        raise DataError(f"{path.name}: the packaged images are damaged (sha256 differs): reinstall mnist-ablate")
    return dataset


def read(name: str, file: BinaryIO) -> Dataset:
    """As `load`, from an open file. Errors call it `name`."""
    arrays = _arrays(name, file)
    x_train, x_test = (_images(f"{name}: {key}", arrays[key]) for key in ("x_train", "x_test"))
    y_train = _labels(f"{name}: y_train", arrays["y_train"], len(x_train))
    y_test = _labels(f"{name}: y_test", arrays["y_test"], len(x_test))
    if x_train.shape[1:] != x_test.shape[1:]:
        raise DataError(f"{name}: x_train and x_test hold images of different shapes")
    if len(x_train) < FEWEST_IMAGES:
        raise DataError(f"{name}: x_train has {len(x_train)} images; at least {FEWEST_IMAGES} are needed")
    content = hashlib.sha256()
    for key, array in arrays.items():
        content.update(f"{key} {array.dtype.str} {array.shape}".encode())
        content.update(np.ascontiguousarray(array).data)
    split = round(len(x_train) * (1 - VALIDATION_PART))
    train, val = (x_train[:split], y_train[:split]), (x_train[split:], y_train[split:])
    return Dataset(*train, *val, x_test, y_test, content.hexdigest())


def _arrays(name: str, file: BinaryIO) -> dict[str, npt.NDArray[np.generic]]:
    """The four arrays in the order of ARRAYS."""
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(member.file_size for member in archive.infolist())
            packed = sum(member.compress_size for member in archive.infolist())
        most = MAX_BYTES if size <= MAX_RATIO * packed else min(MAX_BYTES, UNPACKED_BYTES)
        if size > most:
            raise DataError(f"{name}: unpacks to {size:,} bytes; at most {most:,} are read from {packed:,} packed ones")
        file.seek(0)
        with np.load(file, allow_pickle=False) as content:
            if missing := [array for array in ARRAYS if array not in content.files]:
                raise DataError(f"{name}: no array {', '.join(missing)}; Keras's layout has {', '.join(ARRAYS)}")
            arrays = {array: content[array] for array in ARRAYS}
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, MemoryError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{name}: not a readable .npz of plain arrays ({reason}): fetch or make it again") from error
    if strange := [array for array, value in arrays.items() if not isinstance(value, np.ndarray)]:
        raise DataError(f"{name}: {', '.join(strange)} is not an array: fetch or make the file again")
    return arrays


def _images(what: str, array: npt.NDArray[np.generic]) -> Images:
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or not array.size:
        shapes = "(n, height, width) or (n, height, width, channels)"
        raise DataError(f"{what} is {array.dtype} {array.shape}; uint8 {shapes} is expected")
    return np.ascontiguousarray(array.reshape(*array.shape[:3], -1), dtype=np.uint8)


def _labels(what: str, array: npt.NDArray[np.generic], n: int) -> Labels:
    if not np.issubdtype(array.dtype, np.integer) or array.shape not in ((n,), (n, 1)):
        raise DataError(f"{what} is {array.dtype} {array.shape}; whole numbers of shape ({n},) are expected")
    labels = array.reshape(n).astype(np.int64)
    if labels.min() < 0 or labels.max() >= MOST_CLASSES:
        raise DataError(f"{what} runs from {labels.min()} to {labels.max()}; labels are 0 to 999")
    return labels.astype(np.int32)
