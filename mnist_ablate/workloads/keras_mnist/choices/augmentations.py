"""Augmentations. Each function gets training images (n, height, width, channels) and a generator, and alters them.

What comes in at an edge continues the image's own edge, which on MNIST is background.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_ablate.workloads.keras_mnist.choices import choice

Images = npt.NDArray[Any]
MOST_CHANNELS = 4
"""What OpenCV warps."""
_SHIFT = 2 / 28  # of the size, in each direction
_DEGREES = 15.0
_SCALE = 1.1
_SMOOTHNESS, _STRENGTH = 4 / 28, 34 / 28  # of the size: sigma and alpha of Simard et al.
_AT_ONCE = 64  # images: their fields are the channels of one image, of which OpenCV takes 128


def _turned(images: Images, degrees: npt.ArrayLike, scales: npt.ArrayLike, shifts: npt.NDArray[np.float64]) -> Images:
    """Each image turned and scaled about its middle, then shifted (x, y) by shares of its size."""
    import cv2

    n, height, width = images.shape[:3]
    angle, scale = np.radians(np.broadcast_to(degrees, n)), np.broadcast_to(scales, n)
    turn = np.stack([scale * np.cos(angle), scale * np.sin(angle), -scale * np.sin(angle), scale * np.cos(angle)])
    turn = turn.T.reshape(n, 2, 2)
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    moved = middle - turn @ middle + shifts * (width, height)
    made = [
        cv2.warpAffine(image, each, (width, height), borderMode=cv2.BORDER_REPLICATE)
        for image, each in zip(images, np.concatenate([turn, moved[..., None]], axis=2), strict=True)
    ]
    return np.stack(made).reshape(images.shape)


def elastic(images: Images, rng: np.random.Generator) -> Images:
    """Pixels from places nearby, neighbors from neighboring ones: sigma 4, alpha 34 of 28 (Simard et al. 2003)."""
    import cv2

    height, width = images.shape[1:3]
    size = min(height, width)
    places = np.stack(np.meshgrid(np.arange(width), np.arange(height))).astype(np.float32)
    made = []
    for start in range(0, len(images), _AT_ONCE):
        part = images[start : start + _AT_ONCE]
        drawn = rng.random((height, width, 2 * len(part)), np.float32) * 2 - 1
        smooth = cv2.GaussianBlur(drawn, (0, 0), _SMOOTHNESS * size, borderType=cv2.BORDER_CONSTANT)
        fields = np.ascontiguousarray(smooth.transpose(2, 0, 1)).reshape(len(part), 2, height, width)
        for image, (x, y) in zip(part, places + _STRENGTH * size * fields, strict=True):
            made.append(cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    return np.stack(made).reshape(images.shape)


AUGMENTATIONS: dict[str, Callable[[Images, np.random.Generator], Images]] = {
    "none": choice("Images as they are.", lambda images, _rng: images),
    "shift": choice(
        "By up to 2 of 28 pixels in each direction.",
        lambda images, rng: _turned(images, 0.0, 1.0, rng.uniform(-_SHIFT, _SHIFT, (len(images), 2))),
    ),
    "rotate": choice(
        "By up to 15 degrees about the middle.",
        lambda images, rng: _turned(images, rng.uniform(-_DEGREES, _DEGREES, len(images)), 1.0, np.zeros(2)),
    ),
    "scale": choice(
        "From 1/1.1 to 1.1 times the size, even in logarithms.",
        lambda images, rng: _turned(
            images, 0.0, np.exp(rng.uniform(-1, 1, len(images)) * math.log(_SCALE)), np.zeros(2)
        ),
    ),
    "elastic": elastic,
}
