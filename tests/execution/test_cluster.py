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

from mnist_ablate.errors import AblateError
from mnist_ablate.execution import engine
from mnist_ablate.execution.engine import Engine, Finished
from mnist_ablate.execution.worker import TrainerPlugin

pytestmark = pytest.mark.usefixtures("fake")


def kill_workers(running: Engine, seconds: float) -> None:
    """Kill every worker of an engine again and again, also those that are starting."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        for nanny in list(running._client.cluster.workers.values()):
            with suppress(ProcessLookupError, TypeError):
                os.kill(nanny.pid, signal.SIGKILL)
        time.sleep(0.05)


@pytest.mark.slow
def test_workers_killed_while_they_start_are_replaced(plugin: TrainerPlugin, digest: str) -> None:
    with Engine(plugin, jobs=2) as running:
        killer = threading.Thread(target=kill_workers, args=(running, 2.5))
        killer.start()
        ended = [event.outcome.status for event in each_event(running, trials(digest)) if isinstance(event, Finished)]
        killer.join()
        if "complete" not in ended:  # all were over before the killing was
            ended = [
                event.outcome.status for event in each_event(running, trials(digest)) if isinstance(event, Finished)
            ]
    assert len(ended) == 6
    assert set(ended) <= {"complete", "lost"}
    assert "complete" in ended


@pytest.mark.slow
def test_workers_that_never_start_end_the_run_in_words(
    plugin: TrainerPlugin, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "NO_WORKER_S", 3.0)
    with Engine(plugin, jobs=1) as running:
        killer = threading.Thread(target=kill_workers, args=(running, 60), daemon=True)
        killer.start()
        with pytest.raises(AblateError, match="no worker has come up for 3 s: see the logs in the home"):
            for _ in each_event(running, trials(digest)[:1]):
                pass


TORN = """
import logging

from distributed.diagnostics.plugin import WorkerPlugin

from mnist_ablate.execution.cluster import connected


class Nothing(WorkerPlugin):
    pass


async def tear(scheduler, client):
    scheduler.client_comms[client].comm.abort()
    scheduler.client_send(client, {})
    scheduler.send_all({client: [{}]}, {})


if __name__ == "__main__":
    with connected(1, None, Nothing()) as client:
        client.sync(tear, client.cluster.scheduler, client.id)
        for name in list(logging.root.manager.loggerDict):
            if name.partition(".")[0] in {"distributed", "tornado", "asyncio"}:
                logging.getLogger(name).critical("%s is heard", name)
    print("closed")
"""


@pytest.mark.slow
def test_nothing_that_dask_logs_in_the_driver_reaches_the_terminal(tmp_path: Path) -> None:
    script = tmp_path / "torn.py"
    script.write_text(TORN)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("closed\n", "")
