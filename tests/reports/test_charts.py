"""Charts show every number where it is, say it under a pointer, and take any name and any number."""

import itertools
import math
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree as ET

import matplotlib as mpl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_sweep import judged
from matplotlib.figure import Figure
from matplotlib.text import Text
from pages import sweep
from rich.cells import cell_len
from sweep_runs import small

from mnist_ablate.errors import SweepError
from mnist_ablate.reports import charts, drawing, wording
from mnist_ablate.reports.drawing import LIGHT, Chart, Measure, set_scale, short, to_png, to_svg, to_svg_file
from mnist_ablate.reports.report import RecordedSweep
from mnist_ablate.statistics.claim_verdict import ClaimVerdict, PartVerdict
from mnist_ablate.statistics.decision_rule import Finding, Verdict
from mnist_ablate.statistics.verdict import Arm
from mnist_ablate.text import arm_name
from mnist_ablate.trial import Outcome, RecordedTrial, Trial
from mnist_ablate.workloads.keras_mnist import sections
from mnist_ablate.workloads.workload import Curves, Metric

SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}href"
MINUS = "\N{MINUS SIGN}"
SAID = f"{MINUS}2.00 pp ({MINUS}2.40 to {MINUS}1.60)"
HOSTILE = (
    "</title></svg><script>alert(1)</script> & \"q\" 'q' $\\frac{1}{0}$ #116329 \x00\x1b\ud800\uffff\n\N{SNOWMAN} 漢字"
)
LONG = "a name that is much longer than any chart has room for"
DRAWN = {"svg", "g", "path", "use", "defs", "text", "tspan", "title", "desc", "style"}
METRIC, ACCURACY, LOSS = "test_accuracy", Measure("test accuracy", is_fraction=True), Measure("test loss", False)
NAN, INF = math.nan, math.inf


def about(metric: str) -> Metric:
    return small().metric(metric)


def claim(name: str, verdict: Verdict, effect: float, limits: tuple[float, float], *differences: float) -> ClaimVerdict:
    return ClaimVerdict(
        name, name, METRIC, verdict, effect, *limits, 0.01, 0.01, len(differences), 0.002, "", None, (),
        dict(enumerate(differences)), "share", 0.0, Finding.OPEN, "lower",
    )  # fmt: skip


def arm(**params: str | int) -> Arm:
    return Arm(params, 2, 0.975, 0.96, 0.99, {})


HURTS = claim("printed-code-hurts", "supported", -0.02, (-0.024, -0.016), -0.021, -0.019, -0.02)
HELPS = claim("centering-hurts", "refuted", 0.01, (0.006, 0.014), 0.011, 0.009)
UNIT, RAW = arm(normalizer="unit", activation="relu"), arm(normalizer="raw", activation="relu")
GRID = [arm(normalizer=n, activation=a) for n in ("unit", "raw") for a in ("relu", "tanh")]
SEEDS = {0: 0.97, 1: 0.98, 2: 0.9}
POINTS = {0: [(1.0, 0.9), (2.0, 0.95)], 1: [(1.0, 0.8), (2.0, 0.93)]}


def crossed(n: int, m: int, name: str) -> list[Arm]:
    return [Arm({"a": f"{i} {name}", name: f"{j} {name}"}, 2, 0.9, 0.8, 1.0, {}) for i in range(n) for j in range(m)]


def arms(
    *shown: Arm, seeds: Mapping[int, float] = SEEDS, diverged: Collection[int] = (), metric: str = METRIC
) -> Chart:
    """A chart of arms that have the same results."""
    entries = []
    for each, (seed, value) in itertools.product(shown, seeds.items()):
        status = "diverged" if seed in diverged else "complete"
        outcome = Outcome(trial_id="", status=status, metrics={metric: value})
        trial = Trial(settings={}, seed=seed, data_digest="")
        entries.append(RecordedTrial(trial, dict(each.params), "verdict", outcome))
    return charts.arms(shown, RecordedSweep(small(), tuple(entries), (), "", "", {}), about(metric))


