"""What charts are given is what the report and the trials say; `test_charts` has how it is drawn."""

import math
import re
from dataclasses import replace

import pytest
from judged_sweep import judged
from pages import sweep

from mnist_ablate.errors import SweepError
from mnist_ablate.reports import chart_files, charts, figures
from mnist_ablate.reports.chart_files import Chart
from mnist_ablate.reports.report import arm_key
from mnist_ablate.sweep import sweep_file
from mnist_ablate.text import arm_name
from mnist_ablate.workloads.keras_mnist import sections
from mnist_ablate.workloads.workload import Curves


def said(chart: Chart) -> str:
    return chart_files.to_svg(chart)


def test_claims_have_a_point_for_each_pair_and_their_numbers_in_words() -> None:
    report, _ = judged()
    text = said(figures.claims(report, "test_accuracy"))
    assert len(re.findall(", seed \\d+: ", text)) == sum(claim.n_pairs for claim in report.claims)
    for claim in report.claims:
        assert claim.name in text
        assert f"{charts.SIGNS[claim.verdict]} {claim.verdict}" in text
    assert "margin ±0.20 pp" in text


def test_every_trial_is_in_the_chart_of_arms_and_diverged_ones_are_marked() -> None:
    report, record = judged()
    text = said(figures.arms(report, report.arms, record))
    assert len(re.findall(", seed \\d+: ", text)) == report.trials.complete + report.trials.diverged
    assert text.count(", diverged, seed") == report.trials.diverged


def test_two_factors_make_a_line_for_each_value_of_the_smaller() -> None:
    report, record = judged()
    chart = figures.interaction(report, record)
    assert chart is not None
    assert chart.title == "test accuracy by normalizer, a line for each of activation relu, activation tanh"


def test_no_interaction_is_drawn_where_factors_are_not_crossed() -> None:
    report, record = judged()
    one = tuple(arm for arm in report.arms if arm.params["activation"] == "relu")
    third = tuple(replace(arm, params={**arm.params, "dropout": 0.5}) for arm in report.arms)
    for arms in (one, (), third):
        assert figures.interaction(report.model_copy(update={"arms": arms}), record) is None


def test_curves_share_a_panel_where_arms_differ_in_one_factor() -> None:
    report, _ = judged()
    points = {arm_name(arm.params): {0: [(1.0, 0.9), (2.0, 0.95)]} for arm in report.arms}
    shown = Curves("val accuracy", ("epoch 1", "2"), points, "", is_share=True)
    text = said(figures.curves(shown, report.arms))
    assert "in 6 panels" in text
    assert "activation relu" in text
    for name in sweep_file.load("normalization").scientific["normalizer"]:
        assert f">{name}<" in text
    assert "activation relu" not in said(figures.curves(shown, report.arms[::2]))


def test_dead_units_are_known_before_training_and_after_it() -> None:
    report, record = judged(trouble=False)
    trials = {arm_name(arm.params): record.arm(arm.params) for arm in report.arms}
    found = {section.name: section for section in sections.diagnostic_sections(trials)}
    assert list(found) == ["dead", "inputs", "units"]
    (chart,) = found["dead"].charts
    assert isinstance(chart, Curves)
    before, after = chart.points["centered_uint8 relu"][0]
    assert before == (0.0, pytest.approx(0.31 * (1 + 1 / 2 + 1 / 3) / 3))
    assert after == (1.0, pytest.approx(0.42 * (1 + 1 / 2 + 1 / 3) / 3))
    text = said(figures.curves(chart, report.arms))
    for label in (">before<", ">after<", ">0%<", ">20%<"):
        assert label in text


def test_diagnostics_that_were_not_recorded_make_no_section() -> None:
    _, record = judged(trouble=False)
    bare = [replace(each, outcome=each.outcome.model_copy(update={"diagnostics": {}})) for each in record.entries]
    assert sections.diagnostic_sections({"unit relu": bare}) == []


def test_of_many_arms_those_that_claims_compare_are_kept_in_order() -> None:
    report, record = judged()
    few = figures.main_arms(report.arms, record.sweep, 9)
    names = [arm_name(arm.params) for arm in few]
    assert len(few) == 9
    assert names == [arm_name(arm.params) for arm in report.arms if arm in few]
    assert {"unit relu", "centered relu", "centered_uint8 relu", "unit tanh"} <= set(names)
    assert figures.main_arms(report.arms, record.sweep, 12) is report.arms


def test_arms_are_named_by_words_and_by_numbers_with_their_factor() -> None:
    assert arm_name({"normalizer": "unit", "dropout": 1 / 3, "epochs": 3}) == "unit dropout=0.333333 epochs=3"
    assert arm_key({"a": True}) != arm_key({"a": 1})


def test_the_main_chart_shows_claims_else_arms_else_says_that_there_are_none() -> None:
    report, record = judged()
    assert figures.main_chart(report, record).title.startswith("Forest plot")
    report, record = judged(sweep(claims=[]))
    assert "in 12 arms" in figures.main_chart(report, record).title
    with pytest.raises(SweepError, match="no trial is recorded yet"):
        figures.main_chart(report.model_copy(update={"arms": ()}), record)


def test_an_unknown_interval_is_no_bar_and_no_error() -> None:
    report, _ = judged()
    unknown = tuple(replace(each, ci_low=-math.inf, ci_high=math.inf) for each in report.claims)
    text = said(figures.claims(report.model_copy(update={"claims": unknown}), "test_accuracy"))
    assert "inf" not in text.replace("info", "")
