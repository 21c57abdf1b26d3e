"""Ctrl-C once ends a sweep in order, twice at once; SIGTERM and SIGHUP at once. Signals only, no clean-up."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

_CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1
_AGAIN_S = 0.05
_SIGNALLED = 128
Handler = Callable[[int, FrameType | None], None]
Hook = Callable[["sys.UnraisableHookArgs"], object]


class Interrupted(BaseException):
    """Raised where the main thread happens to be; `exit_code` is what a shell expects: 128 + signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = _SIGNALLED + number


@contextmanager
def raising() -> Iterator[None]:
    """While inside, every one of the signals raises Interrupted."""
    with _handled(_raise):
        yield


class Interrupts:
    """A context manager that catches the signals; `signal` is the first one caught, 0 if none."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.signal = 0
        self.on_first: Callable[[], None] = lambda: None
        self._tell = tell
        self._handled = _handled(self._caught)

    @property
    def stopping(self) -> bool:
        """Whether a first Ctrl-C asked to start nothing more."""
        return self.signal != 0

    def __enter__(self) -> Self:
        self._handled.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._handled.__exit__(None, None, None)

    def _caught(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGINT or self.signal:
            _raise(number, frame)
        self.signal = number
        self._tell("stopping: running trials may finish (30 s at most); Ctrl-C again stops now")
        self.on_first()


@contextmanager
def masked() -> Iterator[None]:
    """Threads and processes started inside never see Ctrl-C, which a terminal sends to all; the caller does, after."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _raise(number: int, _frame: FrameType | None) -> None:
    raise Interrupted(number)


@contextmanager
def _handled(handler: Handler) -> Iterator[None]:
    """Handle the signals, but leave SIGHUP ignored where `nohup` made it so."""
    numbers = [n for n in _CAUGHT if n != signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in numbers}
    hook = sys.unraisablehook
    sys.unraisablehook = _sent_again(hook)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _sent_again(otherwise: Hook) -> Hook:
    """Python drops what is raised while an object is deleted: the signal comes again, when that is over."""

    def hook(lost: "sys.UnraisableHookArgs") -> None:
        if not isinstance(lost.exc_value, Interrupted):
            otherwise(lost)
            return
        again = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), lost.exc_value.exit_code - _SIGNALLED))
        again.daemon = True
        again.start()

    return hook


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, however that does; Linux only, elsewhere nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
