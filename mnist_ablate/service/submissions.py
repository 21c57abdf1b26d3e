"""The queue's tables beside the ledger, and their rows as values: submissions, events, runners. Decides nothing."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import sqlalchemy
from sqlalchemy import Column, Float, Index, Integer, MetaData, String, Table, Text, insert, select

from mnist_ablate.errors import ConflictError
from mnist_ablate.ledger.database import connect_args, hold, sqlite_file, translate_errors

State = Literal["waiting", "running", "paused", "done", "failed", "cancelled"]
Kind = Literal["state", "message", "verdict", "snapshot"]
Wanted = Literal["", "cancel", "pause", "yield"]
STATES: tuple[State, ...] = get_args(State)
OVER: tuple[State, ...] = ("done", "failed", "cancelled")
FAILED_TRIALS, NOT_IN_STEP = 1, 7
"""Exit codes of sweeps that are done: trials of a verdict failed, or MLflow lacks something."""
VERSION = 1
"""Of the tables. A later one adds columns; an earlier program refuses tables of a later one."""
_FILE = "queue.db"
_SCHEMA = ".queue-schema"
_BUSY_S, _FROZEN_S = 30.0, 10.0

_metadata = MetaData()
VERSIONS = Table("service_version", _metadata, Column("version", Integer, primary_key=True))
COUNTER = Table("service_counter", _metadata, Column("last_event", Integer, nullable=False))
SUBMISSIONS = Table(
    "service_submissions",
    _metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("name", String(255), nullable=False, index=True),
    Column("owner", String(255), nullable=False),
    Column("text", Text, nullable=False),
    Column("question", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("quick", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("wanted", String(16), nullable=False, default=""),
    Column("priority", Integer, nullable=False, default=0),
    Column("submitted_at", Float, nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("due_at", Float, nullable=False, default=0.0),
    Column("runner", String(255)),
    Column("attempt", Integer, nullable=False, default=0),
    Column("tries", Integer, nullable=False, default=0),
    Column("deaths", Integer, nullable=False, default=0),
    Column("behind", Integer, nullable=False, default=0),
    Column("exit_code", Integer),
    Column("reason", Text, nullable=False, default=""),
    Column("planned", Integer, nullable=False, default=0),
    Column("recorded", Integer, nullable=False, default=0),
    Column("processor_s", Float, nullable=False, default=0.0),
    Column("link", Text, nullable=False, default=""),
    Column("verdicts", Text, nullable=False, default="{}"),
    Index("service_submissions_state", "state", "number"),
    Index("service_submissions_owner", "owner", "number"),
    Index("service_submissions_runner", "runner"),
)
EVENTS = Table(
    "service_events",
    _metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("submission", String(32), nullable=False),
    Column("at", Float, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("data", Text, nullable=False),
    Index("service_events_submission", "submission", "number"),
    Index("service_events_kind", "submission", "kind"),
)
AUDIT = Table(
    "service_audit",
    _metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("who", String(255), nullable=False),
    Column("what", Text, nullable=False),
    Column("submission", String(32), nullable=False),
    Column("where", String(255), nullable=False),
)
RUNNERS = Table(
    "service_runners",
    _metadata,
    Column("name", String(255), primary_key=True),
    Column("started_at", Float, nullable=False),
    Column("sweeps", Integer, nullable=False),
    Column("cluster", Text, nullable=False),
)
NOTICES = Table(
    "service_notices",
    _metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("submission", String(32), nullable=False),
    Column("channel", String(16), nullable=False),
    Column("content", Text, nullable=False),
    Column("tries", Integer, nullable=False, default=0),
    Column("due_at", Float, nullable=False, index=True),
)
TABLES = _metadata.sorted_tables


@dataclass(frozen=True)
class Submission:
    """A sweep in the queue. `number` counts submissions, and grows; `id` follows from the sweep's name and digest.

    `text` is the sweep file; empty in lists. `wanted` is what somebody asked of it while it runs: cancel, pause.
    `planned` and `recorded` count trials, `processor_s` seconds of training. `exit_code` is what `sweep` would have
    ended with, once it has ended. `reason` says why it waits, failed or was stopped. `verdicts` are by claim.
    `is_behind` says that MLflow still lacks something of it.
    """

    number: int
    id: str
    name: str
    owner: str
    text: str
    question: str
    digest: str
    quick: bool
    state: State
    wanted: Wanted
    priority: int
    submitted_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    runner: str | None
    attempt: int
    exit_code: int | None
    reason: str
    planned: int
    recorded: int
    processor_s: float
    link: str
    verdicts: Mapping[str, str]
    is_behind: bool = False

    @property
    def is_over(self) -> bool:
        """Whether it has ended: done, failed or cancelled."""
        return self.state in OVER


@dataclass(frozen=True)
class Event:
    """Something that happened to a submission. Numbers grow over all submissions, in the order in which they are seen.

    `data` of a `state` has state and reason, of a `message` text, of a `verdict` name, verdict and text; of a
    `snapshot` it is an `execution.live_progress.Snapshot`. Only the latest snapshot is kept.
    """

    number: int
    submission: str
    at: datetime
    kind: Kind
    data: Mapping[str, Any]


@dataclass(frozen=True)
class AuditEntry:
    """Who asked for what, and from where."""

    number: int
    at: datetime
    who: str
    what: str
    submission: str
    where: str


@dataclass(frozen=True)
class RunnerEntry:
    """A runner that lives: how many sweeps it takes at once, and the scheduler that it uses; empty for its own."""

    name: str
    started_at: datetime
    sweeps: int
    cluster: str


def submission_id(name: str, digest: str) -> str:
    """The same question has the same id."""
    return hashlib.sha256(f"{name} {digest}".encode()).hexdigest()[:16]


def moment(seconds: float) -> datetime:
    """A time of the tables, which have seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)


