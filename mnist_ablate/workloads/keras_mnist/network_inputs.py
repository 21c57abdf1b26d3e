"""What a network is fed: the splits as tensors, their background left out where that is faster. Loads no images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_ablate.workloads.keras_mnist import data
from mnist_ablate.workloads.keras_mnist.active_pixels import ActivePixels, group_by_active_pixels
from mnist_ablate.workloads.keras_mnist.backend import tf
from mnist_ablate.workloads.keras_mnist.compiled_program import EvaluationBatch
from mnist_ablate.workloads.keras_mnist.data_gate import input_statistics
from mnist_ablate.workloads.keras_mnist.own_choices import ChoiceError
from mnist_ablate.workloads.keras_mnist.saved_model import EVALUATION_ROWS

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Inputs:
    """The splits as tensors float32 (n, ...), normalized images or features, and the training split's statistics.

    For a network whose first layer is dense on images, `active_pixels` has those of the training images, and the tensor
    of their difference from the background. `test` has the test images in `test_order`. `probe` is the first piece of
    the validation split, whole images. `altered` makes the training images of an epoch; None if they stay.
    """

    train: tuple[Any, Any]
    active_pixels: tuple[ActivePixels, Any] | None
    val: tuple[EvaluationBatch, ...]
    test: tuple[EvaluationBatch, ...]
    test_order: npt.NDArray[np.int64]
    probe: tuple[Any, Any]
    statistics: dict[str, float]
    altered: Callable[[np.random.Generator], Any] | None = None


def inputs_of(
    splits: Mapping[str, Array],
    labels: Mapping[str, data.Labels],
    transform: Callable[[Array], Array] = np.asarray,
    background: Array | None = None,
) -> Inputs:
    """The inputs of these splits. With a `background`, whatever is like it is left out."""
    train, val = transform(splits["train"]), transform(splits["val"])
    images, active_pixels = tf.constant(train), None
    if background is not None:
        is_zero = not background.any()
        difference = train if is_zero else train - background
        active_pixels = ActivePixels(difference, background), images if is_zero else tf.constant(difference)
    test, test_order = _batches(transform(splits["test"]), labels["test"], background)
    return Inputs(
        train=(images, tf.constant(labels["train"])),
        active_pixels=active_pixels,
        val=_batches(val, labels["val"], background)[0],
        test=test,
        test_order=test_order,
        probe=(tf.constant(val[:EVALUATION_ROWS]), tf.constant(labels["val"][:EVALUATION_ROWS])),
        statistics=input_statistics(train),
    )


def altered_images(name: str, alter: Callable[..., Any], images: Array, rng: np.random.Generator) -> Array:
    """Training images altered, checked to be such images."""
    found = np.asarray(alter(read_only(images), rng))
    if (found.shape, found.dtype) != (images.shape, images.dtype):
        made = f"{found.dtype} {found.shape} of images {images.dtype} {images.shape}"
        raise ChoiceError(f"augmentation {name}: makes {made}; images of the same shape and type are expected")
    return found


def read_only(images: Array) -> Array:
    """The same images, which cannot be written to."""
    view = images.view()
    view.flags.writeable = False
    return view


def _batches(
    images: Array, labels: Array, background: Array | None
) -> tuple[tuple[EvaluationBatch, ...], npt.NDArray[np.int64]]:
    """A split in parts: whole images or, with a background, the few columns of each part that differ from it.

    And which image of the split stands where in the parts.
    """
    order = np.arange(len(images))
    if background is None:
        parts = (slice(start, start + EVALUATION_ROWS) for start in range(0, len(images), EVALUATION_ROWS))
        return tuple(EvaluationBatch(tf.constant(images[part]), tf.constant(labels[part])) for part in parts), order
    flat = (images - background).reshape(len(images), -1)
    left_out = tf.constant(background.ravel()) if background.any() else None
    groups = [*group_by_active_pixels(flat, EVALUATION_ROWS)]
    batches = (
        EvaluationBatch(tf.constant(flat[np.ix_(rows, index)]), tf.constant(labels[rows]), tf.constant(index), left_out)
        for rows, index in groups
    )
    return tuple(batches), np.concatenate([rows for rows, _ in groups])


def joined(lanes: Sequence[Inputs]) -> tuple[Any, Any, list[int]]:
    """The training images and labels of all lanes, each kind once, and where those of each lane begin."""
    kinds = list(dict.fromkeys(lanes))
    if len(kinds) == 1:
        return *kinds[0].train, [0] * len(lanes)
    begins = np.cumsum([0, *(len(each.train[1]) for each in kinds)])
    images, labels = (tf.concat(parts, 0) for parts in zip(*(each.train for each in kinds), strict=True))
    return images, labels, [int(begins[kinds.index(each)]) for each in lanes]
