"""Trains trials of users' own code from a worker: keeps the runner, hands it trials, makes outcomes of what it says."""

import json
import math
import os
import select
import socket
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mnist_ablate.environment import TRAINING, of_user
from mnist_ablate.errors import mask, one_line
from mnist_ablate.trial import Epoch, Outcome, Trial
from mnist_ablate.workloads.own_code.workload import Code

IMPORT_S = 120.0
"""The longest that the import of a users' module may take. Training does not belong there."""
SIGN_S = 5.0
"""How often a trial that reports nothing is said to be alive."""
TRIALS = "MNIST_ABLATE_TRIALS"
"""The folder under which each trial has its own. By default a temporary one."""
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)


class OwnCodeTrainer:
    """See `workloads.workload.Trainer`. The runner starts with the first trial, and again if it was lost."""

    def __init__(self, code: Code) -> None:
        self._code = code
        self._folder = code.usable_folder()
        self._runner: _Runner | None = None

    def train(
        self,
        trial: Trial,
        on_epoch: Callable[[Epoch], None] = lambda _epoch: None,
        on_wait: Callable[[str], None] = lambda _text: None,
    ) -> Outcome:
        """The outcome of one run of the users' code. An exception of `on_epoch` stops it, and is raised afterwards."""
        started_ms, clock = time.time_ns() // 1_000_000, time.perf_counter()
        folder = Path(os.environ[TRIALS], trial.id)
        epochs: list[Epoch] = []
        stopping: BaseException | None = None
        ended: dict[str, Any] = {}
        running = self._running()
        running.tell(self._code.request(trial, self._folder, folder))
        for message in running.messages():
            if not message:
                on_wait("")
            elif "ended" in message:
                ended = message["ended"]
            elif stopping is None:
                try:
                    epoch = self._epoch(message, len(epochs) + 1)
                    epochs.append(epoch)
                    on_epoch(epoch)
                except Exception as error:  # noqa: BLE001 - the engine prunes by raising; the trial ends first
                    stopping = error
                    running.tell({"stop": True})
            if ended:
                break
        if stopping is not None:
            raise stopping
        if not ended:
            self.close()
            ended = {"status": "failed", "reason": "the process that runs the code ended"}
        return self._outcome(trial, ended, epochs, started_ms, time.perf_counter() - clock)

    def save(self, trial: Trial, folder: Path) -> None:
        """Users' code keeps its own models in its trial's folder."""

    def close(self) -> None:
        """End the runner, and with it all that it started."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    def _running(self) -> "_Runner":
        if self._runner is None:
            self._runner = _Runner(self._code, self._folder)
        return self._runner

    def _epoch(self, message: dict[str, Any], number: int) -> Epoch:
        metrics = {name: float(value) for name, value in message["metrics"].items() if math.isfinite(value)}
        return Epoch(number=number, metrics=metrics, ended_ms=time.time_ns() // 1_000_000)

    def _outcome(
        self, trial: Trial, ended: dict[str, Any], epochs: list[Epoch], started_ms: int, seconds: float
    ) -> Outcome:
        status, reason, metrics = ended["status"], ended.get("reason", ""), ended.get("metrics", {})
        if status == "complete":
            status, reason, metrics = self._code.judged(metrics, trial)
        return Outcome(
            trial_id=trial.id,
            status=status,
            metrics=metrics,
            diagnostics={name: value for name, value in ended.get("diagnostics", {}).items() if math.isfinite(value)},
            epochs=tuple(epochs),
            reason=one_line(reason),
            traceback=mask(ended.get("traceback", "")),
            started_ms=started_ms,
            seconds=seconds,
            worker=socket.gethostname(),
        )


class _Runner:
    """The other end of `runner`: a process, and a socket to talk with it. Raises RuntimeError if the import fails."""

    def __init__(self, code: Code, folder: Path) -> None:
        ours, theirs = socket.socketpair()
        variables = {**dict.fromkeys(_THREADS, "1"), "PYTHONHASHSEED": TRAINING["PYTHONHASHSEED"], **of_user()}
        if (gpus := len([*Path("/dev").glob("nvidia[0-9]*")])) and "CUDA_VISIBLE_DEVICES" not in variables:
            worker = variables.get("MNIST_ABLATE_WORKER", "0")
            variables["CUDA_VISIBLE_DEVICES"] = str(int(worker) % gpus if worker.isdecimal() else 0)
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "mnist_ablate.workloads.own_code.runner", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=variables,
        )
        theirs.close()
        self._socket, self._lines, self._rest = ours, deque[bytes](), b""
        self.close = weakref.finalize(self, _end, self._socket, self._process)
        own = code.workload
        if own.function:
            named = {"folder": str(folder), "module": own.module, "function": own.function}
            self.tell({"import": {**named, "pickle": code.pickle, "paths": sys.path if code.pickle else []}})
            problem = self._imported(own.module)
            if problem:
                self._process.kill()  # its import may never end
                self.close()
                raise RuntimeError(problem)

    def tell(self, message: dict[str, Any]) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def messages(self, wait_s: float = SIGN_S) -> Iterator[dict[str, Any]]:
        """What the runner says; an empty message after each `wait_s` of silence. Ends when it is gone."""
        while True:
            while self._lines:
                yield json.loads(self._lines.popleft())
            if not select.select([self._socket], [], [], wait_s)[0]:
                yield {}
                continue
            try:
                chunk = self._socket.recv(65_536)
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                return
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            self._lines.extend(lines)

    def _imported(self, module: str) -> str:
        for message in self.messages(IMPORT_S):
            if not message:
                return f"importing {module} took over {IMPORT_S:.0f} s: keep training out of the top of the module"
            return str(message["imported"])
        code = self._process.wait()
        return f"importing {module} ended the process ({code}): keep sys.exit and training out of the top of the module"


def _end(connection: socket.socket, process: "subprocess.Popen[bytes]") -> None:
    """The runner ends, with all that it started, when its socket closes."""
    connection.close()
    process.wait()


def trainer(code: Code) -> OwnCodeTrainer:
    """What a worker calls once."""
    return OwnCodeTrainer(code)
