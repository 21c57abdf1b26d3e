"""A verdict follows the contract's rule, says why, and is never wrong where it cannot know."""

import math
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

from mnist_ablate.statistics.verdict import ClaimVerdict, Finding, arms, judge
from mnist_ablate.sweep.claim import Claim
from mnist_ablate.trial import Row

MARGIN = 0.002
SPREAD = (0.4, -0.7, 0.1, 0.9, -0.5, -0.2, 0.6, -0.6)  # sums to 0, sd 0.61
DIRECTIONS = ("lower", "higher", "not_lower", "not_higher", "same")


def claim(direction: str = "lower", **changes: Any) -> Claim:
    given: dict[str, Any] = {
        "name": "hurts",
        "statement": "Centered inputs hurt.",
        "treatment": {"normalizer": "centered"},
        "control": {"normalizer": "unit"},
        "direction": direction,
        "margin": MARGIN,
    }
    return Claim(**{**given, **changes})


def rows(
    differences: Sequence[float] | NDArray[np.float64],
    treatment: str = "centered",
    metric: str = "test_accuracy",
    of: float | None = None,
) -> list[Row]:
    """Pairs with these differences; every control is `of`, or else they differ."""
    controls = [0.97 + 0.003 * math.sin(seed) if of is None else of for seed in range(len(differences))]
    return [
        Row({"normalizer": normalizer}, seed, {metric: controls[seed] + shift})
        for seed, difference in enumerate(differences)
        for normalizer, shift in (("unit", 0.0), (treatment, difference))
    ]


def verdict(differences: Sequence[float], direction: str = "lower", **changes: Any) -> ClaimVerdict:
    return judge(rows(differences), [claim(direction, **changes)])[0]


def around(mean: float, sd: float, n: int = 8) -> list[float]:
    return [mean + sd * SPREAD[i % 8] for i in range(n)]


CASES = (
    *((-0.01, 0.002), (-0.003, 0.007), (-0.002, 0.002), (0.0, 0.002)),
    *((0.0, 0.02), (0.002, 0.002), (0.003, 0.007), (0.01, 0.002)),
)
"""Mean and spread of the differences."""
RULE = {
    "lower": "s i i e i r r r",
    "higher": "r r r e i i i s",
    "not_lower": "r i i s i s s s",
    "not_higher": "s s s s i i i r",
    "same": "r i i s i i i r",
}
"""The verdict of each case by its first letters."""


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_interval_decides(direction: str) -> None:
    found = [verdict(around(*case), direction).verdict[0] for case in CASES]
    assert " ".join(found) == RULE[direction]


@pytest.mark.slow
def test_intervals_are_simultaneous_and_p_values_are_holms() -> None:
    rng = np.random.default_rng(4)
    shifts = {name: rng.normal(-0.004 * i, 0.003, 8) for i, name in enumerate("abc")}
    results = [r for name in shifts for r in rows(shifts[name], name) if name == "a" or r.params["normalizer"] == name]
    ways = {"a": "lower", "b": "higher", "c": "lower"}  # the effect is treatment minus control in both
    judged = judge(results, [claim(ways[name], name=name, treatment={"normalizer": name}) for name in shifts])
    raw = [
        stats.permutation_test((shift,), np.sum, permutation_type="samples", n_resamples=math.inf).pvalue
        for shift in shifts.values()
    ]
    assert [found.p_raw for found in judged] == pytest.approx(raw)
    assert [found.p_value for found in judged] == pytest.approx(list(multipletests(raw, method="holm")[1]))
    for found, shift in zip(judged, shifts.values(), strict=True):
        theirs = stats.ttest_1samp(shift, 0.0).confidence_interval(1 - 0.05 / 3)
        assert [found.ci_low, found.ci_high] == pytest.approx([theirs.low, theirs.high], abs=1e-12)