def curves(
    *shown: Arm, points: Mapping[int, Sequence[tuple[float, float]]] = POINTS, ends: tuple[str, str] = ("epoch 1", "2")
) -> Chart:
    found = {arm_name(each.params): points for each in shown}
    return charts.curves(Curves("test accuracy", ends, found, "", is_share=True), shown)


CHARTS: dict[str, Callable[[], Chart]] = {
    "claims": lambda: charts.claims([HURTS, HELPS], about(METRIC)),
    "arms": lambda: arms(UNIT, RAW, diverged={2}),
    "interaction": lambda: charts.interaction(GRID, about(METRIC)),
    "curves": lambda: curves(*GRID),
}
EVERY_CHART = pytest.mark.parametrize("draw", CHARTS.values(), ids=CHARTS)


def texts(chart: Chart) -> list[str]:
    return [element.text or "" for element in ET.fromstring(to_svg(chart)).iter(f"{SVG}text")]


def marks(chart: Chart) -> dict[str, ET.Element]:
    """What each mark shows under a pointer, and the mark."""
    root = ET.fromstring(to_svg(chart))
    return {title.text or "": mark for mark in root.iter() for title in mark.findall(f"{SVG}title")}


def test_a_pointer_over_a_mark_shows_arm_seed_and_value() -> None:
    shown = {
        "claims": {f"printed-code-hurts, seed 0: {MINUS}2.10 pp", f"printed-code-hurts, supported: {SAID}"},
        "arms": {"raw relu, seed 1: 98.00%", "raw relu, diverged, seed 2: 90.00%"},
        "interaction": {"unit relu, mean of 2: 97.50% (96.00% to 99.00%)"},
        "curves": {"unit relu, seed 1: 80.00% to 93.00%", "unit relu, mean of 2 at 1: 85.00%"},
    }
    assert {name: texts & marks(CHARTS[name]()).keys() for name, texts in shown.items()} == shown


def test_marks_of_claims_stand_where_their_numbers_are_which_a_description_tells_in_words() -> None:
    chart = CHARTS["claims"]()
    root = ET.fromstring(to_svg(chart, "plot"))
    assert root.attrib["aria-labelledby"] == "plot-title"
    assert (root.findtext(f"{SVG}title") or "").startswith("Forest plot: difference in test accuracy")
    assert f"printed-code-hurts, supported: {SAID}." in (root.findtext(f"{SVG}desc") or "")
    (axes,) = chart.figure.axes
    height = chart.figure.get_figheight() * 72
    found = marks(chart)
    for claim, row in ((HURTS, 0.5), (HELPS, 1.5)):
        for seed, value in claim.differences.items():
            x, y = axes.transData.transform((value, row + 0.24))
            mark = found[f"{claim.name}, seed {seed}: {ACCURACY.difference(value)}"]
            assert float(mark.attrib["x"]) == pytest.approx(x, abs=0.02)
            assert float(mark.attrib["y"]) == pytest.approx(height - y, abs=0.02)


@pytest.mark.slow
@EVERY_CHART
def test_equal_inputs_give_equal_bytes(draw: Callable[[], Chart], tmp_path: Path) -> None:
    chart = draw()
    assert to_svg(draw(), "plot") == to_svg(chart, "plot") == to_svg(chart, "plot")
    for name in ("a.png", "b.png"):
        to_png(draw(), tmp_path / name)
    content = (tmp_path / "a.png").read_bytes()
    assert content == (tmp_path / "b.png").read_bytes()
    wide, high = struct.unpack(">II", content[16:24])
    assert (content[:8], wide) == (b"\x89PNG\r\n\x1a\n", 1840)
    assert high / wide == pytest.approx(chart.figure.get_figheight() / chart.figure.get_figwidth(), abs=1 / wide)


