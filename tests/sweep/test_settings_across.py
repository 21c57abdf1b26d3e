"""Claims are asked again in other settings: which they are, what they are trained on, and how far a verdict reaches."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from judged_sweep import as_json
from ledger_records import plan
from pages import Reader
from rich.console import Console
from sweep_runs import SWEEP, Watcher, small, starts
from sweep_texts import SMALL, problems

from mnist_ablate.errors import SweepError
from mnist_ablate.execution.driver import drive
from mnist_ablate.execution.preview import preview
from mnist_ablate.ledger import progress
from mnist_ablate.reports import charts, judging, sections, wording
from mnist_ablate.reports.html import html
from mnist_ablate.reports.markdown import markdown
from mnist_ablate.reports.report import RecordedSweep, Report
from mnist_ablate.reports.terminal import tables
from mnist_ablate.settings import Settings
from mnist_ablate.statistics.paired_tests import t_interval
from mnist_ablate.sweep.plan import count, make_plan, trainings
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import Row
from mnist_ablate.verification import raw_stores
from mnist_ablate.verification.ledger_check import CheckedLedger
from mnist_ablate.workloads.keras_mnist.recipe import recipe_of
from mnist_ablate.workloads.keras_mnist.workload import KerasMnist
from mnist_ablate.workloads.workload import Cost

ACROSS: dict[str, Any] = {"across": {"epochs": [1, 2, 5], "optimizer": ["adam", "sgd"]}}
USUAL = {"epochs": 2, "optimizer": "adam"}


def judged(**changes: Any) -> Report:
    """Tanh is 2 points worse but for one epoch, where it is 2 points better; with SGD nobody knows."""
    sweep = small(seeds=6, **{**ACROSS, **changes})
    rng = np.random.default_rng(0)
    rows = []
    for planned in plan(seeds=6, **{**ACROSS, **changes}).verdict_trials():
        params = planned.arm.params
        effect = 0.0 if params["activation"] == "relu" else 0.02 if params["epochs"] == 1 else -0.02
        spread = 0.0005 if params["optimizer"] == "adam" else 0.05
        accuracy = 0.9 + effect + spread * float(rng.standard_normal())
        rows.append(Row(params, planned.trial.seed, {"test_accuracy": accuracy}))
    return judging.of_rows(sweep, rows, progress.count(rows))


def test_one_thing_is_changed_at_a_time_and_crossed_all_are() -> None:
    changed = [{**USUAL, "epochs": 1}, {**USUAL, "epochs": 5}, {**USUAL, "optimizer": "sgd"}]
    assert small(**ACROSS).settings_across == (USUAL, *changed)
    crossed = small(**ACROSS, crossed=True).settings_across
    assert crossed[0] == USUAL
    assert len(crossed) == len({tuple(each.items()) for each in crossed}) == 6
    assert small(across={"width": [100, 500]}).settings_across[0] == {"width": 100}, "not fixed: the first is usual"
    assert small().settings_across == ({},)


def test_each_setting_has_arms_of_its_own_which_are_trained_so() -> None:
    found = plan(**ACROSS)
    assert count(found.sweep) == found.size == 4 * 2 * 3
    trained = {
        (arm["epochs"], arm["optimizer"], recipe.epochs, recipe.optimizer)
        for each in found.verdict_trials()
        for arm, recipe in [(each.arm.params, recipe_of(each.trial))]
    }
    assert trained == {(e, o, e, o) for e, o in [(2, "adam"), (1, "adam"), (5, "adam"), (2, "sgd")]}
    without = {each.id for each in plan().verdict_trials()}
    assert without < {each.id for each in found.verdict_trials()}, "the usual setting's trials are those without across"
    control = plan(**ACROSS, negative_control="baseline").control_trials()
    assert {(recipe_of(each.trial).epochs, len(control)) for each in control} == {(2, 3)}


def test_a_sweep_without_it_keeps_its_digest_and_one_with_it_has_another() -> None:
    assert small(across={}, crossed=False).digest == small().digest != small(**ACROSS).digest


def test_all_claims_in_all_settings_share_the_error_rate() -> None:
    report = judged()
    names = ["tanh-hurts", "tanh-hurts.epochs-1", "tanh-hurts.epochs-5", "tanh-hurts.optimizer-sgd"]
    assert [claim.name for claim in report.claims] == names
    for claim in report.claims:
        expected = t_interval([*claim.differences.values()], 0.05 / 4)
        assert (claim.ci_low, claim.ci_high) == pytest.approx((expected.low, expected.high))
        assert claim.n_pairs == 6


def test_an_interaction_is_asked_in_the_setting_on_both_sides() -> None:
    claim = {**SWEEP["claims"][0], "where": {"width": 100}, "versus": {"width": 500}}
    factors = {"activation": ["relu", "tanh"], "width": [100, 500]}
    asked = small(**ACROSS, scientific=factors, claims=[claim]).every_claim
    assert asked[1].where == {"width": 100, "epochs": 1, "optimizer": "adam"}
    assert asked[1].versus == {"width": 500, "epochs": 1, "optimizer": "adam"}


SAID = "supported in 2 of 4 settings, refuted in 1 (epochs 1), inconclusive in 1 (optimizer sgd)."


def test_the_report_says_in_which_settings_a_claim_holds() -> None:
    report = judged()
    assert wording.say("reach", report.reach[0]) == SAID
    content = as_json(report)
    assert [each["verdict"] for each in content["reach"][0]["settings"]] == [
        "supported",
        "refuted",
        "supported",
        "inconclusive",
    ]
    assert content["reach"][0]["settings"][3]["changes"] == {"optimizer": "sgd"}
    assert "reach" not in as_json(judging.of_rows(small(), [], progress.count([])))
    assert [*sections.reach(judging.of_rows(small(), [], progress.count([])))] == []


def test_every_format_says_it_and_lists_only_the_claims_of_the_usual_setting() -> None:
    report = judged()
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(tables(report))
    assert isinstance(console.file, io.StringIO)
    record = RecordedSweep(report.asked, (), (), "2026-11-24T06:32:50+00:00", "d1" * 32, {})
    page = Reader(html(report, record)).text
    for text in (console.file.getvalue(), markdown(report, "q"), page):
        plain = " ".join(text.split())
        assert "How far the verdicts reach" in plain
        assert "in 2 of 4 settings" in plain
        assert "1 claim: 1 supported" in plain or "1 ✓ supported" in plain
    assert page.count("Forest plot") == 2


def test_the_specification_curve_is_sorted_and_names_the_settings() -> None:
    report = judged()
    drawn = charts.specification(report, report.reach[0], report.asked.metric("test_accuracy"))
    places = [drawn.description.index(name) for name in ("as usual", "epochs 1")]
    assert places == sorted(places), "minus two points stands before plus two"
    assert "optimizer sgd, inconclusive" in drawn.description


def test_the_chart_of_a_file_has_a_panel_for_each_claim_with_every_setting_in_it() -> None:
    report = judged(claims=[*SWEEP["claims"], {**SWEEP["claims"][0], "name": "again"}])
    record = RecordedSweep(report.asked, (), (), "2026-11-24T06:32:50+00:00", "d1" * 32, {})
    drawn = charts.main_chart(report, record)
    panels = {axes.get_title(loc="left"): axes for axes in drawn.figure.axes}
    assert [*panels] == ["tanh-hurts", "again"]
    labels = [[label.get_text() for label in axes.get_yticklabels()] for axes in panels.values()]
    assert labels[0] == labels[1]
    assert (len(labels[0]), labels[0][-1]) == (4, "✗ epochs 1"), "the one with plus two points is the last"
    assert f"again: {SAID}" in drawn.description
    assert "tanh-hurts, epochs 1, refuted: +2.0" in "".join(text for texts in drawn.hovers.values() for text in texts)


def test_adaptive_seeds_stop_each_setting_by_itself() -> None:
    found = plan(**ACROSS, seeds={"min": 4, "max": 9})
    arms = [arm.params for arm in found.arms]
    rng = np.random.default_rng(0)
    rows = [
        Row(arm, seed, {"test_accuracy": 0.9 - 0.02 * (arm["activation"] == "tanh") + spread * rng.standard_normal()})
        for arm in arms
        for spread in [0.05 if arm["optimizer"] == "sgd" else 0.0005]
        for seed in range(4)
    ]
    seeds = progress.seeds_wanted(arms, rows, found.sweep.every_claim, found.sweep.looks)
    assert {(arm["optimizer"], n) for arm, n in zip(arms, seeds, strict=True)} == {("adam", 4), ("sgd", 6)}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("across: {activation: [relu, elu]}", "is in scientific too; remove it from one of them"),
        ("across: {epoch: [1, 5]}", "unknown key; did you mean 'epochs'?"),
        ("across: {epochs: [1, 0]}", "must be at least 1, not 0"),
        (
            "fixed: {epochs: 5}\nacross: {epochs: [1, 3]}",
            "lacks the value under fixed, 5; add it: the claims are asked there first",
        ),
        ("across: {epochs: []}", "an empty list; give at least one value, or remove the line"),
        ("across: {epochs: [1, 5]}", "asks claims again, and there is no claim; add one or remove it"),
        (
            "across: {epochs: [1, 5]}\nnuisance: {learning_rate: [0.1, 0.01]}\ntuning_trials: 2",
            "nuisance tunes settings for each arm, which across cannot repeat; remove one of them",
        ),
        ("crossed: true", "is about the settings under across, and there are none; add across"),
    ],
)
def test_what_cannot_be_asked_across_is_one_line(tmp_path: Path, line: str, told: str) -> None:
    found = problems(tmp_path, f"{SMALL}\n{line}\n")
    assert any(told in each for each in found), found


def test_a_training_to_the_longest_budget_serves_the_others() -> None:
    found = plan(**ACROSS)
    made = trainings(found.sweep.workload, found.verdict_trials())
    assert len(made) == found.training_count(found.size, 3) == 3 * 2 * 2
    assert [[arm.settings["epochs"] for arm in arms] for arms in found.arms_together] == [[1, 2, 5]] * 2 + [[2]] * 2
    for training in made:
        assert len({(each.trial.seed, each.trial.settings["activation"]) for each in training}) == 1
    without = [each for each in found.verdict_trials() if each.arm.params["epochs"] != 5]
    assert {len(each) for each in trainings(found.sweep.workload, without)} == {1, 2}, (
        "what is decided is not waited for"
    )
    own = SimpleNamespace(budget="epochs", shares_trainings=lambda _settings: False)
    assert [len(each) for each in trainings(own, found.verdict_trials())] == [1] * 24  # type: ignore[arg-type]


def test_a_plan_tells_trainings_and_counts_the_time_of_each_once(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KerasMnist, "cost", lambda _self, _inputs, arms: Cost([1.0] * len(arms), 0.0))
    across = small(across={"epochs": [2, 1, 5]})
    found, longest = (preview(sweep, str(images), 100) for sweep in (across, small(fixed={"epochs": 5})))
    assert (found.trials, found.trainings, longest.trainings) == (18, 6, 6)
    assert found.estimated_s == longest.estimated_s
    assert found.text(across).startswith("small: 6 arms x 3 seeds, 18 trials, 6 trainings for them\n")
    assert longest.text(small()).startswith("small: 2 arms x 3 seeds, 6 trials\n")


@pytest.mark.slow
@pytest.mark.usefixtures("tracker")
def test_a_sweep_with_settings_is_driven_verified_and_recorded_once(settings: Settings, fake: Path) -> None:
    result = drive(small(**ACROSS), settings, Watcher())
    assert result.report.trials.complete == result.plan.size == 24
    assert len(starts(fake)) == 12, "three epochs, one training"
    assert len(result.report.reach[0].settings) == 4
    assert CheckedLedger(raw_stores.read_ledger(settings.ledger_url, "small")).problems == []
    assert drive(small(**ACROSS), settings, Watcher()).report == result.report


def test_too_many_settings_are_refused_before_anything_runs() -> None:
    sweep = small(across={"width": [*range(1, 1001)], "epochs": [*range(1, 11)]}, fixed={}, crossed=True)
    with pytest.raises(SweepError, match=r"^small: 60,000 trials; limit 10,000 \(--max-trials\)$"):
        make_plan(sweep, "d1" * 32)


def test_a_quick_run_asks_in_one_setting() -> None:
    assert (small(**ACROSS).quick().across, Sweep.model_fields["across"].default) == ({}, {})
