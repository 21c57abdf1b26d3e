"""The images: arrays of any source, checked, with the article's split unless they have their own; trains nothing."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from mnist_ablate.errors import DataError
from mnist_ablate.workloads.keras_mnist import data_source
from mnist_ablate.workloads.keras_mnist.workload import MNIST_DIGEST

if TYPE_CHECKING:
    from mnist_ablate.workloads.keras_mnist.own_choices import OwnChoices

MNIST = Path(__file__).with_name("mnist.npz")
VALIDATION_PART = 0.3
FEWEST_IMAGES = 10
MOST_CLASSES = 1000
_SHAPES = "(n, height, width) or (n, height, width, channels)"

Images = npt.NDArray[Any]
"""uint8, 0-255, or float32 of any range."""
Labels = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images uint8 or float32 (n, height, width, channels); labels int32 (n,), 0 to classes - 1.

    `content_digest` is the sha256 of the arrays. `arrays` are these as they were given, None for those that ship. `own`
    are choices of the user's that trials may name.
    """

    x_train: Images
    y_train: Labels
    x_val: Images
    y_val: Labels
    x_test: Images
    y_test: Labels
    content_digest: str
    arrays: data_source.Arrays | None = None
    own: "OwnChoices | None" = None

    @property
    def digest(self) -> str:
        """The sha256 of all that decides what a trial of given settings does: the arrays and the user's choices."""
        return self.own.digest_with(self.content_digest) if self.own else self.content_digest

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width, channels)."""
        return self.x_train.shape[1:]

    @property
    def images(self) -> dict[str, Images]:
        """The images by split: train, val and test."""
        return {"train": self.x_train, "val": self.x_val, "test": self.x_test}

    @property
    def labels(self) -> dict[str, Labels]:
        """The labels by split: train, val and test."""
        return {"train": self.y_train, "val": self.y_val, "test": self.y_test}

    def every(self, step: int) -> Self:
        """Every `step`-th image of each split, with its label. The digest stays that of all images."""
        names = ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test")
        return replace(self, **{name: getattr(self, name)[::step] for name in names})

    def order(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """An order of the training and validation images together, for `split_anew`."""
        return rng.permutation(len(self.y_train) + len(self.y_val))

    def with_split(self, rng: np.random.Generator) -> Self:
        """The training and validation images split anew: at random, into as many of each as before."""
        order = self.order(rng)
        x, y = split_anew(self.images, order), split_anew(self.labels, order)
        return replace(self, x_train=x["train"], y_train=y["train"], x_val=x["val"], y_val=y["val"])

    def without_own(self) -> Self:
        """The same images for trials without choices of the user's own."""
        return replace(self, own=None)

    @cached_property
    def classes(self) -> int:
        """The number of classes: one more than the largest label."""
        return 1 + int(max(labels.max() for labels in self.labels.values()))

    def packed(self) -> bytes | None:
        """What `read` makes the same data set of, in a worker; None for the images that ship."""
        if self.arrays is None:
            return None
        buffer = io.BytesIO()
        np.savez(buffer, **self.arrays)  # type: ignore[arg-type]
        return buffer.getvalue()


