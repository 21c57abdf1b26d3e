"""The queue as people see it: submit, look, cancel, pause, resume, give priority; runs nothing."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, select, update

from mnist_ablate.errors import ConflictError, SweepError, mask
from mnist_ablate.ledger.database import holder, sqlite_file, translate_errors
from mnist_ablate.ledger.ledger import Ledger
from mnist_ablate.service import submissions as tables
from mnist_ablate.service.limits import Limits
from mnist_ablate.service.submissions import (
    AUDIT,
    COUNTER,
    EVENTS,
    FAILED_TRIALS,
    RUNNERS,
    STATES,
    SUBMISSIONS,
    SUMMARY,
    AuditEntry,
    Event,
    Kind,
    RunnerEntry,
    State,
    Submission,
    moment,
    submission_id,
)
from mnist_ablate.sweep.sweep import QUICK, Sweep
from mnist_ablate.sweep.sweep_file import as_yaml
from mnist_ablate.text import counted

PRIORITIES = range(-10, 11)
EVENTS_KEPT = 2000
"""How many events are kept of a submission, and the latest snapshot."""
_TRIM_EVERY = 100


_IS_OPEN = SUBMISSIONS.c.state.in_(("waiting", "running", "paused"))
_FRESH: dict[str, Any] = {"due_at": 0, "tries": 0, "deaths": 0, "behind": 0, "wanted": "", "exit_code": None}
_FRESH |= {"started_at": None, "ended_at": None}
_NO_LIMITS = Limits()


class Queue:
    """The submissions in the database of the ledger at `url`. Safe to use from several threads and processes.

    All methods raise UnreachableError if the database does not answer, DiskError if it cannot be written.
    """

    def __init__(self, url: str, *, connections: int = 5, create: bool = True) -> None:
        """`create` makes what is missing, and checks the version: once is enough for a process and its children."""
        self.url = url
        self._engine = tables.open_tables(url, connections=connections, create=create)
        self._ledger = Ledger(url)
        if sqlite_file(url):
            self._reads = self._engine.execution_options(reads=True)
        else:
            self._reads = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    def close(self) -> None:
        """Close its connections."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to look with."""
        with translate_errors(self.url), self._reads.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction: all of it or nothing. No other one writes meanwhile, so what it reads stays true."""
        with translate_errors(self.url), self._engine.begin() as connection:
            connection.execute(select(COUNTER.c.last_event).with_for_update())
            yield connection

    def ping(self) -> None:
        """Raises UnreachableError if the database does not answer."""
        with self.reading() as connection:
            connection.execute(select(COUNTER.c.last_event))

    def submit(  # noqa: PLR0913 - what is known of it, and what its owner may have
        self,
        sweep: Sweep,
        *,
        owner: str,
        priority: int = 0,
        planned: int = 0,
        where: str = "",
        limits: Limits = _NO_LIMITS,
    ) -> tuple[Submission, bool]:
        """Register a sweep, and say whether it is new. One that is known stays as it is, unless it ended badly.

        One that failed, has failed trials or was cancelled waits again, for who submitted it now; one that is done,
        too, if it runs the user's code, which may have changed. Raises ConflictError if the queue or the ledger has
        another question of this name, or if the limits of the owner allow no more trials.
        """
        _check_priority(priority)
        self._ledger.check_question(sweep)
        id_ = submission_id(sweep.name, sweep.digest)
        with self.writing() as connection:
            found = connection.execute(select(SUBMISSIONS).where(SUBMISSIONS.c.id == id_)).one_or_none()
            if found is not None and not _runs_again(found, sweep):
                return tables.submission(found), False
            others = and_(SUBMISSIONS.c.name == sweep.name, SUBMISSIONS.c.id != id_, _IS_OPEN)
            if other := connection.execute(select(SUBMISSIONS.c.owner, SUBMISSIONS.c.state).where(others)).first():
                theirs = f"another sweep of this name, by {other.owner}, is {other.state}"
                raise ConflictError(f"{sweep.name}: {theirs}: rename yours")
            _check_trials(connection, owner, planned or (found.planned if found else 0), limits)
            known = {**_FRESH, "owner": owner, "priority": priority, "submitted_at": time.time()}
            if found is None:
                about = {"name": sweep.name, "digest": sweep.digest, "question": sweep.question, "planned": planned}
                text = {"text": as_yaml(sweep), "quick": int(sweep.name.endswith(QUICK))}
                connection.execute(insert(SUBMISSIONS).values(id=id_, state="waiting", **known, **about, **text))
            else:
                put(connection, id_, **known)
            add_audit(connection, owner, "submit" if found is None else "submit again", id_, where)
            put_state(connection, id_, "waiting")
            return row_of(connection, id_), found is None

    def get(self, id_: str) -> Submission | None:
        """One submission with its text; None if there is none."""
        with self.reading() as connection:
            row = connection.execute(select(SUBMISSIONS).where(SUBMISSIONS.c.id == id_)).one_or_none()
        return None if row is None else tables.submission(row)

    def list(
        self, *, state: State | None = None, owner: str | None = None, limit: int = 50, before: int | None = None
    ) -> Sequence[Submission]:
        """The latest submissions, those with a number below `before`, without their texts."""
        query = select(*SUMMARY).order_by(SUBMISSIONS.c.number.desc()).limit(limit)
        for column, value in ((SUBMISSIONS.c.state, state), (SUBMISSIONS.c.owner, owner)):
            query = query if value is None else query.where(column == value)
        if before is not None:
            query = query.where(SUBMISSIONS.c.number < before)
        with self.reading() as connection:
            return [tables.submission(row) for row in connection.execute(query)]

    def cancel(self, id_: str, *, by: str, where: str = "") -> Submission:
        """End a submission. One that runs ends within seconds; what is recorded of it stays."""
        with self._changing(id_, "cancel", by, where) as (connection, row):
            if row.state in tables.OVER:
                raise ConflictError(f"{row.name}: is {row.state} already: nothing to cancel")
            if row.state == "running":
                put(connection, id_, wanted="cancel", reason=f"cancelled by {by}")
            else:
                put_state(connection, id_, "cancelled", f"cancelled by {by}", ended_at=time.time())
        return self._found(id_)

    def pause(self, id_: str, *, by: str, where: str = "") -> Submission:
        """Hold a submission back until `resume`. Of one that runs, trials may finish for 30 s."""
        with self._changing(id_, "pause", by, where) as (connection, row):
            if row.state not in {"waiting", "running"} or row.wanted == "cancel":
                state = "being cancelled" if row.wanted == "cancel" else row.state
                raise ConflictError(f"{row.name}: is {state}: only what waits or runs can be paused")
            if row.state == "running":
                put(connection, id_, wanted="pause", reason=f"paused by {by}")
            else:
                put_state(connection, id_, "paused", f"paused by {by}")
        return self._found(id_)

    def resume(self, id_: str, *, by: str, where: str = "") -> Submission:
        """Let a paused submission go on."""
        with self._changing(id_, "resume", by, where) as (connection, row):
            if row.state == "running" and row.wanted == "pause":
                put(connection, id_, wanted="yield", reason="")
            elif row.state == "paused":
                put_state(connection, id_, "waiting", due_at=0)
            else:
                advice = "submit it again" if row.state in {"cancelled", "failed"} else "only what is paused is resumed"
                raise ConflictError(f"{row.name}: is {row.state}: {advice}")
        return self._found(id_)

    def set_priority(self, id_: str, priority: int, *, by: str, where: str = "") -> Submission:
        """What its owner wants first: among the sweeps of one user, the higher goes first and gets more workers."""
        _check_priority(priority)
        with self._changing(id_, f"priority {priority}", by, where) as (connection, row):
            if row.state in tables.OVER:
                raise ConflictError(f"{row.name}: is {row.state} already: its priority means nothing now")
            put(connection, id_, priority=priority)
        return self._found(id_)

    @contextmanager
    def _changing(self, id_: str, what: str, by: str, where: str) -> Iterator[tuple[Connection, Any]]:
        """A transaction that changes a submission, with its row; it is noted who asked for what."""
        with self.writing() as connection:
            row = connection.execute(select(SUBMISSIONS).where(SUBMISSIONS.c.id == id_)).one_or_none()
            if row is None:
                raise SweepError(f"{mask(id_)[:40]}: no such submission: list them to see their ids")
            yield connection, row
            add_audit(connection, by, what, id_, where)

    def _found(self, id_: str) -> Submission:
        with self.reading() as connection:
            return row_of(connection, id_)

    def note(self, who: str, what: str, *, submission: str = "", where: str = "") -> None:
        """Write who did what into the audit record."""
        with self.writing() as connection:
            add_audit(connection, who, what, submission, where)

    def audit(self, *, limit: int = 100, before: int | None = None) -> Sequence[AuditEntry]:
        """Who asked for what, the latest first."""
        query = select(AUDIT).order_by(AUDIT.c.number.desc()).limit(limit)
        query = query if before is None else query.where(AUDIT.c.number < before)
        with self.reading() as connection:
            found = [dict(row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - SQLAlchemy's public name
        return [AuditEntry(**{**row, "at": moment(row["at"])}) for row in found]

    def events(self, id_: str, *, after: int = 0, limit: int = 5000) -> Sequence[Event]:
        """What happened to a submission after the event of that number, in order."""
        return self._events(and_(EVENTS.c.submission == id_, EVENTS.c.number > after), limit)

    def events_since(self, number: int, *, limit: int = 1000) -> Sequence[Event]:
        """The same of all submissions. Events are seen in the order of their numbers: none comes in between later."""
        return self._events(EVENTS.c.number > number, limit)

    def _events(self, condition: Any, limit: int) -> Sequence[Event]:
        query = select(EVENTS).where(condition).order_by(EVENTS.c.number).limit(limit)
        with self.reading() as connection:
            return [tables.event(row) for row in connection.execute(query)]

    def snapshots(self, ids: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        """The latest snapshots of these submissions, by id; of one that has not begun there is none."""
        query = select(EVENTS).where(EVENTS.c.submission.in_(ids), EVENTS.c.kind == "snapshot")
        with self.reading() as connection:
            return {row.submission: json.loads(row.data) for row in connection.execute(query)}

    def last_event(self) -> int:
        """The number of the latest event of all submissions."""
        with self.reading() as connection:
            return int(connection.execute(select(COUNTER.c.last_event)).scalar_one())

    def counts(self) -> Mapping[State, int]:
        """How many submissions there are in each state."""
        query = select(SUBMISSIONS.c.state, func.count()).group_by(SUBMISSIONS.c.state)
        with self.reading() as connection:
            found: dict[str, int] = {state: count for state, count in connection.execute(query)}  # noqa: C416 - mypy
        return {state: found.get(state, 0) for state in STATES}

    def behind(self) -> int:
        """How many ended sweeps MLflow does not have whole yet."""
        query = select(func.count()).where(SUBMISSIONS.c.behind == 1)
        with self.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def runners(self) -> Sequence[RunnerEntry]:
        """The runners that live: each holds a lock that ends with it."""
        with self.reading() as connection:
            rows = connection.execute(select(RUNNERS).order_by(RUNNERS.c.name)).all()
        alive = [row for row in rows if holder(self.url, runner_lock(row.name)) is not None]
        return [RunnerEntry(row.name, moment(row.started_at), row.sweeps, row.cluster) for row in alive]


def runner_lock(name: str) -> str:
    """The lock that a runner of this name holds for as long as it lives."""
    return f".runner-{name}"


def put(connection: Connection, id_: str, **values: Any) -> None:
    """Change columns of a submission."""
    connection.execute(update(SUBMISSIONS).where(SUBMISSIONS.c.id == id_).values(**values))


def row_of(connection: Connection, id_: str) -> Submission:
    """A submission that there is."""
    return tables.submission(connection.execute(select(SUBMISSIONS).where(SUBMISSIONS.c.id == id_)).one())


def put_state(connection: Connection, id_: str, state: State, reason: str = "", **values: Any) -> None:
    """Change the state of a submission, and tell whoever watches."""
    reason = reason.encode(errors="replace").decode().replace("\0", "?")  # what a database can store
    put(connection, id_, state=state, reason=reason, **values)
    add_events(connection, id_, [("state", {"state": state, "reason": reason})])


def add_events(connection: Connection, id_: str, events: Sequence[tuple[Kind, Mapping[str, Any]]]) -> None:
    """Append events of a submission, in the transaction of what they tell; a snapshot takes the place of the last."""
    counted = update(COUNTER).values(last_event=COUNTER.c.last_event + len(events)).returning(COUNTER.c.last_event)
    first = int(connection.execute(counted).scalar_one()) - len(events) + 1
    about = {"submission": id_, "at": time.time()}
    rows = [
        {"number": n, **about, "kind": kind, "data": json.dumps(data)} for n, (kind, data) in enumerate(events, first)
    ]
    own = EVENTS.c.submission == id_
    if any(kind == "snapshot" for kind, _ in events):
        connection.execute(delete(EVENTS).where(own, EVENTS.c.kind == "snapshot"))
    connection.execute(insert(EVENTS), rows)
    if first // _TRIM_EVERY != (first + len(events)) // _TRIM_EVERY:
        lasting = own & (EVENTS.c.kind != "snapshot")
        last = select(EVENTS.c.number).where(lasting).order_by(EVENTS.c.number.desc()).offset(EVENTS_KEPT).limit(1)
        if (number := connection.execute(last).scalar()) is not None:
            connection.execute(delete(EVENTS).where(lasting, EVENTS.c.number <= number))


def add_audit(connection: Connection, who: str, what: str, id_: str, where: str) -> None:
    """Write who asked for what, in the transaction that does it."""
    row = {"at": time.time(), "who": who, "what": mask(what), "submission": id_, "where": where}
    connection.execute(insert(AUDIT).values(row))


def _runs_again(row: Any, sweep: Sweep) -> bool:
    """Whether a question that was submitted before is to be run again."""
    if row.state == "done":
        return row.exit_code == FAILED_TRIALS or bool(sweep.workload.runs_code)
    return row.state in {"failed", "cancelled"}


def _check_trials(connection: Connection, owner: str, planned: int, limits: Limits) -> None:
    """Raises ConflictError if the open sweeps of a user would have more trials than the user may have."""
    most = limits.of(owner).trials
    if most is None:
        return
    trials = func.coalesce(func.sum(SUBMISSIONS.c.planned), 0)
    asked = int(connection.execute(select(trials).where(_IS_OPEN, SUBMISSIONS.c.owner == owner)).scalar_one())
    if asked + planned > most:
        told = f"{counted(planned, 'trial')}, and the open sweeps of {owner} have {counted(asked, 'trial')} already"
        raise ConflictError(f"{told}: {counted(most, 'trial')} are allowed at a time: wait, or ask an operator")


def _check_priority(priority: int) -> None:
    if priority not in PRIORITIES:
        raise SweepError(f"priority {priority}: expected {PRIORITIES[0]} to {PRIORITIES[-1]}; 0 is usual")
