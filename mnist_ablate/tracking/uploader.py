"""One thread that feeds the mirror, so that training never waits for MLflow; decides when, never what, is sent.

A thread and not a process: on 2 cores MLflow's calls keep other threads waiting 5 ms, its import once 140 ms.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice

from mnist_ablate.errors import UnreachableError, one_line
from mnist_ablate.tracking.client import RefusedError, RejectedError
from mnist_ablate.tracking.home_store import is_creating
from mnist_ablate.tracking.mirror import FinishedTrial, Mirror
from mnist_ablate.trial import Epoch, Outcome, Scalar, Trial

MAX_EPOCHS = 1000  # epochs kept while MLflow is slow; more are left to their trial's outcome, which carries them too
EPOCH_PAUSE_S = 0.5
EPOCHS_SHARE = 0.04
"""Between two calls with epochs: so long, and so much longer that they take no more of the time than this. An embedded
MLflow takes some 75 ms of the cores that train for each; no epoch is lost, a trial's outcome carries all of them."""
WARN_EVERY_S = 60.0
SAY_AFTER_S, SAY_EVERY_S = 5.0, 30.0
BUSY_SHARE = 0.1  # of the time on the processor: a thread that waits for an answer takes none, a live view a hundredth
_DOUBLINGS = 20


