"""Drives a sweep: plan, tuning, trials, record, mirror. Resumes what an earlier run left. Prints nothing."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from mnist_ablate.errors import AblateError
from mnist_ablate.execution import publishing
from mnist_ablate.execution.engine import Engine, Event, Finished, Progress
from mnist_ablate.execution.search import Search
from mnist_ablate.execution.worker import TrainerPlugin
from mnist_ablate.ledger import preregistration, progress
from mnist_ablate.ledger.database import Lock, Outage
from mnist_ablate.ledger.ledger import Ledger, Record
from mnist_ablate.processes import Interrupts
from mnist_ablate.reports.judging import About
from mnist_ablate.reports.report import Preregistration, Selection
from mnist_ablate.reports.selection import select
from mnist_ablate.settings import Settings
from mnist_ablate.statistics.controls import ControlRuns
from mnist_ablate.sweep.plan import Plan, PlannedTrial, make_plan, planned_settings
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.tracking.mirror import Mirror
from mnist_ablate.tracking.uploader import Uploader
from mnist_ablate.trial import Outcome, RecordedTrial, Row, Trial
from mnist_ablate.workloads.workload import default_workload

SAME_FAILURES = 3
"""So many trials failing with one message stop the sweep: the next would fail too."""
DELIVERY_S = 60.0
STOPPING_S = 1.5
"""For MLflow to end the runs of a sweep that is stopped at once."""
_REDO = frozenset({"failed", "lost"})


class View(Protocol):
    """Shows a running sweep to a person."""

    def opened(self, plan: Plan, entries: Mapping[str, RecordedTrial]) -> None:
        """The plan is registered; these trials were recorded earlier."""

    def event(self, planned: PlannedTrial, event: Event) -> None:
        """A trial started, ended an epoch, is retried, or has finished."""

    def message(self, text: str) -> None:
        """A line for the person; may come from another thread."""


@dataclass(frozen=True)
class Result:
    """What a sweep came to. `counts` and `rows` are those of the verdicts, `planned` and `recorded` of all trials.

    `records` is the number of records in the ledger, where a trial that was run again has two.
    `delivered` says whether MLflow has every trial, `published` whether it has the verdicts too.
    `interrupted` is the signal that ended the sweep early, else 0.
    """

    record: Record
    mirror: Mirror
    rows: tuple[Row, ...]
    again: ControlRuns | None
    selection: Selection
    counts: Mapping[str, int]
    planned: int
    recorded: int
    records: int
    delivered: bool
    published: bool
    interrupted: int

    @property
    def about(self) -> About:
        """What a report says beside the verdicts."""
        document = preregistration.document(self.record.plan, self.record.registration)
        registered = Preregistration.model_validate(document)
        return About(self.record.fingerprints, self.again, registered, self.selection)

    @property
    def broken(self) -> bool:
        """Whether a trial of a verdict or of the negative control failed or was lost."""
        written = self.selection.as_written
        lacking = (
            self.counts["failed"] or self.counts["lost"] or (written and (written.trials.failed or written.trials.lost))
        )
        return bool(lacking or (self.again and self.again.broken))

    @property
    def link(self) -> str:
        """MLflow's page of the sweep; empty if MLflow was never reached."""
        return self.mirror.link or self.record.mirrored.link


def drive(sweep: Sweep, settings: Settings, view: View) -> Result:
    """Run what is not yet recorded of a sweep, and return all of it.

    Raises ConflictError if another driver runs it or the recorded sweep differs, and the errors of its parts.
    """
    workload = default_workload()
    inputs = workload.load(settings.data)
    plan = make_plan(sweep, inputs.digest, settings.max_trials)
    ledger = Ledger(settings.ledger_url)
    with Interrupts(view.message) as interrupts, ledger.driving(sweep.name) as lock, ExitStack() as stack:
        record = ledger.begin(plan, fresh=settings.fresh)
        if not record.fingerprints:
            record.fingerprints = workload.fingerprints(inputs, planned_settings(plan))
        run = _Run(plan, record, settings, view, interrupts, lock, stack)
        view.opened(plan, run.entries)
        return run.result()