_OF_RUNNERS = {"due_at", "tries", "deaths"}
SUMMARY = [column for column in SUBMISSIONS.c if column.name not in {"text", *_OF_RUNNERS}]


def submission(row: Any) -> Submission:
    """A row of SUMMARY, or of the whole table."""
    found = {name: value for name, value in row._mapping.items() if name not in _OF_RUNNERS}  # noqa: SLF001 - its public name
    times = ("submitted_at", "started_at", "ended_at")
    found |= {name: moment(found[name]) for name in times if found[name] is not None}
    found["is_behind"], found["quick"] = bool(found.pop("behind")), bool(found["quick"])
    return Submission(**{"text": "", **found, "verdicts": json.loads(found["verdicts"])})


def event(row: Any) -> Event:
    """A row of EVENTS."""
    return Event(row.number, row.submission, moment(row.at), row.kind, json.loads(row.data))


def queue_url(ledger_url: str) -> str:
    """The database of the queue: that of the ledger, or a file of its own beside one of SQLite."""
    path = sqlite_file(ledger_url)
    if path is None:
        return ledger_url
    return sqlalchemy.URL.create("sqlite", database=str(path.with_name(_FILE))).render_as_string(hide_password=False)


def has_tables(ledger_url: str) -> bool:
    """Whether there is a queue beside a ledger; makes nothing."""
    url = queue_url(ledger_url)
    path = sqlite_file(url)
    if path and not path.exists():
        return False
    engine = sqlalchemy.create_engine(url, connect_args=connect_args(url), poolclass=sqlalchemy.NullPool)
    with translate_errors(url):
        return sqlalchemy.inspect(engine).has_table(SUBMISSIONS.name)


def open_tables(ledger_url: str, *, connections: int, create: bool = True) -> sqlalchemy.Engine:
    """The database with its tables; with `create` those that are missing are made, and their version is checked.

    Raises ConflictError if a later version wrote the tables; DiskError or UnreachableError as the ledger.
    """
    url = queue_url(ledger_url)
    path = sqlite_file(url)
    options: dict[str, Any] = {"connect_args": connect_args(url), "pool_pre_ping": True}
    options |= {"pool_size": connections, "max_overflow": connections}
    engine = sqlalchemy.create_engine(url, **options)
    (_use_sqlite_whole if path else _use_postgres)(engine)
    if not create:
        return engine
    with hold(ledger_url, _SCHEMA, wait_s=60.0), translate_errors(url), engine.begin() as connection:
        _metadata.create_all(connection)
        found = connection.scalar(select(VERSIONS.c.version))
        if found is None:
            connection.execute(insert(VERSIONS).values(version=VERSION))
            connection.execute(insert(COUNTER).values(last_event=0))
        elif found > VERSION:
            raise ConflictError(f"the queue has tables of version {found}, not {VERSION}: use a later mnist-ablate")
    return engine


def _use_sqlite_whole(engine: sqlalchemy.Engine) -> None:
    """Readers do not wait for the writer; a transaction that is begun writes, and waits for others at its begin."""

    @sqlalchemy.event.listens_for(engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # Python would begin transactions of its own
        for pragma in (f"busy_timeout = {_BUSY_S * 1000:.0f}", "journal_mode = WAL", "synchronous = NORMAL"):
            connection.execute(f"PRAGMA {pragma}")

    @sqlalchemy.event.listens_for(engine, "begin")
    def begun(connection: sqlalchemy.Connection) -> None:
        reads = connection.get_execution_options().get("reads", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _use_postgres(engine: sqlalchemy.Engine) -> None:
    """A process that is frozen in a transaction loses it, before all others wait for it."""

    @sqlalchemy.event.listens_for(engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET idle_in_transaction_session_timeout = '{_FROZEN_S:.0f}s'")
        connection.commit()
