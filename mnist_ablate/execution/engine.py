"""Runs trials on Dask workers, here or on a cluster, and reports what happens to them. Records nothing."""

import itertools
import math
import queue
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Self

from distributed.client import ClosedClientError
from distributed.scheduler import KilledWorker

from mnist_ablate.errors import AblateError, UnreachableError, mask, one_line
from mnist_ablate.execution.cluster import MemoryKills, ask_in_thread, connected, enlarge, replace_dead, scheduler_id
from mnist_ablate.execution.dask_settings import CONNECT_TIMEOUT_S, Tls
from mnist_ablate.execution.events import RETRIES, Event, Finished, Preparing, Progress, Retried, Started
from mnist_ablate.execution.filled_lanes import ARMS_BESIDE, take_lanes
from mnist_ablate.execution.worker import BUNDLE_S, OUT_OF_MEMORY, TOPIC, TrainerPlugin, prune, run
from mnist_ablate.trial import Epoch, Outcome, Trial

PATIENCE = 10  # a trial counts as hung if it ends no epoch within this many times the median epoch of its pace
MIN_PATIENCE_S = 120.0
FIRST_PATIENCE_S = 1800.0
"""The patience before the first epoch of a pace, which may compile. A long preparation reports its progress."""
DRAIN_S = 30.0
NO_WORKER_S = 180.0  # the longest time without any local worker. Workers of a cluster may join later
_TICK_S = 0.25
_BATCH_S = 0.1  # trials that end faster than this are told together, so that one transaction records them
_BUNDLE = 20  # the most trials that a worker gets at once
_START_S = 2.0
_UNSTARTED = 10
_PAUSE_S = 5.0
_RESULT_S = 30.0
_SILENCE_S = 60.0  # a scheduler may be late on a busy machine: it is asked again until then
_EPOCHS_KEPT = 200
_KILLED = "worker killed"


_Handler = Callable[[Any, float], Iterator[Event]]  # makes events of what has arrived, and when


@dataclass
class _Task:
    """A training that is not finished: the trials that it is still to reach, the longest last.

    `submission` tells late messages of an earlier attempt from those of this one. `loss` says why the engine gave the
    attempt up.
    """

    trials: tuple[Trial, ...]
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

    @property
    def trial(self) -> Trial:
        """The longest one: by it the training goes."""
        return self.trials[-1]

    def finished(self, outcomes: Iterable[Outcome]) -> Iterator[Finished]:
        """The events of those trials that have not finished yet; these are not to be reached again."""
        left = {trial.id: trial for trial in self.trials}
        for outcome in outcomes:
            if trial := left.pop(outcome.trial_id, None):
                self.trials = tuple(left.values()) or self.trials
                yield Finished(trial, outcome)

    def finished_alike(self, outcome: Outcome) -> Iterator[Finished]:
        """The same outcome for every trial that the training did not reach."""
        return self.finished([outcome.model_copy(update={"trial_id": trial.id}) for trial in self.trials])


