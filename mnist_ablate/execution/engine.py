"""Runs trials on Dask workers, here or on a cluster, and reports what happens to them. Records nothing."""

import itertools
import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple, Self

from distributed.client import ClosedClientError
from distributed.scheduler import KilledWorker

from mnist_ablate.errors import AblateError, UnreachableError, mask, one_line
from mnist_ablate.execution.cluster import MemoryKills, connected, replace_dead, scheduler_id
from mnist_ablate.execution.dask_settings import CONNECT_TIMEOUT_S, Tls
from mnist_ablate.execution.worker import OUT_OF_MEMORY, TOPIC, TrainerPlugin, prune, run
from mnist_ablate.trial import Epoch, Outcome, Trial

RETRIES = 2  # how often a lost trial is run again
PATIENCE = 10  # a trial counts as hung if it ends no epoch within this many times the median epoch of its pace
MIN_PATIENCE_S = 120.0
FIRST_PATIENCE_S = 1800.0
"""The patience before the first epoch of a pace, which may compile. A long preparation reports its progress."""
DRAIN_S = 30.0
NO_WORKER_S = 180.0  # the longest time without any local worker. Workers of a cluster may join later
_TICK_S = 0.25
_START_S = 2.0
_UNSTARTED = 10
_PAUSE_S = 5.0
_RESULT_S = 30.0
_EPOCHS_KEPT = 200
_KILLED = "worker killed"


class Started(NamedTuple):
    """A worker took the trial."""

    trial: Trial
    worker: str


class Preparing(NamedTuple):
    """The trial prepares something that takes long before its first epoch. `text` says what, and how far it is.

    Without a text, the trial says that it runs.
    """

    trial: Trial
    text: str


class Progress(NamedTuple):
    """The trial ended an epoch. It started at `started_ms` by its worker's clock, in ms since 1970."""

    trial: Trial
    epoch: Epoch
    started_ms: int = 0


class Retried(NamedTuple):
    """The trial was lost. It is run again, for the `attempt`-th of at most `RETRIES` times."""

    trial: Trial
    reason: str
    attempt: int


class Finished(NamedTuple):
    """The trial has its final outcome."""

    trial: Trial
    outcome: Outcome


Event = Started | Preparing | Progress | Retried | Finished
_Handler = Callable[[Any, float], Iterator[Event]]  # makes events of what has arrived, and when


@dataclass
class _Task:
    """A trial that is not finished. `submission` tells late messages of an earlier attempt from those of this one.

    `loss` says why the engine gave the attempt up.
    """

    trial: Trial
    future: Any = None
    submission: int = 0
    losses: int = 0
    unstarted: int = 0
    alone: bool = False
    worker: str = ""
    pid: int = 0
    started_ms: int = 0
    last_sign: float = field(default_factory=time.monotonic)
    loss: str = ""
    outcome: Outcome | None = None


