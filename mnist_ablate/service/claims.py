"""The queue as runners see it: take a sweep, say how it goes and how it ended, give back what a dead one had."""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from mnist_ablate.service import submissions as tables
from mnist_ablate.service.fair_shares import Candidate, Demand, first_due
from mnist_ablate.service.limits import Limits
from mnist_ablate.service.queue import Queue, add_events, put, put_state
from mnist_ablate.service.submissions import NOTICES, RUNNERS, SUBMISSIONS, Kind, State, Submission
from mnist_ablate.text import counted

MOST_DEATHS = 5  # of a sweep's process without a new result, while its runner lived: then it is given up
RECENT_S = 86_400.0  # what users trained in this time decides between equals
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
_LONGEST_SYNC_S = 600.0
_YIELD_AFTER_S = 5.0
_HAS_RUNNER = SUBMISSIONS.c.runner.is_not(None)
_WAITS = SUBMISSIONS.c.state == "waiting"


class Claim(NamedTuple):
    """A submission in the hands of a runner; `attempt` tells it from an earlier or later time."""

    id: str
    runner: str
    attempt: int


class Taken(NamedTuple):
    """A running submission: who has it, what somebody asked of it, and its demand for workers."""

    claim: Claim
    wanted: tables.Wanted
    demand: Demand


@dataclass(frozen=True)
class Ending:
    """How an attempt ended. `waits` says that it is due again, after a while that grows with each such time.

    `interrupted` is by a signal: what then becomes of it follows from what was asked. `notices` are by channel.
    """

    state: State = "done"
    exit_code: int | None = None
    reason: str = ""
    waits: bool = False
    interrupted: bool = False
    is_behind: bool = False
    link: str = ""
    verdicts: Mapping[str, str] = field(default_factory=dict)
    notices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class Claims:
    """What the runner of this name does with the queue. Each method is one transaction."""

    def __init__(self, queue: Queue, runner: str) -> None:
        self.queue, self.runner = queue, runner

    def enter(self, sweeps: int, cluster: str) -> None:
        """Say that the runner is there. It holds its `runner_lock`: what one of its name had before is free."""
        row = {"name": self.runner, "started_at": time.time(), "sweeps": sweeps, "cluster": cluster}
        with self.queue.writing() as connection:
            connection.execute(delete(RUNNERS).where(RUNNERS.c.name == self.runner))
            connection.execute(insert(RUNNERS).values(row))
            _give_back(connection, SUBMISSIONS.c.runner == self.runner)

    def leave(self) -> None:
        """Give everything back, and say that the runner is gone."""
        with self.queue.writing() as connection:
            _give_back(connection, SUBMISSIONS.c.runner == self.runner)
            connection.execute(delete(RUNNERS).where(RUNNERS.c.name == self.runner))

    def bury(self, runner: str) -> int:
        """Give back what a dead runner had: how many submissions."""
        with self.queue.writing() as connection:
            connection.execute(delete(RUNNERS).where(RUNNERS.c.name == runner))
            return _give_back(connection, SUBMISSIONS.c.runner == runner)

    def others(self) -> set[str]:
        """The names of the other runners that are written down, or have a submission."""
        with self.queue.reading() as connection:
            found = {*connection.execute(select(RUNNERS.c.name)).scalars()}
            found |= {*connection.execute(select(SUBMISSIONS.c.runner).where(_HAS_RUNNER).distinct()).scalars()}
        return found - {self.runner}

    def beside(self, cluster: str) -> set[str]:
        """The names of the runners whose sweeps run on the same cluster, this one's included."""
        with self.queue.reading() as connection:
            return {*connection.execute(select(RUNNERS.c.name).where(RUNNERS.c.cluster == cluster)).scalars()}

    def running(self) -> Sequence[Taken]:
        """Everything that runs, here and elsewhere, in the order of starting."""
        columns = ("id", "runner", "attempt", "wanted", "owner", "priority", "planned", "recorded")
        query = select(*(SUBMISSIONS.c[name] for name in columns)).where(SUBMISSIONS.c.state == "running", _HAS_RUNNER)
        with self.queue.reading() as connection:
            return [
                Taken(
                    Claim(row.id, row.runner, row.attempt),
                    row.wanted,
                    Demand(row.id, row.owner, row.priority, max(1, row.planned - row.recorded)),
                )
                for row in connection.execute(query.order_by(SUBMISSIONS.c.started_at))
            ]

    def is_due(self) -> bool:
        """Whether something waits that could start now; cheap."""
        query = select(SUBMISSIONS.c.number).where(_WAITS, SUBMISSIONS.c.due_at <= time.time()).limit(1)
        with self.queue.reading() as connection:
            return connection.execute(query).first() is not None

    def take(self, limits: Limits) -> tuple[Claim, Submission] | None:
        """Make the sweep that is next this runner's; None if none may start. Two runners never take the same."""
        with self.queue.writing() as connection:
            waiting = _waiting(connection, time.time())
            running = Counter(connection.execute(select(SUBMISSIONS.c.owner).where(_RUNS)).scalars().all())
            held = _held(connection, {each.owner for each in waiting}, running, limits)
            for owner, reason in held.items():
                why = and_(_WAITS, SUBMISSIONS.c.owner == owner, SUBMISSIONS.c.reason != reason)
                connection.execute(update(SUBMISSIONS).where(why).values(reason=reason))
            free = [each for each in waiting if each.owner not in held]
            found = first_due(free, running, _used_s(connection, RECENT_S), limits.weights)
            if found is None:
                return None
            started = func.coalesce(SUBMISSIONS.c.started_at, time.time())
            values: dict[str, Any] = {
                "runner": self.runner,
                "attempt": SUBMISSIONS.c.attempt + 1,
                "started_at": started,
                "wanted": "",
            }
            put_state(connection, found.id, "running", **values)
            row = connection.execute(select(SUBMISSIONS).where(SUBMISSIONS.c.id == found.id)).one()
            return Claim(row.id, self.runner, row.attempt), tables.submission(row)

    def take_behind(self) -> tuple[Claim, Submission] | None:
        """Make a sweep this runner's that is done, of which MLflow lacks something; None if none is due."""
        behind = and_(SUBMISSIONS.c.behind == 1, SUBMISSIONS.c.runner.is_(None), SUBMISSIONS.c.due_at <= time.time())
        query = select(SUBMISSIONS.c.id).where(behind).order_by(SUBMISSIONS.c.due_at).limit(1)
        with self.queue.reading() as connection:
            if connection.execute(query).first() is None:
                return None
        with self.queue.writing() as connection:
            id_ = connection.execute(query).scalar()
            if id_ is None:
                return None
            put(connection, id_, runner=self.runner, attempt=SUBMISSIONS.c.attempt + 1)
            row = connection.execute(select(SUBMISSIONS).where(SUBMISSIONS.c.id == id_)).one()
            return Claim(row.id, self.runner, row.attempt), tables.submission(row)

    def starved(self, limits: Limits) -> Sequence[Candidate]:
        """What waits for some time already without a limit that holds it back: no runner takes more sweeps."""
        with self.queue.reading() as connection:
            waiting = _waiting(connection, time.time() - _YIELD_AFTER_S)
            running = Counter(connection.execute(select(SUBMISSIONS.c.owner).where(_RUNS)).scalars().all())
            held = _held(connection, {each.owner for each in waiting}, running, limits)
        return [each for each in waiting if each.owner not in held]

    def ask_to_yield(self, claim: Claim) -> None:
        """Let a sweep make room for another user's: it waits again, when its running trials have ended."""
        with self.queue.writing() as connection:
            mine = and_(_is(claim), SUBMISSIONS.c.wanted == "")
            connection.execute(update(SUBMISSIONS).where(mine).values(wanted="yield"))


