"""A network that a user's function builds with Keras's own layers, made ready for the trainer. Trains nothing.

Its draws come from named streams of the trial's seed, a stream for each use: the initial value of a weight, a layer's
random numbers, the mask of a dropout layer. So a layer that an arm adds or leaves out changes no draw of the others.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from mnist_ablate.trial import Params
from mnist_ablate.workloads.keras_mnist.backend import keras, tf
from mnist_ablate.workloads.keras_mnist.own_choices import ChoiceError

MOST_UNITS = 4096
"""Masks of dropout layers of so many units are drawn outside the compiled program, a whole epoch at once."""
_SMALLEST = 1e-7  # of a probability, as Keras clips it

Stream = Callable[[str], np.random.Generator]


class KerasNetwork:
    """See `network.Network`, whose place it takes. It has no pre-activations and no part that skips pixels.

    `dropouts` has the name, the number of units and the rate of each dropout layer whose mask comes from outside.
    Raises ChoiceError if the function gives no model that classifies these images.
    """

    first: None = None
    rest: Any = None

    def __init__(self, build: Callable[..., Any], settings: Params, image_shape: tuple[int, ...], classes: int) -> None:
        name = str(settings["model"])
        with _fixed_global_seed(), _each_weight() as made:
            model = build(dict(settings), image_shape, classes)
            if not isinstance(model, keras.Model):
                raise ChoiceError(f"model {name}: its function returned {type(model).__name__}, not a keras.Model")
            if not model.built:
                model.build((None, *image_shape))
        self.model = model
        self.ends_in_softmax = _check(name, model, image_shape, classes)
        streams = _stream_names(model)
        self._drawn = [
            (variable, initializer, f"{streams[id(layer)]}/{variable.name}")
            for layer, variable, initializer, value in made
            if id(layer) in streams and _has_seed(initializer) and np.array_equal(variable.numpy(), value)
        ]
        self._generators = [
            (generator, f"{streams[id(layer)]}/{place}")
            for layer in _layers(model)
            for place, generator in enumerate(_generators(layer))
        ]
        self._masks: dict[str, Any] = {}
        self.dropouts = [*self._take_dropout_out(streams)]
        self.mask_units = tuple(units for _, units, _ in self.dropouts)

    def __call__(self, images: Any, masks: list[Any], *, training: bool) -> tuple[Any, dict[str, Any]]:
        """Logits, and no pre-activations. Each mask bool (n, units) is used if `training`."""
        self._masks = {name: mask for (name, _, _), mask in zip(self.dropouts, masks, strict=True)} if training else {}
        outputs = self.model(images, training=training)
        if self.ends_in_softmax:
            logits = getattr(outputs, "_keras_logits", None)  # what Keras's own loss takes
            outputs = tf.math.log(tf.clip_by_value(outputs, _SMALLEST, 1.0)) if logits is None else logits
        return tf.cast(outputs, tf.float32), {}

    @property
    def penalties(self) -> list[Any]:
        """What regularizers and `add_loss` added in the last call."""
        return list(self.model.losses)

    def draw(self, weights: Stream, layers: Stream) -> None:
        """Draw every weight that its initializer draws, and the state of every random layer."""
        for variable, initializer, use in self._drawn:
            seed = int(weights(f"weight/{use}").integers(2**31))
            seeded = type(initializer).from_config({**initializer.get_config(), "seed": seed})
            variable.assign(seeded(tuple(variable.shape), dtype=variable.dtype))
        for generator, use in self._generators:
            generator.state.assign([int(layers(f"layer/{use}").integers(2**31)), 0])

    def _take_dropout_out(self, streams: dict[int, str]) -> Iterator[tuple[str, int, float]]:
        """Let plain dropout layers take their masks from outside: drawn inside XLA it takes ten times as long."""
        for layer in self.model.layers:
            if type(layer) is not keras.layers.Dropout or layer.noise_shape or not 0 < layer.rate < 1:
                continue
            try:
                shape = layer.output.shape
            except (AttributeError, ValueError):  # a layer that is used twice has no single output
                continue
            if len(shape) == 2 and shape[1] <= MOST_UNITS:  # noqa: PLR2004 - images, units
                name = streams[id(layer)]
                layer.call = self._masked(name, layer.rate)
                yield name, shape[1], layer.rate

    def _masked(self, name: str, rate: float) -> Callable[..., Any]:
        def call(inputs: Any, training: bool = False) -> Any:  # noqa: FBT001, FBT002 - as Keras calls it
            mask = self._masks.get(name) if training else None
            return inputs if mask is None else inputs * (tf.cast(mask, inputs.dtype) / (1.0 - rate))

        return call


def _check(name: str, model: Any, image_shape: tuple[int, ...], classes: int) -> bool:
    """Whether the model ends in a softmax. Raises ChoiceError if it does not give one number a class."""
    if not (model.inputs and model.outputs):
        raise ChoiceError(
            f"model {name}: a subclass of keras.Model has no layers to see; return Sequential or functional"
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ChoiceError(
            f"model {name}: {len(model.inputs)} inputs, {len(model.outputs)} outputs; one of each is trained"
        )
    if (seen := tuple(model.inputs[0].shape[1:])) != tuple(image_shape):
        raise ChoiceError(f"model {name}: takes inputs of shape {seen}, but the images are {tuple(image_shape)}")
    if (given := tuple(model.outputs[0].shape[1:])) != (classes,):
        outputs = f"{given[0]} outputs" if len(given) == 1 else f"outputs of shape {given}"
        raise ChoiceError(f"model {name}: gives {outputs} an image, but the data set has {classes} classes")
    if not model.trainable_variables:
        raise ChoiceError(f"model {name}: has no weight that is trained")
    last = _last_operation(model)
    while isinstance(last, keras.Model):
        last = _last_operation(last)
    activation = getattr(last, "activation", None)
    if type(last).__name__ == "Softmax" or activation is keras.activations.softmax:
        return True
    if activation not in (None, keras.activations.linear, keras.activations.log_softmax):
        kind = getattr(activation, "__name__", type(activation).__name__)
        raise ChoiceError(f"model {name}: ends in {kind}; end in softmax, or in no activation (logits)")
    return False


def _last_operation(model: Any) -> Any:
    return model.outputs[0]._keras_history.operation  # noqa: SLF001 - in a model with branches the last layer may be another


def _layers(model: Any) -> list[Any]:
    found: list[Any] = model._flatten_layers(include_self=False)  # noqa: SLF001 - `layers` has no layers of layers
    return found


def _stream_names(model: Any) -> dict[int, str]:
    """A name for each layer by its id: that which the user gave, else its class and its place among those of the class.

    Keras numbers the layers of a process. So the names that it gives, the class in snake case and a number, differ from
    trial to trial and from arm to arm.
    """
    names: dict[int, str] = {}
    places: Counter[str] = Counter()
    for layer in _layers(model):
        kind = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)).lower()
        is_given = not re.fullmatch(rf"{re.escape(kind)}(_\d+)?", layer.name)
        base = layer.name if is_given else kind
        names[id(layer)] = f"{base}_{places[base]}" if places[base] or not is_given else base
        places[base] += 1
    return names


def _generators(layer: Any) -> list[Any]:
    return [each for each in vars(layer).values() if isinstance(each, keras.random.SeedGenerator)]


def _has_seed(initializer: Any) -> bool:
    return isinstance(initializer, keras.initializers.Initializer) and "seed" in initializer.get_config()


@contextmanager
def _each_weight() -> Iterator[list[tuple[Any, Any, Any, Any]]]:
    """Notes each weight that is made: its layer, itself, its initializer, and its value. Keras does not keep these."""
    made: list[tuple[Any, Any, Any, Any]] = []
    own = keras.layers.Layer.add_weight

    def add_weight(layer: Any, *args: Any, **options: Any) -> Any:
        variable = own(layer, *args, **options)
        given = options.get("initializer", args[1] if len(args) > 1 else None)
        if given is None and "float" in variable.dtype:
            given = "glorot_uniform"
        made.append((layer, variable, given and keras.initializers.get(given), variable.numpy()))
        return variable

    keras.layers.Layer.add_weight = add_weight
    try:
        yield made
    finally:
        keras.layers.Layer.add_weight = own


@contextmanager
def _fixed_global_seed() -> Iterator[None]:
    """Whatever the user's function draws from global generators is the same in every process."""
    import random

    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - what the user's function may use
    keras.utils.set_random_seed(0)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
