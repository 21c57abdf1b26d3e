"""The data gate: what is wrong with a normalizer's output by its numbers alone; the only place with its thresholds.

No name is looked at: a normalizer is judged by what it makes of each pixel value and of the training images.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

SEVERE = frozenset({"wrapped", "saturated"})
"""Flags that say that the images themselves were damaged; the other two describe offset and scale."""
SATURATED_SHARE = 1 / 16
"""Of the pixel values that occur, those that one output value stands for. Rounding merges neighbors, two or
three of 256; a clipped end merges many, and what was there cannot be learned any more."""
NOT_CENTERED_OFFSET = 0.5
"""|mean| / std. From here on the mean holds at least a fifth of the energy, mean^2 / (mean^2 + std^2), all of it in
one direction, which limits the learning rate of all others (LeCun et al. 1998, "Efficient BackProp", 4.3).
x / 256 on MNIST has 0.43."""
UNSCALED = 10.0
"""Root mean square above this, or below its inverse. Initial kernels of variance about 1 / fan in give
pre-activations the size of the inputs: a factor of ten is beyond where tanh is flat, and changes the curvature,
so the learning rate that suits, a hundredfold."""
_OUT_OF_ORDER = 1e-6
"""Of the map's range: steps back smaller than this are float32's rounding."""


@dataclass(frozen=True)
class Flag:
    """A name, one of wrapped, saturated, not centered, unscaled; and the numbers that it rests on."""

    name: str
    reason: str


def flags(levels: npt.NDArray[np.uint8], outputs: Floats | None, mean: float, std: float) -> tuple[Flag, ...]:
    """Every flag that holds, the severe ones first.

    `outputs` (levels, pixels) has what each pixel value that occurs is turned into, at some pixels; None if an
    output depends on more than its own pixel: then order and clipping are not judged.
    """
    found = [] if outputs is None or len(levels) <= 1 else [_wrapped(levels, outputs), _saturated(levels, outputs)]
    found += [_not_centered(mean, std), _unscaled(mean, std)]
    return tuple(flag for flag in found if flag is not None)


def _wrapped(levels: npt.NDArray[np.uint8], outputs: Floats) -> Flag | None:
    """The map is not monotone: of two neighboring pixel values the brighter one becomes the darker one."""
    steps = np.diff(outputs.astype(np.float64), axis=0)
    steps[np.abs(steps) <= _OUT_OF_ORDER * np.ptp(outputs, axis=0)] = 0.0
    steps *= np.where(np.sign(steps).sum(axis=0) < 0, -1.0, 1.0)  # most steps go up
    back, pixel = (int(i) for i in np.unravel_index(steps.argmin(), steps.shape))
    if steps[back, pixel] >= 0.0:
        return None
    pair = [f"{levels[i]} becomes {outputs[i, pixel]:.4g}" for i in (back, back + 1)]
    return Flag("wrapped", f"pixel values come out of order: {pair[0]}, {pair[1]}")


def _saturated(levels: npt.NDArray[np.uint8], outputs: Floats) -> Flag | None:
    """Many pixel values become one."""
    columns = (np.unique(column, return_counts=True) for column in outputs.T)
    value, merged = max(((found[n.argmax()], int(n.max())) for found, n in columns), key=lambda each: each[1])
    if merged <= max(1, SATURATED_SHARE * len(levels)):
        return None
    return Flag("saturated", f"{merged} of {len(levels)} pixel values become {value:.4g}")


def _not_centered(mean: float, std: float) -> Flag | None:
    offset = abs(mean) / std if std else np.inf
    if not mean or offset <= NOT_CENTERED_OFFSET:
        return None
    return Flag("not centered", f"|mean| / std {offset:.2f}, above {NOT_CENTERED_OFFSET:g}")


def _unscaled(mean: float, std: float) -> Flag | None:
    size = float(np.hypot(mean, std))
    if 1 / UNSCALED <= size <= UNSCALED:
        return None
    return Flag("unscaled", f"root mean square {size:.3g}, not {1 / UNSCALED:g} to {UNSCALED:g}")
