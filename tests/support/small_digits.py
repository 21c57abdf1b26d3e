"""A few hundred real images, for tests that train in a second."""

import dataclasses

from mnist_ablate.workloads.keras_mnist import data
from mnist_ablate.workloads.keras_mnist.data import Dataset


def small(train: int = 300, val: int = 100, test: int = 100) -> Dataset:
    full = data.load()
    return dataclasses.replace(
        full,
        x_train=full.x_train[:train],
        y_train=full.y_train[:train],
        x_val=full.x_val[:val],
        y_val=full.y_val[:val],
        x_test=full.x_test[:test],
        y_test=full.y_test[:test],
    )
