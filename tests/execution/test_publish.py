"""What stands on the parent run of a real MLflow server: the page, the bundle with its digest, the note."""

from pathlib import Path

import pytest
from ledger_records import recorded
from mlflow import MlflowClient
from mlflow_helpers import free_port, new_home
from mlflow_stub import mlflow_server
from sweep_runs import small

from mnist_ablate.execution import recorded_report
from mnist_ablate.verification.bundle_check import check

pytestmark = pytest.mark.service


def test_page_bundle_and_note_are_on_the_parent_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    settings = recorded(tmp_path / "home", small(seeds=7, negative_control="baseline"))
    with mlflow_server(new_home(tmp_path / "server"), int(server.rpartition(":")[2])):
        for sent in (21, 0):  # the second time everything is replaced by the same
            assert recorded_report.sync("small", settings) == (sent, 21, "")
        check_parent(server, tmp_path)


def check_parent(server: str, folder: Path) -> None:
    client = MlflowClient(tracking_uri=server)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], "tags.kind = 'sweep'")
    note = parent.data.tags["mlflow.note.content"]
    assert note.startswith("1 claim: ")
    assert experiment.tags["mlflow.note.content"].startswith("1 claim: ")
    assert "Does tanh hurt?" in note
    assert "| claim | verdict |" in note
    run_id = parent.info.run_id
    assert sorted(file.path for file in client.list_artifacts(run_id)) == [
        *("bundle.zip", "report.html", "sweep.yaml", "trials.csv", "verdicts.png")
    ]
    page = Path(client.download_artifacts(run_id, "report.html", str(folder))).read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "Does tanh hurt?" in page
    checked = check(Path(client.download_artifacts(run_id, "bundle.zip", str(folder))))
    assert checked.problems == []
    assert parent.data.tags["bundle_digest"] == checked.digest
