"""Ctrl-C once ends a sweep in order, twice at once; SIGTERM and SIGHUP at once. Signals only, no clean-up."""

import signal
from collections.abc import Callable
from types import FrameType


class Interrupted(BaseException):
    """Raised where the main thread happens to be; `exit_code` is what a shell expects: 128 + signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class Interrupts:
    """A context manager that catches the signals; `signal` is the first one caught, 0 if none."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.signal = 0
        self.on_first: Callable[[], None] = lambda: None
        self._tell = tell
        self._before: dict[int, object] = {}

    @property
    def stopping(self) -> bool:
        """Whether a first Ctrl-C asked to start nothing more."""
        return self.signal != 0

    def __enter__(self) -> "Interrupts":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._caught)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal itself returned

    def _caught(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGINT or self.signal:
            raise Interrupted(number)
        self.signal = number
        self._tell("stopping: running trials may finish (30 s at most); Ctrl-C again stops now")
        self.on_first()