@dataclass(eq=False)
class Engine:
    """A context manager. Inside it, workers with the plugin are up: `jobs` local ones, or those of the cluster.

    It uses as many of them as `share` says, which is asked again and again: one at least. A worker trains as many
    trials at once as there are `lanes`, if one program can train them.
    """

    plugin: TrainerPlugin
    jobs: int = 1
    address: str | None = None
    tls: Tls | None = None
    trial_timeout_s: float | None = None
    share: Callable[[int], int] = int
    lanes: int = 1

    def __post_init__(self) -> None:
        self._arrived: queue.SimpleQueue[tuple[_Handler, Any, float]] = queue.SimpleQueue()
        self._waiting: deque[_Task] = deque()
        self._running: dict[str, _Task] = {}
        self._held: set[str] = set()  # keys of what workers were given, until Dask says that it is over
        self._epoch_s: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_EPOCHS_KEPT))
        self._trial_s: deque[float] = deque([math.inf], maxlen=_BUNDLE)
        self._draining_since: float | None = None
        self._ticked = self._seen_worker = time.monotonic()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            first = max(1, min(self.jobs, self.share(self.jobs)))
            self._client = stack.enter_context(connected(first, self.address, self.plugin, self.tls))
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
            ask_in_thread(self._client.run, prune, self.plugin.name, trial_id, workers=[task.worker])

    def batches(self, trainings: Iterable[tuple[Trial, ...]], *, ahead: bool) -> Iterator[list[Event]]:
        """The events of these trainings until each trial is finished. A lost one is run again at most `RETRIES` times.

        A training has the trials that it serves, the longest last. Those before it have one event, their `Finished`.
        If `ahead`, workers get their next trainings before the events of the last are handled, and what happens within
        `_BATCH_S` of the batch before comes together. Otherwise the next one is taken when the last event has been
        handled, which can decide what it is.
        Raises UnreachableError if the scheduler goes away.
        """
        self._upcoming, self._waiting, self._ahead = map(_Task, trainings), deque(), ahead
        self._check_workers()
        self._submit_waiting()
        batch_due = 0.0
        while self._waiting or self._running:
            if self._draining_since is not None:
                now = time.monotonic()
                training = any(each.worker or now - each.last_sign < _START_S for each in self._running.values())
                if not training or now - self._draining_since > DRAIN_S:
                    return
            events = [*self._next_events()]
            while ahead and events and self._running and (wait_s := batch_due - time.monotonic()) > 0:
                self._submit_waiting()
                events += self._next_events(wait_s)
            if ahead:
                self._submit_waiting()
            if events:
                batch_due = time.monotonic() + _BATCH_S
                yield events
            self._submit_waiting()

    def _next_events(self, wait_s: float = _TICK_S) -> Iterator[Event]:
        """The events of the next message, if one comes."""
        with suppress(queue.Empty):
            handle, content, at = self._arrived.get(timeout=wait_s)
            yield from handle(content, at)
        if time.monotonic() - self._ticked > _TICK_S and self._arrived.empty():
            self._check_workers()

    def _put(self, handle: _Handler, content: Any) -> None:
        """Called by Dask's threads. The events are made in the thread that asks for them."""
        self._arrived.put((handle, content, time.monotonic()))

    def _submit_waiting(self) -> None:
        """Give each worker one trial: a killed worker then loses one, and no trial waits behind a slow one.

        Short ones go together, as many as take `BUNDLE_S`, and those for lanes. One that ran out of memory runs alone.
        """
        longest_s = max(*self._trial_s, BUNDLE_S / _BUNDLE)
        size, lanes = (max(1, int(BUNDLE_S / longest_s)), self.lanes) if self._ahead else (1, 1)
        while self._draining_since is None and (free := self._slots - len(self._futures)) > 0:
            wanted = max(size, ARMS_BESIDE * lanes * free) if lanes > 1 else size
            self._waiting.extend(itertools.islice(self._upcoming, max(0, wanted - len(self._waiting))))
            alone = any(task.alone for task in [*itertools.islice(self._waiting, size), *self._running.values()])
            if not self._waiting or (alone and self._running):
                return
            if tasks := take_lanes(self._waiting, 1 if alone else lanes, free, self.plugin.workload.lane_group):
                self._submit(tasks, lanes=True)
            else:
                self._submit([self._waiting.popleft() for _ in range(1 if alone else min(size, len(self._waiting)))])

    @property
    def _futures(self) -> dict[int, _Task]:
        """What workers were given and have not ended, each by the first of its tasks, for which the others wait."""
        return {id(task.future): task for task in reversed(self._running.values())}

    def _submit(self, tasks: Sequence[_Task], *, lanes: bool = False) -> None:
        for task in tasks:
            task.submission += 1
            task.last_sign, task.worker, task.loss, task.started_ms = time.monotonic(), "", "", 0
        given = [(task.trials, task.submission) for task in tasks]
        key = f"trial-{tasks[0].trial.id}-{tasks[0].submission}"
        try:
            future = self._client.submit(run, given, self.plugin.name, lanes=lanes, key=key, pure=False, retries=0)
        except ClosedClientError as error:
            raise self._scheduler_is_gone() from error
        for task in tasks:
            task.future = future
            self._running[task.trial.id] = task
        self._held.add(key)
        future.add_done_callback(lambda done: self._put(self._on_done, (tasks, done)))

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
            task.worker, task.pid, task.last_sign = message["started"], message["pid"], at
            task.started_ms = message["started_ms"]
            yield Started(task.trial, task.worker)
        elif "outcome" in message:
            yield from self._on_outcome(task, Outcome.model_validate(message["outcome"]), at)
        elif "preparing" in message:
            task.last_sign = at
            yield Preparing(task.trial, message["preparing"])
        else:
            self._epoch_s[self.plugin.workload.pace(task.trial.settings)].append(at - task.last_sign)
            task.last_sign = at
            yield Progress(task.trial, Epoch(**message["epoch"]), task.started_ms)

    def _on_outcome(self, task: _Task, outcome: Outcome, at: float) -> Iterator[Event]:
        for other in self._running.values():
            if other.future is task.future:
                other.last_sign = at  # it has waited for this one
        if outcome.trial_id != task.trial.id:
            yield from task.finished([outcome] if outcome.status != "lost" else ())
        elif len(task.trials) == 1:  # else a message is missing, and the result has all
            yield from self._settle(task, [outcome])

    def _on_done(self, done: tuple[Sequence[_Task], Any], _at: float) -> Iterator[Event]:
        """Settle the trials whose last message has not come. What its worker had no time for waits again."""
        tasks, future = done
        self._held.discard(future.key)
        left = [task for task in tasks if self._running.get(task.trial.id) is task and task.future is future]
        outcomes, problem = _results(future) if left else ({}, "")
        for task in reversed(left):  # those that wait again keep their order
            if task.trial.id in outcomes:
                yield from self._settle(task, [outcomes[trial.id] for trial in task.trials])
            elif problem or task.worker:
                reason = task.loss or problem or "its result was lost"
                seconds = max(0.0, time.time() - task.started_ms / 1000) if task.started_ms else 0.0
                times = {"started_ms": task.started_ms, "seconds": seconds}
                yield from self._settle(task, [Outcome(trial_id=task.trial.id, status="lost", reason=reason, **times)])
            else:
                del self._running[task.trial.id]
                self._waiting.appendleft(task)

    def _settle(self, task: _Task, outcomes: Sequence[Outcome]) -> Iterator[Event]:
        """End an attempt with the outcomes of what was left of it, that of the longest trial last."""
        del self._running[task.trial.id]
        outcome = outcomes[-1]
        self._trial_s.append(outcome.seconds if outcome.status == "complete" else math.inf)
        task.future = None
        if outcome.reason == _KILLED and self._memory_kills.include(task.pid):
            outcome = outcome.model_copy(update={"reason": OUT_OF_MEMORY})
        if outcome.status != "lost":
            yield from task.finished(outcomes)
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
            yield from task.finished_alike(outcome.model_copy(update={"status": "failed", "reason": reason}))
        elif task.losses > RETRIES:
            yield from task.finished_alike(outcome)
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
        share = self.share(sum(cores.values()) if self.address else self.jobs)
        enlarge(self._client, min(share, self.jobs))
        self._slots = max(1, min(share, sum(cores.values())))
        pause_s = now - self._ticked if now - self._ticked > _PAUSE_S else 0.0
        for task in self._futures.values():
            task.last_sign = min(now, task.last_sign + pause_s)
            if not task.loss and now - task.last_sign > self._patience(self.plugin.workload.pace(task.trial.settings)):
                if worker := task.worker or self._worker_that_holds(task.future.key):
                    task.loss = f"no progress for {now - task.last_sign:.0f} s"
                    # It takes 5 s if the worker does not listen.
                    ask_in_thread(self._client.restart_workers, [worker], raise_for_error=False)
                else:
                    task.last_sign = now  # it waits for a worker
        self._ticked = time.monotonic()

    def _patience(self, pace: str) -> float:
        seen = self._epoch_s.get(pace)
        usual_s = max(MIN_PATIENCE_S, PATIENCE * median(seen)) if seen else FIRST_PATIENCE_S
        return self.trial_timeout_s or usual_s

    def _worker_that_holds(self, key: str) -> str:
        """The worker that holds this trial and no other that runs, not even of another sweep. Empty if none does.

        It may hold one whose outcome came, if it froze before it said that nothing follows.
        """
        given = self._query_scheduler(self._client.scheduler.processing, workers=None)
        over = self._held - {task.future.key for task in self._running.values()}
        return next((worker for worker, keys in given.items() if {*keys} - over == {key}), "")

    def _query_scheduler(self, question: Callable[..., Any], **arguments: Any) -> Any:
        """The scheduler's answer. Raises UnreachableError if it is gone, or if another has taken its place."""
        end = time.monotonic() + _SILENCE_S
        client = self._client
        while client.status == "running" and scheduler_id(client) == self._scheduler and time.monotonic() < end:
            with suppress(OSError):
                return client.sync(question, **arguments, callback_timeout=CONNECT_TIMEOUT_S)
            time.sleep(_TICK_S)
        raise self._scheduler_is_gone()

    def _scheduler_is_gone(self) -> UnreachableError:
        where = mask(self.address or "the local cluster")
        return UnreachableError(f"{where}: the Dask scheduler is gone: start it and run the same command again")


def _results(future: Any) -> tuple[dict[str, Outcome], str]:
    """What a settled future brought, by trial, and why it brought nothing."""
    if future.status == "finished":
        with suppress(Exception):
            return {each.trial_id: each for each in future.result(timeout=_RESULT_S)}, ""
        return {}, "its result was lost"
    with suppress(Exception):
        error = future.exception(timeout=1)
        return {}, _KILLED if isinstance(error, KilledWorker) else one_line(f"{type(error).__name__}: {error}")
    return {}, "its result was lost"
