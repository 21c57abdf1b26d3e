"""Every choice of a recipe by setting and name. Importing it needs no Keras.

Entries get what they build with (`keras.ops`, `keras.optimizers`, the network so far) as arguments.
"""

from collections.abc import Mapping

from mnist_ablate.workloads.keras_mnist.choices.activations import ACTIVATIONS
from mnist_ablate.workloads.keras_mnist.choices.frozen_bases import WEIGHTS
from mnist_ablate.workloads.keras_mnist.choices.initializers import INITIALIZERS
from mnist_ablate.workloads.keras_mnist.choices.models import MODELS, Model
from mnist_ablate.workloads.keras_mnist.choices.norm_layers import NORM_LAYERS
from mnist_ablate.workloads.keras_mnist.choices.normalizers import NORMALIZERS
from mnist_ablate.workloads.keras_mnist.choices.optimizers import OPTIMIZERS

CHOICES: Mapping[str, Mapping[str, object]] = {
    "model": MODELS,
    "activation": ACTIVATIONS,
    "normalizer": NORMALIZERS,
    "optimizer": OPTIMIZERS,
    "norm_layer": NORM_LAYERS,
    "initializer": INITIALIZERS,
    "weights": WEIGHTS,
}


def summary(entry: object) -> str:
    """The first line of the docstring of an entry's function."""
    function = entry.build if isinstance(entry, Model) else entry
    return (function.__doc__ or "").strip().split("\n", 1)[0]
