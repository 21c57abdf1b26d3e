"""Plots put marks where the numbers are, keep them apart, and draw no more than can be seen."""

import math
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged_sweep import judged
from mnist_ablate.reports.axes import Axis
from mnist_ablate.reports.drawing import WIDTH, interval, thinned
from mnist_ablate.reports.markup import Markup, element, table
from mnist_ablate.reports.panels import panelled
from mnist_ablate.reports.recorded import key, main_arms

from mnist_ablate.reports import curves, figures, interaction
from mnist_ablate.sweep import sweep_file
from mnist_ablate.text import arm_name


def circles(picture: str, kind: str = "dot") -> list[tuple[float, float]]:
    found = re.findall(rf'<circle cx="([\d.]+)" cy="([\d.]+)" r="3.2" class="{kind}"', picture)
    return [(float(x), float(y)) for x, y in found]


def test_an_interval_beyond_its_axis_ends_in_an_arrow() -> None:
    axis = Axis(-1.0, 1.0, 0.0, 100.0)
    inside, beyond = ("".join(interval(axis, low, high, 0.0, "ci")) for low, high in ((-0.5, 0.5), (-9.0, 0.5)))
    assert inside.count("tip") == 0
    assert beyond.count("tip") == 1
    assert list(interval(axis, None, None, 0.0, "ci")) == []


def test_the_forest_has_a_row_for_each_claim_and_a_point_for_each_pair() -> None:
    document, _ = judged()
    picture = figures.forest("f", document, "test_accuracy")
    assert len(circles(picture)) == sum(claim["n_pairs"] for claim in document["claims"])
    assert len({y for _, y in circles(picture)}) == len(document["claims"])
    assert picture.count('class="band"') == len(document["claims"])
    for claim in document["claims"]:
        assert claim["name"] in picture
    assert "seed 3: \N{MINUS SIGN}8" in picture


def test_marks_of_the_forest_stand_where_their_numbers_are() -> None:
    document, _ = judged()
    document["claims"] = document["claims"][1:2]
    (claim,) = document["claims"]
    picture = figures.forest("f", document, "test_accuracy")
    (zero,) = map(float, re.findall(r'<line x1="([\d.]+)"[^>]* class="zero"', picture))
    (bar,) = re.findall(r'<line x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="\2" class="ci supported"', picture)
    (mean,) = map(float, re.findall(r'<path d="M[\d.]+ [\d.]+L([\d.]+) [^"]*" class="mean supported"', picture))
    (band,) = re.findall(r'<rect x="([\d.]+)"[^>]* width="([\d.]+)"', picture)
    low, high, left, width = float(bar[0]), float(bar[2]), float(band[0]), float(band[1])
    points = [x for x, _ in circles(picture)]
    assert points == sorted(points)
    assert max(points) < left
    assert low < mean < high < left < zero < left + width
    assert left + width / 2 == pytest.approx(zero, abs=0.2)
    assert zero - low == pytest.approx((zero - left) * -claim["ci_low"] / 0.002, rel=0.02)


def test_the_verdict_is_written_beside_its_color() -> None:
    picture = figures.forest("f", judged()[0], "test_accuracy")
    for verdict, sign in figures.SIGNS.items():
        if f"verdict {verdict}" in picture:
            assert f"{sign} {verdict}</text>" in picture


def test_every_trial_is_in_the_picture_of_arms_and_diverged_ones_are_crosses() -> None:
    document, recorded = judged()
    picture = figures.arms("a", document, document["arms"], recorded)
    assert len(circles(picture)) == document["trials"]["complete"]
    assert picture.count('class="diverged"') == document["trials"]["diverged"]


def test_marks_stay_within_the_picture() -> None:
    document, recorded = judged()
    grid = interaction.grid(document)
    assert grid
    for picture in (
        figures.forest("f", document, "test_accuracy"),
        figures.arms("a", document, document["arms"], recorded),
        curves.learning_curves("c", document["arms"], recorded),
        interaction.interaction("i", document, grid),
    ):
        places = [float(x) for x in re.findall(r' (?:cx|x|x1|x2)="([-\d.]+)"', picture)]
        assert min(places) >= 0.0
        assert max(places) <= WIDTH
        assert "nan" not in picture
        assert "inf" not in picture.replace("inference", "")


def test_every_picture_has_a_title_and_a_description() -> None:
    picture = figures.forest("f", judged()[0], "test_accuracy")
    assert 'aria-labelledby="f-title" aria-describedby="f-desc"' in picture
    assert '<title id="f-title">Forest plot' in picture
    assert '<desc id="f-desc">printed-code-hurts-relu, inconclusive: Difference' in picture


def test_two_factors_make_a_line_for_each_value_of_the_smaller() -> None:
    document, _ = judged()
    grid = interaction.grid(document)
    assert grid
    assert (grid.across, grid.factor, list(grid.lines)) == ("normalizer", "activation", ["relu", "tanh"])
    picture = interaction.interaction("i", document, grid)
    assert picture.count('class="series') == 2
    assert picture.count('class="marker') == len(document["arms"]) + 2


