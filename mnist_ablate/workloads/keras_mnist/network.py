"""Networks and their layers; the models in `choices/` say which layers they have. Trains nothing."""

from collections.abc import Callable
from typing import Any

from mnist_ablate.workloads.keras_mnist.active_pixels import Columns
from mnist_ablate.workloads.keras_mnist.backend import keras, tf
from mnist_ablate.workloads.keras_mnist.choices.tables import SHIPPED, Tables
from mnist_ablate.workloads.keras_mnist.recipe import Recipe


class _FullyConnected(keras.layers.Layer):  # type: ignore[misc]  # keras ships no types
    """From (n, inputs) to (n, units). Files of weights name a layer by its class: names of subclasses must stay."""

    row_per_unit: bool

    def __init__(self, units: int, name: str) -> None:
        super().__init__(name=name)
        self.units = units

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (self.units, input_shape[-1]) if self.row_per_unit else (input_shape[-1], self.units)
        self.kernel = self.add_weight(shape=shape, name="kernel", initializer="zeros")
        self.bias = self.add_weight(shape=(self.units,), name="bias", initializer="zeros")

    def call(self, x: Any) -> Any:
        return tf.matmul(x, self.kernel, transpose_b=self.row_per_unit) + self.bias


class Dense(_FullyConnected):
    """Its kernel is stored (units, inputs): a training step reads it along its rows, 6 to 10% faster in XLA."""

    row_per_unit = True


class PixelDense(_FullyConnected):
    """On pixels: its kernel is stored (inputs, units), and `forward_...` leave out rows of pixels at the background."""

    row_per_unit = False

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
    """Inverted dropout whose mask is an input, a stream of the trial's own. Drawn inside XLA it is ten times slower."""

    def build(self, _input_shape: object) -> None:
        """Create `scale`, which the trainer sets to 1 / (1 - rate)."""
        self.scale = self.add_weight(shape=(), name="scale", initializer="ones", trainable=False)

    def call(self, x: Any, mask: Any, *, training: bool = False) -> Any:
        """X (n, units) and mask bool (n, units): kept units scaled while training, x itself otherwise."""
        return x * (tf.cast(mask, x.dtype) * self.scale) if training else x


class Network:
    """The network of a recipe for images float32 (n, height, width, channels), as `choices/models.py` draws it.

    `model` is a Keras model from [images, masks...] to (logits, pre-activations by hidden layer). Its kernels are still
    zero. If the first layer is dense on images, `first` is that layer and `rest` the model from [its output, masks...]
    to logits. `mask_units` has the number of units of each mask, `dropouts` its name, its units, and its rate unless it
    is the recipe's. The methods add a layer. `penalties` are terms of the loss beside the cross-entropy.
    """

    penalties: tuple[Any, ...] = ()

    def __init__(self, recipe: Recipe, image_shape: tuple[int, ...], classes: int, tables: Tables = SHIPPED) -> None:
        self._recipe, self._classes, self._tables = recipe, classes, tables
        self._image = image = keras.Input(image_shape, name="image")
        self._pixels = self._output = None
        self._masks: list[Any] = []
        self._preactivations: dict[str, Any] = {}
        self.first: PixelDense | None = None
        logits = tables.models[recipe.model].build(self, image)
        self.model = keras.Model([image, *self._masks], (logits, self._preactivations))
        self.rest: Any = keras.Model([self._output, *self._masks], logits) if self.first else None
        self.mask_units = tuple(mask.shape[-1] for mask in self._masks)
        self.dropouts: list[tuple[str, int, float | None]] = [
            (f"dropout_{i}", units, None) for i, units in enumerate(self.mask_units, 1)
        ]

    @property
    def depth(self) -> int:
        """How many hidden layers the recipe wants, of a model that leaves it open."""
        return self._recipe.depth

    def __call__(self, images: Any, masks: list[Any], *, training: bool) -> Any:
        """Logits, and the pre-activations by hidden layer."""
        return self.model([images, *masks], training=training)

    def frozen(self, x: Any) -> Any:
        """The features of the model's frozen base. They come in as the input: `frozen_features` computes them."""
        self._image = None
        return x

    def flatten(self, x: Any) -> Any:
        """(n, ...) to (n, features)."""
        flat = keras.layers.Flatten()(x)
        self._pixels = flat if x is self._image else None
        return flat

    def max_pool(self, x: Any) -> Any:
        """2x2 max pooling."""
        return keras.layers.MaxPooling2D()(x)

    def conv(self, x: Any, filters: int) -> Any:
        """3x3 convolution without padding, norm layer, activation."""
        name = f"conv_{1 + len(self._preactivations)}"
        return self._finish(keras.layers.Conv2D(filters, 3, name=name)(x), name)

    def hidden(self, x: Any) -> Any:
        """Dense layer of the recipe's width, norm layer, activation."""
        name = f"dense_{1 + len(self._preactivations)}"
        if x is not self._pixels:
            return self._finish(Dense(self._recipe.width, name=name)(x), name)
        self.first = PixelDense(self._recipe.width, name=name)
        self._output = self.first(x)
        return self._finish(self._output, name)

    def activate(self, x: Any) -> Any:
        """The recipe's activation alone."""
        return self._tables.activations[self._recipe.activation](keras.ops, x)

    def dropout(self, x: Any) -> Any:
        """Dropout at the recipe's rate with a mask of its own; no layer at rate 0."""
        if not self._recipe.dropout:
            return x
        self._masks.append(keras.Input(x.shape[1:], dtype="bool", name=f"mask_{1 + len(self._masks)}"))
        return MaskedDropout(name=f"dropout_{len(self._masks)}")(x, self._masks[-1])

    def logits(self, x: Any) -> Any:
        """Dense layer with one output a class; the softmax is part of the loss."""
        return Dense(self._classes, name="logits")(x)

    def _finish(self, x: Any, name: str) -> Any:
        norm_layer = self._tables.norm_layers[self._recipe.norm_layer](keras.layers, f"norm_{name}")
        self._preactivations[name] = x if norm_layer is None else norm_layer(x)
        return self.activate(self._preactivations[name])