class _Run:
    """One run of the driver over one plan. The parts that it starts end with `stack`."""

    def __init__(  # noqa: PLR0913, PLR0917 - the parts that `drive` put together
        self,
        plan: Plan,
        record: Record,
        settings: Settings,
        view: View,
        interrupts: Interrupts,
        lock: Lock,
        stack: ExitStack,
    ) -> None:
        records = record.records()
        self.entries = {entry.trial.id: entry for entry in records}
        self._settled = {id_: entry for id_, entry in self.entries.items() if not _is_tried_again(plan, entry)}
        self._plan, self._record, self._settings, self._view = plan, record, settings, view
        self._interrupts, self._lock, self._stack = interrupts, lock, stack
        self._records = len(records)
        self._published = publishing.in_step(record, self._records, settings)
        self._mirror = publishing.open_mirror(record, settings)
        self._outage = Outage(view.message, settings.database_wait_s, lambda: interrupts.stopping)
        self._failures: Counter[str] = Counter()
        self._engine: Engine | None = None
        self._uploader: Uploader | None = None

    def result(self) -> Result:
        if self._plan.sweep.design == "search":
            self._search()
        self._train_rounds()
        return Result(
            record=self._record,
            mirror=self._mirror,
            rows=progress.rows(self._plan, self.entries),
            again=progress.again(self._plan, self.entries),
            selection=select(self._plan, self.entries),
            counts=progress.counts(self._plan, self.entries),
            planned=self._plan.size,
            recorded=progress.done(self._plan, self.entries),
            records=self._records,
            delivered=self._delivered(),
            published=self._published,
            interrupted=self._interrupts.signal,
        )

    def _search(self) -> None:
        search = Search(self._plan, self.entries)
        self._train(search.trials(), search)
        search.check_not_exhausted()

    def _train_rounds(self) -> None:
        """Train one round after the other. What failed in this run is not tried again in it."""
        while due := progress.due(self._plan, self._settled):
            self._train(due)
            if any(each.trial.id not in self._settled for each in due):
                return

    def _train(self, planned: Iterable[PlannedTrial], search: Search | None = None) -> None:
        """Run these trials. With a search they are its suggestions, and it decides by what it is told.

        All finished trials that wait are recorded together, before anything else hears of them.
        """
        due = iter(planned)
        first = None if self._interrupts.stopping else next(due, None)
        if first is None:
            return
        self._prepare()
        uploader, engine = self._uploading(), self._training()
        taken: dict[str, PlannedTrial] = {}

        def trials() -> Iterator[Trial]:
            for each in itertools.chain([first], due):
                taken[each.trial.id] = each
                yield each.trial

        for events in engine.batches(trials(), ahead=search is None):
            self._record_all(
                [(taken[event.trial.id], event.outcome) for event in events if isinstance(event, Finished)]
            )
            _check_credentials(uploader)
            for event in events:
                planned_trial = taken[event.trial.id]
                if isinstance(event, Finished):
                    self._finish(planned_trial, event.outcome, uploader)
                    if search is not None:
                        search.learn(event.outcome)
                elif isinstance(event, Progress):
                    uploader.epoch(event.trial, event.epoch)
                    if search is not None and search.gives_up(event.trial, event.epoch):
                        engine.prune(event.trial.id)
                self._view.event(planned_trial, event)
            self._stop_after_same_failures()

    def _prepare(self) -> None:
        """Fetch what trials need before anything is trained. Workers elsewhere have files of their own."""
        if self._engine is None and self._settings.cluster is None:
            default_workload().prepare(planned_settings(self._plan), self._settings.weights, self._view.message)

    def _record_all(self, finished: Sequence[tuple[PlannedTrial, Outcome]]) -> None:
        """Write while the lock is held, and wait for a database that is down."""
        if not finished:
            return

        def write() -> None:
            self._lock.ensure()
            self._record.add_all(finished)

        self._outage.retry_until_available(write)
        self._records += len(finished)
        self._published = False

    def _finish(self, planned: PlannedTrial, outcome: Outcome, uploader: Uploader) -> None:
        trial, arm = planned.trial, planned.arm.params
        self.entries[trial.id] = self._settled[trial.id] = RecordedTrial(trial, arm, planned.stage, outcome)
        uploader.outcome(trial, arm, outcome)
        if outcome.status == "failed":
            self._failures[outcome.reason] += 1
            (self._settings.log_dir / f"{trial.id}.log").write_text(outcome.traceback, encoding="utf-8")

    def _stop_after_same_failures(self) -> None:
        for reason, times in self._failures.most_common(1):
            if times >= SAME_FAILURES:
                raise AblateError(
                    f"{self._plan.sweep.name}: stopped, {times} trials failed alike: {reason}; "
                    f"tracebacks are in {self._settings.log_dir}"
                )

    def _training(self) -> Engine:
        """The engine. It starts when there is something to train."""
        if self._engine is None:
            settings = self._settings
            settings.log_dir.mkdir(parents=True, exist_ok=True)
            plugin = TrainerPlugin(
                settings.trainer or default_workload().trainer,
                self._plan.data_digest,
                inputs=settings.data.read_bytes() if settings.data else None,
                log_dir=None if settings.cluster else settings.log_dir,
                environment=default_workload().environment(settings.weights),
            )
            engine = Engine(
                plugin,
                jobs=settings.jobs,
                address=settings.cluster,
                tls=settings.tls,
                trial_timeout_s=settings.trial_timeout_s,
            )
            self._engine = self._stack.enter_context(engine)
            self._interrupts.on_first = self._engine.drain
            if self._interrupts.stopping:
                self._engine.drain()
        return self._engine

    def _uploading(self) -> Uploader:
        """The uploader. It first sends what an earlier run may not have delivered."""
        if self._uploader is None:
            if self._settings.require_mlflow:
                self._mirror.open()
            self._uploader = uploader = Uploader(self._mirror, self._view.message)
            self._uploader.start()
            self._stack.callback(lambda: uploader.close(STOPPING_S, settle=True))
            if not self._published:
                for entry in self.entries.values():
                    uploader.outcome(entry.trial, entry.params, entry.outcome)
        return self._uploader

    def _delivered(self) -> bool:
        """Bring MLflow in step, unless it was seen to be and nothing is new."""
        if self._published and self._uploader is None:
            return True
        wait_s = STOPPING_S if self._interrupts.stopping else DELIVERY_S
        delivered = self._uploading().close(wait_s, settle=True)
        _check_credentials(self._uploading())
        return delivered


def _is_tried_again(plan: Plan, entry: RecordedTrial) -> bool:
    """Whether a trial recorded earlier counts as not run. A search goes on without what it lost."""
    return entry.outcome.status in _REDO and not (plan.sweep.design == "search" and entry.stage == "tuning")


def _check_credentials(uploader: Uploader) -> None:
    """Raises what MLflow said to wrong credentials: the person can correct them now, not after hours of training."""
    if uploader.rejection is not None:
        raise uploader.rejection
