"""Normalization between a hidden layer and its activation. Each function gets `keras.layers` and the layer's name."""

from collections.abc import Callable
from typing import Any


def none(_layers: Any, _name: str) -> None:
    """No layer: what the article does."""


def batch_norm(layers: Any, name: str) -> Any:
    """Batch normalization with Keras's defaults (Ioffe and Szegedy 2015)."""
    return layers.BatchNormalization(name=name)


def layer_norm(layers: Any, name: str) -> Any:
    """Layer normalization over the last axis with Keras's defaults (Ba et al. 2016)."""
    return layers.LayerNormalization(name=name)


NORM_LAYERS: dict[str, Callable[[Any, str], Any]] = {
    "none": none,
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
}
