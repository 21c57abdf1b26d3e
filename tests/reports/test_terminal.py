"""The terminal and Markdown say each verdict in one sentence that agrees with its numbers, at any width."""

import re
from dataclasses import replace
from typing import Any

import pytest
from judged_sweep import judged, with_claim, with_trials
from pages import Reader, shown
from rich.cells import cell_len

from mnist_ablate.reports import judging, wording
from mnist_ablate.reports.html import html
from mnist_ablate.reports.markdown import markdown
from mnist_ablate.sweep import sweep_file
from mnist_ablate.sweep.sweep import Sweep


@pytest.mark.parametrize("width", [80, 120])
def test_lines_fit_heads_do_not_wrap_and_numbers_stand_under_each_other(width: int) -> None:
    lines = shown(judged()[0], width).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert lines[1].split() == ["normalizer", "activation", "n", "mean", "95%", "interval", "not", "complete"]
    rows = lines[3:15]
    assert len({line.index("% ") for line in rows}) == 1
    assert rows[0].split()[:2] == ["unit", "relu"]
    assert [line.split()[0] for line in rows[::2]] == list(sweep_file.load("normalization").scientific["normalizer"])


def test_exceptions_and_pairs_left_out_are_noted_and_each_interval_is_printed_once() -> None:
    report, _ = judged()
    text = shown(report, 80)
    assert "120 trials planned: 114 complete, 3 diverged, 2 failed, 1 lost" in text
    assert re.search(r"raw +tanh +10 .* 2 diverged", text)
    assert "not complete" not in shown(judged(trouble=False)[0], 80)
    text = " ".join(text.split())
    for claim in report.claims:
        assert text.count(wording.interval(claim)) == 1
    assert "Left out: seed 7 (normalizer=unit, activation=tanh lost)." in text


def test_no_width_cuts_off_a_number_of_an_arm() -> None:
    report, _ = judged(trouble=False)
    for width in range(56, 76):
        table = shown(report, width).partition("trials planned")[0]
        rows = [line for line in table.splitlines() if line.endswith("%")]
        assert len(rows) == len(report.arms), width
        assert all(re.search(r" 10 +\d+\.\d\d% +\d+\.\d\d% to \d+\.\d\d%$", line) for line in rows), width


@pytest.mark.parametrize("width", [60, 80, 120])
def test_arms_of_many_factors_wrap_in_one_column(width: int) -> None:
    factors = {f"a_long_factor_{i}": "its_value" for i in range(6)}
    report, _ = judged()
    arms = tuple(replace(arm, params=factors) for arm in report.arms)
    lines = shown(report.model_copy(update={"arms": arms}), width).splitlines()
    assert lines[1].split()[0] == "arm"
    assert max(map(cell_len, lines)) <= width
    assert sum(" 97.91%  " in line for line in lines) == 1
    assert "a_long_factor_5=its_value" in "".join(line[: line.index("  ")].strip() for line in lines if "  " in line)


def test_a_long_table_ends_with_its_heads_and_what_looks_like_markup_is_printed_as_it_is() -> None:
    report = with_claim(judged()[0], statement="[red]bold[/red] [link=x]y[/link]")
    text = shown(report.model_copy(update={"arms": report.arms * 20}), 80)
    assert sum(line.startswith("normalizer") for line in text.splitlines()) == 2
    assert "[red]bold[/red] [link=x]y[/link]" in text


def test_nothing_recorded_and_trials_that_have_not_run_are_told() -> None:
    empty = judging.of_rows(Sweep(name="s", question="q", seeds=2), [], {"planned": 4})
    assert "4 trials planned: none recorded" in shown(empty, 80)
    assert "# q" in markdown(empty, "q")
    text = shown(with_trials(judged()[0], planned=150), 80)
    assert "150 trials planned: 114 complete, 3 diverged, 2 failed, 1 lost, 30 not run yet" in text


def test_markdown_has_verdicts_first_and_fits_a_note() -> None:
    report, record = judged()
    text = markdown(report, record.sweep.question)
    order = ["# Do centered", "| claim |", "- **printed-code-hurts-relu**: The interval", "**test accuracy by arm**"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert len(text) < 5000


def test_markdown_rows_have_as_many_cells_as_their_heads_and_no_text_is_markup() -> None:
    question = "# <img src=x> *a* [b](c) `d`\n\n# second"
    text = markdown(with_claim(judged()[0], statement="a | b\nc"), question)
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")]
    assert widths == [8] * 9 + [7] * 14 + [4] * 9 + [6] * 6
    assert "| a \\| b c |" in text
    assert text.splitlines()[0] == r"# \# &lt;img src=x> \*a\* \[b\](c) \`d\` \# second"


PRINT: dict[str, Any] = {
    "min": 0.0,
    "max": 2.0,
    "mean": 1.0,
    "std": 0.2,
    "offset": 5.0,
    "energy": 828.0,
    "normalizer": "centered_uint8",
    "dtypes": "uint8 -> uint8 (subtract)",
    "top_eigenvalue": 801.0,
    "eigenvalue_ratio": 4917.0,
    "dead": 0.242,
    "always_on": None,
    "flags": [{"name": "wrapped", "reason": "out of order"}, {"name": "not centered", "reason": "5, above 0.5"}],
}


@pytest.mark.usefixtures("no_pictures")
def test_damaged_inputs_are_told_before_anything_else_in_every_format() -> None:
    report, record = judged()
    harmless = {**PRINT, "normalizer": "unit", "flags": []}
    assert "Data gate:" not in shown(report.model_copy(update={"fingerprints": (harmless,)}), 80)
    report = report.model_copy(update={"fingerprints": (PRINT, harmless)})
    lines = shown(report, 80).splitlines()
    assert lines[0] == "Data gate: normalizer centered_uint8 is wrapped: out of order."
    assert max(map(cell_len, lines)) <= 80
    assert "NOT CENTERED: 5, above 0.5" in shown(report, 80)
    text = markdown(report, "q")
    assert text.splitlines()[2] == "**Data gate: normalizer centered_uint8 is wrapped: out of order.**"
    row = "| centered_uint8 | wrapped, not centered | 0 | 2 | 1 | 0.2 | 5 | 828 | 801 | 4,917 | 24.2% | - |"
    assert row in text.splitlines()
    read = Reader(html(report, record))
    assert "Data gate: normalizer centered_uint8 is wrapped" in read.text[: read.text.index("Verdicts")]
    assert "4,917" in read.text
