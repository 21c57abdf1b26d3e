"""Frozen bases: networks that turn each image into features once. A trial trains a head on these features."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CHANNELS = 3


@dataclass(frozen=True)
class Base:
    """`build` gets `keras` and an input shape. Images are resized to `size` x `size`, and gray becomes three channels.

    `outputs` is the shape of an image's features.
    """

    build: Callable[[Any, tuple[int, int, int]], Any]
    size: int
    outputs: tuple[int, ...]

    @property
    def inputs(self) -> tuple[int, int, int]:
        """The shape of an image as the base sees it."""
        return self.size, self.size, CHANNELS


def vgg16(keras: Any, shape: tuple[int, int, int]) -> Any:
    """VGG16 without its top: thirteen convolutions, five poolings (Simonyan and Zisserman 2014)."""
    return keras.applications.VGG16(include_top=False, weights=None, input_shape=shape)


BASES: dict[str, Base] = {
    "vgg16": Base(vgg16, size=48, outputs=(1, 1, 512)),
}
