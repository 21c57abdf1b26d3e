"""What a bad tracker does: replies lost after a real MLflow server has committed, and what training loses by it.

`lost N` loses replies by the hundred, and counts ghost runs and doubled points.

`cost` measures what a dead, a hung and a slow tracker take from training. Two processes work without a pause, as trials
do; in this one an uploader is fed as a sweep feeds it, and held in every second turn. Each turn is compared with the
ones beside it, so that a machine that gets slower or faster does not count. What the uploader computes is counted too:
with every core at work, that is what training loses. Importing MLflow, two seconds once a sweep, is not counted.
"""

import json
import multiprocessing
import os
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import c_bool, c_ulonglong
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Any

from mlflow_helpers import ARM, DIGEST, START_MS, epochs, free_port, mirror, new_home, outcome, pending, trial, until
from mlflow_stub import Reply, Stub, mlflow_server, running

from mnist_ablate.errors import UnreachableError
from mnist_ablate.tracking.mirror import Mirror
from mnist_ablate.tracking.uploader import Uploader
from mnist_ablate.verification import raw_stores

_WRITES = ("/experiments/create", "/runs/create", "/runs/log-batch", "/runs/update", "/runs/set-tag", "/runs/delete")
TRIALS = 8
SHARE = 0.7
WORKERS = 2
STEPS = 3
EVERY_S = 0.15  # an epoch from each of two workers each 0.3 s, faster than any network here trains
TURNS = 6
SLOW_S = 2.0
_EXPERIMENT = {"experiment_id": "1", "name": "normalization", "lifecycle_stage": "active"}
_RUN = {"info": {"run_id": "r", "experiment_id": "1", "status": "RUNNING"}, "data": {}}
_ANSWERS = {
    "/experiments/get-by-name": {"experiment": _EXPERIMENT},
    "/runs/create": {"run": _RUN},
    "/runs/search": {"runs": []},
}


class Losing(Stub):
    """A proxy that passes writes on and drops the reply of some, by chance."""

    lost = 0
    random = random.Random(0)

    def reply_to(self, request: BaseHTTPRequestHandler, path: str, body: bytes) -> Reply | None:
        reply = self.pass_on(request, body)
        with self.lock:
            lose = path.endswith(_WRITES) and self.random.random() < SHARE
            self.lost += lose
        return None if lose else reply


def lose(replies: int) -> Counter[str]:
    """Send sweeps until so many replies are lost; then count what MLflow holds too much or too little of."""
    names: list[str] = []
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        uri, port = new_home(Path(folder)), free_port()
        with mlflow_server(uri, port), running(Losing(upstream=port)) as proxy:
            while proxy.lost < replies:
                names.append(f"lost {len(names)}")
                _send(proxy, names[-1])
        found = Counter(lost=proxy.lost)
        for name in names:
            found.update(_counted(uri, name))
        return found


def _send(proxy: Losing, name: str) -> None:
    """A sweep of a few trials, its epochs and outcomes, through the uploader; then the verdicts."""
    mirror = Mirror(proxy.uri, name, "ab" * 32, "?", {})
    sender = _started(mirror)
    for seed in range(TRIALS):
        for epoch in epochs(3):
            sender.epoch(trial(seed), ARM, START_MS, epoch)
        sender.outcome(trial(seed), ARM, outcome(trial(seed)))
    until(lambda: pending(sender) == 0, 120)
    while not sender.close(20, settle=True):
        sender = _started(mirror)
    for _ in range(100):
        try:
            mirror.verdicts(("done", "done"), {"effect.x": 0.1}, [], {})
        except UnreachableError:  # a lost reply; the command `sync` would be given again
            continue
        return


def _started(mirror: Mirror) -> Uploader:
    sender = Uploader(mirror, lambda _text: None, first_wait_s=0.001, longest_wait_s=0.002)
    sender.start()
    return sender


def _counted(uri: str, name: str) -> dict[str, int]:
    experiment = raw_stores.read_mlflow(uri, name)
    assert experiment is not None
    runs = Counter(run.tags.get("trial_id", "the sweep") for run in experiment.runs)
    points = Counter((run.run_id, key, step) for run in experiment.runs for key, step, _, _ in run.points)
    wanted = TRIALS * (3 * 4 + 4) + 1
    return {
        "ghosts": runs.total() - len(runs) + max(0, len(runs) - TRIALS - 1),
        "doubled": points.total() - len(points),
        "missing": max(0, wanted - len(points)) + max(0, TRIALS + 1 - len(runs)),
    }


