"""Whole sweeps on real workers with the fake trainer: what is recorded, resumed, refused, sent."""

import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sweep_runs import Tracker, Watcher, small, starts

from mnist_ablate.errors import ConflictError, UnreachableError
from mnist_ablate.execution import cluster, driver, recorded_report
from mnist_ablate.execution.driver import Run, drive
from mnist_ablate.execution.engine import Engine
from mnist_ablate.execution.events import Event
from mnist_ablate.ledger import progress
from mnist_ablate.ledger.ledger import Ledger, Record
from mnist_ablate.settings import Settings
from mnist_ablate.tracking.client import RejectedError
from mnist_ablate.trial import Trial

ALL = ["relu/0", "relu/1", "relu/2", "tanh/0", "tanh/1", "tanh/2"]

pytestmark = pytest.mark.usefixtures("tracker")


def publish(result: Run, settings: Settings) -> None:
    """As the command does at the end."""
    recorded_report.publish(result.record, result.records, result.mirror, settings, result.report)


def recorded(settings: Settings) -> list[str]:
    """Every record, as activation/seed and status."""
    records = Ledger(settings.ledger_url).find("small").records()
    return [f"{e.trial.settings['activation']}/{e.trial.seed} {e.outcome.status}" for e in records]


def numbers(result: Run) -> list[tuple[object, ...]]:
    return [(row.params, row.seed, row.metrics) for row in progress.rows(result.plan, result.entries)]


def by_status(result: Run) -> dict[str, int]:
    return {status: n for status, n in result.report.trials if n and status != "planned"}


def crashed(settings: Settings, after: int, **changes: object) -> Watcher:
    """A sweep that ended like in a crash after so many finished trials."""
    watcher = Watcher(stop_after=after)
    with pytest.raises(RuntimeError, match="crash"):
        drive(small(**changes), settings, watcher)
    return watcher


@pytest.mark.slow
@pytest.mark.usefixtures("fake")
def test_a_database_that_is_away_at_the_end_keeps_no_verdict_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = drive(small(), settings, Watcher())

    def away(_record: Record) -> None:
        raise UnreachableError("database not reachable")

    monkeypatch.setattr(Record, "fingerprints", property(away))
    assert result.report.trials.complete == 6


