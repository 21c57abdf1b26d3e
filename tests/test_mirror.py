"""The mirror against MLflow's own embedded store: what arrives, and that nothing arrives twice."""

import subprocess
import sys
from collections.abc import Callable, Iterator
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
)

from mnist_ablate import embedded
from mnist_ablate.errors import UnreachableError
from mnist_ablate.mirror import Mirror
from mnist_ablate.trial import Epoch

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's tables, SQLAlchemy 2.1


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store, made once: MLflow takes seconds for it."""
    home = tmp_path_factory.mktemp("template")
    embedded.create(embedded.uri(home))
    return home / "mlflow.db"


@pytest.fixture
def uri(template: Path, tmp_path: Path) -> str:
    return new_home(template, tmp_path / "home")


def runs_of(uri: str) -> list[object]:
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("normalization")
    assert experiment is not None
    return [run for run in client.search_runs([experiment.experiment_id]) if run.data.tags["kind"] == "trial"]


def test_modules_import_neither_mlflow_nor_keras() -> None:
    code = """import sys; from mnist_ablate import mirror, uploader, ui
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
    (run,) = runs_of(uri)
    assert run.info.run_name == "centered relu seed 3"
    assert (run.info.status, run.info.start_time, run.info.end_time) == ("FINISHED", START_MS, START_MS + 3250)
    assert run.data.params == {**{k: str(v) for k, v in trial().recipe.model_dump().items()}, "seed": "3"}
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
    assert (tags["trial_id"], tags["seed"], tags["outcome"], tags["arm"]) == (trial().id, "3", "complete", "centered relu")
    assert (tags["data_digest"], tags["git_commit"], tags["sweep_digest"]) == ("d1" * 32, "abc123", DIGEST)
    assert "mlflow.parentRunId" in tags
    assert not {"mlflow.source.name", "mlflow.source.git.commit"} & set(tags)
    curve = sender.history(run.info.run_id)["val_accuracy"]
    assert curve == [(number, START_MS + number * 1000, 0.91) for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("status", "shown"),
    [("complete", "FINISHED"), ("diverged", "FINISHED"), ("failed", "FAILED"), ("lost", "KILLED")],
)
def test_status_and_reason_are_told(uri: str, status: str, shown: str) -> None:
    mirror(uri).outcome(trial(), ARM, outcome(trial(), status, reason="because"))
    (run,) = runs_of(uri)
    assert (run.info.status, run.data.tags["outcome"], run.data.tags["reason"]) == (shown, status, "because")


def test_a_trial_that_never_started_has_an_end(uri: str) -> None:
    never = outcome(trial(), "lost", metrics={}, diagnostics={}, epochs=(), started_ms=0, seconds=0.0)
    mirror(uri).outcome(trial(), ARM, never)
    (run,) = runs_of(uri)
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
    assert [run.info.run_name for run in runs_of(uri)] == ["centered relu seed 3"]


def test_another_attempt_leaves_only_its_own_points(uri: str) -> None:
    sender = mirror(uri)
    sender.epoch(trial(), *epochs(2, START_MS - 60_000))
    for epoch in epochs():
        sender.epoch(trial(), epoch)
    sender.outcome(trial(), ARM, outcome(trial()))
    assert {row[3] for row in points(uri)} == {START_MS + 1000, START_MS + 2000, START_MS + 3000, START_MS + 3250}
    assert len(runs_of(uri)) == 1


@pytest.mark.parametrize("live_again", [True, False])
def test_attempt_of_a_killed_driver_is_replaced(uri: str, live_again: bool) -> None:  # noqa: FBT001
    mirror(uri).epoch(trial(), *epochs(2, START_MS - 60_000))
    after = mirror(uri)
    if live_again:
        after.epoch(trial(), epochs()[0])
    after.outcome(trial(), ARM, outcome(trial()))
    assert min(row[3] for row in points(uri)) == START_MS + 1000
    assert len(runs_of(uri)) == 1


def test_run_of_a_killed_driver_is_continued_where_it_fits(uri: str) -> None:
    mirror(uri).epoch(trial(), epochs()[0])
    mirror(uri).outcome(trial(), ARM, outcome(trial()))
    assert len(rows(uri, "select * from runs")) == 2  # the parent and one trial: nothing was thrown away


def test_a_lost_trial_that_is_trained_again_becomes_complete(uri: str) -> None:
    sender = mirror(uri)
    sender.outcome(trial(), ARM, outcome(trial(), "lost", metrics={}, epochs=(), reason="worker killed"))
    sender.epoch(trial(), epochs()[0])
    assert sender.outcome(trial(), ARM, outcome(trial()))
    (run,) = runs_of(uri)
    assert (run.info.status, run.data.tags["outcome"], run.data.tags["reason"]) == ("FINISHED", "complete", "")