def report(
    queue: Queue,
    claim: Claim,
    events: Sequence[tuple[Kind, Mapping[str, Any]]],
    *,
    processor_s: float,
    **counts: int,
) -> bool:
    """Write what happened in a running sweep; `counts` are `planned` and `recorded`, once they are known.

    False if it is not this claim's any more: then nothing is written.
    """
    with queue.writing() as connection:
        grown = connection.execute(select(SUBMISSIONS.c.recorded).where(_is(claim))).scalar()
        if grown is None:
            return False
        new = {"tries": 0, "deaths": 0} if counts.get("recorded", 0) > grown else {}
        if counts or processor_s:
            put(connection, claim.id, **counts, **new, processor_s=SUBMISSIONS.c.processor_s + processor_s)
        if events:
            add_events(connection, claim.id, events)
        return True


def settle(queue: Queue, claim: Claim, ending: Ending) -> State | None:
    """Write how an attempt ended, with who is to be told: the state now. None if it was not this claim's any more."""
    now = time.time()
    with queue.writing() as connection:
        row = connection.execute(select(SUBMISSIONS).where(_is(claim))).one_or_none()
        if row is None:
            return None
        free: dict[str, Any] = {"runner": None, "wanted": ""}
        if ending.waits and row.wanted in {"", "yield"}:
            wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0**row.tries)
            put_state(connection, claim.id, "waiting", ending.reason, tries=row.tries + 1, due_at=now + wait_s, **free)
            return "waiting"
        if ending.interrupted or ending.waits:
            _give_back(connection, _is(claim))
            return _state(connection, claim.id)
        verdicts = json.dumps(dict(ending.verdicts))
        told = {"exit_code": ending.exit_code, "link": ending.link or row.link, "verdicts": verdicts, "ended_at": now}
        later = {"behind": int(ending.is_behind), "due_at": now + _FIRST_WAIT_S, "tries": 0}
        put_state(connection, claim.id, ending.state, ending.reason, **told, **later, **free)
        for channel, content in ending.notices.items():
            notice = {"submission": claim.id, "channel": channel, "content": json.dumps(content), "due_at": now}
            connection.execute(insert(NOTICES).values(notice))
        return ending.state


