"""Drives a sweep: plan, tuning, trials, record, mirror. Resumes what an earlier run left. Prints nothing."""

import itertools
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from mnist_ablate.errors import AblateError, UnreachableError, mask
from mnist_ablate.execution import gpus, recorded_report, worker_template
from mnist_ablate.execution.events import Event, Finished, Progress
from mnist_ablate.ledger import progress
from mnist_ablate.ledger.database import Outage
from mnist_ablate.ledger.ledger import Ledger
from mnist_ablate.processes import Interrupts
from mnist_ablate.reports import judging
from mnist_ablate.reports.report import Report
from mnist_ablate.settings import Settings
from mnist_ablate.statistics.claim_verdict import ClaimVerdict
from mnist_ablate.statistics.verdict import decide
from mnist_ablate.sweep.plan import Plan, PlannedTrial, make_plan, planned_settings, trainings
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.tracking.run_format import claim_key
from mnist_ablate.tracking.uploader import Uploader
from mnist_ablate.trial import Outcome, RecordedTrial, Trial
from mnist_ablate.workloads.bounds import checked
from mnist_ablate.workloads.workload import Workload

if TYPE_CHECKING:
    from mnist_ablate.execution.engine import Engine
    from mnist_ablate.execution.search import Search

SAME_FAILURES = 3  # so many trials failing with one message stop the sweep: the next would fail too
DELIVERY_S = 60.0  # for MLflow to show a sign of progress, at the end of a sweep
STOPPING_S = 1.5  # for MLflow to end the runs of a sweep that is stopped at once


class View(Protocol):
    """Shows a running sweep to a person."""

    def opened(self, plan: Plan, entries: Mapping[str, RecordedTrial]) -> None:
        """The plan is registered; these trials were recorded earlier."""

    def event(self, planned: PlannedTrial, event: Event) -> None:
        """A trial started, ended an epoch, is retried, or has finished."""

    def verdict(self, found: ClaimVerdict) -> None:
        """A claim of an adaptive sweep is decided before all trials have ended."""

    def message(self, text: str) -> None:
        """A line for the person; may come from another thread."""


def drive(sweep: Sweep, settings: Settings, view: View) -> "Run":
    """Run what is not yet recorded of a sweep, and return all of it.

    Raises ConflictError if another driver runs it or the recorded sweep differs, and the errors of its parts.
    """
    with ExitStack() as stack:
        run = Run(sweep, settings, view, stack)
        run.train()
        return run


