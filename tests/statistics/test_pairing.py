"""What is compared with what, and what is left out by name."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from mnist_ablate.errors import SweepError
from mnist_ablate.statistics.pairing import Pairs, by_arm, pairs
from mnist_ablate.sweep.sweep import Claim
from mnist_ablate.trial import Row, Scalar, Status


def claim(**changes: Any) -> Claim:
    given: dict[str, Any] = {
        "name": "hurts",
        "statement": "Centered inputs hurt.",
        "treatment": {"normalizer": "centered"},
        "control": {"normalizer": "unit"},
        "direction": "lower",
        "margin": 0.002,
    }
    return Claim(**{**given, **changes})


def row(seed: int, accuracy: float, status: Status = "complete", **params: Scalar) -> Row:
    return Row(params, seed, {} if status in ("failed", "lost") else {"test_accuracy": accuracy}, status)


def table(accuracy: Callable[[str, str, int], float], seeds: int = 3) -> list[Row]:
    return [
        row(seed, accuracy(normalizer, activation, seed), normalizer=normalizer, activation=activation)
        for seed in range(seeds)
        for normalizer in ("unit", "centered", "inverted")
        for activation in ("relu", "tanh")
    ]


def found(rows: list[Row], what: Claim) -> Pairs:
    return pairs(by_arm(rows), what)


def effect_of_centering(normalizer: str, activation: str, seed: int) -> float:
    """0.9 + a seed effect; centering costs 0.03 with relu, 0.01 with tanh."""
    cost = {"relu": 0.03, "tanh": 0.01}[activation] if normalizer == "centered" else 0.0
    return 0.9 + 0.001 * seed - cost


def test_differences_are_treatment_minus_control_on_the_same_seed() -> None:
    result = found(table(effect_of_centering), claim(where={"activation": "relu"}))
    assert result.differences == pytest.approx({0: -0.03, 1: -0.03, 2: -0.03})
    assert result.excluded == ()
    assert result.problem == ""


def test_a_seed_is_averaged_over_the_factors_that_the_claim_leaves_open() -> None:
    assert found(table(effect_of_centering), claim()).differences == pytest.approx({0: -0.02, 1: -0.02, 2: -0.02})


def test_versus_subtracts_the_difference_in_the_other_context() -> None:
    interaction = claim(where={"activation": "relu"}, versus={"activation": "tanh"})
    assert found(table(effect_of_centering), interaction).differences == pytest.approx({0: -0.02, 1: -0.02, 2: -0.02})


def test_versus_keeps_what_where_says_of_other_factors() -> None:
    rows = [
        row(
            0,
            0.1 * (a == "relu") * (n == "centered") + 0.5 * d * (n == "centered"),
            normalizer=n,
            activation=a,
            dropout=d,
        )
        for n in ("unit", "centered")
        for a in ("relu", "tanh")
        for d in (0.0, 0.5)
    ]
    interaction = claim(where={"activation": "relu", "dropout": 0.5}, versus={"activation": "tanh"})
    assert found(rows, interaction).differences == pytest.approx({0: 0.1})


def test_reference_takes_the_place_of_control() -> None:
    about = claim(control=None, reference=0.97, treatment={"normalizer": "unit"}, where={"activation": "tanh"})
    assert found(table(effect_of_centering), about).differences == pytest.approx({0: -0.07, 1: -0.069, 2: -0.068})


def test_reference_cancels_in_the_difference_of_two_contexts() -> None:
    rows = [row(0, 0.9 + 0.05 * (a == "relu"), normalizer="unit", activation=a) for a in ("relu", "tanh")]
    what = claim(control=None, reference=0.5, treatment={"normalizer": "unit"})
    both = what.model_copy(update={"where": {"activation": "relu"}, "versus": {"activation": "tanh"}})
    assert found(rows, both).differences == pytest.approx({0: 0.05})


def test_a_diverged_trial_counts_with_the_metric_it_reached() -> None:
    rows = [row(0, 0.97, normalizer="unit"), row(0, 0.098, "diverged", normalizer="centered")]
    assert found(rows, claim()).differences == pytest.approx({0: -0.872})


@pytest.mark.parametrize("status", ["failed", "lost"])
@pytest.mark.parametrize("side", ["unit", "centered"])
def test_a_failed_or_lost_side_leaves_the_pair_out_and_is_named(status: Status, side: str) -> None:
    rows = [
        row(seed, 0.9, status if seed == 1 and normalizer == side else "complete", normalizer=normalizer)
        for seed in range(3)
        for normalizer in ("unit", "centered")
    ]
    result = found(rows, claim())
    assert list(result.differences) == [0, 2]
    assert result.excluded == (f"seed 1: normalizer={side} {status}",)
    assert result.problem == ""


def test_a_missing_side_leaves_the_pair_out_and_is_named() -> None:
    rows = [
        row(0, 0.9, normalizer="unit"),
        row(0, 0.9, normalizer="centered"),
        row(7, 0.9, normalizer="unit"),
    ]
    assert found(rows, claim()).excluded == ("seed 7: normalizer=centered is missing",)


def test_a_seed_with_part_of_the_open_factors_is_left_out() -> None:
    """Averaged over fewer settings it would compare other things than its neighbors do."""
    rows = [r for r in table(effect_of_centering) if (r.seed, *r.params.values()) != (1, "centered", "tanh")]
    result = found(rows, claim())
    assert list(result.differences) == [0, 2]
    assert result.excluded == ("seed 1: normalizer=centered, activation=tanh is missing",)


@pytest.mark.parametrize("side", ["unit", "centered"])
def test_only_settings_that_both_sides_have_are_compared(side: str) -> None:
    """As in a one_factor design, where one of them also ran with tanh, and the other did not."""
    rows = [r for r in table(effect_of_centering) if tuple(r.params.values()) != (side, "tanh")]
    result = found(rows, claim())
    assert result.differences == pytest.approx({0: -0.03, 1: -0.03, 2: -0.03})
    assert result.excluded == ()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_no_number_forbids_a_verdict_on_the_rest(value: float) -> None:
    """Leaving out the seeds that went wrong would judge the lucky ones."""
    rows = [row(seed, 0.9, normalizer=n) for seed in range(9) for n in ("unit", "centered")]
    result = found([*rows, row(9, 0.9, normalizer="unit"), row(9, value, "diverged", normalizer="centered")], claim())
    assert result.problem == f"seed 9: a trial has test_accuracy {value}"
    assert result.excluded == (f"seed 9: normalizer=centered has test_accuracy {value}",)
    assert len(result.differences) == 9


def test_a_metric_that_was_not_measured_forbids_a_verdict() -> None:
    rows = [row(0, 0.9, normalizer=n) for n in ("unit", "centered")]
    assert found(rows, claim(metric="val_loss")).problem == "seed 0: a trial has no val_loss"


def test_metrics_too_large_to_add_up_forbid_a_verdict() -> None:
    rows = [row(0, 1.5e308, normalizer="unit"), row(0, -1.5e308, normalizer="centered")]
    assert found(rows, claim()).problem == "test_accuracy is too large to add up: 1.5e+308"


def test_a_side_that_nobody_ran_is_named() -> None:
    rows = [row(0, 0.9, normalizer="unit")]
    assert found(rows, claim()).problem == "no result has normalizer=centered"
    assert found([], claim()).problem == "no result has normalizer=centered or normalizer=unit"


def test_a_side_that_could_be_several_arms_is_refused() -> None:
    two = claim(treatment={"normalizer": "centered", "activation": "relu"})
    assert found(table(effect_of_centering), two).problem.startswith("normalizer=unit leaves activation open")


def test_a_claim_without_a_second_side_is_refused() -> None:
    assert (
        found(table(effect_of_centering), claim(control=None)).problem == "the claim has neither control nor reference"
    )


def test_two_results_for_one_trial_are_refused() -> None:
    with pytest.raises(SweepError, match="two results for normalizer=unit with seed 0: keep one"):
        by_arm([row(0, 0.9, normalizer="unit"), row(0, 0.8, normalizer="unit")])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (-1.0, 1.0)),
        ({"where": {"activation": "relu"}, "versus": {"activation": "tanh"}}, (-2.0, 2.0)),
        ({"control": None, "reference": 0.25}, (-0.25, 0.75)),
    ],
)
def test_what_a_difference_of_accuracies_can_be_is_known(changes: Any, expected: tuple[float, float]) -> None:
    assert found(table(effect_of_centering), claim(**changes)).span == expected


def test_other_metrics_and_percentages_can_differ_by_anything() -> None:
    percent = table(lambda *where: 100.0 * effect_of_centering(*where))
    loss = [Row(each.params, each.seed, {"test_loss": 0.1}) for each in percent]
    for rows, metric in ((percent, "test_accuracy"), (loss, "test_loss")):
        assert found(rows, claim(metric=metric)).span == (-math.inf, math.inf)
