"""Finds the pixels of a batch that differ from the background: products can leave out the rest. Multiplies nothing."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

BLOCK = 64  # a batch has a multiple of this many columns: few program shapes, and rows that vectorize
MAX_SHARE = 0.9  # with a larger share of all columns the copies cost more than the products save


class Columns(NamedTuple):
    """By batch, the pixels that are not background in every image: columns of a product, in ascending order.

    `index` int32 (batches, columns). `position` int32 (batches, inputs): where a column stands in `index`, or the
    number of columns if it is left out. `background` float32 (inputs,) is None if it is zero everywhere.
    """

    index: Any
    position: Any
    background: Any


class ActivePixels:
    """Where normalized images differ from a background float32 (...), by `difference` float32 (n, ...)."""

    def __init__(self, difference: npt.NDArray[np.float32], background: npt.NDArray[np.float32]) -> None:
        self._background = background.ravel() if background.any() else None
        self._inputs = background.size
        bits = np.packbits(difference.reshape(len(difference), -1) != 0, axis=1)
        self._differs = np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8))).view(np.uint64)  # words are or-ed fast

    def columns(self, order: npt.NDArray[np.int32], batch_size: int) -> Columns | None:
        """The columns of an epoch that takes images in `order` (n,); None if too many pixels differ to gain by it."""
        starts = range(0, len(order), batch_size)
        words = [np.bitwise_or.reduce(self._differs[order[start : start + batch_size]], axis=0) for start in starts]
        differs = np.unpackbits(np.stack(words).view(np.uint8), axis=1)[:, : self._inputs]
        kept = -(-int(differs.sum(axis=1).max()) // BLOCK) * BLOCK
        if kept > MAX_SHARE * self._inputs:
            return None
        index = np.sort(np.argsort(1 - differs, axis=1, kind="stable")[:, :kept], axis=1).astype(np.int32)
        position = np.full((len(words), self._inputs), kept, np.int32)
        np.put_along_axis(position, index, np.arange(kept, dtype=np.int32)[None], axis=1)
        return Columns(index, position, self._background)


def group_by_active_pixels(
    difference: npt.NDArray[np.float32], most: int
) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.int32]]]:
    """Split images, given as their difference from the background float32 (n, inputs), into groups of at most `most`.

    Yields the rows of a group, int (images,), and its active columns, int32 (columns,), in ascending order. These are
    few, because images are sorted by their rarest active pixel.
    """
    differs = difference != 0
    rarest_first = np.argsort(differs.sum(axis=0), kind="stable")
    order = np.argsort(differs[:, rarest_first].argmax(axis=1), kind="stable")
    for start in range(0, len(order), most):
        rows = order[start : start + most]
        yield rows, np.flatnonzero(differs[rows].any(axis=0)).astype(np.int32)
