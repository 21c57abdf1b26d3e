"""Momentum, weight decay, schedules, label smoothing, depth: what each does to a step, and nothing where unused."""

import math

import numpy as np
import pytest
from keras_trials import keras_trial

from mnist_ablate.sweep.plan import make_plan, trainings
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.workloads.keras_mnist.choices.optimizers import OPTIMIZERS, takes_momentum
from mnist_ablate.workloads.keras_mnist.choices.schedules import SCHEDULES, WHATEVER_FOLLOWS, Steps
from mnist_ablate.workloads.keras_mnist.compiled_program import forward_graph
from mnist_ablate.workloads.keras_mnist.costs import multiply_adds
from mnist_ablate.workloads.keras_mnist.metrics import METRICS, cost_metrics
from mnist_ablate.workloads.keras_mnist.network import Network
from mnist_ablate.workloads.keras_mnist.own_choices import ChoiceError
from mnist_ablate.workloads.keras_mnist.recipe import OF_TRAINING_IMAGES, Recipe, program_key
from mnist_ablate.workloads.keras_mnist.trainer import Trainer
from mnist_ablate.workloads.keras_mnist.workload import KERAS_MNIST

SIDES = {"treatment": {"activation": "relu"}, "control": {"activation": "tanh"}}
ORDER = np.arange(64, dtype=np.int32)
OFF = {
    "depth": 1, "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "label_smoothing": 0.0,
    "augmentation": "none",
    "train_fraction": 1.0, "class_imbalance": 1.0, "label_noise": 0.0, "size_matched": False,
}  # fmt: skip
ON = {
    "depth": 2, "momentum": 0.9, "weight_decay": 0.1, "schedule": "cosine", "label_smoothing": 0.1,
    "augmentation": "shift",
    "train_fraction": 0.5, "class_imbalance": 2.0, "label_noise": 0.1, "size_matched": True,
}  # fmt: skip


def change_of(dataset, begun, images=64, **settings):
    """What plain SGD at a rate of 0.1 adds to each variable in an epoch of steps of 32 images, in float64."""
    usual = {"width": 8, "model": "linear", "optimizer": "sgd", "learning_rate": 0.1, "batch_size": 32, "dropout": 0.0}
    recipe = Recipe(**{**usual, **settings})
    program = begun(recipe)
    x, y = dataset.x_train[:images].astype(np.float32) / 256, dataset.y_train[:images]
    before = [variable.numpy().astype(float) for variable in program.model.trainable_variables]
    program.set_rates(recipe, 1, images)
    loss = program.epoch(x, y, ORDER[:images], [])[0]
    return before, [v.numpy() - b for v, b in zip(program.model.trainable_variables, before, strict=True)], loss


def test_settings_that_are_off_leave_ids_and_programs_as_they_were():
    assert Recipe(**OFF) == Recipe()
    assert keras_trial(Recipe(), 0, "x").id == "6a99a3997628c993"
    assert len({keras_trial(Recipe(**{name: value}), 0, "x").id for name, value in ON.items()}) == len(ON)
    usual = program_key(Recipe())
    assert all(program_key(Recipe(**{name: ON[name]})) == usual for name in OF_TRAINING_IMAGES)
    for name, one, other in (("weight_decay", 0.1, 0.2), ("label_smoothing", 0.1, 0.2), ("schedule", "step", "cosine")):
        assert usual != program_key(Recipe(**{name: one})) == program_key(Recipe(**{name: other})), name


@pytest.mark.slow
def test_weight_decay_takes_its_share_of_each_weight_times_the_rate(dataset, begun):
    before, plain, _ = change_of(dataset, begun, images=32)
    _, decayed, _ = change_of(dataset, begun, images=32, weight_decay=0.5)
    for start, one, other in zip(before, plain, decayed, strict=True):
        np.testing.assert_allclose(other, one - 0.05 * start, atol=1e-6)


