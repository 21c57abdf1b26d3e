"""The MLflow runs of one sweep, found by our own tags or created: each trial's exactly once. Writes no numbers.

A lost reply can leave a run nobody knows of, and a request that hung can be carried out much later: so after
any failure everything is looked up again, and of several runs of one trial one is kept.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

SWEEP, KIND, DIGEST, TRIAL, OUTCOME = "sweep", "kind", "sweep_digest", "trial_id", "outcome"
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"
DELETED = "deleted"


@dataclass(frozen=True)
class StoredRun:
    """What MLflow holds of a trial: `status` is MLflow's word, `outcome` ours and empty while it trains."""

    trial_id: str
    run_id: str
    status: str = "RUNNING"
    outcome: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    parent_id: str = ""
    ended_ms: int | None = None
    copies: int = 1

    @property
    def finished(self) -> bool:
        """Everything was sent: the status goes last."""
        return self.status != "RUNNING" and bool(self.outcome)


@dataclass
class RunIndex:
    """What is known to be in MLflow of one sweep: its experiment, its parent run, the run of each trial.

    `shared` says that somebody else made the experiment and described it, which is left alone.
    """

    client: "MlflowClient"
    digest: str
    experiment_id: str
    shared: bool
    parent_id: str
    trials: dict[str, StoredRun]


def look_up(client: "MlflowClient", experiment: "Experiment", digest: str, run_tags: Mapping[str, str]) -> RunIndex:
    """Finds or creates the parent run, and leaves one run for each trial that has any."""
    experiment_id = str(experiment.experiment_id)
    parent_id = open_parent(client, experiment_id, digest, experiment.name, run_tags)
    shared = SWEEP not in experiment.tags and NOTE in experiment.tags
    trials = open_trials(client, experiment_id, digest, parent_id)
    return RunIndex(client, digest, experiment_id, shared, parent_id, trials)


def find_experiment(client: "MlflowClient", name: str) -> "Experiment | None":
    """The experiment of that name, deleted or not."""
    found: Experiment | None = client.get_experiment_by_name(name)
    return found


def open_experiment(client: "MlflowClient", name: str, artifacts: str | None) -> "Experiment":
    """The experiment of that name: as it is, restored if it was deleted, or created."""
    found = find_experiment(client, name)
    if found is None:
        # The second tag makes MLflow's page open on training runs, not on language models.
        tags = {SWEEP: name, "mlflow.experimentKind": "custom_model_development"}
        created: Experiment = client.get_experiment(client.create_experiment(name, artifacts, tags))
        return created
    if found.lifecycle_stage == DELETED:
        client.restore_experiment(found.experiment_id)
    return found


def open_parent(client: "MlflowClient", experiment_id: str, digest: str, name: str, tags: Mapping[str, str]) -> str:
    """The id of the run that stands for the sweep; of several the oldest stays."""
    found = _search(client, experiment_id, digest, "sweep")
    for ghost in found[1:]:
        client.delete_run(ghost.info.run_id)
    if not found:
        all_tags = {KIND: "sweep", DIGEST: digest, **tags}
        found = [client.create_run(experiment_id, tags=all_tags, run_name=name)]
    return str(found[0].info.run_id)


def open_trials(client: "MlflowClient", experiment_id: str, digest: str, parent_id: str) -> dict[str, StoredRun]:
    """The run of each trial that has one, a child of the parent; further runs of the same trial are deleted."""
    found = find_trials(client, experiment_id, digest)
    kept = by_trial(found)
    for run in found:
        if run.run_id != kept[run.trial_id].run_id:
            client.delete_run(run.run_id)
        elif run.parent_id != parent_id:
            client.set_tag(run.run_id, PARENT, parent_id)
    return kept


def find_trials(client: "MlflowClient", experiment_id: str, digest: str) -> list[StoredRun]:
    """All runs of the sweep's trials that are not deleted, finished ones first, then the oldest."""
    found = [_stored(run) for run in _search(client, experiment_id, digest, "trial")]
    return sorted(found, key=lambda run: not run.finished)


def create_trial(index: RunIndex, trial_id: str, started_ms: int, tags: Mapping[str, str]) -> str:
    """Makes the run of a trial that has none and returns its id; `started_ms` 0 means now."""
    own = {KIND: "trial", DIGEST: index.digest, TRIAL: trial_id, PARENT: index.parent_id}
    run_id = str(index.client.create_run(index.experiment_id, started_ms, {**tags, **own}).info.run_id)
    index.trials[trial_id] = StoredRun(trial_id, run_id)
    return run_id


def history(client: "MlflowClient", run: StoredRun) -> dict[str, list[tuple[int, int, float]]]:
    """Every point MLflow holds of a run, by metric: step, time in ms since 1970, value."""
    curves = {key: client.get_metric_history(run.run_id, key) for key in run.metrics}
    return {key: [(point.step, point.timestamp, point.value) for point in curve] for key, curve in curves.items()}


def by_trial(runs: Iterable[StoredRun]) -> dict[str, StoredRun]:
    """The first run of each trial, with the number of runs that claim to be it."""
    kept: dict[str, StoredRun] = {}
    for run in runs:
        first = kept.get(run.trial_id, replace(run, copies=0))
        kept[run.trial_id] = replace(first, copies=first.copies + 1)
    return kept


def _search(client: "MlflowClient", experiment_id: str, digest: str, kind: str) -> "list[Run]":
    query = f"tags.{KIND} = '{kind}' and tags.{DIGEST} = '{digest}'"
    runs: list[Run] = []
    page = client.search_runs([experiment_id], query, order_by=["start_time ASC"])
    runs.extend(page)
    while page.token:
        page = client.search_runs([experiment_id], query, order_by=["start_time ASC"], page_token=page.token)
        runs.extend(page)
    return runs


def _stored(run: "Run") -> StoredRun:
    tags = run.data.tags
    return StoredRun(
        trial_id=tags.get(TRIAL, ""),
        run_id=run.info.run_id,
        status=run.info.status,
        outcome=tags.get(OUTCOME, ""),
        metrics=run.data.metrics,
        parent_id=tags.get(PARENT, ""),
        ended_ms=run.info.end_time,
    )
