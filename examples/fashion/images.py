"""A part of Debian's Fashion-MNIST (package dataset-fashion-mnist): small enough for a sweep of two minutes."""

import gzip
from pathlib import Path

import numpy as np

FOLDER = Path("/usr/share/datasets/fashion-mnist")


def part():
    """The first 3,000 training images, 1,000 of the others for validation, and 2,000 test images."""
    (train, y_train), (test, y_test) = (read(name) for name in ("train", "t10k"))
    return {
        "x_train": train[:3000],
        "y_train": y_train[:3000],
        "x_val": train[3000:4000],
        "y_val": y_train[3000:4000],
        "x_test": test[:2000],
        "y_test": y_test[:2000],
    }


def read(name):
    """Images and labels of a split, from its IDX files."""
    images = gzip.decompress((FOLDER / f"{name}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((FOLDER / f"{name}-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28), np.frombuffer(labels, np.uint8, offset=8)
