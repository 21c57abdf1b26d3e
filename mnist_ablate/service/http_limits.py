"""How much of the service one sender may use: requests in a second, bytes of a body. Knows no sweep."""

import time
from collections import OrderedDict
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from mnist_ablate.sweep.yaml_reader import MAX_BYTES

BODY_BYTES = 1_000_000
_MOST_SENDERS = 10_000


@dataclass(frozen=True)
class Rate:
    """So many requests at once, and so many more in a second."""

    burst: float
    per_s: float


@dataclass(frozen=True)
class Rates:
    """How often one account may look and change something, and how often one address may fail to say who it is."""

    looks: Rate = Rate(300, 50)
    changes: Rate = Rate(60, 5)
    failures: Rate = Rate(10, 1 / 6)


class Allowance:
    """What is left to each sender of a rate: a bucket that fills up again."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._left = OrderedDict[str, tuple[float, float]]()

    def wait_s(self, sender: str, cost: float = 1.0) -> float:
        """Take one request from what is left, and return 0; or the seconds until there is one."""
        now = time.monotonic()
        left, then = self._left.pop(sender, (self._rate.burst, now))
        left = min(self._rate.burst, left + (now - then) * self._rate.per_s)
        enough = left >= 1.0
        self._left[sender] = (left - cost if enough else left, now)
        while len(self._left) > _MOST_SENDERS:
            self._left.popitem(last=False)
        return 0.0 if enough else (1.0 - left) / self._rate.per_s


class BodyTooLargeError(HTTPException):
    """More bytes came than a body may have."""

    def __init__(self, most: int) -> None:
        super().__init__(
            413, f"more than {most:,} bytes: a sweep file has at most {MAX_BYTES:,}", {"Connection": "close"}
        )


def limited(receive: Receive, most: int) -> Receive:
    """The same messages until they have had `most` bytes; then BodyTooLargeError."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise BodyTooLargeError(most)
        return message

    return counted


async def whole_body(receive: Receive) -> tuple[bytes, Receive]:
    """All of a body, and messages that bring it once more."""
    parts: list[bytes] = []
    message = await receive()
    while message["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
        message = await receive()
    body, waiting = b"".join(parts), True

    async def again() -> Message:
        nonlocal waiting
        if waiting:
            waiting = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return body, again
