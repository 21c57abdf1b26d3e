import math

import h5py
import numpy as np
import pytest
from keras_trials import keras_trial, to_the_bit

from mnist_ablate.trial import CONTROL_SEED, TUNING_SEED
from mnist_ablate.workloads.keras_mnist import dropout_masks
from mnist_ablate.workloads.keras_mnist.choices.normalizers import NORMALIZERS
from mnist_ablate.workloads.keras_mnist.choices.optimizers import default_learning_rate
from mnist_ablate.workloads.keras_mnist.compiled_program import EvaluationBatch, random_stream
from mnist_ablate.workloads.keras_mnist.metrics import METRICS
from mnist_ablate.workloads.keras_mnist.recipe import Recipe, program_key, recipe_of
from mnist_ablate.workloads.keras_mnist.trainer import WEIGHTS, Trainer
from mnist_ablate.workloads.keras_mnist.workload import KERAS_MNIST

SMALL = {"width": 8, "batch_size": 32, "epochs": 1, "learning_rate": 0.01}
DIVERGING = {"normalizer": "raw", "optimizer": "sgd", "learning_rate": 1e3, "activation": "elu", "model": "mlp3"}
DIVERGING |= {"epochs": 5}


@pytest.fixture(scope="module")
def trainer(dataset):
    return Trainer(dataset)


def trial(seed=0, **settings):
    return keras_trial(Recipe(**{**SMALL, **settings}), seed, "")


def numbers(outcome):
    epochs = [each.model_copy(update={"ended_ms": 0}) for each in outcome.epochs]
    return (to_the_bit(outcome), outcome.diagnostics, epochs, outcome.correct)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("axis", "name"),
    [(axis, name) for axis, table in KERAS_MNIST.choices.items() if axis != "normalizer" for name in table],
)
def test_every_choice_trains_to_a_complete_outcome(trainer, tmp_path, monkeypatch, axis, name):
    monkeypatch.setenv("MNIST_ABLATE_CACHE", str(tmp_path))
    settings = {axis: name, **({"weights": "random"} if name == "vgg16" else {})}
    if axis == "optimizer":
        settings["learning_rate"] = default_learning_rate(name)
    outcome = trainer.train(trial(**settings))
    assert outcome.status == "complete"
    assert set(METRICS) - set(outcome.metrics) == {"val_fluctuation", "epoch_seconds"}  # one epoch tells neither
    assert len(outcome.epochs) == 1
    assert all(math.isfinite(value) for value in (*outcome.metrics.values(), *outcome.diagnostics.values()))


@pytest.mark.slow
def test_every_normalizer_trains_on_the_same_program(trainer):
    trainer.train(trial())
    compiled = trainer.program.cache_info().misses
    for name in NORMALIZERS:
        assert trainer.train(trial(normalizer=name)).trial_id == trial(normalizer=name).id
    assert trainer.program.cache_info().misses == compiled


@pytest.mark.slow
def test_same_trial_has_the_same_bits_whatever_was_trained_between(dataset, trainer):
    first = trainer.train(trial(seed=3, epochs=2))
    trainer.train(trial(seed=4, dropout=0.2, learning_rate=0.1, initializer="he_normal", normalizer="raw"))
    assert numbers(trainer.train(trial(seed=3, epochs=2))) == numbers(first)
    assert numbers(Trainer(dataset).train(trial(seed=3, epochs=2))) == numbers(first)
    assert numbers(trainer.train(trial(seed=4, epochs=2))) != numbers(first)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [{"norm_layer": "batch_norm", "dropout": 0.3}, {**DIVERGING, "learning_rate": 20.0}, {"seed": TUNING_SEED}],
)
def test_one_training_gives_the_bits_of_every_shorter_one_alone(trainer, settings):
    trials = [trial(**{"seed": 3, "batch_size": 100, **settings, "epochs": epochs}) for epochs in (1, 2, 4)]
    together = [*trainer.train_together(trials, lambda _epoch: None, lambda _text: None)]
    assert [each.trial_id for each in together] == [each.id for each in trials]
    for each, asked in zip(together, trials, strict=True):
        alone = trainer.train(asked)
        assert (numbers(each), each.status, each.reason) == (numbers(alone), alone.status, alone.reason)
    assert [each.seconds for each in together] == sorted(each.seconds for each in together)
    assert len({each.started_ms for each in together}) == 1


