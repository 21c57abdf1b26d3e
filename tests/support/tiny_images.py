"""A data file of tiny images, and the folder that workers import the fake trainer from."""

from pathlib import Path

import numpy as np

SUPPORT = Path(__file__).parent


def write_images(path: Path, seed: int = 0) -> Path:
    """A data file of 20 training and 10 test images of 4 x 4 pixels."""
    rng = np.random.default_rng(seed)
    np.savez(
        path,
        x_train=rng.integers(0, 256, (20, 4, 4), dtype=np.uint8),
        y_train=np.arange(20, dtype=np.uint8) % 10,
        x_test=rng.integers(0, 256, (10, 4, 4), dtype=np.uint8),
        y_test=np.arange(10, dtype=np.uint8),
    )
    return path
