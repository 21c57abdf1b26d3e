"""The engine on real Dask workers with the fake trainer: every trial ends exactly once, whatever its worker does."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from command import wait_for
from distributed import Client
from keras_trials import each_event, trials
from tiny_images import write_images

from mnist_ablate.errors import AblateError, DataError, UnreachableError
from mnist_ablate.execution import cluster, engine
from mnist_ablate.execution.engine import Engine, Event, Finished, Preparing, Progress, Retried, Started
from mnist_ablate.execution.worker import TrainerPlugin
from mnist_ablate.trial import Outcome, Trial
from mnist_ablate.workloads.keras_mnist import data

pytestmark = pytest.mark.usefixtures("fake")
FAKE = "fake_trainer:factory"


def faults(monkeypatch: pytest.MonkeyPatch, **by_trial: str) -> None:
    """`relu_1="kill"`: the trial of relu with seed 1 kills its worker."""
    monkeypatch.setenv("FAKE_FAULTS", json.dumps({key.replace("_", "/"): fault for key, fault in by_trial.items()}))


def events(plugin: TrainerPlugin, asked: list[Trial], jobs: int = 2, timeout_s: float | None = None) -> list[Event]:
    with Engine(plugin, jobs=jobs, trial_timeout_s=timeout_s) as running:
        return list(each_event(running, asked))


def outcomes(told: list[Event], asked: list[Trial]) -> dict[str, Outcome]:
    """By activation/seed; checks that each trial finished exactly once."""
    finished = [event for event in told if isinstance(event, Finished)]
    assert sorted(event.trial.id for event in finished) == sorted(trial.id for trial in asked)
    return {f"{event.trial.settings['activation']}/{event.trial.seed}": event.outcome for event in finished}


def numbers(told: list[Event], asked: list[Trial]) -> dict[str, dict[str, float]]:
    return {name: outcome.metrics for name, outcome in outcomes(told, asked).items()}


def retries(told: list[Event]) -> list[tuple[str, int]]:
    return [(event.reason, event.attempt) for event in told if isinstance(event, Retried)]


@pytest.mark.slow
def test_one_and_two_jobs_give_the_same_outcomes_and_every_epoch(plugin: TrainerPlugin, digest: str) -> None:
    asked = trials(digest)
    one, two = events(plugin, asked, jobs=1), events(plugin, asked, jobs=2)
    assert numbers(one, asked) == numbers(two, asked)
    for told in (one, two):
        assert len([event for event in told if isinstance(event, Started)]) == len(asked)
        assert len([event for event in told if isinstance(event, Progress)]) == 3 * len(asked)


@pytest.mark.slow
def test_what_takes_long_before_the_first_epoch_is_told_and_is_no_silence(
    plugin: TrainerPlugin, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults(monkeypatch, relu_0="prepare")
    asked = trials(digest, seeds=1)
    told = events(plugin, asked, timeout_s=1.2)
    assert [event.text for event in told if isinstance(event, Preparing)] == [f"{part} of 4" for part in range(4)]
    assert retries(told) == []
    assert all(outcome.status == "complete" for outcome in outcomes(told, asked).values())


@pytest.mark.slow
def test_a_worker_killed_in_an_epoch_costs_one_retry_and_no_digit(
    plugin: TrainerPlugin, digest: str, monkeypatch: pytest.MonkeyPatch, fake: Path
) -> None:
    asked = trials(digest)
    undisturbed = numbers(events(plugin, asked), asked)
    (fake / "starts").unlink()
    faults(monkeypatch, relu_1="kill_once")
    told = events(plugin, asked)
    assert retries(told) == [("worker killed", 1)]
    assert numbers(told, asked) == undisturbed


@pytest.mark.slow
def test_a_trial_that_always_kills_its_worker_is_lost_alone(
    plugin: TrainerPlugin, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults(monkeypatch, relu_1="kill")
    asked = trials(digest, seeds=4)
    told = events(plugin, asked)
    ended = outcomes(told, asked)
    assert (ended["relu/1"].status, ended["relu/1"].reason) == ("lost", "worker killed")
    assert retries(told) == [("worker killed", 1), ("worker killed", 2)]
    assert {outcome.status for name, outcome in ended.items() if name != "relu/1"} == {"complete"}


def test_a_trial_that_waited_at_a_killed_worker_is_no_loss(plugin: TrainerPlugin, digest: str) -> None:
    task = engine._Task(trials(digest, seeds=1)[0])
    lost = Outcome(trial_id="x", status="lost", reason="worker killed")
    with Engine(plugin, jobs=1) as running:
        assert list(running._on_loss(task, lost)) == []
        task.worker = "tcp://127.0.0.1:1"
        assert list(running._on_loss(task, lost)) == [Retried(task.trial, "worker killed", 1)]
        assert list(running._waiting) == [task, task]


@pytest.mark.slow
def test_a_hung_worker_is_replaced_though_it_holds_the_interpreter(
    plugin: TrainerPlugin, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults(monkeypatch, relu_1="hang_once")
    asked = trials(digest)
    told = events(plugin, asked, timeout_s=1.0)
    assert retries(told) == [("no progress for 1 s", 1)]
    assert {outcome.status for outcome in outcomes(told, asked).values()} == {"complete"}


def test_an_exception_is_a_failed_trial_with_its_traceback(
    plugin: TrainerPlugin, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults(monkeypatch, tanh_0="raise", relu_0="diverge")
    asked = trials(digest, seeds=1)
    told = events(plugin, asked)
    ended = outcomes(told, asked)
    assert (ended["tanh/0"].status, ended["tanh/0"].reason) == ("failed", "RuntimeError: no such layer")
    assert 'raise RuntimeError("no such layer")' in ended["tanh/0"].traceback
    assert ended["relu/0"].status == "diverged"
    assert not retries(told)


def test_out_of_memory_is_retried_once_with_nothing_beside_it(
    plugin: TrainerPlugin, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults(monkeypatch, tanh_0="memory")
    asked = trials(digest)
    told = events(plugin, asked)
    ended = outcomes(told, asked)
    assert retries(told) == [("out of memory", 1)]
    assert ended["tanh/0"].status == "failed"
    assert ended["tanh/0"].reason == "out of memory, with no other trial beside it too"
    assert most_at_once_with(told, ended["tanh/0"].trial_id) == 1
    assert {outcome.status for name, outcome in ended.items() if name != "tanh/0"} == {"complete"}


def most_at_once_with(told: list[Event], trial_id: str) -> int:
    """The most trials that ran at once while the second attempt of this one did."""
    running: set[str] = set()
    most, retried = 0, False
    for event in told:
        retried |= isinstance(event, Retried)
        if isinstance(event, Started):
            running.add(event.trial.id)
        elif isinstance(event, Finished | Retried):
            running.discard(event.trial.id)
        if retried and trial_id in running:
            most = max(most, len(running))
    return most


@pytest.mark.slow
def test_a_worker_killed_for_its_memory_says_so(
    plugin: TrainerPlugin, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults(monkeypatch, tanh_0="eat")
    monkeypatch.setitem(cluster.SETTINGS, "distributed.worker.memory.terminate", 0.04)
    asked = trials(digest, seeds=1)
    told = events(plugin, asked)
    assert retries(told)[0] == ("out of memory", 1)
    assert outcomes(told, asked)["relu/0"].status == "complete"


def test_draining_lets_running_trials_end_and_starts_no_other(plugin: TrainerPlugin, digest: str) -> None:
    asked = trials(digest, seeds=20)
    with Engine(plugin, jobs=2) as running:
        told = []
        for event in each_event(running, asked):
            told.append(event)
            if isinstance(event, Finished):
                running.drain()
    started = {event.trial.id for event in told if isinstance(event, Started)}
    finished = {event.trial.id for event in told if isinstance(event, Finished)}
    assert started == finished
    assert len(finished) < 5


@pytest.mark.slow
def test_draining_drops_what_does_not_end_in_time(
    plugin: TrainerPlugin, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults(monkeypatch, relu_0="slow")
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


def test_a_worker_with_other_images_refuses_to_train(plugin: TrainerPlugin, tmp_path: Path) -> None:
    other = data.load(write_images(tmp_path / "other.npz", seed=1)).digest
    wrong = TrainerPlugin(FAKE, other, plugin._inputs, tmp_path)
    with pytest.raises(DataError, match="the data file changed"):
        Engine(wrong).__enter__()


def test_a_trainer_that_is_not_there_is_one_line(plugin: TrainerPlugin, digest: str, tmp_path: Path) -> None:
    wrong = TrainerPlugin("no_such_module:factory", digest, plugin._inputs, tmp_path)
    with pytest.raises(AblateError, match=r"workers cannot start \(ModuleNotFoundError: No module named 'no_such"):
        Engine(wrong).__enter__()


@pytest.mark.slow
def test_workers_say_nothing_on_the_terminal(images: Path, tmp_path: Path) -> None:
    code = f"""