@pytest.mark.slow
def test_momentum_repeats_a_part_of_the_step_before(dataset, begun):
    first = change_of(dataset, begun, images=32)[1]
    two, both = (change_of(dataset, begun, momentum=momentum)[1] for momentum in (0.0, 0.9))
    for one, plain, found in zip(first, two, both, strict=True):
        np.testing.assert_allclose(found, plain + 0.9 * one, atol=2e-4)  # the second step starts where the first ended
    assert {name for name, build in OPTIMIZERS.items() if takes_momentum(build)} == {"sgd", "article_sgd", "rmsprop"}
    with pytest.raises(ChoiceError, match=r"^optimizer adam: takes no momentum; give its function that parameter$"):
        begun(Recipe(momentum=0.9))


@pytest.mark.slow
def test_label_smoothing_pulls_to_all_classes_and_the_loss_is_told_without_it(dataset, begun):
    _, plain, loss = change_of(dataset, begun, images=32)
    _, smooth, same = change_of(dataset, begun, images=32, label_smoothing=0.4)
    assert same == pytest.approx(loss)
    y = np.eye(10)[dataset.y_train[:32]]
    expected = plain[1] + 0.1 * 0.4 * (0.1 - y).mean(axis=0)  # of the biases: rate times the change of the target
    np.testing.assert_allclose(smooth[1], expected, atol=1e-6)


def test_schedules_are_what_their_papers_say():
    done = np.arange(0, 4, 0.25)
    found = {name: factor(Steps(done, 4)) for name, factor in SCHEDULES.items()}
    assert found["constant"].tolist() == [1.0] * 16
    assert found["step"].tolist() == [1.0] * 8 + [0.1] * 4 + [0.01] * 4
    assert found["cosine"][[0, 8]].tolist() == pytest.approx([1.0, 0.5])
    assert 0 < found["cosine"][-1] < 0.01
    first = SCHEDULES["warm_up"](Steps(done[:4], 4))
    assert first.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert SCHEDULES["warm_up"](Steps(done[4:8], 4)).tolist() == [1.0] * 4


@pytest.mark.parametrize("name", SCHEDULES)
def test_only_schedules_that_do_not_see_the_end_share_a_training(name):
    each = [SCHEDULES[name](Steps(np.array([0.0, 0.5]), epochs)).tolist() for epochs in (1, 3)]
    assert (each[0] == each[1]) == (name in WHATEVER_FOLLOWS) == KERAS_MNIST.shares_trainings({"schedule": name})


def test_each_number_of_epochs_is_trained_for_itself_where_the_rate_follows_it():
    across = {"epochs": [1, 2, 5], "schedule": ["constant", "cosine"]}
    sweep = Sweep(
        name="x", question="?", scientific={"activation": ["relu", "tanh"]}, across=across, crossed=True, seeds=3,
        claims=[{**SIDES, "name": "c", "statement": "?", "direction": "same", "margin": 0.1}],
    )  # fmt: skip
    found = trainings(KERAS_MNIST, make_plan(sweep, "x").verdict_trials())
    sizes = {(str(each[0].trial.settings["schedule"]), len(each)) for each in found}
    assert sizes == {("constant", 3), ("cosine", 1)}
    assert len(found) == 2 * 3 + 2 * 3 * 3


@pytest.mark.slow
def test_the_rate_of_each_step_is_the_schedules(dataset, begun):
    """Two steps of plain SGD from zero rate: with warm-up the first is half as long."""
    first, warm = (change_of(dataset, begun, images=32, **more)[1] for more in ({}, {"learning_rate": 0.05}))
    two = change_of(dataset, begun, schedule="warm_up")[1]
    half = change_of(dataset, begun, images=32, schedule="warm_up", batch_size=16)[1]
    for one, slow, found in zip(first, warm, two, strict=True):
        np.testing.assert_allclose(slow, one / 2, atol=1e-6)
        assert 0 < np.abs(found).sum() < 2.5 * np.abs(one).sum()
    assert not np.allclose(half[0], first[0])
    program = begun(Recipe(schedule="cosine", epochs=2, learning_rate=0.1, batch_size=32, width=8))
    program.set_rates(Recipe(schedule="cosine", epochs=2, learning_rate=0.1), 2, 64)
    np.testing.assert_allclose(program._rates, [0.05, 0.1 * (1 + math.cos(0.75 * math.pi)) / 2], rtol=1e-6)
    program.reset(Recipe(), 0)
    assert program._rates is None


