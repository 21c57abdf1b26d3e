"""leave_one_out drops one component at a time: each is really gone from what is trained, and all else is as it was."""

from typing import Any

import numpy as np
import pytest
from small_digits import small
from sweep_runs import small as sweep_of

from mnist_ablate.sweep.plan import Plan, count, make_plan
from mnist_ablate.workloads.keras_mnist import network
from mnist_ablate.workloads.keras_mnist.choices.normalizers import NORMALIZERS
from mnist_ablate.workloads.keras_mnist.recipe import Recipe, recipe_of
from mnist_ablate.workloads.keras_mnist.trainer import Trainer

BASELINE = {"dropout": 0.5, "norm_layer": "batch_norm", "model": "mlp3", "normalizer": "standardized"}
DROPPED = {"dropout": [0.0], "norm_layer": ["none"], "model": ["mlp"], "normalizer": ["raw"]}
KINDS = list(BASELINE)


def plan_of(**changes: Any) -> Plan:
    content = {"design": "leave_one_out", "baseline": BASELINE, "scientific": DROPPED, "claims": []}
    return make_plan(sweep_of(**{**content, "fixed": {"width": 8, "epochs": 1, "batch_size": 32}, **changes}), "digest")


def recipe_without(kind: str) -> Recipe:
    arms = {
        arm.params[kind]: Recipe.model_validate(arm.settings)
        for arm in plan_of().arms
        if arm.params[kind] != BASELINE[kind]
    }
    return arms[DROPPED[kind][0]]


def layers(recipe: Recipe) -> list[str]:
    return [type(layer).__name__ for layer in network.build(recipe, (28, 28), 10).model.layers]


def test_there_is_the_baseline_and_one_arm_for_each_component() -> None:
    plan = plan_of()
    assert len(plan.arms) == 5
    assert plan.size == count(plan.sweep) == 5 * 3
    assert plan.control_arm.params == plan.arms[0].params == BASELINE


@pytest.mark.parametrize("kind", KINDS)
def test_an_arm_differs_from_the_baseline_in_its_component_alone(kind: str) -> None:
    base, without = plan_of().arms[0].settings, recipe_without(kind).model_dump()
    assert {name for name in base if base[name] != without[name]} == {kind}


@pytest.mark.parametrize(
    ("kind", "layer", "before", "after"),
    [
        ("norm_layer", "BatchNormalization", 3, 0),
        ("model", "Dense", 3, 1),  # the second and third hidden layer, as a group
        ("model", "MaskedDropout", 2, 1),
    ],
)
def test_its_layers_are_gone(kind: str, layer: str, before: int, after: int) -> None:
    assert layers(Recipe.model_validate(plan_of().arms[0].settings)).count(layer) == before
    assert layers(recipe_without(kind)).count(layer) == after


def test_without_dropout_no_unit_is_masked() -> None:
    digits = small(train=64)
    masks = [
        network.build(recipe, digits.image_shape, digits.classes).mask_units
        for recipe in (Recipe.model_validate(plan_of().arms[0].settings), recipe_without("dropout"))
    ]
    assert [len(each) for each in masks] == [2, 0]


def test_without_an_input_transform_the_network_sees_the_pixels() -> None:
    digits = small(train=64)
    seen = NORMALIZERS[recipe_without("normalizer").normalizer](digits.x_train)(digits.x_train)
    assert np.array_equal(np.asarray(seen).reshape(digits.x_train.shape), digits.x_train)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_arm_trains(kind: str) -> None:
    plan = plan_of()
    trials = [each.trial for each in plan.verdict_trials() if recipe_of(each.trial) == recipe_without(kind)]
    assert Trainer(small()).train(trials[0]).status == "complete"