def test_settings_of_the_user_change_nothing() -> None:
    usual = to_svg(CHARTS["arms"]())
    with mpl.rc_context({"lines.linewidth": 9.0, "font.family": ["serif"], "axes.grid": True, "svg.fonttype": "path"}):
        assert to_svg(CHARTS["arms"]()) == usual
        assert mpl.rcParams["lines.linewidth"] == 9.0


@pytest.mark.parametrize(
    "draw",
    [
        lambda: charts.claims([replace(HURTS, name=HOSTILE)], about(HOSTILE)),
        lambda: arms(arm(**{HOSTILE: HOSTILE})),
        lambda: charts.interaction(crossed(2, 2, HOSTILE), about(HOSTILE)),
        lambda: curves(*crossed(2, 2, HOSTILE), ends=(HOSTILE, HOSTILE)),
    ],
    ids=CHARTS,
)
def test_a_hostile_name_stays_text(draw: Callable[[], Chart], tmp_path: Path) -> None:
    chart = draw()
    for svg in (to_svg(chart), to_svg_file(chart)):
        root = ET.fromstring(svg)
        assert {element.tag.removeprefix(SVG) for element in root.iter()} <= DRAWN
        assert "<script>alert(1)</script> & \"q\" 'q' $\\frac{1}{0}$ #116329" in "".join(root.itertext())
    to_png(chart, tmp_path / "chart.png")


@EVERY_CHART
def test_svg_asks_for_nothing_runs_nothing_and_colors_by_variables(draw: Callable[[], Chart]) -> None:
    svg = to_svg_file(draw())
    assert re.findall(r"https?://(?!www\.w3\.org/(?:2000/svg|1999/xlink))", svg) == []
    assert not re.search(r"url\(|@import|<script| on\w+=", svg)
    svg = to_svg(draw())
    used = set(re.findall(r"var\(--(\w+)\)", svg))
    assert {"paper", "ink", "muted", "grid"} <= used <= set(LIGHT)
    for color, name in re.findall(r"(#[0-9a-f]{6})(?:;\w+:var\(--(\w+)\))?", svg):
        assert LIGHT[name] == color


