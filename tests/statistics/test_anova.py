"""Main effects and interactions: statsmodels gives the same to 1e-10, and what cannot be known is not made up."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf

from mnist_ablate.statistics.anova import table
from mnist_ablate.statistics.paired_tests import holm
from mnist_ablate.trial import Row, Scalar, Status

Factors = dict[str, list[Scalar]]
DESIGNS: list[tuple[Factors, int]] = [
    ({"a": ["x", "y"]}, 2),
    ({"a": ["x", "y", "z"], "b": [0.1, 0.2]}, 3),
    ({"a": ["x", "y"], "b": [1, 2, 3], "c": [True, False]}, 4),
    ({"a": [1, 2], "b": [1, 2], "c": [1, 2], "d": [1, 2, 3]}, 2),
]


def rows_of(factors: Factors, seeds: int, rng: np.random.Generator, scale: float = 0.01) -> list[Row]:
    shifts = {name: rng.standard_normal(len(values)) for name, values in factors.items()}
    blocks = rng.standard_normal(seeds)
    rows = []
    for places in itertools.product(*(range(len(values)) for values in factors.values())):
        params = {name: factors[name][place] for name, place in zip(factors, places, strict=True)}
        effects = [shifts[name][place] for name, place in zip(factors, places, strict=True)]
        for seed in range(seeds):
            value = 0.95 + scale * (sum(effects) + math.prod(effects) + blocks[seed] + rng.standard_normal())
            rows.append(Row(params, seed, {"test_accuracy": float(value)}))
    return rows


def anova(rows: list[Row], factors: Factors, kind: int) -> pd.DataFrame:
    frame = pd.DataFrame([{**row.params, "seed": row.seed, "y": row.metrics["test_accuracy"]} for row in rows])
    formula = "y ~ " + " * ".join(f"C({name}, Sum)" for name in factors) + " + C(seed, Sum)"
    return sm.stats.anova_lm(smf.ols(formula, frame).fit(), typ=kind)


def named(index: str) -> frozenset[str]:
    return frozenset(part.removeprefix("C(").removesuffix(", Sum)") for part in index.split(":"))


@pytest.mark.parametrize("kind", [1, 2, 3])
@pytest.mark.parametrize("draw", range(3))
@pytest.mark.parametrize(("factors", "seeds"), DESIGNS)
def test_statsmodels_gives_the_same_to_ten_digits(factors: Factors, seeds: int, draw: int, kind: int) -> None:
    rows = rows_of(factors, seeds, np.random.default_rng([draw, seeds]))
    found = table(rows, factors, "test_accuracy")
    assert found is not None
    expected = {named(index): line for index, line in anova(rows, factors, kind).iterrows() if index != "Intercept"}
    assert len(found.effects) == 2 ** len(factors) - 1
    for effect in (*found.effects, found.block):
        line = expected[frozenset(effect.factors)]
        assert effect.freedom == line["df"]
        assert effect.sum_of_squares == pytest.approx(line["sum_sq"], rel=1e-10)
        assert effect.f == pytest.approx(line["F"], rel=1e-10)
        assert effect.p_value == pytest.approx(line["PR(>F)"], rel=1e-10)
    assert found.error.freedom == expected[frozenset(["Residual"])]["df"]
    assert found.error.sum_of_squares == pytest.approx(expected[frozenset(["Residual"])]["sum_sq"], rel=1e-10)


def test_all_parts_add_up_to_the_total() -> None:
    factors, seeds = DESIGNS[2]
    rows = rows_of(factors, seeds, np.random.default_rng(0))
    found = table(rows, factors, "test_accuracy")
    assert found is not None
    values = np.array([row.metrics["test_accuracy"] for row in rows])
    parts = [*found.effects, found.block, found.error]
    assert sum(each.sum_of_squares for each in parts) == pytest.approx(((values - values.mean()) ** 2).sum())
    assert sum(each.freedom for each in parts) == len(rows) - 1


def test_sizes_and_corrected_p_values_follow_from_the_table() -> None:
    factors, seeds = DESIGNS[1]
    found = table(rows_of(factors, seeds, np.random.default_rng(1)), factors, "test_accuracy")
    assert found is not None
    error, n = found.error, 3 * 2 * seeds
    noise = error.sum_of_squares / error.freedom
    for each in found.effects:
        assert each.share == pytest.approx(each.sum_of_squares / (each.sum_of_squares + error.sum_of_squares))
        surplus = each.freedom * (each.f - 1.0)
        assert each.omega == pytest.approx(surplus / (surplus + n))
    assert [each.p_holm for each in found.effects] == holm([each.p_value for each in found.effects])
    assert noise > 0.0


def test_a_shift_of_all_arms_by_seed_is_no_error() -> None:
    factors: Factors = {"a": ["x", "y"], "b": [1, 2]}
    rows = rows_of(factors, 6, np.random.default_rng(2))
    shifted = [Row(row.params, row.seed, {"test_accuracy": row.metrics["test_accuracy"] + row.seed}) for row in rows]
    one, other = table(rows, factors, "test_accuracy"), table(shifted, factors, "test_accuracy")
    assert one is not None
    assert other is not None
    assert [each.f for each in other.effects] == pytest.approx([each.f for each in one.effects], rel=1e-9)
    assert other.block.f > 1000 * one.block.f


@pytest.mark.parametrize("status", ["lost", "failed"])
def test_a_seed_that_an_arm_lacks_is_left_out_of_all(status: Status) -> None:
    factors, _ = DESIGNS[1]
    rows = rows_of(factors, 5, np.random.default_rng(3))
    broken = [Row(rows[0].params, 0, {}, status), *rows[1:]]
    found = table(broken, factors, "test_accuracy")
    assert found is not None
    assert (found.seeds, found.left_out) == (4, 1)
    without = table([row for row in rows if row.seed], factors, "test_accuracy")
    assert without is not None
    assert found == replace(without, left_out=1)


def test_there_is_no_table_without_every_combination_and_a_second_seed() -> None:
    factors, _ = DESIGNS[1]
    rows = rows_of(factors, 3, np.random.default_rng(4))
    assert table([row for row in rows if row.params != rows[0].params], factors, "test_accuracy") is None
    assert table([row for row in rows if row.seed == 0], factors, "test_accuracy") is None
    assert table([], factors, "test_accuracy") is None
    assert table(rows, {}, "test_accuracy") is None


def test_a_factor_with_one_value_is_no_factor() -> None:
    factors: Factors = {"a": ["x", "y"], "b": [1]}
    found = table(rows_of(factors, 3, np.random.default_rng(5)), factors, "test_accuracy")
    assert found is not None
    assert [each.factors for each in found.effects] == [("a",)]


def test_equal_results_have_no_f_and_huge_ones_do_not_overflow() -> None:
    factors: Factors = {"a": ["x", "y"], "b": [1, 2]}
    rows = rows_of(factors, 3, np.random.default_rng(6))
    same = table([Row(row.params, row.seed, {"m": 0.9}) for row in rows], factors, "m")
    assert same is not None
    assert all(math.isnan(each.f) and math.isnan(each.p_holm) for each in same.effects)
    huge = table([Row(row.params, row.seed, {"m": 1e150 * row.metrics["test_accuracy"]}) for row in rows], factors, "m")
    usual = table(rows, factors, "test_accuracy")
    assert huge is not None
    assert usual is not None
    assert [each.f for each in huge.effects] == pytest.approx([each.f for each in usual.effects])
