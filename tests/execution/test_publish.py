"""What stands on the parent run of a real MLflow server: the page, the bundle with its digest, the note."""

from collections.abc import Iterator
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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    store, port = new_home(tmp_path_factory.mktemp("server")), free_port()
    with mlflow_server(store, port):
        yield f"http://127.0.0.1:{port}"


def test_page_bundle_and_note_are_on_the_parent_run(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    settings = recorded(tmp_path / "home", small(seeds=7, negative_control="baseline"))
    for sent in (21, 0):  # the second time everything is replaced by the same
        assert recorded_report.sync("small", settings) == (sent, 21)
    client = MlflowClient(tracking_uri=server)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], "tags.kind = 'sweep'")
    note = parent.data.tags["mlflow.note.content"]
    assert note == experiment.tags["mlflow.note.content"]
    assert note.startswith("# Does tanh hurt?")
    assert "| claim | verdict |" in note
    run_id = parent.info.run_id
    assert sorted(file.path for file in client.list_artifacts(run_id)) == ["bundle.zip", "report.html"]
    page = Path(client.download_artifacts(run_id, "report.html", str(tmp_path))).read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "Does tanh hurt?" in page
    checked = check(Path(client.download_artifacts(run_id, "bundle.zip", str(tmp_path))))
    assert checked.problems == []
    assert parent.data.tags["bundle_digest"] == checked.digest
