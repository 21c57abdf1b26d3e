"""The page says first what was found, then what it rests on; it runs nothing and takes no text for markup."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from judged_sweep import judged, with_trials
from pages import Reader, claim, read, sweep

from mnist_ablate.ledger import progress
from mnist_ablate.reports import chart_files, html, judging
from mnist_ablate.reports.report import ChosenValues, RecordedSweep, Tuning
from mnist_ablate.sweep import sweep_file
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import Scalar

MOST_BYTES = 2_000_000


def test_the_question_and_the_verdicts_come_before_everything_else() -> None:
    text = read().text
    places = [text.index(part) for part in ("Do centered inputs hurt", "2 ✓ supported", "Verdicts")]
    assert places == sorted(places)
    assert text.index("hurts tanh as well") < text.rindex("Every arm")
    assert "With centered_uint8 in place of unit, for tanh, test accuracy was 4.6" in text
    assert "percentage points lower on average" in text


def test_every_section_that_has_something_to_show_is_there_and_linked() -> None:
    reader = read()
    links = [value for value in reader.values("href") if value and value.startswith("#")]
    expected = [
        "verdicts",
        "differences",
        "arms",
        "effects",
        "interaction",
        "curves",
        "dead",
        "inputs",
        "units",
        "failures",
        "caveats",
        "reproduce",
        "provenance",
    ]
    assert links == [f"#{name}" for name in expected]
    assert set(expected) <= set(reader.values("id"))


def test_ids_are_unique_and_every_picture_is_named_by_one() -> None:
    reader = read()
    ids = reader.values("id")
    assert len(ids) == len(set(ids))
    pictures = [value for tag, name, value in reader.attributes if tag == "svg" and name == "aria-labelledby"]
    assert len(pictures) == 5
    assert {*pictures, *reader.values("aria-describedby")} <= set(ids)
    hidden = [value for tag, name, value in reader.attributes if tag == "svg" and name == "aria-hidden"]
    assert reader.tags.count("svg") == len(pictures) + len(hidden)


def test_the_legend_holds_for_claims_that_there_is_no_effect() -> None:
    text = read().text
    assert "The interval shows what is claimed: an effect beyond the margin, or that there is none" in text
    assert "The interval excludes what is claimed, or the effect goes the other way." in text
    assert "on the side claimed" not in text


def test_an_open_claim_says_in_words_that_it_is_open() -> None:
    reader = read()
    report, _ = judged()
    verdicts = [each.verdict for each in report.claims]
    assert reader.text.count("pairs are not enough to tell.") == verdicts.count("inconclusive")


def test_diagnostics_are_means_over_seeds_before_and_after_training() -> None:
    text = read(trouble=False).text
    assert re.search("centered_uint8 relu31.0% \N{RIGHTWARDS ARROW} 42.[45]%15.5% \N{RIGHTWARDS ARROW} 21.[45]%", text)
    assert "centered\N{MINUS SIGN}11.01\N{MINUS SIGN}0.7370.621.19727" in text
    assert "unit relu1.20.195" in text


def test_failures_are_named_with_their_seeds_and_the_pairs_they_cost() -> None:
    text = read().text
    assert re.search(r"raw tanh\s*diverged\s*6, 8\s*loss not finite in epoch 2", text)
    assert re.search(r"unit tanh\s*lost\s*7", text)
    assert "printed-code-hurts-tanh: Left out: seed 7 (normalizer=unit, activation=tanh lost)." in text
    assert "2 failed and 1 lost: their pairs are left out" in text


def test_a_sweep_without_trouble_says_so() -> None:
    text = read(trouble=False).text
    assert "Nothing: every recorded trial completed." in text
    assert "left out" not in text.lower()


def test_trials_that_have_not_run_make_it_preliminary() -> None:
    report, record = judged()
    report = with_trials(report, planned=report.trials.planned + 40)
    assert "Preliminary: 40 of 160 planned trials have not run yet." in html.html(report, record)


def test_what_ten_seeds_can_miss_is_said_in_numbers() -> None:
    text = read().text
    assert "an arm none of whose 10 seeds collapsed may still collapse in up to 26% of trainings" in text
    assert "batch_size128" in text
    assert "10 seeds each." in text


def test_one_of_anything_is_told_in_the_singular() -> None:
    text = read(sweep(seeds=1), trouble=False).text
    assert "12 arms, 1 seed each." in text
    assert "an arm whose one seed did not collapse may still collapse in up to" in text
    arms = {"only": {"model": "mlp"}}
    one = Sweep(name="s", question="q", design="configurations", configurations=arms, seeds=1)
    assert "1 arm, 1 seed each. 1 trial planned: 1 complete." in read(one, trouble=False).text


def test_a_sweep_of_one_seed_and_one_epoch_is_shown_without_curves_or_intervals() -> None:
    quick = sweep(seeds=1, fixed={**sweep().fixed, "epochs": 1})
    reader = read(quick, trouble=False)
    assert "curves" not in reader.values("id")
    assert "one pair has no spread; at least 9 seeds are needed" in reader.text


def test_nothing_recorded_yet_is_a_page_too() -> None:
    _, record = judged()
    empty = replace(record, entries=(), provenance={})
    text = Reader(html.html(judging.of_rows(record.sweep, [], progress.count([])), empty)).text
    assert "There is nothing to compare yet." in text
    assert "No trial has been recorded yet." in text


def test_claims_about_two_metrics_get_a_picture_each() -> None:
    loss = claim(name="loss-rises", metric="test_loss", direction="higher", margin=0.01)
    reader = read(sweep(claims=[claim(), loss]))
    assert reader.text.count("Forest plot: difference in") == 2
    assert "difference in test loss" in reader.text


def test_without_claims_no_verdict_is_pretended() -> None:
    reader = read(sweep(claims=[]))
    assert "This sweep claims nothing" in reader.text
    assert "differences" not in reader.values("id")
    assert "Each claim is judged" not in reader.text


def test_an_interaction_and_a_reference_are_said_as_such() -> None:
    named = claim(name="about-97", treatment={"normalizer": "raw"}, control=None, reference=0.97, direction="same")
    text = read(sweep(claims=[sweep().claims[3], named]), trouble=False).text
    assert re.search(
        r"The effect of centered in place of unit on test accuracy was .* higher with relu than with tanh", text
    )
    assert re.search(r"With raw, for relu, test accuracy was 0\.\d\d percentage points below 97\.00%", text)


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


def test_writing_makes_the_folders(tmp_path: Path) -> None:
    path = html.write(*judged(), tmp_path / "a" / "b" / "report.html")
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>\n<html")


def test_a_changed_sweep_is_on_the_page_as_a_file() -> None:
    text = read(sweep_file.load("normalization", overrides=["fixed.epochs=2"])).text
    assert "saved as normalization.yaml" in text
    assert "epochs: 2" in text


HOSTILE = "</script></title><script>alert(1)</script><img src=x onerror=alert(2)> & \"quoted\" 'too'"


def test_nothing_in_the_file_points_elsewhere_or_runs() -> None:
    reader = read()
    assert not {"script", "iframe", "object", "embed", "img", "base", "form"} & set(reader.tags)
    assert all(value and value.startswith(("#", "data:")) for value in reader.values("href") + reader.values("src"))
    assert any(value and "default-src 'none'" in value for value in reader.values("content"))


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


def test_a_password_in_a_reason_does_not_reach_the_page() -> None:
    text = read(reason="OperationalError: postgresql://me:hunter2@db/optuna refused").text
    assert "hunter2" not in text
    assert "me:***@db/optuna" in text


STYLE = chart_files.STYLE + Path(html.__file__).with_name("templates").joinpath("report.css").read_text(
    encoding="utf-8"
)


def _luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("media", ["light", "dark", "print"])
def test_every_text_color_has_enough_contrast(media: str) -> None:
    blocks = re.findall(r":root ?\{(.*?)\}", STYLE, re.DOTALL)
    own = [dict(re.findall(r"--(\w+): ?(#[0-9a-f]{6})", block)) for block in blocks]
    charts_light, charts_dark, light, dark, paper = (each for each in own if each)
    palette = {
        "light": {**charts_light, **light}, "dark": {**charts_dark, **dark}, "print": {**charts_light, **paper}
    }[media]  # fmt: skip
    for name in ("ink", "muted", "accent", "supported", "refuted", "equivalent", "inconclusive"):
        for ground in ("paper", "panel"):
            light, dark = sorted((_luminance(palette[name]), _luminance(palette[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, ground, palette)


def test_the_style_sheet_loads_nothing() -> None:
    assert "@import" not in STYLE
    assert "url(" not in STYLE
