"""The baseline against itself, and claims known to hold: quiet when nothing is wrong, loud when something is."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Command
from judged_sweep import as_json, judged
from pages import Reader
from rich.console import Console
from sweep_runs import SWEEP, Watcher, small, starts, sweep_file

from mnist_ablate.execution import recorded_report
from mnist_ablate.execution.driver import drive
from mnist_ablate.ledger import progress
from mnist_ablate.ledger.ledger import Ledger
from mnist_ablate.reports import judging, wording
from mnist_ablate.reports.html import html
from mnist_ablate.reports.markdown import markdown
from mnist_ablate.reports.report import RecordedSweep, Report
from mnist_ablate.reports.terminal import tables
from mnist_ablate.settings import Settings
from mnist_ablate.statistics import controls
from mnist_ablate.statistics.controls import ControlRuns, NegativeControl, PositiveControl
from mnist_ablate.statistics.verdict import judge
from mnist_ablate.sweep import sweep_file as sweep_files
from mnist_ablate.sweep.plan import count, label, make_plan
from mnist_ablate.sweep.sweep import Claim, Sweep
from mnist_ablate.tracking.run_format import run_name
from mnist_ablate.trial import CONTROL_SEED, TUNING_SEED, Outcome, RecordedTrial, Row, Trial
from mnist_ablate.verification.ledger_check import CheckedLedger

DATA = "d1" * 32
CLAIM = Claim.model_validate(SWEEP["claims"][0])


def controlled(**changes: Any) -> Sweep:
    return small(negative_control="baseline", **changes)


def rows(values: Any, metric: str = "test_accuracy", **params: Any) -> tuple[Row, ...]:
    arm = params or {"activation": "relu"}
    return tuple(Row(arm, seed, {metric: float(value)}) for seed, value in enumerate(values))


def judged_control(
    again: Any, baseline: Any, claims: list[Claim] | None = None, alpha: float = 0.05
) -> NegativeControl:
    found = ControlRuns({"activation": "relu"}, len(again), rows(again))
    return controls.negative_control(found, rows(baseline), claims or [CLAIM], alpha)


def test_a_sweep_with_claims_has_as_many_more_trials_as_seeds_at_seeds_of_their_own() -> None:
    sweep = controlled(seeds=4)
    plan, without = make_plan(sweep, DATA), make_plan(small(seeds=4), DATA)
    control = plan.control_trials()
    assert [each.trial.seed for each in control] == [CONTROL_SEED + seed for seed in range(4)]
    assert {each.stage for each in control} == {"control"}
    assert {label(each.arm.params) for each in control} == {"relu"}
    assert count(sweep) == plan.size == without.size + 4
    ids = [each.trial.id for each in plan.verdict_trials()]
    assert ids == [each.trial.id for each in without.verdict_trials()]
    assert set(ids).isdisjoint(each.trial.id for each in control)
    assert not {TUNING_SEED, *range(1000)} & {each.trial.seed for each in control}


def test_only_sweeps_with_claims_have_one_and_a_file_can_do_without() -> None:
    assert not make_plan(controlled(claims=[]), DATA).control_trials()
    assert not make_plan(small(), DATA).control_trials()
    content = {key: value for key, value in SWEEP.items() if key != "negative_control"}
    assert Sweep.model_validate(content).has_negative_control
    assert Sweep.model_validate(content).digest == controlled().digest != small().digest


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
    plan = make_plan(controlled(**content), DATA)
    assert label(plan.control_arm.params) == expected
    assert plan.control_trials()[0].trial.settings == plan.control_arm.settings


def test_it_repeats_the_tuned_baseline() -> None:
    nuisance = {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}
    plan = make_plan(controlled(nuisance=nuisance, tuning_trials=2), DATA)
    assert {
        each.trial.settings["learning_rate"] for each in plan.control_trials({"relu": {"learning_rate": 0.05}})
    } == {0.05}
    assert progress.control_trials(plan, {}) == ()


def test_equal_arms_are_quiet_and_a_shift_beyond_the_margin_is_not() -> None:
    noise = np.random.default_rng(0).normal(0.97, 0.001, (2, 10))
    assert not judged_control(*noise).alarm
    for sign in (1, -1):
        found = judged_control(noise[0] + sign * 0.006, noise[1])
        assert found.alarm
        assert found.checks[0].effect * sign > 0.004


def test_a_shift_within_the_margin_raises_no_alarm() -> None:
    noise = np.random.default_rng(0).normal(0.97, 0.0001, (2, 10))
    assert not judged_control(noise[0] + 0.001, noise[1]).alarm


def test_every_metric_and_margin_that_is_claimed_is_checked_once() -> None:
    loss = CLAIM.model_copy(update={"metric": "test_loss"})
    strict = CLAIM.model_copy(update={"margin": 0.0})
    found = judged_control([0.9, 0.91], [0.9, 0.92], [CLAIM, CLAIM, loss, strict])
    assert [(each.metric, each.margin) for each in found.checks] == [
        ("test_accuracy", 0.002),
        ("test_loss", 0.002),
        ("test_accuracy", 0.0),
    ]
    assert not found.alarm


@pytest.mark.parametrize(("claims", "margin", "most"), [(1, 0.0, 0.06), (5, 0.0, 0.06), (1, 0.001, 0.01)])
def test_false_alarms_are_as_rare_as_is_said(claims: int, margin: float, most: float) -> None:
    rng = np.random.default_rng(1)
    asked = [CLAIM.model_copy(update={"metric": f"m{i}", "margin": margin}) for i in range(claims)]
    alarms = 0
    for _ in range(2000 // claims):
        sides = [
            tuple(
                Row({"a": 1}, seed, dict(zip((c.metric for c in asked), v, strict=True)))
                for seed, v in enumerate(values)
            )
            for values in rng.normal(0.97, 0.001, (2, 8, claims)).tolist()
        ]
        alarms += controls.negative_control(ControlRuns({"a": 1}, 8, sides[0]), sides[1], asked, 0.05).alarm
    assert alarms / (2000 // claims) <= most
    assert alarms > 0 or margin > 0


def test_a_failed_repetition_leaves_its_pair_out_and_too_few_raise_no_alarm() -> None:
    lost = Row({"activation": "relu"}, 1, {}, "lost")
    again = ControlRuns({"activation": "relu"}, 2, (*rows([0.5]), lost))
    found = controls.negative_control(again, rows([0.97, 0.97]), [CLAIM], 0.05)
    assert (found.outcomes, found.checks[0].n_pairs, found.alarm) == ({"complete": 1, "lost": 1}, 1, False)
    assert again.broken == 1


def shown(report: Report) -> str:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(tables(report))
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().split())


def formats(report: Report, record: RecordedSweep) -> tuple[str, str, str]:
    """The three formats that people read."""
    return shown(report), markdown(report, "q"), Reader(html(report, record)).text


def reports(shift: float | None) -> tuple[Report, str, str, str]:
    """The report on a whole made-up sweep with its control, and the three formats."""
    report, record = judged(trouble=False)
    baseline = [entry for entry in record.entries if entry.params == {"normalizer": "unit", "activation": "relu"}]
    values = [] if shift is None else [entry.outcome.metrics["test_accuracy"] + shift for entry in baseline]
    again = ControlRuns(baseline[0].params, 10, rows(np.roll(values, 1), **baseline[0].params))
    judged_rows = [Row(e.params, e.trial.seed, e.outcome.metrics, e.outcome.status) for e in record.entries]
    counts = progress.count(judged_rows)
    report = judging.of_rows(record.sweep, judged_rows, counts, judging.About(control=again))
    return report, *formats(report, record)


def test_an_alarm_comes_first_in_every_format() -> None:
    report, table, note, text = reports(0.05)
    assert report.negative_control is not None
    assert report.negative_control.alarm
    assert table.startswith("Negative control failed: the baseline differs from itself")
    assert note.splitlines()[2].startswith("**Negative control failed: the baseline differs from itself")
    assert text.index("Negative control failed") < text.index("Verdicts")


def test_a_quiet_control_is_told_after_the_verdicts_and_changes_no_number() -> None:
    report, *texts = reports(0.0)
    assert report.negative_control is not None
    assert not report.negative_control.alarm
    for text in texts:
        assert "Negative control: no effect beyond the margin" in text
        assert "failed: the baseline" not in text
    plain, _ = judged(trouble=False)
    assert plain.negative_control is None
    assert (report.arms, report.claims, report.trials) == (plain.arms, plain.claims, plain.trials)


def with_control(found: NegativeControl) -> Report:
    return judged()[0].model_copy(update={"negative_control": found})


@pytest.mark.parametrize(
    ("spread", "said"),
    [(1e-4, "no effect beyond the margin"), (0.01, "no effect was shown, but one beyond the margin")],
)
def test_a_control_that_could_hide_an_effect_does_not_say_that_there_is_none(spread: float, said: str) -> None:
    noise = np.random.default_rng(0).normal(0.97, spread, (2, 10))
    assert f"Negative control: {said}" in wording.control(with_control(judged_control(*noise)))


def test_a_control_of_equal_results_does_not_say_that_there_is_no_effect() -> None:
    equal = judged_control([0.9] * 8, [0.9] * 8)
    assert not equal.alarm
    assert "Negative control: no effect was shown, but one beyond" in wording.control(with_control(equal))
    half = CLAIM.model_copy(update={"metric": "converged", "margin": 0.5})
    sides = rows([1.0] * 8, "converged"), rows([1.0] * 8, "converged")
    found = controls.negative_control(ControlRuns({"activation": "relu"}, 8, sides[0]), sides[1], [half], 0.05)
    assert "Negative control: no effect beyond the margin" in wording.control(with_control(found))


def test_a_control_that_has_not_run_is_named() -> None:
    for text in reports(None)[1:]:
        assert "Negative control: not run yet (10 trials" in text


def test_mlflow_does_not_put_it_into_the_arm_it_repeats() -> None:
    assert run_name({"activation": "relu"}, 3) == "relu seed 3"
    assert run_name({"activation": "relu"}, CONTROL_SEED + 3) == f"relu control seed {CONTROL_SEED + 3}"


@pytest.mark.usefixtures("tracker")
@pytest.mark.slow
def test_an_older_record_goes_on_and_trains_only_the_control(settings: Settings, fake: Path) -> None:
    before = drive(small(), settings, Watcher())
    record, plan = before.record, make_plan(controlled(name="older"), before.record.data_digest)
    older = Ledger(settings.ledger_url).begin(plan, fresh=False)
    for each in plan.verdict_trials():
        older.add(each, record.entries()[each.trial.id].outcome)
    control = recorded_report.report("older", settings)[0].negative_control
    assert control is not None
    assert control.outcomes == {}
    (fake / "starts").unlink()
    watcher = Watcher()
    result = drive(controlled(name="older"), settings, watcher)
    assert sorted(starts(fake)) == [f"relu/{CONTROL_SEED + seed}" for seed in range(3)]
    assert (result.plan.size, result.recorded, result.broken) == (9, 9, False)
    assert progress.rows(result.plan, result.entries) == progress.rows(before.plan, before.entries)
    assert {entry.stage for entry in result.record.entries().values()} == {"verdict", "control"}
    document = as_json(recorded_report.report("older", settings)[0])
    assert document["trials"] == {"planned": 6, "complete": 6, "diverged": 0, "failed": 0, "lost": 0}
    assert [arm["n"] for arm in document["arms"]] == [3, 3]
    assert document["negative_control"]["outcomes"] == {"complete": 3}


def entry(trial: Trial, stage: str) -> RecordedTrial:
    return RecordedTrial(trial, {"activation": "relu"}, stage, Outcome(trial_id=trial.id, status="failed", reason="r"))


def test_a_failed_control_is_an_unfinished_sweep() -> None:
    plan = make_plan(controlled(), DATA)
    first = plan.control_trials()[0].trial
    again = progress.again(plan, {first.id: entry(first, "control")})
    assert again is not None
    assert again.broken == 1
    assert progress.done(plan, {first.id: entry(first, "control")}) == 1
    assert progress.rows(plan, {first.id: entry(first, "control")}) == ()


@pytest.mark.slow
def test_the_checker_wants_the_control_too(command: Command, images: Path) -> None:
    from mnist_ablate.verification import raw_ledger

    file = sweep_file(command.folder, negative_control="baseline")
    done = command("sweep", str(file), "--data", str(images), "--json")
    assert done.code == 7, done.err  # there is no MLflow
    url = f"sqlite:///{command.folder / '.mnist-ablate' / 'ledger.db'}"
    checked = CheckedLedger(raw_ledger.read(url, "small"))
    assert (checked.problems, checked.missing, len(checked.rows)) == ([], 0, 6)


FOUND, MISSED = "raw-worse-than-unit", "true-centering-hurts-relu"


def known_to_hold(name: str) -> Sweep:
    sweep = sweep_files.load("normalization")
    claims = [claim.model_copy(update={"positive_control": claim.name == name}) for claim in sweep.claims]
    return sweep.model_copy(update={"claims": claims})


def test_a_claim_known_to_hold_that_is_not_found_is_told_before_any_number() -> None:
    report, record = judged(known_to_hold(MISSED), trouble=False)
    table, note, text = formats(report, record)
    verdict = next(claim.verdict for claim in report.claims if claim.name == MISSED)
    assert report.positive_control == PositiveControl((MISSED,), {MISSED: verdict}, alarm=True)
    said = f"Positive control failed: what is known to hold was not found: {MISSED} came out {verdict}."
    assert table.startswith(said)
    assert note.splitlines()[2].startswith(f"**{said}")
    assert text.index(said) < text.index("Verdicts")


def test_one_that_is_found_is_told_after_the_verdicts_and_changes_no_number() -> None:
    report, record = judged(known_to_hold(FOUND), trouble=False)
    assert report.positive_control == PositiveControl((FOUND,), {}, alarm=False)
    for text in formats(report, record):
        assert f"Positive control: what is known to hold was found: {FOUND}." in text
        assert "Positive control failed" not in text
    plain, _ = judged(trouble=False)
    assert plain.positive_control is None
    assert plain.claims == report.claims


@pytest.mark.parametrize("missing", [0, 1])
def test_it_raises_no_alarm_before_every_trial_has_run(missing: int) -> None:
    claims = known_to_hold(MISSED).claims
    found = controls.positive_control(claims, judge([], claims), finished=not missing)
    assert found == PositiveControl((MISSED,), {MISSED: "inconclusive"}, alarm=not missing)


def test_a_sweep_without_a_positive_control_keeps_its_digest() -> None:
    sweep = sweep_files.load("normalization")
    assert known_to_hold("none of them").digest == sweep.digest != known_to_hold(FOUND).digest


def test_the_control_of_an_adaptive_sweep_has_the_level_of_the_look_whose_seeds_it_has() -> None:
    report, record = judged(trouble=False)
    sweep = Sweep.model_validate({**record.sweep.model_dump(), "seeds": {"min": 6, "max": 14}})
    noise = np.random.default_rng(3).normal(0.97, 0.001, (2, 6))
    arm = dict(report.arms[0].params)
    found = judging.of_rows(
        sweep, rows(noise[0], **arm), {}, judging.About(control=ControlRuns(arm, 6, rows(noise[1], **arm)))
    )
    level = 0.05 * sweep.looks[0].share
    assert found.negative_control == controls.negative_control(
        ControlRuns(arm, 6, rows(noise[1], **arm)), rows(noise[0], **arm), sweep.claims, level
    )