def kernels(program):
    return {layer.name: layer.kernel.numpy() for layer in program.model.layers if hasattr(layer, "kernel")}


def test_dropout_and_norm_layers_leave_the_kernels_of_a_seed(begun):
    plain = {"model": "mlp3", "width": 8, "dropout": 0.0}
    first = kernels(begun(Recipe(**plain), seed=5))
    for change in ({"dropout": 0.5}, {"norm_layer": "batch_norm"}, {"optimizer": "sgd", "activation": "tanh"}):
        for name, kernel in kernels(begun(Recipe(**{**plain, **change}), seed=5)).items():
            np.testing.assert_array_equal(kernel, first[name])


def test_streams_of_two_uses_share_no_draws():
    uses = ("shuffle/1", "shuffle/2", "dropout_1/1", "kernel/logits")
    draws = {use: random_stream(7, use).random(4).tolist() for use in uses}
    assert len({value for values in draws.values() for value in values}) == 16
    assert random_stream(7, "shuffle/1").random(4).tolist() == draws["shuffle/1"]


@pytest.mark.parametrize("rate", [0.5, 0.25, 0.2])
def test_a_mask_keeps_the_units_that_the_rate_says_each_on_its_own(rate):
    mask, other = (np.asarray(dropout_masks.mask(random_stream(1, f"x/{i}"), 3001, 101, rate)) for i in (1, 2))
    assert (mask.dtype, mask.shape) == (bool, (3001, 101))
    spread = math.sqrt(rate * (1 - rate))
    assert mask.mean() == pytest.approx(1 - rate, abs=4 * spread / math.sqrt(mask.size))
    assert np.abs(mask.mean(axis=0) - (1 - rate)).max() < 5 * spread / math.sqrt(3001)
    assert np.abs(np.corrcoef(mask[:, :20].T) - np.eye(20)).max() < 5 / math.sqrt(3001)
    assert not (mask == other).all(axis=1).any()


@pytest.mark.parametrize(("initializer", "fans"), [("glorot_uniform", 784 + 8), ("he_uniform", 784)])
def test_limits_of_initial_kernels_follow_the_fans(begun, initializer, fans):
    kernel = kernels(begun(Recipe(width=8, initializer=initializer)))["dense_1"]
    assert kernel.shape == (784, 8)
    assert np.abs(kernel).max() == pytest.approx(math.sqrt(6 / fans), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [True, False])
def test_one_step_is_what_the_formulas_say(dataset, begun, compiled):
    """Forward and backward of 784-8-10 with relu and dropout, and one plain SGD step, in float64."""
    recipe = Recipe(width=8, optimizer="sgd", learning_rate=0.1, dropout=0.25, batch_size=64)
    program = begun(recipe, compiled=compiled)
    images, y = dataset.x_train[:64].astype(np.float32) / 256, dataset.y_train[:64]
    mask, x = random_stream(0, "mask").random((64, 8)) >= 0.25, images.reshape(64, -1).astype(float)
    w1, b1, w2, b2 = start = [variable.numpy().astype(float) for variable in program.model.trainable_variables]
    z = x @ w1 + b1
    h = np.maximum(z, 0) * mask / 0.75
    logits = h @ w2.T + b2
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    d2 = (p - np.eye(10)[y]) / 64
    d1 = d2 @ w2 * mask / 0.75 * (z > 0)
    trained_loss, _ = program.epoch(images, y, np.arange(64, dtype=np.int32), [mask])
    assert trained_loss == pytest.approx(-np.log(p[np.arange(64), y]).mean(), rel=1e-5)
    steps = [x.T @ d1, d1.sum(0), d2.T @ h, d2.sum(0)]
    for variable, before, step in zip(program.model.trainable_variables, start, steps, strict=True):
        np.testing.assert_allclose(variable.numpy(), before - 0.1 * step, atol=1e-6)


