"""Shows a running sweep to the queue, about once a second; a queue that is slow or away never slows training."""

import os
import signal
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Self

from mnist_ablate.errors import DiskError, UnreachableError, mask
from mnist_ablate.execution.events import Event, Finished
from mnist_ablate.execution.live_progress import LiveProgress, Snapshot
from mnist_ablate.reports.report import Report
from mnist_ablate.service.claims import Claim, report
from mnist_ablate.service.queue import Queue
from mnist_ablate.service.submissions import Kind
from mnist_ablate.statistics.claim_verdict import ClaimVerdict
from mnist_ablate.sweep.plan import Plan, PlannedTrial
from mnist_ablate.trial import RecordedTrial

_EVERY_S = 1.0
_LAST_S = 5.0
_MOST_KEPT = 1000  # of what happened while the queue does not answer


class QueueView(AbstractContextManager["QueueView"]):
    """A `driver.View`. Inside the context a thread writes what happened; at its end the rest is written.

    If the claim is not this process's any more, the process gets SIGTERM: another runs the sweep.
    """

    def __init__(self, queue: Queue, claim: Claim) -> None:
        self._queue, self._claim = queue, claim
        self._progress: LiveProgress | None = None
        self._shown = Snapshot()
        self._events: list[tuple[Kind, Mapping[str, Any]]] = []
        self._processor_s = 0.0
        self._changing = threading.RLock()  # a signal can interrupt an event, and its message be kept
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="queue-view", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.end()
        self._closing.set()
        self._thread.join(_LAST_S)

    def opened(self, plan: Plan, entries: Mapping[str, RecordedTrial]) -> None:
        """The plan is registered."""
        self._progress = LiveProgress(plan, entries)
        if self._progress.resumes:
            self.message(self._progress.resumes)

    def event(self, planned: PlannedTrial, event: Event) -> None:
        """Take an event in; what a person must know of it becomes a message."""
        if self._progress is not None and (line := self._progress.event(planned, event)):
            self.message(line)
        if isinstance(event, Finished):
            with self._changing:
                self._processor_s += event.outcome.seconds

    def verdict(self, found: ClaimVerdict) -> None:
        """A claim of an adaptive sweep is decided."""
        if self._progress is not None:
            text = self._progress.verdict(found)
            self._add("verdict", {"name": found.name, "verdict": found.verdict, "text": text})

    def judged(self, report: Report) -> None:
        """The claims are judged on all trials: what is shown last has every verdict."""
        if self._progress is not None:
            for found in report.claims:
                self._progress.verdict(found)

    def message(self, text: str) -> None:
        """A line for people."""
        self._add("message", {"text": mask(text)})

    def _add(self, kind: Kind, data: Mapping[str, Any]) -> None:
        with self._changing:
            self._events = [*self._events, (kind, data)][-_MOST_KEPT:]

    def _run(self) -> None:
        while not self._closing.wait(_EVERY_S):
            self._write()
        self._write()

    def _write(self) -> None:
        """Write what is new. If that fails it is written later."""
        snapshot = self._progress.snapshot() if self._progress else self._shown
        with self._changing:
            events, self._events = self._events, []
            seconds, self._processor_s = self._processor_s, 0.0
        shown: list[tuple[Kind, Mapping[str, Any]]] = []
        if snapshot != self._shown:
            shown.append(("snapshot", snapshot.model_dump(mode="json")))
        try:
            counts = {"planned": snapshot.size, "recorded": snapshot.done} if self._progress else {}
            is_ours = report(self._queue, self._claim, [*events, *shown], processor_s=seconds, **counts)
        except (UnreachableError, DiskError):
            with self._changing:
                self._events = [*events, *self._events][-_MOST_KEPT:]
                self._processor_s += seconds
            return
        self._shown = snapshot
        if not is_ours and not self._closing.is_set():
            os.kill(os.getpid(), signal.SIGTERM)
            self._closing.set()
