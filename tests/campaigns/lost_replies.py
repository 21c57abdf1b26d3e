"""Replies lost after a real MLflow server has committed, by the hundred: ghost runs, doubled points."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from mlflow_helpers import ARM, epochs, free_port, new_home, outcome, pending, trial, until
from mlflow_stub import Reply, Stub, _answer, running

from mnist_ablate.tracking.mirror import Mirror
from mnist_ablate.tracking.uploader import Uploader
from mnist_ablate.verification import raw_mlflow

_WRITES = ("/experiments/create", "/runs/create", "/runs/log-batch", "/runs/update", "/runs/set-tag", "/runs/delete")
_FLAWS = ("ghosts", "doubled", "missing")
TRIALS = 8


class Losing(Stub):
    """A proxy that passes writes on and drops the reply of some, by chance."""

    def __init__(self, upstream: int, seed: int, share: float = 0.7) -> None:
        super().__init__(upstream=upstream)
        self.lost: Counter[str] = Counter()
        self._random, self._share, self._guard = random.Random(seed), share, threading.Lock()

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        path = request.path.partition("?")[0]
        reply: Reply = self._pass_on(request, body)
        with self._guard:
            lose = path.endswith(_WRITES) and self._random.random() < self._share
            self.lost[path.rpartition("/mlflow")[2]] += lose
        if lose:
            request.close_connection = True
        else:
            _answer(request, reply)


@contextmanager
def mlflow_server(uri: str, port: int) -> Iterator[None]:
    """A real server on an SQLite store."""
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", uri, "--default-artifact-root", f"{Path(uri[10:]).parent}/art"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        until(lambda: _answers(port), 90)
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def lose(replies: int, seed: int = 0) -> dict[str, object]:
    """Send sweeps until so many replies are lost; then count what MLflow holds too much or too little of."""
    folder = Path(tempfile.mkdtemp(prefix="lost-"))
    uri, port = new_home(folder), free_port()
    began = time.monotonic()
    names: list[str] = []
    try:
        with mlflow_server(uri, port), running(Losing(port, seed)) as proxy:
            while proxy.lost.total() < replies:
                names.append(f"lost {len(names)}")
                _send(proxy, names[-1])
        return {
            "lost": proxy.lost.total(),
            "by_request": dict(proxy.lost),
            "seconds": time.monotonic() - began,
            **{what: sum(counted[what] for counted in map(partial(_counted, uri), names)) for what in _FLAWS},
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _send(proxy: Losing, name: str) -> None:
    """A sweep of a few trials, its epochs and outcomes, through the uploader; then the verdicts."""
    mirror = Mirror(proxy.uri, name, "ab" * 32, "?", {})
    sender = Uploader(mirror, lambda _text: None, first_wait_s=0.001, longest_wait_s=0.002)
    sender.start()
    for seed in range(TRIALS):
        for epoch in epochs(3):
            sender.epoch(trial(seed), epoch)
        sender.outcome(trial(seed), ARM, outcome(trial(seed)))
    until(lambda: pending(sender) == 0, 120)
    while not sender.close(20, settle=True):
        sender = Uploader(mirror, lambda _text: None, first_wait_s=0.001, longest_wait_s=0.002)
        sender.start()
    for _ in range(100):
        try:
            mirror.verdicts("done", {"effect.x": 0.1}, [], {})
        except Exception:  # noqa: BLE001 - a lost reply; the command `sync` would be given again
            continue
        return


def _counted(uri: str, name: str) -> Counter[str]:
    experiment = raw_mlflow.read(uri, name)
    assert experiment is not None
    runs = Counter(run.tags.get("trial_id", "the sweep") for run in experiment.runs)
    points = Counter((run.run_id, key, step) for run in experiment.runs for key, step, _, _ in run.points)
    wanted = TRIALS * (3 * 4 + 4) + 1
    return Counter(
        ghosts=runs.total() - len(runs) + max(0, len(runs) - TRIALS - 1),
        doubled=points.total() - len(points),
        missing=max(0, wanted - len(points)) + max(0, TRIALS + 1 - len(runs)),
    )


if __name__ == "__main__":
    sys.stdout.write(json.dumps(lose(int(sys.argv[1]))) + "\n")
