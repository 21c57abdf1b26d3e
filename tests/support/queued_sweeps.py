"""Sweeps of a service that no runner runs: a test writes into the queue what one would."""

import json
import time
from typing import Any

from ledger_records import plan, recorded
from sweep_runs import small

from mnist_ablate.execution.live_progress import ClaimSoFar, LiveProgress, Snapshot
from mnist_ablate.service.queue import Queue, add_events, put, put_state
from mnist_ablate.service.submissions import Submission
from mnist_ablate.service.sweep_service import SweepService
from mnist_ablate.sweep.sweep import Sweep


def submitted(queue: Queue, owner: str = "ann", **changes: Any) -> Submission:
    """The small sweep, changed, of 6 trials."""
    return queue.submit(small(**changes), owner=owner, planned=6)[0]


def snapshot(done: int = 2, verdict: str = "", **changes: Any) -> Snapshot:
    """What a runner would tell of the small sweep."""
    claims = (ClaimSoFar(name="tanh-hurts", statement="Tanh hurts <relu>.", verdict=verdict),)
    found = LiveProgress(plan(), {}).snapshot().model_copy(update={"claims": claims, "done": done})
    status = f"{done} of 6 trials, 1 running, 50 s left"
    return found.model_copy(update={"status": status, "running": ("relu seed 1: epoch 1 of 2",), **changes})


def running(queue: Queue, sweep: Submission, *lines: str, done: int = 2) -> None:
    """It runs: a snapshot, and lines of its log."""
    told: Any = [("message", {"text": line}) for line in lines]
    with queue.writing() as connection:
        put(connection, sweep.id, recorded=done)
        put_state(connection, sweep.id, "running", started_at=time.time(), runner="r1")
        add_events(connection, sweep.id, [*told, ("snapshot", snapshot(done).model_dump())])


def ended(service: SweepService, sweep: Submission, verdict: str = "supported", exit_code: int = 0) -> None:
    """It is done, and the ledger has its trials."""
    asked: Sweep = small(name=sweep.name)
    recorded(service.settings.home, asked)
    last = snapshot(6, verdict, running=(), status="6 of 6 trials, 0 running, 0 s left")
    about = {"exit_code": exit_code, "ended_at": time.time(), "verdicts": json.dumps({"tanh-hurts": verdict})}
    with service.queue.writing() as connection:
        put(connection, sweep.id, recorded=6)
        add_events(connection, sweep.id, [("snapshot", last.model_dump())])
        put_state(connection, sweep.id, "done", **about)
