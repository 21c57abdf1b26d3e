"""Workers as copies of a process that has imported what trains: there at once, and gone with whoever started them."""

import gc
import os
import signal
from multiprocessing import forkserver
from pathlib import Path

import pytest
from keras_trials import each_event, trials

from mnist_ablate.execution import worker_template
from mnist_ablate.execution.engine import Engine
from mnist_ablate.execution.events import Event, Finished, Started
from mnist_ablate.execution.worker import TrainerPlugin

pytestmark = [
    pytest.mark.usefixtures("fake"),
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="forks are used on Linux alone"),
]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def statuses(events: list[Event]) -> list[str]:
    return [event.outcome.status for event in events if isinstance(event, Finished)]


def template() -> int:
    return int(forkserver._forkserver._forkserver_pid)


def test_workers_are_copies_and_the_template_ends_after_them(plugin: TrainerPlugin, digest: str) -> None:
    preloaded = forkserver._forkserver._preload_modules
    with worker_template.importing(plugin.factory), Engine(plugin, jobs=2) as running:
        pids = [nanny.pid for nanny in running._client.cluster.workers.values()]
        assert {parent(pid) for pid in pids} == {template()}
        assert statuses(each_event(running, trials(digest))) == ["complete"] * 6
        searched = running._client.run(lambda: (gc.isenabled(), gc.get_freeze_count()))
        assert all(enabled and frozen > 10_000 for enabled, frozen in searched.values())
        used = template()
    assert not any(Path(f"/proc/{pid}").exists() for pid in [*pids, used])
    assert forkserver._forkserver._forkserver_pid is None
    assert forkserver._forkserver._preload_modules == preloaded


def test_a_killed_worker_and_a_killed_template_are_replaced(plugin: TrainerPlugin, digest: str) -> None:
    """With the template its workers go. Their trials are run again."""
    with worker_template.importing(plugin.factory), Engine(plugin, jobs=2) as running:
        ended: list[Event] = []
        victims = iter(["worker", "template"])
        for event in running.batches(((trial,) for trial in trials(digest)), ahead=False):
            ended += event
            if any(isinstance(each, Started) for each in event) and (victim := next(victims, "")):
                worker = next(iter(running._client.cluster.workers.values())).pid
                os.kill(worker if victim == "worker" else template(), signal.SIGKILL)
        assert sorted(statuses(ended)) == ["complete"] * 6


def test_without_a_template_workers_start_anew(plugin: TrainerPlugin, digest: str) -> None:
    """So also where somebody else in this process has a server of forks, which lacks our variables."""
    forkserver.ensure_running()
    try:
        with worker_template.importing(plugin.factory), Engine(plugin, jobs=1) as running:
            pids = [nanny.pid for nanny in running._client.cluster.workers.values()]
            assert [parent(pid) for pid in pids] == [os.getpid()]
            assert statuses(each_event(running, trials(digest)[:1])) == ["complete"]
        assert template()
    finally:
        forkserver._forkserver._stop()