class Run:
    """A run of the driver, and what it came to. The parts that it starts end with `stack`.

    `entries` are the recorded trials by their ids, the last record of each. `records` is the number of all records.
    `delivered` says whether MLflow has every trial, `published` whether it has the verdicts too.
    """

    def __init__(self, sweep: Sweep, settings: Settings, view: View, stack: ExitStack) -> None:
        workload = sweep.workload
        if workload.runs_code:
            view.message(f"its trials run your code: {workload.runs_code}")
        self._inputs = inputs = workload.load(settings.data)
        self.plan = plan = make_plan(sweep, inputs.digest, settings.max_trials)
        workload.check(inputs, planned_settings(plan))
        ledger = Ledger(settings.ledger_url)
        self._interrupts = stack.enter_context(Interrupts(view.message))
        self._lock = stack.enter_context(ledger.driving(sweep.name))
        self.record = ledger.begin(plan, fresh=settings.fresh)
        if not self.record.origin:
            self.record.origin = recorded_report.origin()
        if not self.record.fingerprints:
            self.record.fingerprints = workload.fingerprints(inputs, planned_settings(plan))
        self._fingerprints = self.record.fingerprints  # read now: to judge, at the end, needs no database
        records = self.record.records()
        earlier = self.record.registration.earlier[-1:] if workload.runs_code and not records else ()
        if any(each.trials and each.content["data_digest"] != inputs.digest for each in earlier):
            what = "code was" if sweep.train else "code or images were"
            view.message(f"its {what} changed since {earlier[0].record}: every trial is trained anew")
        self.entries = {entry.trial.id: entry for entry in records}
        self._settled = {id_: entry for id_, entry in self.entries.items() if not _is_tried_again(plan, entry)}
        self._settings, self._view, self._stack = settings, view, stack
        self.records = len(records)
        seen = self.record.mirrored
        self.published = (seen.records, seen.tracker) == (self.records, mask(settings.tracking_uri))
        self.mirror = recorded_report.open_mirror(self.record, settings)
        self._failures: Counter[str] = Counter()
        self._announced: set[str] = set()
        self._awaited: dict[str, set[str]] = {}
        self._engine: Engine | None = None
        self._uploader: Uploader | None = None
        view.opened(plan, self.entries)

    @property
    def interrupted(self) -> int:
        """The signal that ended it early, else 0."""
        return self._interrupts.signal

    @cached_property
    def report(self) -> Report:
        """The claims, judged on what is recorded."""
        return judging.of_records(self.plan, self.entries, self.record.registration, self._fingerprints)

    @property
    def recorded(self) -> int:
        """How many of the planned trials are recorded."""
        return progress.done(self.plan, self.entries)

    @property
    def broken(self) -> bool:
        """Whether a trial of a verdict or of the negative control failed or was lost."""
        written, again = self.report.as_written, progress.again(self.plan, self.entries)
        judged = [self.report.trials, *([written.trials] if written else [])]
        return any(each.failed or each.lost for each in judged) or bool(again and again.broken)

    @property
    def link(self) -> str:
        """MLflow's page of the sweep; empty if MLflow was never reached."""
        return self.mirror.link or self.record.mirrored.link

    def publish(self) -> bool:
        """Write the verdicts to MLflow, if they are not there. Whether MLflow has all of the sweep now."""
        if self.delivered and not self.published and not self.interrupted:
            try:
                recorded_report.publish(self.record, self.records, self.mirror, self._settings, self.report)
            except UnreachableError:
                return False
        return self.delivered

    def train(self) -> None:
        """Train one round after the other. What failed in this run is not tried again in it."""
        if self.plan.sweep.design == "search":
            from mnist_ablate.execution.search import Search

            search = Search(self.plan, self.entries)
            self._train(((each,) for each in search.trials()), search)
            search.check_not_exhausted()
        while due := progress.due(self.plan, self._settled):
            self._awaited = progress.awaited(self.plan, due)
            self._train(trainings(self.plan.sweep.workload, due))
            if any(each.id not in self._settled for each in due):
                break
        self.delivered = self.published and self._uploader is None  # seen to be in step, and nothing is new
        if not self.delivered:
            stopping = self._interrupts.stopping
            wait_s, patient = (STOPPING_S, None) if stopping else (DELIVERY_S, self._view.message)
            self.delivered = self._uploading().close(wait_s, settle=True, patient=patient)
            _check_credentials(self._uploading())

    def _announce(self, ended: Collection[str]) -> None:
        """Tell the person and MLflow each verdict of an adaptive sweep, once the trials that it needs are there."""
        claims, looks = self.plan.sweep.every_claim, self.plan.sweep.looks
        is_news = any(own and own <= {*ended} for own in self._awaited.values())
        self._awaited = {name: own.difference(ended) for name, own in self._awaited.items()}
        if not is_news or self._interrupts.stopping:
            return
        waiting = {name for name, own in self._awaited.items() if own}
        rows = progress.rows(self.plan, self._settled)
        for found in decide(rows, claims, looks, waiting):
            if found.verdict != "inconclusive" and found.name not in self._announced:
                self._announced.add(found.name)
                self._view.verdict(found)
                self._uploading().tag(claim_key("verdict", found.name), found.verdict)

    def _train(self, planned: Iterable[tuple[PlannedTrial, ...]], search: "Search | None" = None) -> None:
        """Run these trainings. With a search they are its suggestions, and it decides by what it is told.

        All finished trials that wait are recorded together, before anything else hears of them.
        """
        due = iter(planned)
        first = None if self._interrupts.stopping else next(due, None)
        if first is None:
            return
        self.record.open()
        engine, uploader = self._training(), self._uploading()  # to import MLflow would keep the engine from starting
        taken, longest = dict[str, PlannedTrial](), set[str]()

        def trials() -> Iterator[tuple[Trial, ...]]:
            for training in itertools.chain([first], due):
                taken.update((each.id, each) for each in training)
                longest.add(training[-1].id)
                yield tuple(each.trial for each in training)

        for batch in engine.batches(trials(), ahead=search is None):
            events = [_within_bounds(event, self.plan.sweep.workload) for event in batch]
            self._record_all([(taken[each.trial.id], each.outcome) for each in events if isinstance(each, Finished)])
            _check_credentials(uploader)
            for event in events:
                if isinstance(event, Finished) and event.outcome.status == "failed" and event.trial.id in longest:
                    self._failures[event.outcome.reason] += 1
                self._take(taken[event.trial.id], event, search)
            self._announce([event.trial.id for event in events if isinstance(event, Finished)])
            for reason, times in self._failures.most_common(1):
                if times >= SAME_FAILURES:
                    alike = f"{self.plan.sweep.name}: stopped, {times} trials failed alike: {reason}"
                    raise AblateError(f"{alike}; tracebacks are in {self._settings.log_dir}")

    def _record_all(self, finished: Sequence[tuple[PlannedTrial, Outcome]]) -> None:
        """Write while the lock is held, and wait for a database that is down."""
        if not finished:
            return

        def write() -> None:
            self._lock.ensure()
            self.record.add_all(finished)

        outage = Outage(self._view.message, self._settings.database_wait_s, lambda: self._interrupts.stopping)
        outage.retry_until_available(write)
        self.records += len(finished)
        self.published = False

    def _take(self, planned: PlannedTrial, event: Event, search: "Search | None") -> None:
        """Tell MLflow, the search and the person of an event."""
        trial, arm, uploader = planned.trial, planned.arm.params, self._uploading()
        if isinstance(event, Finished):
            outcome = event.outcome
            self.entries[trial.id] = self._settled[trial.id] = RecordedTrial(trial, arm, planned.stage, outcome)
            uploader.outcome(trial, arm, outcome, planned.stage)
            if outcome.status == "failed":
                (self._settings.log_dir / f"{trial.id}.log").write_text(outcome.traceback, encoding="utf-8")
            if search is not None:
                search.learn(outcome)
        elif isinstance(event, Progress):
            uploader.epoch(trial, arm, event.started_ms, event.epoch)
            if search is not None and search.gives_up(trial, event.epoch):
                self._training().prune(trial.id)
        self._view.event(planned, event)

    def _training(self) -> "Engine":
        """The engine. It starts, and Dask is imported, when there is something to train."""
        if self._engine is None:
            settings, workload = self._settings, self.plan.sweep.workload
            if settings.require_mlflow:
                self._uploading()
            settings.log_dir.mkdir(parents=True, exist_ok=True)
            if settings.cluster is None:  # workers elsewhere have files of their own
                workload.prepare(planned_settings(self.plan), settings.weights, self._view.message)
                self._stack.enter_context(worker_template.importing(settings.trainer or workload.trainer))
            from mnist_ablate.execution.engine import Engine
            from mnist_ablate.execution.worker import TRIALS, TrainerPlugin

            shared = {} if settings.cluster else self._stack.enter_context(workload.shared())
            own = {} if settings.cluster else {TRIALS: str(settings.home.absolute() / "trials"), **shared}
            plugin = TrainerPlugin(
                settings.trainer,
                self.plan.data_digest,
                inputs=workload.sent(self._inputs, settings.data),
                log_dir=None if settings.cluster else settings.log_dir,
                workload=workload,
                environment={**workload.environment(settings.weights), **own},
            )
            left = max(1, self.plan.size - progress.done(self.plan, self._settled))
            jobs, lanes = self._jobs_and_lanes()
            where = min(jobs, left), settings.cluster, settings.tls
            engine = Engine(plugin, *where, settings.trial_timeout_s, settings.share, lanes)
            self._engine = self._stack.enter_context(engine)
            self._interrupts.on_first = self._stop_training
            # No daemon: Python may abort if it ends while a thread imports.
            threading.Thread(target=recorded_report.import_charts, name="import-charts").start()
            if self._interrupts.stopping:
                self._stop_training()
        return self._engine

    def _jobs_and_lanes(self) -> tuple[int, int]:
        """One lane if a claim is about what a trial costs: that cannot be told of trials that train at once."""
        sweep, here = self.plan.sweep, self._settings.cluster is None
        asked, on_gpus = (self._settings.jobs, self._settings.lanes), sweep.workload.trains_on_gpus
        jobs, lanes = gpus.workers_and_lanes(*asked, trains_on_gpus=on_gpus, here=here)
        measured = [claim.name for claim in sweep.claims if sweep.metric(claim.measured_metric).of_machine]
        if measured and lanes > 1:
            self._view.message(f"{measured[0]}: a claim about what training costs, so trials train one at a time")
        return jobs, 1 if measured else lanes

    def _stop_training(self) -> None:
        """Let running trials finish. After the end of the main thread Dask's threads bring no results."""
        if self._engine is not None:
            self._engine.drain(at_once=self._interrupts.main_ended)

    def _uploading(self) -> Uploader:
        """The uploader. It first sends what an earlier run may not have delivered."""
        if self._uploader is None:
            if self._settings.require_mlflow:
                self.mirror.open()
            self._uploader = uploader = Uploader(self.mirror, self._view.message)
            self._uploader.start()
            self._stack.callback(lambda: uploader.close(STOPPING_S, settle=True))
            if not self.published:
                for entry in self.entries.values():
                    uploader.outcome(entry.trial, entry.params, entry.outcome, entry.stage)
        return self._uploader


def _within_bounds(event: Event, workload: Workload) -> Event:
    """The event. A trial whose metrics cannot be what they are said to be ends as failed."""
    return Finished(event.trial, checked(event.outcome, workload)) if isinstance(event, Finished) else event


def _is_tried_again(plan: Plan, entry: RecordedTrial) -> bool:
    """Whether a trial recorded earlier counts as not run. A search goes on without what it lost."""
    searched = plan.sweep.design == "search" and entry.stage == "tuning"
    return entry.outcome.status in {"failed", "lost"} and not searched


def _check_credentials(uploader: Uploader) -> None:
    """Raises what MLflow said to wrong credentials: the person can correct them now, not after hours of training."""
    if uploader.rejection is not None:
        raise uploader.rejection
