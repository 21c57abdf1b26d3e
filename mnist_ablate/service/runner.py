"""Takes what is due from the queue, and runs each sweep in a process of its own, some side by side; trains nothing."""

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from mnist_ablate.errors import BusyError, DiskError, SweepError, UnreachableError, mask
from mnist_ablate.ledger.database import Lock, hold, holder
from mnist_ablate.service import sweep_process
from mnist_ablate.service.claims import Claim, Claims, Taken, died
from mnist_ablate.service.fair_shares import one_to_yield
from mnist_ablate.service.limits import LimitsFile
from mnist_ablate.service.notices import Channels, Notifier, mail_from_environment
from mnist_ablate.service.queue import Queue, runner_lock
from mnist_ablate.service.submissions import Submission
from mnist_ablate.service.sweep_process import Job, Shares
from mnist_ablate.settings import Settings
from mnist_ablate.tracking.client import set_variables

_POLL_S, _AGAIN_S = 0.5, 2.0
_DEAD_S = 2.0  # so long must a lock be free: after a restart of the database it is for a moment
_OTHERS_EVERY_S = 1.0
_STOP_S = 20.0
_DRAIN_S = 60.0  # of a sweep that may let its trials finish, which takes 30 s and what is sent to MLflow
_NAME_WAIT_S = 3.0
_NAMES = 100
_OURS = ("execution.engine", "ledger.optuna_rows", "reports.charts", "reports.drawing", "reports.html")
_IMPORTED_ONCE = ("mlflow", "scipy.special", *(f"mnist_ablate.{name}" for name in _OURS))
"""What every sweep needs in the end: each would import it for seconds of a processor, in several threads at once."""
_Away = (UnreachableError, DiskError)
_log = logging.getLogger("mnist_ablate.service.runner")


@dataclass
class _Child:
    """The process of a sweep. `signalled` is the signal that it was sent last, `until` when the next harder one is."""

    claim: Claim
    submission: Submission
    process: ForkServerProcess
    channel: Connection
    shares: Shares
    is_behind: bool
    signalled: int = 0
    until: float = 0.0

    def signal(self, number: int, patience_s: float) -> None:
        if self.process.pid is not None and self.process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)
        self.signalled, self.until = number, time.monotonic() + patience_s


