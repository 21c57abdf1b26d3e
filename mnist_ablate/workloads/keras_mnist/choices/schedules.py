"""Schedules of the learning rate. Each function gets the `Steps` of an epoch and returns a factor for each of them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mnist_ablate.workloads.keras_mnist.choices import choice

Floats = npt.NDArray[np.float64]


class Steps(NamedTuple):
    """Where the steps of an epoch stand: `done` (n,), the epochs passed before each, of `epochs` that are planned."""

    done: Floats
    epochs: int


SCHEDULES: dict[str, Callable[[Steps], Floats]] = {
    "constant": choice("The same learning rate at every step.", lambda steps: np.ones(len(steps.done))),
    "step": choice(
        "A tenth of the rate after half of all steps, a hundredth after three quarters (He et al. 2016).",
        lambda steps: np.select([steps.done < steps.epochs / 2, steps.done < 0.75 * steps.epochs], [1.0, 0.1], 0.01),
    ),
    "cosine": choice(
        "Half a cosine, from the rate at the first step towards 0 at the last (Loshchilov and Hutter 2016).",
        lambda steps: (1.0 + np.cos(np.pi * steps.done / steps.epochs)) / 2.0,
    ),
    "warm_up": choice(
        "Rises evenly to the rate within the first epoch, then stays (Goyal et al. 2017).",
        lambda steps: np.minimum(1.0, steps.done + 1.0 / len(steps.done)),
    ),
}
WHATEVER_FOLLOWS = frozenset({"constant", "warm_up"})
"""Those that do not look at the number of epochs: a longer training passes through the outcome of a shorter one."""
