"""Activations of the hidden layers. Each function gets `keras.ops` and the pre-activations, of any shape."""

from collections.abc import Callable
from typing import Any


def relu(ops: Any, x: Any) -> Any:
    """max(0, x): the article's choice for networks 2 to 4."""
    return ops.relu(x)


def tanh(ops: Any, x: Any) -> Any:
    """Hyperbolic tangent: the article's choice for network 1."""
    return ops.tanh(x)


def sigmoid(ops: Any, x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return ops.sigmoid(x)


def elu(ops: Any, x: Any) -> Any:
    """x above zero, exp(x) - 1 below (Clevert et al. 2015)."""
    return ops.elu(x)


def selu(ops: Any, x: Any) -> Any:
    """Scaled elu that keeps mean 0 and variance 1 under its assumptions (Klambauer et al. 2017)."""
    return ops.selu(x)


def gelu(ops: Any, x: Any) -> Any:
    """x times the normal distribution function at x, exact form (Hendrycks and Gimpel 2016)."""
    return ops.gelu(x, approximate=False)


def leaky_relu(ops: Any, x: Any) -> Any:
    """x above zero, 0.2 x below (Maas et al. 2013; the slope is Keras's default)."""
    return ops.leaky_relu(x, negative_slope=0.2)


def silu(ops: Any, x: Any) -> Any:
    """x times sigmoid(x), also called swish (Ramachandran et al. 2017)."""
    return ops.silu(x)


ACTIVATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "relu": relu,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "elu": elu,
    "selu": selu,
    "gelu": gelu,
    "leaky_relu": leaky_relu,
    "silu": silu,
}
