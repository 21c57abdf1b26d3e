"""Collapses are counted apart, decide only what their exact test shows, and never pass for typical effects."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mnist_ablate.statistics.bounded_mean import betting_interval
from mnist_ablate.statistics.collapses import barnard_p_value, upper_bound
from mnist_ablate.statistics.decision_rule import Finding, with_collapses
from mnist_ablate.statistics.verdict import ClaimVerdict, judge
from mnist_ablate.sweep.claim import Claim
from mnist_ablate.trial import Row

CHANCE = 0.1


def claim(direction: str = "lower", **changes: Any) -> Claim:
    sides = {"treatment": {"arm": "new"}, "control": {"arm": "old"}}
    given = {"name": "c", "statement": "s", "direction": direction, "margin": 0.002, **sides, **changes}
    return Claim.model_validate({key: value for key, value in given.items() if value is not None})


def rows(new: Sequence[float], old: Sequence[float], metric: str = "test_accuracy", **params: Any) -> list[Row]:
    return [
        Row({"arm": name, **params}, seed, {metric: value})
        for name, values in (("new", new), ("old", old))
        for seed, value in enumerate(values)
    ]


def trained(n: int, mean: float = 0.97, collapsed: int = 0, seed: int = 0) -> list[float]:
    """Accuracies, of which the first so many collapsed."""
    values = mean + 0.0005 * np.random.default_rng(seed).standard_normal(n)
    values[:collapsed] = CHANCE
    return [float(value) for value in values]


def found(new: Sequence[float], old: Sequence[float], direction: str = "lower", **changes: Any) -> ClaimVerdict:
    return judge(rows(new, old), [claim(direction, **changes)])[0]


@pytest.mark.parametrize(
    ("counts", "sizes"), [((5, 0), (5, 5)), ((3, 1), (8, 8)), ((4, 0), (6, 9)), ((12, 3), (30, 30)), ((2, 1), (3, 12))]
)
def test_barnard_s_test_is_that_of_scipy(counts: tuple[int, int], sizes: tuple[int, int]) -> None:
    (more, less), (n_more, n_less) = counts, sizes
    table = [[more, less], [n_more - more, n_less - less]]
    theirs = stats.barnard_exact(table, alternative="greater", pooled=True, n=64)
    assert barnard_p_value(more, n_more, less, n_less) == pytest.approx(theirs.pvalue, rel=1e-5)
    assert barnard_p_value(5, 5, 0, 5) == pytest.approx(2.0**-10)


@pytest.mark.parametrize(("collapsed", "n"), [(0, 8), (1, 8), (3, 10), (8, 8)])
def test_the_bound_is_that_of_clopper_and_pearson(collapsed: int, n: int) -> None:
    theirs = stats.binomtest(collapsed, n, alternative="less").proportion_ci(0.95).high
    assert upper_bound(collapsed, n) == pytest.approx(theirs)
    assert upper_bound(0, 8) == pytest.approx(0.312, abs=1e-3)


def test_one_collapse_among_eight_leaves_the_typical_effect_as_it_is() -> None:
    """With it in the mean, the interval would reach from -0.36 to +0.14."""
    other = trained(8, seed=1)
    with_one, without = found(trained(8, 0.96, 1), other), found(trained(8, 0.96)[1:], other[1:])
    assert (with_one.verdict, with_one.n_pairs) == ("supported", 7)
    assert with_one.effect == pytest.approx(without.effect) == pytest.approx(-0.01, abs=1e-3)
    assert with_one.confidence == pytest.approx(0.96)
    assert with_one.ci_low < without.ci_low
    assert [(side.side, side.collapsed, side.n) for side in with_one.collapses] == [
        ("treatment", 1, 8),
        ("control", 0, 8),
    ]
    assert with_one.reason.endswith("lies wholly below -0.002; collapsed: treatment 1 of 8, control 0 of 8")
    assert without.confidence == 0.95


def test_a_total_collapse_of_five_seeds_supports_each_of_seven_claims_and_of_four_none() -> None:
    for n, expected in ((4, "inconclusive"), (5, "supported")):
        asked = [claim(name=str(i)) for i in range(7)]
        judged = judge(rows(trained(n, collapsed=n), trained(n)), asked)
        assert {each.verdict for each in judged} == {expected}
    assert judged[0].finding is Finding.COLLAPSES
    assert judged[0].effect == pytest.approx(-0.87, abs=0.01), "with no typical pair, the difference is that of all"
    assert judged[0].ci_low == -math.inf
    assert judged[0].reason == "collapsed: treatment 5 of 5, control 0 of 5, by Barnard's test p=0.00098"
    few = judge(rows(trained(4, collapsed=4), trained(4)), [claim(name=str(i)) for i in range(7)])[0]
    assert (few.finding, few.seeds_needed) == (Finding.UNKNOWN, 8)
    assert "0 of 4 seeds trained on every side" in few.reason


@pytest.mark.parametrize("direction", ["lower", "higher", "not_lower", "not_higher", "same"])
@pytest.mark.parametrize("side", ["new", "old"])
def test_what_a_collapse_of_one_side_says_depends_on_what_is_claimed(direction: str, side: str) -> None:
    """It lowers the accuracy of its side, so it supports that the other is better, and refutes that it is no better."""
    fallen, whole = trained(8, collapsed=8), trained(8)
    judged = found(fallen if side == "new" else whole, whole if side == "new" else fallen, direction)
    moved = "lower" if side == "new" else "higher"
    refuted = {"lower": "higher", "higher": "lower", "not_lower": "lower", "not_higher": "higher"}
    expected = {moved: "supported"}.get(direction, "refuted")
    if direction.startswith("not") and refuted[direction] != moved:
        expected = "inconclusive"  # no training is left whose accuracy could be lower
    assert judged.verdict == expected


@pytest.mark.parametrize("direction", ["lower", "same", "not_lower"])
def test_a_denial_is_held_back_while_the_treatment_collapsed_more_often(direction: str) -> None:
    judged = found(trained(10, collapsed=1), trained(10, seed=1), direction)
    assert (judged.verdict, judged.finding) == ("inconclusive", Finding.HELD_BACK)
    assert "but collapses may be an effect (collapsed: treatment 1 of 10, control 0 of 10)" in judged.reason
    assert judged.seeds_needed == 60
    both = found([*trained(10, collapsed=1)], [*trained(10, seed=1, collapsed=1)], direction)
    assert both.verdict == ("equivalent" if direction == "lower" else "supported")
    other = found(trained(10), trained(10, seed=1, collapsed=1), direction)
    assert other.verdict == {"lower": "equivalent", "same": "inconclusive", "not_lower": "supported"}[direction]


def test_parts_that_contradict_each_other_give_no_verdict_and_no_more_seeds() -> None:
    judged = found(trained(30, 0.99, 10), trained(30, 0.95))
    assert (judged.verdict, judged.finding, judged.is_open) == ("inconclusive", Finding.MIXED, False)
    assert judged.seeds_needed is None
    assert "but trainings collapse the other way (collapsed: treatment 10 of 30, control 0 of 30)" in judged.reason


def test_the_rule_never_turns_an_open_interval_into_a_denial() -> None:
    for direction in ("lower", "higher", "not_lower", "not_higher", "same"):
        for toward in (-0.5, 0.0, 0.5):
            assert with_collapses(Finding.OPEN, direction, toward, shown=False) is Finding.OPEN


def test_a_diverged_trial_is_a_collapse_whatever_its_metric() -> None:
    made = rows(trained(8, 2.0), trained(8, 2.0, seed=1), "test_loss")
    made[0] = Row(made[0].params, 0, {"test_loss": 2.3}, "diverged")
    (judged,) = judge(made, [claim("higher", metric="test_loss", margin=0.1)])
    assert [side.collapsed for side in judged.collapses] == [1, 0]
    assert (judged.n_pairs, judged.finding) == (7, Finding.HELD_BACK)


def test_a_claim_can_say_what_a_collapse_is_and_is_told_so_where_nothing_trained() -> None:
    """A network for a hundred classes may be good at 40%."""
    judged = found(trained(8, 0.40), trained(8, 0.42))
    assert (judged.verdict, judged.n_pairs) == ("inconclusive", 8)
    assert "if test_accuracy beyond 0.55 is no collapse here, set collapse_at in the claim" in judged.reason
    told = found(trained(8, 0.40), trained(8, 0.42), collapse_at=0.05)
    assert (told.verdict, told.effect) == ("supported", pytest.approx(-0.02, abs=1e-3))
    assert not told.has_collapses


def test_sides_of_several_arms_and_of_versus_are_counted_and_a_difference_of_two_has_no_test() -> None:
    both = [*rows(trained(6, collapsed=6), trained(6), where="a"), *rows(trained(6), trained(6, seed=1), where="b")]
    (averaged,) = judge(both, [claim()])
    assert [(side.collapsed, side.n) for side in averaged.collapses] == [(6, 6), (0, 6)]
    (judged,) = judge(both, [claim(where={"where": "a"}, versus={"where": "b"})])
    names = ["treatment", "control", "treatment_versus", "control_versus"]
    assert [side.side for side in judged.collapses] == names
    assert (judged.collapse_p_value, judged.verdict) == (1.0, "inconclusive")


def test_the_mean_of_all_seeds_needs_bounds_and_hundreds_of_seeds() -> None:
    few = found(trained(10, 0.96), trained(10), estimand="mean")
    assert (few.verdict, few.estimand) == ("inconclusive", "mean")
    assert few.seeds_needed is not None
    assert 500 < few.seeds_needed < 1500
    many = found(trained(few.seeds_needed, 0.96), trained(few.seeds_needed), estimand="mean")
    assert many.verdict == "supported"
    made = rows(trained(10, 2.0), trained(10, 2.1), "test_loss")
    (unbounded,) = judge(made, [claim(metric="test_loss", estimand="mean")])
    assert unbounded.reason == "not judged: estimand: mean needs a metric with bounds, and test_loss has none"


def test_the_interval_of_a_bounded_mean_misses_it_rarely_where_the_t_interval_misses_it_often() -> None:
    """One training in fifty falls by 0.87; 100 seeds."""
    rng, missed, by_t = np.random.default_rng(0), 0, 0
    for _ in range(300):
        values = 0.0005 * rng.standard_normal(100) - 0.87 * (rng.random(100) < 0.02)
        low, high = betting_interval(values, 0.05, (-1.0, 1.0))
        missed += not low <= -0.87 * 0.02 <= high
        theirs = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
        by_t += not theirs.low <= -0.87 * 0.02 <= theirs.high
    assert missed <= 15
    assert by_t > 30
