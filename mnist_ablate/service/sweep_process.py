"""A sweep of the queue in a process of its own: drives it, writes how it ended, and ends with its runner."""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path

from mnist_ablate.errors import AblateError, BusyError, DiskError, UnreachableError, mask, one_line
from mnist_ablate.execution import recorded_report
from mnist_ablate.execution.driver import Run, drive
from mnist_ablate.processes import Interrupted, end_with_parent, raising
from mnist_ablate.service import code_paths, webhook
from mnist_ablate.service.claims import Claim, Ending, settle, settle_behind
from mnist_ablate.service.fair_shares import Demand, allot
from mnist_ablate.service.notices import Channels
from mnist_ablate.service.queue import Queue
from mnist_ablate.service.queue_view import QueueView
from mnist_ablate.service.submissions import FAILED_TRIALS, NOT_IN_STEP, Submission
from mnist_ablate.settings import Settings
from mnist_ablate.text import counted

_RETRY_S, _LEAVE_S = 0.5, 5.0
_CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Shares:
    """What runs on the same workers, and the weights of its users."""

    demands: Sequence[Demand] = ()
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """What a runner asks of a sweep's process: to drive it or, `behind`, to send MLflow what it lacks."""

    claim: Claim
    submission: Submission
    settings: Settings
    code_paths: Sequence[Path]
    channels: Channels
    shares: Shares
    behind: bool = False


class Share:
    """How many workers a sweep may use, by the latest that its runner said."""

    def __init__(self, id_: str, shares: Shares) -> None:
        self.shares = shares
        self._id = id_
        self._last: tuple[int, Shares, int] = (0, Shares(), 1)

    def __call__(self, workers: int) -> int:
        """Of so many workers."""
        shares = self.shares
        if self._last[:2] != (workers, shares):
            found = allot(workers, shares.demands, shares.weights).get(self._id, workers)
            self._last = workers, shares, found
        return self._last[2]


def run(job: Job, channel: Connection) -> None:
    """What the process does. `channel` brings shares; when it closes, the runner is gone, and this process goes too."""
    end_with_parent()
    os.setpgid(0, 0)  # Ctrl-C in a terminal is for the runner, which then says what is to be done
    share = Share(job.claim.id, job.shares)
    threading.Thread(target=_listen, args=(channel, share), name="runner", daemon=True).start()
    # Who began the sweep, as its record and MLflow show it.
    sys.argv = ["mnist-ablate", "submit", job.submission.name]
    os.environ["LOGNAME"] = job.submission.owner
    queue = Queue(job.settings.ledger_url, connections=1, create=False)
    settings = replace(job.settings, share=share)
    if job.behind:
        _catch_up(queue, job, settings)
        return
    ending = _attempt(queue, job, settings)
    for number in _CAUGHT:  # only the database can delay what is left, and another may do it
        signal.signal(number, signal.SIG_DFL)
    while True:
        try:
            settle(queue, job.claim, ending)
        except (UnreachableError, DiskError):
            time.sleep(_RETRY_S)
        else:
            break
    queue.close()
    leaving = threading.Timer(_LEAVE_S, os._exit, (0,))  # no thread that hangs keeps a place in the runner
    leaving.daemon = True
    leaving.start()


def _listen(channel: Connection, share: Share) -> None:
    with suppress(EOFError, OSError):
        while True:
            share.shares = channel.recv()
    os._exit(1)


def _attempt(queue: Queue, job: Job, settings: Settings) -> Ending:
    """Drive the sweep until it ends, or somebody ends it; how that went."""
    submission = job.submission
    try:
        with raising(once=True), QueueView(queue, job.claim) as view:
            sweep = code_paths.load(submission.text, submission.name, job.code_paths)
            settings = replace(settings, data=code_paths.data_for(sweep, settings.data))
            return _ending(drive(sweep, settings, view), job, view)
    except Interrupted:
        return Ending(interrupted=True)
    except (BusyError, UnreachableError, DiskError) as error:
        return Ending(waits=True, reason=one_line(str(error)))
    except AblateError as error:
        return _failure(job, one_line(str(error)), error.exit_code)
    except Exception as error:  # noqa: BLE001 - whatever it is, the queue must know
        log = settings.log_dir / f"sweep-{submission.id}.log"
        with suppress(OSError):
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(mask(traceback.format_exc()), encoding="utf-8")
        return _failure(job, one_line(f"{type(error).__name__}: {error}; traceback in {log}"), 1)


def _ending(result: Run, job: Job, view: QueueView) -> Ending:
    """How a drive that came to its end went."""
    if result.interrupted:
        return Ending(interrupted=True)
    view.judged(result.report)
    report, in_step = result.report, result.publish()
    code = FAILED_TRIALS if result.broken else 0 if in_step else NOT_IN_STEP
    found = report.trials
    bad = [
        f"{counted(count, 'trial')} {how}" for how, count in (("failed", found.failed), ("lost", found.lost)) if count
    ]
    reason = ", ".join(bad) or ("trials of the negative control failed" if result.broken else "")
    verdicts = {claim.name: claim.verdict for claim in report.claims}
    told = job.channels.notices(job.submission, webhook.ending(report, result.link, code), reason)
    return Ending("done", code, reason, is_behind=not in_step, link=result.link, verdicts=verdicts, notices=told)


def _failure(job: Job, reason: str, code: int) -> Ending:
    content = webhook.failure(job.submission.name, reason, code)
    return Ending(
        "failed", exit_code=code, reason=reason, notices=job.channels.notices(job.submission, content, reason)
    )


def _catch_up(queue: Queue, job: Job, settings: Settings) -> None:
    """Send MLflow what it lacks of a sweep that is done."""
    try:
        recorded_report.sync(job.submission.name, settings)
    except AblateError:
        in_step = False
    else:
        in_step = True
    settle_behind(queue, job.claim, in_step=in_step)
