"""How long an epoch of a recipe takes on this machine: times a short trial of each network shape; records nothing."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mnist_ablate.workloads.keras_mnist.data import Dataset
from mnist_ablate.workloads.keras_mnist.recipe import Recipe
from mnist_ablate.workloads.workload import Cost

PART = 10
"""The timed trial trains on every tenth image."""


def cost(dataset: Dataset, recipes: Sequence[Recipe]) -> Cost:
    """Seconds of one core for an epoch of each recipe on all images, and for missing features of frozen bases."""
    with _quiet():
        from mnist_ablate.workloads.keras_mnist.compiled_program import program_key
        from mnist_ablate.workloads.keras_mnist.trainer import Trainer

        trainer = Trainer(dataset.every(PART))
        shapes = {program_key(recipe): recipe for recipe in recipes}
        epoch_s = {shape: PART * trainer.epoch_seconds(recipe) for shape, recipe in shapes.items()}
        return Cost([epoch_s[program_key(recipe)] for recipe in recipes], _features_s(dataset, recipes))


def _features_s(dataset: Dataset, recipes: Sequence[Recipe]) -> float:
    """Seconds of one core for the features that no earlier trial has computed."""
    from mnist_ablate.workloads.keras_mnist.frozen_features import FeatureCache, image_seconds, input_source

    cache = FeatureCache(dataset)
    sources = {source for recipe in recipes if (source := input_source(recipe)).base}
    missing = {source: n for source in sources if (n := cache.missing(source))}
    image_s = {source.base: image_seconds(source, dataset.x_train) for source in missing}
    return sum(n * image_s[source.base] for source, n in missing.items())


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what TensorFlow's C++ parts write to file descriptor 2 at every log level."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
