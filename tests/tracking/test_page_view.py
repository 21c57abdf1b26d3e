"""The view of a sweep: what it says, whose it is, and what becomes of it where it cannot be kept."""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow_helpers import DIGEST, START_MS, mirror
from sweep_runs import small

from mnist_ablate.cli import records
from mnist_ablate.execution import recorded_report
from mnist_ablate.sweep.plan import make_plan
from mnist_ablate.tracking import mirror as mirror_module
from mnist_ablate.tracking import page_view
from mnist_ablate.tracking.mirror import Mirror
from mnist_ablate.tracking.page_view import TAG, PageView

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's tables, SQLAlchemy 2.1
CLAIM: dict[str, Any] = {"name": "slow", "statement": "Tanh is slow.", "treatment": {"activation": "tanh"}}
CLAIM |= {"control": {"activation": "relu"}, "direction": "higher", "metric": "epochs_to_90", "margin": 1}
SHARED = f"viewStateShareKey={page_view.KEY}"
PLAIN = "orderByKey=metrics.%60test_accuracy%60&orderByAsc=false"


def view(**changes: Any) -> PageView:
    return page_view.page_view(make_plan(small(**changes), "d1" * 32), DIGEST, START_MS)


def viewing(uri: str, **changes: Any) -> Mirror:
    made = mirror(uri)
    made.view = view(**changes)
    return made


def told(tag: str) -> dict[str, Any]:
    """What MLflow's page would read."""
    kind, _, packed = json.loads(tag)["state"].partition(";")
    assert kind == "deflate"
    return dict(json.loads(zlib.decompress(base64.b64decode(packed))))


def test_view_groups_by_arm_and_begins_with_the_metric_then_its_curve_then_what_else_is_claimed() -> None:
    state = told(view(claims=[*small().claims, CLAIM]).tag)
    assert state["groupBy"] == {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "arm"}]}
    assert state["groupsExpanded"] == {"tag.arm.relu": False, "tag.arm.tanh": False}
    charts = [(chart["type"], chart["metricKey"]) for chart in state["compareRunCharts"]]
    assert charts == [("BAR", "test_accuracy"), ("LINE", "val_accuracy"), ("BAR", "epochs_to_90")]
    sections = {section["uuid"]: section["display"] for section in state["compareRunSections"]}
    assert sections == {"arms": True, "curves": True, "claims": True, "Model metrics": False, "diagnostics": False}
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`test_accuracy`", False)
    assert state["searchFilter"] == f"tags.stage = 'verdict' AND tags.sweep_digest LIKE '{DIGEST[:12]}%'"


def test_of_more_runs_than_the_page_loads_each_arm_shows_its_first_seeds() -> None:
    state = view(seeds=51).state
    assert (state["orderByKey"], state["orderByAsc"]) == ("attributes.start_time", True)


def test_one_epoch_has_no_curve_and_a_search_no_groups() -> None:
    assert [chart["type"] for chart in view(fixed={"epochs": 1}).state["compareRunCharts"]] == ["BAR"]
    searched = view(design="search", baseline={"activation": "relu"}, tuning_trials=4, claims=[]).state
    assert searched["groupBy"] is None
    assert searched["searchFilter"].startswith("tags.stage = 'tuning'")


def test_view_is_written_once_and_follows_the_sweep_but_a_person_s_stays(uri: str) -> None:
    client = MlflowClient(tracking_uri=uri)
    for changes in ({}, {}, {"seeds": 51}):
        made = viewing(uri, **changes)
        made.open()
        assert SHARED in made.link
        assert client.get_experiment("1").tags[TAG] == view(**changes).tag
    saved = {key: value for key, value in json.loads(view().tag).items() if key != "by"}  # as MLflow's page saves it
    client.set_experiment_tag("1", TAG, json.dumps(saved))
    made = viewing(uri)
    made.open()
    assert (SHARED in made.link, json.loads(client.get_experiment("1").tags[TAG])) == (True, saved)


def test_of_an_experiment_of_others_no_tag_is_touched(uri: str) -> None:
    client = MlflowClient(tracking_uri=uri)
    client.create_experiment("normalization", tags={"mlflow.note.content": "mine"})
    made = viewing(uri)
    made.open()
    assert (PLAIN in made.link, client.get_experiment("1").tags) == (True, {"mlflow.note.content": "mine"})


@pytest.mark.parametrize("version", ["2.22.0", "3.16.1", "4.0.0"])
def test_page_of_another_version_gets_the_plain_link(uri: str, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(mirror_module, "server_version", lambda _uri: version)
    made = viewing(uri)
    made.open()
    assert PLAIN in made.link
    assert made.notice.endswith(f": its version is {version}, views are known of 3.17 to 3.99")
    assert TAG not in MlflowClient(tracking_uri=uri).get_experiment("1").tags


def test_a_view_that_is_too_long_or_refused_is_told_in_a_line_and_the_sweep_goes_on(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = viewing(uri)
    made.view = PageView("x" * page_view.LONGEST, 0, {})
    made.open()
    assert PLAIN in made.link
    assert made.notice.startswith("MLflow's page shows all runs, not the view of the sweep: a view of 5,")

    def refuse(*_: object) -> None:
        raise MlflowException("not yours", error_code=PERMISSION_DENIED)

    monkeypatch.setattr(MlflowClient, "set_experiment_tag", refuse)
    made = viewing(uri)
    made.open()
    assert PLAIN in made.link
    assert "\n" not in made.notice


def test_sync_says_in_a_line_that_the_page_does_not_show_the_view(
    uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(mirror_module, "server_version", lambda _uri: "2.22.0")
    made = viewing(uri)
    made.open()
    monkeypatch.setattr(recorded_report, "sync", lambda *_: (0, 6, made.notice))
    records.sync("small", home=tmp_path)
    told = capsys.readouterr()
    assert told.out == "small: MLflow has all 6 trials (0 sent now)\n"
    assert told.err == f"small: {made.notice}\n"
    assert made.notice


def test_every_column_fits_a_page_of_1500_pixels() -> None:
    state = view().state
    assert "tags.`arm`" not in state["selectedColumns"]  # empty beside a group, whose name it is
    shown = [*state["columnWidths"].values(), 150, 90]  # when it was made, which is there if runs are sorted by it
    assert sum(shown) < 1500 - 280  # what stands on the left of the table
