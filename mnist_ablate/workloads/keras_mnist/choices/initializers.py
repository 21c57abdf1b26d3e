"""Initial kernels. Each function gets `keras.initializers` and a seed. Biases start at zero."""

from collections.abc import Callable
from typing import Any


def glorot_uniform(initializers: Any, seed: int) -> Any:
    """Uniform, variance 2 / (fan in + fan out): Keras's default (Glorot and Bengio 2010)."""
    return initializers.GlorotUniform(seed)


def glorot_normal(initializers: Any, seed: int) -> Any:
    """Truncated normal, variance 2 / (fan in + fan out) (Glorot and Bengio 2010)."""
    return initializers.GlorotNormal(seed)


def he_uniform(initializers: Any, seed: int) -> Any:
    """Uniform, variance 2 / fan in: made for relu (He et al. 2015)."""
    return initializers.HeUniform(seed)


def he_normal(initializers: Any, seed: int) -> Any:
    """Truncated normal, variance 2 / fan in: made for relu (He et al. 2015)."""
    return initializers.HeNormal(seed)


def lecun_normal(initializers: Any, seed: int) -> Any:
    """Truncated normal, variance 1 / fan in: made for selu (LeCun et al. 1998)."""
    return initializers.LecunNormal(seed)


INITIALIZERS: dict[str, Callable[[Any, int], Any]] = {
    "glorot_uniform": glorot_uniform,
    "glorot_normal": glorot_normal,
    "he_uniform": he_uniform,
    "he_normal": he_normal,
    "lecun_normal": lecun_normal,
}
