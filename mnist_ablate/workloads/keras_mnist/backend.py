"""TensorFlow and Keras, set up the same for every trial. Import them from here; builds and trains nothing."""

import contextlib
import os
import sys
from collections.abc import Iterator

os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"  # by default on with AVX-512 only; without, a convolutional epoch takes 1.5x

_NOT_NEEDED = ("pandas", "sklearn", "matplotlib")


@contextlib.contextmanager
def _without(modules: tuple[str, ...]) -> Iterator[None]:
    """Hide modules that keras imports only if they are installed. They cost each worker 2 s."""
    hidden = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None marks a module as absent
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with _without(_NOT_NEEDED):
    import keras
    import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)

__all__ = ["keras", "tf"]
