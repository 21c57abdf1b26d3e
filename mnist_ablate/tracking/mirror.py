"""The copy of the ledger in MLflow: when runs are made, filled and ended, so that doing it again changes nothing.

MLflow keeps a point that is sent twice once. A lost reply can leave a run that nobody knows of, and a request that hung
can be carried out much later. So after a failure all runs are looked up again by our own tags, and one of each stays.
"""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from mnist_ablate.errors import UnreachableError, mask
from mnist_ablate.tracking import page_view, run_format
from mnist_ablate.tracking.client import (
    RefusedError,
    RejectedError,
    addresses,
    comparison_address,
    connect,
    deep_link,
    not_mlflow,
    server_version,
    translate_errors,
)
from mnist_ablate.tracking.home_store import artifact_root, database
from mnist_ablate.tracking.page_view import PageView
from mnist_ablate.tracking.run_format import Data, Point, StoredRun
from mnist_ablate.trial import Epoch, Outcome, Scalar, Trial
from mnist_ablate.workloads.workload import Metric, Workload, default_workload

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

T = TypeVar("T")


class FinishedTrial(NamedTuple):
    """A finished trial, the factors of its arm, what came out, and its stage in the plan, if it is known."""

    trial: Trial
    arm: Mapping[str, Scalar]
    outcome: Outcome
    stage: str = ""


SENDERS = 4  # outcomes that a server is sent side by side
_MOST_COMPARED = 6
_SOURCE = ("mlflow.source.name", "mlflow.source.type", "mlflow.user", "data")
_PARENT, _NOTE = "mlflow.parentRunId", "mlflow.note.content"


@dataclass
class _Index:
    """What is known to be in MLflow of one sweep: its experiment, its parent run, the run of each trial.

    `shared` says that somebody else made the experiment and described it, which is left alone.
    """

    client: "MlflowClient"
    experiment_id: str
    shared: bool
    parent_id: str
    trials: dict[str, StoredRun]


