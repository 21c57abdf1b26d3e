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

from mlflow_helpers import ARM, epochs, free_port, mirror, outcome, trial
from mlflow_stub import Reply, Stub, _answer, running

from mnist_ablate.tracking.mirror import Mirror
from mnist_ablate.tracking.uploader import Uploader

WORKERS = 2
TURN_S = 0.5
EVERY_S = 0.15  # an epoch from each of two workers each 0.3 s, faster than any network here trains
TURNS = 6
SLOW_S = 2.0


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
        deadline = time.monotonic() + 60
        while not all(count.value for count in done) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield lambda: sum(count.value for count in done)
    finally:
        stop.value = True
        for worker in workers:
            worker.join(5)


@contextmanager
def dead() -> Iterator[str]:
    """Nothing listens."""
    yield f"http://127.0.0.1:{free_port()}"


@contextmanager
def hung() -> Iterator[str]:
    """Accepts, and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=500) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


class Slow(Stub):
    """Answers each call as an MLflow server does, late; remembers nothing."""

    wait_s = 0.0

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        request.rfile.read(int(request.headers.get("Content-Length") or 0))
        time.sleep(self.wait_s)
        path = request.path.partition("?")[0]
        found = next((answer for end, answer in _ANSWERS.items() if path.endswith(end)), {})
        _answer(request, Reply(200, json.dumps(found).encode(), {"Content-Type": "application/json"}))


_ANSWERS: dict[str, dict[str, Any]] = {
    "/experiments/get-by-name": {
        "experiment": {"experiment_id": "1", "name": "normalization", "lifecycle_stage": "active"}
    },
    "/runs/create": {"run": {"info": {"run_id": "r", "experiment_id": "1", "status": "RUNNING"}, "data": {}}},
    "/runs/search": {"runs": []},
}


@contextmanager
def slow() -> Iterator[str]:
    """Answers every call after 2 s; the client's first calls, which load its parts, are made before."""
    with running(Slow()) as stub:
        mirror(stub.uri).outcome(trial(1), ARM, outcome(trial(1)))
        stub.wait_s = SLOW_S
        yield stub.uri


TRACKERS = {"dead": dead, "hung": hung, "slow": slow}


class Held(Mirror):
    """A mirror that waits before each call while `gate` is closed."""

    gate: threading.Event

    def _once(self, action: Any) -> Any:
        self.gate.wait()
        return super()._once(action)


def slowed(name: str, turns: int, done: Callable[[], int]) -> dict[str, float]:
    """Percent of the work that training loses: mean over the turns, its standard error, and what was computed."""
    with TRACKERS[name]() as uri:
        copy = mirror(uri)
        copy.__class__ = Held
        copy.gate = threading.Event()
        sender = Uploader(copy, lambda _text: None)
        sender.start()
        rates, spent = zip(*(_turn(copy.gate, turn, sender, done) for turn in range(2 * turns + 1)), strict=True)
        copy.gate.set()
        sender.close(0.1)
    with_it = range(1, 2 * turns, 2)
    shares = [1 - rates[turn] / mean((rates[turn - 1], rates[turn + 1])) for turn in with_it]
    computed = mean(spent[turn] for turn in with_it) - mean(spent[turn] for turn in range(0, 2 * turns + 1, 2))
    error = stdev(shares) / len(shares) ** 0.5
    return {"percent": 100 * mean(shares), "error": 100 * error, "computed_percent": 100 * max(0.0, computed)}


def _turn(gate: threading.Event, turn: int, sender: Uploader, done: Callable[[], int]) -> tuple[float, float]:
    """Work done in a second of a turn, and the share of the cores that this process used; the tracker has odd turns."""
    if turn % 2:
        gate.set()
    else:
        gate.clear()
    began, before, cpu = time.monotonic(), done(), time.process_time()
    for step in range(round(TURN_S / EVERY_S)):
        of = trial(turn * 100 + step)
        sender.epoch(of, epochs(1)[0])
        if step == 0:
            sender.outcome(of, ARM, outcome(of))
        time.sleep(EVERY_S)
    wall_s = time.monotonic() - began
    return (done() - before) / wall_s, (time.process_time() - cpu) / wall_s / WORKERS


def main(turns: int) -> None:
    with working() as done:
        found = {name: slowed(name, turns, done) for name in TRACKERS}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else TURNS)
