"""Keeps a Dask scheduler or workers running until a signal comes; knows no sweep and no trial."""

import asyncio
import logging
import re
import signal
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from multiprocessing import resource_tracker
from typing import Any

import dask
from dask.utils import parse_bytes
from distributed import Nanny, Scheduler, Status

from mnist_ablate.environment import TRAINING, override
from mnist_ablate.errors import SweepError, mask, one_line
from mnist_ablate.execution import dask_settings
from mnist_ablate.execution.dask_settings import Tls
from mnist_ablate.processes import sigint_blocked

_AGAIN_S, _CLOSE_S = 2.0, 3.0
_NO_DASHBOARD = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}  # an address of None would be all addresses


def check_address(address: str) -> None:
    """Raises SweepError unless it is a scheduler's: tcp://host:port or tls://host:port."""
    if not re.fullmatch(r"(tcp|tls)://.+:\d+", address):
        expected = "expected tcp://host:8786 or tls://host:8786"
        raise SweepError(f"{mask(address)} is not the address of a scheduler: {expected}")


def check_memory_size(memory: str) -> None:
    """Raises SweepError unless it is an amount of memory, or auto."""
    try:
        if memory != "auto":
            parse_bytes(memory)
    except ValueError:
        raise SweepError(f"--memory {memory} is not an amount of memory: expected 4GB, 2GiB or auto") from None


def serve_workers(address: str, names: list[str], memory: str, tls: Tls | None, say: Callable[[str], None]) -> int:
    """One single-threaded worker process a name, for the scheduler at `address`; returns 128 + the signal's number.

    A worker that dies is started anew; a scheduler that is not there, or goes away, is waited for.
    """
    dask_settings.silence()
    security = None if tls is None else tls.security()

    async def keep(name: str) -> None:
        told: bool | None = None
        while True:
            try:
                async with _Worker(say, address, name, memory_limit=memory, security=security) as nanny:
                    told = None
                    await nanny.finished()
            except (OSError, RuntimeError) as error:
                reason = _reason(error)
                why, is_taken = f"{address} does not answer ({reason})", "name taken" in reason
                if is_taken:
                    why = "another worker of this scheduler has this name: choose another --name"
                if is_taken != told:
                    say(f"worker {name}: {why}; still trying")
                told = is_taken
            await asyncio.sleep(_AGAIN_S)

    return _run([keep(name) for name in names])


class _Worker(Nanny):  # type: ignore[misc]  # distributed ships no types
    """Says where its process is, and that it ended."""

    def __init__(self, say: Callable[[str], None], address: str, name: str, **options: Any) -> None:
        super().__init__(address, name=name, nthreads=1, **_NO_DASHBOARD, **options)
        self._say, self._served, self._up = say, address, 0

    async def instantiate(self) -> Any:
        if self._up:
            full = self.memory_manager._last_terminated_pid == self._up  # noqa: SLF001
            why = ", its memory was full" if full else ""
            self._say(f"worker {self.name} ended{why}: starting another process")
        self._up = 0
        status = await super().instantiate()
        if status == Status.running:
            self._say(f"worker {self.name} at {self.worker_address} for {self._served}")
            self._up = self.pid
        return status


def _reason(error: BaseException) -> str:
    """What was first in a chain of errors: Dask wraps it twice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return one_line(str(error)) or type(error).__name__


def serve_scheduler(host: str, port: int, tls: Tls | None, say: Callable[[str], None]) -> int:
    """A scheduler at host and port; returns 128 + the signal's number. Raises SweepError if the port is taken."""
    logging.getLogger("distributed").setLevel(logging.WARNING)
    security, protocol = (None, "tcp") if tls is None else (tls.security(), "tls")

    async def keep() -> None:
        try:
            scheduler = await Scheduler(host=host, port=port, protocol=protocol, security=security, **_NO_DASHBOARD)
        except (OSError, RuntimeError) as error:
            raise SweepError(f"{host}:{port} cannot be used ({_reason(error)}): choose another") from None
        try:
            say(f"scheduler at {scheduler.address}")
            await scheduler.finished()
        finally:
            with suppress(Exception):
                await scheduler.close(reason="signal")

    return _run([keep()])


def _run(parts: list[Coroutine[Any, Any, None]]) -> int:
    dask_settings.send_at_once()
    override(TRAINING)
    variables = {**TRAINING, **dask_settings.SILENT_ENVIRONMENT}
    settings = {**dask_settings.SETTINGS, "distributed.nanny.pre-spawn-environ": variables}
    resource_tracker.ensure_running()  # which would take the mask off the thread that starts it
    # Workers inherit the mask and see no Ctrl-C of the terminal's; this thread takes it for the command.
    threading.Thread(target=threading.Event().wait, name="signals", daemon=True).start()
    with dask.config.set(settings), sigint_blocked():
        return asyncio.run(_until_signal(parts))


async def _until_signal(parts: list[Coroutine[Any, Any, None]]) -> int:
    """Run the parts; the first signal cancels them, and each closes what it started."""
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, signals.put_nowait, number)
    came = loop.create_task(signals.get())
    tasks = [loop.create_task(part) for part in parts]
    done, _ = await asyncio.wait([came, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=_CLOSE_S)
    if came.done():
        return 128 + came.result()
    for ended in done:
        ended.result()
    return 0
