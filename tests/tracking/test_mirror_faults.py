"""Faults and repetitions: one run for each trial, one row for each point, whatever was lost or deleted between."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow_helpers import (
    ARM,
    DIGEST,
    START_MS,
    active_runs,
    epochs,
    mirror,
    new_home,
    outcome,
    points,
    rows,
    trial,
    trial_runs,
)

from mnist_ablate.errors import UnreachableError
from mnist_ablate.tracking import mirror as mirror_module
from mnist_ablate.tracking.mirror import SENDERS, FinishedTrial

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's tables, SQLAlchemy 2.1


@pytest.fixture
def losing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes the next call of a client method succeed and then lose its reply, as a broken connection does."""

    def lose(method: str) -> None:
        real = getattr(MlflowClient, method)

        def lost(self: MlflowClient, *args: object, **kwargs: object) -> None:
            monkeypatch.setattr(MlflowClient, method, real)
            real(self, *args, **kwargs)
            text = "API request to http://x failed with exception ('Connection aborted.')"
            raise MlflowException(text)

        monkeypatch.setattr(MlflowClient, method, lost)

    return lose


def many(*seeds: int) -> list[FinishedTrial]:
    return [(trial(seed), ARM, outcome(trial(seed))) for seed in seeds]


@pytest.fixture
def served(uri: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a server; what is sent to it goes to the store at `uri`."""
    real = mirror_module.connect
    monkeypatch.setattr(mirror_module, "connect", lambda _address: real(uri))
    return "http://server"


def test_outcomes_go_to_a_server_side_by_side(uri: str, served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, all_there = MlflowClient.create_run, threading.Barrier(SENDERS, timeout=20)

    def wait_for_the_others(*args: object, **kwargs: object) -> object:
        if len(active_runs(uri)):  # the parent's is made alone
            all_there.wait()
        return real(*args, **kwargs)

    monkeypatch.setattr(MlflowClient, "create_run", wait_for_the_others)
    seeds = range(2 * SENDERS)
    sender = mirror(served)
    assert sender.outcomes_together(many(*seeds)) == {trial(seed).id: True for seed in seeds}
    assert sender.outcomes_together(many(*seeds)) == {trial(seed).id: False for seed in seeds}
    assert len(active_runs(uri)) == 1 + 2 * SENDERS
    assert len(points(uri)) == 2 * SENDERS * (3 * 4 + 4)


def test_outcomes_go_one_by_one_to_a_store_without_server(uri: str) -> None:
    assert mirror(uri).outcomes_together(many(1, 2)) == {}
    assert active_runs(uri) == []


@pytest.mark.parametrize("method", ["create_run", "log_batch", "set_terminated"])
def test_reply_lost_among_others_leaves_one_run_of_each_trial(
    uri: str, served: str, losing: Callable[[str], None], method: str
) -> None:
    sender = mirror(served)
    sender.open()
    losing(method)
    sent = sender.outcomes_together(many(*range(8)))
    assert len(sent) < 8
    left = [each for each in many(*range(8)) if each[0].id not in sent]
    for each in left:
        sender.outcome(*each)
    sender.settle()
    assert {row[1:] for row in active_runs(uri)} == {("", "KILLED"), *((trial(n).id, "FINISHED") for n in range(8))}
    assert (len(active_runs(uri)), len(points(uri))) == (9, 8 * (3 * 4 + 4))


SLOW = """
import os, sys, time
from mnist_ablate.tracking.mirror import SENDERS, Mirror
from mnist_ablate.trial import Outcome, Trial
from mnist_ablate.tracking.uploader import Uploader

class Slow(Mirror):
    def open(self): self._index = object()
    def _send(self, *_):
        os.write(1, b"sent\\n")
        time.sleep(6)
        return True

uploader = Uploader(Slow("http://127.0.0.1:9", "small", "ab", "?", {}), lambda text: print(text, file=sys.stderr))
for seed in range(4 * SENDERS):
    trial = Trial(settings={}, seed=seed, data_digest="d1" * 32, id=str(seed))
    uploader.outcome(trial, {}, Outcome(trial_id=trial.id, status="complete"))
uploader.start()
assert not uploader.close(0.1, settle=True)
print("ending", flush=True)
"""


def test_the_end_of_the_program_waits_for_no_slow_server() -> None:
    command = [sys.executable, "-c", SLOW]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        lines = [process.stdout.readline() for _ in range(SENDERS + 1)]
        clock = time.monotonic()
        assert process.wait(30) == 0
        assert time.monotonic() - clock < 5
        assert lines == [*[b"sent\n"] * SENDERS, b"ending\n"]
        assert (process.stdout.read(), process.stderr.read()) == (b"", b"")


def test_an_unreachable_server_is_sent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(address: str) -> None:
        raise UnreachableError(address)

    monkeypatch.setattr(mirror_module, "connect", nobody)
    assert mirror("http://server").outcomes_together(many(1, 2)) == {}


@pytest.mark.parametrize("method", ["create_experiment", "create_run", "log_batch", "set_terminated"])
@pytest.mark.parametrize("live", [False, True])
def test_lost_reply_leaves_one_run_and_one_row_per_point(
    uri: str,
    losing: Callable[[str], None],
    method: str,
    live: bool,
) -> None:
    sender = mirror(uri)
    actions: list[Callable[[], object]] = [sender.open, lambda: sender.outcome(trial(), ARM, outcome(trial()))]
    if live:
        actions.insert(0, lambda: sender.epoch(trial(), *epochs()[:2]))
    for action in actions:
        losing(method)
        for _ in range(4):
            with suppress(UnreachableError):
                action()
                break
    assert [row[:2] for row in active_runs(uri)] == [("sweep", ""), ("trial", trial().id)]
    assert len(points(uri)) == 3 * 4 + 4


def test_run_created_late_by_a_hung_request_is_removed(uri: str) -> None:
    sender = mirror(uri)
    sender.outcome(trial(), ARM, outcome(trial()))
    client = MlflowClient(tracking_uri=uri)
    (run,) = trial_runs(uri)
    for kind in ("trial", "sweep"):
        tags = {"kind": kind, "sweep_digest": DIGEST, "trial_id": trial().id if kind == "trial" else ""}
        client.create_run(run.info.experiment_id, tags=tags)
    assert sender.stored()[trial().id].copies == 2
    mirror(uri).open()
    assert sender.stored()[trial().id].copies == 1
    assert [row[0] for row in active_runs(uri)] == ["sweep", "trial"]


def test_deleted_runs_come_back_by_sending_again(uri: str) -> None:
    mirror(uri).outcome(trial(), ARM, outcome(trial()))
    expected = points(uri)
    client = MlflowClient(tracking_uri=uri)
    for run in client.search_runs([trial_runs(uri)[0].info.experiment_id]):
        client.delete_run(run.info.run_id)
    again = mirror(uri)
    assert again.stored() == {}
    assert again.outcome(trial(), ARM, outcome(trial()))
    assert not again.outcome(trial(), ARM, outcome(trial()))
    assert points(uri) == expected


def test_runs_follow_a_parent_that_had_to_be_made_again(uri: str) -> None:
    mirror(uri).outcome(trial(), ARM, outcome(trial()))
    client = MlflowClient(tracking_uri=uri)
    (run,) = trial_runs(uri)
    client.delete_run(run.data.tags["mlflow.parentRunId"])
    mirror(uri).open()
    parent = client.get_run(trial_runs(uri)[0].data.tags["mlflow.parentRunId"])
    assert (parent.info.lifecycle_stage, parent.data.tags["kind"]) == ("active", "sweep")


def test_run_deleted_while_it_trains_is_made_again(uri: str) -> None:
    sender = mirror(uri)
    sender.epoch(trial(), epochs()[0])
    MlflowClient(tracking_uri=uri).delete_run(trial_runs(uri)[0].info.run_id)
    sender.epoch(trial(), epochs()[1])
    sender.outcome(trial(), ARM, outcome(trial()))
    assert len(points(uri)) == 3 * 4 + 4


def test_deleted_experiment_is_restored(uri: str) -> None:
    sender = mirror(uri)
    sender.outcome(trial(), ARM, outcome(trial()))
    client = MlflowClient(tracking_uri=uri)
    client.delete_experiment(trial_runs(uri)[0].info.experiment_id)
    assert mirror(uri).stored() == {}
    assert sender.outcome(trial(4), ARM, outcome(trial(4)))  # the same mirror finds out by being refused
    again = mirror(uri)
    again.outcome(trial(), ARM, outcome(trial()))
    assert set(again.stored()) == {trial().id, trial(4).id}
    assert rows(uri, "select name, lifecycle_stage from experiments")[1] == ("normalization", "active")


def test_wiped_store_is_rebuilt_from_the_ledger(tmp_path: Path) -> None:
    before, after = new_home(tmp_path / "before"), new_home(tmp_path / "after")
    for uri in (before, after):
        sender = mirror(uri)
        for seed in (1, 2):
            sender.outcome(trial(seed), ARM, outcome(trial(seed)))
        sender.verdicts("# Verdict", {"claim/effect": -0.01}, [])
    assert points(before) == points(after)
    assert active_runs(before) == active_runs(after)


def test_another_attempt_leaves_only_its_own_points(uri: str) -> None:
    sender = mirror(uri)
    sender.epoch(trial(), *epochs(2, START_MS - 60_000))
    for epoch in epochs():
        sender.epoch(trial(), epoch)
    sender.outcome(trial(), ARM, outcome(trial()))
    assert {row[3] for row in points(uri)} == {START_MS + 1000, START_MS + 2000, START_MS + 3000, START_MS + 3250}
    assert len(trial_runs(uri)) == 1


@pytest.mark.parametrize("live_again", [True, False])
def test_attempt_of_a_killed_driver_is_replaced(uri: str, live_again: bool) -> None:
    mirror(uri).epoch(trial(), *epochs(2, START_MS - 60_000))
    after = mirror(uri)
    if live_again:
        after.epoch(trial(), epochs()[0])
    after.outcome(trial(), ARM, outcome(trial()))
    assert min(row[3] for row in points(uri)) == START_MS + 1000
    assert len(trial_runs(uri)) == 1


def test_run_of_a_killed_driver_is_continued_where_it_fits(uri: str) -> None:
    mirror(uri).epoch(trial(), epochs()[0])
    mirror(uri).outcome(trial(), ARM, outcome(trial()))
    assert len(rows(uri, "select * from runs")) == 2  # the parent and one trial: nothing was thrown away


def test_a_lost_trial_that_is_trained_again_becomes_complete(uri: str) -> None:
    sender = mirror(uri)
    sender.outcome(trial(), ARM, outcome(trial(), "lost", metrics={}, epochs=(), reason="worker killed"))
    sender.epoch(trial(), epochs()[0])
    assert sender.outcome(trial(), ARM, outcome(trial()))
    (run,) = trial_runs(uri)
    assert (run.info.status, run.data.tags["outcome"], run.data.tags["reason"]) == ("FINISHED", "complete", "")


def test_outcome_cut_off_by_a_crash_leaves_no_number_of_another_attempt(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as crash, suppress(KeyboardInterrupt):
        crash.setattr(MlflowClient, "set_terminated", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        mirror(uri).outcome(trial(), ARM, outcome(trial(), epochs=(), started_ms=START_MS - 60_000))
    mirror(uri).outcome(trial(), ARM, outcome(trial()))
    assert [row[3] for row in points(uri) if row[1] == "test_accuracy"] == [START_MS + 3250]


def test_settle_ends_what_nobody_runs(uri: str) -> None:
    sender = mirror(uri)
    sender.epoch(trial(1), epochs()[0])
    sender.outcome(trial(2), ARM, outcome(trial(2)))
    sender.settle()
    assert {row[2] for row in active_runs(uri)} == {"KILLED", "FINISHED"}
    after = mirror(uri)
    after.outcome(trial(1), ARM, outcome(trial(1)))
    assert {run.info.status for run in trial_runs(uri)} == {"FINISHED"}
