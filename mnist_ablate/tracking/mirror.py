"""The copy of the ledger in MLflow: when runs are made, filled and ended, so that doing it again changes nothing.

Synchronous: whoever must not wait uses the uploader. MLflow keeps a point sent twice with the same key, step,
value and time once; no run is created before it was looked for.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mnist_ablate.errors import UnreachableError, mask
from mnist_ablate.tracking import local_store, run_format, run_index
from mnist_ablate.tracking.client import RefusedError, connect, deep_link, not_mlflow, translate_errors
from mnist_ablate.tracking.run_format import Point
from mnist_ablate.tracking.run_index import NOTE, RunIndex, StoredRun
from mnist_ablate.trial import Epoch, Outcome, Scalar, Trial

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")
FinishedTrial = tuple[Trial, Mapping[str, Scalar], Outcome]
"""A finished trial, the factors of its arm, and what came out."""

SENDERS = 4
"""Outcomes that a server is sent side by side."""


class Mirror:
    """One sweep in MLflow: an experiment of its name, a parent run, a child run for each trial.

    Every method that sends raises `UnreachableError` with one line if it could not; call it again later.
    """

    def __init__(
        self, tracking_uri: str, sweep_name: str, digest: str, question: str, run_tags: Mapping[str, str]
    ) -> None:
        """Touches nothing yet. `run_tags` (git commit, versions) go on every run."""
        self._uri = tracking_uri
        self._name = sweep_name
        self._digest = digest
        self._question = question
        self._run_tags = {key: mask(value) for key, value in run_tags.items()}
        self._client: MlflowClient | None = None
        self._index: RunIndex | None = None
        self._sent: dict[str, set[Point]] = {}
        self._experiment_id = ""

    @property
    def link(self) -> str:
        """The page of the sweep; empty before `open` or `stored` found its experiment."""
        return deep_link(self._uri, self._experiment_id) if self._experiment_id else ""

    def open(self) -> None:
        """Finds or creates the experiment and the parent run."""
        self._do(lambda _index: None)

    def epoch(self, trial: Trial, *epochs: Epoch) -> None:
        """Sends epochs of a trial that is training, each once; a new attempt at a trial gets a new run."""

        def send(index: RunIndex) -> None:
            known = index.trials.get(trial.id)
            if known and known.finished:
                return  # Trained again: its outcome will tell whether anything is new.
            new = run_format.points(epochs)
            run_id = self._fitting(index, trial, lambda sent: run_format.same_attempt(sent, new))
            run_id = run_id or self._create(index, trial, epochs[0].ended_ms, run_format.live_tags(trial))
            self._sent[run_id] |= new
            index.client.log_batch(run_id, metrics=run_format.epoch_metrics(epochs))

        self._do(send)

    def outcome(self, trial: Trial, arm: Mapping[str, Scalar], outcome: Outcome) -> bool:
        """Sends the whole run, again, and ends it; returns False if MLflow had it already."""
        return self._do(lambda index: self._send(index, trial, arm, outcome))

    def outcomes_together(self, ended: Sequence[FinishedTrial]) -> dict[str, bool]:
        """As `outcome` of each, `SENDERS` at a time, if a server is there to take them; raises nothing.

        Of each trial there may be one. Returns what `outcome` would, by trial id, until the first failure: `outcome` of
        what is left tells why.
        """
        if not self._uri.lower().startswith("http"):
            return {}
        with suppress(UnreachableError):
            self.open()
        return {} if self._index is None else self._side_by_side(self._index, ended)

    def verdicts(
        self,
        note_markdown: str,
        metrics: Mapping[str, float],
        artifacts: Sequence[Path],
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Shows the verdicts on the parent run and the experiment, ends the parent, attaches tags and files."""

        def send(index: RunIndex) -> None:
            from mlflow.entities import RunTag

            parent, note = index.client.get_run(index.parent_id), run_format.note(note_markdown)
            news = run_format.changed(metrics, parent.data.metrics)
            said = [RunTag(NOTE, note), *(RunTag(name, value) for name, value in (tags or {}).items())]
            index.client.log_batch(index.parent_id, metrics=news, tags=said)
            if not index.shared:
                index.client.set_experiment_tag(index.experiment_id, NOTE, note)
            if parent.info.status != "FINISHED":
                index.client.set_terminated(index.parent_id, "FINISHED")
            for path in artifacts:
                index.client.log_artifact(index.parent_id, str(path))

        self._index = None  # A request that hung may have made a run meanwhile: the last look finds it.
        self._do(send)

    def settle(self) -> None:
        """Ends, after an interrupt, the runs that nobody runs any more: unfinished trials and the parent."""

        def send(index: RunIndex) -> None:
            running = [run.run_id for run in index.trials.values() if run.status == "RUNNING"]
            if index.client.get_run(index.parent_id).info.status == "RUNNING":
                running.append(index.parent_id)
            for run_id in running:
                index.client.set_terminated(run_id, "KILLED")
            self._index = None

        self._do(send)

    def stored(self) -> dict[str, StoredRun]:
        """What MLflow holds now, by trial id; changes nothing, empty if the sweep was never sent."""
        client = self._connected()
        with translate_errors(self._uri):
            experiment = run_index.find_experiment(client, self._name)
            if experiment is None or experiment.lifecycle_stage == run_index.DELETED:
                return {}
            self._experiment_id = experiment.experiment_id
            return run_index.by_trial(run_index.find_trials(client, self._experiment_id, self._digest))

    def history(self, run: StoredRun) -> dict[str, list[tuple[int, int, float]]]:
        """Every point MLflow holds of a run, by metric: step, time in ms since 1970, value."""
        client = self._connected()
        with translate_errors(self._uri):
            return run_index.history(client, run)

    def _side_by_side(self, index: RunIndex, ended: Sequence[FinishedTrial]) -> dict[str, bool]:
        left, failed = iter([*ended]), threading.Event()
        sent: dict[str, bool] = {}

        def send() -> None:
            for trial, arm, outcome in left:
                try:
                    sent[trial.id] = self._send(index, trial, arm, outcome)
                except Exception:  # noqa: BLE001 - whatever it is, sending it alone shows it again
                    failed.set()
                if failed.is_set():
                    return

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
        if failed.is_set():
            self._index = None
        return sent

    def _send(self, index: RunIndex, trial: Trial, arm: Mapping[str, Scalar], outcome: Outcome) -> bool:
        from mlflow.entities import Param, RunTag

        known = index.trials.get(trial.id)
        if known and run_format.in_step(known.status, known.outcome, known.metrics, known.ended_ms, outcome):
            return False
        own = run_format.points(outcome.epochs) | {run_format.end_point(outcome)}
        tags = run_format.tags(trial, arm, outcome)
        live = self._fitting(index, trial, own.issuperset)
        run_id = live or self._create(index, trial, outcome.started_ms, tags)
        self._sent[run_id] |= own
        index.client.log_batch(
            run_id,
            metrics=run_format.epoch_metrics(outcome.epochs) + run_format.final_metrics(outcome),
            params=[Param(key, value) for key, value in run_format.params(trial).items()],
            tags=[RunTag(key, value) for key, value in tags.items()] if live else (),
        )
        status, ended_ms = run_format.STATUSES[outcome.status], run_format.ended_ms(outcome)
        index.client.set_terminated(run_id, status, ended_ms)
        metrics = run_format.latest(outcome)
        index.trials[trial.id] = StoredRun(trial.id, run_id, status, outcome.status, metrics, ended_ms=ended_ms)
        del self._sent[run_id]
        return True

    def _fitting(self, index: RunIndex, trial: Trial, fits: Callable[[set[Point]], bool]) -> str:
        """The id of the trial's unfinished run; empty if it has none, or none that fits, which is deleted."""
        known = index.trials.get(trial.id)
        if known and not known.finished and fits(self._points(known)):
            return known.run_id
        if known:
            index.client.delete_run(known.run_id)
            del index.trials[trial.id]
        return ""

    def _create(self, index: RunIndex, trial: Trial, started_ms: int, tags: Mapping[str, str]) -> str:
        run_id = run_index.create_trial(index, trial.id, started_ms, {**self._run_tags, **tags})
        self._sent[run_id] = set()
        return run_id

    def _points(self, run: StoredRun) -> set[Point]:
        """What was sent to a run; asked of MLflow if somebody else sent it."""
        if run.run_id not in self._sent:
            curves = self.history(run).values()
            self._sent[run.run_id] = {(step, at_ms) for curve in curves for step, at_ms, _ in curve}
        return self._sent[run.run_id]

    def _do(self, action: Callable[[RunIndex], T]) -> T:
        """Acts on what is known, and forgets it after a failure; a refusal (mostly of a deleted run) is tried again."""
        try:
            return self._once(action)
        except RefusedError:
            return self._once(action)

    def _once(self, action: Callable[[RunIndex], T]) -> T:
        client = self._connected()
        try:
            with translate_errors(self._uri):
                self._index = self._index or self._look_up(client)
                return action(self._index)
        except BaseException:
            self._index = None
            raise

    def _connected(self) -> "MlflowClient":
        self._client = self._client or connect(self._uri)
        return self._client

    def _look_up(self, client: "MlflowClient") -> RunIndex:
        root = local_store.artifact_root(self._uri)
        experiment = run_index.open_experiment(client, self._name, root.as_uri() if root else None)
        if experiment.name != self._name:
            raise not_mlflow(self._uri, 200)
        self._experiment_id = str(experiment.experiment_id)
        parent_tags = {**self._run_tags, NOTE: run_format.note(self._question)}
        return run_index.look_up(client, experiment, self._digest, parent_tags)
