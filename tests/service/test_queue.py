"""The queue: one question is one sweep, what makes no sense is refused in words, and two runners never share one."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from ledger_records import plan
from postgres import Postgres
from sqlalchemy import text
from sweep_runs import small

from mnist_ablate.errors import AblateError, ConflictError, SweepError, UnreachableError
from mnist_ablate.execution.events import Finished
from mnist_ablate.service import claims as claims_module
from mnist_ablate.service.claims import Claims, Ending, died, report, settle, settle_behind
from mnist_ablate.service.limits import Limits, UserLimits
from mnist_ablate.service.queue import EVENTS_KEPT, Queue
from mnist_ablate.service.queue_view import QueueView
from mnist_ablate.service.submissions import Submission

NONE = Limits()


@pytest.fixture
def queue(url: str) -> Iterator[Queue]:
    made = Queue(url)
    yield made
    made.close()


@pytest.fixture
def runner(queue: Queue) -> Claims:
    claims = Claims(queue, "one")
    claims.enter(2, "")
    return claims


def submitted(queue: Queue, owner: str = "ana", **changes: Any) -> Submission:
    return queue.submit(small(**changes), owner=owner)[0]


def test_the_same_question_twice_is_the_same_sweep_whoever_asks(queue: Queue) -> None:
    first, is_new = queue.submit(small(), owner="ana", planned=6, where="127.0.0.1")
    again, is_new_again = queue.submit(small(), owner="bo")
    assert (is_new, is_new_again, again.owner) == (True, False, "ana")
    assert again == first == queue.get(first.id)
    assert [each.id for each in queue.list()] == [first.id]
    assert [(each.who, each.what, each.where) for each in queue.audit()] == [("ana", "submit", "127.0.0.1")]


def test_a_name_has_one_question_in_the_queue_and_in_the_ledger(queue: Queue) -> None:
    submitted(queue)
    with pytest.raises(ConflictError, match="small: another sweep of this name, by ana, is waiting: rename yours"):
        submitted(queue, "bo", seeds=4)
    assert sum(queue.counts().values()) == 1


def test_what_failed_or_was_cancelled_waits_again_for_who_submits_it_again(queue: Queue, runner: Claims) -> None:
    sweep = submitted(queue)
    queue.cancel(sweep.id, by="ana")
    again, is_new = queue.submit(small(), owner="bo")
    assert (again.state, again.owner, is_new, again.ended_at) == ("waiting", "bo", False, None)
    for ending in (Ending("failed", 4, "bad data"), Ending("done", 1, "1 trial failed")):
        found = runner.take(NONE)
        assert found
        settle(queue, found[0], ending)
        assert queue.submit(small(), owner="bo")[0].state == "waiting"
    found = runner.take(NONE)
    assert found
    settle(queue, found[0], Ending("done", 0))
    assert queue.submit(small(), owner="cy")[0].state == "done"


SENSELESS: dict[str, tuple[Callable[[Queue, str], object], str]] = {
    "cancel": (lambda queue, id_: queue.cancel(id_, by="bo"), "is cancelled already: nothing to cancel"),
    "pause": (lambda queue, id_: queue.pause(id_, by="bo"), "is cancelled: only what waits or runs can be paused"),
    "resume": (lambda queue, id_: queue.resume(id_, by="bo"), "is cancelled: submit it again"),
    "priority": (lambda queue, id_: queue.set_priority(id_, 1, by="bo"), "is cancelled already: its priority means"),
}


@pytest.mark.parametrize("name", SENSELESS)
def test_what_makes_no_sense_is_refused_in_words_and_changes_nothing(queue: Queue, name: str) -> None:
    sweep = submitted(queue)
    queue.cancel(sweep.id, by="ana")
    change, message = SENSELESS[name]
    before = queue.get(sweep.id), queue.audit(), queue.events(sweep.id)
    with pytest.raises(ConflictError, match=message):
        change(queue, sweep.id)
    with pytest.raises(SweepError, match="none: no such submission"):
        change(queue, "none")
    assert (queue.get(sweep.id), queue.audit(), queue.events(sweep.id)) == before


def test_a_priority_is_bounded(queue: Queue) -> None:
    sweep = submitted(queue)
    assert queue.set_priority(sweep.id, 3, by="ana").priority == 3
    with pytest.raises(SweepError, match="priority 11: expected -10 to 10"):
        queue.set_priority(sweep.id, 11, by="ana")


def test_paused_waits_for_resume_and_events_tell(queue: Queue, runner: Claims) -> None:
    sweep = submitted(queue)
    assert queue.pause(sweep.id, by="ana").state == "paused"
    assert runner.take(NONE) is None
    assert queue.resume(sweep.id, by="ana").state == "waiting"
    assert [each.data["state"] for each in queue.events(sweep.id)] == ["waiting", "paused", "waiting"]
    assert queue.events(sweep.id, after=2) == queue.events_since(2)
    assert queue.last_event() == 3


@pytest.mark.parametrize(("asked", "state"), [("cancel", "cancelled"), ("pause", "paused")])
@pytest.mark.parametrize("how", ["in order", "its process dies", "its runner dies"])
def test_what_is_asked_of_a_running_sweep_holds_however_it_ends(
    queue: Queue, runner: Claims, asked: str, state: str, how: str
) -> None:
    sweep = submitted(queue)
    found = runner.take(NONE)
    assert found
    changed = getattr(queue, asked)(sweep.id, by="bo")
    assert (changed.state, changed.wanted) == ("running", asked)
    if how == "in order":
        settle(queue, found[0], Ending(interrupted=True))
    elif how == "its process dies":
        died(queue, found[0], "SIGKILL")
    else:
        Claims(queue, "two").bury("one")
    ended = queue.get(sweep.id)
    assert ended
    assert (ended.state, ended.wanted, ended.runner, ended.reason) == (state, "", None, f"{state} by bo")


def test_a_sweep_that_came_to_its_end_is_done_though_it_was_cancelled_meanwhile(queue: Queue, runner: Claims) -> None:
    sweep = submitted(queue)
    found = runner.take(NONE)
    assert found
    queue.cancel(sweep.id, by="bo")
    assert settle(queue, found[0], Ending("done", 0, verdicts={"tanh-hurts": "supported"})) == "done"
    ended = queue.get(sweep.id)
    assert ended
    assert (ended.state, ended.wanted, ended.verdicts) == ("done", "", {"tanh-hurts": "supported"})


def test_pause_is_taken_back_while_its_trials_still_run(queue: Queue, runner: Claims) -> None:
    sweep = submitted(queue)
    found = runner.take(NONE)
    assert found
    queue.pause(sweep.id, by="ana")
    queue.resume(sweep.id, by="ana")
    assert settle(queue, found[0], Ending(interrupted=True)) == "waiting"


def test_two_runners_that_take_at_once_never_take_the_same(queue: Queue) -> None:
    for number in range(12):
        submitted(queue, name=f"s{number}")

    def take(name: str) -> list[str]:
        claims = Claims(queue, name)
        return [found[1].id for found in iter(lambda: claims.take(NONE), None) if found]

    with ThreadPoolExecutor(4) as threads:
        taken = [id_ for ids in threads.map(take, ("a", "b", "c", "d")) for id_ in ids]
    assert len(taken) == len(set(taken)) == 12


def test_a_runner_that_lost_a_sweep_cannot_write_to_it(queue: Queue, runner: Claims) -> None:
    sweep = submitted(queue)
    first = runner.take(NONE)
    assert first
    other = Claims(queue, "two")
    assert other.bury("one") == 1
    second = other.take(NONE)
    assert second
    assert second[1].attempt == 2
    assert not report(queue, first[0], [("message", {"text": "late"})], processor_s=9.0, recorded=5)
    assert settle(queue, first[0], Ending("failed", 1, "late")) is None
    assert died(queue, first[0], "SIGKILL") is None
    now = queue.get(sweep.id)
    assert now
    assert (now.state, now.runner, now.processor_s, now.recorded) == ("running", "two", 0.0, 0)
    assert "message" not in {each.kind for each in queue.events(sweep.id)}


def test_what_cannot_be_reached_waits_longer_each_time_and_says_why(
    queue: Queue, runner: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = submitted(queue)
    clock = [time.time()]
    monkeypatch.setattr(claims_module.time, "time", lambda: clock[0])
    waits = []
    for _ in range(3):
        while (found := runner.take(NONE)) is None:
            clock[0] += 1
        began = clock[0]
        settle(queue, found[0], Ending(waits=True, reason="the Dask scheduler is gone"))
        now = queue.get(sweep.id)
        assert now
        assert (now.state, now.reason) == ("waiting", "the Dask scheduler is gone")
        while not runner.is_due():
            clock[0] += 1
        waits.append(clock[0] - began)
    assert waits == [1, 2, 4]


def test_a_process_that_dies_again_and_again_is_given_up_unless_it_gets_further(queue: Queue, runner: Claims) -> None:
    sweep = submitted(queue)
    states = []
    while found := runner.take(NONE):
        if len(states) == 2:
            report(queue, found[0], [], processor_s=1.0, recorded=1)
        states.append(died(queue, found[0], "SIGKILL"))
        with queue.writing() as connection:
            claims_module.put(connection, sweep.id, due_at=0)
    assert states == [*["waiting"] * 6, "failed"]
    now = queue.get(sweep.id)
    assert now
    assert now.reason.startswith("its process ended (SIGKILL) 5 times without a new result: look at the runner's log")


def test_a_reason_with_characters_that_no_database_stores_is_stored(queue: Queue, runner: Claims) -> None:
    sweep = submitted(queue)
    found = runner.take(NONE)
    assert found
    settle(queue, found[0], Ending("failed", 1, "no \0 and no \ud800"))
    now = queue.get(sweep.id)
    assert now
    assert (now.state, now.reason) == ("failed", "no ? and no ?")


def test_deaths_of_runners_give_no_sweep_up(queue: Queue) -> None:
    sweep = submitted(queue)
    for number in range(20):
        assert Claims(queue, f"runner{number}").take(NONE)
        Claims(queue, "other").bury(f"runner{number}")
    now = queue.get(sweep.id)
    assert now
    assert now.state == "waiting"


def test_what_mlflow_lacks_is_sent_later_and_the_sweep_stays_done(queue: Queue, runner: Claims) -> None:
    sweep = submitted(queue)
    found = runner.take(NONE)
    assert found
    settle(queue, found[0], Ending("done", 7, is_behind=True))
    assert (queue.behind(), runner.take_behind()) == (1, None)
    for in_step in (False, True):
        with queue.writing() as connection:
            claims_module.put(connection, sweep.id, due_at=0)
        behind = runner.take_behind()
        assert behind
        assert behind[1].state == "done"
        settle_behind(queue, behind[0], in_step=in_step)
    now = queue.get(sweep.id)
    assert now
    assert (now.state, now.exit_code, now.is_behind, now.runner, queue.behind()) == ("done", 0, False, None, 0)


def test_limits_hold_back_what_is_too_much_and_say_so(queue: Queue, runner: Claims) -> None:
    limits = Limits(default=UserLimits(sweeps=1), users={"bo": UserLimits(processor_hours=0.0)})
    sweeps = [submitted(queue, owner, name=f"of-{owner}{number}") for owner in ("ana", "bo") for number in (0, 1)]
    taken = runner.take(limits)
    assert taken
    assert taken[1].id == sweeps[0].id
    assert runner.take(limits) is None
    reasons = [found.reason for found in map(queue.get, (each.id for each in sweeps)) if found]
    assert reasons[:2] == ["", "ana may run 1 sweep at once"]
    assert reasons[2] == "bo has used 0.0 of 0 processor hours in 30 days: wait, or ask an operator"
    settle(queue, taken[0], Ending("done", 0))
    again = runner.take(limits)
    assert again
    assert (again[1].id, again[1].reason) == (sweeps[1].id, "")


def test_a_user_gets_no_more_trials_than_the_operator_allows(queue: Queue) -> None:
    limits = Limits(default=UserLimits(trials=10))
    queue.submit(small(), owner="ana", planned=6, limits=limits)
    allowed = "6 trials, and the open sweeps of ana have 6 trials already: 10 trials are allowed at a time"
    with pytest.raises(ConflictError, match=allowed):
        queue.submit(small(name="other"), owner="ana", planned=6, limits=limits)
    assert queue.submit(small(name="other"), owner="bo", planned=6, limits=limits)[1]


def test_events_are_bounded_and_only_the_latest_snapshot_is_kept(
    queue: Queue, runner: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_ablate.service.queue.EVENTS_KEPT", 50)
    assert EVENTS_KEPT > 1000
    sweep = submitted(queue)
    found = runner.take(NONE)
    assert found
    for number in range(40):
        told = [("message", {"text": f"{number}.{part}"}) for part in range(10)]
        report(queue, found[0], [*told, ("snapshot", {"done": number})], processor_s=0.0)
    kinds = [each.kind for each in queue.events(sweep.id)]
    assert kinds.count("snapshot") == 1
    assert kinds.count("message") <= 50 + 100
    assert queue.snapshots([sweep.id, "none"]) == {sweep.id: {"done": 39}}
    numbers = [each.number for each in queue.events(sweep.id)]
    assert numbers == sorted(numbers)


def test_a_queue_of_a_later_version_is_refused_in_words(url: str) -> None:
    first = Queue(url)
    with first.writing() as connection:
        connection.exec_driver_sql("UPDATE service_version SET version = 2")
    first.close()
    with pytest.raises(ConflictError, match="the queue has tables of version 2, not 1: use a later mnist-ablate"):
        Queue(url)


@pytest.mark.parametrize("address", ["sqlite:////proc/nowhere/ledger.db", "postgresql+psycopg2://a:b@127.0.0.1:9/x"])
def test_a_database_that_cannot_be_used_is_one_line(address: str) -> None:
    with pytest.raises(AblateError) as raised:
        Queue(address)
    assert "\n" not in str(raised.value)
    assert "a:b" not in str(raised.value)


@pytest.mark.service
def test_a_database_that_ends_while_it_is_looked_at_is_told_as_one_that_is_away(server: Postgres) -> None:
    """Putting the isolation level back is the driver's business, and so is the error of that."""
    queue = Queue(server.database())
    ended = text("SELECT pg_terminate_backend(:pid)")
    with queue.reading() as one, queue.reading() as other:  # two connections, for the second time further down
        one.execute(text("SELECT 1"))
        other.execute(text("SELECT 1"))
    away = pytest.raises(UnreachableError, match="not reachable: start it or check OPTUNA_STORAGE")
    with queue.reading() as other, away, queue.reading() as one:
        other.execute(ended, {"pid": one.scalar(text("SELECT pg_backend_pid()"))})
    queue.close()


def test_a_signal_that_interrupts_the_view_of_a_sweep_can_leave_its_message(queue: Queue, runner: Claims) -> None:
    submitted(queue)
    found = runner.take(NONE)
    assert found is not None
    planned = plan().verdict_trials()[0]

    class Interrupted:
        @property
        def seconds(self) -> float:
            view.message("stopping: running trials may finish")
            return 1.0

    with QueueView(queue, found[0]) as view:
        event = Finished(planned.trial, cast("Any", Interrupted()))
        thread = threading.Thread(target=view.event, args=(planned, event), daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
    said = [each.data["text"] for each in queue.events(found[1].id) if each.kind == "message"]
    assert said == ["stopping: running trials may finish"]