def settle_behind(queue: Queue, claim: Claim, *, in_step: bool) -> None:
    """Write whether MLflow has all of a sweep now. If not, it is not asked for a while, which grows."""
    with queue.writing() as connection:
        row = connection.execute(select(SUBMISSIONS).where(_is(claim))).one_or_none()
        if row is None:
            return
        code = 0 if in_step and row.exit_code == tables.NOT_IN_STEP else row.exit_code
        put(connection, claim.id, runner=None, behind=int(not in_step), exit_code=code, tries=row.tries + 1)
        if not in_step:
            due = time.time() + min(_LONGEST_SYNC_S, _FIRST_WAIT_S * 2.0 ** (row.tries + 2))
            others = and_(SUBMISSIONS.c.behind == 1, SUBMISSIONS.c.due_at < due)
            connection.execute(update(SUBMISSIONS).where(others).values(due_at=due))


def died(queue: Queue, claim: Claim, how: str) -> State | None:
    """A sweep's process ended without a word: it waits again, or is given up after `MOST_DEATHS`."""
    with queue.writing() as connection:
        row = connection.execute(select(SUBMISSIONS).where(_is(claim))).one_or_none()
        if row is None:
            return None
        deaths, reason = row.deaths + 1, f"its process ended ({how})"
        if row.state == "done":
            put(connection, claim.id, runner=None, due_at=time.time() + _LONGEST_WAIT_S)
        elif deaths >= MOST_DEATHS and not row.wanted:
            why = f"{reason} {counted(deaths, 'time')} without a new result: look at the runner's log and its memory"
            over = {"exit_code": 1, "ended_at": time.time(), "runner": None, "deaths": deaths}
            put_state(connection, claim.id, "failed", why, **over)
        else:
            _give_back(connection, _is(claim), reason)
            put(connection, claim.id, deaths=deaths, due_at=time.time() + _FIRST_WAIT_S)
        return _state(connection, claim.id)


def _is(claim: Claim) -> Any:
    same = and_(SUBMISSIONS.c.id == claim.id, SUBMISSIONS.c.runner == claim.runner)
    return and_(same, SUBMISSIONS.c.attempt == claim.attempt)


_RUNS = and_(SUBMISSIONS.c.state == "running", _HAS_RUNNER)


def _state(connection: Connection, id_: str) -> State:
    found: State = connection.execute(select(SUBMISSIONS.c.state).where(SUBMISSIONS.c.id == id_)).scalar_one()
    return found


def _waiting(connection: Connection, since: float) -> list[Candidate]:
    columns = (SUBMISSIONS.c.id, SUBMISSIONS.c.owner, SUBMISSIONS.c.priority, SUBMISSIONS.c.number)
    long_enough = and_(_WAITS, SUBMISSIONS.c.due_at <= since, SUBMISSIONS.c.submitted_at <= since)
    return [Candidate(*row) for row in connection.execute(select(*columns).where(long_enough))]


def _used_s(connection: Connection, last_s: float) -> dict[str, float]:
    """How long each user trained lately: all of the sweeps that had not ended before."""
    since = time.time() - last_s
    recent = or_(SUBMISSIONS.c.ended_at.is_(None), SUBMISSIONS.c.ended_at > since)
    query = select(SUBMISSIONS.c.owner, func.sum(SUBMISSIONS.c.processor_s)).where(recent)
    return {owner: float(seconds) for owner, seconds in connection.execute(query.group_by(SUBMISSIONS.c.owner))}


def _held(connection: Connection, owners: set[str], running: Mapping[str, int], limits: Limits) -> dict[str, str]:
    """The users whose limits let nothing more start, and why."""
    found: dict[str, str] = {}
    used_s = _used_s(connection, limits.days * 86_400) if owners else {}
    for owner in owners:
        own, hours = limits.of(owner), used_s.get(owner, 0.0) / 3600
        if own.sweeps is not None and running.get(owner, 0) >= own.sweeps:
            found[owner] = f"{owner} may run {counted(own.sweeps, 'sweep')} at once"
        elif own.processor_hours is not None and hours >= own.processor_hours:
            allowed = f"{own.processor_hours:g} processor hours in {limits.days:g} days"
            found[owner] = f"{owner} has used {hours:.1f} of {allowed}: wait, or ask an operator"
    return found


def _give_back(connection: Connection, condition: Any, reason: str = "") -> int:
    """What becomes of submissions that nobody runs any more: what somebody asked for, else they wait again."""
    rows = connection.execute(select(SUBMISSIONS).where(condition)).all()
    for row in rows:
        put(connection, row.id, runner=None, wanted="")
        if row.state != "running":
            continue
        if row.wanted == "cancel":
            put_state(connection, row.id, "cancelled", row.reason or "cancelled", ended_at=time.time())
        elif row.wanted == "pause":
            put_state(connection, row.id, "paused", row.reason or "paused")
        else:
            put_state(connection, row.id, "waiting", reason, due_at=0)
    return len(rows)
