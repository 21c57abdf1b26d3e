"""The looks of an adaptive sweep, and verdicts that stop at one of them."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from verdict_simulation import claims

from mnist_ablate.statistics.paired_tests import sign_flip_p_value, t_interval
from mnist_ablate.statistics.verdict import ALPHA, ClaimVerdict, judge
from mnist_ablate.sweep.adaptive_schedule import look_schedule
from mnist_ablate.trial import Row

LOOKS = look_schedule(6, 30)


def rows_of(*treated: Sequence[float], control: float = 0.9) -> list[Row]:
    longest = max(map(len, treated))
    rows = [Row({"arm": "control"}, seed, {"test_accuracy": control}) for seed in range(longest)]
    for arm, values in enumerate(treated):
        rows += [Row({"arm": str(arm)}, seed, {"test_accuracy": control + value}) for seed, value in enumerate(values)]
    return rows


def judged(*treated: Sequence[float]) -> list[ClaimVerdict]:
    return list(judge(rows_of(*treated), claims(len(treated), "higher"), looks=LOOKS))


def noise(n: int, sd: float = 0.001, seed: int = 0) -> np.ndarray:
    return sd * np.random.default_rng(seed).standard_normal(n)


def test_looks_grow_by_half_and_end_at_the_most() -> None:
    assert [look.seeds for look in LOOKS] == [6, 9, 14, 21, 30]
    assert [look.share for look in LOOKS] == pytest.approx([4 / 18, 5 / 18, 4 / 18, 3 / 18, 2 / 18])
    assert [look.share for look in look_schedule(4, 30)] == pytest.approx([0.2, 0.25, 0.2, 0.15, 0.1, 0.1])
    assert [look.seeds for look in look_schedule(10, 40)] == [10, 15, 23, 40]  # 23 to 35 to 40 would be a short step
    assert [look.seeds for look in look_schedule(1, 2)] == [1, 2]


@given(st.integers(1, 999), st.integers(1, 1000))
def test_the_looks_spend_the_whole_error_rate_and_no_more(least: int, more: int) -> None:
    found = look_schedule(least, least + more)
    sizes = [look.seeds or 0 for look in found]
    assert sizes == sorted(set(sizes))
    assert (sizes[0], sizes[-1]) == (least, least + more)
    assert math.isclose(sum(look.share for look in found), 1.0)


def test_a_clear_claim_stops_at_the_first_look_and_reads_no_further_seed() -> None:
    clear = 0.02 + noise(6)
    (found,) = judged(clear)
    assert (found.verdict, found.look, found.n_pairs) == ("supported", 1, 6)
    spoiled = [*clear, -0.02, -0.02, -0.02]
    assert judged(spoiled) == [found]


def test_its_interval_has_the_level_of_its_look() -> None:
    values = 0.0028 + noise(9, 0.0015)
    (found,) = judged(values)
    expected = t_interval(values, ALPHA * LOOKS[1].share)
    assert (found.look, found.verdict) == (2, "supported")
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.low, expected.high))
    assert found.reason.startswith("the 95% repeated interval, ")


def test_its_p_value_is_the_least_of_the_looks_each_over_its_share() -> None:
    values = 0.002 + noise(14, 0.0015)
    (found,) = judged(values)
    each = [sign_flip_p_value(values[: look.seeds]) / look.share for look in LOOKS[:3]]
    assert found.p_raw == found.p_value == pytest.approx(min(each))
    assert found.look == 3


def test_an_undecided_claim_is_judged_at_the_last_look_whose_seeds_are_there() -> None:
    values = 0.002 + noise(30, 0.002)
    assert [judged(values[:n])[0].look for n in (1, 6, 8, 9, 20, 29, 30)] == [1, 1, 1, 2, 3, 4, 5]
    (found,) = judged(values)
    assert (found.verdict, found.n_pairs) == ("inconclusive", 30)
    assert "repeated" in found.reason


def test_claims_stop_each_for_itself_and_share_the_error_rate() -> None:
    clear, open_ = 0.02 + noise(6), 0.002 + noise(30, 0.002)
    found = judged(clear, open_, noise(30, 0.0015, seed=1))
    assert [each.look for each in found] == [1, 5, 2]
    assert [each.verdict for each in found] == ["supported", "inconclusive", "equivalent"]
    expected = t_interval(list(found[2].differences.values()), ALPHA / 3 * LOOKS[1].share)
    assert found[2].ci_low == expected.low


def test_equal_outcomes_are_held_against_the_level_of_their_look() -> None:
    """2^-6 is above 0.05 times the share of the first look; 2^-9 is below that of the second."""
    asked = [each.model_copy(update={"metric": "converged", "margin": 0.5}) for each in claims(1, "higher")]
    for n, expected in ((6, ("inconclusive", 1)), (9, ("equivalent", 2))):
        rows = [Row({"arm": arm}, seed, {"converged": 1.0}) for arm in ("control", "0") for seed in range(n)]
        (found,) = judge(rows, asked, looks=LOOKS)
        assert (found.verdict, found.look) == expected


def test_a_lost_trial_leaves_its_pair_out_of_the_look() -> None:
    rows = rows_of(0.0 + noise(6))
    rows[-1] = Row(rows[-1].params, rows[-1].seed, {}, "lost")
    (found,) = judge(rows, claims(1, "higher"), looks=LOOKS)
    assert (found.verdict, found.look, found.n_pairs) == ("equivalent", 1, 5)
    assert found.excluded == ("seed 5: arm=0 lost",)


def test_a_claim_that_cannot_be_judged_is_not_looked_at_again() -> None:
    rows = rows_of(noise(30))
    (claim,) = claims(1, "higher")
    missing = claim.model_copy(update={"treatment": {"arm": "nowhere"}})
    (found,) = judge(rows, [missing], looks=LOOKS)
    assert (found.look, found.verdict) == (1, "inconclusive")


def test_without_looks_nothing_changes() -> None:
    rows = rows_of(0.02 + noise(9))
    (found,) = judge(rows, claims(1, "higher"))
    assert (found.look, found.n_pairs) == (None, 9)
    assert "repeated" not in found.reason
