"""Workers here: whoever dies while it starts is started anew, and not for ever; Dask keeps its words to itself."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from keras_trials import each_event, trials
from tiny_images import SUPPORT

from mnist_ablate.errors import AblateError
from mnist_ablate.execution import engine
from mnist_ablate.execution.engine import Engine
from mnist_ablate.execution.events import Finished
from mnist_ablate.execution.worker import TrainerPlugin

pytestmark = [pytest.mark.usefixtures("fake"), pytest.mark.slow]


def kill_workers(running: Engine, seconds: float) -> threading.Thread:
    """Kill every worker of an engine again and again, also those that are starting."""
    ends = time.monotonic() + seconds

    def kill() -> None:
        while time.monotonic() < ends:
            for nanny in list(running._client.cluster.workers.values()):
                with suppress(ProcessLookupError, TypeError):
                    os.kill(nanny.pid, signal.SIGKILL)
            time.sleep(0.05)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    return killer


def test_workers_killed_while_they_start_are_replaced(plugin: TrainerPlugin, digest: str) -> None:
    with Engine(plugin, jobs=2) as running:
        killer = kill_workers(running, 2.5)
        ended = [event.outcome.status for event in each_event(running, trials(digest)) if isinstance(event, Finished)]
        killer.join()
        assert len(ended) == 6
        if "complete" not in ended:  # all were over before the killing was
            again = each_event(running, trials(digest))
            ended += [event.outcome.status for event in again if isinstance(event, Finished)]
    assert set(ended) in ({"complete"}, {"complete", "lost"})


def test_workers_that_never_start_end_the_run_in_words(
    plugin: TrainerPlugin, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "NO_WORKER_S", 3.0)
    with Engine(plugin, jobs=1) as running:
        kill_workers(running, 60)
        with pytest.raises(AblateError, match="no worker has come up for 3 s: see the logs in the home"):
            list(each_event(running, trials(digest)[:1]))


SCRIPT = """
import logging, sys
from pathlib import Path

sys.path[:0] = [sys.argv[1]]
from keras_trials import each_event, trials
from mnist_ablate.execution.engine import Engine
from mnist_ablate.execution.worker import TrainerPlugin


async def tear(scheduler, client):
    scheduler.client_comms[client].comm.abort()
    scheduler.client_send(client, {})
    scheduler.send_all({client: [{}]}, {})


if __name__ == "__main__":
    _, support, images, digest, logs = sys.argv
    plugin = TrainerPlugin("fake_trainer:factory", digest, Path(images).read_bytes(), Path(logs))
    with Engine(plugin, jobs=2) as engine:
        list(each_event(engine, trials(digest)))
        engine._client.sync(tear, engine._client.cluster.scheduler, engine._client.id)
        for name in list(logging.root.manager.loggerDict):
            if name.partition(".")[0] in {"distributed", "tornado", "asyncio"}:
                logging.getLogger(name).critical("%s is heard", name)
    print("closed")
"""


def test_nothing_that_workers_say_or_dask_logs_reaches_the_terminal(images: Path, digest: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, script, SUPPORT, images, digest, tmp_path]
    environment = os.environ | {"FAKE_FAULTS": '{"relu/1": "kill_once"}'}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("closed\n", "")
