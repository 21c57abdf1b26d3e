"""What protects the shortcut of the first layer: leaving out background pixels changes no number beyond rounding."""

import numpy as np
import pytest
import tensorflow as tf
from keras_trials import keras_trial, to_the_bit

from mnist_ablate.workloads.keras_mnist import network_inputs
from mnist_ablate.workloads.keras_mnist import trainer as trainer_module
from mnist_ablate.workloads.keras_mnist.active_pixels import BLOCK, ActivePixels, group_by_active_pixels
from mnist_ablate.workloads.keras_mnist.choices.normalizers import NORMALIZERS
from mnist_ablate.workloads.keras_mnist.recipe import Recipe, program_key
from mnist_ablate.workloads.keras_mnist.trainer import Trainer

ORDER = np.random.default_rng(3).permutation(300).astype(np.int32)


def split(dataset, normalizer):
    transform = NORMALIZERS[normalizer](dataset.x_train)
    images, background = transform(dataset.x_train), transform(np.zeros_like(dataset.x_train[:1]))[0]
    return images, images - background, ActivePixels(images - background, background)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_columns_hold_every_pixel_that_differs_in_a_batch(dataset, normalizer):
    images, difference, active_pixels = split(dataset, normalizer)
    columns = active_pixels.columns(ORDER, 64)
    assert columns.index.shape == (5, columns.index.shape[1])
    assert columns.index.shape[1] % BLOCK == 0
    for number, index in enumerate(columns.index):
        batch = difference.reshape(300, -1)[ORDER[number * 64 : (number + 1) * 64]]
        assert not np.delete(batch, index, axis=1).any()
        assert (np.diff(index) > 0).all()
        positions = columns.position[number]
        assert (positions[index] == np.arange(len(index))).all()
        assert (np.delete(positions, index) == len(index)).all()
    assert (columns.background is None) == (normalizer in {"raw", "unit", "scaled", "saturated"})  # black stays zero
    background = 0.0 if columns.background is None else columns.background.reshape(dataset.image_shape)
    np.testing.assert_allclose(difference + background, images, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "normalizer"),
    [
        ("mlp", "unit"),
        ("mlp_relu", "centered"),
        ("mlp3", "pixelwise"),
    ],
)
def test_an_epoch_with_columns_gives_the_numbers_of_one_without(dataset, begun, model, normalizer):
    images, difference, active_pixels = split(dataset, normalizer)
    recipe = Recipe(model=model, normalizer=normalizer, width=8, learning_rate=0.01, batch_size=64)
    results = []
    for x, columns in ((images, None), (difference, active_pixels.columns(ORDER, 64))):
        program = begun(recipe)
        masks = [np.random.default_rng(1).random((300, units)) > 0.5 for units in program.network.mask_units]
        told = program.epoch(x, dataset.y_train, ORDER, masks, columns)
        results.append([*told, *(variable.numpy() for variable in program.model.trainable_variables)])
    for with_columns, without in zip(*results, strict=True):
        np.testing.assert_allclose(with_columns, without, rtol=2e-4, atol=2e-5)


def test_the_number_of_columns_is_that_of_the_fullest_batch_and_images_that_differ_everywhere_are_multiplied_whole():
    images = np.zeros((4, 200, 1, 1), np.float32)
    images[0, :3], images[1, 10:75] = 1, 1
    for rows, columns in (([0, 2, 3], 64), ([0, 1, 2, 3], 128), ([2, 3], 0)):
        found = ActivePixels(images, np.zeros_like(images[0])).columns(np.array(rows, np.int32), 1)
        assert found.index.shape == (len(rows), columns)
    assert ActivePixels(images + 1, np.zeros_like(images[0])).columns(np.arange(4, dtype=np.int32), 1) is None


def test_parts_hold_every_image_once_with_every_pixel_that_differs_and_few_others():
    rng = np.random.default_rng(0)
    difference = (rng.random((300, 40)) < np.linspace(0.001, 0.4, 40)) * rng.random((300, 40), np.float32)
    found = list(group_by_active_pixels(difference, 64))
    assert [len(rows) for rows, _ in found] == [64, 64, 64, 64, 44]
    assert sorted(np.concatenate([rows for rows, _ in found])) == list(range(300))
    for rows, index in found:
        assert (index == np.flatnonzero(difference[rows].any(axis=0))).all()
    as_given = [difference[start : start + 64].any(axis=0).sum() for start in range(0, 300, 64)]
    assert sum(len(index) for _, index in found) < sum(as_given)
    assert [len(index) for _, index in group_by_active_pixels(np.zeros((3, 40), np.float32), 2)] == [0, 0]


@pytest.mark.parametrize("normalizer", ["unit", "centered"])
def test_a_split_in_parts_is_evaluated_as_the_whole_images_are(dataset, monkeypatch, normalizer):
    recipe = Recipe(width=8, normalizer=normalizer, learning_rate=0.01)
    monkeypatch.setattr(network_inputs, "EVALUATION_ROWS", 40)
    whole = Trainer(dataset).inputs(recipe)
    monkeypatch.setattr(trainer_module, "MIN_IMAGES", 300)
    trainer = Trainer(dataset)
    inputs = trainer.inputs(recipe)
    program = trainer.program(program_key(recipe))
    program.reset(recipe, seed=0)
    for in_parts, in_full in ((inputs.val, whole.val), (inputs.test, whole.test)):
        assert max(each.images.shape[1] for each in in_parts) < dataset.x_val[0].size
        assert program.evaluate(in_parts) == pytest.approx(program.evaluate(in_full), rel=1e-5)
    np.testing.assert_array_equal(inputs.probe[0], whole.val[0].images)
    assert trainer.inputs(Recipe(model="cnn", width=8)).active_pixels is None


@pytest.mark.slow
def test_a_trial_has_the_same_bits_again_and_nearly_the_numbers_of_whole_images(dataset, monkeypatch):
    trial = keras_trial(Recipe(width=8, normalizer="centered", epochs=1, learning_rate=0.01), 1, "")
    whole = to_the_bit(Trainer(dataset).train(trial))
    monkeypatch.setattr(trainer_module, "MIN_IMAGES", 300)
    trainer = Trainer(dataset)
    split_up = to_the_bit(trainer.train(trial))
    assert to_the_bit(trainer.train(trial)) == split_up == to_the_bit(Trainer(dataset).train(trial))
    assert split_up == pytest.approx(whole, rel=1e-3)


def test_the_gradient_of_a_left_out_row_is_the_background_alone(dataset, begun):
    _, difference, active_pixels = split(dataset, "centered")
    columns = active_pixels.columns(ORDER, 64)
    recipe = Recipe(width=8, learning_rate=0.01, dropout=0.0, optimizer="sgd")
    layer = begun(recipe).network.first
    batch = tf.reshape(difference[ORDER[:64]], (64, -1))
    first = type(columns)(columns.index[0], columns.position[0], columns.background)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer.forward_batch_columns(batch, first))
    gradient = tape.gradient(total, layer.kernel.value).numpy()
    expected = (batch.numpy() - 1).sum(axis=0)
    np.testing.assert_allclose(gradient, np.repeat(expected[:, None], 8, axis=1), rtol=1e-5, atol=1e-4)
