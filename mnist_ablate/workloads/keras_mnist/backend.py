"""TensorFlow and Keras, set up the same for every trial. Import them from here; builds and trains nothing."""

import gc
import sys
from pathlib import Path

from mnist_ablate.errors import AblateError
from mnist_ablate.workloads.keras_mnist.keras_settings import BACKEND, other_backend, override_environment

override_environment()
_hidden = [name for name in ("pandas", "sklearn", "matplotlib") if name not in sys.modules]
"""Modules that keras imports only if they are installed. They cost each worker 2 s."""
sys.modules.update(dict.fromkeys(_hidden))  # type: ignore[arg-type]  # None marks a module as absent
_collects = gc.isenabled()
gc.disable()  # the collector takes a third of the import, and later looks again and again at what the import made
try:
    import keras
    import tensorflow as tf
finally:
    gc.freeze()
    if _collects:
        gc.enable()
    for _name in _hidden:
        del sys.modules[_name]

if _other := other_backend():
    raise AblateError(f"keras runs on {_other} in this process: train where it is not imported, or on {BACKEND}")
# keras.json of the user may say otherwise.
keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)
keras.config.set_image_data_format("channels_last")
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
# To ask for GPUs makes TensorFlow read its switches, which a copy of this process may still set: see `program_cache`.
GPUS = tf.config.list_physical_devices("GPU") if [*Path("/dev").glob("nvidia[0-9]*")] else []
if GPUS:
    for _gpu in GPUS:
        tf.config.experimental.set_memory_growth(_gpu, enable=True)  # else one process takes all of it
    tf.config.experimental.enable_op_determinism()  # one that sums in any order would not repeat itself
    tf.config.experimental.enable_tensor_float_32_execution(enabled=False)  # 10 bits in place of 23

__all__ = ["GPUS", "keras", "tf"]