def test_nothing_infinite_is_stored(uri: str) -> None:
    bad = Epoch(
        number=1, train_loss=float("nan"), train_accuracy=0.1, val_loss=float("inf"), val_accuracy=0.1, ended_ms=START_MS
    )
    sender = mirror(uri)
    sender.epoch(trial(), bad)
    sender.outcome(trial(), ARM, outcome(trial(), "diverged", epochs=(bad,)))
    assert not sender.outcome(trial(), ARM, outcome(trial(), "diverged", epochs=(bad,)))
    stored = rows(uri, "select key, value, is_nan from metrics")
    assert {"train_loss", "val_loss"}.isdisjoint(row[0] for row in stored)
    assert all(abs(row[1]) < 1e6 and not row[2] for row in stored)  # type: ignore[arg-type]


def test_long_runs_are_sent_in_several_batches(uri: str) -> None:
    sender = mirror(uri)
    sender.outcome(trial(), ARM, outcome(trial(), epochs=epochs(300), seconds=301.0))
    assert len(points(uri)) == 300 * 4 + 4
    assert not mirror(uri).outcome(trial(), ARM, outcome(trial(), epochs=epochs(300), seconds=301.0))


@pytest.fixture
def losing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
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


@pytest.mark.parametrize("method", ["create_experiment", "create_run", "log_batch", "set_terminated"])
@pytest.mark.parametrize("live", [False, True])
def test_lost_reply_leaves_one_run_and_one_row_per_point(
    uri: str, losing: Callable[[str], None], method: str, live: bool  # noqa: FBT001
) -> None:
    sender = mirror(uri)
    actions = [lambda: sender.epoch(trial(), *epochs()[:2])] if live else []
    actions += [sender.open, lambda: sender.outcome(trial(), ARM, outcome(trial()))]
    for action in actions:
        losing(method)
        for _ in range(4):
            try:
                action()
            except UnreachableError as error:
                assert "does not answer" in str(error)
            else:
                break
    assert [row[:2] for row in active_runs(uri)] == [("sweep", ""), ("trial", trial().id)]
    assert len(points(uri)) == 3 * 4 + 4


def test_run_created_late_by_a_hung_request_is_removed(uri: str) -> None:
    sender = mirror(uri)
    sender.outcome(trial(), ARM, outcome(trial()))
    client = MlflowClient(tracking_uri=uri)
    (run,) = runs_of(uri)
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
    for run in client.search_runs([runs_of(uri)[0].info.experiment_id]):
        client.delete_run(run.info.run_id)
    again = mirror(uri)
    assert again.stored() == {}
    assert again.outcome(trial(), ARM, outcome(trial()))
    assert not again.outcome(trial(), ARM, outcome(trial()))
    assert points(uri) == expected


def test_runs_follow_a_parent_that_had_to_be_made_again(uri: str) -> None:
    mirror(uri).outcome(trial(), ARM, outcome(trial()))
    client = MlflowClient(tracking_uri=uri)
    (run,) = runs_of(uri)
    client.delete_run(run.data.tags["mlflow.parentRunId"])
    mirror(uri).open()
    parent = client.get_run(runs_of(uri)[0].data.tags["mlflow.parentRunId"])
    assert (parent.info.lifecycle_stage, parent.data.tags["kind"]) == ("active", "sweep")


def test_run_deleted_while_it_trains_is_made_again(uri: str) -> None:
    sender = mirror(uri)
    sender.epoch(trial(), epochs()[0])
    MlflowClient(tracking_uri=uri).delete_run(runs_of(uri)[0].info.run_id)
    sender.epoch(trial(), epochs()[1])
    sender.outcome(trial(), ARM, outcome(trial()))
    assert len(points(uri)) == 3 * 4 + 4


def test_deleted_experiment_is_restored(uri: str) -> None:
    sender = mirror(uri)
    sender.outcome(trial(), ARM, outcome(trial()))
    client = MlflowClient(tracking_uri=uri)
    client.delete_experiment(runs_of(uri)[0].info.experiment_id)
    assert mirror(uri).stored() == {}
    assert sender.outcome(trial(4), ARM, outcome(trial(4)))  # the same mirror finds out by being refused
    again = mirror(uri)
    again.outcome(trial(), ARM, outcome(trial()))
    assert set(again.stored()) == {trial().id, trial(4).id}
    assert rows(uri, "select name, lifecycle_stage from experiments")[1] == ("normalization", "active")


def test_wiped_store_is_rebuilt_from_the_ledger(template: Path, tmp_path: Path) -> None:
    before, after = new_home(template, tmp_path / "before"), new_home(template, tmp_path / "after")
    for uri in (before, after):
        sender = mirror(uri)
        for seed in (1, 2):
            sender.outcome(trial(seed), ARM, outcome(trial(seed)))
        sender.verdicts("# Verdict", {"claim/effect": -0.01}, [])
    assert points(before) == points(after)
    assert active_runs(before) == active_runs(after)


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


def test_settle_ends_what_nobody_runs(uri: str) -> None:
    sender = mirror(uri)
    sender.epoch(trial(1), epochs()[0])
    sender.outcome(trial(2), ARM, outcome(trial(2)))
    sender.settle()
    assert {row[2] for row in active_runs(uri)} == {"KILLED", "FINISHED"}
    after = mirror(uri)
    after.outcome(trial(1), ARM, outcome(trial(1)))
    assert {run.info.status for run in runs_of(uri)} == {"FINISHED"}


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
    assert len(runs_of(uri)) == 2


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
