"""The old place of `tracking.registered_model`, which models registered by version 0.1.0 name."""

from mnist_ablate.tracking.registered_model import _load_pyfunc

__all__ = ["_load_pyfunc"]
