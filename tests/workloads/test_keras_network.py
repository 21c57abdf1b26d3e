"""A model of Keras's own layers is trained as Keras would, from draws of its own that no other layer changes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_trials import to_the_bit
from small_digits import small

from mnist_ablate.trial import Outcome, Params
from mnist_ablate.workloads.keras_mnist import own_choices
from mnist_ablate.workloads.keras_mnist.backend import keras, tf
from mnist_ablate.workloads.keras_mnist.choices.tables import SHIPPED
from mnist_ablate.workloads.keras_mnist.compiled_program import (
    Program,
    forward_graph,
    is_faster_compiled,
    random_stream,
)
from mnist_ablate.workloads.keras_mnist.data import Dataset
from mnist_ablate.workloads.keras_mnist.network import Network
from mnist_ablate.workloads.keras_mnist.own_choices import ChoiceError
from mnist_ablate.workloads.keras_mnist.recipe import Recipe
from mnist_ablate.workloads.keras_mnist.trainer import Trainer
from mnist_ablate.workloads.keras_mnist.workload import KERAS_MNIST
from mnist_ablate.workloads.workload import trial_of

layers = keras.layers
SHAPE = (28, 28, 1)
Build = Callable[[Params, tuple[int, ...], int], Any]


def sequential(*parts: Callable[[], Any]) -> Build:
    return lambda _settings, shape, _classes: keras.Sequential([keras.Input(shape), *(part() for part in parts)])


def dense(*between: Callable[[], Any], end: str | None = None) -> Build:
    last = lambda: layers.Dense(10, activation=end)  # noqa: E731
    return sequential(layers.Flatten, lambda: layers.Dense(16, activation="relu"), *between, last)


def dropout() -> Any:
    return layers.Dropout(0.5)


def augmented() -> tuple[Callable[[], Any], ...]:
    return (
        lambda: layers.RandomTranslation(0.1, 0.1),
        lambda: layers.RandomFlip("horizontal"),
        lambda: layers.Conv2D(4, 3),
        layers.BatchNormalization,
        layers.ReLU,
        lambda: layers.MaxPooling2D(4),
        lambda: layers.SpatialDropout2D(0.2),
        layers.Flatten,
        lambda: layers.Dense(10, activation="softmax"),
    )


def program(build: Build, seed: int = 0, *, compiled: bool | None = None, **settings: Any) -> Program:
    recipe = Recipe(**{"model": "own", "batch_size": 50, "learning_rate": 0.01, **settings})
    tables = SHIPPED.with_own({"keras_builders": {"own": build}})
    made = Program(recipe, SHAPE, 10, compiled=compiled, tables=tables)
    made.reset(recipe, seed)
    return made


def weights(made: Program) -> list[np.ndarray]:
    return [variable.numpy() for variable in made.model.variables]


def kernels(made: Program) -> list[np.ndarray]:
    return [variable.numpy() for variable in made.model.trainable_variables if variable.name == "kernel"]


def trainer(dataset: Dataset, **builders: Build) -> Trainer:
    made = Trainer(dataset)
    made.tables = SHIPPED.with_own({"keras_builders": builders})
    return made


def outcome(made: Trainer, seed: int, **settings: Any) -> Outcome:
    complete = KERAS_MNIST.complete({"epochs": 2, "batch_size": 50, **settings})
    return made.train(trial_of(KERAS_MNIST, complete, seed, ""))


def test_kernels_follow_the_seed_and_no_layer_that_is_added_changes_them() -> None:
    first, again, other = (kernels(program(dense(), seed)) for seed in (1, 1, 2))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
    more = dense(layers.BatchNormalization, dropout, lambda: layers.GaussianNoise(0.1))
    for a, b in zip(first, kernels(program(more, 1)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_layers_own_name_and_initializer_decide_its_draws() -> None:
    def named(name: str, initializer: str) -> np.ndarray:
        layer = lambda: layers.Dense(10, name=name, kernel_initializer=initializer)  # noqa: E731
        return kernels(program(sequential(layers.Flatten, layer), 1))[0]

    assert not np.array_equal(named("a", "he_normal"), named("b", "he_normal"))
    assert named("a", "he_normal").std() == pytest.approx((2 / 784) ** 0.5, rel=0.05)
    assert not named("a", "zeros").any()


def test_weights_that_a_function_sets_itself_stay() -> None:
    def pretrained(_settings: Params, shape: tuple[int, ...], _classes: int) -> Any:
        model = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(10)])
        model.layers[-1].set_weights([np.full((784, 10), 0.5, np.float32), np.ones(10, np.float32)])
        return model

    assert set(np.unique(kernels(program(pretrained, 3))[0])) == {0.5}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 5])
def test_nothing_of_a_trial_remains_for_the_next(seed: int) -> None:
    dataset = small()
    images, labels = tf.constant(dataset.x_train.astype(np.float32) / 256), tf.constant(dataset.y_train)
    made = program(sequential(*augmented()), seed)
    start, order = weights(made), random_stream(0, "order").permutation(300).astype(np.int32)
    losses = [made.epoch(images, labels, order, [])[0]]
    moving = made.model.layers[3].moving_mean.numpy()
    assert moving.any()
    made.reset(Recipe(model="own", batch_size=50, learning_rate=0.01), seed)
    for before, after in zip(start, weights(made), strict=True):
        np.testing.assert_array_equal(before, after)
    losses.append(made.epoch(images, labels, order, [])[0])
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(made.model.layers[3].moving_mean.numpy(), moving)


def test_augmentation_and_dropout_act_in_training_alone() -> None:
    images = np.random.default_rng(0).random((4, *SHAPE), np.float32)
    made = program(sequential(*augmented()))
    still = [np.asarray(made.network(images, [], training=False)[0]) for _ in range(2)]
    np.testing.assert_array_equal(*still)
    moved = [np.asarray(made.network(images, [], training=True)[0]) for _ in range(2)]
    assert not np.allclose(*moved)


@pytest.mark.slow
def test_softmax_and_logits_are_the_same_network() -> None:
    made = trainer(small(), logits=dense(dropout), softmax=dense(dropout, end="softmax"))
    one, two = (outcome(made, 3, model=name) for name in ("logits", "softmax"))
    assert to_the_bit(one) == pytest.approx(to_the_bit(two), rel=1e-5)
    kinds = [made.program(made.key(Recipe(model=name))).kind for name in ("logits", "softmax")]
    assert [kind["ends_in_softmax"] for kind in kinds] == [0.0, 1.0]


@pytest.mark.slow
def test_a_step_is_that_of_keras() -> None:
    """With batch norm, a regularizer and SGD, which moves no bias by noise."""
    regularized = lambda: layers.Dense(16, kernel_regularizer="l2")  # noqa: E731
    parts = (layers.Flatten, regularized, layers.BatchNormalization, layers.ReLU, lambda: layers.Dense(10))
    made = program(sequential(*parts), 1, optimizer="sgd", learning_rate=0.1)
    usual = sequential(*parts)({}, SHAPE, 10)
    for mine, theirs in zip(made.model.variables, usual.variables, strict=True):
        theirs.assign(mine)
    usual.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = small().x_train[:150].astype(np.float32) / 256, small().y_train[:150]
    made.epoch(tf.constant(x), tf.constant(y), np.arange(150, dtype=np.int32), [])
    for start in (0, 50, 100):
        usual.train_on_batch(x[start : start + 50], y[start : start + 50])
    for mine, theirs in zip(made.model.variables, usual.variables, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-6)


def test_masks_of_plain_dropout_come_from_outside_and_are_used() -> None:
    made = program(dense(dropout))
    assert made.compiled  # without random numbers in it
    assert made.network.dropouts == [("dropout_0", 16, 0.5)]
    images = np.ones((2, *SHAPE), np.float32)
    none, some = (
        np.asarray(made.network(images, [np.full((2, 16), kept)], training=True)[0]) for kept in (False, True)
    )
    np.testing.assert_allclose(none, 0.0, atol=1e-6)  # what is left is the bias
    assert np.abs(some).max() > 0.01


WRONG = {
    "no model": (lambda *_: layers.Dense(3), "model own: its function returned Dense, not a keras.Model"),
    "nine": (sequential(layers.Flatten, lambda: layers.Dense(9)), "model own: gives 9 outputs an image, but the data"),
    "a map": (sequential(lambda: layers.Conv2D(10, 3)), "model own: gives outputs of shape (26, 26, 10) an image, but"),
    "sigmoid": (dense(end="sigmoid"), "model own: ends in sigmoid; end in softmax, or in no activation (logits)"),
    "frozen": (
        sequential(layers.Flatten, lambda: layers.Dense(10, trainable=False)),
        "model own: has no weight that is trained",
    ),
    "other images": (
        lambda *_: keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10)]),
        "model own: takes inputs of shape (8, 8, 1), but the images are (28, 28, 1)",
    ),
    "two outputs": (
        lambda _settings, shape, _classes: keras.Model(x := keras.Input(shape), [x, x]),
        "model own: 1 inputs, 2 outputs; one of each is trained",
    ),
}


@pytest.mark.parametrize(("build", "text"), WRONG.values(), ids=WRONG)
def test_a_model_that_does_not_classify_these_images_is_said(build: Build, text: str) -> None:
    with pytest.raises(ChoiceError) as caught:
        program(build)
    assert str(caught.value).startswith(text)


@pytest.mark.slow
def test_a_model_may_be_functional_and_nested_and_end_in_a_layer_of_softmax() -> None:
    def nested(_settings: Params, shape: tuple[int, ...], classes: int) -> Any:
        inputs = keras.Input(shape)
        block = keras.Sequential([layers.Dense(8), layers.Dropout(0.5)])
        left, right = block(layers.Flatten()(inputs)), layers.Dense(8)(layers.Flatten()(inputs))
        return keras.Model(inputs, layers.Softmax()(layers.Dense(classes)(layers.Add()([left, right]))))

    made = program(nested)
    assert made.network.ends_in_softmax
    assert not made.compiled  # the dropout inside the block draws its own mask
    dataset = small()
    x = tf.constant(dataset.x_train.astype(np.float32))
    assert np.isfinite(made.epoch(x, tf.constant(dataset.y_train), np.arange(300, dtype=np.int32), [])[0])


def test_what_a_users_function_raises_is_said_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def odd(settings, shape, classes):\n    return settings['nothing']\n\n\n"
        "def turned(train):\n    train *= 2\n\n\n"
        "MODELS = {'odd': odd}\nNORMALIZERS = {'turned': turned, 'flat': lambda t: lambda x: x[0]}\n"
    )
    own = own_choices.find(tmp_path, "mine.py", {})
    dataset = small()
    made = Trainer(dataset.__class__(**{**vars(dataset), "own": own}))
    with pytest.raises(ChoiceError, match=r"mine\.py:2: KeyError: 'nothing'"):
        outcome(made, 0, model="odd")
    with pytest.raises(ChoiceError, match=r"mine\.py:6: ValueError: .*read-only"):
        outcome(made, 0, normalizer="turned")
    with pytest.raises(ChoiceError, match=r"normalizer flat: makes uint8 \(28, 28, 1\) of images \(300, 28, 28, 1\)"):
        outcome(made, 0, normalizer="flat")


@pytest.mark.slow
def test_another_process_trains_the_same_to_the_bit_and_programs_are_shared() -> None:
    made = [trainer(small(), own=sequential(*augmented())) for _ in range(2)]
    outcome(made[0], 9, model="own", epochs=1)  # what was trained before makes no difference
    one, two = (outcome(each, 4, model="own") for each in made)
    assert (to_the_bit(one), one.diagnostics) == (to_the_bit(two), two.diagnostics)
    assert made[0].program.cache_info().misses == 1


@pytest.mark.slow
def test_the_rule_compiles_what_ships_as_it_was_recorded() -> None:
    """Convolutions are not compiled, all else is: another program gives other bits."""
    changes = [{"activation": name} for name in SHIPPED.activations] + [{"norm_layer": n} for n in SHIPPED.norm_layers]
    for model, change in [("mlp", each) for each in changes] + [(model, {}) for model in SHIPPED.models]:
        seen = (1, 1, 512) if model == "vgg16" else SHAPE
        network = Network(Recipe(model=model, width=8, **change), seen, 10)
        assert is_faster_compiled(forward_graph(network, seen, converts=True)) == (model != "cnn"), (model, change)


class AlwaysNoisy(layers.Layer):
    """A user's layer that draws in every call, in evaluations too, and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = keras.random.SeedGenerator(0)
        self.calls = self.add_weight(initializer="zeros", trainable=False)

    def call(self, inputs: Any) -> Any:
        self.calls.assign_add(0.001)
        return inputs + self.calls * keras.random.normal(tf.shape(inputs), seed=self.generator)


@pytest.mark.slow
def test_a_shorter_trial_in_a_shared_training_leaves_no_trace_in_the_longer_one() -> None:
    made = trainer(small(), noisy=dense(AlwaysNoisy, layers.BatchNormalization, dropout))
    complete = [KERAS_MNIST.complete({"model": "noisy", "batch_size": 50, "epochs": epochs}) for epochs in (1, 2, 3)]
    trials = [trial_of(KERAS_MNIST, settings, 0, "") for settings in complete]
    together = [*made.train_together(trials, lambda _epoch: None, lambda _text: None)]
    for each, asked in zip(together, trials, strict=True):
        alone = made.train(asked)
        assert (to_the_bit(each), each.diagnostics) == (to_the_bit(alone), alone.diagnostics)
