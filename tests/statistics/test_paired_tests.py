"""The statistics agree with scipy and statsmodels, and promise no power they do not have."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from mnist_ablate.statistics import paired_tests
from mnist_ablate.statistics.paired_tests import (
    equal_interval,
    holm,
    sign_flip_p_value,
    smallest_effect,
    t_interval,
    t_quantile,
)


@pytest.mark.parametrize("n", [2, 3, 8, 10, 40, 1000])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 7])
def test_t_interval_is_the_paired_one_of_scipy(n: int, alpha: float) -> None:
    rng = np.random.default_rng(n)
    treatment, control = rng.normal(0.97, 0.01, n), rng.normal(0.96, 0.01, n)
    ours = t_interval(treatment - control, alpha)
    theirs = stats.ttest_rel(treatment, control).confidence_interval(1 - alpha)
    assert ours.mean == pytest.approx(float((treatment - control).mean()), abs=1e-15)
    assert [ours.low, ours.high] == pytest.approx([theirs.low, theirs.high], rel=1e-12, abs=1e-12)


def test_t_interval_is_infinite_where_the_spread_is_unknown() -> None:
    for values in ([], [0.5], [0.5, 0.5]):
        assert t_interval(values, 0.05)[2:] == (-math.inf, math.inf)
    assert t_interval([0.3, 0.1 + 0.2], 0.05, rounding=1e-12).low == -math.inf
    assert t_interval([0.5, 0.5, 0.5], 0.05)[1:] == (0.0, 0.5, 0.5)


@pytest.mark.parametrize(
    ("value", "span"), [(0.0, (-1.0, 1.0)), (0.4, (-1.0, 1.0)), (-0.9, (-0.97, 0.03)), (1.0, (-2.0, 2.0))]
)
def test_the_interval_of_equal_values_ends_where_they_become_improbable(
    value: float, span: tuple[float, float]
) -> None:
    """Of all places in the span where the others can lie, the best gives n such values probability alpha."""
    n, alpha = 7, 0.02
    limits = equal_interval(value, n, alpha, span)
    assert span[0] < limits[0] <= value <= limits[1] < span[1]
    for limit, outward in zip(limits, (-1.0, 1.0), strict=True):
        rest = np.linspace(value, span[int(outward > 0)], 1001)[1:]
        share = 1.0 - (limit - value) / (rest - value)  # that leaves the mean at the limit
        assert share.max() ** n == pytest.approx(alpha)


def test_intervals_are_infinite_without_bounds_and_do_not_overflow() -> None:
    assert equal_interval(0.3, 8, 0.05, (-math.inf, math.inf)) == (-math.inf, math.inf)
    low, high = t_interval([1e300, -1e300, 2e300], 0.05)[2:]
    assert -math.inf < low < 0 < high < math.inf


@given(st.lists(st.integers(-40, 40), min_size=1, max_size=10))
def test_sign_flip_p_value_counts_every_pattern_with_its_ties(counts: list[int]) -> None:
    """Accuracies on one test set have many ties; in whole counts they are exact."""
    signs = 1 - 2 * ((np.arange(2 ** len(counts))[:, None] >> np.arange(len(counts))) & 1)
    expected = (abs(signs @ np.array(counts)) >= abs(sum(counts))).mean()
    differences = [(9_000 + count) / 10_000 - 0.9 for count in counts]
    assert sign_flip_p_value(differences, rounding=1e-12) == expected


def test_sign_flip_p_value_of_equal_differences_is_the_least_there_is() -> None:
    for n in (1, 2, 6, 10, 30, 36):
        assert sign_flip_p_value([0.97 - 0.9] * n) == 2.0 ** (1 - n)
        assert sign_flip_p_value([0.1 + 0.2, *[0.3] * (n - 1)], rounding=1e-12) == 2.0 ** (1 - n)


def test_sign_flip_p_value_counts_zeros_as_no_evidence() -> None:
    assert sign_flip_p_value([]) == 1.0
    assert sign_flip_p_value([0.0] * 8) == 1.0
    assert sign_flip_p_value([0.1] * 6 + [0.0] * 30) == 2.0**-5
    assert sign_flip_p_value([0.1, -0.1, 0.2, -0.2]) == 1.0
    assert sign_flip_p_value([0.1] * 6 + [1e-17] * 30, rounding=1e-12) == 2.0**-5


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=14), st.floats(1e-300, 1e300))
def test_sign_flip_p_value_ignores_scale_order_and_direction(counts: list[int], scale: float) -> None:
    expected = sign_flip_p_value(counts)
    assert sign_flip_p_value([-scale * count for count in reversed(counts)]) == expected


def test_counting_on_a_grid_never_gives_less_than_enumeration_and_little_more() -> None:
    rng = np.random.default_rng(3)
    for _ in range(40):
        d = rng.standard_t(3, 24) + rng.uniform(0.0, 1.0)
        sizes = np.abs(d)
        threshold = (sizes.sum() + abs(d.sum())) / 2 - 1e-12
        exact = paired_tests._enumerated_tail(sizes, threshold)
        assert exact * (1 - 1e-12) <= paired_tests._gridded_tail(sizes, threshold) <= exact * 1.1 + 2.0**-24


@pytest.mark.parametrize("n", [37, 300, 1000, 1001, 100_000])
def test_sign_flip_p_value_of_many_pairs_is_near_the_normal_one_and_not_too_small(n: int) -> None:
    d = np.random.default_rng(n).standard_normal(n)
    d += 2.5 / math.sqrt(n) - d.mean()
    normal = 2 * stats.norm.sf(d.sum() / np.sqrt((d**2).sum()))
    p_value = sign_flip_p_value(d)
    assert 0.9 * normal < p_value < (1.15 if n <= paired_tests.MOST_GRIDDED else 3.2) * normal


def test_sign_flip_p_value_is_valid_where_few_differences_carry_the_sum() -> None:
    """The normal approximation would say 0.0253: less than five signs can show."""
    for zeros in (40, 1500):
        d = [1.0] * 5 + [1e-9, -1e-9] * (zeros // 2)
        assert sign_flip_p_value(d) >= 2.0**-4


@pytest.mark.slow
def test_holm_is_that_of_statsmodels() -> None:
    assert holm([]) == []
    for n in (1, 2, 7, 30):
        p_values = [float(p) for p in np.random.default_rng(n).random(n) ** 4 / 2]
        p_values[n // 2] = p_values[0]
        assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]), abs=1e-15)


def test_smallest_effect_is_the_power_of_the_t_test() -> None:
    effect = smallest_effect(40, 7, 0.0012, 0.05)
    noncentrality = effect / 0.0012 * math.sqrt(40)
    assert stats.nct.sf(t_quantile(40, 0.05 / 7), 39, noncentrality) == pytest.approx(0.8, abs=1e-6)


@pytest.mark.parametrize(("n_seeds", "n_claims"), [(3, 1), (5, 7), (10, 25), (14, 7)])
def test_smallest_effect_is_found_with_the_power_it_promises(n_seeds: int, n_claims: int) -> None:
    effect = smallest_effect(n_seeds, n_claims, 1.0, 0.05)
    drawn = np.random.default_rng(9).standard_normal((1000, n_seeds)) + effect
    found = sum(t_interval(d, 0.05 / n_claims).low > 0.0 for d in drawn)
    assert 0.76 < found / 1000 < 0.84


def test_smallest_effect_of_a_design_that_cannot_decide_is_infinite() -> None:
    assert {smallest_effect(seeds, 1, 0.001, 0.05) for seeds in (0, 1, 2)} == {math.inf}
    assert smallest_effect(8, 1, 0.0, 0.05) == 0.0
    assert smallest_effect(8, 0, 0.001, 0.05) == smallest_effect(8, 1, 0.001, 0.05)


def test_more_seeds_find_smaller_effects() -> None:
    effects = [smallest_effect(n, 7, 1.0, 0.05) for n in range(3, 30)]
    assert effects == sorted(effects, reverse=True)
