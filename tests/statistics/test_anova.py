"""Main effects and interactions: statsmodels gives the same to 1e-10, and what cannot be known is not made up."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf

from mnist_ablate.statistics.anova import FactorialEffects, table
from mnist_ablate.statistics.paired_tests import holm
from mnist_ablate.trial import Row, Scalar, Status

Factors = dict[str, list[Scalar]]
TWO: Factors = {"a": ["x", "y", "z"], "b": [0.1, 0.2]}
DESIGNS: list[tuple[Factors, int]] = [
    ({"a": ["x", "y"]}, 2),
    (TWO, 3),
    ({"a": ["x", "y"], "b": [1, 2, 3], "c": [True, False]}, 4),
    ({"a": [1, 2], "b": [1, 2], "c": [1, 2], "d": [1, 2, 3]}, 2),
]


def rows_of(factors: Factors, seeds: int, draw: int = 0) -> list[Row]:
    rng = np.random.default_rng([draw, seeds])
    shifts = {name: rng.standard_normal(len(values)) for name, values in factors.items()}
    blocks = rng.standard_normal(seeds)
    rows = []
    for places in itertools.product(*(range(len(values)) for values in factors.values())):
        params = {name: factors[name][place] for name, place in zip(factors, places, strict=True)}
        effects = [shifts[name][place] for name, place in zip(factors, places, strict=True)]
        for seed in range(seeds):
            value = 0.95 + 0.01 * (sum(effects) + math.prod(effects) + blocks[seed] + rng.standard_normal())
            rows.append(Row(params, seed, {"test_accuracy": float(value)}))
    return rows


def found(rows: list[Row], factors: Factors) -> FactorialEffects:
    made = table(rows, factors, "test_accuracy")
    assert made is not None
    return made


def anova(rows: list[Row], factors: Factors, kind: int) -> dict[frozenset[str], pd.Series]:
    frame = pd.DataFrame([{**row.params, "seed": row.seed, "y": row.metrics["test_accuracy"]} for row in rows])
    formula = "y ~ " + " * ".join(f"C({name}, Sum)" for name in factors) + " + C(seed, Sum)"
    lines = sm.stats.anova_lm(smf.ols(formula, frame).fit(), typ=kind).iterrows()
    return {
        frozenset(part.removeprefix("C(").removesuffix(", Sum)") for part in index.split(":")): line
        for index, line in lines
    }


@pytest.mark.parametrize("kind", [1, 2, 3])
@pytest.mark.parametrize("draw", range(3))
@pytest.mark.parametrize(("factors", "seeds"), DESIGNS)
def test_statsmodels_gives_the_same_to_ten_digits(factors: Factors, seeds: int, draw: int, kind: int) -> None:
    rows = rows_of(factors, seeds, draw)
    made, expected = found(rows, factors), anova(rows, factors, kind)
    assert len(made.effects) == 2 ** len(factors) - 1
    for effect in (*made.effects, made.block):
        line = expected[frozenset(effect.factors)]
        assert effect.freedom == line["df"]
        ours, theirs = (effect.sum_of_squares, effect.f, effect.p_value), [*line[["sum_sq", "F", "PR(>F)"]]]
        assert ours == pytest.approx(theirs, rel=1e-10)
    residual = expected[frozenset(["Residual"])]
    assert made.error.freedom == residual["df"]
    assert made.error.sum_of_squares == pytest.approx(residual["sum_sq"], rel=1e-10)


def test_sizes_and_corrected_p_values_follow_from_the_table() -> None:
    made = found(rows_of(TWO, 3), TWO)
    for each in made.effects:
        assert each.share == pytest.approx(each.sum_of_squares / (each.sum_of_squares + made.error.sum_of_squares))
        surplus = each.freedom * (each.f - 1.0)
        assert each.omega == pytest.approx(surplus / (surplus + 3 * 2 * 3))
    assert [each.p_holm for each in made.effects] == holm([each.p_value for each in made.effects])


@pytest.mark.parametrize("status", ["lost", "failed"])
def test_a_seed_that_an_arm_lacks_is_left_out_of_all(status: Status) -> None:
    rows = rows_of(TWO, 5)
    made = found([Row(rows[0].params, 0, {}, status), *rows[1:]], TWO)
    assert (made.seeds, made.left_out) == (4, 1)
    assert made == replace(found([row for row in rows if row.seed], TWO), left_out=1)


def test_there_is_no_table_without_every_combination_and_a_second_seed() -> None:
    rows = rows_of(TWO, 3)
    for some in ([row for row in rows if row.params != rows[0].params], [row for row in rows if row.seed == 0], []):
        assert table(some, TWO, "test_accuracy") is None
    assert table(rows, {}, "test_accuracy") is None


def test_a_factor_with_one_value_is_no_factor() -> None:
    factors: Factors = {"a": ["x", "y"], "b": [1]}
    assert [each.factors for each in found(rows_of(factors, 3), factors).effects] == [("a",)]


def test_equal_results_have_no_f_and_huge_ones_do_not_overflow() -> None:
    rows = rows_of(TWO, 3)
    same, huge = (
        found([Row(row.params, row.seed, {"test_accuracy": at(row.metrics["test_accuracy"])}) for row in rows], TWO)
        for at in (lambda _: 0.9, lambda value: 1e150 * value)
    )
    assert all(math.isnan(each.f) and math.isnan(each.p_holm) for each in same.effects)
    assert [each.f for each in huge.effects] == pytest.approx([each.f for each in found(rows, TWO).effects])