@pytest.mark.parametrize("n_claims", [1, 7, 20])
def test_three_pairs_decide_what_is_clear_and_two_decide_nothing(n_claims: int) -> None:
    """The sign-flip p-value of three pairs is at least 0.25. No verdict rests on it."""
    asked = [claim(name=str(i)) for i in range(n_claims)]
    for n, expected in ((2, "inconclusive"), (3, "supported")):
        judged = judge(rows(around(-0.1, 0.0005, n)), asked)
        assert {found.verdict for found in judged} == {expected}
        assert judged[0].p_raw == 2.0 ** (1 - n)
    found = verdict([-0.1, -0.1005])
    assert (found.seeds_needed, found.reason) == (3, "2 pairs are too few; at least 3 seeds are needed")


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        (around(0.1, 0.001, 5), Finding.REVERSED),
        (around(0.003, 0.005, 5), Finding.RULED_OUT),
        (around(0.0, 0.001, 3), Finding.EQUIVALENT),
    ],
)
def test_an_effect_is_ruled_out_in_two_ways(differences: list[float], expected: Finding) -> None:
    found = verdict(differences)
    assert (found.finding, found.verdict) == (
        expected,
        "equivalent" if expected is Finding.EQUIVALENT else "refuted",
    )


@pytest.mark.parametrize(
    ("direction", "case", "text"),
    [
        ("lower", (-0.010, 0.001), "lies wholly below -0.002"),
        ("lower", (0.010, 0.001), "lies wholly above 0: the effect goes the other way"),
        ("lower", (0.003, 0.007), "rules out a difference below -0.002"),
        ("higher", (0.010, 0.001), "lies wholly above 0.002"),
        ("lower", (0.0, 0.001), "lies wholly within ±0.002"),
        ("not_lower", (0.0, 0.001), "rules out a difference below -0.002"),
        ("not_higher", (0.010, 0.001), "lies wholly above 0.002"),
        ("same", (0.010, 0.001), "lies wholly outside ±0.002"),
        ("same", (0.002, 0.001), "reaches across a margin of ±0.002"),
        ("lower", (-0.002, 0.001), "includes the margin, -0.002"),
    ],
)
def test_the_reason_is_what_the_interval_says(direction: str, case: tuple[float, float], text: str) -> None:
    reason = verdict(around(*case), direction).reason
    assert text in reason
    assert reason.startswith("the 95% interval, ")


def test_no_claim_no_pair_and_one_pair_decide_nothing() -> None:
    assert judge(rows(around(0.0, 1.0)), []) == ()
    nothing, one = judge([], [claim()])[0], verdict([-0.1])
    assert (nothing.verdict, nothing.finding, nothing.n_pairs) == ("inconclusive", Finding.NOT_JUDGED, 0)
    assert (nothing.is_judged, nothing.p_value, math.isnan(nothing.effect)) == (False, 1.0, True)
    assert nothing.reason == "not judged: no result has normalizer=centered or normalizer=unit"
    assert (one.verdict, one.finding, one.n_pairs) == ("inconclusive", Finding.UNKNOWN, 1)
    assert (one.is_judged, one.seeds_needed) == (True, 3)
    assert (one.effect, one.ci_low, one.ci_high) == (pytest.approx(-0.1), -math.inf, math.inf)
    assert one.reason == "one pair has no spread; at least 3 seeds are needed"


def test_no_seed_with_every_side_decides_nothing() -> None:
    (found,) = judge(
        [Row({"normalizer": "unit"}, 0, {"test_accuracy": 0.9}), Row({"normalizer": "centered"}, 0, {}, "lost")],
        [claim()],
    )
    assert (found.verdict, found.n_pairs, len(found.excluded)) == ("inconclusive", 0, 1)
    assert found.reason.startswith("no seed has every side")


def outcomes(differences: Sequence[float], metric: str = "converged") -> list[Row]:
    return rows(differences, metric=metric, of=1.0)


