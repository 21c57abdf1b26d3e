"""The layers of the networks, and the builder that the models in `choices/` use; trains nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mnist_ablate.workloads.keras_mnist.active_pixels import Columns
from mnist_ablate.workloads.keras_mnist.backend import keras, tf
from mnist_ablate.workloads.keras_mnist.choices.activations import ACTIVATIONS
from mnist_ablate.workloads.keras_mnist.choices.models import MODELS
from mnist_ablate.workloads.keras_mnist.choices.norm_layers import NORM_LAYERS
from mnist_ablate.workloads.keras_mnist.recipe import Recipe


class _FullyConnected(keras.layers.Layer):  # type: ignore[misc]  # keras ships no types
    """From (n, inputs) to (n, units). Kernel and bias are zero until `Program.reset` sets them.

    Files of weights name each layer by its class, so registered models need the names of the subclasses to stay.
    """

    def __init__(self, units: int, name: str) -> None:
        super().__init__(name=name)
        self.units = units

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

    def _create(self, *kernel_shape: int | None) -> None:
        self.kernel = self.add_weight(shape=kernel_shape, name="kernel", initializer="zeros")
        self.bias = self.add_weight(shape=(self.units,), name="bias", initializer="zeros")


class Dense(_FullyConnected):
    """Fully connected layer whose kernel is stored (units, inputs).

    Both products of a training step then read it along its rows: 6 to 10% faster in XLA than (inputs, units).
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create kernel (units, inputs) and bias (units,)."""
        self._create(self.units, input_shape[-1])

    def call(self, x: Any) -> Any:
        """X (n, inputs) to (n, units)."""
        return tf.matmul(x, self.kernel, transpose_b=True) + self.bias


class PixelDense(_FullyConnected):
    """Fully connected layer on the pixels of images, whose kernel is stored (inputs, units): a row per pixel.

    The methods `forward_...` leave out rows of pixels that a batch leaves at the background.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create kernel (inputs, units) and bias (units,)."""
        self._create(input_shape[-1], self.units)

    def call(self, x: Any) -> Any:
        """X (n, inputs) to (n, units)."""
        return tf.matmul(x, self.kernel) + self.bias

    def forward_columns(self, part: Any, index: Any, background: Any) -> Any:
        """`call` of x + background, given the columns `index` of x; x is zero elsewhere. For evaluation."""
        return _product(part, index, background, self.kernel) + self.bias

    def forward_batch_columns(self, x: Any, columns: Columns) -> Any:
        """`call` of x + background, given x (n, inputs), which is zero outside its batch's columns. For training."""
        part = tf.gather(x, columns.index, axis=1)

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def product(kernel: Any) -> tuple[Any, Callable[[Any], Any]]:
            result = _product(part, columns.index, columns.background, kernel)

            def gradient(errors: Any) -> Any:
                rows = tf.matmul(part, errors, transpose_a=True)
                whole = tf.gather(tf.concat([rows, tf.zeros_like(rows[:1])], 0), columns.position)
                if columns.background is None:
                    return whole
                return whole + columns.background[:, None] * tf.reduce_sum(errors, 0)

            return result, gradient

        return product(tf.convert_to_tensor(self.kernel)) + self.bias


def _product(part: Any, index: Any, background: Any, kernel: Any) -> Any:
    result = tf.matmul(part, tf.gather(kernel, index))
    return result if background is None else result + tf.matmul(background[None], kernel)


class MaskedDropout(keras.layers.Layer):  # type: ignore[misc]  # keras ships no types
    """Inverted dropout whose mask is an input, so that its random stream is the trial's own.

    Keras's layer draws from a generator that other layers share. Inside XLA on CPU it is also ten times slower.
    """

    def build(self, _input_shape: object) -> None:
        """Create `scale`, which the trainer sets to 1 / (1 - rate)."""
        self.scale = self.add_weight(shape=(), name="scale", initializer="ones", trainable=False)

    def call(self, x: Any, mask: Any, *, training: bool = False) -> Any:
        """X (n, units) and mask bool (n, units): kept units scaled while training, x itself otherwise."""
        return x * (tf.cast(mask, x.dtype) * self.scale) if training else x


@dataclass
class Builder:
    """The network under construction. `choices/models.py` shows its use."""

    recipe: Recipe
    classes: int
    image: Any
    pixels: Any = None
    first: tuple[PixelDense, Any] | None = None
    masks: list[Any] = field(default_factory=list)
    preactivations: dict[str, Any] = field(default_factory=dict)

    def frozen(self, x: Any) -> Any:
        """The features of the model's frozen base. They come in as the input: `frozen_features` computes them."""
        self.image = None
        return x

    def flatten(self, x: Any) -> Any:
        """(n, ...) to (n, features)."""
        flat = keras.layers.Flatten()(x)
        self.pixels = flat if x is self.image else None
        return flat

    def max_pool(self, x: Any) -> Any:
        """2x2 max pooling."""
        return keras.layers.MaxPooling2D()(x)

    def conv(self, x: Any, filters: int) -> Any:
        """3x3 convolution without padding, norm layer, activation."""
        name = f"conv_{1 + len(self.preactivations)}"
        return self._finish(keras.layers.Conv2D(filters, 3, name=name)(x), name)

    def hidden(self, x: Any) -> Any:
        """Dense layer of the recipe's width, norm layer, activation."""
        name = f"dense_{1 + len(self.preactivations)}"
        if x is not self.pixels:
            return self._finish(Dense(self.recipe.width, name=name)(x), name)
        layer = PixelDense(self.recipe.width, name=name)
        self.first = layer, layer(x)
        return self._finish(self.first[1], name)

    def activate(self, x: Any) -> Any:
        """The recipe's activation alone."""
        return ACTIVATIONS[self.recipe.activation](keras.ops, x)

    def dropout(self, x: Any) -> Any:
        """Dropout at the recipe's rate with a mask of its own; no layer at rate 0."""
        if not self.recipe.dropout:
            return x
        mask = keras.Input(x.shape[1:], dtype="bool", name=f"mask_{1 + len(self.masks)}")
        self.masks.append(mask)
        return MaskedDropout(name=f"dropout_{len(self.masks)}")(x, mask)

    def logits(self, x: Any) -> Any:
        """Dense layer with one output a class; the softmax is part of the loss."""
        return Dense(self.classes, name="logits")(x)

    def _finish(self, x: Any, name: str) -> Any:
        norm_layer = NORM_LAYERS[self.recipe.norm_layer](keras.layers, f"norm_{name}")
        self.preactivations[name] = x if norm_layer is None else norm_layer(x)
        return self.activate(self.preactivations[name])


@dataclass(frozen=True)
class Network:
    """A Keras model from [images, masks...] to (logits, pre-activations by hidden layer).

    If the first layer is dense, `first` is that layer and `rest` the model from [its output, masks...] to logits.
    `mask_units` has the number of units of each mask.
    """

    model: Any
    first: PixelDense | None
    rest: Any
    mask_units: tuple[int, ...]


def build(recipe: Recipe, image_shape: tuple[int, ...], classes: int) -> Network:
    """The network of a recipe for images float32 (n, height, width, channels). Its kernels are still zero."""
    image = keras.Input(image_shape, name="image")
    net = Builder(recipe, classes, image)
    logits = MODELS[recipe.model].build(net, image)
    first, output = net.first or (None, None)
    return Network(
        model=keras.Model([image, *net.masks], (logits, net.preactivations)),
        first=first,
        rest=keras.Model([output, *net.masks], logits) if first else None,
        mask_units=tuple(mask.shape[-1] for mask in net.masks),
    )
