"""What happens to sweeps as server-sent events: one look at the queue in half a second serves every stream."""

import asyncio
import contextlib
import itertools
import json
import logging
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

import anyio

from mnist_ablate.errors import AblateError
from mnist_ablate.service.queue import Queue
from mnist_ablate.service.submissions import OVER, Event

POLL_S = 0.5
HEARTBEAT_S = 15.0
MOST_STREAMS, MOST_OF_ONE = 2000, 300
ASK_AGAIN_S = 60.0
"""How often a stream asks whether its reader still has an account."""
_MOST_WAITING = 500
_LOG = logging.getLogger(__name__)


class _Reader:
    """Somebody who reads a stream. One that `is_behind` reads what it lacks from the database."""

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.is_behind = True
        self._waiting: list[Event] = []

    def give(self, event: Event) -> None:
        """Keep an event for it; what is too much for the memory stays in the database."""
        if len(self._waiting) >= _MOST_WAITING:
            self._waiting.clear()
            self.is_behind = True
        self._waiting.append(event)
        self.news.set()

    def take(self) -> list[Event]:
        """What was given since."""
        taken, self._waiting = self._waiting, []
        self.news.clear()
        return taken


class EventFeed:
    """Gives the events of the queue to all streams of this process. `run` looks for them until it is closed."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._readers: defaultdict[str, set[_Reader]] = defaultdict(set)
        self._senders = Counter[str]()
        self._closing = asyncio.Event()

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return self._senders.total()

    def is_full(self, sender: str) -> bool:
        """Whether one more stream of this sender is too many."""
        return self.streams >= MOST_STREAMS or self._senders[sender] >= MOST_OF_ONE

    def close(self) -> None:
        """End all streams, so that the server can end."""
        self._closing.set()
        for reader in itertools.chain.from_iterable(self._readers.values()):
            reader.news.set()

    async def run(self) -> None:
        """Look for new events again and again. While the database is away nothing comes, and nothing is lost."""
        last, is_away = -1, False
        while not self._closing.is_set():
            try:
                if last < 0:
                    last = await anyio.to_thread.run_sync(self._queue.last_event)
                while events := await anyio.to_thread.run_sync(self._queue.events_since, last):
                    last = events[-1].number
                    for event in events:
                        for reader in self._readers.get(event.submission, ()):
                            reader.give(event)
                is_away = False
            except AblateError as error:
                if not is_away:
                    _LOG.warning("events wait: %s", error)
                is_away = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), POLL_S)

    @contextlib.contextmanager
    def _reading(self, id_: str, sender: str) -> Iterator[_Reader]:
        reader = _Reader()
        self._readers[id_].add(reader)
        self._senders[sender] += 1
        try:
            yield reader
        finally:
            self._readers[id_].discard(reader)
            if not self._readers[id_]:
                del self._readers[id_]
            self._senders[sender] -= 1
            self._senders += Counter()  # forgets who has none

    async def stream(
        self, id_: str, after: int, sender: str, is_still_allowed: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[bytes]:
        """The events of a submission after that number as text, until it has ended or its reader may not read on."""
        now = asyncio.get_running_loop().time
        with self._reading(id_, sender) as reader:
            asked_at = now()
            yield b"retry: 2000\n\n"
            while not self._closing.is_set():
                events = [event for event in await self._next(id_, after, reader) if event.number > after]
                for event in events:
                    after = event.number
                    yield as_text(event)
                states = [event for event in events if event.kind == "state"]
                if states and states[-1].data.get("state") in OVER:  # nothing comes, unless it is submitted again
                    return
                if not events:
                    yield b": still here\n\n"
                if now() - asked_at >= ASK_AGAIN_S:
                    asked_at = now()
                    if not await is_still_allowed():
                        return

    async def _next(self, id_: str, after: int, reader: _Reader) -> Sequence[Event]:
        """What came, or comes before the next sign of life; for a reader that is behind, what the database has."""
        if reader.is_behind:
            reader.is_behind = False
            reader.take()
            try:
                return await anyio.to_thread.run_sync(lambda: self._queue.events(id_, after=after))
            except AblateError:
                reader.is_behind = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reader.news.wait(), HEARTBEAT_S)
        return [] if reader.is_behind else reader.take()


def as_text(event: Event) -> bytes:
    """One event as the stream has it."""
    content = {"number": event.number, "at": event.at.isoformat(), "kind": event.kind, "data": event.data}
    return f"id: {event.number}\nevent: {event.kind}\ndata: {json.dumps(content)}\n\n".encode()