import sys; sys.path[:0] = {[str(Path(__file__).parents[1] / "support")]!r}
from pathlib import Path
from mnist_ablate.workloads.keras_mnist import data
from mnist_ablate.execution.engine import Engine
from mnist_ablate.execution.worker import TrainerPlugin
from keras_trials import each_event, trials
if __name__ == "__main__":
    images = Path({str(images)!r})
    digest = data.load(images).digest
    plugin = TrainerPlugin("fake_trainer:factory", digest, images.read_bytes(), Path({str(tmp_path)!r}))
    with Engine(plugin, jobs=2) as engine:
        list(each_event(engine, trials(digest)))
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    environment = os.environ | {"FAKE_FAULTS": '{"relu/1": "kill_once"}'}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A `dask` command, killed with its children at the end."""
    dask = Path(sys.executable).with_name("dask")
    null = subprocess.DEVNULL
    started = subprocess.Popen([dask, *arguments], stdout=null, stderr=null, start_new_session=True)
    try:
        yield started
    finally:
        kill_group(started)


def kill_group(started: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGKILL)
    started.wait()


@contextmanager
def scheduler(port: int = 0) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    port = port or free_port()
    with process("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard") as started:
        wait_for(lambda: listens(port))
        yield f"tcp://127.0.0.1:{port}", started


def external_worker(address: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return process("worker", address, "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1")


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.service
def test_workers_of_a_cluster_get_the_images_and_may_join_and_leave(images: Path, digest: str) -> None:
    asked = trials(digest, seeds=60, epochs=5)
    remote = TrainerPlugin(FAKE, digest, images.read_bytes(), None)
    told: list[Event] = []
    with scheduler() as (address, _), external_worker(address) as first, ExitStack() as stack:
        for event in each_event(stack.enter_context(Engine(remote, address=address)), asked):
            told.append(event)
            workers = {each.worker for each in told if isinstance(each, Started)}
            if isinstance(event, Finished) and len(told) < 30:
                stack.enter_context(external_worker(address))
            if len(workers) > 1 and first.poll() is None:
                kill_group(first)
    assert len({each.worker for each in told if isinstance(each, Started)}) > 1
    assert {outcome.status for outcome in outcomes(told, asked).values()} == {"complete"}


@pytest.mark.service
def test_a_scheduler_that_dies_ends_the_run_with_its_address(images: Path, digest: str) -> None:
    with scheduler() as (address, process_), external_worker(address):
        engine_ = Engine(TrainerPlugin(FAKE, digest, images.read_bytes(), None), address=address)
        killed_at: list[float] = []

        def run() -> None:
            with engine_ as running:
                for event in each_event(running, trials(digest, seeds=60)):
                    if isinstance(event, Finished) and not killed_at:
                        kill_group(process_)
                        killed_at.append(time.monotonic())

        with pytest.raises(UnreachableError, match=f"{address}: the Dask scheduler is gone"):
            run()
        assert time.monotonic() - killed_at[0] < 10


@pytest.mark.service
def test_a_scheduler_started_anew_behind_the_run_ends_it_and_no_trial(images: Path, digest: str) -> None:
    ended: list[Outcome] = []
    with scheduler() as (address, process_), external_worker(address), ExitStack() as stack:
        engine_ = Engine(TrainerPlugin(FAKE, digest, images.read_bytes(), None), address=address)

        def run() -> None:
            with engine_ as running:
                for events_ in running.batches(trials(digest, seeds=20), ahead=True):
                    ended.extend(event.outcome for event in events_ if isinstance(event, Finished))
                    if ended and process_.poll() is None:  # the database is down, and takes the scheduler with it
                        kill_group(process_)
                        stack.enter_context(scheduler(int(address.rpartition(":")[2])))
                        stack.enter_context(external_worker(address))
                        wait_for(lambda: running._client.status == "running" and running._client.ncores())

        with pytest.raises(UnreachableError, match=f"{address}: the Dask scheduler is gone"):
            run()
    assert {outcome.status for outcome in ended} == {"complete"}


@pytest.mark.service
def test_a_scheduler_that_was_given_up_meanwhile_is_told_with_its_address(images: Path, digest: str) -> None:
    with scheduler() as (address, process_), external_worker(address):
        engine_ = Engine(TrainerPlugin(FAKE, digest, images.read_bytes(), None), address=address)

        def run() -> None:
            with engine_ as running:
                for event in each_event(running, trials(digest)):
                    if isinstance(event, Finished):
                        kill_group(process_)
                        wait_for(lambda: running._client.status == "closed", timeout_s=60)

        with pytest.raises(UnreachableError, match=f"{address}: the Dask scheduler is gone"):
            run()


@pytest.mark.slow
def test_a_worker_that_freezes_between_two_trials_is_replaced(plugin: TrainerPlugin, digest: str) -> None:
    asked, told = trials(digest), []
    with Engine(plugin, jobs=1, trial_timeout_s=2.0) as running:
        for event in each_event(running, asked):
            if isinstance(event, Finished) and not any(isinstance(each, Finished) for each in told):
                (nanny,) = running._client.cluster.workers.values()
                os.kill(nanny.pid, signal.SIGSTOP)
            told.append(event)
    assert {outcome.status for outcome in outcomes(told, asked).values()} == {"complete"}
    assert [reason.partition(" for ")[0] for reason, _ in retries(told)] == ["no progress"]


@pytest.mark.service
def test_a_frozen_worker_does_not_hold_up_the_start_for_ever(
    images: Path, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_SET_UP_S", 1)
    with scheduler() as (address, _), external_worker(address), external_worker(address):
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=30)
            frozen = next(iter(client.run(os.getpid).values()))
        os.kill(frozen, signal.SIGSTOP)
        try:
            with pytest.raises(UnreachableError, match=r"cannot be set up \(one does not answer in 1 s\): stop it"):
                Engine(TrainerPlugin(FAKE, digest, images.read_bytes(), None), address=address).__enter__()
        finally:
            os.kill(frozen, signal.SIGKILL)


@pytest.mark.slow
def test_a_worker_that_dies_in_its_set_up_is_replaced(
    plugin: TrainerPlugin, digest: str, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SET_UP", "kill_once")
    asked = trials(digest)
    assert {outcome.status for outcome in outcomes(events(plugin, asked), asked).values()} == {"complete"}
    assert (fake / "killed").exists()


@pytest.mark.service
def test_a_trial_that_waits_behind_another_sweeps_does_not_end_it(
    images: Path, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults(monkeypatch, relu_0="slow")
    long, short = trials(digest, seeds=1, epochs=6)
    plugin = TrainerPlugin(FAKE, digest, images.read_bytes(), None)
    told: list[Event] = []
    with scheduler() as (address, _), external_worker(address), Engine(plugin, address=address) as first:
        for event in each_event(first, [long]):
            told.append(event)
            if isinstance(event, Started):
                with Engine(plugin, address=address, trial_timeout_s=1.5) as second:
                    assert outcomes([*each_event(second, [short])], [short])["tanh/0"].status == "complete"
    assert [type(event) for event in told] == [Started, *[Progress] * 6, Finished]
