"""What a dead, a hung and a slow tracker take from training: work done with the uploader at work and held, in turns.

Two processes work without a pause, as trials do; in this one an uploader is fed as a sweep feeds it, and held in
every second turn. Each turn is compared with the ones beside it, so that a machine that gets slower or faster does
not count. What the uploader computes is counted too: with every core at work, that is what training loses. MLflow
is imported before: that takes two seconds, once a sweep, whether the tracker is well or not.
"""

import json
import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import c_bool, c_ulonglong
from http.server import BaseHTTPRequestHandler
from statistics import mean, stdev
from typing import Any

from mlflow_helpers import ARM, DIGEST, epochs, free_port, mirror, outcome, trial, until
from mlflow_stub import Reply, Stub, running

from mnist_ablate.tracking.mirror import Mirror
from mnist_ablate.tracking.uploader import Uploader

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
        sender.epoch(of, epochs(1)[0])
        if step == 0:
            sender.outcome(of, ARM, outcome(of))
        time.sleep(EVERY_S)
    wall_s = time.monotonic() - began
    return (done() - before) / wall_s, (time.process_time() - cpu) / wall_s / WORKERS


def main() -> None:
    """Nothing listens, or accepts and never answers, or answers every call after 2 s."""
    hung = socket.create_server(("127.0.0.1", 0), backlog=500)
    with working() as done, hung, running(Slow()) as slow:
        mirror(slow.uri).outcome(trial(1), ARM, outcome(trial(1)))  # the client's first calls load its parts
        slow.wait_s = SLOW_S
        ports = {"dead": free_port(), "hung": hung.getsockname()[1], "slow": slow.port}
        found = {name: slowed(f"http://127.0.0.1:{port}", done) for name, port in ports.items()}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
