"""The baseline against itself, and claims known to hold: quiet when nothing is wrong, loud when something is."""

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from judged_sweep import judged
from ledger_records import outcome, plan
from pages import Reader
from rich.console import Console
from sweep_runs import SWEEP, small

from mnist_ablate.ledger import progress
from mnist_ablate.reports import judging, wording
from mnist_ablate.reports.html import html
from mnist_ablate.reports.markdown import markdown
from mnist_ablate.reports.report import RecordedSweep, Report
from mnist_ablate.reports.terminal import tables
from mnist_ablate.statistics import controls
from mnist_ablate.statistics.claims.sensitivity import SensitivityClaim
from mnist_ablate.statistics.controls import ControlRuns, NegativeControl, PositiveControl
from mnist_ablate.statistics.verdict import judge
from mnist_ablate.sweep import sweep_file as sweep_files
from mnist_ablate.sweep.claim import Claim
from mnist_ablate.sweep.plan import Plan, PlannedTrial, count, label
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.tracking.run_format import run_name
from mnist_ablate.trial import CONTROL_SEED, TUNING_SEED, RecordedTrial, Row

CLAIM = Claim.model_validate(SWEEP["claims"][0])
CONVERGED = CLAIM.model_copy(update={"metric": "converged", "margin": 0.5})


def controlled(**changes: Any) -> Plan:
    return plan(negative_control="baseline", **changes)


def rows(values: Any, **params: Any) -> tuple[Row, ...]:
    arm = params or {"activation": "relu"}
    metrics = [dict.fromkeys(("test_accuracy", "converged"), float(value)) for value in values]
    return tuple(Row(arm, seed, each) for seed, each in enumerate(metrics))


def judged_control(again: Any, baseline: Any, *claims: Claim) -> NegativeControl:
    found = ControlRuns({"activation": "relu"}, len(again), rows(again))
    return controls.negative_control(found, rows(baseline), claims or [CLAIM], 0.05)


def noise(spread: float, seeds: int = 10) -> Any:
    return np.random.default_rng(0).normal(0.97, spread, (2, seeds))


def test_a_sweep_with_claims_has_as_many_more_trials_as_seeds_at_seeds_of_their_own() -> None:
    found, without = controlled(seeds=4), plan(seeds=4)
    control = found.control_trials()
    assert [each.trial.seed for each in control] == [CONTROL_SEED + seed for seed in range(4)]
    assert {(each.stage, label(each.arm.params)) for each in control} == {("control", "relu")}
    assert count(found.sweep) == found.size == without.size + 4
    ids = [each.trial.id for each in found.verdict_trials()]
    assert ids == [each.trial.id for each in without.verdict_trials()]
    assert set(ids).isdisjoint(each.trial.id for each in control)
    assert not {TUNING_SEED, *range(1000)} & {each.trial.seed for each in control}


def test_only_sweeps_with_claims_have_one_and_a_file_can_do_without() -> None:
    assert not controlled(claims=[]).control_trials()
    assert not plan().control_trials()
    by_default = Sweep.model_validate({key: value for key, value in SWEEP.items() if key != "negative_control"})
    assert by_default.control_seeds
    assert by_default.digest == controlled().sweep.digest != small().digest


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"baseline": {"activation": "tanh"}}, "tanh"),
        ({"design": "one_factor", "baseline": {"activation": "tanh"}}, "tanh"),
        ({"design": "configurations", "scientific": {}, "configurations": {"a": {"width": 8}, "b": {}}}, "a"),
        ({"design": "search", "baseline": {"activation": "tanh"}, "tuning_trials": 2}, "baseline"),
    ],
)
def test_it_repeats_the_baseline_of_every_design(content: dict[str, Any], expected: str) -> None:
    found = controlled(**content)
    assert label(found.control_arm.params) == expected
    assert found.control_trials()[0].trial.settings == found.control_arm.settings
    tuned = found.control_trials({expected: {"learning_rate": 0.05}})
    assert {each.trial.settings["learning_rate"] for each in tuned} == {0.05}


@pytest.mark.parametrize(
    ("spread", "shift", "alarm"),
    [(0.001, 0.0, False), (0.001, 0.006, True), (0.001, -0.006, True), (0.0001, 0.001, False)],
)
def test_a_shift_beyond_the_margin_alone_raises_the_alarm(spread: float, shift: float, alarm: bool) -> None:
    again, baseline = noise(spread)
    found = judged_control(again + shift, baseline)
    assert found.alarm == alarm
    assert found.checks[0].effect == pytest.approx(shift, abs=0.002)


