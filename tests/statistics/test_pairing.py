"""What is compared with what, and what is left out by name."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from mnist_ablate.errors import SweepError
from mnist_ablate.statistics.claims.kind import kind_of
from mnist_ablate.statistics.pairing import Pairs, by_arm, pairs
from mnist_ablate.sweep.claim import Claim
from mnist_ablate.trial import Row, Scalar, Status


def row(seed: int, accuracy: float, status: Status = "complete", **params: Scalar) -> Row:
    return Row(params, seed, {} if status in ("failed", "lost") else {"test_accuracy": accuracy}, status)


def both(seeds: int = 1) -> list[Row]:
    return [row(seed, 0.9, normalizer=normalizer) for seed in range(seeds) for normalizer in ("unit", "centered")]


def table(accuracy: Callable[[str, str, int], float]) -> list[Row]:
    return [
        row(seed, accuracy(normalizer, activation, seed), normalizer=normalizer, activation=activation)
        for seed in range(3)
        for normalizer in ("unit", "centered", "inverted")
        for activation in ("relu", "tanh")
    ]


def effect_of_centering(normalizer: str, activation: str, seed: int) -> float:
    """0.9 + a seed effect; centering costs 0.03 with relu, 0.01 with tanh."""
    cost = {"relu": 0.03, "tanh": 0.01}[activation] if normalizer == "centered" else 0.0
    return 0.9 + 0.001 * seed - cost


CENTERING = table(effect_of_centering)


def found(rows: list[Row], **changes: Any) -> Pairs:
    """The pairs of the claim that centered inputs hurt, so changed."""
    given: dict[str, Any] = {
        "name": "hurts",
        "statement": "Centered inputs hurt.",
        "treatment": {"normalizer": "centered"},
        "control": {"normalizer": "unit"},
        "direction": "lower",
        "margin": 0.002,
    }
    claim = Claim(**{**given, **changes})
    return pairs(kind_of(claim).contrast(by_arm(rows), claim))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"where": {"activation": "relu"}}, [-0.03, -0.03, -0.03]),
        ({}, [-0.02, -0.02, -0.02]),  # averaged over the factor that the claim leaves open
        ({"where": {"activation": "relu"}, "versus": {"activation": "tanh"}}, [-0.02, -0.02, -0.02]),
        (
            {"control": None, "reference": 0.97, "treatment": {"normalizer": "unit"}, "where": {"activation": "tanh"}},
            [-0.07, -0.069, -0.068],
        ),
    ],
    ids=["where", "open factor", "versus", "reference"],
)
def test_differences_are_treatment_minus_control_on_the_same_seed(
    changes: dict[str, Any], expected: list[float]
) -> None:
    result = found(CENTERING, **changes)
    assert result.differences == pytest.approx(dict(enumerate(expected)))
    assert (result.excluded, result.problem) == ((), "")


def test_versus_keeps_what_where_says_of_other_factors() -> None:
    rows = [
        row(0, (n == "centered") * (0.1 * (a == "relu") + 0.5 * d), normalizer=n, activation=a, dropout=d)
        for n in ("unit", "centered")
        for a in ("relu", "tanh")
        for d in (0.0, 0.5)
    ]
    result = found(rows, where={"activation": "relu", "dropout": 0.5}, versus={"activation": "tanh"})
    assert result.differences == pytest.approx({0: 0.1})


def test_reference_cancels_in_the_difference_of_two_contexts() -> None:
    rows = [row(0, 0.9 + 0.05 * (a == "relu"), normalizer="unit", activation=a) for a in ("relu", "tanh")]
    contexts = {"where": {"activation": "relu"}, "versus": {"activation": "tanh"}}
    result = found(rows, control=None, reference=0.5, treatment={"normalizer": "unit"}, **contexts)
    assert result.differences == pytest.approx({0: 0.05})


def test_a_diverged_trial_counts_with_the_metric_it_reached() -> None:
    rows = [row(0, 0.97, normalizer="unit"), row(0, 0.098, "diverged", normalizer="centered")]
    assert found(rows).differences == pytest.approx({0: -0.872})


@pytest.mark.parametrize("status", ["failed", "lost", "is missing"])
@pytest.mark.parametrize("side", ["unit", "centered"])
def test_a_side_without_result_leaves_the_pair_out_and_is_named(status: Any, side: str) -> None:
    rows = [each for each in both(3) if (each.seed, each.params["normalizer"]) != (1, side)]
    result = found(rows if status == "is missing" else [*rows, row(1, 0.9, status, normalizer=side)])
    assert list(result.differences) == [0, 2]
    assert (result.excluded, result.problem) == ((f"seed 1: normalizer={side} {status}",), "")


def test_a_seed_with_part_of_the_open_factors_is_left_out() -> None:
    """Averaged over fewer settings it would compare other things than its neighbors do."""
    result = found([r for r in CENTERING if (r.seed, *r.params.values()) != (1, "centered", "tanh")])
    assert list(result.differences) == [0, 2]
    assert result.excluded == ("seed 1: normalizer=centered, activation=tanh is missing",)


@pytest.mark.parametrize("side", ["unit", "centered"])
def test_only_settings_that_both_sides_have_are_compared(side: str) -> None:
    """As in a one_factor design, where one of them also ran with tanh, and the other did not."""
    result = found([r for r in CENTERING if tuple(r.params.values()) != (side, "tanh")])
    assert result.differences == pytest.approx({0: -0.03, 1: -0.03, 2: -0.03})
    assert result.excluded == ()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_no_number_forbids_a_verdict_on_the_rest(value: float) -> None:
    """Leaving out the seeds that went wrong would judge the lucky ones."""
    odd = [row(9, 0.9, normalizer="unit"), row(9, value, "diverged", normalizer="centered")]
    result = found([*both(9), *odd])
    assert result.problem == f"seed 9: a trial has test_accuracy {value}"
    assert result.excluded == (f"seed 9: normalizer=centered has test_accuracy {value}",)
    assert len(result.differences) == 9


UNIT = row(0, 0.9, normalizer="unit")


@pytest.mark.parametrize(
    ("rows", "changes", "problem"),
    [
        (both(), {"metric": "val_loss"}, "seed 0: a trial has no val_loss"),
        (
            [row(0, 1.5e308, normalizer="unit"), row(0, -1.5e308, normalizer="centered")],
            {},
            "test_accuracy is too large to add up: 1.5e+308",
        ),
        ([UNIT], {}, "no result has normalizer=centered"),
        ([], {}, "no result has normalizer=centered or normalizer=unit"),
        (
            [row(0, 0.9, normalizer="unit", width=1), row(0, 0.9, normalizer="centered", width=2)],
            {},
            "no two results differ only as claimed",
        ),
        (
            CENTERING,
            {"treatment": {"normalizer": "centered", "activation": "relu"}},
            "normalizer=unit leaves activation open, which another side fixes: name it on every side",
        ),
        (CENTERING, {"control": None}, "the claim has neither control nor reference"),
    ],
    ids=["not measured", "too large", "one side", "no side", "nothing alike", "several arms", "no second side"],
)
def test_what_cannot_be_compared_forbids_a_verdict(rows: list[Row], changes: dict[str, Any], problem: str) -> None:
    assert found(rows, **changes).problem == problem


def test_two_results_for_one_trial_are_refused() -> None:
    with pytest.raises(SweepError, match="two results for normalizer=unit with seed 0: keep one"):
        by_arm([UNIT, row(0, 0.8, normalizer="unit")])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (-1.0, 1.0)),
        ({"where": {"activation": "relu"}, "versus": {"activation": "tanh"}}, (-2.0, 2.0)),
        ({"control": None, "reference": 0.25}, (-0.25, 0.75)),
    ],
)
def test_what_a_difference_of_accuracies_can_be_is_known(changes: Any, expected: tuple[float, float]) -> None:
    assert found(CENTERING, **changes).span == expected


def test_other_metrics_and_percentages_can_differ_by_anything() -> None:
    percent = table(lambda *where: 100.0 * effect_of_centering(*where))
    loss = [Row(each.params, each.seed, {"test_loss": 0.1}) for each in percent]
    for rows, metric in ((percent, "test_accuracy"), (loss, "test_loss")):
        assert found(rows, metric=metric).span == (-math.inf, math.inf)