class Uploader:
    """Takes epochs and outcomes from any thread and returns at once.

    Outcomes are kept until MLflow has them; epochs are sent once, together, and forgotten if that fails.
    """

    def __init__(
        self, mirror: Mirror, warn: Callable[[str], None], *, first_wait_s: float = 0.5, longest_wait_s: float = 30.0
    ) -> None:
        """`warn` gets at most one line a minute, from the thread; the waits are those between failed attempts."""
        self._mirror, self._warn = mirror, warn
        self._first_wait_s, self._longest_wait_s = first_wait_s, longest_wait_s
        self._outcomes: deque[FinishedTrial] = deque()
        self._epochs: dict[str, tuple[Trial, Mapping[str, Scalar], int, list[Epoch]]] = {}
        self._tags: dict[str, str] = {}  # of the sweep's own run
        self._news, self._closing = threading.Condition(), threading.Event()
        self._opened = self._settle = self._in_step = False
        self._failures = self._refused = self._done = 0
        self._warn_after = self._epochs_after = 0.0
        self.rejection: RejectedError | None = None  # MLflow never let us in and never will: nothing more is sent
        self._thread = threading.Thread(target=self._run, name="mlflow-uploader", daemon=True)

    def start(self) -> None:
        """Starts the thread, which opens the mirror and warns at once if it cannot."""
        self._thread.start()

    def epoch(self, trial: Trial, arm: Mapping[str, Scalar], started_ms: int, epoch: Epoch) -> None:
        """Queues an epoch of a trial that is training; a lower number than before is another attempt."""
        with self._news:
            if sum(len(epochs) for *_, epochs in self._epochs.values()) >= MAX_EPOCHS:
                del self._epochs[next(iter(self._epochs))]
            *_, queued = self._epochs.get(trial.id, ([],))
            own = [earlier for earlier in queued if earlier.number < epoch.number] + [epoch]
            self._epochs[trial.id] = (trial, arm, started_ms, own)
            self._news.notify()

    def outcome(self, trial: Trial, arm: Mapping[str, Scalar], outcome: Outcome, stage: str = "") -> None:
        """Queues a finished trial, whose own epochs then need not be sent before it."""
        with self._news:
            self._epochs.pop(trial.id, None)
            self._outcomes.append(FinishedTrial(trial, arm, outcome, stage))
            self._news.notify()

    def tag(self, name: str, value: str) -> None:
        """Queues a tag of the sweep's own run."""
        with self._news:
            self._tags[name] = value
            self._news.notify()

    def close(self, timeout_s: float, *, settle: bool = False, patient: Callable[[str], None] | None = None) -> bool:
        """Sends what is left, and with `settle` ends the runs nobody runs any more, in `timeout_s` at most.

        With `patient` it goes on as long as there is a sign of progress within each `timeout_s`: something was sent, or
        this process had the processor, which a busy machine gives it late. `patient` is told what is left.
        Gives up at the second failure in a row: a tracker that is down must not hold up the end of a sweep.
        Returns True if MLflow has everything; after False the mirror may still be in use, so leave it alone.
        """
        with self._news:
            self._settle = settle
            self._closing.set()
            self._news.notify()
        if patient is None:
            self._thread.join(timeout_s)
        else:
            self._wait_for_progress(timeout_s, patient)
        return self._in_step and not self._refused

    def _wait_for_progress(self, timeout_s: float, say: Callable[[str], None]) -> None:
        now = seen_at = time.monotonic()
        say_at, done, used = now + SAY_AFTER_S, self._done, time.process_time()
        while self._thread.is_alive() and now - seen_at < timeout_s:
            self._thread.join(min(1.0, timeout_s))
            passed, now = time.monotonic() - now, time.monotonic()
            worked, used = time.process_time() - used, time.process_time()
            if self._done > done or worked > BUSY_SHARE * passed or is_creating():
                seen_at, done = now, self._done
            if now >= say_at and self._thread.is_alive():
                say_at = now + SAY_EVERY_S
                left = len(self._outcomes)
                say(f"waiting for MLflow: {left:,} {'trial' if left == 1 else 'trials'} left to send")

    def _run(self) -> None:
        while work := self._next():
            try:
                work()
                if self._mirror.notice and not self._opened:
                    self._warn(self._mirror.notice)
                self._opened, self._failures = True, 0
                self._done += 1
                if work == self._mirror.settle:
                    self._settle = False
            except Exception as error:  # noqa: BLE001 - whatever it is, training and the ledger go on
                if isinstance(error, RejectedError) and not self._opened:
                    self.rejection = error
                    return
                self._failures += 1
                self._complain(error, "training goes on and the ledger keeps everything")
                if self._closing.is_set():
                    if self._failures > 1:
                        return
                    time.sleep(self._first_wait_s)
                else:
                    wait_s = self._first_wait_s * 2.0 ** min(self._failures - 1, _DOUBLINGS)
                    self._closing.wait(min(self._longest_wait_s, wait_s))
        self._in_step = True

    def _next(self) -> Callable[[], None] | None:
        """What to do now, None when everything is done; waits for news."""
        with self._news:
            while True:
                if not self._opened:
                    return self._mirror.open
                if self._outcomes:
                    return self._send_outcomes
                if self._tags:
                    return self._send_tags
                if self._closing.is_set():
                    return self._mirror.settle if self._settle else None
                pause_s = self._epochs_after - time.monotonic()
                if self._epochs and pause_s <= 0:
                    return self._send_epochs
                self._news.wait(pause_s if self._epochs else None)

    def _send_outcomes(self) -> None:
        """Those that have piled up side by side; alone the first that did not go, so that it tells why."""
        batch: dict[str, FinishedTrial] = {}
        with self._news:
            for each in islice(self._outcomes, 16):
                batch.setdefault(each[0].id, each)
        together = len(batch) > 1 and not self._failures
        sent = self._mirror.outcomes_together([*batch.values()]) if together else {}
        with self._news:
            for trial_id in sent:
                self._outcomes.remove(batch[trial_id])
        if len(sent) < len(batch):
            self._send_outcome()

    def _send_tags(self) -> None:
        with self._news:
            tags = dict(self._tags)
        self._mirror.tag(tags)
        with self._news:
            self._tags = {name: value for name, value in self._tags.items() if tags.get(name) != value}

    def _send_outcome(self) -> None:
        finished = self._outcomes[0]
        try:
            self._mirror.outcome(*finished)
        except Exception as error:
            if isinstance(error, UnreachableError) and not isinstance(error, RefusedError):
                raise
            self._refused += 1  # one outcome that cannot be sent must not hold up the others
            self._complain(error, f"trial {finished.trial.id} is in the ledger only")
        self._outcomes.popleft()

    def _send_epochs(self) -> None:
        with self._news:
            if not self._epochs:
                return
            trial, arm, started_ms, epochs = self._epochs.pop(next(iter(self._epochs)))
        began = time.monotonic()
        try:
            self._mirror.epoch(trial, arm, started_ms, *epochs)
        finally:
            ended = time.monotonic()
            pause_s = max(EPOCH_PAUSE_S, (ended - began) / EPOCHS_SHARE)
            self._epochs_after = ended + min(pause_s, self._longest_wait_s)

    def _complain(self, error: Exception, then: str) -> None:
        if time.monotonic() >= self._warn_after:
            self._warn_after = time.monotonic() + WARN_EVERY_S
            kind = "" if isinstance(error, UnreachableError) else f"{type(error).__name__}: "
            self._warn(f"{kind}{one_line(str(error)) if kind else error}; {then}")
