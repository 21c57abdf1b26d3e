"""The mirror and MLflow's own store: what arrives, and that nothing arrives twice, whatever was lost or deleted."""

import math
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from command import NO_TRACKER
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow_helpers import (
    ARM,
    DIGEST,
    START_MS,
    active_runs,
    epochs,
    mirror,
    outcome,
    points,
    rows,
    trial,
    trial_runs,
)

from mnist_ablate.errors import UnreachableError
from mnist_ablate.tracking import mirror as mirror_module
from mnist_ablate.tracking import run_format
from mnist_ablate.tracking.mirror import SENDERS, FinishedTrial, Mirror

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's tables, SQLAlchemy 2.1
Lose = Callable[[str], None]
WHOLE = 3 * 4 + 4
"""Points of a trial: four curves of three epochs, and four numbers of the whole run."""


def done(seed: int = 3, status: str = "complete", **changes: object) -> FinishedTrial:
    return FinishedTrial(trial(seed), ARM, outcome(trial(seed), status, **changes))


def send(uri: str, *args: Any, **changes: object) -> bool:
    """What `done` describes, by a mirror that knows nothing yet."""
    return mirror(uri).outcome(*done(*args, **changes))


def test_modules_import_neither_mlflow_nor_keras() -> None:
    code = """import sys; from mnist_ablate.tracking import mirror, uploader, web_ui
assert not {"mlflow", "keras", "tensorflow", "sqlalchemy"} & set(sys.modules)"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_opening_twice_makes_one_experiment_and_one_parent_and_links_to_it(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        again = mirror(uri)
        assert again.link == ""
        again.open()
        again.open()
    assert active_runs(uri) == [("sweep", "", "RUNNING")]
    assert rows(uri, "select name from experiments") == [("Default",), ("normalization",)]
    assert again.link.startswith("http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning&")
    monkeypatch.setenv("MNIST_ABLATE_MLFLOW_URL", "https://ann:pass@mlflow.example.com/")
    elsewhere = mirror(uri)
    elsewhere.open()
    assert elsewhere.link.startswith("https://mlflow.example.com/#/experiments/1/runs?")
    assert "metrics.%60test_accuracy%60&orderByAsc=false" in again.link


def test_outcome_arrives_whole(uri: str) -> None:
    assert send(uri)
    (run,) = trial_runs(uri)
    assert run.info.run_name == "centered relu seed 3"
    assert (run.info.status, run.info.start_time, run.info.end_time) == ("FINISHED", START_MS, START_MS + 3250)
    told = {key: str(value) for key, value in trial().settings.items() if key != "weights"}  # it has no frozen base
    assert run.data.params == {**told, "seed": "3"}
    assert run.data.metrics == {
        "train_loss": 0.5,
        "train_accuracy": 0.9,
        "val_loss": 0.4,
        "val_accuracy": 0.91,
        "test_accuracy": 0.97,
        "test_loss": 0.1,
        "diagnostics/dead_units": 0.25,
        "seconds": 3.25,
    }
    own = {"trial_id": trial().id, "seed": "3", "outcome": "complete", "arm": "centered relu", "kind": "trial"}
    own |= {"data_digest": "d1" * 32, "git_commit": "abc123", "sweep_digest": DIGEST}
    assert own.items() <= run.data.tags.items()
    assert "mlflow.parentRunId" in run.data.tags
    assert run.data.tags["mlflow.note.content"] == "centered relu, seed 3.\n\nComplete, test_accuracy 97%."
    curve = MlflowClient(tracking_uri=uri).get_metric_history(run.info.run_id, "val_accuracy")
    assert [(each.step, each.timestamp) for each in curve] == [(n, START_MS + n * 1000) for n in (1, 2, 3)]


def test_data_is_told_once_on_the_sweep_s_run_and_named_by_every_trial(uri: str) -> None:
    for _ in range(2):
        sender = replace(mirror(uri), data=run_format.Data("digits", "d1" * 32, "digits.npz"))
        sender.outcome(*done())
        sender.verdicts(("note", "note"), {}, [], {})
    runs = MlflowClient(tracking_uri=uri).search_runs(["1"])
    told = [(each.dataset.name, each.dataset.digest) for run in runs for each in run.inputs.dataset_inputs]
    assert told == [("digits", "d1" * 18)]
    assert [run.data.tags["data"] for run in runs] == ["digits"] * 2


def test_status_and_reason_are_told_and_a_trial_that_never_started_has_an_end(uri: str) -> None:
    statuses = {"complete": "FINISHED", "diverged": "FINISHED", "failed": "FAILED", "lost": "KILLED"}
    for seed, status in enumerate(statuses):
        send(uri, seed, status, reason="because", **({"started_ms": 0, "seconds": 0.0} if status == "lost" else {}))
    runs = {run.data.tags["outcome"]: run for run in trial_runs(uri)}
    assert {status: run.info.status for status, run in runs.items()} == statuses
    assert {run.data.tags["reason"] for run in runs.values()} == {"because"}
    assert runs["lost"].info.end_time >= runs["lost"].info.start_time > START_MS


def test_sending_again_changes_nothing_but_of_another_digest(uri: str) -> None:
    def everything() -> list[object]:
        return [points(uri), active_runs(uri), *(rows(uri, f"select * from {table}") for table in ("tags", "runs"))]

    first = mirror(uri)
    first.outcome(*done())
    before = everything()
    assert not first.outcome(*done())
    assert not send(uri)
    assert everything() == before
    assert Mirror(uri, "normalization", "cd" * 32, "?", {}).outcome(*done())  # of another sweep
    assert len(trial_runs(uri)) == 2


def test_nothing_infinite_is_stored(uri: str) -> None:
    bad = epochs(1, train_loss=math.nan, val_loss=math.inf)
    mirror(uri).epoch(trial(), ARM, START_MS, *bad)
    assert send(uri, status="diverged", epochs=bad)
    assert not send(uri, status="diverged", epochs=bad)
    stored = rows(uri, "select key, value, is_nan from metrics")
    assert {"train_loss", "val_loss"}.isdisjoint(row[0] for row in stored)
    assert all(abs(row[1]) < 1e6 and not row[2] for row in stored)


def test_long_runs_are_sent_in_several_batches(uri: str) -> None:
    assert send(uri, epochs=epochs(300), seconds=301.0)
    assert len(points(uri)) == 300 * 4 + 4
    assert not send(uri, epochs=epochs(300), seconds=301.0)


def test_verdicts_stand_on_top_and_are_said_once(uri: str, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("<p>refuted</p>")
    for _ in range(2):
        effects = {"claim/effect": -0.01, "claim/p_value": math.nan}
        mirror(uri).verdicts(("**refuted**", "![it](artifact:report.html)"), effects, [report], {"bundle_digest": "ab"})
    client = MlflowClient(tracking_uri=uri)
    (parent,) = client.search_runs(["1"])
    assert (parent.info.status, parent.data.tags["bundle_digest"]) == ("FINISHED", "ab")
    note = client.get_experiment("1").tags["mlflow.note.content"]
    assert parent.data.tags["mlflow.note.content"] == "**refuted**"
    assert note == f"![it](get-artifact?path=report.html&run_uuid={parent.info.run_id})"
    assert rows(uri, "select key, value from metrics") == [("claim/effect", -0.01)]
    assert [file.path for file in client.list_artifacts(parent.info.run_id)] == ["report.html"]
    stored = list((tmp_path / "home" / "mlartifacts").rglob("report.html"))
    assert [path.read_text() for path in stored] == ["<p>refuted</p>"]


def test_note_longer_than_mlflow_takes_is_cut_at_a_line(uri: str) -> None:
    mirror(uri).verdicts(("", "| row | of | table |\n" * 1000), {}, [], {})
    ((note,),) = rows(uri, "select value from experiment_tags where key = 'mlflow.note.content'")
    assert len(note) <= 5000
    assert note.endswith("table |\n\n(cut: the whole report is among the artifacts)")


def test_description_of_an_experiment_that_is_not_ours_stays(uri: str) -> None:
    client = MlflowClient(tracking_uri=uri)
    made = client.create_experiment("normalization", tags={"mlflow.note.content": "mine"})
    mirror(uri).verdicts(("theirs", "theirs"), {}, [], {})
    assert client.get_experiment(made).tags == {"mlflow.note.content": "mine"}


def test_more_runs_than_a_page_holds_are_all_found(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(5):
        send(uri, seed)
    real = MlflowClient.search_runs
    monkeypatch.setattr(MlflowClient, "search_runs", lambda *args, **kwargs: real(*args, **kwargs, max_results=2))
    assert not any(send(uri, seed) for seed in range(5))


def test_no_secret_reaches_the_store(uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPTUNA_DB_PASSWORD", "canary-in-the-environment")
    leak = "postgresql+psycopg2://me:canary-in-a-uri@db/x canary-in-the-environment"
    sender = mirror(uri, tags={"command": leak})
    sender.outcome(*done(status="failed", reason=leak, worker=leak))
    sender.verdicts((leak, leak), {}, [], {})
    assert b"canary" not in (tmp_path / "home" / "mlflow.db").read_bytes()


@pytest.fixture
def losing(monkeypatch: pytest.MonkeyPatch) -> Lose:
    """Makes the next call of a client method succeed and then lose its reply, as a broken connection does."""

    def lose(method: str) -> None:
        real = getattr(MlflowClient, method)

        def lost(self: MlflowClient, *args: object, **kwargs: object) -> None:
            monkeypatch.setattr(MlflowClient, method, real)
            real(self, *args, **kwargs)
            raise MlflowException("API request to http://x failed with exception ('Connection aborted.')")

        monkeypatch.setattr(MlflowClient, method, lost)

    return lose


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
    sender, ended = mirror(served), [done(seed) for seed in range(2 * SENDERS)]
    for is_new in (True, False):
        assert sender.outcomes_together(ended) == {each[0].id: is_new for each in ended}
    assert (len(active_runs(uri)), len(points(uri))) == (1 + 2 * SENDERS, 2 * SENDERS * WHOLE)


@pytest.mark.parametrize("method", ["create_run", "log_batch", "set_terminated"])
def test_reply_lost_among_others_leaves_one_run_of_each_trial(uri: str, served: str, losing: Lose, method: str) -> None:
    sender, ended = mirror(served), [done(seed) for seed in range(8)]
    sender.open()
    losing(method)
    sent = sender.outcomes_together(ended)
    assert len(sent) < 8
    for each in ended:
        if each[0].id not in sent:
            sender.outcome(*each)
    sender.settle()
    assert {row[1:] for row in active_runs(uri)} == {("", "KILLED"), *((each[0].id, "FINISHED") for each in ended)}
    assert (len(active_runs(uri)), len(points(uri))) == (9, 8 * WHOLE)


def test_a_store_without_a_server_and_a_server_that_is_down_are_sent_nothing_side_by_side(uri: str) -> None:
    for address in (uri, NO_TRACKER):
        assert mirror(address).outcomes_together([done(1), done(2)]) == {}
    assert active_runs(uri) == []


@pytest.mark.parametrize("method", ["create_experiment", "create_run", "log_batch", "set_terminated"])
@pytest.mark.parametrize("live", [False, True])
def test_lost_reply_leaves_one_run_and_one_row_per_point(uri: str, losing: Lose, method: str, live: bool) -> None:
    sender = mirror(uri)
    actions: list[Callable[[], object]] = [sender.open, lambda: sender.outcome(*done())]
    if live:
        actions.insert(0, lambda: sender.epoch(trial(), ARM, START_MS, *epochs()[:2]))
    for action in actions:
        losing(method)
        for _ in range(4):
            with suppress(UnreachableError):
                action()
                break
    assert [row[:2] for row in active_runs(uri)] == [("sweep", ""), ("trial", trial().id)]
    assert len(points(uri)) == WHOLE


def test_run_created_late_by_a_hung_request_is_removed(uri: str) -> None:
    send(uri)
    expected = active_runs(uri)
    for kind, of in (("trial", trial().id), ("sweep", "")):
        tags = {"kind": kind, "sweep_digest": DIGEST, "trial_id": of}
        MlflowClient(tracking_uri=uri).create_run("1", tags=tags)
    assert len(active_runs(uri)) == 4
    mirror(uri).open()
    assert active_runs(uri) == expected


def test_deleted_runs_come_back_by_sending_again(uri: str) -> None:
    send(uri)
    expected = points(uri)
    client = MlflowClient(tracking_uri=uri)
    for run in client.search_runs(["1"]):
        client.delete_run(run.info.run_id)
    again = mirror(uri)
    assert again.outcome(*done())
    assert not again.outcome(*done())
    assert points(uri) == expected


def test_runs_follow_a_parent_that_had_to_be_made_again(uri: str) -> None:
    send(uri)
    client = MlflowClient(tracking_uri=uri)
    (run,) = trial_runs(uri)
    client.delete_run(run.data.tags["mlflow.parentRunId"])
    mirror(uri).open()
    parent = client.get_run(trial_runs(uri)[0].data.tags["mlflow.parentRunId"])
    assert (parent.info.lifecycle_stage, parent.data.tags["kind"]) == ("active", "sweep")


def test_run_deleted_while_it_trains_is_made_again(uri: str) -> None:
    sender = mirror(uri)
    sender.epoch(trial(), ARM, START_MS, epochs()[0])
    MlflowClient(tracking_uri=uri).delete_run(trial_runs(uri)[0].info.run_id)
    sender.epoch(trial(), ARM, START_MS, epochs()[1])
    sender.outcome(*done())
    assert len(points(uri)) == WHOLE


def test_deleted_experiment_is_restored(uri: str) -> None:
    sender = mirror(uri)
    sender.outcome(*done())
    MlflowClient(tracking_uri=uri).delete_experiment("1")
    assert sender.outcome(*done(4))  # the same mirror finds out by being refused
    assert not send(uri)
    assert {row[1] for row in active_runs(uri)} == {"", trial().id, trial(4).id}
    assert rows(uri, "select name, lifecycle_stage from experiments")[1] == ("normalization", "active")


@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize("live_again", [3, 1, 0])
def test_another_attempt_leaves_only_its_own_points(uri: str, killed: bool, live_again: int) -> None:
    sender = mirror(uri)
    sender.epoch(trial(), ARM, START_MS - 60_000, *epochs(2, START_MS - 60_000))
    sender = mirror(uri) if killed else sender
    for epoch in epochs()[:live_again]:
        sender.epoch(trial(), ARM, START_MS, epoch)
    sender.outcome(*done())
    assert {row[3] for row in points(uri)} == {START_MS + 1000, START_MS + 2000, START_MS + 3000, START_MS + 3250}
    assert len(trial_runs(uri)) == 1


def test_run_of_a_killed_driver_is_continued_where_it_fits_without_a_second_point(uri: str) -> None:
    for epoch in epochs():
        mirror(uri).epoch(trial(), ARM, START_MS, epoch)
    send(uri)
    assert len(rows(uri, "select * from runs")) == 2  # the parent and one trial: nothing was thrown away
    assert [run.info.run_name for run in trial_runs(uri)] == ["centered relu seed 3"]
    assert len(points(uri)) == WHOLE


def test_a_lost_trial_that_is_trained_again_becomes_complete(uri: str) -> None:
    sender = mirror(uri)
    sender.outcome(*done(status="lost", metrics={}, epochs=(), reason="worker killed"))
    sender.epoch(trial(), ARM, START_MS, epochs()[0])
    assert sender.outcome(*done())
    (run,) = trial_runs(uri)
    assert (run.info.status, run.data.tags["outcome"], run.data.tags["reason"]) == ("FINISHED", "complete", "")


def test_outcome_cut_off_by_a_crash_leaves_none_of_its_numbers(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as crash, suppress(KeyboardInterrupt):
        crash.setattr(MlflowClient, "set_terminated", Mock(side_effect=KeyboardInterrupt))
        send(uri, epochs=(), started_ms=START_MS - 60_000)
    send(uri)
    assert [row[3] for row in points(uri) if row[1] == "test_accuracy"] == [START_MS + 3250]


def test_settle_ends_what_nobody_runs(uri: str) -> None:
    sender = mirror(uri)
    sender.epoch(trial(1), ARM, START_MS, epochs()[0])
    sender.outcome(*done(2))
    sender.settle()
    assert {row[2] for row in active_runs(uri)} == {"KILLED", "FINISHED"}
    send(uri, 1)
    assert {run.info.status for run in trial_runs(uri)} == {"FINISHED"}


def test_runs_begin_and_end_with_their_trials_however_late_they_are_sent(uri: str) -> None:
    sender = mirror(uri)
    sender.started_ms = START_MS - 10_000
    sender.epoch(trial(1), ARM, START_MS + 20, *epochs(1))  # a worker's clock starts before its trainer's
    sender.epoch(trial(2), ARM, START_MS - 60_000, *epochs(1))  # of an attempt that was lost
    live = {run.data.tags["seed"]: run.info.run_id for run in trial_runs(uri)}
    for seed in (1, 2, 3):
        sender.outcome(*done(seed))
    sender.verdicts(("note", "note"), {}, [], {}, START_MS + 5000)
    ended = {run.data.tags["seed"]: run.info for run in trial_runs(uri)}
    assert {seed: info.start_time - START_MS for seed, info in ended.items()} == {"1": 20, "2": 0, "3": 0}
    assert {info.end_time for info in ended.values()} == {START_MS + 3250}
    assert [ended[seed].run_id == live[seed] for seed in ("1", "2")] == [True, False]
    (parent,) = MlflowClient(tracking_uri=uri).search_runs(["1"], "tags.kind = 'sweep'")
    assert (parent.info.start_time, parent.info.end_time) == (START_MS - 10_000, START_MS + 5000)


def test_sync_gives_runs_of_an_older_version_their_times_and_keeps_what_people_wrote(uri: str) -> None:
    sender, client = mirror(uri), MlflowClient(tracking_uri=uri)
    for seed in (1, 2):
        sender.epoch(trial(seed), ARM, START_MS + 3000, *epochs())  # began at its first epoch, as runs once did
        (run,) = (each for each in trial_runs(uri) if each.data.tags["seed"] == str(seed))
        client.set_tag(run.info.run_id, "looked at", "by me")
        stored = run_format.as_stored(run.info.run_id, outcome(trial(seed)))
        client.log_batch(run.info.run_id, run_format.all_metrics(outcome(trial(seed))))
        client.set_tag(run.info.run_id, "outcome", "complete")
        client.set_terminated(run.info.run_id, "FINISHED", stored.ended_ms)
    client.create_registered_model("winner")
    client.create_model_version("winner", "source", run.info.run_id)
    again = mirror(uri, tags={"git_commit": "of a later version"})
    assert [again.outcome(*done(seed)) for seed in (1, 2)] == [True, True]
    assert {each.data.tags["git_commit"] for each in trial_runs(uri)} == {"abc123"}
    assert not again.outcome(*done(2))
    assert run.info.run_id in {each.info.run_id for each in trial_runs(uri)}  # what a model came from stays
    assert {run.data.tags["seed"]: run.info.start_time for run in trial_runs(uri)} == {
        "1": START_MS,
        "2": START_MS + 3000,
    }
    assert {run.data.tags["looked at"] for run in trial_runs(uri)} == {"by me"}


def test_a_parent_of_another_start_is_made_again_with_what_people_wrote(uri: str) -> None:
    mirror(uri).open()
    client = MlflowClient(tracking_uri=uri)
    client.set_tag(client.search_runs(["1"])[0].info.run_id, "looked at", "by me")
    send(uri)
    again = mirror(uri)
    again.started_ms = START_MS
    again.open()
    (parent,) = client.search_runs(["1"], "tags.kind = 'sweep'")
    assert (parent.info.start_time, parent.data.tags["looked at"]) == (START_MS, "by me")
    assert trial_runs(uri)[0].data.tags["mlflow.parentRunId"] == parent.info.run_id
