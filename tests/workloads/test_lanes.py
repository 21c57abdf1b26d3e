"""Trials trained at once, each in a lane of one program, come out as they do one at a time."""

import math

import numpy as np
import pytest
from keras_trials import keras_trial
from small_digits import small

from mnist_ablate.trial import TUNING_SEED
from mnist_ablate.workloads.keras_mnist import compiled_program
from mnist_ablate.workloads.keras_mnist.backend import tf
from mnist_ablate.workloads.keras_mnist.choices.optimizers import OPTIMIZERS, default_learning_rate
from mnist_ablate.workloads.keras_mnist.compiled_program import random_stream
from mnist_ablate.workloads.keras_mnist.dropout_masks import mask, packed_mask
from mnist_ablate.workloads.keras_mnist.lanes import LaneEpoch, LaneProgram, lanes_of, stacked
from mnist_ablate.workloads.keras_mnist.recipe import Recipe, program_key
from mnist_ablate.workloads.keras_mnist.trainer import Trainer
from mnist_ablate.workloads.keras_mnist.workload import KERAS_MNIST

SMALL = {"width": 32, "batch_size": 64, "epochs": 2, "learning_rate": 0.01}
COSTS = {"epoch_seconds", "peak_memory"}
TO_ROUNDING = {"rel": 1e-3, "abs": 1e-5}
"""After some epochs. Sums in another order differ in the seventh digit, and each step adds to that."""
IMAGES = 0.005
"""Of accuracies, as an image near a border may change sides: one of 200."""


@pytest.fixture(scope="module")
def trainer():
    return Trainer(small(500, 200, 200))


@pytest.fixture
def uncompiled(monkeypatch):
    """The graph as TensorFlow runs it: XLA takes seconds to compile it, and the numbers are those of the same graph."""
    monkeypatch.setattr(compiled_program, "is_faster_compiled", lambda _forward: False)


def trial(seed=0, **settings):
    return keras_trial(Recipe(**{**SMALL, **settings}), seed, "")


def in_lanes(trainer, *trainings):
    """The outcomes in lanes by trial, and how many epochs were told of each."""
    told, outcomes = [], {}
    for outcome in trainer.train_lanes(trainings, lambda trial, epoch: told.append((trial.id, epoch.number)), print):
        outcomes[outcome.trial_id] = outcome
    return outcomes, told


def check(trainer, *trainings):
    """Train them in lanes and one at a time, and compare all that is told."""
    outcomes, told = in_lanes(trainer, *trainings)
    assert len(told) == len(set(told))
    for trials in trainings:
        for alone in trainer.train_together(trials, lambda _epoch: None, print):
            found = outcomes.pop(alone.trial_id)
            assert (found.status, found.reason) == (alone.status, alone.reason)
            assert set(alone.metrics) - set(found.metrics) == COSTS & set(alone.metrics)
            assert found.diagnostics.pop("lanes") == len(trainings)
            assert found.diagnostics == pytest.approx(alone.diagnostics, rel=1e-2, abs=1e-5)
            assert len(found.epochs) == len(alone.epochs)
            assert (found.correct == "") == (alone.correct == "")
            for name, value in found.metrics.items():
                tolerance = {"abs": IMAGES} if "accuracy" in name else TO_ROUNDING
                assert value == pytest.approx(alone.metrics[name], **tolerance), name
    assert not outcomes


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [1, 3, 8])
def test_lanes_give_what_trials_give_one_at_a_time(trainer, lanes):
    arms = [
        {},
        {"normalizer": "raw", "learning_rate": 0.001},
        {"initializer": "he_normal", "dropout": 0.2},
        {"normalizer": "centered", "dropout": 0.25},
    ]
    check(trainer, *([trial(seed, **arms[seed % len(arms)])] for seed in range(lanes)))


@pytest.mark.usefixtures("uncompiled")
def test_lanes_may_differ_in_seed_arm_epochs_and_end(trainer):
    """A lane that is no number any more, one that ends earlier, one with two budgets, and one without a test set."""
    healthy = {"model": "mlp3", "optimizer": "sgd", "activation": "elu"}
    diverging = {**healthy, "normalizer": "raw", "learning_rate": 1e3, "epochs": 3}
    trainings = [[trial(0, **healthy)], [trial(1, **diverging)], [trial(2, **healthy, epochs=each) for each in (1, 3)]]
    trainings.append([trial(TUNING_SEED, **healthy, dropout=0.2, normalizer="centered")])
    outcomes, told = in_lanes(trainer, *trainings)
    ends = [outcomes[trials[-1].id] for trials in trainings]
    assert [each.status for each in ends] == ["complete", "diverged", "complete", "complete"]
    assert [len(each.epochs) for each in ends] == [2, len(ends[1].epochs), 3, 2]
    assert len(ends[1].epochs) < 3
    assert [each.metrics.get("test_accuracy") is None for each in ends] == [False, False, False, True]
    assert all(number <= 2 for id_, number in told if id_ == trainings[0][0].id)
    assert all(math.isfinite(value) for each in ends for value in each.metrics.values())
    check(trainer, *trainings)


