"""The page says first what was found, then what it rests on; it runs nothing and takes no text for markup."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from judged_sweep import judged, with_trials
from pages import Reader, claim, read, sweep

from mnist_ablate.ledger import progress
from mnist_ablate.reports import drawing, html, judging
from mnist_ablate.reports.report import ChosenValues, RecordedSweep, Tuning
from mnist_ablate.sweep import sweep_file
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import Scalar

MOST_BYTES = 2_000_000
HOSTILE = "</script></title><script>alert(1)</script><img src=x onerror=alert(2)> & \"quoted\" 'too'"
STYLE = drawing.STYLE + (Path(html.__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page() -> Reader:
    return read()


def test_the_question_and_the_verdicts_come_before_everything_else(page: Reader) -> None:
    parts = ("Do centered inputs hurt", "3 ✓ supported", "Verdicts", "hurts tanh as well")
    places = [*map(page.text.index, parts), page.text.rindex("Every arm")]
    assert places == sorted(places)
    verdicts = [each.verdict for each in judged()[0].claims]
    assert page.text.count("pairs are not enough to tell.") == verdicts.count("inconclusive")


@pytest.mark.parametrize(
    "said",
    [
        r"With centered_uint8 in place of unit, for tanh, test accuracy was 4\.6\d percentage points lower on average",
        r"raw tanh\s*diverged\s*6, 8\s*loss not finite in epoch 2",
        r"unit tanh\s*lost\s*7",
        r"printed-code-hurts-tanh: Left out: seed 7 \(normalizer=unit, activation=tanh lost\)\.",
        "2 failed and 1 lost: their pairs are left out",
        "an arm none of whose 10 seeds collapsed may still collapse in up to 26% of trainings",
        "batch_size128",
        "12 arms, 10 seeds each. 120 trials planned: 114 complete, 3 diverged, 2 failed, 1 lost.",
    ],
)
def test_what_was_found_what_went_wrong_and_what_can_be_missed_is_said(said: str, page: Reader) -> None:
    assert re.search(said, page.text)


def test_every_section_that_has_something_to_show_is_there_and_linked(page: Reader) -> None:
    links = [value for value in page.values("href") if value and value.startswith("#")]
    expected = (
        "verdicts differences arms effects interaction curves dead inputs units failures caveats reproduce provenance"
    )
    assert links == [f"#{name}" for name in expected.split()]
    ids = page.values("id")
    assert set(expected.split()) <= set(ids)
    assert len(ids) == len(set(ids))
    pictures = [value for tag, name, value in page.attributes if tag == "svg" and name == "aria-labelledby"]
    assert page.tags.count("svg") == len(pictures) == 5
    assert {*pictures, *page.values("aria-describedby")} <= set(ids)


@pytest.mark.usefixtures("no_pictures")
def test_a_sweep_without_trouble_says_so_and_shows_means_over_seeds_before_and_after_training() -> None:
    calm = read(trouble=False)
    assert "Nothing: every recorded trial completed." in calm.text
    assert "left out" not in calm.text.lower()
    units = "centered_uint8 relu31.0% \N{RIGHTWARDS ARROW} 42.[45]%15.5% \N{RIGHTWARDS ARROW} 21.[45]%"
    assert re.search(units, calm.text)
    assert "centered\N{MINUS SIGN}11.01\N{MINUS SIGN}0.7370.621.19727" in calm.text
    assert "unit relu1.20.195" in calm.text


@pytest.mark.usefixtures("no_pictures")
def test_trials_that_have_not_run_make_it_preliminary_and_without_any_it_is_a_page_too() -> None:
    report, record = judged()
    text = html.html(with_trials(report, planned=160), record)
    assert "Preliminary: 40 of 160 planned trials have not run yet." in text
    empty = replace(record, entries=(), provenance={})
    text = html.html(judging.of_rows(record.sweep, [], progress.count([])), empty)
    assert "There is nothing to compare yet." in text
    assert "No trial has been recorded yet." in text


@pytest.mark.usefixtures("no_pictures")
def test_one_of_anything_is_told_in_the_singular_without_curves_or_intervals() -> None:
    reader = read(sweep(seeds=1, fixed={**sweep().fixed, "epochs": 1}), trouble=False)
    assert "12 arms, 1 seed each." in reader.text
    assert "an arm whose one seed did not collapse may still collapse in up to" in reader.text
    assert "One pair has no spread; at least 3 seeds are needed" in reader.text
    assert "curves" not in reader.values("id")
    arms = {"only": {"model": "mlp"}}
    one = Sweep(name="s", question="q", design="configurations", configurations=arms, seeds=1)
    assert "1 arm, 1 seed each. 1 trial planned: 1 complete." in read(one, trouble=False).text


@pytest.mark.slow
def test_claims_about_two_metrics_get_a_picture_each() -> None:
    loss = claim(name="loss-rises", metric="test_loss", direction="higher", margin=0.01)
    reader = read(sweep(claims=[claim(), loss]))
    assert reader.text.count("Forest plot: difference in") == 2
    assert "difference in test loss" in reader.text


@pytest.mark.usefixtures("no_pictures")
def test_without_claims_no_verdict_is_pretended() -> None:
    reader = read(sweep(claims=[]))
    assert "This sweep claims nothing" in reader.text
    assert "differences" not in reader.values("id")
    assert "Each claim is judged" not in reader.text


@pytest.mark.usefixtures("no_pictures")
def test_an_interaction_and_a_reference_are_said_as_such() -> None:
    named = claim(name="about-97", treatment={"normalizer": "raw"}, control=None, reference=0.97, direction="same")
    text = read(sweep(claims=[sweep().claims[3], named]), trouble=False).text
    assert re.search(r"The effect of centered in place of unit on test accuracy was .* higher with relu than", text)
    assert re.search(r"With raw, for relu, test accuracy was 0\.\d\d percentage points below 97\.00%", text)


@pytest.mark.usefixtures("no_pictures")
def test_tuned_values_are_shown_with_a_warning_at_the_edge() -> None:
    nuisance = {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}
    tuned = Sweep.model_validate({**sweep().model_dump(), "nuisance": nuisance, "tuning_trials": 2})
    report, record = judged(tuned)
    first = record.entries[0]
    rate: dict[str, Scalar] = {"learning_rate": 0.001}
    values = ChosenValues(params=first.params, values=rate, score=0.95, tried=2, edges={"learning_rate": "lowest"})
    tuning = Tuning(metric="val_accuracy", trials=2, outcomes={"complete": 2}, arms=(values,))
    shown = replace(record, sweep=tuned, tuning=(first,))
    text = Reader(html.html(report.model_copy(update={"tuning": tuning}), shown)).text
    assert "At the edge: the best learning rate is the lowest that was tried for unit relu (0.001)" in text
    assert re.search(r"unit relu\s*0\.001 \(lowest tried\)\s*95\.00%\s*2", text)


@pytest.mark.slow
@pytest.mark.parametrize(("arms", "seeds"), [((1250, 4), 2), ((4, 2), 1250), ((250, 4), 10)])
def test_ten_thousand_trials_stay_below_two_megabytes(arms: tuple[int, int], seeds: int) -> None:
    dropouts = [i / 2000 for i in range(arms[0])]
    normalizers = ["unit", "centered", "raw", "inverted"][: arms[1]]
    claims = [
        claim(name=f"c{i}", treatment={"dropout": dropouts[i % (arms[0] - 1) + 1]}, control={"dropout": 0.0}, where={})
        for i in range(200)
    ]
    wide = sweep(scientific={"normalizer": normalizers, "dropout": dropouts}, baseline={}, seeds=seeds, claims=claims)
    report, record = judged(wide)
    assert len(record.entries) == 10_000
    text = html.html(report, record)
    assert len(text.encode()) < MOST_BYTES
    assert text.count("<use") < 12_000


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_changed_sweep_is_on_the_page_as_a_file_and_writing_makes_the_folders(tmp_path: Path) -> None:
    changed = judged(sweep_file.load("normalization", overrides=["fixed.epochs=2"]))
    text = html.write(*changed, tmp_path / "a" / "b" / "report.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>\n<html")
    assert "saved as normalization.yaml" in text
    assert "epochs: 2" in text


def test_nothing_in_the_file_points_elsewhere_or_runs(page: Reader) -> None:
    assert not {"script", "iframe", "object", "embed", "img", "base", "form"} & set(page.tags)
    assert all(value and value.startswith(("#", "data:")) for value in page.values("href") + page.values("src"))
    assert any(value and "default-src 'none'" in value for value in page.values("content"))
    assert not re.search(r"@import|url\(", STYLE)


def test_hostile_text_stays_text_wherever_it_comes_from() -> None:
    hostile = sweep(
        question=HOSTILE,
        source=HOSTILE,
        scientific={"normalizer": ["unit", "centered"], "initializer": [HOSTILE, "glorot_uniform"]},
        baseline={},
        claims=[
            claim(name=HOSTILE, statement=HOSTILE, treatment={"initializer": HOSTILE}, control=None, reference=0.9)
        ],
    )
    report, record = judged(hostile, reason=HOSTILE)
    last = record.entries[-1]
    failed = last.outcome.model_copy(update={"status": "failed", "reason": HOSTILE, "worker": HOSTILE})
    entries = (*record.entries[:-1], replace(last, outcome=failed))
    record = RecordedSweep(hostile, entries, (), HOSTILE, HOSTILE, {"version.keras": HOSTILE})
    reader = Reader(html.html(report, record))
    assert not {"script", "img"} & set(reader.tags)
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    assert reader.text.count("<script>alert(1)</script>") >= 8


@pytest.mark.usefixtures("no_pictures")
def test_a_password_in_a_reason_does_not_reach_the_page() -> None:
    text = read(reason="OperationalError: postgresql://me:hunter2@db/optuna refused").text
    assert "hunter2" not in text
    assert "me:***@db/optuna" in text


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_colors_differ_and_every_text_has_enough_contrast_in_light_in_dark_and_on_paper() -> None:
    blocks = re.findall(r":root ?\{(.*?)\}", STYLE, re.DOTALL)
    own = [dict(re.findall(r"--(\w+): ?(#[0-9a-f]{6})", block)) for block in blocks]
    light, dark, page_light, page_dark, page_print = (each for each in own if each)
    assert set(light) == set(dark) == set(drawing.LIGHT)
    assert len(set(light.values())) == len(light)
    for charts, page in ((light, page_light), (dark, page_dark), (light, page_print)):
        palette = {**charts, **page}
        for name in palette.keys() - {"paper", "panel", "grid", "band", "dot", "rule"}:
            for ground in ("paper", "panel") if not name.startswith("s") or name == "supported" else ("paper",):
                low, high = sorted((luminance(palette[name]), luminance(palette[ground])))
                assert (high + 0.05) / (low + 0.05) >= 4.5, (name, ground, palette)