def test_every_metric_and_margin_that_is_claimed_is_checked_once() -> None:
    loss, strict = CLAIM.model_copy(update={"metric": "test_loss"}), CLAIM.model_copy(update={"margin": 0.0})
    found = judged_control([0.9, 0.91], [0.9, 0.92], CLAIM, CLAIM, loss, strict)
    checked = [(each.metric, each.margin) for each in found.checks]
    assert checked == [("test_accuracy", 0.002), ("test_loss", 0.002), ("test_accuracy", 0.0)]
    assert not found.alarm
    share_of_rates = SensitivityClaim(**{**CLAIM.model_dump(), "kind": "sensitivity", "grid": "width", "margin": 0.1})
    found = judged_control([0.9, 0.91], [0.9, 0.92], share_of_rates, CLAIM)
    assert [each.margin for each in found.checks] == [0.002], "a margin of something else is none of an accuracy"


@pytest.mark.slow
@pytest.mark.parametrize(("claims", "margin", "most"), [(1, 0.0, 0.06), (5, 0.0, 0.06), (1, 0.001, 0.01)])
def test_false_alarms_are_as_rare_as_is_said(claims: int, margin: float, most: float) -> None:
    rng, metrics = np.random.default_rng(1), [f"m{i}" for i in range(claims)]
    asked = [CLAIM.model_copy(update={"metric": metric, "margin": margin}) for metric in metrics]
    alarms = 0
    for _ in range(2000 // claims):
        again, baseline = (
            tuple(Row({"a": 1}, seed, dict(zip(metrics, values, strict=True))) for seed, values in enumerate(side))
            for side in rng.normal(0.97, 0.001, (2, 8, claims)).tolist()
        )
        alarms += controls.negative_control(ControlRuns({"a": 1}, 8, again), baseline, asked, 0.05).alarm
    assert alarms / (2000 // claims) <= most
    assert alarms > 0 or margin > 0


def test_a_failed_repetition_leaves_its_pair_out_and_too_few_raise_no_alarm() -> None:
    again = ControlRuns({"activation": "relu"}, 2, (*rows([0.5]), Row({"activation": "relu"}, 1, {}, "lost")))
    found = controls.negative_control(again, rows([0.97, 0.97]), [CLAIM], 0.05)
    assert (found.outcomes, found.checks[0].n_pairs, found.alarm) == ({"complete": 1, "lost": 1}, 1, False)
    assert again.broken == 1


def formats(report: Report, record: RecordedSweep) -> tuple[str, str, str]:
    """The three formats that people read."""
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(tables(report))
    assert isinstance(console.file, io.StringIO)
    table = " ".join(console.file.getvalue().split())
    return table, markdown(report, "q"), Reader(html(report, record)).text


def reports(shift: float | None) -> tuple[Report, str, str, str]:
    """The report on a whole made-up sweep with its control, and the three formats."""
    _, record = judged(trouble=False)
    baseline = [entry for entry in record.entries if entry.params == {"normalizer": "unit", "activation": "relu"}]
    values = [] if shift is None else [entry.outcome.metrics["test_accuracy"] + shift for entry in baseline]
    again = ControlRuns(baseline[0].params, 10, rows(np.roll(values, 1), **baseline[0].params))
    judged_rows = [Row(e.params, e.trial.seed, e.outcome.metrics, e.outcome.status) for e in record.entries]
    counts = progress.count(judged_rows)
    report = judging.of_rows(record.sweep, judged_rows, counts, judging.About(control=again))
    return report, *formats(report, record)


FOUND, MISSED = "raw-worse-than-unit", "true-centering-hurts-relu"


def known_to_hold(name: str) -> Sweep:
    sweep = sweep_files.load("normalization", seeds=10)
    claims = [claim.model_copy(update={"positive_control": claim.name == name}) for claim in sweep.claims]
    return sweep.model_copy(update={"claims": claims})


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_an_alarm_comes_first_in_every_format() -> None:
    negative, *texts = reports(0.05)
    positive, record = judged(known_to_hold(MISSED), trouble=False)
    assert negative.negative_control is not None
    assert positive.positive_control is not None
    assert negative.negative_control.alarm
    assert positive.positive_control.alarm
    missed = f"Positive control failed: what is known to hold was not found: {MISSED} came out "
    differs = "Negative control failed: the baseline differs from itself"
    for said, (table, note, text) in ((differs, texts), (missed, formats(positive, record))):
        assert table.startswith(said)
        assert note.splitlines()[2].startswith(f"**{said}")
        assert text.index(said) < text.index("Verdicts")


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_quiet_control_is_told_after_the_verdicts_and_changes_no_number() -> None:
    plain, _ = judged(trouble=False)
    assert plain.negative_control is plain.positive_control is None
    negative, *texts = reports(0.0)
    positive, record = judged(known_to_hold(FOUND), trouble=False)
    assert positive.positive_control == PositiveControl((FOUND,), {}, alarm=False)
    found = f"Positive control: what is known to hold was found: {FOUND}."
    none = "Negative control: no effect beyond the margin"
    for report, said, shown in ((negative, none, texts), (positive, found, formats(positive, record))):
        assert all(said in text and "control failed" not in text for text in shown)
        assert (report.arms, report.claims, report.trials) == (plain.arms, plain.claims, plain.trials)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (judged_control(*noise(1e-4)), "no effect beyond the margin"),
        (judged_control(*noise(0.01)), "no effect was shown, but one beyond the margin"),
        (judged_control([0.9] * 8, [0.9] * 8), "no effect was shown, but one beyond the margin"),
        (judged_control([1.0] * 8, [1.0] * 8, CONVERGED), "no effect beyond the margin"),
    ],
    ids=["narrow", "wide", "equal", "equal and bounded"],
)
def test_a_control_that_could_hide_an_effect_does_not_say_that_there_is_none(found: NegativeControl, said: str) -> None:
    assert not found.alarm
    report = judged()[0].model_copy(update={"negative_control": found})
    assert f"Negative control: {said}" in wording.control(report)