@dataclass(eq=False)
class Engine:
    """A context manager. Inside it, workers with the plugin are up: `jobs` local ones, or those of the cluster."""

    plugin: TrainerPlugin
    jobs: int = 1
    address: str | None = None
    tls: Tls | None = None
    trial_timeout_s: float | None = None

    def __post_init__(self) -> None:
        self._arrived: queue.SimpleQueue[tuple[_Handler, Any, float]] = queue.SimpleQueue()
        self._waiting: deque[_Task] = deque()
        self._running: dict[str, _Task] = {}
        self._epoch_s: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_EPOCHS_KEPT))
        self._draining_since: float | None = None
        self._ticked = self._seen_worker = time.monotonic()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._client = stack.enter_context(connected(self.jobs, self.address, self.plugin, self.tls))
            self._scheduler = scheduler_id(self._client)
            self._memory_kills = MemoryKills(self._client)
            self._client.subscribe_topic(TOPIC, lambda event: self._put(self._on_message, event[1]))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def drain(self, *, at_once: bool = False) -> None:
        """Start nothing more. `batches` ends when the running trials have ended, `at_once` or after `DRAIN_S` s."""
        self._draining_since = self._draining_since or time.monotonic() - (DRAIN_S if at_once else 0.0)

    def prune(self, trial_id: str) -> None:
        """End a running trial after this epoch or the next, as "pruned". If it has ended already, nothing changes."""
        task = self._running.get(trial_id)
        if task is not None and task.worker:
            _in_thread(self._client.run, prune, self.plugin.name, trial_id, workers=[task.worker])

    def batches(self, trials: Iterable[Trial], *, ahead: bool) -> Iterator[list[Event]]:
        """The events of these trials until each is finished. A lost one is run again at most `RETRIES` times.

        If `ahead`, all waiting events come at once, and workers get their next trials before these are handled.
        Otherwise the next trial is taken when the last event has been handled, which can decide what it is.
        Raises UnreachableError if the scheduler goes away.
        """
        self._upcoming, self._waiting = map(_Task, trials), deque()
        self._check_workers()
        self._submit_waiting()
        while self._waiting or self._running:
            if self._draining_since is not None:
                now = time.monotonic()
                training = any(each.worker or now - each.last_sign < _START_S for each in self._running.values())
                if not training or now - self._draining_since > DRAIN_S:
                    return
            events = [*self._next_events(all_=ahead)]
            if ahead:
                self._submit_waiting()
            if events:
                yield events
            self._submit_waiting()

    def _next_events(self, *, all_: bool) -> Iterator[Event]:
        """The events of the next message, or of all that have arrived. Waits `_TICK_S` for the first."""
        with suppress(queue.Empty):
            handle, content, at = self._arrived.get(timeout=_TICK_S)
            yield from handle(content, at)
            while all_:
                handle, content, at = self._arrived.get_nowait()
                yield from handle(content, at)
        if time.monotonic() - self._ticked > _TICK_S and self._arrived.empty():
            self._check_workers()

    def _put(self, handle: _Handler, content: Any) -> None:
        """Called by Dask's threads. The events are made in the thread that asks for them."""
        self._arrived.put((handle, content, time.monotonic()))

    def _submit_waiting(self) -> None:
        """Give each worker one trial: a killed worker then loses one, and no trial waits behind a slow one.

        A trial that ran out of memory runs alone.
        """
        while self._draining_since is None and len(self._running) < self._slots:
            if not self._waiting:
                self._waiting.extend(itertools.islice(self._upcoming, 1))
            tasks = [*itertools.islice(self._waiting, 1), *self._running.values()]
            if not self._waiting or (self._running and any(task.alone for task in tasks)):
                return
            self._submit(self._waiting.popleft())

    def _submit(self, task: _Task) -> None:
        task.submission += 1
        task.last_sign, task.worker, task.loss, task.outcome = time.monotonic(), "", "", None
        task.started_ms = 0
        key = f"trial-{task.trial.id}-{task.submission}"
        arguments = (task.trial, self.plugin.name, task.submission)
        try:
            task.future = self._client.submit(run, *arguments, key=key, pure=False, retries=0)
        except ClosedClientError as error:
            raise self._scheduler_is_gone() from error
        self._running[task.trial.id] = task
        task.future.add_done_callback(lambda future: self._put(self._on_done, (task, future)))

    def _on_message(self, message: dict[str, Any], at: float) -> Iterator[Event]:
        task = self._running.get(message["trial_id"])
        if task is None or message["submission"] != task.submission:
            return
        if "started" in message:
            if task.worker:  # Dask started it again: its worker left, or a scheduler elsewhere retries by itself
                task.loss = task.loss or "its worker left"
                if task.losses == RETRIES:
                    task.future.cancel()
                    return
                task.losses += 1
                yield Retried(task.trial, task.loss, task.losses)
                task.loss = ""
            task.worker, task.pid, task.last_sign, task.outcome = message["started"], message["pid"], at, None
            task.started_ms = message["started_ms"]
            yield Started(task.trial, task.worker)
        elif "outcome" in message:
            task.outcome = Outcome.model_validate(message["outcome"])
        elif "preparing" in message:
            task.last_sign = at
            yield Preparing(task.trial, message["preparing"])
        else:
            self._epoch_s[self.plugin.workload.pace(task.trial.settings)].append(at - task.last_sign)
            task.last_sign = at
            yield Progress(task.trial, Epoch(**message["epoch"]), task.started_ms)

    def _on_done(self, done: tuple[_Task, Any], _at: float) -> Iterator[Event]:
        task, future = done
        if self._running.get(task.trial.id) is not task or task.future is not future:
            return
        del self._running[task.trial.id]
        outcome = _outcome(task, future)
        task.future = None
        if outcome.reason == _KILLED and self._memory_kills.include(task.pid):
            outcome = outcome.model_copy(update={"reason": OUT_OF_MEMORY})
        if outcome.status != "lost":
            yield Finished(task.trial, outcome)
        elif self._draining_since is None:
            yield from self._on_loss(task, outcome)

    def _on_loss(self, task: _Task, outcome: Outcome) -> Iterator[Event]:
        self._check_workers()
        if not task.worker and task.unstarted < _UNSTARTED and not task.loss:
            task.unstarted += 1  # it waited at a worker that another trial killed: not its own doing
            self._waiting.appendleft(task)
            return
        task.losses += 1
        if task.alone:
            reason = f"{outcome.reason}, with no other trial beside it too"
            yield Finished(task.trial, outcome.model_copy(update={"status": "failed", "reason": reason}))
        elif task.losses > RETRIES:
            yield Finished(task.trial, outcome)
        else:
            task.alone = outcome.reason == OUT_OF_MEMORY
            self._waiting.appendleft(task)
            yield Retried(task.trial, outcome.reason, task.losses)

    def _check_workers(self) -> None:
        """Count the workers and replace the hung ones. Time this process was suspended (Ctrl-Z) is not silence."""
        now = time.monotonic()
        cores = self._query_scheduler(self._client.scheduler.ncores)
        replace_dead(self._client)
        if cores or self.address:
            self._seen_worker = now
        elif now - self._seen_worker > NO_WORKER_S:
            raise AblateError(f"no worker has come up for {NO_WORKER_S:.0f} s: see the logs in the home")
        self._slots = max(1, sum(cores.values()))
        pause_s = now - self._ticked if now - self._ticked > _PAUSE_S else 0.0
        for task in self._running.values():
            task.last_sign = min(now, task.last_sign + pause_s)
            if not task.loss and now - task.last_sign > self._patience(self.plugin.workload.pace(task.trial.settings)):
                if worker := task.worker or self._worker_that_holds(task.future.key):
                    task.loss = f"no progress for {now - task.last_sign:.0f} s"
                    # It takes 5 s if the worker does not listen.
                    _in_thread(self._client.restart_workers, [worker], raise_for_error=False)
                else:
                    task.last_sign = now  # it waits for a worker
        self._ticked = time.monotonic()

    def _patience(self, pace: str) -> float:
        seen = self._epoch_s.get(pace)
        usual_s = max(MIN_PATIENCE_S, PATIENCE * median(seen)) if seen else FIRST_PATIENCE_S
        return self.trial_timeout_s or usual_s

    def _worker_that_holds(self, key: str) -> str:
        """The worker that holds this trial and nothing else, not even a trial of another sweep. Empty if none does."""
        given = self._query_scheduler(self._client.scheduler.processing, workers=None)
        return next((worker for worker, keys in given.items() if [*keys] == [key]), "")

    def _query_scheduler(self, question: Callable[..., Any], **arguments: Any) -> Any:
        """The scheduler's answer. Raises UnreachableError if it is gone, or if another has taken its place."""
        with suppress(OSError):
            if self._client.status == "running" and scheduler_id(self._client) == self._scheduler:
                return self._client.sync(question, **arguments, callback_timeout=CONNECT_TIMEOUT_S)
        raise self._scheduler_is_gone()

    def _scheduler_is_gone(self) -> UnreachableError:
        where = mask(self.address or "the local cluster")
        return UnreachableError(f"{where}: the Dask scheduler is gone: start it and run the same command again")


def _in_thread(ask: Callable[..., object], *arguments: object, **options: object) -> None:
    """Ask workers for something, and wait for no answer. A worker that is gone gives none."""

    def call() -> None:
        with suppress(Exception):
            ask(*arguments, **options)

    threading.Thread(target=call, name="ask-workers", daemon=True).start()


def _outcome(task: _Task, future: Any) -> Outcome:
    """The outcome of a settled future, from the worker's message or the result. Without one, the worker was lost."""
    if future.status == "finished":
        if task.outcome is not None:
            return task.outcome
        with suppress(Exception):
            outcome: Outcome = future.result(timeout=_RESULT_S)
            return outcome
    reason = task.loss or "its result was lost"
    if not task.loss:
        with suppress(Exception):
            error = future.exception(timeout=1)
            reason = _KILLED if isinstance(error, KilledWorker) else f"{type(error).__name__}: {error}"
    seconds = max(0.0, time.time() - task.started_ms / 1000) if task.started_ms else 0.0
    times = {"started_ms": task.started_ms, "seconds": seconds}
    return Outcome(trial_id=task.trial.id, status="lost", reason=one_line(reason), **times)