class Runner:
    """Runs at most `sweeps` at once, on the cluster of the settings or on `jobs` local workers that they share.

    `name` is the host's unless another runner has it. `say` gets a line for the operator.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what an operator decides
        self,
        settings: Settings,
        limits: Path | None,
        sweeps: int,
        name: str,
        code_paths: Sequence[Path],
        say: Callable[[str], None],
    ) -> None:
        """Raises SweepError if the limits or the variables for e-mail are wrong; opens nothing yet."""
        self._settings, self._say, self._limits = settings, say, LimitsFile(limits)
        self._sweeps, self._name, self._code_paths = sweeps, name, [*code_paths]
        self._mail = mail_from_environment()
        self._children: list[_Child] = []
        self._ended: list[tuple[Claim, str]] = []  # processes that ended without a word, until the queue knows
        self._free_since: dict[str, float] = {}  # locks of other runners that were seen free
        self._others_due = 0.0
        self._told = ""
        self._is_warm = threading.Event()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([sweep_process.__name__, *_IMPORTED_ONCE])
        set_variables()

    def run(self, stop: threading.Event) -> None:
        """Until `stop`: then running sweeps are stopped as by SIGTERM, and wait for another runner.

        A database that is not there is waited for. Raises SweepError if another runner has the name.
        """
        while not stop.is_set():
            try:
                self._run(stop)
            except _Away as error:  # before the first look: later ones are taken care of there
                self._tell_once(f"{error}; still trying")
                stop.wait(_AGAIN_S)

    def _run(self, stop: threading.Event) -> None:
        url = self._settings.ledger_url
        with ExitStack() as stack:
            queue = Queue(url)
            stack.callback(queue.close)
            lock, name = self._named(url, stack)
            claims = Claims(queue, name)
            claims.enter(self._sweeps, mask(self._settings.cluster or ""))
            stack.callback(self._leave, claims)
            notifier = Notifier(queue, self._settings.webhook, self._mail, self._tell)
            ended = threading.Event()
            thread = threading.Thread(target=notifier.run, args=(ended,), name="notifier", daemon=True)
            thread.start()
            stack.callback(ended.set)
            threading.Thread(target=self._warm_up, name="warm-up", daemon=True).start()
            self._tell(
                f"runner {name}: {self._sweeps} sweeps at once, on {mask(self._settings.cluster or 'local workers')}"
            )
            while not stop.wait(_POLL_S):
                try:
                    lock.ensure()
                    self._look(claims)
                except _Away as error:
                    self._tell_once(f"{error}; still trying")
                else:
                    self._told = self._limits.problem

    def _named(self, url: str, stack: ExitStack) -> tuple[Lock, str]:
        host = socket.gethostname()
        names = [self._name] if self._name else [host, *(f"{host}-{number}" for number in range(2, _NAMES))]
        for name in names:
            wait_s = _NAME_WAIT_S if self._name else 0.2
            try:
                return stack.enter_context(hold(url, runner_lock(name), wait_s)), name
            except BusyError:
                if name == names[-1]:
                    raise SweepError(f"--name {name}: another runner has this name: choose another") from None
        raise AssertionError

    def _look(self, claims: Claims) -> None:
        """One look at the queue, and what follows from it."""
        self._reap(claims)
        taken = claims.running()
        self._obey(taken)
        self._share(claims, taken)
        self._bury(claims)
        limits = self._limits.current()
        if self._limits.problem:
            self._tell_once(self._limits.problem)
        if not self._is_warm.is_set():
            return  # what another runner can start now it should start
        while self._room > 0 and claims.is_due():
            if (found := claims.take(limits)) is None:
                break
            self._start(*found, self._shares(claims, claims.running()))
        if not self._room:
            self._make_room(claims, taken)
        if not any(each.is_behind for each in self._children) and (behind := claims.take_behind()):
            self._start(*behind, Shares(), behind=True)

    def _warm_up(self) -> None:
        """Start the process that imports everything once; every sweep's is a fork of it."""
        first = self._context.Process(target=int)
        first.start()
        first.join()
        self._is_warm.set()

    @property
    def _room(self) -> int:
        return self._sweeps - sum(not each.is_behind for each in self._children)

    def _start(self, claim: Claim, submission: Submission, shares: Shares, *, behind: bool = False) -> None:
        mail = self._limits.current().of(submission.owner).mail
        recipients = (*self._mail.recipients, *([mail] if mail else [])) if self._mail else ()
        channels = Channels(bool(self._settings.webhook), tuple(dict.fromkeys(recipients)), self._settings.service_url)
        theirs, ours = self._context.Pipe(duplex=False)
        job = Job(claim, submission, self._settings, self._code_paths, channels, shares, behind)
        process = self._context.Process(target=sweep_process.run, args=(job, theirs), name=submission.name)
        process.start()
        theirs.close()
        self._children.append(_Child(claim, submission, process, ours, shares, behind))
        if not behind:
            self._note(submission, "started")

    def _reap(self, claims: Claims) -> None:
        """Take leave of the processes that have ended. What ended without a word is written down."""
        for child in [each for each in self._children if not each.process.is_alive()]:
            code = child.process.exitcode
            child.process.join()
            child.channel.close()
            self._children.remove(child)
            if code or child.is_behind:
                how = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
                self._ended.append((child.claim, how))
            if not child.is_behind:
                self._note(child.submission, "ended", code)
        while self._ended:
            died(claims.queue, *self._ended[0])
            del self._ended[0]

    def _obey(self, taken: Iterable[Taken]) -> None:
        """Send signals as it is wanted: a cancelled sweep ends at once, others may let their trials finish."""
        wanted = {each.claim: each.wanted for each in taken}
        now = time.monotonic()
        for child in self._children:
            asked = wanted.get(child.claim, "")
            if asked == "cancel" and child.signalled != signal.SIGTERM:
                child.signal(signal.SIGTERM, _STOP_S)
            elif asked in {"pause", "yield"} and not child.signalled:
                child.signal(signal.SIGINT, _DRAIN_S)
            elif child.signalled and now > child.until:
                child.signal(signal.SIGTERM if child.signalled == signal.SIGINT else signal.SIGKILL, _STOP_S)

    def _shares(self, claims: Claims, taken: Sequence[Taken]) -> Shares:
        """What runs on the workers of this runner: with a cluster what other runners have there, too."""
        here = {claims.runner} if self._settings.cluster is None else claims.beside(mask(self._settings.cluster))
        demands = tuple(each.demand for each in taken if each.claim.runner in here)
        return Shares(demands, self._limits.current().weights)

    def _share(self, claims: Claims, taken: Sequence[Taken]) -> None:
        """Tell each sweep what else runs on its workers, when that has changed."""
        shares = self._shares(claims, taken)
        for child in self._children:
            if shares != child.shares:
                with suppress(OSError):  # it is ending
                    child.channel.send(shares)
                child.shares = shares

    def _bury(self, claims: Claims) -> None:
        """Take from runners that have died what they had. A lock that is free for `_DEAD_S` says so."""
        now = time.monotonic()
        if now < self._others_due:
            return
        self._others_due = now + _OTHERS_EVERY_S
        free = {name for name in claims.others() if holder(claims.queue.url, runner_lock(name)) is None}
        self._free_since = {name: self._free_since.get(name, now) for name in free}
        for name in [name for name, since in self._free_since.items() if now - since >= _DEAD_S]:
            if count := claims.bury(name):
                self._tell(f"runner {name} is gone: its {count} sweeps go on elsewhere")
            del self._free_since[name]

    def _make_room(self, claims: Claims, taken: Sequence[Taken]) -> None:
        """If users wait who have nothing that runs, let one of ours yield to them; one at a time."""
        if any(each.wanted for each in taken):
            return
        found = one_to_yield(claims.starved(self._limits.current()), [each.demand for each in taken])
        for child in self._children:
            if found and child.submission.id == found.id and not child.signalled:
                claims.ask_to_yield(child.claim)

    def _leave(self, claims: Claims) -> None:
        """Stop what runs, and give it back. If the queue is away others find that this runner's lock is free."""
        for child in self._children:
            child.signal(signal.SIGTERM, _STOP_S)
        deadline = time.monotonic() + _STOP_S
        for child in self._children:
            child.process.join(max(0.0, deadline - time.monotonic()))
            if child.process.is_alive():
                child.process.kill()
                child.process.join()
            child.channel.close()
        self._children.clear()
        with suppress(*_Away):
            claims.leave()

    def _note(self, submission: Submission, what: str, code: int | None = 0) -> None:
        about = {"sweep": submission.id, "owner": submission.owner}
        _log.info("%s %s%s", submission.name, what, f" with {code}" if code else "", extra=about)

    def _tell_once(self, line: str) -> None:
        if line != self._told:
            self._tell(line)
        self._told = line

    def _tell(self, line: str) -> None:
        self._say(mask(line))


def serve_runner(runner: Runner) -> int:
    """Run it until a signal comes: 128 + its number."""
    came: list[int] = []
    stop = threading.Event()

    def catch(number: int, _frame: object) -> None:
        came.append(number)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, catch)
    runner.run(stop)
    return 128 + came[0] if came else 0
