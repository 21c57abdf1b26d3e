"""What hidden layers are made of: activations, normalization before them, and initial kernels. Biases start at zero."""

from collections.abc import Callable
from typing import Any

from mnist_ablate.workloads.keras_mnist.choices import choice

ACTIVATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "relu": choice("max(0, x): the article's choice for networks 2 to 4.", lambda ops, x: ops.relu(x)),
    "tanh": choice("Hyperbolic tangent: the article's choice for network 1.", lambda ops, x: ops.tanh(x)),
    "sigmoid": choice("1 / (1 + exp(-x)).", lambda ops, x: ops.sigmoid(x)),
    "elu": choice("x above zero, exp(x) - 1 below (Clevert et al. 2015).", lambda ops, x: ops.elu(x)),
    "selu": choice(
        "Scaled elu that keeps mean 0 and variance 1 under its assumptions (Klambauer et al. 2017).",
        lambda ops, x: ops.selu(x),
    ),
    "gelu": choice(
        "x times the normal distribution function at x, exact form (Hendrycks and Gimpel 2016).",
        lambda ops, x: ops.gelu(x, approximate=False),
    ),
    "leaky_relu": choice(
        "x above zero, 0.2 x below (Maas et al. 2013; the slope is Keras's default).",
        lambda ops, x: ops.leaky_relu(x, negative_slope=0.2),
    ),
    "silu": choice("x times sigmoid(x), also called swish (Ramachandran et al. 2017).", lambda ops, x: ops.silu(x)),
}
"""Each gets `keras.ops` and the pre-activations, of any shape."""

NORM_LAYERS: dict[str, Callable[[Any, str], Any]] = {
    "none": choice("No layer: what the article does.", lambda _layers, _name: None),
    "batch_norm": choice(
        "Batch normalization with Keras's defaults (Ioffe and Szegedy 2015).",
        lambda layers, name: layers.BatchNormalization(name=name),
    ),
    "layer_norm": choice(
        "Layer normalization over the last axis with Keras's defaults (Ba et al. 2016).",
        lambda layers, name: layers.LayerNormalization(name=name),
    ),
}
"""Between a hidden layer and its activation. Each gets `keras.layers` and the name of the layer."""

INITIALIZERS: dict[str, Callable[[Any, int], Any]] = {
    "glorot_uniform": choice(
        "Uniform, variance 2 / (fan in + fan out): Keras's default (Glorot and Bengio 2010).",
        lambda initializers, seed: initializers.GlorotUniform(seed),
    ),
    "glorot_normal": choice(
        "Truncated normal, variance 2 / (fan in + fan out) (Glorot and Bengio 2010).",
        lambda initializers, seed: initializers.GlorotNormal(seed),
    ),
    "he_uniform": choice(
        "Uniform, variance 2 / fan in: made for relu (He et al. 2015).",
        lambda initializers, seed: initializers.HeUniform(seed),
    ),
    "he_normal": choice(
        "Truncated normal, variance 2 / fan in: made for relu (He et al. 2015).",
        lambda initializers, seed: initializers.HeNormal(seed),
    ),
    "lecun_normal": choice(
        "Truncated normal, variance 1 / fan in: made for selu (LeCun et al. 1998).",
        lambda initializers, seed: initializers.LecunNormal(seed),
    ),
}
"""Each gets `keras.initializers` and a seed."""
