"""The mirror against MLflow's own embedded store: what arrives, and that nothing arrives twice."""

import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
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

from mnist_ablate.tracking.mirror import Mirror
from mnist_ablate.trial import Epoch

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's tables, SQLAlchemy 2.1


def test_modules_import_neither_mlflow_nor_keras() -> None:
    code = """import sys; from mnist_ablate.tracking import mirror, uploader, web_ui
assert not {"mlflow", "keras", "tensorflow", "sqlalchemy"} & set(sys.modules)"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_opening_twice_makes_one_experiment_and_one_parent(uri: str) -> None:
    for _ in range(2):
        again = mirror(uri)
        again.open()
        again.open()
    assert active_runs(uri) == [("sweep", "", "RUNNING")]
    assert rows(uri, "select name from experiments") == [("Default",), ("normalization",)]


def test_outcome_arrives_whole(uri: str) -> None:
    sender = mirror(uri)
    assert sender.outcome(trial(), ARM, outcome(trial()))
    (run,) = trial_runs(uri)
    assert run.info.run_name == "centered relu seed 3"
    assert (run.info.status, run.info.start_time, run.info.end_time) == ("FINISHED", START_MS, START_MS + 3250)
    told = {
        key: value for key, value in trial().settings.items() if key != "weights"
    }  # this network has no frozen base
    assert run.data.params == {**{k: str(v) for k, v in told.items()}, "seed": "3"}
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
    tags = run.data.tags
    assert (tags["trial_id"], tags["seed"], tags["outcome"], tags["arm"]) == (
        trial().id,
        "3",
        "complete",
        "centered relu",
    )
    assert (tags["data_digest"], tags["git_commit"], tags["sweep_digest"]) == ("d1" * 32, "abc123", DIGEST)
    assert "mlflow.parentRunId" in tags
    assert not {"mlflow.source.name", "mlflow.source.git.commit"} & set(tags)
    curve = mirror(uri).history(mirror(uri).stored()[trial().id])["val_accuracy"]
    assert curve == [(number, START_MS + number * 1000, 0.91) for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("status", "shown"),
    [("complete", "FINISHED"), ("diverged", "FINISHED"), ("failed", "FAILED"), ("lost", "KILLED")],
)
def test_status_and_reason_are_told(uri: str, status: str, shown: str) -> None:
    mirror(uri).outcome(trial(), ARM, outcome(trial(), status, reason="because"))
    (run,) = trial_runs(uri)
    assert (run.info.status, run.data.tags["outcome"], run.data.tags["reason"]) == (shown, status, "because")


def test_a_trial_that_never_started_has_an_end(uri: str) -> None:
    never = outcome(trial(), "lost", metrics={}, diagnostics={}, epochs=(), started_ms=0, seconds=0.0)
    mirror(uri).outcome(trial(), ARM, never)
    (run,) = trial_runs(uri)
    assert run.info.end_time >= run.info.start_time > START_MS


def test_sending_again_changes_nothing(uri: str) -> None:
    first = mirror(uri)
    first.outcome(trial(), ARM, outcome(trial()))
    before = (points(uri), active_runs(uri), rows(uri, "select * from tags"), rows(uri, "select * from runs"))
    assert not first.outcome(trial(), ARM, outcome(trial()))
    assert not mirror(uri).outcome(trial(), ARM, outcome(trial()))
    assert (points(uri), active_runs(uri), rows(uri, "select * from tags"), rows(uri, "select * from runs")) == before


def test_outcome_repeats_live_epochs_without_a_second_point(uri: str) -> None:
    plain, live = mirror(uri, "plain"), mirror(uri)
    plain.outcome(trial(), ARM, outcome(trial()))
    expected = points(uri)
    mirror(uri, "plain")  # the same sweep under another name: what both hold must be equal
    for epoch in epochs():
        live.epoch(trial(), epoch)
    live.outcome(trial(), ARM, outcome(trial()))
    assert points(uri) == sorted(expected * 2)
    assert [run.info.run_name for run in trial_runs(uri)] == ["centered relu seed 3"]


def test_nothing_infinite_is_stored(uri: str) -> None:
    bad = Epoch(
        number=1,
        train_loss=float("nan"),
        train_accuracy=0.1,
        val_loss=float("inf"),
        val_accuracy=0.1,
        ended_ms=START_MS,
    )
    sender = mirror(uri)
    sender.epoch(trial(), bad)
    sender.outcome(trial(), ARM, outcome(trial(), "diverged", epochs=(bad,)))
    assert not sender.outcome(trial(), ARM, outcome(trial(), "diverged", epochs=(bad,)))
    stored = rows(uri, "select key, value, is_nan from metrics")
    assert {"train_loss", "val_loss"}.isdisjoint(row[0] for row in stored)
    assert all(abs(row[1]) < 1e6 and not row[2] for row in stored)


def test_long_runs_are_sent_in_several_batches(uri: str) -> None:
    sender = mirror(uri)
    sender.outcome(trial(), ARM, outcome(trial(), epochs=epochs(300), seconds=301.0))
    assert len(points(uri)) == 300 * 4 + 4
    assert not mirror(uri).outcome(trial(), ARM, outcome(trial(), epochs=epochs(300), seconds=301.0))


def test_verdicts_stand_on_top_and_are_said_once(uri: str, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("<p>refuted</p>")
    for _ in range(2):
        sender = mirror(uri)
        sender.verdicts("**refuted**", {"claim/effect": -0.01, "claim/p_value": float("nan")}, [report])
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("normalization")
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id])
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["mlflow.note.content"] == "**refuted**" == experiment.tags["mlflow.note.content"]
    assert rows(uri, "select key, value from metrics") == [("claim/effect", -0.01)]
    assert [file.path for file in client.list_artifacts(parent.info.run_id)] == ["report.html"]
    stored = list((tmp_path / "home" / "mlartifacts").rglob("report.html"))
    assert [path.read_text() for path in stored] == ["<p>refuted</p>"]


def test_note_longer_than_mlflow_takes_is_cut_at_a_line(uri: str) -> None:
    mirror(uri).verdicts("| row | of | table |\n" * 1000, {}, [])
    (note,) = rows(uri, "select value from experiment_tags where key = 'mlflow.note.content'")
    assert len(str(note[0])) <= 5000
    assert str(note[0]).endswith("table |\n\n(cut: the whole report is among the artifacts)")


def test_description_of_an_experiment_that_is_not_ours_stays(uri: str) -> None:
    client = MlflowClient(tracking_uri=uri)
    made = client.create_experiment("normalization", tags={"mlflow.note.content": "mine"})
    sender = mirror(uri)
    sender.verdicts("theirs", {}, [])
    assert client.get_experiment(made).tags == {"mlflow.note.content": "mine"}


def test_stored_changes_nothing(uri: str) -> None:
    reader = mirror(uri)
    assert reader.stored() == {}
    assert rows(uri, "select name from experiments") == [("Default",)]
    assert reader.link == ""


def test_stored_tells_status_outcome_and_numbers(uri: str) -> None:
    mirror(uri).outcome(trial(), ARM, outcome(trial(), "diverged"))
    stored = mirror(uri).stored()[trial().id]
    assert (stored.status, stored.outcome, stored.finished, stored.copies) == ("FINISHED", "diverged", True, 1)
    assert stored.metrics["test_accuracy"] == 0.97


def test_more_runs_than_a_page_holds_are_all_found(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = mirror(uri)
    for seed in range(5):
        sender.outcome(trial(seed), ARM, outcome(trial(seed)))
    real = MlflowClient.search_runs
    monkeypatch.setattr(MlflowClient, "search_runs", lambda *args, **kwargs: real(*args, **kwargs, max_results=2))
    assert len(mirror(uri).stored()) == 5


def test_another_digest_is_another_sweep(uri: str) -> None:
    mirror(uri).outcome(trial(), ARM, outcome(trial()))
    other = Mirror(uri, "normalization", "cd" * 32, "?", {})
    assert other.stored() == {}
    assert other.outcome(trial(), ARM, outcome(trial()))
    assert len(trial_runs(uri)) == 2


def test_link_opens_training_runs_sorted_by_accuracy(uri: str) -> None:
    sender = mirror(uri)
    sender.open()
    assert sender.link.startswith("http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning&")
    assert "metrics.%60test_accuracy%60&orderByAsc=false" in sender.link


def test_no_secret_reaches_the_store(uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPTUNA_DB_PASSWORD", "canary-in-the-environment")
    leak = "postgresql+psycopg2://me:canary-in-a-uri@db/x canary-in-the-environment"
    sender = mirror(uri, tags={"command": leak})
    sender.outcome(trial(), ARM, outcome(trial(), "failed", reason=leak, worker=leak))
    sender.verdicts(leak, {}, [])
    assert b"canary" not in (tmp_path / "home" / "mlflow.db").read_bytes()