@EVERY_CHART
def test_two_charts_in_one_page_share_no_id_and_refer_to_their_own(draw: Callable[[], Chart]) -> None:
    pages = [ET.fromstring(to_svg(draw(), name)) for name in ("one", "two")]
    ids = [element.attrib["id"] for root in pages for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    for root in pages:
        own = {element.get("id") for element in root.iter()}
        assert {element.attrib[LINK][1:] for element in root.iter() if LINK in element.attrib} <= own


@pytest.mark.slow
def test_a_verdict_is_told_by_color_sign_word_and_symbol() -> None:
    symbols = set()
    for verdict in get_args(Verdict):
        chart = charts.claims([replace(HURTS, verdict=verdict)], about(METRIC))
        assert f"{wording.SIGNS[verdict]} {verdict}" in texts(chart)
        assert f"var(--{verdict})" in to_svg(chart)
        symbols.add(chart.figure.axes[0].lines[-1].get_marker())
    assert len(symbols) == len(wording.SIGNS)


def test_an_interval_that_goes_on_beyond_the_axis_ends_in_an_arrow() -> None:
    def ends(claim: ClaimVerdict) -> list[object]:
        return [line.get_marker() for line in charts.claims([claim], about(METRIC)).figure.axes[0].lines]

    assert "<" not in ends(HURTS)
    assert "<" in ends(replace(HURTS, ci_low=-9.0))
    assert not {"<", ">", "|"} & set(ends(replace(HURTS, ci_low=-INF)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "draw",
    [
        lambda: charts.claims([], about(METRIC)),
        lambda: charts.claims([replace(HURTS, effect=NAN, ci_low=NAN, ci_high=NAN, differences={})], about(METRIC)),
        lambda: charts.claims(
            [replace(HURTS, effect=0.0, ci_low=-INF, ci_high=INF, differences={7: 0.0})], about(METRIC)
        ),
        lambda: charts.claims(
            [replace(HURTS, margin=0.0, differences={0: NAN, 1: -1e300, 2: 1e300})], about("test_loss")
        ),
        lambda: charts.claims([replace(HURTS, name=f"claim {i}") for i in range(99)], about(METRIC)),
        arms,
        lambda: arms(replace(UNIT, mean=NAN, ci_low=NAN, ci_high=NAN), seeds={}),
        lambda: arms(replace(UNIT, mean=0.5, ci_low=-INF, ci_high=INF), seeds={0: 0.5}),
        lambda: arms(replace(UNIT, mean=INF), seeds={0: 1e-9, 1: 1e300}, metric="test_loss"),
        lambda: arms(*(arm(place=i) for i in range(60))),
        curves,
        lambda: curves(UNIT, points={0: [(1, NAN)], 1: []}, ends=("epoch 1", "1")),
        lambda: curves(*(arm(place=i) for i in range(60))),
    ],
)
def test_too_little_too_much_or_no_data_still_makes_a_chart(draw: Callable[[], Chart], tmp_path: Path) -> None:
    chart = draw()
    svg = to_svg(chart)
    assert not re.search(r'"[^"]*\b(nan|inf)\b[^"]*"', re.sub(r"<(title|desc).*?</\1>", "", svg))
    to_png(chart, tmp_path / "chart.png")


@pytest.mark.slow
@pytest.mark.parametrize(
    "draw",
    [
        *CHARTS.values(),
        lambda: charts.claims([replace(HURTS, name=LONG)], about(METRIC)),
        lambda: arms(arm(a=LONG), arm(a="\N{SNOWMAN}" * 99)),
        lambda: charts.interaction(crossed(6, 9, LONG), about("test_loss")),
        lambda: curves(*crossed(6, 1, LONG), *crossed(6, 2, LONG), ends=("a", "b")),
    ],
)
def test_marks_and_text_stay_within_the_picture(draw: Callable[[], Chart]) -> None:
    chart = draw()
    root = ET.fromstring(to_svg(chart))
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    places = [(float(e.attrib["x"]), float(e.attrib["y"])) for e in root.iter() if {"x", "y"} <= set(e.attrib)]
    assert places
    assert all(0.0 <= x <= width and 0.0 <= y <= height for x, y in places)
    for text in chart.figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_text() and text.get_visible():
            box = text.get_window_extent()
            assert 0.0 <= box.x0 <= box.x1 <= width, text


@pytest.mark.slow
def test_rows_and_panels_beyond_what_can_be_read_are_left_out() -> None:
    many = [arm(place=i) for i in range(99)]
    assert {name for name in texts(arms(*many)) if "=" in name} == {f"place={i}" for i in range(60)}
    assert len(curves(*many).figure.axes) == charts.MOST_PANELS


def test_every_seed_has_its_mark_up_to_so_many_with_both_ends_kept() -> None:
    def seeds(chart: Chart) -> set[str]:
        return {text for text in marks(chart) if "seed" in text}

    assert len(seeds(arms(UNIT, RAW, seeds={0: 0.9, 1: 0.9, 2: 0.9}))) == 6
    found = seeds(arms(UNIT, seeds={seed: seed / 9000 for seed in range(9000)}))
    assert len(found) == charts.MOST_POINTS
    assert {"unit relu, seed 0: 0.00%", "unit relu, seed 8999: 99.99%"} <= found


def test_one_seed_far_off_does_not_set_the_scale_of_an_interaction() -> None:
    found = [*crossed(2, 5, "x")[:-1], replace(crossed(2, 5, "x")[-1], ci_low=-3.0, ci_high=3.0)]
    (axes,) = charts.interaction(found, about(METRIC)).figure.axes
    assert axes.get_ylim()[0] > 0.7


@pytest.mark.parametrize(
    ("values", "measure", "note", "ticks"),
    [
        ([0.1, 0.98], ACCURACY, "logarithm of the error", ["50%", "80%", "90%", "95%"]),
        ([0.970, 0.975], ACCURACY, "", ["97%", "97.1%", "97.2%", "97.3%", "97.4%", "97.5%"]),
        ([0.1, 3.0], LOSS, "logarithmic", ["0.1", "0.2", "0.5", "1", "2"]),
        ([1.0, 3.0], LOSS, "", ["1", "1.5", "2", "2.5", "3"]),
    ],
)
def test_an_axis_is_bent_only_where_values_lie_far_apart(
    values: list[float], measure: Measure, note: str, ticks: list[str]
) -> None:
    span = drawing.span_of_values(values, measure)
    assert (note in span.note, bool(note)) == (True, bool(span.note))
    axes = Figure().add_subplot()
    set_scale(axes, "x", span, measure.tick, "")
    assert set(ticks) <= {label.get_text() for label in axes.get_xticklabels()}


def test_differences_far_beyond_the_margin_compress_the_axis_and_the_margin_stays_visible() -> None:
    near, far = (charts.claims([replace(HURTS, differences={0: value})], about(METRIC)) for value in (-0.03, -0.85))
    for chart, scale in ((near, "linear"), (far, "asinh")):
        (axes,) = chart.figure.axes
        assert axes.get_xscale() == scale
        left, right = (axes.transData.transform((sign * HURTS.margin, 0.0))[0] for sign in (-1, 1))
        assert right - left > 20.0
    assert {f"{MINUS}50", "0"} <= {label.get_text() for label in far.figure.axes[0].get_xticklabels()}


FINITE = st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=20)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(FINITE, st.floats(0.0, 0.1), st.booleans())
def test_an_axis_holds_its_values_and_its_ticks_are_apart(
    values: list[float], margin: float, is_fraction: bool
) -> None:
    measure = Measure("m", is_fraction=is_fraction)
    for span in (drawing.span_of_values(values, measure), drawing.span_of_differences(values, [], [margin])):
        axes = Figure().add_subplot()
        set_scale(axes, "x", span, measure.tick, "")
        assert span.low < span.high
        assert all(span.low <= value <= span.high for value in values)
        places = [axes.transData.transform((tick, 0.0))[0] for tick in axes.get_xticks()]
        assert all(math.isfinite(place) for place in places)
        assert all(b - a >= 0.99 * axes.bbox.width / 8 for a, b in itertools.pairwise(places))


def test_differences_are_written_with_sign_and_unit() -> None:
    texts = {0.00834: "+0.83 pp", -0.847: f"{MINUS}84.70 pp", -1e-17: "+0.00 pp", 0.00002: "+0.002 pp", 0.0: "+0.00 pp"}
    assert {value: ACCURACY.difference(value) for value in texts} == texts
    assert LOSS.difference(-0.01234567) == f"{MINUS}0.01235"


@given(st.text(max_size=80), st.integers(2, 40))
@pytest.mark.slow
def test_a_shortened_name_fits_and_begins_as_the_name_does(text: str, most: int) -> None:
    found, whole = short(text, most), short(text, 999)
    assert cell_len(found) <= most
    assert found == whole or (found.endswith("\N{HORIZONTAL ELLIPSIS}") and whole.startswith(found[:-1].rstrip()))


def test_the_terminal_report_does_not_wait_for_matplotlib_nor_for_jinja() -> None:
    code = "import sys, mnist_ablate.reports.terminal; sys.exit(bool({'matplotlib', 'jinja2'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_pair_and_every_trial_of_a_report_is_drawn_with_its_numbers_in_words() -> None:
    report, record = judged()
    text = to_svg(charts.main_chart(report, record))
    assert len(re.findall(", seed \\d+: ", text)) == sum(claim.n_pairs for claim in report.claims)
    for claim in report.claims:
        assert claim.name in text
        assert f"{wording.SIGNS[claim.verdict]} {claim.verdict}" in text
    assert "margin ±0.20 pp" in text
    text = to_svg(charts.arms(report.arms, record, about(METRIC)))
    assert len(re.findall(", seed \\d+: ", text)) == report.trials.complete + report.trials.diverged
    assert text.count(", diverged, seed") == report.trials.diverged


def test_two_crossed_factors_make_a_line_for_each_value_of_the_smaller() -> None:
    every = judged()[0].arms
    chart = charts.interaction(every, about(METRIC))
    assert chart is not None
    assert chart.title == "test accuracy by normalizer, a line for each of activation relu, activation tanh"
    third = [replace(each, params={**each.params, "dropout": 0.5}) for each in every]
    for found in (every[::2], (), third):
        assert charts.interaction(found, about(METRIC)) is None


def test_curves_share_a_panel_where_arms_differ_in_one_factor() -> None:
    every = judged()[0].arms
    chart = curves(*every)
    names = set(texts(chart))
    assert len(chart.figure.axes) == 6
    assert {"activation relu", "activation tanh", *sweep().scientific["normalizer"]} <= names
    assert "activation relu" not in texts(curves(*every[::2]))


def test_dead_units_are_known_before_training_and_after_it() -> None:
    report, record = judged(trouble=False)
    trials = {arm_name(arm.params): record.arm(arm.params) for arm in report.arms}
    found = {section.name: section for section in sections.diagnostic_sections(trials)}
    assert list(found) == ["dead", "inputs", "units"]
    (shown,) = found["dead"].charts
    third = (1 + 1 / 2 + 1 / 3) / 3
    points = [(0.0, pytest.approx(0.31 * third)), (1.0, pytest.approx(0.42 * third))]
    assert shown.points["centered_uint8 relu"][0] == points
    assert {"before", "after", "0%", "20%"} <= set(texts(charts.curves(shown, report.arms)))
    bare = [replace(each, outcome=each.outcome.model_copy(update={"diagnostics": {}})) for each in record.entries]
    assert sections.diagnostic_sections({"unit relu": bare}) == []


def test_of_many_arms_those_that_claims_compare_are_kept_in_order() -> None:
    report, record = judged()
    few = charts.main_arms(report.arms, record.sweep, 9)
    assert len(few) == 9
    assert list(few) == [arm for arm in report.arms if arm in few]
    assert {"unit relu", "centered relu", "centered_uint8 relu", "unit tanh"} <= {arm_name(arm.params) for arm in few}
    assert charts.main_arms(report.arms, record.sweep, 12) is report.arms
    assert arm_name({"normalizer": "unit", "dropout": 1 / 3, "epochs": 3}) == "unit dropout=0.333333 epochs=3"


def test_the_main_chart_has_an_axis_for_each_measure_of_a_claim_and_room_for_its_parts() -> None:
    report, record = judged()
    part = PartVerdict("of three", -0.9, -0.95, -0.85, "supported")
    other = replace(report.claims[0], name="other", measure="slope", parts=(part,))
    chart = charts.main_chart(report.model_copy(update={"claims": (*report.claims, other)}), record)
    assert [axes.get_xlabel().partition(" in ")[0] for axes in chart.figure.axes] == ["difference", "slope"]
    assert [len(axes.get_yticks()) for axes in chart.figure.axes] == [len(report.claims), 1]
    assert chart.figure.axes[1].get_xlim()[0] < -0.9
    numbers = [text.get_text() for axes in chart.figure.axes for text in axes.texts if text.get_text().isdigit()]
    assert numbers == [str(i + 1) for i in range(len(report.claims) + 1)]


def test_the_main_chart_shows_claims_else_arms_else_says_that_there_are_none() -> None:
    assert charts.main_chart(*judged()).title.startswith("Forest plot")
    report, record = judged(sweep(claims=[]))
    assert "in 12 arms" in charts.main_chart(report, record).title
    with pytest.raises(SweepError, match="no trial is recorded yet"):
        charts.main_chart(report.model_copy(update={"arms": ()}), record)
