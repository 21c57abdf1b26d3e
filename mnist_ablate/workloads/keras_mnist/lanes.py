"""One compiled program that trains several trials of a shape at once, each in a lane of its own; loads no data."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from keras.src.backend.tensorflow.optimizer import TFOptimizer
from keras.src.optimizers.base_optimizer import BaseOptimizer

from mnist_ablate.workloads.keras_mnist.backend import keras, tf
from mnist_ablate.workloads.keras_mnist.compiled_program import Program
from mnist_ablate.workloads.keras_mnist.dropout_masks import BITS
from mnist_ablate.workloads.keras_mnist.recipe import Recipe

Array = npt.NDArray[Any]
State = list[Any]
"""Every variable of a program, by lane: tensors (lanes, ...)."""


class LaneEpoch(NamedTuple):
    """What the lanes are fed in an epoch: images float32 (n, ...), their labels, and by lane what it takes of them.

    `order` is int32 (lanes, images of an epoch). `masks` are uint8 (lanes, batches, bytes) for each dropout layer,
    packed by batch. `rates` are float32 (lanes, batches), None if learning rates stay.
    """

    images: Any
    labels: Any
    order: Any
    masks: Sequence[Any]
    rates: Any


class LaneProgram(Program):
    """A program whose epoch trains lanes: every variable has their number as its leading axis, and a value for each.

    All else is as in a program alone: `reset`, `evaluate` and `probe` go by its own variables. `put` gives them the
    values of a lane.
    """

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        smoothing = [] if self._smoothing is None else [self._smoothing]
        self._variables = [
            *self.model.variables,
            *self.optimizer.variables,
            *smoothing,
        ]  # weight decay is an optimizer's
        self._lanes_epoch = tf.function(self._run_lanes, jit_compile=self.compiled, autograph=self._converts)

    def begun(self) -> list[Array]:
        """The values of all variables, to begin a lane with."""
        return [variable.numpy() for variable in self._variables]

    def put(self, state: State, lane: int) -> None:
        """Give the variables the values of a lane."""
        for variable, values in zip(self._variables, state, strict=True):
            variable.assign(values[lane])

    def epoch_of_lanes(self, state: State, given: LaneEpoch) -> tuple[State, Array, Array]:
        """One pass of every lane: the state after it, and by lane the mean loss and accuracy while training."""
        state, loss, correct = self._lanes_epoch(state, given)
        return state, *(each.numpy().astype(np.float64) / given.order.shape[1] for each in (loss, correct))

    def _new_optimizer(self, shape: Recipe) -> Any:
        """That of Keras without what is TensorFlow's own in it, which changes real variables alone."""
        optimizer = super()._new_optimizer(shape)
        names = [name for name in vars(TFOptimizer) if hasattr(BaseOptimizer, name) and not name.startswith("__")]
        kind = type(optimizer)
        optimizer.__class__ = type(kind.__name__, (kind,), {name: getattr(BaseOptimizer, name) for name in names})
        return optimizer

    def _with_values(self, values: State) -> AbstractContextManager[Any]:
        """Inside it, the variables have these values, and what is assigned to them stays there."""
        scope: AbstractContextManager[Any] = keras.StatelessScope(
            state_mapping=[*zip(self._variables, values, strict=True)]
        )
        return scope

    def _run_lanes(self, state: State, epoch: LaneEpoch) -> tuple[State, Any, Any]:
        images, labels, order, masks, rates = epoch
        size = self.batch_size
        lanes, n = order.shape
        steps, rest = divmod(n, size)

        def step(i: Any, rows: int, state: State, loss: Any, correct: Any) -> tuple[State, Any, Any]:
            index = tf.slice(order, [0, i * size], [lanes, rows])

            def of_lane(lane: Any) -> tuple[State, Any, Any]:
                values, x, y, packed, rate = lane
                batch_masks = [_unpacked(*each, rows) for each in zip(packed, self.network.mask_units, strict=True)]
                with self._with_values(values):
                    if rates is not None:
                        self.optimizer.learning_rate.assign(rate)
                    batch_loss, batch_correct = self._step(x, y, batch_masks, None)
                    return [variable.value for variable in self._variables], batch_loss, batch_correct

            rate = tf.zeros(lanes) if rates is None else rates[:, i]
            lanes_of_step = (
                state,
                tf.gather(images, index),
                tf.gather(labels, index),
                [mask[:, i] for mask in masks],
                rate,
            )
            state, batch_loss, batch_correct = tf.vectorized_map(of_lane, lanes_of_step, fallback_to_while_loop=False)
            return state, loss + batch_loss, correct + batch_correct

        sums = tf.zeros(lanes), tf.zeros(lanes)
        if not steps:
            return step(0, rest, state, *sums)

        def body(i: Any, *reached: Any) -> tuple[Any, ...]:
            return (i + 1, *step(i, size, *reached))

        _, *reached = tf.while_loop(lambda i, *_: i < steps, body, (0, state, *sums), parallel_iterations=1)
        return step(steps, rest, *reached) if rest else tuple(reached)


def stacked(lanes: Sequence[Sequence[Array]]) -> State:
    """The state of lanes that begin with these values."""
    return [tf.constant(np.stack(values)) for values in zip(*lanes, strict=True)]


def _unpacked(packed: Any, units: int, rows: int) -> Any:
    """Bool (rows, units) of the first bits of uint8 (bytes,)."""
    places = tf.constant([128 >> place for place in range(BITS)], tf.uint8)
    bits = tf.reshape(tf.bitwise.bitwise_and(packed[:, None], places), [-1])[: rows * units]
    return tf.reshape(tf.not_equal(bits, 0), (rows, units))


def lanes_of(trainings: int) -> int:
    """How many lanes are computed for so many trainings: the next power of two, so that few programs are compiled."""
    return 1 << (trainings - 1).bit_length()
