"""Charts show every number where it is, say it under a pointer, and take any name and any number."""

import itertools
import math
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree as ET

import matplotlib as mpl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text
from rich.cells import cell_len

from mnist_ablate.reports import charts
from mnist_ablate.reports.chart_axes import Measure, set_scale, span_of_differences, span_of_values
from mnist_ablate.reports.chart_files import LIGHT, STYLE, Chart, short, to_png, to_svg, to_svg_file
from mnist_ablate.statistics.verdict import ClaimVerdict, Finding, Verdict

SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}href"
MINUS = "\N{MINUS SIGN}"
SAID = f"{MINUS}2.00 pp ({MINUS}2.40 to {MINUS}1.60)"
HOSTILE = (
    "</title></svg><script>alert(1)</script> & \"q\" 'q' $\\frac{1}{0}$ #116329 \x00\x1b\ud800\uffff\n\N{SNOWMAN} 漢字"
)
DRAWN = {"svg", "g", "path", "use", "defs", "text", "tspan", "title", "desc", "style"}
ACCURACY, LOSS = Measure("test accuracy", is_fraction=True), Measure("test loss", is_fraction=False)


def claim(name: str, verdict: Verdict, effect: float, limits: tuple[float, float], *differences: float) -> ClaimVerdict:
    return ClaimVerdict(
        name, name, "test_accuracy", verdict, effect, *limits, 0.01, 0.01, len(differences), 0.002, "", None, (),
        dict(enumerate(differences)), 0.0, Finding.OPEN, "lower",
    )  # fmt: skip


HURTS = claim("printed-code-hurts", "supported", -0.02, (-0.024, -0.016), -0.021, -0.019, -0.02)
HELPS = claim("centering-hurts", "refuted", 0.01, (0.006, 0.014), 0.011, 0.009)
NAN, INF = math.nan, math.inf
UNIT = charts.Arm("unit relu", {0: 0.97, 1: 0.98}, 0.975, 0.96, 0.99)
RAW = charts.Arm("raw relu", {0: 0.95, 1: 0.95}, 0.95, 0.94, 0.96, diverged={2: 0.9})
GRID = {"relu": {"unit": UNIT, "raw": RAW}, "tanh": {"unit": RAW, "raw": UNIT}}
CURVE = charts.Curve("unit relu", "unit", "relu", {0: [(1, 0.9), (2, 0.95)], 1: [(1, 0.8), (2, 0.93)]})

CHARTS: dict[str, Callable[[], Chart]] = {
    "claims": lambda: charts.claims([HURTS, HELPS], ACCURACY),
    "arms": lambda: charts.arms([UNIT, RAW], ACCURACY),
    "interaction": lambda: charts.interaction(GRID, "normalizer", ACCURACY),
    "curves": lambda: charts.curves([CURVE, replace(CURVE, line="tanh")], ACCURACY, ("epoch 1", "2")),
}
EVERY_CHART = pytest.mark.parametrize("draw", CHARTS.values(), ids=CHARTS)


def texts(chart: Chart) -> list[str]:
    return [element.text or "" for element in ET.fromstring(to_svg(chart)).iter(f"{SVG}text")]


def marks(chart: Chart) -> dict[str, ET.Element]:
    """What each mark shows under a pointer, and the mark."""
    return {
        title.text or "": mark for mark in ET.fromstring(to_svg(chart)).iter() for title in mark.findall(f"{SVG}title")
    }


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("claims", [f"printed-code-hurts, seed 0: {MINUS}2.10 pp", f"printed-code-hurts, supported: {SAID}"]),
        ("arms", ["raw relu, seed 1: 95.00%", "raw relu, diverged, seed 2: 90.00%"]),
        ("interaction", ["unit relu, mean of 2: 97.50% (96.00% to 99.00%)"]),
        ("curves", ["unit relu, seed 1: 80.00% to 93.00%", "unit relu, mean of 2 at 1: 85.00%"]),
    ],
)
def test_a_pointer_over_a_mark_shows_arm_seed_and_value(name: str, shown: list[str]) -> None:
    assert set(shown) <= set(marks(CHARTS[name]()))


def test_every_seed_has_its_own_mark_even_where_values_are_equal() -> None:
    chart = CHARTS["arms"]()
    seeds = [text for text in marks(chart) if "seed" in text]
    assert len(seeds) == len(UNIT.seeds) + len(RAW.seeds) + len(RAW.diverged)


