"""The engine on real Dask workers with the fake trainer: every trial ends exactly once, whatever its worker does."""

import itertools
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from command import wait_for
from distributed import Client
from external_cluster import Cluster, kill
from keras_trials import each_event, trials
from mlflow_helpers import free_port
from tiny_images import write_images

from mnist_ablate.errors import AblateError, DataError, UnreachableError
from mnist_ablate.execution import cluster, engine
from mnist_ablate.execution.engine import Engine
from mnist_ablate.execution.events import Event, Finished, Preparing, Progress, Retried, Started
from mnist_ablate.execution.worker import TrainerPlugin
from mnist_ablate.trial import Outcome
from mnist_ablate.workloads.keras_mnist import data

pytestmark = pytest.mark.usefixtures("fake")
FAKE = "fake_trainer:factory"


class Told(list[Event]):
    """The events of a run."""

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """By activation/seed."""
        finished = [event for event in self if isinstance(event, Finished)]
        return {f"{each.trial.settings['activation']}/{each.trial.seed}": each.outcome for each in finished}

    @property
    def ended(self) -> dict[str, tuple[str, str]]:
        """Status and reason by activation/seed."""
        return {name: (outcome.status, outcome.reason) for name, outcome in self.outcomes.items()}

    @property
    def numbers(self) -> dict[str, dict[str, float]]:
        return {name: outcome.metrics for name, outcome in self.outcomes.items()}

    @property
    def retries(self) -> list[tuple[str, int]]:
        return [(event.reason, event.attempt) for event in self if isinstance(event, Retried)]

    def trials(self, kind: type[Event]) -> list[str]:
        return [event.trial.id for event in self if isinstance(event, kind)]


Run = Callable[..., Told]
COMPLETE = {("complete", "")}