@pytest.mark.parametrize("n", [3, 6, 10, 20])
@pytest.mark.parametrize("margin", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize(
    ("direction", "wrong", "times"),
    [
        ("lower", "supported", (1.0,)),
        ("lower", "equivalent", (1.0, 1.3, 2.0)),
        ("same", "supported", (1.0, 1.3, 2.0)),
        ("not_lower", "supported", (1.0, 1.3, 2.0)),
    ],
)
def test_equal_outcomes_are_judged_wrongly_in_five_percent_at_most(
    n: int, margin: float, direction: str, wrong: str, times: tuple[float, ...]
) -> None:
    """Exact, by the number that fail, at rates of so many margins.

    Of three that each converge with probability 0.8, all do in 51%. Of six that each fail with probability 0.9, which
    is no more than the margin, all do in 53%.
    """
    asked = claim(direction, metric="converged", margin=margin)
    said = [judge(outcomes([-1.0] * k + [0.0] * (n - k)), [asked])[0].verdict for k in range(n + 1)]
    numbers = [k for k, each in enumerate(said) if each == wrong]
    for rate in times:
        assert stats.binom.pmf(numbers, n, min(rate * margin, 1.0)).sum() <= 0.05


@pytest.mark.parametrize(
    ("n", "n_claims", "expected"),
    [
        (4, 1, "inconclusive"),
        (5, 1, "equivalent"),
        (6, 6, "inconclusive"),
        (8, 6, "equivalent"),
        (8, 13, "inconclusive"),
    ],
)
def test_equal_outcomes_are_equivalent_where_the_margin_makes_them_improbable(
    n: int, n_claims: int, expected: str
) -> None:
    """Against 0.05 over the claims: half of the trials that may differ all agree with probability 2^-n."""
    asked = [claim(name=str(i), metric="converged", margin=0.5) for i in range(n_claims)]
    assert {found.verdict for found in judge(outcomes([0.0] * n), asked)} == {expected}


def test_equal_differences_say_that_they_hide_their_spread_and_how_many_would_do() -> None:
    (found,) = judge(outcomes([0.0] * 6), [claim(metric="converged", margin=0.1)])
    assert (found.verdict, found.seeds_needed) == ("inconclusive", 29)
    assert 0.9**29 <= 0.05 < 0.9**28
    assert found.reason == (
        "6 equal differences do not show their spread: the 95% interval, -0.393 to 0.393, includes the margin, -0.1;"
        " about 29 seeds would decide it if mean and spread stay as they are"
    )
    (enough,) = judge(outcomes([0.0] * 29), [claim(metric="converged", margin=0.1)])
    assert enough.verdict == "equivalent"
    assert enough.reason.startswith("the 95% interval, ")
    assert enough.reason.endswith(" lies wholly within ±0.1")


@pytest.mark.parametrize("metric", ["test_loss", "epochs_to_95", "score"])
def test_equal_differences_of_a_metric_without_bounds_deny_nothing(metric: str) -> None:
    (found,) = judge(outcomes([0.0] * 100, metric), [claim(metric=metric, margin=0.1)])
    assert (found.verdict, found.seeds_needed, found.ci_high) == ("inconclusive", None, math.inf)
    assert found.reason == f"100 equal differences do not show their spread, and {metric} has no known bounds"


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("of", [None, 0.9])
def test_equal_results_decide_nothing_if_the_margin_is_zero(direction: str, of: float | None) -> None:
    (found,) = judge(rows([0.0] * 8, of=of), [claim(direction, margin=0.0)])
    assert (found.verdict, found.seeds_needed) == ("inconclusive", None)
    assert "8 equal differences" in found.reason
    assert "not even 10,000 seeds" in found.reason


@pytest.mark.parametrize(
    ("difference", "n", "expected", "needed"),
    [
        (-0.3, 2, "inconclusive", 3),
        (-0.004, 3, "inconclusive", 5),
        (-0.01, 3, "supported", None),
    ],
)
def test_equal_differences_beyond_the_margin_do_not_show_their_spread(
    difference: float, n: int, expected: str, needed: int | None
) -> None:
    """Three of three at two margins do not exclude that half of all seeds show nothing."""
    found = verdict([difference] * n)
    assert (found.verdict, found.seeds_needed) == (expected, needed)
    if n > 2:
        assert (found.ci_low, found.ci_high) == pytest.approx((difference, difference * 0.05 ** (1 / n)))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("side", [-1, 1])
def test_an_effect_of_exactly_the_margin_is_not_decided_by_rounding(direction: str, side: int) -> None:
    """0.972 - 0.97 is not 0.002 in binary; all limits are excluded. Equal differences deny no effect."""
    results = [
        Row({"normalizer": normalizer}, seed, {"test_accuracy": round(value + shift, 4)})
        for seed, value in enumerate([0.97, 0.95, 0.9, 0.88, 0.61, 0.13, 0.4, 0.777])
        for normalizer, shift in (("unit", 0.0), ("centered", side * MARGIN))
    ]
    (found,) = judge(results, [claim(direction)])
    is_opposite = (direction, side) in {("lower", 1), ("higher", -1)}
    assert found.verdict == ("refuted" if is_opposite else "inconclusive")


@given(st.floats(-0.03, 0.03), st.floats(0.0005, 0.02), st.sampled_from(DIRECTIONS))
@settings(deadline=None)
def test_the_seeds_that_are_asked_for_decide(mean: float, sd: float, direction: str) -> None:
    """With the mean and the spread as they were; one seed less, rounded to whole patterns, need not."""
    found = verdict(around(mean, sd), direction)
    if found.seeds_needed is None or found.seeds_needed > 300:
        return
    more = 8 * math.ceil(1.05 * found.seeds_needed / 8) + 8  # 2% more spread takes 4% more seeds
    assert verdict(around(found.effect, sd * 1.02, more), direction).verdict != "inconclusive"


def test_seeds_needed_is_the_smallest_number_whose_interval_decides() -> None:
    d = np.array(around(-0.0035, 0.004))
    found = verdict(list(d))
    assert found.verdict == "inconclusive"
    assert found.seeds_needed is not None
    half, less = (
        stats.t.ppf(0.975, n - 1) * d.std(ddof=1) / math.sqrt(n) for n in (found.seeds_needed, found.seeds_needed - 1)
    )
    assert half < 0.0015 <= less


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.tuples(finite, finite), max_size=12), st.floats(0.0, 1e300), st.sampled_from(DIRECTIONS))
@settings(deadline=None)
def test_any_numbers_get_a_verdict_or_none(pairs: list[tuple[float, float]], margin: float, direction: str) -> None:
    results = [
        Row({"normalizer": normalizer}, seed, {"test_accuracy": value})
        for seed, values in enumerate(pairs)
        for normalizer, value in zip(("unit", "centered"), values, strict=True)
    ]
    (found,) = judge(results, [claim(direction, margin=margin)])
    assert 0.0 < found.p_value <= 1.0
    assert len(pairs) >= 3 or found.verdict == "inconclusive", "a verdict from fewer than three pairs"


