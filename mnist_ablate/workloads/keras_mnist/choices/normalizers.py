"""Normalizers. Each function gets the training images and returns a transform of uint8 images, 0-255, to float32.

Statistics are fitted on the training images only. /256 and 127 are the article's numbers.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mnist_ablate.workloads.keras_mnist.choices import choice

Images = npt.NDArray[np.uint8]
Inputs = npt.NDArray[np.float32]
Transform = Callable[[Images], Inputs]


def _affine(scale: float, shift: float = 0.0) -> Transform:
    """images * scale + shift, in float32 and in place."""

    def transform(images: Images) -> Inputs:
        inputs = images.astype(np.float32)
        inputs *= np.float32(scale)
        if shift:
            inputs += np.float32(shift)
        return inputs

    return transform


def standardized(train: Images) -> Transform:
    """(x - mean) / std over all training pixels: truly centered, unit variance."""
    mean, std = float(train.mean()), float(train.std())
    return _affine(1 / std, -mean / std) if std else _affine(1.0, -mean)


def pixelwise(train: Images) -> Transform:
    """(x - mean image) / 256: every pixel centered over the training images."""
    mean = train.mean(axis=0, dtype=np.float64).astype(np.float32)
    return lambda images: (images.astype(np.float32) - mean) / np.float32(256)


def saturated(_train: Images) -> Transform:
    """cv2.subtract(x, 127) / 127: dark pixels stop at zero instead of wrapping around."""

    def transform(images: Images) -> Inputs:
        import cv2

        rest = cv2.subtract(images.reshape(len(images), -1), 127.0)
        inputs: Inputs = rest.reshape(images.shape) / np.float32(127)
        return inputs

    return transform


NORMALIZERS: dict[str, Callable[[Images], Transform]] = {
    "raw": choice("Pixels as they are, 0 to 255.", lambda _train: _affine(1.0)),
    "unit": choice("x / 256: the article's scaling.", lambda _train: _affine(1 / 256)),
    "centered": choice(
        "(x - 127) / 127 in floating point: what the article's line means to do.",
        lambda _train: lambda images: (images.astype(np.float32) - np.float32(127)) / np.float32(127),
    ),
    "centered_uint8": choice(
        "(X - 127) / 127 exactly as printed: uint8 arithmetic, so 0 becomes 129 / 127.",
        lambda _train: lambda images: ((images - np.uint8(127)) / 127).astype(np.float32),
    ),
    "standardized": standardized,
    "pixelwise": pixelwise,
    "shifted": choice(
        "(x - 127) / 256: the shift of `centered` at the scale of `unit`.",
        lambda _train: _affine(1 / 256, -127 / 256),
    ),
    "scaled": choice("x / 127: the scale of `centered` without its shift.", lambda _train: _affine(1 / 127)),
    "inverted": choice(
        "1 - x / 256: all positive, with the white background of a negative.", lambda _train: _affine(-1 / 256, 1.0)
    ),
    "saturated": saturated,
}
