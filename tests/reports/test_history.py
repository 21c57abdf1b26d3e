"""Commands over the record: the report on what is there, in every format, and sync, which says what it did."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import fake_trainer
import pytest
from ledger_records import DATA, begun, outcome
from sweep_runs import Tracker, small
from typer.testing import CliRunner

from mnist_ablate.cli.app import app
from mnist_ablate.errors import SweepError, UnreachableError
from mnist_ablate.execution import recorded_report
from mnist_ablate.ledger import progress
from mnist_ablate.ledger.ledger import Record
from mnist_ablate.reports import html
from mnist_ablate.reports.report import TrialCounts
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.plan import Plan, PlannedTrial, make_plan
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.tracking.mirror import FinishedTrial
from mnist_ablate.trial import Outcome
from mnist_ablate.workloads.keras_mnist import data

TUNED = {"nuisance": {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}, "tuning_trials": 3}
SEARCHED = {**TUNED, "design": "search", "baseline": {"activation": "tanh"}, "claims": []}


def recorded(settings: Settings, plan: Plan, *trials: PlannedTrial) -> Record:
    record = begun(settings.ledger_url, plan)
    for planned in trials:
        record.add(planned, outcome(planned))
    return record


def by_rate(planned: PlannedTrial) -> Outcome:
    rate = planned.trial.settings["learning_rate"]
    accuracy = 0.9 - abs(rate - 0.01) + 0.001 * planned.trial.seed * (planned.stage == "verdict")
    metrics = {"val_accuracy": accuracy, "test_accuracy": accuracy}
    return Outcome(trial_id=planned.trial.id, status="complete", metrics=metrics, seconds=1.0, started_ms=1)


def fill(sweep: Sweep, settings: Settings) -> Plan:
    """A ledger with every trial of a sweep."""
    settings.home.mkdir(exist_ok=True)
    plan = make_plan(sweep, DATA)
    record = begun(settings.ledger_url, plan)
    tuning = plan.tuning or ([plan.searched({"activation": "relu", "learning_rate": r}) for r in (0.01, 0.02, 0.05)])
    for planned in tuning if plan.sweep.tuning_trials else ():
        record.add(planned, by_rate(planned))
    for planned in plan.verdict_trials(progress.tuned(plan, record.entries())):
        record.add(planned, by_rate(planned))
    return plan


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def plan() -> Plan:
    return make_plan(small(), DATA)


def test_a_part_of_a_sweep_is_reported_as_a_part(settings: Settings, plan: Plan) -> None:
    recorded(settings, plan, *plan.verdict_trials()[:4])
    report, record = recorded_report.report("small", settings)
    assert report.trials == TrialCounts(planned=6, complete=4)
    assert [arm.n for arm in report.arms] == [2, 2]
    assert record.sweep.question == "Does tanh hurt?"


def test_a_repeated_trial_counts_once_with_its_last_outcome(settings: Settings, plan: Plan) -> None:
    record, first = begun(settings.ledger_url, plan), plan.verdict_trials()[0]
    record.add(first, outcome(first, "failed"))
    record.add(first, outcome(first))
    report, _ = recorded_report.report("small", settings)
    assert (report.trials.complete, report.trials.failed) == (1, 0)


def test_results_at_values_that_a_repeated_tuning_gave_up_do_not_count(settings: Settings) -> None:
    plan = make_plan(small(**TUNED), DATA)
    record = begun(settings.ledger_url, plan)
    tried = [[each for each in plan.tuning if each.arm == arm] for arm in plan.arms]
    # the best fail at first
    best = [max(each, key=lambda one: fake_trainer.metrics(one.trial)["val_accuracy"]) for each in tried]
    for each in plan.tuning:
        record.add(each, outcome(each, "failed" if each in best else "complete"))
    early = progress.verdict_trials(plan, record.entries())
    for each in early:
        record.add(each, outcome(each))
    for each in best:
        record.add(each, outcome(each))
    late = progress.verdict_trials(plan, record.entries())
    assert {each.trial.id for each in early}.isdisjoint(each.trial.id for each in late)
    assert progress.done(plan, record.entries()) == 6
    assert recorded_report.report("small", settings)[0].arms == ()
    for each in late:
        record.add(each, outcome(each))
    report, _ = recorded_report.report("small", settings)
    assert [arm.n for arm in report.arms] == [3, 3]
    assert report.trials.planned == 6


@pytest.mark.usefixtures("no_pictures")
def test_sync_sends_what_is_missing_then_the_verdicts_and_remembers(
    settings: Settings, plan: Plan, tracker: Tracker
) -> None:
    record = recorded(settings, plan, *plan.verdict_trials())
    assert recorded_report.sync("small", settings)[:2] == (6, 6)
    assert "Tanh hurts." in tracker.notes[0]
    assert (record.mirrored.records, record.mirrored.link) == (6, tracker.link)
    assert recorded_report.sync("small", settings)[:2] == (0, 6)


@pytest.mark.usefixtures("no_pictures")
def test_sync_beside_a_running_sweep_remembers_only_what_it_sent(
    settings: Settings, plan: Plan, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    *first, last = plan.verdict_trials()
    record = recorded(settings, plan, *first)
    send = tracker.outcomes_together

    def sent_while_another_ends(ended: Sequence[FinishedTrial]) -> dict[str, bool]:
        record.add(last, outcome(last))
        return send(ended)

    monkeypatch.setattr(tracker, "outcomes_together", sent_while_another_ends)
    assert recorded_report.sync("small", settings)[:2] == (5, 5)
    assert (record.mirrored.records, len(record.records())) == (5, 6)


def test_sync_of_a_tracker_that_is_down_remembers_nothing(settings: Settings, plan: Plan, tracker: Tracker) -> None:
    record = recorded(settings, plan, *plan.verdict_trials())
    tracker.down = True
    with pytest.raises(UnreachableError, match="does not answer"):
        recorded_report.sync("small", settings)
    assert record.mirrored.records == 0


def test_a_sweep_that_was_never_run_says_what_was(settings: Settings, plan: Plan) -> None:
    begun(settings.ledger_url, plan)
    with pytest.raises(SweepError, match=r"smal: nothing recorded: .*; did you mean 'small'\? recorded: small"):
        recorded_report.report("smal", settings)
    assert recorded_report.report("small", settings)[0].fingerprints == ()  # the images are not here


def test_trials_are_read_in_the_order_of_the_plan_apart_from_tuning(settings: Settings) -> None:
    plan = fill(small(**TUNED), settings)
    judged, record = recorded_report.report("small", settings)
    read = replace(recorded_report.recorded_sweep(record), provenance={"git_commit": "c0ffee"})
    assert [(e.params["activation"], e.trial.seed) for e in read.entries] == [
        (activation, seed) for seed in range(3) for activation in ("relu", "tanh")
    ]
    assert len(read.tuning) == 6
    assert (read.sweep, read.data_digest, read.registered) == (plan.sweep, DATA, record.registered)
    text = html.html(judged, read)
    assert "Chosen by validation accuracy" in text
    assert "6 tuning trials with seeds that no verdict uses: 6 complete." in text
    assert "c0ffee" in text


def test_a_search_shows_its_winner_and_the_best_that_were_tried(settings: Settings) -> None:
    fill(small(**SEARCHED), settings)
    judged, record = recorded_report.report("small", settings)
    text = html.html(judged, recorded_report.recorded_sweep(record))
    assert '<th scope="row">configuration' not in text
    assert '<th scope="row">winner</th><td>relu</td><td>0.01</td>' in text
    assert "The best 3 that were tried" in text
    places = [text.index(f'<td class="number">{accuracy}</td></tr>') for accuracy in ("90.00%", "89.00%", "86.00%")]
    assert places == sorted(places)


def printed(settings: Settings, *options: str) -> str:
    done = CliRunner().invoke(app, ["report", "small", "--home", str(settings.home), *options], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "suffix", "start"),
    [
        ("html", ".html", b"<!DOCTYPE html>"),
        ("md", ".MD", b"# Does tanh"),
        ("json", ".json", b'{"sweep":"small"'),
        ("svg", ".svg", b"<svg"),
        ("png", ".png", b"\x89PNG"),
        ("bundle", ".zip", b"PK"),
        ("table", ".txt", b"test_acc"),
        ("table", "", b"test_acc"),
    ],
)
def test_an_option_or_the_name_of_the_file_tells_the_format(
    form: str, suffix: str, start: bytes, settings: Settings, tmp_path: Path
) -> None:
    fill(small(), settings)
    path, other = tmp_path / f"report{suffix}", tmp_path / "report.md"
    printed(settings, "--output", str(path))
    assert path.read_bytes().startswith(start)
    printed(settings, "--output", str(other), "--format", form)
    assert other.read_bytes() == path.read_bytes()
    if form not in ("png", "bundle"):
        assert printed(settings, "--format", form).strip() == path.read_text(encoding="utf-8").strip()


def test_a_suffix_of_no_format_is_taken_with_a_format_only(settings: Settings, tmp_path: Path) -> None:
    fill(small(), settings)
    path = tmp_path / "r.tsv"
    with pytest.raises(SweepError, match=r"no format has this suffix; known: \.txt, "):
        printed(settings, "--output", str(path))
    assert not path.exists()
    printed(settings, "--output", str(path), "--format", "table")
    assert path.read_bytes().startswith(b"test_acc")


@pytest.mark.slow
def test_fingerprints_are_recorded_with_the_sweep_and_measured_where_an_older_record_has_none(
    settings: Settings,
) -> None:
    digits = data.load()
    record = begun(settings.ledger_url, make_plan(small(), digits.digest))
    assert [found["normalizer"] for found in recorded_report.report("small", settings)[0].fingerprints] == ["unit"]
    record.fingerprints = [{"normalizer": "noted"}]
    assert recorded_report.report("small", settings)[0].fingerprints == ({"normalizer": "noted"},)
