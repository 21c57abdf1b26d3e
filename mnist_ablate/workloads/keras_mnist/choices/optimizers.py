"""Optimizers. Each function gets `keras.optimizers` and a learning rate whose default is the optimizer's own."""

import inspect
from collections.abc import Callable
from typing import Any


def article_sgd(optimizers: Any, learning_rate: float = 0.01) -> Any:
    """The article's SGD: momentum 0.9, Nesterov, rate / (1 + 1e-6 * step)."""
    from keras import ops

    class DecayingSGD(optimizers.SGD):  # type: ignore[misc]  # the base comes in as an argument
        """SGD with the time decay of old Keras. Its rate stays a variable that can be assigned."""

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            decay = 1.0 + 1e-6 * ops.cast(self.iterations, "float32")
            super().update_step(gradient, variable, learning_rate / decay)

    return DecayingSGD(learning_rate, momentum=0.9, nesterov=True)


def sgd(optimizers: Any, learning_rate: float = 0.01) -> Any:
    """Plain stochastic gradient descent, no momentum."""
    return optimizers.SGD(learning_rate)


def adam(optimizers: Any, learning_rate: float = 0.001) -> Any:
    """Adam with Keras's defaults (Kingma and Ba 2014)."""
    return optimizers.Adam(learning_rate)


def adamw(optimizers: Any, learning_rate: float = 0.001) -> Any:
    """Adam with decoupled weight decay 0.004 (Loshchilov and Hutter 2017)."""
    return optimizers.AdamW(learning_rate, weight_decay=0.004)


def rmsprop(optimizers: Any, learning_rate: float = 0.001) -> Any:
    """RMSprop, discount 0.9 (Tieleman and Hinton 2012)."""
    return optimizers.RMSprop(learning_rate)


def adagrad(optimizers: Any, learning_rate: float = 0.001) -> Any:
    """Adagrad with Keras's initial accumulator 0.1 (Duchi et al. 2011)."""
    return optimizers.Adagrad(learning_rate)


def lion(optimizers: Any, learning_rate: float = 0.001) -> Any:
    """Lion: the sign of an interpolated momentum (Chen et al. 2023)."""
    return optimizers.Lion(learning_rate)


OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "article_sgd": article_sgd,
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
    "rmsprop": rmsprop,
    "adagrad": adagrad,
    "lion": lion,
}


def default_learning_rate(name: str) -> float:
    """The learning rate that optimizer `name` has when a recipe gives none."""
    rate: float = inspect.signature(OPTIMIZERS[name]).parameters["learning_rate"].default
    return rate
