"""Replies lost after a real MLflow server has committed, by the hundred: ghost runs, doubled points."""

import json
import random
import sys
from collections import Counter
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow_helpers import ARM, epochs, free_port, new_home, outcome, pending, trial, until
from mlflow_stub import Reply, Stub, mlflow_server, running

from mnist_ablate.tracking.mirror import Mirror
from mnist_ablate.tracking.uploader import Uploader
from mnist_ablate.verification import raw_mlflow

_WRITES = ("/experiments/create", "/runs/create", "/runs/log-batch", "/runs/update", "/runs/set-tag", "/runs/delete")
TRIALS = 8
SHARE = 0.7


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
            sender.epoch(trial(seed), epoch)
        sender.outcome(trial(seed), ARM, outcome(trial(seed)))
    until(lambda: pending(sender) == 0, 120)
    while not sender.close(20, settle=True):
        sender = _started(mirror)
    for _ in range(100):
        try:
            mirror.verdicts("done", {"effect.x": 0.1}, [])
        except Exception:  # noqa: BLE001 - a lost reply; the command `sync` would be given again
            continue
        return


def _started(mirror: Mirror) -> Uploader:
    sender = Uploader(mirror, lambda _text: None, first_wait_s=0.001, longest_wait_s=0.002)
    sender.start()
    return sender


def _counted(uri: str, name: str) -> dict[str, int]:
    experiment = raw_mlflow.read(uri, name)
    assert experiment is not None
    runs = Counter(run.tags.get("trial_id", "the sweep") for run in experiment.runs)
    points = Counter((run.run_id, key, step) for run in experiment.runs for key, step, _, _ in run.points)
    wanted = TRIALS * (3 * 4 + 4) + 1
    return {
        "ghosts": runs.total() - len(runs) + max(0, len(runs) - TRIALS - 1),
        "doubled": points.total() - len(points),
        "missing": max(0, wanted - len(points)) + max(0, TRIALS + 1 - len(runs)),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(lose(int(sys.argv[1]))) + "\n")
