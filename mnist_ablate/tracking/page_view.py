"""The view of a sweep on MLflow's page: its arms as groups, and which charts and columns come first. Sends nothing.

It is what the page of MLflow 3.17 itself writes when a person saves a view: a tag of the experiment, which an address
names. The page fills in what a view leaves out.
"""

import base64
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnist_ablate.sweep.plan import Plan
from mnist_ablate.tracking.run_format import arm_name
from mnist_ablate.workloads.workload import epochs_of

KEY = "mnist-ablate"
TAG = f"mlflow.sharedViewState.{KEY}"
LONGEST = 5000  # characters that MLflow takes as a tag of an experiment
_MARK = "by"  # MLflow drops it when a person saves the view again: it is theirs then
_PAGE = 100  # runs that MLflow's page loads at first
_KNOWN = re.compile(r"3\.(1[7-9]|[2-9]\d)\.")


@dataclass(frozen=True)
class PageView:
    """What the page of a sweep shows first: `state` in MLflow's words, `since_ms` when the sweep began."""

    name: str
    since_ms: int
    state: Mapping[str, Any]

    @property
    def tag(self) -> str:
        """The value of the tag. Raises ValueError if MLflow would not take it."""
        packed = base64.b64encode(zlib.compress(json.dumps(self.state, separators=(",", ":")).encode(), 9)).decode()
        times = {"createdAt": self.since_ms, "updatedAt": self.since_ms}
        text = json.dumps({"name": self.name, **times, "state": f"deflate;{packed}", _MARK: KEY})
        if len(text) > LONGEST:
            raise ValueError(f"a view of {len(text):,} characters, MLflow takes {LONGEST:,}")
        return text


def is_known(version: str) -> bool:
    """Whether the page of this MLflow knows such views."""
    return _KNOWN.match(version) is not None


def is_ours(tag: str | None) -> bool:
    """Whether a view may be written over: there is none, or no person has saved it since we wrote it."""
    try:
        return tag is None or json.loads(tag).get(_MARK) == KEY
    except (ValueError, AttributeError):
        return False


def page_view(plan: Plan, digest: str, since_ms: int) -> PageView:
    """The view of a sweep, whose runs have this digest as a tag."""
    sweep, workload = plan.sweep, plan.sweep.workload
    is_search = sweep.design == "search"
    claimed = [*dict.fromkeys(claim.metric for claim in sweep.claims)]
    main = workload.selection_metric if is_search else next(iter(claimed), workload.main_metric)
    curve = _curve(plan)
    arms = [arm_name(arm.params, 0) for arm in plan.arms]
    trials = len(arms) * sweep.min_seeds
    # Of more runs than the page loads at first, each arm's first seeds are there: they train in this order.
    by_metric = is_search or trials <= _PAGE
    stage = "tuning" if is_search else "verdict"
    sections = [
        _section("arms", f"{main} {'of each trial' if is_search else 'by arm'}", columns=1),
        _section("curves", "epoch by epoch", columns=1),
        _section("claims", "what else the claims compare"),
        _section("Model metrics", "Model metrics", is_open=False),
        _section("diagnostics", "diagnostics", is_open=False),
    ]
    charts = [_chart("BAR", main, "arms", runsCountToCompare=max(20, len(arms)))]
    charts += [_chart("LINE", curve, "curves", **_LINE)] if curve else []
    charts += [_chart("BAR", metric, "claims") for metric in claimed if metric not in (main, curve)]
    shown = {chart["metricSectionId"] for chart in charts} | {"Model metrics", "diagnostics"}
    state = {
        "searchFilter": f"tags.stage = '{stage}' AND tags.sweep_digest LIKE '{digest[:12]}%'",
        "orderByKey": f"metrics.`{main}`" if by_metric else "attributes.start_time",
        "orderByAsc": not by_metric or sweep.metric(main).better == "lower",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": _columns(main),
        "columnOrder": [*_COLUMN_WIDTHS, *_columns(main), "duration"],
        "columnWidths": {
            **_COLUMN_WIDTHS,
            **dict.fromkeys(_columns(main), 110),
            f"metrics.`{main}`": 190,
            "duration": 90,
        },
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": charts,
        "compareRunSections": [section for section in sections if section["uuid"] in shown],
        "isAccordionReordered": True,
        "groupBy": None
        if is_search
        else {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "arm"}]},
        "groupsExpanded": {} if is_search else {f"tag.arm.{arm}": False for arm in arms},
    }
    return PageView(f"{sweep.name}: arms and claims", since_ms, state)


_COLUMN_WIDTHS = {"1": 40, "attributes.`Run Name`": 240}
"""Of the columns that the page always has: a box to select a run, and its name."""
_LINE = {
    "lineSmoothness": 0,
    "xAxisScaleType": "linear",
    "scaleType": "linear",
    "range": {},
    "xAxisKey": "step",
    "selectedXAxisMetricKey": "",
    "yAxisKey": "metric",
    "yAxisExpressions": [],
    "ignoreOutliers": False,
    "useGlobalXaxisKey": True,
    "useGlobalLineSmoothing": True,
}


def _curve(plan: Plan) -> str:
    """The metric that is drawn epoch by epoch; empty if trials have one epoch, or none is known to be reported so."""
    workload = plan.sweep.workload
    per_epoch = [metric.name for metric in workload.metrics.values() if metric.per_epoch]
    if all(epochs_of(workload, arm.settings) == 1 for arm in plan.arms):
        return ""
    return workload.selection_metric if workload.selection_metric in per_epoch else next(iter(per_epoch), "")


def _columns(main: str) -> Sequence[str]:
    """No arm: a group and the name of each run say it. The seed as a tag: of params a group shows an average."""
    return ("tags.`seed`", f"metrics.`{main}`", "tags.`outcome`", "tags.`data`")


def _section(ident: str, name: str, *, is_open: bool = True, columns: int = 3) -> dict[str, Any]:
    shape = {"columns": columns, "cardHeight": 420 if columns == 1 else 360}
    return {"uuid": ident, "name": name, "display": is_open, "isReordered": True, "deleted": False, **shape}


def _chart(kind: str, metric: str, section: str, **more: Any) -> dict[str, Any]:
    own = {"uuid": f"{section}-{metric}", "type": kind, "metricSectionId": section, "metricKey": metric}
    return {"runsCountToCompare": 10, "deleted": False, "isGenerated": False, "displayName": metric, **own, **more}
