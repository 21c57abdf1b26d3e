"""What explains a result: input statistics and units that never or always fire; judges nothing."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_ablate.workloads.keras_mnist.backend import tf


def input_statistics(inputs: npt.NDArray[np.float32]) -> dict[str, float]:
    """Of normalized images (n, ...): min, max, mean, std, |mean| / std, and the mean squared norm of an image."""
    flat = inputs.reshape(len(inputs), -1)
    mean, square = float(flat.mean(dtype=np.float64)), float(np.vdot(flat, flat)) / flat.size
    std = max(square - mean**2, 0.0) ** 0.5
    return {
        "input_min": float(flat.min()),
        "input_max": float(flat.max()),
        "input_mean": mean,
        "input_std": std,
        "input_offset": abs(mean) / std if std else 0.0,
        "input_energy": square * flat.shape[1],
    }


def unit_fractions(preactivations: Mapping[str, Any]) -> dict[str, Any]:
    """From each hidden layer's pre-activations (n, ..., units): the fractions of dead and of always-on units.

    A unit (for a convolution, a channel) is dead if its pre-activation is positive for no image, always on
    if for all: relu turns the first into a constant and the second into a linear unit.
    """
    fractions = {}
    for layer, values in preactivations.items():
        positive = values > 0.0
        axes = list(range(len(values.shape) - 1))
        fractions[f"dead_{layer}"] = _fraction(tf.logical_not(tf.reduce_any(positive, axes)))
        fractions[f"always_on_{layer}"] = _fraction(tf.reduce_all(positive, axes))
    return fractions


def _fraction(flags: Any) -> Any:
    return tf.reduce_mean(tf.cast(flags, tf.float32))
