"""Networks as the article draws them; each gets a `network.Builder` and the input, and returns logits."""

from collections.abc import Callable
from typing import Any


def mlp(net: Any, x: Any) -> Any:
    """784-500-10 with one dropout."""
    x = net.dropout(net.hidden(net.flatten(x)))
    return net.logits(x)


def mlp_relu(net: Any, x: Any) -> Any:
    """The article's network 2 as printed: one Dense 500, then two dropouts (two Dense lines are missing)."""
    x = net.dropout(net.hidden(net.flatten(x)))
    x = net.activate(net.dropout(net.activate(x)))
    return net.logits(x)


def mlp3(net: Any, x: Any) -> Any:
    """Three Dense 500, dropout after the first two: network 1 (tanh) and the evident intent of network 2 (relu)."""
    x = net.dropout(net.hidden(net.flatten(x)))
    x = net.dropout(net.hidden(x))
    return net.logits(net.hidden(x))


def cnn(net: Any, x: Any) -> Any:
    """The article's network 3: two 3x3 convolutions of 32, pooling, three Dense 500, two dropouts."""
    x = net.flatten(net.max_pool(net.conv(net.conv(x, 32), 32)))
    x = net.dropout(net.hidden(x))
    x = net.dropout(net.hidden(x))
    return net.logits(net.hidden(x))


def vgg16(net: Any, x: Any) -> Any:
    """The article's network 4: frozen VGG16 of 48x48 images, two Dense 500, one dropout; see weights."""
    x = net.hidden(net.flatten(net.frozen(x)))
    return net.logits(net.dropout(net.hidden(x)))


MODELS: dict[str, Callable[[Any, Any], Any]] = {
    "mlp": mlp,
    "mlp_relu": mlp_relu,
    "mlp3": mlp3,
    "cnn": cnn,
    "vgg16": vgg16,
}

FROZEN: dict[str, str] = {"vgg16": "vgg16"}
"""The base in `bases.py` that a model stands on: it gets the base's features, computed once, in place of images."""


CONVOLUTIONAL = frozenset({"cnn"})
"""Models whose epoch stays a plain graph: XLA's convolutions take many times longer than oneDNN's."""


def is_used(setting: str, model: str) -> bool:
    """Whether a setting of a recipe has a meaning for its model: weights have none without a frozen base."""
    return setting != "weights" or model in FROZEN