def test_depth_adds_layers_and_leaves_the_draws_of_the_first(begun):
    one, three = (begun(Recipe(width=8, depth=depth), seed=5) for depth in (1, 3))
    assert [name for name, *_ in three.network.dropouts] == ["dropout_1", "dropout_2", "dropout_3"]
    kernels = [
        {layer.name: layer.kernel.numpy() for layer in each.model.layers if hasattr(layer, "kernel")}
        for each in (one, three)
    ]
    assert set(kernels[1]) - set(kernels[0]) == {"dense_2", "dense_3"}
    np.testing.assert_array_equal(kernels[0]["dense_1"], kernels[1]["dense_1"])


@pytest.mark.parametrize(
    ("model", "shape", "parameters", "products"),
    [
        ("mlp", (28, 28, 1), 784 * 500 + 500 + 500 * 10 + 10, 784 * 500 + 500 * 10),
        ("linear", (4, 4, 3), 48 * 10 + 10, 48 * 10),
        (
            "cnn", (8, 8, 1),
            320 + 9 * 32 * 32 + 32 + 4 * 32 * 500 + 500 + 2 * (250_000 + 500) + 5010,
            36 * 9 * 32 + 16 * 9 * 32 * 32 + 4 * 32 * 500 + 2 * 250_000 + 5000,
        ),
    ],
)  # fmt: skip
def test_parameters_and_multiply_adds_are_those_of_the_layers(model, shape, parameters, products):
    network = Network(program_key(Recipe(model=model)), shape, 10)
    assert sum(int(np.prod(each.shape)) for each in network.model.trainable_variables) == parameters
    assert multiply_adds(forward_graph(network, shape, converts=True)) == products


def test_costs_of_an_epoch_leave_out_the_first_which_compiles():
    assert cost_metrics([9.0], 60) == {"images_per_epoch": 60.0}
    assert cost_metrics([9.0, 1.0, 3.0, 2.0], 60) == {"images_per_epoch": 60.0, "epoch_seconds": 2.0}
    assert {name for name, metric in METRICS.items() if metric.of_machine} == {"epoch_seconds", "peak_memory"}


@pytest.mark.slow
def test_all_of_it_together_trains_and_repeats_to_the_bit(dataset):
    trainer = Trainer(dataset)
    recipe = Recipe(**{**ON, "optimizer": "rmsprop", "width": 8, "batch_size": 32, "epochs": 3})
    first, again = (Trainer(dataset).train(keras_trial(recipe, 3, "")).metrics for _ in range(2))
    assert first["images_per_epoch"] < 0.5 * len(dataset.y_train)
    assert {"parameters", "multiply_adds", "epoch_seconds", "peak_memory"} <= set(first)
    repeats = [name for name in first if not METRICS[name].of_machine]
    assert [first[name] for name in repeats] == [again[name] for name in repeats]
    plain = trainer.train(keras_trial(Recipe(width=8, batch_size=32, epochs=3), 3, "")).metrics
    assert plain["val_loss"] != first["val_loss"]


@pytest.mark.slow
def test_an_epoch_costs_what_every_thread_computes_for_it(dataset):
    recipes = (Recipe(model="cnn", batch_size=32, epochs=3), Recipe(model="mlp", width=8, batch_size=32, epochs=3))
    cnn, mlp = (Trainer(dataset).train(keras_trial(each, 0, "")).metrics["epoch_seconds"] for each in recipes)
    assert cnn > 5 * mlp
