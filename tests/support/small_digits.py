"""A few hundred real images, for tests that train in a second."""

import dataclasses

from mnist_ablate.workloads.keras_mnist import data
from mnist_ablate.workloads.keras_mnist.data import Dataset


def small(train: int = 300, val: int = 100, test: int = 100) -> Dataset:
    full, counts = data.load(), {"train": train, "val": val, "test": test}
    parts = {f"{axis}_{part}": count for part, count in counts.items() for axis in "xy"}
    return dataclasses.replace(full, **{name: getattr(full, name)[:count] for name, count in parts.items()})
