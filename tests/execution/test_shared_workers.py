"""Sweeps that run side by side: each uses its share of the workers, and none takes another's trainer away."""

import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from keras_trials import each_event, trials

from mnist_ablate.execution import worker
from mnist_ablate.execution.engine import Engine
from mnist_ablate.execution.events import Finished, Started
from mnist_ablate.execution.worker import TrainerPlugin


def put(plugin: TrainerPlugin, there: Any) -> None:
    """As Dask does it: the earlier one of the name is taken out first."""
    if before := there.plugins.pop(plugin.name, None):
        before.teardown(there)
    there.plugins[plugin.name] = plugin
    plugin.setup(there)


@pytest.mark.usefixtures("fake")
def test_a_second_sweep_of_the_same_inputs_goes_on_with_the_trainer_of_the_first(
    plugin: TrainerPlugin, dask_worker: Any
) -> None:
    there = dask_worker
    first, second = replace(plugin, log_dir=None), replace(plugin, log_dir=None, pruned=set())
    put(first, there)
    first.pruned.add("a trial that runs")
    put(second, there)
    assert second.trainer is first.trainer is not None
    assert second.pruned is first.pruned
    other = replace(plugin, log_dir=None, environment={"OTHER": "1"}, trainer=None)
    put(other, there)
    assert other.trainer is not first.trainer


@pytest.mark.usefixtures("fake")
def test_a_trial_waits_while_dask_puts_one_plugin_in_the_place_of_another(
    plugin: TrainerPlugin, dask_worker: Any
) -> None:
    there, own = dask_worker, replace(plugin, log_dir=None)

    def set_up() -> None:
        time.sleep(0.1)
        there.plugins[own.name] = own
        time.sleep(0.1)
        own.setup(there)

    thread = threading.Thread(target=set_up)
    thread.start()
    assert worker._plugin(there, own.name).trainer is not None
    thread.join()


@pytest.mark.usefixtures("fake")
@pytest.mark.slow
def test_an_engine_uses_its_share_of_the_workers_and_starts_more_when_it_grows(
    plugin: TrainerPlugin, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_EPOCH_S", "0.1")
    share, most, running = 1, 0, set[str]()
    with Engine(plugin, jobs=2, share=lambda workers: min(share, workers)) as engine:
        for event in each_event(engine, trials(digest, 200)):
            if isinstance(event, Started):
                running.add(event.trial.id)
                most = max(most, len(running))
                if most > 1:
                    engine.drain(at_once=True)
            if isinstance(event, Finished):
                running.discard(event.trial.id)
                if share == 1 and most:
                    assert most == 1
                    share = 2
    assert most == 2