@dataclass(eq=False)
class Mirror:
    """One sweep in MLflow: an experiment of its name, a parent run, a child run for each trial.

    `run_tags` (git commit, versions) go on every run. The sweep began at `started_ms`, in ms since 1970.
    `link` is the page of the sweep, empty until it was opened. `notice` says why it does not show the `view`.
    Every method that sends raises `UnreachableError` with one line if it could not; call it again later.
    """

    uri: str
    sweep: str
    digest: str
    question: str
    run_tags: Mapping[str, str]
    workload: Workload = field(default_factory=default_workload)
    started_ms: int = 0
    view: PageView | None = None
    data: Data | None = None
    link: str = field(default="", init=False)
    notice: str = field(default="", init=False)
    _client: "MlflowClient | None" = field(default=None, init=False)
    _index: _Index | None = field(default=None, init=False)
    _sent: dict[str, set[Point]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        known = {"data": self.data.name} if self.data else {}
        self.run_tags = {key: mask(value) for key, value in {**self.run_tags, **known}.items()}

    def open(self) -> None:
        """Finds or creates the experiment and the parent run."""
        self._do(lambda _index: None)

    def epoch(self, trial: Trial, arm: Mapping[str, Scalar], started_ms: int, *epochs: Epoch) -> None:
        """Sends epochs of a trial that is training, each once; a new attempt at a trial gets a new run."""

        def send(index: _Index) -> None:
            known = index.trials.get(trial.id)
            if known and known.finished:
                return  # Trained again: its outcome will tell whether anything is new.
            metrics, tags = run_format.epoch_metrics(epochs), run_format.live_tags(trial, arm)
            new = run_format.points(metrics)
            run_id, _ = self._run(index, trial, partial(run_format.same_attempt, new=new), started_ms, tags)
            self._sent[run_id] |= new
            index.client.log_batch(run_id, metrics=metrics)

        self._do(send)

    def outcome(self, trial: Trial, arm: Mapping[str, Scalar], outcome: Outcome, stage: str = "") -> bool:
        """Sends the whole run, again, and ends it; returns False if MLflow had it already."""
        return self._do(lambda index: self._send(index, trial, arm, outcome, stage))

    def outcomes_together(self, ended: Sequence[FinishedTrial]) -> dict[str, bool]:
        """As `outcome` of each, at most one of a trial, `SENDERS` at a time, if a server is there to take them.

        Returns what `outcome` would, by trial id, until the first failure: `outcome` of what is left tells why.
        """
        sent: dict[str, bool] = {}
        if self.uri.lower().startswith("http"):
            with suppress(UnreachableError):
                self._do(lambda index: self._side_by_side(index, ended, sent))
            if len(sent) < len(ended):
                self._index = None
        return sent

    def tag(self, tags: Mapping[str, str]) -> None:
        """Sets tags of the parent run, such as a verdict that stands while others are open."""

        def send(index: _Index) -> None:
            from mlflow.entities import RunTag

            index.client.log_batch(index.parent_id, tags=[RunTag(name, value) for name, value in tags.items()])

        self._do(send)

    def verdicts(
        self,
        texts: tuple[str, str],
        metrics: Mapping[str, float],
        files: Sequence[Path],
        tags: Mapping[str, str],
        ended_ms: int | None = None,
    ) -> None:
        """Shows the verdicts as Markdown on the parent run and the experiment; the parent ends, with tags and files.

        In the texts of both `artifact:NAME` stands for the address of a file of the parent, `page:NAME` for its page.
        """

        def send(index: _Index) -> None:
            from mlflow.entities import RunTag

            # Files first: a page that is open loads the picture when it sees the text.
            for path in files:
                index.client.log_artifact(index.parent_id, str(path))
            parent, others = index.client.get_run(index.parent_id), self._other_sweeps(index)
            addressed = [addresses(text, index.experiment_id, index.parent_id) for text in texts]
            note, description = (run_format.note(run_format.beside(text, others)) for text in addressed)
            news = run_format.changed(metrics, parent.data.metrics)
            if self.data and not (parent.inputs and parent.inputs.dataset_inputs):
                # Trials name it in a tag: a request more for each of them would cost a fifth of all sending.
                index.client.log_inputs(index.parent_id, datasets=self.data.inputs())
            said = [RunTag(name, value) for name, value in {_NOTE: note, **tags}.items()]
            index.client.log_batch(index.parent_id, metrics=news, tags=said)
            if not index.shared:
                index.client.set_experiment_tag(index.experiment_id, _NOTE, description)
            if parent.info.status != "FINISHED" or (ended_ms and parent.info.end_time != ended_ms):
                index.client.set_terminated(index.parent_id, "FINISHED", ended_ms)

        self._index = None  # A request that hung may have made a run meanwhile: the last look finds it.
        self._do(send)

    def settle(self) -> None:
        """Ends, after an interrupt, the runs that nobody runs any more: unfinished trials and the parent."""

        def send(index: _Index) -> None:
            parent = index.client.get_run(index.parent_id).info
            for run in [*index.trials.values(), parent]:
                if run.status == "RUNNING":
                    index.client.set_terminated(run.run_id, "KILLED")

        self._do(send)
        self._index = None

    def run_id(self, trial: Trial) -> str:
        """The id of the run of a trial that was sent."""
        return self._do(lambda index: index.trials[trial.id].run_id)

    def _send(self, index: _Index, trial: Trial, arm: Mapping[str, Scalar], outcome: Outcome, stage: str = "") -> bool:
        from mlflow.entities import Param, RunTag

        known, tags = index.trials.get(trial.id), run_format.tags(trial, arm, outcome, stage)
        metric = self.workload.metrics.get(self.workload.main_metric, Metric(self.workload.main_metric))
        tags[_NOTE] = run_format.trial_note(arm, trial, outcome, metric)
        is_same = known is not None and run_format.in_step(known, outcome)
        if known and is_same and self._keeps_its_start(index, known, outcome):
            news = {key: value for key, value in tags.items() if known.tags.get(key) != value}
            news |= {key: value for key, value in self.run_tags.items() if key in _SOURCE and key not in known.tags}
            if news:  # an older version sent it
                index.client.log_batch(known.run_id, tags=[RunTag(key, value) for key, value in news.items()])
                index.trials[trial.id] = replace(known, tags={**known.tags, **news})
            return bool(news)
        if known and is_same:  # made again for its start: it still comes from the versions and the commit of then
            tags = {key: value for key, value in known.tags.items() if key in self.run_tags} | tags
        metrics = run_format.all_metrics(outcome)
        own = run_format.points(metrics)
        run_id, is_live = self._run(index, trial, own.issuperset, outcome.started_ms, tags)
        self._sent[run_id] |= own
        params = [Param(key, value) for key, value in run_format.params(self.workload, trial).items()]
        said = [RunTag(key, value) for key, value in tags.items()] if is_live else ()
        index.client.log_batch(run_id, metrics=metrics, params=params, tags=said)
        run = run_format.as_stored(run_id, outcome)
        index.client.set_terminated(run_id, run.status, run.ended_ms)
        index.trials[trial.id] = replace(
            run, started_ms=index.trials[trial.id].started_ms, tags={**self.run_tags, **tags}
        )
        del self._sent[run_id]
        return True

    def _keeps_its_start(self, index: _Index, run: StoredRun, outcome: Outcome) -> bool:
        """Whether a finished run began when its trial did, or must stay: a registered model came from it."""
        if run_format.has_started_at(run, outcome.started_ms):
            return True
        return bool(index.client.search_model_versions(f"run_id = '{run.run_id}'", max_results=1))

    def _side_by_side(self, index: _Index, ended: Sequence[FinishedTrial], sent: dict[str, bool]) -> None:
        left, failed = iter([*ended]), threading.Event()

        def send() -> None:
            while not failed.is_set() and (each := next(left, None)):
                try:
                    sent[each[0].id] = self._send(index, *each)
                except Exception:  # noqa: BLE001 - whatever it is, sending it alone shows it again
                    failed.set()

        # Not those of a pool, which the end of the program would wait for.
        senders = [threading.Thread(target=send, name=f"mlflow-sender-{n}", daemon=True) for n in range(SENDERS)]
        try:
            for sender in senders:
                sender.start()
            for sender in senders:
                sender.join()
        except BaseException:
            failed.set()
            raise

    def _run(
        self, index: _Index, trial: Trial, fits: Callable[[set[Point]], bool], started_ms: int, tags: Mapping[str, str]
    ) -> tuple[str, bool]:
        """The id of the trial's run, and whether it was there, unfinished and fitting. If not, it is made anew."""
        earlier: Mapping[str, str] = {}
        if run := index.trials.get(trial.id):
            earlier = {name: value for name, value in run.tags.items() if name not in run_format.OUTCOME_TAGS}
            if not run.finished and run_format.has_started_at(run, started_ms):
                if run.run_id not in self._sent:  # somebody else filled it
                    curves = [index.client.get_metric_history(run.run_id, key) for key in run.metrics]
                    self._sent[run.run_id] = run_format.points(chain.from_iterable(curves))
                if fits(self._sent[run.run_id]):
                    return run.run_id, True
            index.client.delete_run(run.run_id)
            del index.trials[trial.id]
        own = {"kind": "trial", "sweep_digest": self.digest, "trial_id": trial.id, _PARENT: index.parent_id}
        every = {**earlier, **self.run_tags, **tags, **own}
        made = index.client.create_run(index.experiment_id, started_ms, every)
        run_id = str(made.info.run_id)
        index.trials[trial.id] = StoredRun(run_id, started_ms=made.info.start_time)
        self._sent[run_id] = set()
        return run_id, False

    def _do(self, action: Callable[[_Index], T]) -> T:
        """Acts on what is known; a refusal (mostly of a deleted run) is tried again."""
        try:
            return self._once(action)
        except RefusedError:
            return self._once(action)

    def _once(self, action: Callable[[_Index], T]) -> T:
        """After a failure nothing is known any more."""
        index, self._index = self._index, None
        client = self._client = self._client or connect(self.uri)
        with translate_errors(self.uri):
            index = index or self._look_up(client)
            done = action(index)
        self._index = index
        return done

    def _look_up(self, client: "MlflowClient") -> _Index:
        """Finds or creates the experiment and the parent run, and leaves one run for each trial that has any."""
        experiment = self._open_experiment(client)
        if experiment.name != self.sweep:
            raise not_mlflow(self.uri, 200)
        experiment_id = str(experiment.experiment_id)
        shared = "sweep" not in experiment.tags and _NOTE in experiment.tags
        view = "" if shared else self._stored_view(client, experiment)
        seen_at = os.environ.get("MNIST_ABLATE_MLFLOW_URL") or self.uri
        self.link = deep_link(seen_at, experiment_id, self.workload.main_metric, view)
        runs = self._runs(client, experiment_id)
        parent = runs.pop("", None)
        earlier = parent.data.tags if parent else {}
        if parent and not run_format.has_started_at(_stored(parent), self.started_ms):
            client.delete_run(parent.info.run_id)
            parent = None
        if parent is None:
            own = {"kind": "sweep", "sweep_digest": self.digest, _NOTE: run_format.note(self.question)}
            tags = {**self.run_tags, **own, **earlier}
            parent = client.create_run(experiment_id, self.started_ms, tags, run_name=self.sweep)
        parent_id = str(parent.info.run_id)
        for run in runs.values():
            if run.data.tags.get(_PARENT) != parent_id:
                client.set_tag(run.info.run_id, _PARENT, parent_id)
        trials = {trial_id: _stored(run) for trial_id, run in runs.items()}
        return _Index(client, experiment_id, shared, parent_id, trials)

    def _other_sweeps(self, index: _Index) -> dict[str, str]:
        """Addresses of comparisons with the runs of other sweeps, by name, those that ended last."""
        found = index.client.search_experiments(filter_string="tags.sweep LIKE '%'", max_results=_MOST_COMPARED)
        names = {str(each.experiment_id): each.name for each in found}
        runs = index.client.search_runs([*names], "tags.kind = 'sweep'", max_results=_MOST_COMPARED) if names else []
        return {
            f"{names[run.info.experiment_id]} {run.data.tags['sweep_digest'][:6]}": comparison_address(
                {index.parent_id: index.experiment_id, run.info.run_id: run.info.experiment_id}
            )
            for run in runs
            if run.info.run_id != index.parent_id and "sweep_digest" in run.data.tags
        }

    def _stored_view(self, client: "MlflowClient", experiment: "Experiment") -> str:
        """The key of the sweep's view, which is there now as it should be, or as a person saved it; else empty."""
        if self.view is None:
            return ""
        stored, version = experiment.tags.get(page_view.TAG), server_version(self.uri)
        try:
            if version and not page_view.is_known(version):
                raise ValueError(f"its version is {version}, views are known of 3.17 to 3.99")  # noqa: TRY301
            if page_view.is_ours(stored) and stored != self.view.tag:
                with translate_errors(self.uri):
                    client.set_experiment_tag(experiment.experiment_id, page_view.TAG, self.view.tag)
        except (ValueError, RefusedError, RejectedError) as error:
            self.notice = f"MLflow's page shows all runs, not the view of the sweep: {error}"
            return ""
        return page_view.KEY

    def _open_experiment(self, client: "MlflowClient") -> "Experiment":
        """The experiment of the sweep's name: as it is, restored if it was deleted, or created."""
        found = client.get_experiment_by_name(self.sweep)
        if found is None:
            from mlflow.utils.credentials import read_mlflow_creds

            store = database(self.uri)
            artifacts = artifact_root(store) if store else None  # a server chooses its own place
            # The second tag makes MLflow's page open on training runs, not on language models.
            tags = {"sweep": self.sweep, "mlflow.experimentKind": "custom_model_development"}
            if account := read_mlflow_creds().username:
                tags["account"] = account  # a server that is killed at once has not noted whose it is: mlflow_guard.py
            return client.get_experiment(client.create_experiment(self.sweep, artifacts, tags))
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return found

    def _runs(self, client: "MlflowClient", experiment_id: str) -> "dict[str, Run]":
        """The run of each trial by its id, the parent by "". Of several one stays: a finished one, else the oldest."""
        query = f"tags.sweep_digest = '{self.digest}'"
        search = partial(client.search_runs, [experiment_id], query, order_by=["start_time ASC"])
        page = search()
        found = [*page]
        while page.token:
            page = search(page_token=page.token)
            found += page
        kept: dict[str, Run] = {}
        for run in sorted(found, key=lambda run: not _stored(run).finished):
            if kept.setdefault(run.data.tags.get("trial_id", ""), run) is not run:
                client.delete_run(run.info.run_id)
        return kept


def _stored(run: "Run") -> StoredRun:
    info, data = run.info, run.data
    outcome, times = data.tags.get("outcome", ""), (info.start_time, info.end_time)
    return StoredRun(info.run_id, info.status, outcome, data.metrics, *times, data.tags)
