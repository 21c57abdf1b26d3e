"""Runs trials on Dask workers, here or on a cluster, and tells what happens to them; records nothing."""

import logging
import os
import queue
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import dask
from distributed import Client, LocalCluster
from distributed.scheduler import KilledWorker

from mnist_ablate.errors import UnreachableError
from mnist_ablate.trial import Epoch, Outcome, Trial
from mnist_ablate.worker import KERAS_TRAINER, TOPIC, TrainerPlugin, run

RETRIES = 2
"""How often a lost trial is run again."""
PATIENCE = 10
"""A trial is hung after this many times the median epoch without an epoch."""
MIN_PATIENCE_S = 120.0
CONNECT_TIMEOUT_S = 10
DRAIN_S = 30.0
_TICK_S = 0.25

_SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,  # retries are ours, so that each is told and counted
    "distributed.scheduler.worker-saturation": 1.0,  # a killed worker then loses one trial, not a queue
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.comm.timeouts.connect": f"{CONNECT_TIMEOUT_S}s",
    "distributed.admin.system-monitor.disk": False,
    # glibc returns 100 MB blocks to the kernel by default: page faults on every mask cost 3% of an epoch.
    "distributed.nanny.pre-spawn-environ": {
        "MALLOC_MMAP_THRESHOLD_": "4000000000",
        "MALLOC_TRIM_THRESHOLD_": "8000000000",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    },
}


@dataclass(frozen=True)
class Started:
    """A worker took the trial."""

    trial: Trial
    worker: str


@dataclass(frozen=True)
class Progress:
    """The trial ended an epoch."""

    trial: Trial
    epoch: Epoch


@dataclass(frozen=True)
class Retried:
    """The trial was lost and is run again, for the `attempt`-th of `RETRIES` times."""

    trial: Trial
    reason: str
    attempt: int


@dataclass(frozen=True)
class Finished:
    """The trial has its final outcome."""

    trial: Trial
    outcome: Outcome


Event = Started | Progress | Retried | Finished


@dataclass
class _Running:
    trial: Trial
    future: Any
    attempt: int = 0
    worker: str = ""
    last_sign: float = field(default_factory=time.monotonic)
    verdict: str = ""


class Engine:
    """A context manager: workers are up inside it. `jobs` local processes, or the cluster at `address`."""

    def __init__(
        self,
        *,
        jobs: int,
        address: str | None,
        data_digest: str,
        images: bytes | None,
        log_dir: Path,
        trainer: str = KERAS_TRAINER,
        trial_timeout_s: float | None = None,
    ) -> None:
        self._jobs, self._address, self._timeout_s = jobs, address, trial_timeout_s
        local_logs = None if address else log_dir
        self._plugin = TrainerPlugin(f"mnist-ablate-{data_digest[:16]}-{trainer}", trainer, images, local_logs)
        self._events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._running: dict[str, _Running] = {}
        self._epoch_s: deque[float] = deque(maxlen=200)
        self._draining_since: float | None = None
        self._cluster: Any = None
        self._client: Any = None

    def __enter__(self) -> "Engine":
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        dask.config.set(_SETTINGS)
        try:
            self._client = Client(self._address or self._local_cluster(), timeout=f"{CONNECT_TIMEOUT_S}s")
            self._client.register_plugin(self._plugin)
        except (OSError, TimeoutError, ValueError) as error:
            self.close()
            raise UnreachableError(f"{self._address}: no Dask scheduler answers: start it or check --cluster") from error
        self._client.subscribe_topic(TOPIC, lambda event: self._events.put(("message", event[1])))
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop local workers at once; leave those of a cluster to it."""
        for part in (self._client, self._cluster):
            if part is not None:
                with suppress(Exception):
                    part.close(timeout=2)
        self._client = self._cluster = None

    @property
    def workers(self) -> int:
        """How many trials can run at once now."""
        return sum(self._client.nthreads().values())

    def drain(self) -> None:
        """Start nothing more; `run` ends when the running trials have, or after `DRAIN_S` seconds."""
        self._draining_since = self._draining_since or time.monotonic()

    def run(self, trials: Iterable[Trial]) -> Iterator[Event]:
        """Events of these trials until each is finished; a lost one is run again at most `RETRIES` times."""
        waiting = deque(trials)
        window = 2 * max(1, self.workers)
        while waiting or self._running:
            while waiting and len(self._running) < window and self._draining_since is None:
                self._submit(_Running(waiting.popleft(), future=None))
            if self._drained():
                return
            try:
                kind, payload = self._events.get(timeout=_TICK_S)
            except queue.Empty:
                window = 2 * max(1, self.workers)
                self._replace_hung_workers()
                continue
            yield from self._told(payload) if kind == "message" else self._ended(payload)

    def _local_cluster(self) -> Any:
        self._cluster = LocalCluster(
            n_workers=self._jobs, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=logging.CRITICAL
        )
        return self._cluster

    def _submit(self, task: _Running) -> None:
        key = f"{task.trial.id}-{task.attempt}"
        task.future = self._client.submit(run, task.trial, self._plugin.name, key=key, pure=False, retries=0)
        task.last_sign, task.worker, task.verdict = time.monotonic(), "", ""
        self._running[task.trial.id] = task
        task.future.add_done_callback(lambda future: self._events.put(("done", (task.trial.id, future))))

    def _told(self, message: dict[str, Any]) -> Iterator[Event]:
        task = self._running.get(message["trial_id"])
        if task is None:
            return
        now = time.monotonic()
        if "started" in message:
            task.worker, task.last_sign = message["started"], now
            yield Started(task.trial, task.worker)
        else:
            self._epoch_s.append(now - task.last_sign)
            task.last_sign = now
            yield Progress(task.trial, Epoch(**message["epoch"]))

    def _ended(self, payload: tuple[str, Any]) -> Iterator[Event]:
        trial_id, future = payload
        task = self._running.get(trial_id)
        if task is None or task.future is not future:
            return
        del self._running[trial_id]
        outcome = _outcome(task, future)
        if outcome.status == "lost" and task.attempt < RETRIES and self._draining_since is None:
            task.attempt += 1
            yield Retried(task.trial, outcome.reason, task.attempt)
            self._submit(task)
        elif outcome.status != "lost" or self._draining_since is None:
            yield Finished(task.trial, outcome)

    def _replace_hung_workers(self) -> None:
        patience = self._timeout_s or (
            max(MIN_PATIENCE_S, PATIENCE * median(self._epoch_s)) if self._epoch_s else None
        )
        if patience is None:
            return
        now = time.monotonic()
        for task in self._running.values():
            if task.worker and not task.verdict and now - task.last_sign > patience:
                task.verdict = f"no progress for {now - task.last_sign:.0f} s"
                self._client.restart_workers([task.worker], raise_for_error=False)

    def _drained(self) -> bool:
        if self._draining_since is None:
            return False
        started = [task for task in self._running.values() if task.worker]
        return not started or time.monotonic() - self._draining_since > DRAIN_S


def _outcome(task: _Running, future: Any) -> Outcome:
    """What a settled future says; anything but a returned outcome means that the worker was lost."""
    if future.status == "finished":
        outcome: Outcome = future.result()
        return outcome
    reason = task.verdict or "worker lost"
    with suppress(Exception):
        error = future.exception(timeout=1)
        if not task.verdict:
            reason = "worker killed" if isinstance(error, KilledWorker) else f"{type(error).__name__}: {error}"
    return Outcome(trial_id=task.trial.id, status="lost", reason=reason.partition("\n")[0][:300])


def default_jobs() -> int:
    """One worker a core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