@pytest.mark.usefixtures("no_pictures")
def test_a_control_that_has_not_run_is_named() -> None:
    for text in reports(None)[1:]:
        assert "Negative control: not run yet (10 trials" in text


def test_mlflow_does_not_put_it_into_the_arm_it_repeats() -> None:
    assert run_name({"activation": "relu"}, 3) == "relu seed 3"
    assert run_name({"activation": "relu"}, CONTROL_SEED + 3) == "relu control 3"


def recorded(trials: Iterable[PlannedTrial], status: str = "complete") -> dict[str, RecordedTrial]:
    return {each.id: RecordedTrial(each.trial, each.arm.params, each.stage, outcome(each, status)) for each in trials}


def test_a_record_from_before_it_was_asked_for_goes_on_with_only_the_control() -> None:
    found = controlled()
    entries = recorded(found.verdict_trials())
    again = progress.again(found, entries)
    assert again is not None
    assert (again.rows, again.planned) == ((), 3)
    assert progress.due(found, entries) == found.control_trials()
    whole = entries | recorded(found.control_trials())
    assert progress.due(found, whole) == ()
    assert progress.rows(found, whole) == progress.rows(found, entries)
    assert progress.counts(found, whole) == progress.counts(found, entries)


def test_a_failed_control_is_an_unfinished_sweep() -> None:
    found = controlled()
    entries = recorded(found.control_trials()[:1], "failed")
    again = progress.again(found, entries)
    assert again is not None
    assert (again.broken, progress.done(found, entries), progress.rows(found, entries)) == (1, 1, ())


@pytest.mark.parametrize("finished", [True, False])
def test_it_raises_no_alarm_before_every_trial_has_run(finished: bool) -> None:
    claims = known_to_hold(MISSED).claims
    found = controls.positive_control(claims, judge([], claims), finished=finished)
    assert found == PositiveControl((MISSED,), {MISSED: "inconclusive"}, alarm=finished)


def test_a_sweep_without_a_positive_control_keeps_its_digest() -> None:
    sweep = sweep_files.load("normalization", seeds=10)
    assert known_to_hold("none of them").digest == sweep.digest != known_to_hold(FOUND).digest


def test_the_control_of_an_adaptive_sweep_has_the_level_of_the_look_whose_seeds_it_has() -> None:
    report, record = judged(trouble=False)
    sweep = Sweep.model_validate({**record.sweep.model_dump(), "seeds": {"min": 6, "max": 14}})
    arm = dict(report.arms[0].params)
    baseline, again = (rows(side, **arm) for side in noise(0.001, 6))
    control = ControlRuns(arm, 6, again)
    found = judging.of_rows(sweep, baseline, {}, judging.About(control=control)).negative_control
    assert found == controls.negative_control(control, baseline, sweep.claims, 0.05 * sweep.looks[0].share)