def test_article_sgd_decays_with_the_step(dataset, begun):
    recipe = Recipe(width=8, optimizer="article_sgd", learning_rate=0.1, dropout=0.0, batch_size=100)
    program, moved = begun(recipe), []
    x, y = dataset.x_train[:100].astype(np.float32) / 256, dataset.y_train[:100]
    for steps_before in (10**6, 0):
        program.reset(recipe, seed=0)
        program.optimizer.iterations.assign(steps_before)
        before = kernels(program)["dense_1"]
        program.epoch(x, y, np.arange(100, dtype=np.int32), [])
        moved.append(np.abs(kernels(program)["dense_1"] - before).max())
    assert moved[1] == pytest.approx(2 * moved[0], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [64, 1000])
def test_every_image_counts_once_when_the_last_batch_is_short(dataset, begun, batch_size):
    recipe = Recipe(width=8, optimizer="sgd", learning_rate=1e-12, dropout=0.0, batch_size=batch_size)
    program, x, y = begun(recipe, compiled=True), dataset.x_train.astype(np.float32) / 256, dataset.y_train
    trained = program.epoch(x, y, np.arange(300, dtype=np.int32), [])
    parts = [EvaluationBatch(x[part], y[part]) for part in (slice(200), slice(200, 300))]
    assert trained == pytest.approx(program.evaluate(parts), rel=1e-5)


@pytest.mark.slow
def test_diverged_trial_counts_with_chance_and_keeps_its_finite_epochs(trainer):
    outcome = trainer.train(trial(**DIVERGING))
    assert outcome.status == "diverged"
    assert outcome.reason == f"loss not finite in epoch {len(outcome.epochs) + 1}"
    chance = {"test_accuracy": 0.1, "test_loss": math.log(10), "converged": 0.0}
    assert {name: outcome.metrics[name] for name in chance} == pytest.approx(chance)


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "status"), [({}, "complete"), (DIVERGING, "diverged")])
def test_a_trial_that_is_there_to_choose_is_not_shown_the_test_set(trainer, monkeypatch, settings, status):
    made = trial(**settings)
    blind, shown = (made.model_copy(update={"seed": seed}) for seed in (TUNING_SEED, CONTROL_SEED))
    program, read = trainer.program(program_key(recipe_of(made))), []
    evaluate = program.evaluate_images
    monkeypatch.setattr(program, "evaluate_images", lambda split: read.append(split) or evaluate(split))
    found = trainer.train(blind)
    assert not any(split is trainer.inputs(recipe_of(made)).test for split in read)
    assert found.status == status
    assert "val_accuracy" in found.metrics
    assert not any("test" in name for name in found.metrics)
    assert "test_accuracy" in trainer.train(shown).metrics


@pytest.mark.slow
def test_training_lowers_the_loss_and_tells_epochs_as_they_end(trainer):
    told = []
    outcome = trainer.train(trial(epochs=8, width=32, dropout=0.0), told.append)
    assert tuple(told) == outcome.epochs
    assert [epoch.number for epoch in told] == [*range(1, 9)]
    assert outcome.epochs[-1].metrics["train_loss"] < 0.5 * outcome.epochs[0].metrics["train_loss"]
    assert outcome.metrics["test_accuracy"] > 0.5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras")  # its own use of numpy
def test_saved_weights_name_layers_as_registered_models_have_them(trainer, tmp_path):
    trainer.train(trial())
    trainer.save(trial(), tmp_path)
    with h5py.File(tmp_path / WEIGHTS) as file:
        assert {"pixel_dense", "dense", "masked_dropout"} <= set(file["layers"])


def test_units_that_never_fire_are_called_dead(dataset, begun):
    program = begun(Recipe(width=8, dropout=0.0))
    program.model.get_layer("dense_1").bias.assign([-1e6, -1e6, 1e6, 0, 0, 0, 0, 0])
    found = program.probe(dataset.x_val.astype(np.float32) / 256, dataset.y_val)
    assert 2 / 8 <= found["dead_dense_1"] < 1 - found["always_on_dense_1"] <= 7 / 8
