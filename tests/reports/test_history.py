"""Commands over the record: the report on what is there, and sync, which says what it did."""

from collections.abc import Sequence
from pathlib import Path

import fake_trainer
import pytest
from sweep_runs import Tracker, small

from mnist_ablate.errors import SweepError, UnreachableError
from mnist_ablate.execution import recorded_report
from mnist_ablate.ledger.ledger import Ledger, Record
from mnist_ablate.ledger.progress import done, verdict_trials
from mnist_ablate.reports.report import TrialCounts
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.plan import Plan, PlannedTrial, make_plan
from mnist_ablate.tracking.mirror import FinishedTrial
from mnist_ablate.trial import Outcome
from mnist_ablate.workloads.keras_mnist import data

TUNED = {"nuisance": {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}, "tuning_trials": 2}


def outcome(planned: PlannedTrial, status: str = "complete") -> Outcome:
    metrics = fake_trainer.metrics(planned.trial) if status == "complete" else {}
    content = {"trial_id": planned.trial.id, "status": status, "metrics": metrics, "started_ms": 1}
    return Outcome.model_validate(content)


def begun(settings: Settings, plan: Plan) -> Record:
    return Ledger(settings.ledger_url).begin(plan, fresh=False)


def recorded(settings: Settings, plan: Plan, *parts: tuple[PlannedTrial, ...]) -> Record:
    record = begun(settings, plan)
    for planned in (each for part in parts for each in part):
        record.add(planned, outcome(planned))
    return record


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def plan() -> Plan:
    return make_plan(small(), "d1" * 32)


def test_a_part_of_a_sweep_is_reported_as_a_part(settings: Settings, plan: Plan) -> None:
    recorded(settings, plan, plan.verdict_trials()[:4])
    report, record = recorded_report.report("small", settings)
    assert report.trials == TrialCounts(planned=6, complete=4)
    assert [arm.n for arm in report.arms] == [2, 2]
    assert record.sweep.question == "Does tanh hurt?"


def test_a_repeated_trial_counts_once_with_its_last_outcome(settings: Settings, plan: Plan) -> None:
    record = begun(settings, plan)
    first = plan.verdict_trials()[0]
    record.add(first, outcome(first, "failed"))
    record.add(first, outcome(first))
    report, _ = recorded_report.report("small", settings)
    assert (report.trials.complete, report.trials.failed) == (1, 0)


def test_tuning_trials_are_in_no_arm(settings: Settings) -> None:
    plan = make_plan(small(**TUNED), "d1" * 32)
    record = recorded(settings, plan, plan.tuning)
    trials = verdict_trials(plan, record.entries())
    assert done(plan, record.entries()) == 4
    for each in trials:
        record.add(each, outcome(each))
    report, _ = recorded_report.report("small", settings)
    assert [arm.n for arm in report.arms] == [3, 3]
    assert report.trials.planned == 6


def test_results_at_values_that_a_repeated_tuning_gave_up_do_not_count(settings: Settings) -> None:
    plan = make_plan(small(**TUNED), "d1" * 32)
    record = begun(settings, plan)
    tried = [[each for each in plan.tuning if each.arm == arm] for arm in plan.arms]
    # the best fail at first
    best = [max(each, key=lambda one: fake_trainer.metrics(one.trial)["val_accuracy"]) for each in tried]
    for each in plan.tuning:
        record.add(each, outcome(each, "failed" if each in best else "complete"))
    early = verdict_trials(plan, record.entries())
    for each in early:
        record.add(each, outcome(each))
    for each in best:
        record.add(each, outcome(each))
    late = verdict_trials(plan, record.entries())
    assert {each.trial.id for each in early}.isdisjoint(each.trial.id for each in late)
    report, _ = recorded_report.report("small", settings)
    assert report.arms == ()
    for each in late:
        record.add(each, outcome(each))
    report, _ = recorded_report.report("small", settings)
    assert [arm.n for arm in report.arms] == [3, 3]


def test_sync_sends_what_is_missing_then_the_verdicts_and_remembers(
    settings: Settings, plan: Plan, tracker: Tracker
) -> None:
    record = recorded(settings, plan, plan.verdict_trials())
    assert recorded_report.sync("small", settings) == (6, 6)
    assert "Tanh hurts." in tracker.notes[0]
    assert (record.mirrored.records, record.mirrored.link) == (6, tracker.link)
    assert recorded_report.sync("small", settings) == (0, 6)


def test_sync_beside_a_running_sweep_remembers_only_what_it_sent(
    settings: Settings, plan: Plan, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    *first, last = plan.verdict_trials()
    record = recorded(settings, plan, tuple(first))
    send = tracker.outcomes_together

    def sent_while_another_ends(ended: Sequence[FinishedTrial]) -> dict[str, bool]:
        record.add(last, outcome(last))
        return send(ended)

    monkeypatch.setattr(tracker, "outcomes_together", sent_while_another_ends)
    assert recorded_report.sync("small", settings) == (5, 5)
    assert (record.mirrored.records, len(record.records())) == (5, 6)


def test_sync_of_a_tracker_that_is_down_remembers_nothing(settings: Settings, plan: Plan, tracker: Tracker) -> None:
    record = recorded(settings, plan, plan.verdict_trials())
    tracker.down = True
    with pytest.raises(UnreachableError, match="does not answer"):
        recorded_report.sync("small", settings)
    assert record.mirrored.records == 0


def test_a_sweep_that_was_never_run_says_what_was(settings: Settings, plan: Plan) -> None:
    begun(settings, plan)
    with pytest.raises(SweepError, match=r"smal: nothing recorded: .*; did you mean 'small'\? recorded: small"):
        recorded_report.report("smal", settings)


@pytest.mark.slow
def test_fingerprints_are_recorded_with_the_sweep_and_measured_where_an_older_record_has_none(
    settings: Settings,
) -> None:
    digits = data.load()
    record = begun(settings, make_plan(small(), digits.digest))
    assert [found["normalizer"] for found in recorded_report.report("small", settings)[0].fingerprints] == ["unit"]
    record.fingerprints = [{"normalizer": "noted"}]
    assert recorded_report.report("small", settings)[0].fingerprints == ({"normalizer": "noted"},)


def test_images_that_are_not_here_have_no_fingerprints(settings: Settings, plan: Plan) -> None:
    begun(settings, plan)
    assert recorded_report.report("small", settings)[0].fingerprints == ()
