"""Effect sizes against what scipy and statsmodels say, by other ways."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from mnist_ablate.effect_sizes import correction, improvement, standardized


@pytest.mark.parametrize("n", [3, 6, 10, 40, 200])
@pytest.mark.parametrize("shift", [-1.5, 0.0, 0.3, 2.0])
def test_the_interval_is_that_of_the_noncentral_t(n: int, shift: float) -> None:
    d = 0.002 * (np.random.default_rng([n, int(10 * shift) + 100]).standard_normal(n) + shift)
    found = standardized(d, 0.05)
    t = float(stats.ttest_1samp(d, 0.0).statistic)
    assert found.value == pytest.approx(correction(n - 1) * t / math.sqrt(n), rel=1e-12)
    for limit, p in ((found.low, 0.975), (found.high, 0.025)):
        assert stats.nct.cdf(t, n - 1, limit * math.sqrt(n) / correction(n - 1)) == pytest.approx(p, abs=1e-9)


def test_the_correction_is_hedges() -> None:
    assert correction(9) == pytest.approx(math.gamma(4.5) / (math.sqrt(4.5) * math.gamma(4.0)))
    assert correction(30) == pytest.approx(1.0 - 3.0 / (4 * 30 - 1), abs=1e-4)  # the usual approximation
    assert math.isnan(correction(1))


@pytest.mark.slow
def test_it_is_unbiased_and_its_interval_covers() -> None:
    rng = np.random.default_rng(0)
    found = [standardized(rng.standard_normal(6) + 0.8, 0.1) for _ in range(4000)]
    assert np.mean([each.value for each in found]) == pytest.approx(0.8, abs=0.03)
    scale = correction(5)  # the limits are on the corrected scale too
    assert np.mean([each.low <= 0.8 * scale <= each.high for each in found]) == pytest.approx(0.9, abs=0.02)


@given(st.lists(st.sampled_from([-0.001, 0.001, 0.02]), min_size=1, max_size=40))
def test_the_share_of_improved_pairs_has_wilsons_interval(d: list[float]) -> None:
    found = improvement(d, 0.05)
    better = sum(each > 0 for each in d)
    assert found.value == better / len(d)
    expected = proportion_confint(better, len(d), 0.05, method="wilson")
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-12)


def test_ties_count_half() -> None:
    assert improvement([0.0, 1e-15, 0.01, -0.01], 0.05, 1e-12).value == 0.5
    assert improvement([0.0, 0.01], 0.05).value == 0.75


def test_what_cannot_be_known_is_not_a_number() -> None:
    assert math.isnan(improvement([], 0.05).value)
    for d in ([], [0.1], [0.1, 0.1, 0.1], [0.0, 1e-14, 0.0]):
        assert math.isnan(standardized(d, 0.05, 1e-12).value)
    assert all(math.isnan(limit) for limit in standardized([0.1, 0.2], 0.05))
    assert standardized([1e300, -1e300, 5e299], 0.05).value == pytest.approx(standardized([1, -1, 0.5], 0.05).value)
