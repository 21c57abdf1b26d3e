"""The trainer takes the steps of Keras's own `train_on_batch`: from the same kernels, with equal batches and masks."""

import numpy as np
import pytest
from usual_models import build

from mnist_ablate.workloads.keras_mnist.backend import keras
from mnist_ablate.workloads.keras_mnist.choices.models import MODELS
from mnist_ablate.workloads.keras_mnist.choices.optimizers import OPTIMIZERS, default_learning_rate
from mnist_ablate.workloads.keras_mnist.compiled_program import EvaluationBatch, Program, random_stream
from mnist_ablate.workloads.keras_mnist.network import Dense
from mnist_ablate.workloads.keras_mnist.recipe import Recipe, program_key

BATCH, STEPS = 50, 6


class GivenMask(keras.layers.Layer):
    """Dropout as the usual network has it, but the next batch's mask is assigned."""

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def build(self, input_shape):
        self.mask = self.add_weight(shape=(BATCH, input_shape[-1]), trainable=False)

    def call(self, x, *, training=False):
        return x * self.mask / (1 - self.rate) if training else x


@pytest.fixture(autouse=True)
def given_masks_and_kernels(monkeypatch):
    keras.utils.set_random_seed(0)
    monkeypatch.setattr(keras.layers, "Dropout", GivenMask)


def usual_network(recipe, shape):
    """The network of a recipe, as users of Keras write it."""
    layers, name = keras.layers, recipe.model if recipe.norm_layer == "none" else recipe.norm_layer
    if name in {"mlp", "mlp3", "cnn"}:
        return build(name, recipe.activation)
    dense = [layers.Flatten(), layers.Dense(500)]
    end = [layers.Dropout(0.5), layers.Dense(10, activation="softmax")]
    relu = layers.Activation("relu")
    those = {
        "batch_norm": [*dense, layers.BatchNormalization(), relu, *end],
        "layer_norm": [*dense, layers.LayerNormalization(), relu, *end],
        "mlp_relu": [*dense, relu, layers.Dropout(0.5), relu, relu, *end],
        "vgg16": [layers.Dense(500, activation="relu"), layers.Dense(500, activation="relu"), *end],
    }
    return keras.Sequential([keras.Input(shape), *those[name]])


def optimizer_of(recipe):
    if recipe.optimizer != "article_sgd":
        return keras.optimizers.get(recipe.optimizer)
    rate = keras.optimizers.schedules.InverseTimeDecay(recipe.learning_rate, decay_steps=1, decay_rate=1e-6)
    return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)


def weights(program):
    """Kernels (inputs, units), biases and scales in the order of the layers."""
    stored_by_unit = {layer.kernel.path for layer in program.model.layers if isinstance(layer, Dense)}
    variables = program.model.trainable_variables
    return [v.numpy().T if v.path in stored_by_unit else v.numpy() for v in variables]


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        *({"model": model, "activation": name} for model in ("mlp", "mlp3", "cnn") for name in ("relu", "tanh")),
        *({"optimizer": name} for name in OPTIMIZERS if name != "adam"),
        {"norm_layer": "batch_norm", "optimizer": "sgd"},  # Adam moves a bias without effect by noise
        {"norm_layer": "layer_norm"},
        {"model": "mlp_relu"},
        {"model": "vgg16"},
    ],
    ids=lambda settings: "-".join(settings.values()),
)
def test_both_take_the_same_steps(dataset, settings):
    """Where a rounding decides, one weight in 10,000 may be elsewhere."""
    rate = default_learning_rate(settings.get("optimizer", "adam"))
    recipe = Recipe(**settings, learning_rate=rate, batch_size=BATCH)
    x, y = dataset.x_train.astype(np.float32) / 256, dataset.y_train
    if recipe.model == "vgg16":
        x = random_stream(0, "features").random((len(x), 512), np.float32)
    usual = usual_network(recipe, x.shape[1:])
    usual.compile(optimizer_of(recipe), "categorical_crossentropy", metrics=["accuracy"])
    program = Program(program_key(recipe), x.shape[1:], 10, compiled=not MODELS[recipe.model].filters)
    program.reset(recipe, seed=1)
    for variable, value in zip(usual.trainable_variables, weights(program), strict=True):
        assert value.mean() == pytest.approx(variable.numpy().mean(), abs=0.01)
        assert value.std() == pytest.approx(variable.numpy().std(), rel=0.1)
        variable.assign(value)
    one_hot = keras.utils.to_categorical(y, 10)
    dropouts = [layer for layer in usual.layers if isinstance(layer, GivenMask)]
    for step in range(STEPS):
        rows = random_stream(step, "shuffle").permutation(len(x))[:BATCH].astype(np.int32)
        masks = [random_stream(step, f"mask/{i}").random((BATCH, 500)) >= recipe.dropout for i in range(len(dropouts))]
        for layer, mask in zip(dropouts, masks, strict=True):
            layer.mask.assign(mask)
        usual.reset_metrics()
        expected = usual.train_on_batch(x[rows], one_hot[rows])
        assert program.epoch(x, y, rows, masks) == pytest.approx(expected, rel=1e-5)
    for variable, value in zip(usual.trainable_variables, weights(program), strict=True):
        assert np.mean(np.abs(variable.numpy() - value) > 1e-5) < 1e-4
    assert program.evaluate([EvaluationBatch(x, y)]) == pytest.approx(usual.evaluate(x, one_hot, verbose=0), rel=1e-5)