def split_anew(parts: Mapping[str, npt.NDArray[Any]], order: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
    """Something of each image, by split: that of training and validation images together in another order."""
    both, n = np.concatenate((parts["train"], parts["val"])), len(parts["train"])
    return {**parts, "train": both[order[:n]], "val": both[order[n:]]}


def load(source: str | Path | None = None, folder: Path = Path(), own: "OwnChoices | None" = None) -> Dataset:
    """Read and check a source (see `data_source`), or the packaged MNIST.

    Without a validation split of its own, the last 30% of the training images are it. Raises DataError with one line
    that names the source, what is wrong and what is expected.
    """
    if source is not None:
        return of_arrays(str(source), data_source.read(str(source), folder), own)
    with MNIST.open("rb") as file:
        dataset = of_arrays(str(MNIST), data_source.read_npz(str(MNIST), file), own)
    if dataset.content_digest != MNIST_DIGEST:
        raise DataError(f"{MNIST.name}: the packaged images are damaged (sha256 differs): reinstall mnist-ablate")
    return replace(dataset, arrays=None)


def read(packed: bytes, own: "OwnChoices | None" = None) -> Dataset:
    """The data set in the bytes of a .npz file."""
    return of_arrays("--data", data_source.read_npz("--data", io.BytesIO(packed)), own)


def of_arrays(name: str, arrays: data_source.Arrays, own: "OwnChoices | None" = None) -> Dataset:
    """Check the arrays of a source, which errors call `name`, and split them."""
    if len(half := [key for key in data_source.VALIDATION if key in arrays]) == 1:
        other = next(key for key in data_source.VALIDATION if key not in half)
        raise DataError(f"{name}: has {half[0]} but no {other}; give both, or neither")
    parts = ("train", "test", *(["val"] if "x_val" in arrays else []))
    images = {part: _images(f"{name}: x_{part}", arrays[f"x_{part}"]) for part in parts}
    labels = {part: _labels(f"{name}: y_{part}", arrays[f"y_{part}"], len(images[part])) for part in parts}
    if len({found.dtype for found in images.values()}) > 1 and all(
        arrays[f"x_{part}"].dtype.kind in "uib" for part in parts
    ):
        images = {part: found.astype(np.float32) for part, found in images.items()}  # one split goes beyond a byte
    _fit_together(name, arrays, images, labels)
    content = hashlib.sha256()
    for key, array in arrays.items():
        content.update(f"{key} {array.dtype.str} {array.shape}".encode())
        content.update(np.ascontiguousarray(array).data)
    x, y = images["train"], labels["train"]
    split = round(len(x) * (1 - VALIDATION_PART)) if "val" not in images else len(x)
    val = (images["val"], labels["val"]) if "val" in images else (x[split:], y[split:])
    return Dataset(x[:split], y[:split], *val, images["test"], labels["test"], content.hexdigest(), arrays, own)


def _fit_together(
    name: str, arrays: data_source.Arrays, images: Mapping[str, Images], labels: Mapping[str, Labels]
) -> None:
    for part, found in images.items():
        if found.shape[1:] != images["train"].shape[1:]:
            shapes = f"{images['train'].shape[1:]} and {found.shape[1:]}"
            raise DataError(f"{name}: x_train and x_{part} hold images of different shapes, {shapes}")
        if found.dtype != images["train"].dtype:
            kinds = f"{arrays['x_train'].dtype} and {arrays[f'x_{part}'].dtype}"
            raise DataError(f"{name}: x_train and x_{part} are {kinds}; all splits must hold the same kind of pixel")
        columns = [arrays[f"y_{each}"].shape[1:] for each in ("train", part)]
        if columns[0] != columns[1] and not {columns[0], columns[1]} <= {(), (1,)}:
            raise DataError(
                f"{name}: y_train and y_{part} are coded differently, {columns[0]} and {columns[1]} a label"
            )
    if len(images["train"]) < FEWEST_IMAGES:
        raise DataError(f"{name}: x_train has {len(images['train'])} images; at least {FEWEST_IMAGES} are needed")
    if all(not found.any() for found in labels.values()):
        raise DataError(f"{name}: every label is 0; a claim about accuracy needs two classes at least")


def _images(what: str, array: npt.NDArray[np.generic]) -> Images:
    """Whole numbers of 0 to 255 as uint8, all others as float32."""
    given = f"{what} is {array.dtype} {array.shape}"
    if array.ndim not in (3, 4):
        more = "; reshape the rows to images" if array.ndim == 2 else ""  # noqa: PLR2004 - a table
        raise DataError(f"{given}; images of shape {_SHAPES} are expected{more}")
    if not len(array):
        raise DataError(f"{what} is empty: it has no images")
    if not array.size:
        raise DataError(f"{given}: images without pixels; {_SHAPES} is expected")
    if array.dtype.kind not in "uifb":
        raise DataError(f"{given}; pixels are whole numbers or floats")
    whole = array.reshape(*array.shape[:3], -1)
    low, high = whole.min(), whole.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError(f"{what} has pixels that are not finite (NaN or infinity): replace them")
    if array.dtype.kind in "uib" and low >= 0 and high <= 255:  # noqa: PLR2004 - a byte's
        return np.ascontiguousarray(whole, dtype=np.uint8)
    if max(abs(float(low)), abs(float(high))) > float(np.finfo(np.float32).max):
        raise DataError(f"{what} runs from {low} to {high}, more than float32 holds")
    return np.ascontiguousarray(whole, dtype=np.float32)


def _labels(what: str, array: npt.NDArray[np.generic], n: int) -> Labels:
    """Labels as whole numbers of any type, (n,) or (n, 1), or one-hot (n, classes)."""
    given = f"{what} is {array.dtype} {array.shape}"
    if array.dtype.kind not in "uifb":
        raise DataError(f"{given}; labels are numbers from 0, or one-hot: give each class a number")
    if array.ndim not in (1, 2) or len(array) != n or not array.size:
        raise DataError(f"{given}; {n:,} labels are expected: ({n},) whole numbers or ({n}, classes) one-hot")
    values: npt.NDArray[Any] = array
    if array.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"{what} has labels that are not finite (NaN or infinity): leave these images out")
    if array.ndim == 2 and array.shape[1] > 1:  # noqa: PLR2004 - a table
        ones = values == 1
        if not (((values == 0) | ones).all() and (ones.sum(axis=1) == 1).all()):
            raise DataError(f"{given} and not one-hot: every row needs a single 1 and else 0; give whole numbers")
        values = ones.argmax(axis=1)
    values = values.reshape(n)
    if values.dtype.kind == "f" and (broken := values[values != np.floor(values)]).size:
        example = f"{float(broken[0]):.6g}"
        raise DataError(f"{what} holds fractions such as {example}: a regression target; labels are whole numbers")
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= MOST_CLASSES:
        raise DataError(f"{what} runs from {low} to {high}; labels are 0 to {MOST_CLASSES - 1}")
    return values.astype(np.int32)
