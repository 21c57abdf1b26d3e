"""Networks as the article draws them. Each function gets the `network.Network` and the input, and returns logits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Model:
    """How a network is built, the filters of a first convolution, and the entry of `BASES` whose features it gets.

    Images of less than `smallest` pixels in height or width leave it nothing. `any_depth`: its number of hidden layers
    is a setting.
    """

    build: Callable[[Any, Any], Any]
    filters: int = 0
    frozen_base: str = ""
    smallest: int = 1
    any_depth: bool = False


def mlp(net: Any, x: Any) -> Any:
    """784-500-10 with one dropout; see depth."""
    x = net.flatten(x)
    for _layer in range(net.depth):
        x = net.dropout(net.hidden(x))
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


def linear(net: Any, x: Any) -> Any:
    """784-10: no hidden layer, a logistic regression."""
    return net.logits(net.flatten(x))


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


MODELS: dict[str, Model] = {
    "mlp": Model(mlp, any_depth=True),
    "mlp_relu": Model(mlp_relu),
    "mlp3": Model(mlp3),
    "linear": Model(linear),
    "cnn": Model(cnn, filters=32, smallest=6),
    "vgg16": Model(vgg16, frozen_base="vgg16"),
}