def work(done: Any, stop: Any) -> None:
    """Multiply matrices, as an epoch does, and count."""
    import numpy as np

    matrix = np.random.default_rng(0).standard_normal((160, 160), dtype=np.float32)
    while not stop.value:
        for _ in range(10):
            matrix = np.tanh(matrix @ matrix * 0.01)
        done.value += 1


@contextmanager
def working() -> Iterator[Callable[[], int]]:
    """Processes that work; a function that says how much they have done."""
    context = multiprocessing.get_context("spawn")
    stop = context.Value(c_bool, lock=False)
    done = [context.Value(c_ulonglong, lock=False) for _ in range(WORKERS)]
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    workers = [context.Process(target=work, args=(count, stop), daemon=True) for count in done]
    for worker in workers:
        worker.start()
    try:
        until(lambda: all(count.value for count in done), 60)
        yield lambda: sum(count.value for count in done)
    finally:
        stop.value = True
        for worker in workers:
            worker.join(5)


class Slow(Stub):
    """Answers each call as an MLflow server does, late; remembers nothing."""

    wait_s = 0.0

    def reply_to(self, request: BaseHTTPRequestHandler, path: str, body: bytes) -> Reply:  # noqa: ARG002
        time.sleep(self.wait_s)
        answer = json.dumps(_ANSWERS.get(path.rpartition("/mlflow")[2], {}))
        return Reply(200, answer.encode(), {"Content-Type": "application/json"})


class Held(Mirror):
    """A mirror that waits before each call while `gate` is closed."""

    gate = threading.Event()

    def _once(self, action: Any) -> Any:
        self.gate.wait()
        return super()._once(action)


def slowed(uri: str, done: Callable[[], int]) -> dict[str, float]:
    """Percent of the work that training loses: mean over the turns, its standard error, and what was computed."""
    sender = Uploader(Held(uri, "normalization", DIGEST, "?", {}), lambda _text: None)
    sender.start()
    rates, spent = zip(*(_turn(turn, sender, done) for turn in range(2 * TURNS + 1)), strict=True)
    Held.gate.set()
    sender.close(0.1)
    shares = [1 - rates[turn] / mean((rates[turn - 1], rates[turn + 1])) for turn in range(1, 2 * TURNS, 2)]
    error = stdev(shares) / len(shares) ** 0.5
    computed = max(0.0, mean(spent[1::2]) - mean(spent[::2]))
    return {"percent": 100 * mean(shares), "error": 100 * error, "computed_percent": 100 * computed}


def _turn(turn: int, sender: Uploader, done: Callable[[], int]) -> tuple[float, float]:
    """Work done in a second of a turn, and the share of the cores that this process used; the tracker has odd turns."""
    (Held.gate.set if turn % 2 else Held.gate.clear)()
    began, before, cpu = time.monotonic(), done(), time.process_time()
    for step in range(STEPS):
        of = trial(turn * 100 + step)
        sender.epoch(of, ARM, START_MS, epochs(1)[0])
        if step == 0:
            sender.outcome(of, ARM, outcome(of))
        time.sleep(EVERY_S)
    wall_s = time.monotonic() - began
    return (done() - before) / wall_s, (time.process_time() - cpu) / wall_s / WORKERS


def cost() -> dict[str, dict[str, float]]:
    """Nothing listens, or accepts and never answers, or answers every call after 2 s."""
    hung = socket.create_server(("127.0.0.1", 0), backlog=500)
    with working() as done, hung, running(Slow()) as slow:
        mirror(slow.uri).outcome(trial(1), ARM, outcome(trial(1)))  # the client's first calls load its parts
        slow.wait_s = SLOW_S
        ports = {"dead": free_port(), "hung": hung.getsockname()[1], "slow": slow.port}
        return {name: slowed(f"http://127.0.0.1:{port}", done) for name, port in ports.items()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(lose(int(sys.argv[2])) if sys.argv[1] == "lost" else cost()) + "\n")
