"""Welch's interval for arms without common seeds: scipy's numbers, and when it is taken."""

import math

import numpy as np
import pytest
from scipy import stats

from mnist_ablate.statistics.claims.compare import KIND
from mnist_ablate.statistics.pairing import by_arm, pairs
from mnist_ablate.statistics.unpaired import Means
from mnist_ablate.statistics.verdict import judge
from mnist_ablate.sweep.claim import Claim
from mnist_ablate.trial import Row

ONE, OTHER = np.array([0.97, 0.971, 0.9695, 0.9702]), np.array([0.96, 0.9604, 0.962, 0.9611, 0.9599, 0.9615])
CLAIM = Claim.model_validate({
    "name": "hurts", "statement": "?", "treatment": {"arm": "b"}, "control": {"arm": "a"}, "direction": "lower",
    "margin": 0.002,
})  # fmt: skip


def rows(arm: str, values: "np.ndarray[tuple[int], np.dtype[np.float64]]", first: int = 0) -> list[Row]:
    return [Row({"arm": arm}, first + n, {"test_accuracy": float(value)}) for n, value in enumerate(values)]


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 7])
def test_the_interval_and_the_p_value_are_scipy_s(alpha: float) -> None:
    means, usual = Means((1.0, -1.0), (ONE, OTHER)), stats.ttest_ind(ONE, OTHER, equal_var=False)
    found, limits = means.interval(alpha), usual.confidence_interval(1 - alpha)
    assert (found.low, found.high) == pytest.approx((limits.low, limits.high), rel=1e-9)
    assert found.mean == pytest.approx(ONE.mean() - OTHER.mean())
    assert means.p_value(0.0) == pytest.approx(usual.pvalue, rel=1e-9)


def test_a_difference_of_differences_is_that_of_its_four_arms() -> None:
    """By simulation: its interval at 95% covers the truth."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(500):
        arms = tuple(rng.normal(0, sd, n) for sd, n in ((1, 5), (2, 6), (1, 7), (3, 5)))
        found = Means((1.0, -1.0, -1.0, 1.0), arms).interval(0.05)
        covered += found.low < 0 < found.high
    assert 0.92 <= covered / 500 <= 0.98


@pytest.mark.parametrize("few", [ONE[:2], ONE[:0], np.array([0.97, 0.97, 0.97])])
def test_what_does_not_show_its_spread_has_no_interval(few: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> None:
    found = Means((1.0, -1.0), (few, np.array([0.96, 0.96, 0.96]))).interval(0.05)
    assert (found.low, found.high) == (-math.inf, math.inf)
    (verdict,) = judge([*rows("a", few), *rows("b", OTHER[:2], 100)], [CLAIM])
    assert verdict.verdict == "inconclusive"


@pytest.mark.parametrize(("first", "is_paired"), [(0, True), (2, True), (3, False), (100, False)])
def test_pairs_are_taken_where_half_of_the_seeds_are_common(first: int, is_paired: bool) -> None:
    """Arm a has the seeds 0 to 3."""
    found = pairs(KIND.contrast(by_arm([*rows("a", ONE), *rows("b", OTHER, first)]), CLAIM))
    assert found.unpaired == (not is_paired)
    (verdict,) = judge([*rows("a", ONE), *rows("b", OTHER, first)], [CLAIM])
    if is_paired:
        assert verdict.n_results is None
    else:
        assert (verdict.n_results, verdict.n_pairs, verdict.verdict) == ((6, 4), 0, "supported")
        assert verdict.reason.startswith("without common seeds the 95% interval of Welch, -0.01")


def test_no_result_chooses_the_method() -> None:
    """Seeds that failed are seeds: with them the design is paired, and they are named."""
    failed = [Row({"arm": "b"}, n, {}, "failed") for n in range(3)]
    found = pairs(KIND.contrast(by_arm([*rows("a", ONE), *failed, *rows("b", OTHER, 3)]), CLAIM))
    assert not found.unpaired
    assert len(found.differences) == 1
    assert "seed 0: arm=b failed" in found.excluded


def test_an_open_claim_says_how_many_results_an_arm_needs() -> None:
    values = np.array([0.96, 0.97, 0.98, 0.965])
    (found,) = judge([*rows("a", values), *rows("b", values - 0.004, 10)], [CLAIM])
    assert found.verdict == "inconclusive"
    assert found.seeds_needed is not None
    more = [
        *rows("a", np.tile(values, found.seeds_needed)),
        *rows("b", np.tile(values - 0.004, found.seeds_needed), 10**6),
    ]
    assert judge(more, [CLAIM])[0].verdict == "supported"
