"""The choices of every setting together, those that ship and those of users; draws and trains nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mnist_ablate.workloads.keras_mnist.choices.augmentations import AUGMENTATIONS
from mnist_ablate.workloads.keras_mnist.choices.layers import ACTIVATIONS, INITIALIZERS, NORM_LAYERS
from mnist_ablate.workloads.keras_mnist.choices.models import MODELS, Model
from mnist_ablate.workloads.keras_mnist.choices.normalizers import NORMALIZERS
from mnist_ablate.workloads.keras_mnist.choices.optimizers import OPTIMIZERS
from mnist_ablate.workloads.keras_mnist.choices.schedules import SCHEDULES

Function = Callable[..., Any]


@dataclass(frozen=True)
class Tables:
    """By setting, the functions that its names stand for; `keras_builders` are models that Keras's own layers make."""

    models: Mapping[str, Model]
    keras_builders: Mapping[str, Function]
    activations: Mapping[str, Function]
    normalizers: Mapping[str, Function]
    optimizers: Mapping[str, Function]
    norm_layers: Mapping[str, Function]
    initializers: Mapping[str, Function]
    schedules: Mapping[str, Function]
    augmentations: Mapping[str, Function]

    def with_own(self, own: Mapping[str, Mapping[str, Function]]) -> "Tables":
        """The same with more entries, by the name of their field."""
        return replace(self, **{field: {**getattr(self, field), **entries} for field, entries in own.items()})


SHIPPED = Tables(MODELS, {}, ACTIVATIONS, NORMALIZERS, OPTIMIZERS, NORM_LAYERS, INITIALIZERS, SCHEDULES, AUGMENTATIONS)
