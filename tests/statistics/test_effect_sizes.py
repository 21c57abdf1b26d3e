"""Effect sizes against what scipy and statsmodels say, by other ways."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from mnist_ablate.statistics.effect_sizes import correction, improvement, standardized


@pytest.mark.parametrize("n", [3, 6, 10, 40, 200])
@pytest.mark.parametrize("shift", [-1.5, 0.0, 0.3, 2.0])
def test_the_interval_is_that_of_the_noncentral_t(n: int, shift: float) -> None:
    d = 0.002 * (np.random.default_rng([n, int(10 * shift) + 100]).standard_normal(n) + shift)
    found = standardized(d, 0.05)
    t = float(stats.ttest_1samp(d, 0.0).statistic)
    assert found.value == pytest.approx(correction(n - 1) * t / math.sqrt(n), rel=1e-12)
    for limit, p in ((found.ci_low, 0.975), (found.ci_high, 0.025)):
        assert stats.nct.cdf(t, n - 1, limit * math.sqrt(n) / correction(n - 1)) == pytest.approx(p, abs=1e-9)


@pytest.mark.parametrize(("n", "alpha"), [(3, 0.05), (3, 0.002), (10, 0.05), (10, 1e-5), (1000, 0.002), (1000, 1e-5)])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("far", [100.0, 160.0, 1e4])
def test_noncentralities_are_right_to_a_ten_thousandth_however_large(
    n: int, alpha: float, sign: float, far: float
) -> None:
    """Scipy's own are not: at t of 10,000 and a level of 0.9996 some had the wrong sign."""
    shape, root = stats.norm.ppf((np.arange(n) + 0.5) / n), math.sqrt(n)
    d = sign * (shape / shape.std(ddof=1) + far / root / math.sqrt(stats.chi2.ppf(0.5, n - 1) / (n - 1)))
    t, found = float(d.mean() / d.std(ddof=1)) * root, standardized(d, alpha)
    for limit, p in ((found.ci_low, 1.0 - alpha / 2.0), (found.ci_high, alpha / 2.0)):
        center = limit / correction(n - 1) * root
        above, below = (below_t(abs(t), n - 1, abs(center) * by) for by in (1.0001, 0.9999))
        assert above < (p if sign > 0 else 1.0 - p) < below


def below_t(t: float, freedom: int, center: float) -> float:
    """P(T < t) of the noncentral t for centers above 3: that of chi2 averaged over the normal part."""
    z, weight = np.polynomial.hermite_e.hermegauss(60)
    return float(stats.chi2.sf(freedom * ((center + z) / t) ** 2, freedom) @ weight / weight.sum())


@pytest.mark.parametrize("spread", [1e-4, 1e-6, 1e-8])
def test_the_interval_of_almost_equal_differences_contains_the_estimate(spread: float) -> None:
    """Scipy's noncentral t did not return at t of a million, or answered a million beyond it: hence the child."""
    code = "import sys; from mnist_ablate.statistics.effect_sizes import standardized"
    code += f"; print(*vars(standardized([1.0, 1.0 + {spread}] * 3, 0.05)).values())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20)
    value, low, high = map(float, done.stdout.split())
    assert low < value < high
    t = value / correction(5) * math.sqrt(6)
    limits = [t * math.sqrt(stats.chi2.ppf(p, 5) / 5) * correction(5) / math.sqrt(6) for p in (0.025, 0.975)]
    assert [low, high] == pytest.approx(limits, rel=1e-5)


def test_the_correction_is_hedges() -> None:
    assert correction(9) == pytest.approx(math.gamma(4.5) / (math.sqrt(4.5) * math.gamma(4.0)))
    assert math.isnan(correction(1))


@given(st.lists(st.sampled_from([-0.001, 0.001, 0.02]), min_size=1, max_size=40))
def test_the_share_of_improved_pairs_has_wilsons_interval(d: list[float]) -> None:
    found = improvement(d, 0.05)
    better = sum(each > 0 for each in d)
    assert found.value == better / len(d)
    expected = proportion_confint(better, len(d), 0.05, method="wilson")
    assert (found.ci_low, found.ci_high) == pytest.approx(expected, abs=1e-12)


def test_ties_count_half_and_what_cannot_be_known_is_not_a_number() -> None:
    assert improvement([0.0, 1e-15, 0.01, -0.01], 0.05, 1e-12).value == 0.5
    assert improvement([0.0, 0.01], 0.05).value == 0.75
    assert math.isnan(improvement([], 0.05).value)
    for d in ([], [0.1], [0.1, 0.1, 0.1], [0.0, 1e-14, 0.0]):
        assert math.isnan(standardized(d, 0.05, 1e-12).value)
    assert all(math.isnan(limit) for limit in vars(standardized([0.1, 0.2], 0.05)).values())
    assert standardized([1e300, -1e300, 5e299], 0.05).value == pytest.approx(standardized([1, -1, 0.5], 0.05).value)
