"""Optimizers. Each function gets `keras.optimizers` and a learning rate whose default is the optimizer's own.

One that has a momentum takes that too, with its own as the default.
"""

import inspect
from collections.abc import Callable
from typing import Any

from mnist_ablate.workloads.keras_mnist.choices import choice


def article_sgd(optimizers: Any, learning_rate: float = 0.01, momentum: float = 0.9) -> Any:
    """The article's SGD: momentum 0.9, Nesterov, rate / (1 + 1e-6 * step)."""
    from keras import ops

    class DecayingSGD(optimizers.SGD):  # type: ignore[misc]  # the base comes in as an argument
        """SGD with the time decay of old Keras. Its rate stays a variable that can be assigned."""

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            decay = 1.0 + 1e-6 * ops.cast(self.iterations, "float32")
            super().update_step(gradient, variable, learning_rate / decay)

    return DecayingSGD(learning_rate, momentum=momentum, nesterov=True)


def _keras(name: str, learning_rate: float, summary: str, **settings: float) -> Callable[..., Any]:
    """An optimizer of Keras by the name of its class."""

    def build(optimizers: Any, learning_rate: float = learning_rate) -> Any:
        return getattr(optimizers, name)(learning_rate, **settings)

    return choice(summary, build)


def _with_momentum(name: str, learning_rate: float, summary: str) -> Callable[..., Any]:
    """The same of one that can have a momentum, and by itself has none."""

    def build(optimizers: Any, learning_rate: float = learning_rate, momentum: float = 0.0) -> Any:
        return getattr(optimizers, name)(learning_rate, momentum=momentum)

    return choice(summary, build)


OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "article_sgd": article_sgd,
    "sgd": _with_momentum("SGD", 0.01, "Plain stochastic gradient descent, no momentum."),
    "adam": _keras("Adam", 0.001, "Adam with Keras's defaults (Kingma and Ba 2014)."),
    "adamw": _keras(
        "AdamW", 0.001, "Adam with decoupled weight decay 0.004 (Loshchilov and Hutter 2017).", weight_decay=0.004
    ),
    "rmsprop": _with_momentum("RMSprop", 0.001, "RMSprop, discount 0.9 (Tieleman and Hinton 2012)."),
    "adagrad": _keras("Adagrad", 0.001, "Adagrad with Keras's initial accumulator 0.1 (Duchi et al. 2011)."),
    "lion": _keras("Lion", 0.001, "Lion: the sign of an interpolated momentum (Chen et al. 2023)."),
}


def takes_momentum(optimizer: Callable[..., Any]) -> bool:
    """Whether an optimizer has a momentum that can be set."""
    return "momentum" in inspect.signature(optimizer).parameters


def default_learning_rate(name: str) -> float:
    """The learning rate that optimizer `name` has when a recipe gives none."""
    return float(inspect.signature(OPTIMIZERS[name]).parameters["learning_rate"].default)
