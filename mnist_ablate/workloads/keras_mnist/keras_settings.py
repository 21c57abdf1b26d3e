"""How Keras and TensorFlow are set in our processes, whatever variables the user has. Imports neither of them."""

import os
import sys

from mnist_ablate.environment import override
from mnist_ablate.workloads.keras_mnist.program_cache import xla_flags

BACKEND = "tensorflow"
_PREFIXES = ("DNNL_", "KERAS_", "ONEDNN_", "TF_", "XLA_")
_HARMLESS = ("KERAS_HOME", "TF_CPP_", "TF_FORCE_GPU_ALLOW_GROWTH")


def override_environment() -> None:
    """Set what must be set before Keras or TensorFlow is imported, and remove what may change numbers."""
    users = [name for name in os.environ if name.startswith(_PREFIXES) and not name.startswith(_HARMLESS)]
    # oneDNN is on by default with AVX-512 only; without it a convolutional epoch takes 1.5 times as long.
    override({**dict.fromkeys(users), "KERAS_BACKEND": BACKEND, "TF_ENABLE_ONEDNN_OPTS": "1", **xla_flags()})


def other_backend() -> str:
    """The backend that Keras has in this process already, if it is another one. Else empty."""
    keras = sys.modules.get("keras")
    found = str(keras.backend.backend()) if keras is not None else BACKEND
    return "" if found == BACKEND else found
