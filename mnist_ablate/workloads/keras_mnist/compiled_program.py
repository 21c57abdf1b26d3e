"""One compiled training program per network shape, reused by every trial of that shape; loads no data."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mnist_ablate.workloads.keras_mnist.active_pixels import Columns
from mnist_ablate.workloads.keras_mnist.backend import GPUS, keras, tf
from mnist_ablate.workloads.keras_mnist.choices.optimizers import takes_momentum
from mnist_ablate.workloads.keras_mnist.choices.schedules import Steps
from mnist_ablate.workloads.keras_mnist.choices.tables import SHIPPED, Tables
from mnist_ablate.workloads.keras_mnist.costs import multiply_adds
from mnist_ablate.workloads.keras_mnist.keras_network import KerasNetwork
from mnist_ablate.workloads.keras_mnist.network import Dense, MaskedDropout, Network
from mnist_ablate.workloads.keras_mnist.own_choices import ChoiceError
from mnist_ablate.workloads.keras_mnist.recipe import Recipe


class EvaluationBatch(NamedTuple):
    """A part of a split that fits one evaluation call: images float32 (rows, ...), labels int32 (rows,).

    With `index` int32 (columns,), `images` float32 (rows, columns) are these columns of their difference from the
    background; other columns are zero. Then `background` is float32 (inputs,), or None if it is zero.
    """

    images: Any
    labels: Any
    index: Any = None
    background: Any = None


def random_stream(seed: int, use: str) -> np.random.Generator:
    """The random stream of a seed for one use: a kernel, a mask, the shuffle. No two uses share draws."""
    words = np.frombuffer(hashlib.sha256(use.encode()).digest(), np.uint32)
    return np.random.Generator(np.random.SFC64([seed, *map(int, words)]))


class Program:
    """The network, its optimizer and the epoch, evaluation and probe of one recipe shape, each a graph.

    The epoch is `compiled` by XLA if its operations are of the kinds that are faster so, unless this is given. On a GPU
    every network that ships is.
    """

    def __init__(
        self,
        shape: Recipe,
        image_shape: tuple[int, ...],
        classes: int,
        *,
        compiled: bool | None = None,
        tables: Tables = SHIPPED,
    ) -> None:
        self.batch_size = shape.batch_size
        self.network: Network | KerasNetwork
        if build := tables.keras_builders.get(shape.model):
            self.network = KerasNetwork(build, shape.model_dump(), image_shape, classes)
        else:
            self.network = Network(shape, image_shape, classes, tables)
        self.model = self.network.model
        self._tables = tables
        self.optimizer = self._new_optimizer(shape)
        self._decay, self._smoothing = (
            keras.Variable(value, trainable=False) if value else None
            for value in (shape.weight_decay, shape.label_smoothing)
        )
        if self._decay is not None:
            self.optimizer.weight_decay = self._decay
        self.optimizer.build(self.model.trainable_variables)
        self._own_rate = float(self.optimizer.learning_rate)
        self._image_shape, self._rates = image_shape, None
        # Only code of the user's may need its Python statements made into operations, which takes longer than all else.
        self._converts = isinstance(self.network, KerasNetwork) or tables is not SHIPPED
        on_gpu = bool(GPUS) and isinstance(self.network, Network)
        self.compiled = on_gpu or is_faster_compiled(self.forward) if compiled is None else compiled
        self._start = [(v, v.numpy()) for v in self.model.variables + self.optimizer.variables]
        self._no_masks = [tf.zeros((1, units), tf.bool) for units in self.network.mask_units]
        self._epoch = tf.function(self._run_epoch, jit_compile=self.compiled, autograph=self._converts)
        self._evaluate = tf.function(self._run_evaluation, reduce_retracing=True, autograph=self._converts)
        self._probe = tf.function(self._run_probe, autograph=self._converts)

    def _new_optimizer(self, shape: Recipe) -> Any:
        build = self._tables.optimizers[shape.optimizer]
        if shape.momentum and not takes_momentum(build):
            raise ChoiceError(f"optimizer {shape.optimizer}: takes no momentum; give its function that parameter")
        return build(keras.optimizers, **({"momentum": shape.momentum} if shape.momentum else {}))

    @property
    def kind(self) -> dict[str, float]:
        """How it is run, as diagnostics: 1 if the epoch is compiled, and if a user's model ends in a softmax."""
        found = {"compiled": float(self.compiled)}
        if isinstance(self.network, KerasNetwork):
            found["ends_in_softmax"] = float(self.network.ends_in_softmax)
        return found

    @cached_property
    def forward(self) -> Any:
        """The graph of a forward pass of two images in training."""
        return forward_graph(self.network, self._image_shape, converts=self._converts)

    @cached_property
    def size(self) -> dict[str, float]:
        """What the network costs, as metrics; without what its graph does not tell."""
        trained = sum(int(np.prod(variable.shape)) for variable in self.model.trainable_variables)
        found = {"parameters": float(trained), "multiply_adds": multiply_adds(self.forward)}
        return {name: value for name, value in found.items() if not np.isnan(value)}

    def reset(self, recipe: Recipe, seed: int, layer_seed: int | None = None) -> None:
        """Put every variable at its start and draw the kernels from the seed. Nothing of the last trial remains.

        What layers of a user's model draw while they train follows `layer_seed`, by default the same.
        """
        for variable, value in self._start:
            variable.assign(value)
        if isinstance(self.network, KerasNetwork):
            drawn_by = seed if layer_seed is None else layer_seed
            self.network.draw(lambda use: random_stream(seed, use), lambda use: random_stream(drawn_by, use))
        for layer in self.model.layers if isinstance(self.network, Network) else ():
            if hasattr(layer, "kernel"):  # from a stream of its own; fans are those of the (inputs, units) layout
                drawn = int(random_stream(seed, f"kernel/{layer.name}").integers(2**31))
                kernel = self._tables.initializers[recipe.initializer](keras.initializers, drawn)
                shape = tuple(layer.kernel.shape)
                is_turned = isinstance(layer, Dense)
                layer.kernel.assign(tf.transpose(kernel(shape[::-1])) if is_turned else kernel(shape))
            if isinstance(layer, MaskedDropout):
                layer.scale.assign(1.0 / (1.0 - recipe.dropout))
        self.optimizer.learning_rate.assign(recipe.learning_rate or self._own_rate)
        self._rates = None
        for variable, value in ((self._decay, recipe.weight_decay), (self._smoothing, recipe.label_smoothing)):
            if variable is not None:
                variable.assign(value)

    def set_rates(self, recipe: Recipe, number: int, images: int) -> None:
        """Set the learning rate of each step of an epoch, unless it stays as it is."""
        rates = self.rates(recipe, number, images)
        self._rates = self._rates if rates is None else tf.constant(rates)

    def rates(self, recipe: Recipe, number: int, images: int) -> npt.NDArray[np.float32] | None:
        """The learning rate of each step of an epoch, None if it stays as it is."""
        if recipe.schedule == "constant":
            return None
        steps = -(-images // self.batch_size)
        done = number - 1 + np.arange(steps) / steps
        factors = np.asarray(self._tables.schedules[recipe.schedule](Steps(done, recipe.epochs)), np.float64)
        if factors.shape != done.shape or not np.isfinite(factors).all():
            raise ChoiceError(
                f"schedule {recipe.schedule}: gives {factors.shape} factors for {steps} steps, or no numbers"
            )
        return ((recipe.learning_rate or self._own_rate) * factors).astype(np.float32)

    @contextmanager
    def state_kept(self) -> Iterator[None]:
        """Undo at the end what an evaluation changed, such as the state of a user's layer that draws in every call."""
        kept = [(variable, variable.numpy()) for variable in self.model.non_trainable_variables]
        yield
        for variable, value in kept:
            variable.assign(value)

    def epoch(
        self, images: Any, labels: Any, order: npt.NDArray[np.int32], masks: list[Any], columns: Columns | None = None
    ) -> tuple[float, float]:
        """One pass over images float32 (n, ...) in `order` int32 (n,); mean loss and accuracy while training.

        `columns` are those of this order, for networks with a dense first layer. Then images come minus the background.
        """
        loss, correct = self._epoch((images, labels), tf.constant(order), masks, columns, self._rates)
        return float(loss) / len(order), float(correct) / len(order)

    def evaluate(self, slices: Sequence[EvaluationBatch]) -> tuple[float, float]:
        """Mean loss in nats and accuracy over a split, without dropout."""
        loss, hits = self.evaluate_images(slices)
        return loss, float(hits.mean())

    def evaluate_images(self, slices: Sequence[EvaluationBatch]) -> tuple[float, npt.NDArray[np.bool_]]:
        """Mean loss in nats, and of each image, in the order of the slices, whether it is classified correctly."""
        found = [self._evaluate(*each) for each in slices]
        sums = np.sum([[float(loss), float(len(right))] for loss, right in found], axis=0)
        return sums[0] / sums[1], np.concatenate([right.numpy() for _, right in found])

    def probe(self, images: Any, labels: Any) -> dict[str, float]:
        """Fractions of dead and always-on units per layer over `images`, and the gradient norm of the first kernel."""
        return {name: float(value) for name, value in self._probe(images, labels).items()}

    def _run_epoch(
        self, split: tuple[Any, Any], order: Any, masks: list[Any], columns: Columns | None, rates: Any
    ) -> tuple[Any, Any]:
        size = self.batch_size
        steps, rest = divmod(order.shape[0], size)

        def step(i: Any, rows: int, loss: Any, correct: Any) -> tuple[Any, Any]:
            index = tf.slice(order, [i * size], [rows])
            batch_masks = [tf.slice(mask, [i * size, 0], [rows, mask.shape[1]]) for mask in masks]
            batch_columns = columns and Columns(columns.index[i], columns.position[i], columns.background)
            x, y = (tf.gather(each, index) for each in split)
            if rates is not None:
                self.optimizer.learning_rate.assign(rates[i])
            batch_loss, batch_correct = self._step(x, y, batch_masks, batch_columns)
            return loss + batch_loss, correct + batch_correct

        if not steps:
            return step(0, rest, 0.0, 0.0)

        def body(i: Any, loss: Any, correct: Any) -> tuple[Any, Any, Any]:
            return (i + 1, *step(i, size, loss, correct))

        _, loss, correct = tf.while_loop(lambda i, *_: i < steps, body, (0, 0.0, 0.0), parallel_iterations=1)
        return step(steps, rest, loss, correct) if rest else (loss, correct)

    def _step(self, x: Any, y: Any, masks: list[Any], columns: Columns | None) -> tuple[Any, Any]:
        first, variables = self.network.first, self.model.trainable_variables
        values = [v.value for v in variables]
        with tf.GradientTape() as tape:
            tape.watch(values)
            if columns is None or first is None:
                logits = self.network(x, masks, training=True)[0]
            else:
                output = first.forward_batch_columns(tf.reshape(x, (x.shape[0], -1)), columns)
                logits = self.network.rest([output, *masks], training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
            mean = tf.reduce_mean(losses)
            if self._smoothing is not None:
                uniform = tf.reduce_logsumexp(logits, 1) - tf.reduce_mean(logits, 1)
                mean += self._smoothing * tf.reduce_mean(uniform - losses)
            for penalty in self.network.penalties:
                mean += penalty
        self.optimizer.apply(tape.gradient(mean, values), variables)
        return tf.reduce_sum(losses), tf.reduce_sum(tf.cast(_hits(y, logits), tf.float32))

    def _run_evaluation(self, images: Any, labels: Any, index: Any, background: Any) -> tuple[Any, Any]:
        first = self.network.first
        if index is None or first is None:
            logits, _ = self.network(images, self._no_masks, training=False)
        else:
            output = first.forward_columns(images, index, background)
            logits = self.network.rest([output, *self._no_masks], training=False)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return tf.reduce_sum(losses), _hits(labels, logits)

    def _run_probe(self, images: Any, labels: Any) -> dict[str, Any]:
        """A unit, of a convolution a channel, is dead if it is positive for no image, always on if for all."""
        kernel = self.model.trainable_variables[0].value
        with tf.GradientTape() as tape:
            logits, preactivations = self.network(images, self._no_masks, training=False)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        found: dict[str, Any] = {}
        for layer, values in preactivations.items():
            positive, axes = values > 0.0, list(range(len(values.shape) - 1))
            units = {"dead": tf.logical_not(tf.reduce_any(positive, axes)), "always_on": tf.reduce_all(positive, axes)}
            found |= {f"{name}_{layer}": tf.reduce_mean(tf.cast(each, tf.float32)) for name, each in units.items()}
        return {**found, "gradient_norm": tf.norm(tape.gradient(loss, kernel))}


# fmt: off
_FAST_COMPILED = frozenset((
    "AddN", "AddV2", "AssignAddVariableOp", "AssignSubVariableOp", "AssignVariableOp", "BatchMatMulV2", "BiasAdd",
    "Cast", "ConcatV2", "Const", "Einsum", "Elu", "Erf", "Erfc", "Exp", "ExpandDims", "Greater", "GreaterEqual",
    "Identity", "IdentityN",
    "LeakyRelu", "Less", "Log", "Log1p", "MatMul", "Maximum", "Mean", "Minimum", "Mul", "Neg", "NoOp", "Pack",
    "Placeholder", "Pow", "Prod", "ReadVariableOp", "RealDiv", "Relu", "Relu6", "Reshape", "Rsqrt", "SelectV2",
    "Selu", "Shape", "Sigmoid", "Softmax", "Softplus", "Sqrt", "Square", "SquaredDifference", "Squeeze",
    "StopGradient", "StridedSlice", "Sub", "Sum", "Tanh", "Transpose", "ZerosLike",
))
# fmt: on
"""The operations of a forward pass with which XLA was not much the slower (`benchmarks/compilation.py`).

Convolutions, pooling and random numbers are many times slower compiled by XLA for processors. What is not in this list
is left as it is, so a new kind of layer works. The rule decides by what was measured once. A decision by each worker's
own clock would let noise choose between two programs that round differently, and a trial would not repeat to the bit.
"""


def forward_graph(network: Network | KerasNetwork, image_shape: tuple[int, ...], *, converts: bool) -> Any:
    """The graph of a forward pass of two images in training. With `converts` Python statements become operations."""
    images = tf.TensorSpec((2, *image_shape), tf.float32)
    masks = [tf.TensorSpec((2, units), tf.bool) for units in network.mask_units]
    forward = tf.function(lambda images, masks: network(images, masks, training=True)[0], autograph=converts)
    return forward.get_concrete_function(images, masks).graph


def is_faster_compiled(forward: Any) -> bool:
    """Whether all operations of a forward pass are of kinds that are faster compiled."""
    graph = forward.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return {node.op for node in nodes} <= _FAST_COMPILED


def _hits(labels: Any, logits: Any) -> Any:
    return tf.equal(tf.argmax(logits, 1, output_type=tf.int32), labels)
