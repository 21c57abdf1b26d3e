"""The queue as JSON lines for a backup, and back: its sweeps, what happened to them, the audit. Knows no records."""

import json
from typing import Any

from sqlalchemy import Table, insert, select, update

from mnist_ablate.errors import SweepError
from mnist_ablate.service.queue import Queue
from mnist_ablate.service.submissions import AUDIT, COUNTER, EVENTS, SUBMISSIONS, has_tables

_TABLES = (SUBMISSIONS, EVENTS, AUDIT)
_ELSEWHERE: dict[str, Any] = {"runner": None, "wanted": "", "due_at": 0.0, "tries": 0, "deaths": 0}
"""What is of the place where the queue was."""


def dump(url: str) -> tuple[bytes, int]:
    """The queue beside the ledger at `url`, and how many sweeps it has; nothing if there is no queue."""
    if not has_tables(url):
        return b"", 0
    queue = Queue(url)
    lines: list[dict[str, Any]] = []
    with queue.reading() as connection:
        for table in _TABLES:
            rows = connection.execute(select(table).order_by(table.c.number)).mappings()
            lines += [{"table": table.name, **row} for row in rows]
    queue.close()
    count = sum(line["table"] == SUBMISSIONS.name for line in lines)
    return "".join(f"{json.dumps(line)}\n" for line in lines).encode(), count


def load(url: str, content: bytes) -> tuple[int, int]:
    """Add the sweeps that a queue lacks, with their events and audit: how many there are, and how many were added.

    What ran waits again. Doing it twice adds nothing. Raises SweepError if the content is not ours.
    """
    try:
        lines = [json.loads(line) for line in content.splitlines()]
        own = {table.name: [_row(table, line) for line in lines if line["table"] == table.name] for table in _TABLES}
    except (ValueError, KeyError, TypeError) as error:
        raise SweepError(f"the queue in the backup cannot be read ({type(error).__name__}): use another copy") from None
    queue = Queue(url)
    with queue.writing() as connection:
        known = {*connection.execute(select(SUBMISSIONS.c.id)).scalars()}
        added = {row["id"] for row in own[SUBMISSIONS.name]} - known
        for row in own[SUBMISSIONS.name]:
            state = "waiting" if row["state"] == "running" else row["state"]
            if row["id"] in added:
                connection.execute(insert(SUBMISSIONS).values(**{**row, **_ELSEWHERE, "state": state}))
        number = int(connection.execute(select(COUNTER.c.last_event)).scalar_one())
        for row in own[EVENTS.name]:
            if row["submission"] in added:
                number += 1
                connection.execute(insert(EVENTS).values(number=number, **row))
        connection.execute(update(COUNTER).values(last_event=number))
        for row in own[AUDIT.name]:
            if row["submission"] in added:
                connection.execute(insert(AUDIT).values(**row))
    queue.close()
    return len(own[SUBMISSIONS.name]), len(added)


def _row(table: Table, line: dict[str, Any]) -> dict[str, Any]:
    """The columns of a line that are kept, but for those that are made anew."""
    names = {column.name for column in table.c} - {"number"} - _ELSEWHERE.keys()
    return {name: line[name] for name in names & line.keys()}