def test_marks_of_claims_stand_where_their_numbers_are() -> None:
    chart = CHARTS["claims"]()
    (axes,) = chart.figure.axes
    height = chart.figure.get_figheight() * 72
    found = marks(chart)
    for claim, row in ((HURTS, 0.5), (HELPS, 1.5)):
        for seed, value in claim.differences.items():
            x, y = axes.transData.transform((value, row + 0.24))
            mark = found[f"{claim.name}, seed {seed}: {ACCURACY.difference(value)}"]
            assert float(mark.attrib["x"]) == pytest.approx(x, abs=0.02)
            assert float(mark.attrib["y"]) == pytest.approx(height - y, abs=0.02)


@EVERY_CHART
def test_equal_inputs_give_equal_bytes(draw: Callable[[], Chart], tmp_path: Path) -> None:
    chart = draw()
    assert to_svg(draw(), "plot") == to_svg(chart, "plot") == to_svg(chart, "plot")
    for name in ("a.png", "b.png"):
        to_png(draw(), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_settings_of_the_user_change_nothing() -> None:
    usual = to_svg(CHARTS["arms"]())
    with mpl.rc_context({"lines.linewidth": 9.0, "font.family": ["serif"], "axes.grid": True, "svg.fonttype": "path"}):
        assert to_svg(CHARTS["arms"]()) == usual
        assert mpl.rcParams["lines.linewidth"] == 9.0


@pytest.mark.parametrize(
    "draw",
    [
        lambda: charts.claims([replace(HURTS, name=HOSTILE)], Measure(HOSTILE, is_fraction=False)),
        lambda: charts.arms([replace(UNIT, name=HOSTILE)], Measure(HOSTILE, is_fraction=True)),
        lambda: charts.interaction({HOSTILE: {HOSTILE: replace(UNIT, name=HOSTILE)}}, HOSTILE, ACCURACY),
        lambda: charts.curves([charts.Curve(HOSTILE, HOSTILE, HOSTILE, CURVE.seeds)], ACCURACY, (HOSTILE, HOSTILE)),
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
def test_svg_asks_for_nothing_and_runs_nothing(draw: Callable[[], Chart]) -> None:
    svg = to_svg_file(draw())
    assert re.findall(r"https?://(?!www\.w3\.org/(?:2000/svg|1999/xlink))", svg) == []
    assert not re.search(r"url\(|@import|<script| on\w+=", svg)


@EVERY_CHART
def test_two_charts_in_one_page_share_no_id_and_refer_to_their_own(draw: Callable[[], Chart]) -> None:
    pages = [ET.fromstring(to_svg(draw(), name)) for name in ("one", "two")]
    ids = [element.attrib["id"] for root in pages for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    for root in pages:
        own = {element.get("id") for element in root.iter()}
        assert {element.attrib[LINK][1:] for element in root.iter() if LINK in element.attrib} <= own


@EVERY_CHART
def test_every_color_is_a_variable_with_a_light_and_a_dark_value(draw: Callable[[], Chart]) -> None:
    svg = to_svg(draw())
    used = set(re.findall(r"var\(--(\w+)\)", svg))
    assert {"paper", "ink", "muted", "grid"} <= used
    assert used <= set(LIGHT)
    for color, name in re.findall(r"(#[0-9a-f]{6})(?:;\w+:var\(--(\w+)\))?", svg):
        assert LIGHT[name] == color


def test_colors_differ_and_text_has_enough_contrast_in_light_and_dark() -> None:
    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    assert len(set(LIGHT.values())) == len(LIGHT)
    light, dark = STYLE.split("@media screen and (prefers-color-scheme: dark)")
    for palette in (dict(re.findall(r"--(\w+): (#\w+);", block)) for block in (light, dark)):
        assert set(palette) == set(LIGHT)
        for name in set(palette) - {"paper", "grid", "band", "dot"}:
            low, high = sorted((luminance(palette[name]), luminance(palette["paper"])))
            assert (high + 0.05) / (low + 0.05) >= 4.5, name


@pytest.mark.parametrize("verdict", get_args(Verdict))
def test_a_verdict_is_told_by_color_sign_word_and_symbol(verdict: Verdict) -> None:
    found = CHARTS["claims"](), charts.claims([replace(HURTS, verdict=verdict)], ACCURACY)
    assert f"{charts.SIGNS[verdict]} {verdict}" in texts(found[1])
    assert f"var(--{verdict})" in to_svg(found[1])
    symbols = {
        name: charts.claims([replace(HURTS, verdict=name)], ACCURACY).figure.axes[0].lines[-1].get_marker()
        for name in get_args(Verdict)
    }
    assert len(set(symbols.values())) == len(charts.SIGNS)


@pytest.mark.parametrize("width", [640, 1840])
@EVERY_CHART
def test_a_png_has_the_width_that_was_asked_for(draw: Callable[[], Chart], width: int, tmp_path: Path) -> None:
    chart = draw()
    to_png(chart, tmp_path / "chart.png", width=width)
    content = (tmp_path / "chart.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    wide, high = struct.unpack(">II", content[16:24])
    assert wide == width
    assert high / wide == pytest.approx(chart.figure.get_figheight() / chart.figure.get_figwidth(), abs=1 / width)


def test_an_interval_that_goes_on_beyond_the_axis_ends_in_an_arrow() -> None:
    def ends(claim: ClaimVerdict) -> list[object]:
        return [line.get_marker() for line in charts.claims([claim], ACCURACY).figure.axes[0].lines]

    assert "<" not in ends(HURTS)
    assert "<" in ends(replace(HURTS, ci_low=-9.0))
    assert not {"<", ">", "|"} & set(ends(replace(HURTS, ci_low=-INF)))


@pytest.mark.parametrize(
    "draw",
    [
        lambda: charts.claims([], ACCURACY),
        lambda: charts.claims([replace(HURTS, effect=NAN, ci_low=NAN, ci_high=NAN, differences={})], ACCURACY),
        lambda: charts.claims([replace(HURTS, effect=0.0, ci_low=-INF, ci_high=INF, differences={7: 0.0})], ACCURACY),
        lambda: charts.claims([replace(HURTS, margin=0.0, differences={0: NAN, 1: -1e300, 2: 1e300})], LOSS),
        lambda: charts.claims([replace(HURTS, name=f"claim {i}") for i in range(99)], ACCURACY),
        lambda: charts.arms([], ACCURACY),
        lambda: charts.arms([replace(UNIT, seeds={}, mean=NAN, low=NAN, high=NAN)], ACCURACY),
        lambda: charts.arms([replace(UNIT, seeds={0: 0.5}, mean=0.5, low=-INF, high=INF)], ACCURACY),
        lambda: charts.arms([replace(UNIT, seeds={0: 1e-9, 1: 1e300}, mean=INF)], LOSS),
        lambda: charts.arms([replace(UNIT, name=f"arm {i}") for i in range(60)], ACCURACY),
        lambda: charts.interaction({}, "normalizer", ACCURACY),
        lambda: charts.interaction({"relu": {"unit": replace(UNIT, mean=NAN, low=NAN, high=NAN)}}, "x", ACCURACY),
        lambda: charts.curves([], ACCURACY, ("epoch 1", "3")),
        lambda: charts.curves([replace(CURVE, seeds={0: [(1, NAN)], 1: []})], ACCURACY, ("epoch 1", "1")),
        lambda: charts.curves([replace(CURVE, panel=f"arm {i}") for i in range(60)], ACCURACY, ("epoch 1", "2")),
    ],
)
def test_too_little_too_much_or_no_data_still_makes_a_chart(draw: Callable[[], Chart], tmp_path: Path) -> None:
    chart = draw()
    svg = to_svg(chart)
    assert not re.search(r'"[^"]*\b(nan|inf)\b[^"]*"', re.sub(r"<(title|desc).*?</\1>", "", svg))
    to_png(chart, tmp_path / "chart.png")


LONG = "a name that is much longer than any chart has room for"


@pytest.mark.parametrize(
    "draw",
    [
        *CHARTS.values(),
        lambda: charts.claims([replace(HURTS, name=LONG)], ACCURACY),
        lambda: charts.arms([replace(UNIT, name=LONG), replace(UNIT, name="\N{SNOWMAN}" * 99)], ACCURACY),
        lambda: charts.interaction(
            {f"{i} {LONG}": {f"{j} {LONG}": UNIT for j in range(9)} for i in range(6)}, "x", LOSS
        ),
        lambda: charts.curves([replace(CURVE, line=f"{i} {LONG}", panel=LONG) for i in range(6)], LOSS, ("a", "b")),
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
            assert box.x0 >= 0.0, text
            assert box.x1 <= width, text


def test_rows_and_panels_beyond_what_can_be_read_are_left_out() -> None:
    many = charts.arms([replace(UNIT, name=f"arm {i}") for i in range(99)], ACCURACY)
    assert "arm 59" in texts(many)
    assert "arm 60" not in texts(many)
    panels = charts.curves([replace(CURVE, panel=f"arm {i}") for i in range(99)], ACCURACY, ("epoch 1", "2"))
    assert len(panels.figure.axes) == charts.MOST_PANELS


def test_more_seeds_than_can_be_told_apart_are_thinned_with_both_ends_kept() -> None:
    seeds = {seed: seed / 9000 for seed in range(9000)}
    found = [text for text in marks(charts.arms([replace(UNIT, seeds=seeds)], ACCURACY)) if "seed" in text]
    assert len(found) == charts.MOST_POINTS
    assert {"unit relu, seed 0: 0.00%", "unit relu, seed 8999: 99.99%"} <= set(found)


def test_lines_that_cannot_be_told_apart_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="7 lines in one chart; at most 6 can be told apart: a, b, c, d, e, f, g"):
        charts.interaction({name: {"unit": UNIT} for name in "abcdefg"}, "normalizer", ACCURACY)


def test_curves_with_one_panel_name_share_a_panel_and_a_legend_names_their_lines() -> None:
    chart = charts.curves([CURVE, replace(CURVE, line="tanh"), replace(CURVE, panel="raw")], ACCURACY, ("a", "b"))
    assert len(chart.figure.axes) == 2
    assert {"relu", "tanh", "unit", "raw"} <= set(texts(chart))


def test_one_seed_far_off_does_not_set_the_scale_of_an_interaction() -> None:
    collapsed = replace(UNIT, low=-3.0, high=3.0)
    others = {f"place {i}": UNIT for i in range(4)}
    (axes,) = charts.interaction({"relu": {**others, "far": collapsed}}, "place", ACCURACY).figure.axes
    assert axes.get_ylim()[0] > 0.9


def test_each_chart_has_a_title_and_a_description_in_words() -> None:
    root = ET.fromstring(to_svg(CHARTS["claims"](), "plot"))
    assert root.attrib["aria-labelledby"] == "plot-title"
    assert (root.findtext(f"{SVG}title") or "").startswith("Forest plot: difference in test accuracy")
    assert f"printed-code-hurts, supported: {SAID}." in (root.findtext(f"{SVG}desc") or "")


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
    span = span_of_values(values, measure)
    assert note in span.note
    assert bool(note) == bool(span.note)
    axes = Figure().add_subplot()
    set_scale(axes, "x", span, measure.tick, "")
    assert set(ticks) <= {label.get_text() for label in axes.get_xticklabels()}


def test_differences_far_beyond_the_margin_compress_the_axis_and_the_margin_stays_visible() -> None:
    near, far = (charts.claims([replace(HURTS, differences={0: value})], ACCURACY) for value in (-0.03, -0.85))
    for chart, scale in ((near, "linear"), (far, "asinh")):
        (axes,) = chart.figure.axes
        assert axes.get_xscale() == scale
        left, right = (axes.transData.transform((sign * HURTS.margin, 0.0))[0] for sign in (-1, 1))
        assert right - left > 20.0
    names = [label.get_text() for label in far.figure.axes[0].get_xticklabels()]
    assert f"{MINUS}50" in names
    assert "0" in names


FINITE = st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=20)


@settings(max_examples=40, deadline=None)
@given(FINITE, st.floats(0.0, 0.1), st.booleans())
def test_an_axis_holds_its_values_and_its_ticks_are_apart(
    values: list[float], margin: float, is_fraction: bool
) -> None:
    measure = Measure("m", is_fraction=is_fraction)
    for span in (span_of_values(values, measure), span_of_differences(values, [], [margin])):
        axes = Figure().add_subplot()
        set_scale(axes, "x", span, measure.tick, "")
        assert span.low < span.high
        assert all(span.low <= value <= span.high for value in values)
        places = [axes.transData.transform((tick, 0.0))[0] for tick in axes.get_xticks()]
        assert all(math.isfinite(place) for place in places)
        assert all(b - a >= 0.99 * axes.bbox.width / 8 for a, b in itertools.pairwise(places))


@pytest.mark.parametrize(
    ("measure", "value", "text"),
    [
        (ACCURACY, 0.00834, "+0.83 pp"),
        (ACCURACY, -0.8470, f"{MINUS}84.70 pp"),
        (ACCURACY, -1e-17, "+0.00 pp"),
        (ACCURACY, 0.00002, "+0.002 pp"),
        (ACCURACY, 0.0, "+0.00 pp"),
        (LOSS, -0.01234567, f"{MINUS}0.01235"),
    ],
)
def test_differences_are_written_with_sign_and_unit(measure: Measure, value: float, text: str) -> None:
    assert measure.difference(value) == text


@given(st.text(max_size=80), st.integers(2, 40))
def test_a_shortened_name_fits_and_begins_as_the_name_does(text: str, most: int) -> None:
    found, whole = short(text, most), short(text, 999)
    assert cell_len(found) <= most
    assert found == whole or (found.endswith("\N{HORIZONTAL ELLIPSIS}") and whole.startswith(found[:-1].rstrip()))


def test_the_terminal_report_does_not_wait_for_matplotlib() -> None:
    code = "import sys, mnist_ablate.reports; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
