"""How long an epoch of a recipe takes here: times one short trial of each network shape. Records nothing."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mnist_ablate.workloads.keras_mnist.data import Digits
from mnist_ablate.workloads.keras_mnist.recipe import Recipe
from mnist_ablate.workloads.workload import Cost

PART = 10
"""The timed trial trains on every tenth image."""


def cost(digits: Digits, recipes: Sequence[Recipe]) -> Cost:
    """Seconds of one core for an epoch of each recipe on all images, and for missing features of frozen bases."""
    with _quiet():
        from mnist_ablate.workloads.keras_mnist.compiled_program import shape_of
        from mnist_ablate.workloads.keras_mnist.trainer import Trainer

        trainer = Trainer(_part(digits))
        shapes = {shape_of(recipe): recipe for recipe in recipes}
        epoch_s = {shape: PART * trainer.epoch_seconds(recipe) for shape, recipe in shapes.items()}
        return Cost([epoch_s[shape_of(recipe)] for recipe in recipes], _features_s(digits, recipes))


def _features_s(digits: Digits, recipes: Sequence[Recipe]) -> float:
    """Seconds of one core for what no earlier trial has computed."""
    from mnist_ablate.workloads.keras_mnist.extractor import image_seconds, source_of
    from mnist_ablate.workloads.keras_mnist.features import Store

    store = Store(digits)
    sources = {source for recipe in recipes if (source := source_of(recipe)).base}
    missing = {source: n for source in sources if (n := store.missing(source))}
    image_s = {source.base: image_seconds(source, digits.x_train) for source in missing}
    return sum(n * image_s[source.base] for source, n in missing.items())


@contextmanager
def _quiet() -> Iterator[None]:
    """TensorFlow's C++ parts write to file descriptor 2, whatever its log level says."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _part(digits: Digits) -> Digits:
    return dataclasses.replace(
        digits,
        x_train=digits.x_train[::PART],
        y_train=digits.y_train[::PART],
        x_val=digits.x_val[::PART],
        y_val=digits.y_val[::PART],
        x_test=digits.x_test[::PART],
        y_test=digits.y_test[::PART],
    )