@given(st.lists(st.integers(-60, 60), min_size=2, max_size=10))
@settings(deadline=None)
def test_lower_and_higher_mirror_each_other(counts: list[int]) -> None:
    down = verdict([count / 10_000 for count in counts], "lower")
    up = verdict([-count / 10_000 for count in counts], "higher")
    assert (down.verdict, down.seeds_needed, down.p_value) == (up.verdict, up.seeds_needed, up.p_value)


def test_arms_are_summed_up_in_the_order_first_seen() -> None:
    results = [Row({"normalizer": "unit"}, seed, {"test_accuracy": 0.97 + 0.001 * seed}) for seed in range(4)]
    results += [Row({"normalizer": "raw"}, 0, {"test_accuracy": 0.1}, "diverged")]
    results += [Row({"normalizer": "raw"}, 1, {}, "lost")]
    unit, raw = arms(results, "test_accuracy")
    theirs = stats.t.interval(0.95, 3, 0.9715, stats.sem([0.97, 0.971, 0.972, 0.973]))
    assert (unit.params, unit.n, unit.outcomes) == ({"normalizer": "unit"}, 4, {"complete": 4})
    assert [unit.ci_low, unit.mean, unit.ci_high] == pytest.approx([theirs[0], 0.9715, theirs[1]], abs=1e-12)
    assert (raw.n, raw.mean, raw.ci_high, raw.outcomes) == (1, 0.1, math.inf, {"diverged": 1, "lost": 1})


def test_verdicts_import_neither_keras_nor_mlflow_nor_optuna_nor_slow_statistics() -> None:
    heavy = "{'keras', 'tensorflow', 'mlflow', 'optuna', 'pandas', 'statsmodels', 'scipy.stats'}"
    imported = "mnist_ablate.reports.judging, mnist_ablate.ledger.results_table"
    code = f"import sys, {imported}; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