def test_no_interaction_is_drawn_where_factors_are_not_crossed() -> None:
    document, _ = judged()
    kept = [arm for arm in document["arms"] if arm["params"]["activation"] == "relu"]
    assert interaction.grid({**document, "arms": kept}) is None
    assert interaction.grid({**document, "arms": []}) is None
    for arm in document["arms"]:
        arm["params"]["dropout"] = 0.5
    assert interaction.grid(document) is None


def test_curves_share_a_panel_where_arms_differ_in_one_factor() -> None:
    document, recorded = judged()
    found, styles = panelled(document["arms"], recorded, curves.validation)
    assert styles == ["activation relu", "activation tanh"]
    assert [panel.name for panel in found] == list(sweep_file.load("normalization").scientific["normalizer"])
    alone, none = panelled(document["arms"][::2], recorded, curves.validation)
    assert none == []
    assert len(alone) == 6


def test_a_curve_is_the_mean_and_the_range_of_its_seeds() -> None:
    document, recorded = judged()
    found, _ = panelled(document["arms"], recorded, curves.validation)
    ends = [entry.outcome.epochs[-1].metrics["val_accuracy"] for entry in recorded.arm(document["arms"][0]["params"])]
    number, mean, low, high = found[0].curves[0].points[-1]
    assert (number, low, high) == (3, min(ends), max(ends))
    assert mean == pytest.approx(sum(ends) / len(ends))


def test_dead_units_are_drawn_from_before_training_to_after_it() -> None:
    document, recorded = judged(trouble=False)
    found, styles = panelled(document["arms"], recorded, curves.dead_units)
    assert styles == ["activation relu", "activation tanh"]
    wrapped = next(panel for panel in found if panel.name == "centered_uint8").curves[0]
    before, after = wrapped.points
    assert before == (0, *[pytest.approx(0.31 * (1 + 1 / 2 + 1 / 3) / 3)] * 3)
    assert after[0] == 1
    assert after[2:] == pytest.approx((0.42 * (1 + 1 / 2 + 1 / 3) / 3, 0.42 * (1 + 1 / 2 + 1 / 3) / 3 + 0.009))
    picture = curves.dead_curves("d", document["arms"], recorded)
    assert picture.count('class="area') == len(document["arms"])
    assert '<title id="d-title">Dead units before training and after it in 6 panels' in picture
    for label in ("before</text>", "after</text>", "0%</text>", "20%</text>"):
        assert label in picture


def test_dead_units_that_were_not_recorded_are_not_drawn() -> None:
    _, recorded = judged(trouble=False)
    assert curves.has_dead_units(recorded)
    bare = [replace(each, outcome=each.outcome.model_copy(update={"diagnostics": {}})) for each in recorded.entries]
    assert not curves.has_dead_units(replace(recorded, entries=tuple(bare)))


def test_an_epoch_without_a_number_is_left_out_of_its_curve() -> None:
    document, recorded = judged(trouble=False)
    entry = recorded.entries[0]
    broken = entry.outcome.epochs[0].model_copy(update={"val_accuracy": math.nan})
    outcome = entry.outcome.model_copy(update={"epochs": (broken, *entry.outcome.epochs[1:])})
    entries = (type(entry)(entry.trial, entry.params, entry.stage, outcome), *recorded.entries[1:])
    changed = type(recorded)(recorded.sweep, entries, (), "", "", {})
    assert "nan" not in curves.learning_curves("c", document["arms"], changed)


def test_of_many_arms_those_that_claims_compare_are_kept_in_order() -> None:
    document, recorded = judged()
    few = main_arms(document["arms"], recorded.sweep, 9)
    names = [arm_name(arm["params"]) for arm in few]
    assert len(few) == 9
    assert names == [arm_name(arm["params"]) for arm in document["arms"] if arm in few]
    assert {"unit relu", "centered relu", "centered_uint8 relu", "unit tanh"} <= set(names)
    assert main_arms(document["arms"], recorded.sweep, 12) is document["arms"]


@given(st.lists(st.integers(), max_size=50), st.integers(2, 60))
def test_thinning_keeps_both_ends_and_the_order(values: list[int], most: int) -> None:
    kept = thinned(sorted(values), most)
    assert len(kept) == min(len(values), most)
    assert kept == sorted(kept)
    assert kept[:1] + kept[-1:] == sorted(values)[:1] + sorted(values)[-1:]


def test_arms_are_named_by_words_and_by_numbers_with_their_factor() -> None:
    assert arm_name({"normalizer": "unit", "dropout": 1 / 3, "epochs": 3}) == "unit dropout=0.333333 epochs=3"
    assert key({"a": True}) != key({"a": 1})


@pytest.mark.parametrize("text", ["<b>", "a & b", '" onload="x'])
def test_text_and_attributes_are_escaped_and_markup_is_not(text: str) -> None:
    made: Any = element("p", text, Markup("<i>ok</i>"), title=text)
    assert text not in made.removeprefix("<p")
    assert "<i>ok</i>" in made
    assert "<td>&lt;x&gt;</td>" in table(("a", "b"), [("y", "<x>")], numbers_from=2)