@pytest.fixture
def run(plugin: TrainerPlugin, digest: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run with faults; `relu_1="kill"`: the trial of relu with seed 1 kills its worker. Each trial ends once."""

    def run(
        seeds: int = 3, jobs: int = 2, timeout_s: float | None = None, *, ahead: bool = False, **faults: str
    ) -> Told:
        by_trial = {key.replace("_", "/"): fault for key, fault in faults.items()}
        monkeypatch.setenv("FAKE_FAULTS", json.dumps(by_trial))
        asked = trials(digest, seeds)
        with Engine(plugin, jobs=jobs, trial_timeout_s=timeout_s) as running:
            told = Told(itertools.chain.from_iterable(running.batches([(each,) for each in asked], ahead=ahead)))
        assert sorted(told.trials(Finished)) == sorted(trial.id for trial in asked)
        return told

    return run


@pytest.fixture
def remote(images: Path, digest: str) -> TrainerPlugin:
    """What sets up the workers of a cluster."""
    return TrainerPlugin(FAKE, digest, images.read_bytes(), None)


@pytest.mark.slow
def test_what_takes_long_before_the_first_epoch_is_told_and_is_no_silence(run: Run) -> None:
    told = run(seeds=1, timeout_s=1.2, relu_0="prepare")
    assert [event.text for event in told if isinstance(event, Preparing)] == [f"{part} of 4" for part in range(4)]
    assert (told.retries, set(told.ended.values())) == ([], COMPLETE)


@pytest.mark.slow
def test_a_worker_killed_in_an_epoch_costs_one_retry_and_no_digit(run: Run, fake: Path) -> None:
    undisturbed = run(jobs=1)
    assert (len(undisturbed.trials(Started)), len(undisturbed.trials(Progress))) == (6, 3 * 6)
    (fake / "starts").unlink()
    told = run(relu_1="kill_once")
    assert told.retries == [("worker killed", 1)]
    assert told.numbers == undisturbed.numbers


@pytest.mark.slow
def test_a_worker_that_froze_after_an_outcome_holds_the_next_trial_alone(
    plugin: TrainerPlugin, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, task = Engine(plugin), engine._Task((trials(digest, seeds=1)[0],), SimpleNamespace(key="next"))
    running._client = SimpleNamespace(scheduler=SimpleNamespace(processing=None))
    running._running, running._held = {"next": task}, {"told", "next"}
    for keys, holder in ((["next"], "w"), (["told", "next"], "w"), (["told"], ""), (["next", "of another sweep"], "")):
        monkeypatch.setattr(running, "_query_scheduler", lambda *_, keys=keys, **__: {"v": [], "w": keys})
        assert running._worker_that_holds("next") == holder
    running._running["told"] = engine._Task(task.trials, SimpleNamespace(key="told"))
    monkeypatch.setattr(running, "_query_scheduler", lambda *_, **__: {"w": ["told", "next"]})
    assert not running._worker_that_holds("next"), "it waits for one that runs"


@pytest.mark.slow
def test_a_trial_that_waited_at_a_killed_worker_is_no_loss(plugin: TrainerPlugin, digest: str) -> None:
    task = engine._Task((trials(digest, seeds=1)[0],))
    lost = Outcome(trial_id="x", status="lost", reason="worker killed")
    with Engine(plugin, jobs=1) as running:
        assert list(running._on_loss(task, lost)) == []
        task.worker = "tcp://127.0.0.1:1"
        assert list(running._on_loss(task, lost)) == [Retried(task.trial, "worker killed", 1)]
        assert list(running._waiting) == [task, task]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "ended", "starts"),
    [
        ("kill_once", ["complete", "complete", "complete"], 2),
        ("raise", ["complete", "failed", "failed"], 1),
        ("diverge", ["complete", "diverged", "diverged"], 1),
        ("memory", ["complete", "failed", "failed"], 2),
    ],
)
def test_what_a_shared_training_reached_stays_whatever_happens_later(
    plugin: TrainerPlugin, digest: str, monkeypatch: pytest.MonkeyPatch, fault: str, ended: list[str], starts: int
) -> None:
    training = tuple(trials(digest, 1, epochs)[0] for epochs in (1, 3, 4))
    monkeypatch.setenv("FAKE_FAULTS", json.dumps({"relu/0": fault}))
    with Engine(plugin, jobs=1) as running:
        told = Told(itertools.chain.from_iterable(running.batches([training], ahead=True)))
    finished = [event for event in told if isinstance(event, Finished)]
    assert [each.trial for each in finished] == [*training]
    assert [each.outcome.status for each in finished] == ended
    assert [each.outcome.trial_id for each in finished] == [trial.id for trial in training]
    assert told.trials(Started) == [training[-1].id] * starts


@pytest.mark.slow
def test_a_worker_gets_short_trials_together_and_its_death_costs_the_running_one(
    run: Run, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_EPOCH_S", "0")
    monkeypatch.setenv("FAKE_TRIAL_S", "0.01")
    given: list[int] = []
    submit = Engine._submit
    monkeypatch.setattr(Engine, "_submit", lambda self, tasks: given.append(len(tasks)) or submit(self, tasks))
    undisturbed = run(seeds=40, ahead=True)
    assert (given[0], max(given)) == (1, engine._BUNDLE)
    (fake / "starts").unlink()
    given.clear()
    told = run(seeds=40, ahead=True, timeout_s=1.0, relu_30="kill_once", tanh_38="hang_once")
    assert max(given) > 1
    assert sorted(told.retries) == [("no progress for 1 s", 1), ("worker killed", 1)]
    assert told.numbers == undisturbed.numbers


@pytest.mark.slow
def test_a_hung_worker_is_replaced_though_it_holds_the_interpreter(run: Run) -> None:
    told = run(timeout_s=1.0, relu_1="hang_once")
    assert told.retries == [("no progress for 1 s", 1)]
    assert set(told.ended.values()) == COMPLETE


@pytest.mark.slow
def test_an_exception_is_a_failed_trial_with_its_traceback(run: Run) -> None:
    told = run(seeds=1, tanh_0="raise", relu_0="diverge")
    assert told.ended["tanh/0"] == ("failed", "RuntimeError: no such layer")
    assert 'raise RuntimeError("no such layer"' in told.outcomes["tanh/0"].traceback
    assert told.ended["relu/0"][0] == "diverged"
    assert not told.retries


@pytest.mark.slow
def test_out_of_memory_is_retried_once_with_nothing_beside_it(run: Run) -> None:
    told = run(tanh_0="memory")
    assert told.retries == [("out of memory", 1)]
    ended, alone = told.ended, told.outcomes["tanh/0"].trial_id
    assert ended.pop("tanh/0") == ("failed", "out of memory, with no other trial beside it too")
    assert set(ended.values()) == COMPLETE
    _, again = (place for place, event in enumerate(told) if isinstance(event, Started) and event.trial.id == alone)
    before, after = Told(told[:again]), Told(told[again:])
    assert set(before.trials(Started)) - set(before.trials(Finished)) == {alone}
    assert {each.trial.id for each in itertools.takewhile(lambda each: not isinstance(each, Finished), after)} == {
        alone
    }


@pytest.mark.slow
def test_a_worker_killed_for_its_memory_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cluster.SETTINGS, "distributed.worker.memory.terminate", 0.04)
    told = run(seeds=1, tanh_0="eat")
    assert told.retries[0] == ("out of memory", 1)
    assert told.ended["relu/0"][0] == "complete"


@pytest.mark.slow
def test_draining_lets_running_trials_end_and_starts_no_other(plugin: TrainerPlugin, digest: str) -> None:
    told = Told()
    with Engine(plugin, jobs=2) as running:
        for event in each_event(running, trials(digest, seeds=20)):
            told.append(event)
            if isinstance(event, Finished):
                running.drain()
    assert set(told.trials(Started)) == set(told.trials(Finished))
    assert len(told.trials(Finished)) < 5


@pytest.mark.slow
def test_draining_drops_what_does_not_end_in_time(
    plugin: TrainerPlugin, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FAULTS", '{"relu/0": "slow"}')
    monkeypatch.setattr(engine, "DRAIN_S", 0.2)
    with Engine(plugin, jobs=2) as running:
        for event in each_event(running, trials(digest, seeds=1, epochs=60)):
            if isinstance(event, Started):
                clock = time.monotonic()
                running.drain()
    assert time.monotonic() - clock < 5


@pytest.mark.parametrize("something_else", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_scheduler_that_nobody_runs_is_named_in_time(
    plugin: TrainerPlugin, monkeypatch: pytest.MonkeyPatch, something_else: bool
) -> None:
    assert cluster.CONNECT_TIMEOUT_S < 8
    monkeypatch.setattr(cluster, "CONNECT_TIMEOUT_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1] if something_else else free_port()}"
        clock = time.monotonic()
        with pytest.raises(UnreachableError, match=f"{address}: no Dask scheduler answers: start it or check"):
            Engine(plugin, address=address).__enter__()
        assert time.monotonic() - clock < 10


@pytest.mark.slow
def test_a_worker_with_other_images_or_without_its_trainer_refuses_to_train(
    plugin: TrainerPlugin, digest: str, tmp_path: Path
) -> None:
    other = data.load(write_images(tmp_path / "other.npz", seed=1)).digest
    with pytest.raises(DataError, match="the data file changed"):
        Engine(TrainerPlugin(FAKE, other, plugin.inputs, tmp_path)).__enter__()
    with pytest.raises(AblateError, match=r"workers cannot start \(ModuleNotFoundError: No module named 'no_such"):
        Engine(TrainerPlugin("no_such_module:factory", digest, plugin.inputs, tmp_path)).__enter__()


@pytest.mark.service
def test_workers_of_a_cluster_get_the_images_and_may_join_and_leave(
    external: Cluster, remote: TrainerPlugin, digest: str
) -> None:
    told, asked, first = Told(), trials(digest, seeds=60, epochs=5), external.plain_worker("1")
    with Engine(remote, address=external.address) as running:
        for event in each_event(running, asked):
            told.append(event)
            workers = {each.worker for each in told if isinstance(each, Started)}
            if isinstance(event, Finished) and len(told) < 30:
                external.plain_worker(f"{len(told)}")
            if len(workers) > 1 and first.poll() is None:
                kill(first)
    assert len(workers) > 1
    assert sorted(told.trials(Finished)) == sorted(trial.id for trial in asked)
    assert set(told.ended.values()) == COMPLETE


@pytest.mark.service
@pytest.mark.parametrize("then", ["gone", "started anew", "given up"])
def test_a_scheduler_that_dies_ends_the_run_with_its_address_and_no_trial(
    external: Cluster, remote: TrainerPlugin, digest: str, then: str
) -> None:
    told, killed_at = Told(), list[float]()
    external.plain_worker("first")

    def run() -> None:
        with Engine(remote, address=external.address) as running:
            for events in running.batches([(each,) for each in trials(digest, seeds=60)], ahead=then == "started anew"):
                told.extend(events)
                if told.trials(Finished) and not killed_at:
                    kill(external.scheduler)
                    killed_at.append(time.monotonic())
                    if then == "started anew":  # the database is down, and takes the scheduler with it
                        external.start()
                        external.plain_worker("second")
                        wait_for(lambda: running._client.status == "running" and running._client.ncores())
                    elif then == "given up":
                        wait_for(lambda: running._client.status == "closed", timeout_s=60)

    with pytest.raises(UnreachableError, match=f"{external.address}: the Dask scheduler is gone"):
        run()
    assert then != "gone" or time.monotonic() - killed_at[0] < 10
    assert set(told.ended.values()) == COMPLETE


@pytest.mark.service
def test_a_scheduler_that_answers_late_is_asked_again(
    external: Cluster, remote: TrainerPlugin, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CONNECT_TIMEOUT_S", 1)
    told, frozen = Told(), list[threading.Timer]()
    external.plain_worker("first")
    with Engine(remote, address=external.address) as running:
        for event in each_event(running, trials(digest, seeds=10)):
            told.append(event)
            if isinstance(event, Finished) and not frozen:
                external.scheduler.send_signal(signal.SIGSTOP)
                frozen.append(threading.Timer(4, external.scheduler.send_signal, [signal.SIGCONT]))
                frozen[0].start()
    assert set(told.ended.values()) == COMPLETE


@pytest.mark.slow
def test_a_worker_that_freezes_between_two_trials_is_replaced(plugin: TrainerPlugin, digest: str) -> None:
    told = Told()
    with Engine(plugin, jobs=1, trial_timeout_s=2.0) as running:
        for event in each_event(running, trials(digest)):
            told.append(event)
            if isinstance(event, Finished) and len(told.ended) == 1:
                (nanny,) = running._client.cluster.workers.values()
                os.kill(nanny.pid, signal.SIGSTOP)
    assert list(told.ended.values()) == [*COMPLETE] * 6
    assert [reason.partition(" for ")[0] for reason, _ in told.retries] == ["no progress"]


@pytest.mark.service
def test_a_frozen_worker_does_not_hold_up_the_start_for_ever(
    external: Cluster, remote: TrainerPlugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_SET_UP_S", 1)
    external.plain_worker("1")
    external.plain_worker("2")
    with Client(external.address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=30)
        frozen = next(iter(client.run(os.getpid).values()))
    os.kill(frozen, signal.SIGSTOP)
    try:
        with pytest.raises(UnreachableError, match=r"cannot be set up \(one does not answer in 1 s\): stop it"):
            Engine(remote, address=external.address).__enter__()
    finally:
        os.kill(frozen, signal.SIGKILL)


@pytest.mark.slow
def test_a_worker_that_dies_in_its_set_up_is_replaced(run: Run, fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SET_UP", "kill_once")
    assert set(run().ended.values()) == COMPLETE
    assert (fake / "killed").exists()


@pytest.mark.service
def test_a_trial_that_waits_behind_another_sweeps_does_not_end_it(
    external: Cluster, remote: TrainerPlugin, digest: str
) -> None:
    external.plain_worker("1", FAKE_FAULTS='{"relu/0": "slow"}')
    long, short = trials(digest, seeds=1, epochs=6)
    told: list[type[Event]] = []
    with Engine(remote, address=external.address) as first:
        for event in each_event(first, [long]):
            told.append(type(event))
            if isinstance(event, Started):
                with Engine(remote, address=external.address, trial_timeout_s=1.5) as second:
                    assert Told(each_event(second, [short])).ended == {"tanh/0": ("complete", "")}
    assert told == [Started, *[Progress] * 6, Finished]
