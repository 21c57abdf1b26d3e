"""Runners with real processes: every sweep comes to its end, once, whoever is killed; and nothing outlives a runner."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import left_running
from postgres import Postgres
from runners import Ground, end, ground
from sweep_runs import small

from mnist_ablate.ledger.ledger import Ledger
from mnist_ablate.service.claims import Claims
from mnist_ablate.service.submissions import SUBMISSIONS, Submission

pytestmark = pytest.mark.slow
KILLS = 2


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Ground]:
    with ground(tmp_path / "ground", FAKE_FAULTS='{"tanh/7": "raise"}') as made:
        yield made


def submit(place: Ground, owner: str = "ana", **changes: Any) -> Submission:
    return place.queue.submit(small(**changes), owner=owner)[0]


def test_sweeps_end_as_the_command_would_end_and_the_queue_says_how(here: Ground) -> None:
    good, broken, wrong = submit(here), submit(here, "bo", name="broken", seeds=8), submit(here, "cy", name="wrong")
    with here.queue.writing() as connection:
        is_wrong = SUBMISSIONS.c.id == wrong.id
        connection.execute(
            SUBMISSIONS.update().where(is_wrong).values(text="question: q\nscientific: {activation: [relu]}")
        )
    with Ledger(here.url).driving("small"):
        runner = here.runner("--sweeps", "3")
        here.wait(lambda: here.now(good).reason.startswith("small is being run by pid "))
        assert here.now(good).state in {"waiting", "running"}
    here.wait_for_state("done", good, broken)
    here.wait_for_state("failed", wrong)
    ended = here.now(good)
    assert (ended.exit_code, ended.is_behind, ended.recorded, ended.planned) == (7, True, 6, 6)
    assert (ended.verdicts, ended.reason) == ({"tanh-hurts": "supported"}, "")
    assert (here.now(broken).exit_code, here.now(broken).reason) == (1, "1 trial failed")
    assert here.now(wrong).exit_code == 2
    assert here.now(wrong).reason == "wrong.yaml:1:1: seeds: is missing"
    shown = here.queue.snapshots([good.id])[good.id]
    assert [claim["verdict"] for claim in shown["claims"]] == ["supported"]
    assert any(
        "failed: RuntimeError: no such layer" in each.data.get("text", "") for each in here.queue.events(broken.id)
    )
    record = Ledger(here.url).find("small")
    assert (record.origin["user"], record.origin["command"]) == ("ana", "mnist-ablate submit small")
    code, said = end(runner)
    assert code == 143
    assert "Traceback" not in said
    assert not here.queue.runners()


def test_cancel_and_pause_reach_a_running_sweep_and_a_runner_that_ends_hands_over(here: Ground) -> None:
    sweeps = [submit(here, name=name, fixed={"epochs": 10}, seeds=7) for name in ("cancelled", "paused", "goes_on")]
    runner = here.runner("--sweeps", "3", FAKE_EPOCH_S="0.1")
    here.wait(lambda: all(here.now(each).recorded for each in sweeps))
    cancelled, paused, goes_on = sweeps
    here.queue.cancel(cancelled.id, by="op")
    began = time.monotonic()
    here.wait_for_state("cancelled", cancelled)
    assert time.monotonic() - began < 20
    here.queue.pause(paused.id, by="op")
    here.wait_for_state("paused", paused)
    assert 0 < here.now(paused).recorded < 14
    assert here.now(goes_on).state == "running"
    assert end(runner)[0] == 143
    assert (here.now(goes_on).state, here.now(goes_on).runner) == ("waiting", None)
    here.queue.resume(paused.id, by="op")
    here.runner("--sweeps", "2", FAKE_EPOCH_S="0.001")
    here.wait_for_state("done", paused, goes_on)
    for each in (paused, goes_on):
        assert (len(here.recorded(each.name)), here.recorded(each.name).total()) == (14, 14)


def test_a_user_who_waits_with_nothing_running_gets_the_place_of_one_who_has_two(here: Ground) -> None:
    theirs = [submit(here, name=f"long{number}", fixed={"epochs": 20}, seeds=7) for number in (0, 1)]
    here.runner("--sweeps", "2", FAKE_EPOCH_S="0.05")
    here.wait_for_state("running", *theirs)
    mine = submit(here, "bo", name="mine")
    here.wait_for_state("done", mine)
    assert {here.now(each).state for each in theirs} != {"done"}
    assert any(here.now(each).attempt == 2 or here.now(each).state == "waiting" for each in theirs)


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
def test_runners_killed_at_any_moment_lose_no_sweep_and_record_nothing_twice(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = ""
    if database == "postgresql":
        server: Postgres = request.getfixturevalue("server")
        url = server.database()
    random_ = random.Random(6640)
    with ground(tmp_path / "killed", url, FAKE_EPOCH_S="0.05") as place:
        sweeps = [submit(place, f"user{number % 2}", name=f"s{number}", seeds=6) for number in range(4)]
        names = iter(range(100))
        runners = [place.runner("--sweeps", "2", "--name", f"r{next(names)}") for _ in range(2)]
        for _ in range(KILLS):
            place.wait(lambda: any(each.state == "running" for each in map(place.now, sweeps)))
            time.sleep(random_.uniform(0.0, 2.0))
            victim = runners.pop(0)
            end(victim, signal.SIGKILL)
            runners.append(place.runner("--sweeps", "2", "--name", f"r{next(names)}"))
        place.wait_for_state("done", *sweeps)
        for each in sweeps:
            assert set(place.recorded(each.name).values()) == {1}
            assert len(place.recorded(each.name)) == 12
        assert {each.verdicts["tanh-hurts"] for each in map(place.now, sweeps)} == {"supported"}
        for runner in runners:
            assert end(runner)[0] == 143


@pytest.mark.service
def test_a_database_that_restarts_costs_a_pause_and_no_sweep(server: Postgres, tmp_path: Path) -> None:
    with ground(tmp_path / "restarted", server.database(), FAKE_EPOCH_S="0.05") as place:
        sweeps = [submit(place, name=f"s{number}", fixed={"epochs": 10}, seeds=8) for number in range(2)]
        runners = [place.runner("--sweeps", "1", "--name", name) for name in ("one", "two")]
        place.wait(lambda: all(each.recorded for each in map(place.now, sweeps)))
        server.crash()
        time.sleep(1.5)
        server.start()
        place.wait_for_state("done", *sweeps)
        states = [each.data["state"] for each in place.queue.events_since(0) if each.kind == "state"]
        assert states == ["waiting"] * 2 + ["running"] * 2 + ["done"] * 2  # none changed hands
        for each in sweeps:
            assert set(place.recorded(each.name).values()) == {1}
        assert {each.name for each in place.queue.runners()} == {"one", "two"}
        assert all("still trying" in end(runner)[1] for runner in runners)


def test_a_killed_process_of_a_sweep_is_replaced_and_the_runner_lives(here: Ground) -> None:
    sweep = submit(here, fixed={"epochs": 10}, seeds=7)
    runner = here.runner(FAKE_EPOCH_S="0.05")
    here.wait(lambda: here.now(sweep).recorded)
    children = [pid for pid in left_running(runner.pid) if _is_driver(pid, runner.pid)]
    assert len(children) == 1
    os.kill(children[0], signal.SIGKILL)
    here.wait_for_state("done", sweep)
    assert here.now(sweep).attempt == 2
    assert set(here.recorded("small").values()) == {1}
    assert runner.poll() is None


def _is_driver(pid: int, runner: int) -> bool:
    """A process that leads a group of its own, and is not the runner: one that drives a sweep."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[2]) == pid != runner


def test_a_name_is_taken_only_once(here: Ground) -> None:
    first = here.runner("--name", "one")
    here.wait(here.queue.runners)
    second = here.runner("--name", "one")
    _, said = second.communicate(timeout=100)
    assert second.returncode == 2
    assert said.splitlines()[-1] == "--name one: another runner has this name: choose another"
    assert first.poll() is None
    assert Claims(here.queue, "two").others() == {"one"}
