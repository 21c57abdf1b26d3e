"""TensorFlow and Keras, set up the same for every trial. Import them from here; builds and trains nothing."""

import os
import sys

os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"  # by default on with AVX-512 only; without, a convolutional epoch takes 1.5x

_hidden = [name for name in ("pandas", "sklearn", "matplotlib") if name not in sys.modules]
"""Modules that keras imports only if they are installed. They cost each worker 2 s."""
sys.modules.update(dict.fromkeys(_hidden))  # type: ignore[arg-type]  # None marks a module as absent
try:
    import keras
    import tensorflow as tf
finally:
    for _name in _hidden:
        del sys.modules[_name]

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)

__all__ = ["keras", "tf"]
