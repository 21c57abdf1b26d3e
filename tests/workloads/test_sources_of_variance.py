"""What a sweep varies follows the seed, what it holds is the same in every trial, and arms are paired in both."""

import numpy as np
import pytest
from keras_trials import to_the_bit

from mnist_ablate.image_results import decoded
from mnist_ablate.trial import TUNING_SEED
from mnist_ablate.workloads.keras_mnist import trainer as trainer_module
from mnist_ablate.workloads.keras_mnist.compiled_program import random_stream
from mnist_ablate.workloads.keras_mnist.recipe import Recipe, recipe_of
from mnist_ablate.workloads.keras_mnist.trainer import Trainer
from mnist_ablate.workloads.keras_mnist.workload import KERAS_MNIST
from mnist_ablate.workloads.workload import trial_of


def trial(seed, vary, **settings):
    recipe = Recipe(**{"width": 8, "batch_size": 32, "epochs": 1, "learning_rate": 0.01, **settings})
    return trial_of(KERAS_MNIST, recipe.model_dump(), seed, "", vary)


def pixels(images):
    return sorted(image.tobytes() for image in images)


def test_a_seed_splits_all_images_anew_into_as_many_of_each(dataset):
    one, same, other = (dataset.with_split(random_stream(seed, "split")) for seed in (1, 1, 2))
    assert [len(one.y_train), len(one.y_val)] == [len(dataset.y_train), len(dataset.y_val)]
    np.testing.assert_array_equal(one.x_train, same.x_train)
    assert not np.array_equal(one.x_train, other.x_train)
    assert pixels([*one.x_train, *one.x_val]) == pixels([*dataset.x_train, *dataset.x_val])
    labels = {image.tobytes(): label for image, label in zip(dataset.x_train, dataset.y_train, strict=True)}
    assert all(labels.get(image.tobytes(), label) == label for image, label in zip(one.x_val, one.y_val, strict=True))
    np.testing.assert_array_equal(one.x_test, dataset.x_test)
    assert one.digest == dataset.digest


def test_arms_of_a_seed_see_the_same_split_and_normalizers_are_fitted_on_it(dataset):
    trainer = Trainer(dataset)
    first, second = (trainer.inputs(Recipe(width=8, activation=name), 3) for name in ("relu", "tanh"))
    np.testing.assert_array_equal(first.train[1], second.train[1])
    assert not np.array_equal(first.train[1], trainer.inputs(Recipe(width=8), 4).train[1])
    np.testing.assert_array_equal(trainer.inputs(Recipe(width=8)).train[1], dataset.y_train)
    fitted = trainer.inputs(Recipe(width=8, normalizer="standardized"), 3)
    assert float(np.mean(fitted.train[0])) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("vary", [("init",), ("order", "dropout"), ("dropout",), ("split",)])
def test_what_is_held_is_the_same_for_every_seed(dataset, monkeypatch, vary):
    trainer, orders, kernels = Trainer(dataset), [], []
    made = [trial(seed, vary) for seed in (1, 2)]
    program = trainer.program(trainer.key(recipe_of(made[0])))
    reset, epoch = program.reset, program.epoch

    def noting_reset(*given):
        reset(*given)
        kernels.append(program.model.trainable_variables[0].numpy())

    def noting_epoch(images, labels, order, *rest):
        orders.append(order)
        return epoch(images, labels, order, *rest)

    monkeypatch.setattr(program, "reset", noting_reset)
    monkeypatch.setattr(program, "epoch", noting_epoch)
    one, other = (trainer.train(each) for each in made)
    assert to_the_bit(one) != to_the_bit(other)
    assert np.array_equal(*kernels) == ("init" not in vary)
    assert np.array_equal(*orders) == ("order" not in vary)


@pytest.mark.slow
def test_nothing_that_varies_is_the_same_trial_whatever_the_seed(dataset):
    trainer = Trainer(dataset)
    one, other = (trainer.train(trial(seed, ("dropout",), dropout=0.0)) for seed in (1, 2))
    assert to_the_bit(one) == to_the_bit(other)


@pytest.mark.slow
@pytest.mark.parametrize("fewest", [0, 10_000])  # images for leaving out columns, which sorts the test images
def test_a_trial_records_which_test_images_are_right_and_a_blind_one_none(dataset, monkeypatch, fewest):
    monkeypatch.setattr(trainer_module, "MIN_IMAGES", fewest)
    trainer, usual = Trainer(dataset), ("init", "order", "dropout")
    outcome = trainer.train(trial(0, usual))
    correct = decoded(outcome.correct)
    assert correct.mean() == outcome.metrics["test_accuracy"]
    network = trainer.program(trainer.key(recipe_of(trial(0, usual)))).network
    masks = [np.zeros((len(correct), units), bool) for units in network.mask_units]
    logits = np.asarray(network((dataset.x_test / 256).astype(np.float32), masks, training=False)[0])
    np.testing.assert_array_equal(logits.argmax(axis=1) == dataset.y_test, correct)
    assert trainer.train(trial(TUNING_SEED, usual)).correct == ""