@pytest.mark.slow
@pytest.mark.usefixtures("fake")
def test_python_waits_for_what_is_imported_beside_the_trials(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_left_behind: list[bool] = []
    monkeypatch.setattr(
        recorded_report, "import_charts", lambda: is_left_behind.append(threading.current_thread().daemon)
    )
    drive(small(), settings, Watcher())
    assert is_left_behind == [False]  # else Python aborts now and then: exit code -6


@pytest.mark.slow
def test_every_trial_is_trained_recorded_and_sent_once_and_a_finished_sweep_starts_no_worker(
    settings: Settings, fake: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = drive(small(), settings, Watcher())
    assert sorted(starts(fake)) == ALL
    assert sorted(recorded(settings)) == [f"{name} complete" for name in ALL]
    assert (first.plan.size, first.recorded, first.delivered, first.interrupted) == (6, 6, True, 0)
    assert len(tracker.outcomes) == 6
    assert [f"{params['activation']}/{seed}" for params, seed, _ in numbers(first)] == ALL
    publish(first, settings)
    monkeypatch.setattr(cluster, "connected", None)
    monkeypatch.setattr(driver, "Uploader", None)
    page, tracker.link = tracker.link, ""
    again = drive(small(), settings, Watcher())
    assert numbers(again) == numbers(first)
    assert (again.delivered, again.published, again.link) == (True, True, page)
    assert len(starts(fake)) == 6


@pytest.mark.slow
@pytest.mark.usefixtures("fake")
def test_a_trial_whose_metrics_cannot_be_what_they_are_said_to_be_is_failed_and_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FAULTS", '{"tanh/1": "percent"}')
    watcher = Watcher()
    result = drive(small(), settings, watcher)
    assert by_status(result) == {"complete": 5, "failed": 1}
    assert sorted(recorded(settings))[-2] == "tanh/1 failed"
    (failed,) = [each.outcome for each in watcher.finished if each.outcome.status == "failed"]
    assert failed.reason.startswith("test_accuracy 9")
    assert failed.reason.endswith(": an accuracy is a share, 0 to 1: divide by 100")
    assert failed.metrics == {}


@pytest.mark.slow
def test_the_images_are_looked_at_before_anything_is_trained(settings: Settings) -> None:
    crashed(settings, 1, scientific={"normalizer": ["unit", "centered_uint8"]}, claims=[])
    images, *found = Ledger(settings.ledger_url).find("small").fingerprints
    assert "images" in images  # what they are, since they are not MNIST
    assert [each["normalizer"] for each in found] == ["unit", "centered_uint8"]
    assert [flag["name"] for flag in found[1]["flags"]][:1] == ["wrapped"]


@pytest.mark.slow
def test_a_crash_loses_only_what_was_running(settings: Settings, fake: Path, tmp_path: Path) -> None:
    finished = crashed(settings, 3).finished
    heard = {f"{event.trial.settings['activation']}/{event.trial.seed}" for event in finished}
    survived = [line.removesuffix(" complete") for line in recorded(settings)]
    assert len(heard) == 3
    assert heard <= set(survived) <= set(starts(fake))  # what finished together with the third is recorded, too
    (fake / "starts").unlink()
    watcher = Watcher()
    result = drive(small(), settings, watcher)
    assert len(watcher.before) == len(survived)
    assert sorted(starts(fake)) == sorted(set(ALL) - set(survived))
    undisturbed = drive(small(), replace(settings, home=tmp_path / "undisturbed"), Watcher())
    assert numbers(result) == numbers(undisturbed)


@pytest.mark.slow
def test_failed_and_lost_trials_are_run_again_and_the_last_record_counts(
    settings: Settings, fake: Path, monkeypatch: pytest.MonkeyPatch, tracker: Tracker
) -> None:
    monkeypatch.setenv("FAKE_FAULTS", json.dumps({"relu/0": "raise", "tanh/1": "kill", "relu/2": "diverge"}))
    watcher = Watcher()
    first = drive(small(), settings, watcher)
    assert by_status(first) == {"complete": 3, "diverged": 1, "failed": 1, "lost": 1}
    assert first.broken
    assert [(event.reason, event.attempt) for event in watcher.retried] == [("worker killed", 1), ("worker killed", 2)]
    (trace,) = settings.log_dir.glob("????????????????.log")
    assert "no such layer" in trace.read_text()
    publish(first, settings)
    monkeypatch.delenv("FAKE_FAULTS")
    (fake / "starts").unlink()
    tracker.down = True
    again = drive(small(), settings, Watcher())
    assert sorted(starts(fake)) == ["relu/0", "tanh/1"]
    assert by_status(again) == {"complete": 5, "diverged": 1}
    kept = Counter(line.split()[1] for line in recorded(settings))
    assert kept == {"complete": 5, "diverged": 1, "failed": 1, "lost": 1}
    assert (again.delivered, again.published) == (False, False)
    tracker.down = False
    assert drive(small(), settings, Watcher()).delivered
    assert {outcome.status for outcome in tracker.outcomes.values()} == {"complete", "diverged"}


@pytest.mark.slow
def test_a_changed_sweep_is_refused_in_words_and_changes_nothing(settings: Settings, fake: Path) -> None:
    drive(small(), settings, Watcher())
    before = recorded(settings)
    with pytest.raises(ConflictError) as error:
        drive(small(fixed={"epochs": 8}), settings, Watcher())
    assert str(error.value) == "small: stored sweep differs: epochs 2 -> 8; use --fresh or another name"
    assert error.value.exit_code == 6
    assert recorded(settings) == before
    assert len(starts(fake)) == 6


@pytest.mark.slow
def test_fresh_begins_a_new_record_and_keeps_the_old_one(settings: Settings, fake: Path) -> None:
    both = [drive(small(), replace(settings, fresh=fresh), Watcher()).record for fresh in (False, True)]
    assert [(record.name, len(record.records())) for record in both] == [("small/1", 6), ("small/2", 6)]
    assert len(starts(fake)) == 12


@pytest.mark.slow
def test_a_tracker_that_was_down_gets_everything_from_the_next_run(
    settings: Settings, fake: Path, tracker: Tracker
) -> None:
    tracker.down = True
    watcher = crashed(settings, 3)
    assert [message for message in watcher.messages if "does not answer" in message]
    tracker.down = False
    assert drive(small(), settings, Watcher()).delivered
    assert len(tracker.outcomes) == 6
    assert len(starts(fake)) <= 8


@pytest.mark.slow
def test_what_ended_when_the_tracker_refused_is_recorded(
    settings: Settings, fake: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = Engine.batches

    def all_at_once(engine: Engine, asked: Iterable[Trial], *, ahead: bool) -> Iterator[list[Event]]:
        yield [event for events in batches(engine, asked, ahead=ahead) for event in events]

    def refuse() -> None:
        raise RejectedError("MLflow at http://tracker refused the credentials")

    monkeypatch.setattr(Engine, "batches", all_at_once)
    monkeypatch.setattr(tracker, "open", refuse)
    with pytest.raises(RejectedError):
        drive(small(), settings, Watcher())
    assert len(recorded(settings)) == len(starts(fake)) > 0
