"""Fewer images, wrong labels, rare classes: drawn by the seed, the same in every arm; a control of the same size."""

from functools import partial

import numpy as np
import pytest

from mnist_ablate.workloads.keras_mnist import trainer as trainer_module
from mnist_ablate.workloads.keras_mnist.choices.augmentations import AUGMENTATIONS, _turned
from mnist_ablate.workloads.keras_mnist.compiled_program import random_stream
from mnist_ablate.workloads.keras_mnist.network_inputs import altered_images
from mnist_ablate.workloads.keras_mnist.own_choices import ChoiceError
from mnist_ablate.workloads.keras_mnist.recipe import Recipe
from mnist_ablate.workloads.keras_mnist.trainer import Trainer
from mnist_ablate.workloads.keras_mnist.training_images import drawn, image_choice

LABELS = np.random.default_rng(0).integers(0, 10, 2000).astype(np.int32)


def taken(seed=1, **settings):
    """The rows that are used, and their labels by row."""
    choice = image_choice(Recipe(**settings), seed)
    rows, labels = drawn(LABELS, choice, partial(random_stream, seed))
    assert (np.diff(rows) > 0).all()
    assert labels.dtype == LABELS.dtype
    return set(rows.tolist()), dict(zip(rows.tolist(), labels.tolist(), strict=True))


def wrong(labels):
    return {row for row, label in labels.items() if label != LABELS[row]}


def test_usual_settings_choose_nothing():
    assert image_choice(Recipe(size_matched=True, augmentation="shift"), 1) is None


def test_at_one_seed_a_smaller_fraction_is_a_part_of_a_larger_one():
    sizes = {fraction: taken(train_fraction=fraction)[0] for fraction in (0.1, 0.3, 0.9)}
    assert sizes[0.1] < sizes[0.3] < sizes[0.9]
    assert [len(each) for each in sizes.values()] == [200, 600, 1800]
    assert taken(2, train_fraction=0.1)[0] != sizes[0.1]
    assert len(taken(train_fraction=1e-6)[0]) == 1


def test_wrong_labels_are_of_other_classes_and_stay_wrong_with_more_of_them():
    few, many = (taken(label_noise=share)[1] for share in (0.1, 0.4))
    assert (len(wrong(few)), len(wrong(many)), len(many)) == (200, 800, 2000)
    assert wrong(few) < wrong(many)
    assert all(few[row] == many[row] for row in wrong(few))
    assert len({many[row] for row in wrong(many)}) == 10
    assert wrong(taken(2, label_noise=0.1)[1]) != wrong(few)


def test_classes_thin_out_by_one_factor_down_to_the_ratio_in_an_order_by_chance():
    rows, labels = taken(class_imbalance=10.0)
    shares = np.sort(np.bincount([*labels.values()], minlength=10) / np.bincount(LABELS))[::-1]
    np.testing.assert_allclose(shares, 10.0 ** (-np.arange(10) / 9), atol=0.01)
    assert not wrong(labels)
    assert taken(class_imbalance=100.0)[0] < rows
    order = [np.argsort(np.bincount([*taken(seed, class_imbalance=10.0)[1].values()])).tolist() for seed in (1, 2)]
    assert order[0] != order[1]


@pytest.mark.parametrize("settings", [{"label_noise": 0.3}, {"class_imbalance": 20.0}, {"train_fraction": 0.5}])
def test_the_control_removes_as_many_by_chance_and_changes_no_label(settings):
    rows, labels = taken(**settings)
    kept, others = taken(size_matched=True, **settings)
    assert len(kept) == len(rows) - len(wrong(labels))
    assert not wrong(others)
    assert not kept & wrong(labels)
    if "class_imbalance" in settings:
        shares = np.bincount([*others.values()]) / np.bincount(LABELS)
        assert shares.max() < 1.5 * shares.min()


def test_a_network_is_fed_the_chosen_images_by_the_seed_and_fitted_on_them_alone(dataset, monkeypatch):
    monkeypatch.setattr(trainer_module, "MIN_IMAGES", 0)
    trainer = Trainer(dataset)
    recipe = Recipe(width=8, train_fraction=0.2, label_noise=0.5, normalizer="standardized")
    tanh = recipe.model_copy(update={"activation": "tanh"})
    one, same, other = (trainer.inputs(each, None, seed) for each, seed in ((recipe, 3), (tanh, 3), (recipe, 4)))
    assert len(one.train[0]) == round(0.2 * len(dataset.y_train))
    np.testing.assert_array_equal(one.train[1], same.train[1])
    assert not np.array_equal(one.train[1], other.train[1])
    assert float(np.mean(one.train[0])) == pytest.approx(0.0, abs=1e-5)
    assert sum(len(part.labels) for part in one.val) == len(dataset.y_val)


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name != "none"])
@pytest.mark.parametrize(("shape", "dtype"), [((70, 28, 28, 1), np.uint8), ((3, 9, 12, 3), np.float32)])
def test_an_augmentation_alters_each_image_by_the_generator_and_keeps_shape_and_type(name, shape, dtype):
    images = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    before = images.copy()
    one, same, other = (AUGMENTATIONS[name](images, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (one.shape, one.dtype) == (images.shape, images.dtype)
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(images, before)
    assert not any(np.array_equal(a, b) for a, b in zip(one, images, strict=True))
    assert not np.array_equal(one, other)
    flat = np.full_like(images, 7)
    np.testing.assert_array_equal(AUGMENTATIONS[name](flat, np.random.default_rng(1)), flat)


def test_a_shift_moves_and_a_scale_grows_about_the_middle():
    image = np.zeros((1, 29, 29, 1), np.uint8)
    image[0, 14, 16] = 255
    moved = _turned(image, 0.0, 1.0, np.array([[3 / 29, -2 / 29]]))
    assert np.argwhere(moved[0, ..., 0] > 250).tolist() == [[12, 19]]
    turned = _turned(image, 90.0, 2.0, np.zeros(2))
    assert np.argwhere(turned[0, ..., 0] > 250).tolist() == [[10, 14]]


def test_training_images_are_altered_in_each_epoch_anew(dataset):
    inputs = Trainer(dataset).inputs(Recipe(width=8, augmentation="shift"))
    first, again, next_ = (inputs.altered(random_stream(1, f"augmentation/{number}")) for number in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, next_)
    assert first.shape == inputs.train[0].shape
    assert Trainer(dataset).inputs(Recipe(width=8)).altered is None


def test_an_augmentation_of_the_user_must_give_such_images(dataset):
    with pytest.raises(ChoiceError, match=r"^augmentation half: makes float64 .* images of the same shape and type"):
        altered_images("half", lambda images, _rng: images / 2, dataset.x_train, np.random.default_rng(0))