@pytest.mark.slow
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize(
    "settings",
    [
        *({"optimizer": name, "learning_rate": default_learning_rate(name)} for name in OPTIMIZERS),
        {"norm_layer": "batch_norm"},
        {"norm_layer": "layer_norm", "activation": "gelu"},
        {"model": "mlp3", "dropout": 0.0},
        {"model": "linear"},
        {"depth": 2, "weight_decay": 0.01, "label_smoothing": 0.1},
        {"schedule": "cosine"},
        {"optimizer": "sgd", "momentum": 0.9},
        {"batch_size": 1000},
        {"width": 33, "batch_size": 33},
    ],
    ids=str,
)
def test_whatever_a_network_has_can_be_in_lanes(trainer, settings):
    other = {"schedule": "step"} if "schedule" in settings else {"initializer": "he_uniform"}
    check(trainer, [trial(0, **settings)], [trial(1, **settings)], [trial(2, **{**settings, **other})])


@pytest.mark.usefixtures("uncompiled")
def test_one_step_changes_the_weights_of_a_lane_as_alone_to_a_millionth(dataset):
    """Of SGD: Adam divides by the gradient's own size, so that one of nothing but rounding moves a weight."""
    given = {"width": 16, "batch_size": 300, "optimizer": "sgd", "schedule": "step"}
    recipes = [Recipe(**given, weight_decay=share, label_smoothing=share) for share in (0.1, 0.3, 0.9)]
    recipe = recipes[0]
    program = LaneProgram(program_key(recipe), dataset.image_shape, dataset.classes)
    images, labels = tf.constant(dataset.x_train / np.float32(255)), tf.constant(dataset.y_train, tf.int32)
    orders = np.stack([random_stream(seed, "order").permutation(300) for seed in range(3)]).astype(np.int32)
    packed = np.stack([packed_mask(300, random_stream(seed, "mask"), 300, 16, 0.5) for seed in range(3)])
    rates = np.array([[0.01], [0.001], [0.1]], np.float32)
    begun = []
    for seed in range(3):
        program.reset(recipes[seed], seed)
        begun.append(program.begun())
    given = LaneEpoch(images, labels, tf.constant(orders), [tf.constant(packed)], tf.constant(rates))
    state, losses, _accuracies = program.epoch_of_lanes(stacked(begun), given)
    alone = compiled_program.Program(program_key(recipe), dataset.image_shape, dataset.classes)
    for seed in range(3):
        alone.reset(recipes[seed], seed)
        alone._rates = tf.constant(rates[seed])
        masks = [tf.constant(mask(random_stream(seed, "mask"), 300, 16, 0.5))]
        loss, _accuracy = alone.epoch(images, labels, orders[seed], masks)
        assert losses[seed] == pytest.approx(loss, rel=1e-6)
        program.put(state, seed)
        for mine, own in zip(program.model.variables, alone.model.variables, strict=True):
            np.testing.assert_allclose(mine.numpy(), own.numpy(), atol=1e-6)


@pytest.mark.parametrize("rate", [0.5, 0.25, 0.2])
@pytest.mark.parametrize(("rows", "units", "batch"), [(96, 8, 32), (100, 8, 32), (100, 7, 30), (10, 5, 64)])
def test_a_packed_mask_has_the_bits_of_the_mask_batch_by_batch(rows, units, batch, rate):
    whole = mask(random_stream(3, "mask"), rows, units, rate)
    packed = packed_mask(batch, random_stream(3, "mask"), rows, units, rate)
    for start, bits in zip(range(0, rows, batch), packed, strict=True):
        part = whole[start : start + batch]
        np.testing.assert_array_equal(np.unpackbits(bits, count=part.size).reshape(part.shape), part)


def test_trials_share_a_program_if_their_network_and_their_images_are_the_same():
    group = KERAS_MNIST.lane_group
    usual = group(trial())
    assert usual is not None
    others = {"normalizer": "raw", "learning_rate": 0.1, "dropout": 0.2, "initializer": "he_normal", "epochs": 7}
    assert all(group(trial(5, **{name: value})) == usual for name, value in others.items())
    assert all(group(trial(**{name: value})) != usual for name, value in {"width": 9, "optimizer": "sgd"}.items())
    by_itself = {"model": "cnn", "augmentation": "shift", "train_fraction": 0.5, "label_noise": 0.1}
    assert all(group(trial(**{name: value})) is None for name, value in by_itself.items())
    assert group(trial().model_copy(update={"vary": ("init", "split")})) is None


def test_few_numbers_of_lanes_are_compiled():
    assert [lanes_of(trainings) for trainings in (1, 2, 3, 4, 5, 8, 9, 32)] == [1, 2, 4, 4, 8, 8, 16, 32]


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_on_a_gpu_every_network_that_ships_is_compiled(monkeypatch, model):
    monkeypatch.setattr(compiled_program, "GPUS", ["a GPU"])
    assert compiled_program.Program(program_key(Recipe(model=model, width=8)), (28, 28, 1), 10).compiled
