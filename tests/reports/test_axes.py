"""Axes hold what is drawn on them, mark round values that do not touch, and are bent only where they must be."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_ablate.reports.axes import of_differences, of_metric
from mnist_ablate.reports.drawing import difference_names, value_names

FRACTIONS = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30)
FINITE = st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=30)


@given(FRACTIONS, st.sampled_from(["test_accuracy", "test_loss"]))
def test_an_axis_holds_its_values_in_order_and_within_its_ends(values: list[float], metric: str) -> None:
    axis = of_metric(metric, values).placed(100.0, 500.0)
    places = [axis.at(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(100.0 <= place <= 500.0 for place in places)
    assert axis.low < axis.high


@given(FRACTIONS, st.floats(0.0, 0.1))
def test_an_axis_of_differences_holds_zero_and_the_margins(values: list[float], margin: float) -> None:
    axis = of_differences([v - 0.5 for v in values], [margin]).placed(0.0, 600.0)
    assert axis.low <= min(-margin, min(values) - 0.5)
    assert axis.high >= max(margin, max(values) - 0.5)
    assert axis.at(-margin) <= axis.at(0.0) <= axis.at(margin)


@given(FINITE, st.sampled_from(["test_accuracy", "test_loss"]))
def test_marks_are_few_finite_and_apart(values: list[float], metric: str) -> None:
    for axis in (
        of_metric(metric, values).placed(0.0, 600.0),
        of_differences(values, [0.002]).placed(0.0, 600.0),
    ):
        places = [axis.at(value) for value in axis.ticks(50.0)]
        assert all(math.isfinite(place) for place in places)
        assert all(b - a >= 49.9 for a, b in itertools.pairwise(places))
        assert len(places) <= 13


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([0.1, 0.98], ["0%", "50%", "80%", "90%", "95%", "98%"]),
        ([0.970, 0.975], ["97%", "97.1%", "97.2%", "97.3%", "97.4%", "97.5%"]),
    ],
)
def test_accuracies_are_marked_in_percent(values: list[float], names: list[str]) -> None:
    axis = of_metric("test_accuracy", values).placed(0.0, 600.0)
    assert list(value_names("test_accuracy", axis, 60.0).values()) == names


def test_an_axis_is_bent_only_where_it_must_be() -> None:
    assert of_metric("test_accuracy", [0.97, 0.98]).note == ""
    assert "logarithm of the error" in of_metric("test_accuracy", [0.1, 0.98]).note
    assert of_metric("test_loss", [0.1, 3.0]).note == "logarithmic"
    assert of_differences([0.01], [0.002]).note == ""
    assert "compressed" in of_differences([-0.8], [0.002]).note


def test_differences_are_marked_on_both_sides_with_their_sign() -> None:
    axis = of_differences([-0.8, 0.3], [0.002]).placed(0.0, 600.0)
    names = list(difference_names("test_accuracy", axis, 52.0).values())
    assert names.index("0") > 0
    assert names[0].startswith("\N{MINUS SIGN}")
    assert names[-1].startswith("+")
