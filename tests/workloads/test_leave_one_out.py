"""leave_one_out drops one component at a time: each is really gone from what is trained, and all else is as it was."""

import pytest
from small_digits import small
from sweep_runs import small as sweep_of

from mnist_ablate.sweep.plan import count, make_plan
from mnist_ablate.workloads.keras_mnist.network import Network
from mnist_ablate.workloads.keras_mnist.recipe import Recipe, recipe_of
from mnist_ablate.workloads.keras_mnist.trainer import Trainer

BASELINE = {"dropout": 0.5, "norm_layer": "batch_norm", "model": "mlp3", "normalizer": "standardized"}
DROPPED = {"dropout": [0.0], "norm_layer": ["none"], "model": ["mlp"], "normalizer": ["raw"]}
FIXED = {"width": 8, "epochs": 1, "batch_size": 32}
SWEEP = sweep_of(design="leave_one_out", baseline=BASELINE, scientific=DROPPED, fixed=FIXED, claims=[])
PLAN = make_plan(SWEEP, "digest")
BASE = Recipe.model_validate(PLAN.arms[0].settings)
WITHOUT = {
    kind: Recipe.model_validate(arm.settings)
    for arm in PLAN.arms
    for kind in BASELINE
    if arm.params[kind] != BASELINE[kind]
}
"""What is trained in place of the baseline, by what it drops."""


def test_there_is_the_baseline_and_one_arm_for_each_component_that_differs_in_it_alone() -> None:
    assert len(PLAN.arms) == 5
    assert PLAN.size == count(PLAN.sweep) == 5 * 3
    assert PLAN.control_arm.params == PLAN.arms[0].params == BASELINE
    for kind in BASELINE:
        assert {name for name, value in BASE if getattr(WITHOUT[kind], name) != value} == {kind}


@pytest.mark.parametrize(
    ("kind", "layer", "before", "after"),
    [
        ("norm_layer", "BatchNormalization", 3, 0),
        ("model", "Dense", 3, 1),  # the second and third hidden layer, as a group
        ("model", "MaskedDropout", 2, 1),
        ("dropout", "MaskedDropout", 2, 0),
    ],
)
def test_its_layers_are_gone(kind: str, layer: str, before: int, after: int) -> None:
    for recipe, number in ((BASE, before), (WITHOUT[kind], after)):
        layers = [type(each).__name__ for each in Network(recipe, (28, 28, 1), 10).model.layers]
        assert layers.count(layer) == number


@pytest.mark.slow
@pytest.mark.parametrize("kind", BASELINE)
def test_each_arm_trains(kind: str) -> None:
    trial = next(each.trial for each in PLAN.verdict_trials() if recipe_of(each.trial) == WITHOUT[kind])
    assert Trainer(small()).train(trial).status == "complete"
