"""What a process needs beside others: signals, a lock on a file, a whole file or none, a call with a deadline."""

import ctypes
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Self, TypeVar

_CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SIGNALLED = 128
_WATCH_S = 0.5
T = TypeVar("T")


class Interrupted(BaseException):
    """Raised in the main thread, wherever it is. `exit_code` is what a shell expects: 128 + signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = _SIGNALLED + number


@contextmanager
def raising(*, once: bool = False) -> Iterator[None]:
    """While inside, each of the signals raises Interrupted. With `once` all signals after the first are ignored."""

    def raise_first(number: int, frame: FrameType | None) -> None:
        for each in _CAUGHT:
            signal.signal(each, signal.SIG_IGN)
        _raise(number, frame)

    with _handling(raise_first if once else _raise):
        yield


class Interrupts(ExitStack):
    """Catches the signals inside: `signal` is the first one, else 0. `on_first` is called at a first Ctrl-C.

    Only the main thread gets signals. In another thread the end of the main one counts as Ctrl-C, as `main_ended`.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        """Announce a first Ctrl-C, which ends a sweep in order. A second one, SIGTERM or SIGHUP end it at once."""
        super().__init__()
        self.signal = 0
        self.main_ended = False
        self.on_first: Callable[[], None] = lambda: None
        self._say = say

    @property
    def stopping(self) -> bool:
        """Whether a first Ctrl-C asked to start nothing more."""
        return self.signal != 0

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self.enter_context(_handling(self._catch))
        else:
            left = threading.Event()
            self.callback(left.set)
            threading.Thread(target=self._watch_main, args=(left,), name="watch-main", daemon=True).start()
        return self

    def _watch_main(self, left: threading.Event) -> None:
        while not left.is_set():
            threading.main_thread().join(_WATCH_S)
            if not threading.main_thread().is_alive():
                self.main_ended = True
                self._catch(signal.SIGINT, None)
                return

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGINT or self.signal:
            _raise(number, frame)
        self.signal = number
        self._say("stopping: running trials may finish (30 s at most); Ctrl-C again stops now")
        self.on_first()


@contextmanager
def sigint_blocked() -> Iterator[None]:
    """Threads and processes that are started inside never see Ctrl-C. A Ctrl-C that comes meanwhile is late here."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _raise(number: int, _frame: FrameType | None) -> None:
    raise Interrupted(number)


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle the signals inside. SIGHUP stays ignored if `nohup` ignores it."""

    def send_again(dropped: "sys.UnraisableHookArgs") -> None:
        if not isinstance(dropped.exc_value, Interrupted):
            hook(dropped)
            return
        again = threading.Timer(0.05, os.kill, (os.getpid(), dropped.exc_value.exit_code - _SIGNALLED))
        again.daemon = True
        again.start()

    numbers = [n for n in _CAUGHT if n != signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in numbers}
    hook = sys.unraisablehook
    sys.unraisablehook = send_again  # Python drops what is raised while an object is deleted
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, earlier in before.items():
            signal.signal(number, earlier)


def end_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends for any reason. Does nothing but on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG


@contextmanager
def locked_file(path: Path, wait_s: float) -> Iterator[IO[str]]:
    """Hold the lock (flock) on a file and give the file, open at its end; the folder is made.

    The kernel frees the lock when the process ends for any reason, so no lock is ever left over.
    Raises BlockingIOError with the content of the file if another process holds it for longer than `wait_s`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_s
    with path.open("a+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    file.seek(0)
                    raise BlockingIOError(file.read().strip()) from None
                time.sleep(0.1)
        yield file


def lock_holder(path: Path) -> str | None:
    """What is written in a file whose lock somebody holds; None if nobody does, or there is no file.

    Whoever takes the lock at this moment with a `wait_s` of some seconds gets it.
    """
    try:
        with path.open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip()
    except FileNotFoundError:
        pass
    return None


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to. The file takes its name when all of it is on the disk, or it goes."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def call_within(seconds: float, call: Callable[[], T]) -> T:
    """Run a call in a thread, and return or raise what it does. Raises TimeoutError if it takes longer: it goes on."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is asked for
            answer.set_exception(error)

    threading.Thread(target=run, name="call-within", daemon=True).start()
    return answer.result(seconds)
