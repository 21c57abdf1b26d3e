"""Rides out a database that is down for a while: the same write again until it succeeds; writes nothing itself."""

import time
from collections.abc import Callable

from mnist_ablate.errors import UnreachableError

_RETRY_S = 0.5
_STOPPING_S = 10.0


class Outage:
    """Tells once that the database is down, and waits at most `limit_s`, or 10 s once `stopping` is true."""

    def __init__(self, tell: Callable[[str], None], limit_s: float, stopping: Callable[[], bool]) -> None:
        self._tell, self._limit_s, self._stopping = tell, limit_s, stopping

    def ride_out(self, write: Callable[[], None]) -> None:
        """Call `write`, which must be able to follow itself, until it succeeds.

        Raises the UnreachableError of the last attempt when the time is over.
        """
        began = time.monotonic()
        told = False
        while True:
            try:
                write()
            except UnreachableError as error:
                waited_s = time.monotonic() - began
                if waited_s > (min(self._limit_s, _STOPPING_S) if self._stopping() else self._limit_s):
                    raise UnreachableError(f"{error}; the same command goes on where it was") from error
                if not told:
                    self._tell("database not reachable, retrying")
                    told = True
                time.sleep(_RETRY_S)
            else:
                return
