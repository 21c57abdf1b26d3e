"""Keeps a Dask scheduler or workers running until a signal comes; knows no sweep and no trial."""

import asyncio
import logging
import signal
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from multiprocessing import resource_tracker
from typing import Any

import dask
from dask.utils import parse_bytes
from distributed import Nanny, Scheduler, Status

from mnist_ablate.errors import SweepError, mask, one_line
from mnist_ablate.execution.dask_settings import (
    SETTINGS,
    SILENT_ENVIRONMENT,
    WORKER_ENVIRONMENT,
    Tls,
    send_at_once,
    silence,
)
from mnist_ablate.processes import sigint_blocked

_AGAIN_S = 2.0
_CLOSE_S = 3.0
_ENVIRONMENT = "distributed.nanny.pre-spawn-environ"
_NAME_TAKEN = "name taken"
_ENDED_BY = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def check_address(address: str) -> None:
    """Raises SweepError unless it is a scheduler's: tcp://host:port or tls://host:port."""
    scheme, _, place = address.partition("://")
    host, _, port = place.rpartition(":")
    if scheme not in {"tcp", "tls"} or not host or not port.isdecimal():
        raise SweepError(
            f"{mask(address)} is not the address of a scheduler: expected tcp://host:8786 or tls://host:8786"
        )


def check_memory_size(memory: str) -> None:
    """Raises SweepError unless it is an amount of memory, or auto."""
    try:
        if memory != "auto":
            parse_bytes(memory)
    except ValueError:
        raise SweepError(f"--memory {memory} is not an amount of memory: expected 4GB, 2GiB or auto") from None


def serve_workers(
    address: str, names: list[str], memory_limit: str, tls: Tls | None, say: Callable[[str], None]
) -> int:
    """One single-threaded worker process a name, for the scheduler at `address`; returns 128 + the signal's number.

    A worker that dies is started anew; a scheduler that is not there, or goes away, is waited for.
    """
    silence()
    security = None if tls is None else tls.security()

    def worker(name: str) -> _Worker:
        return _Worker(
            lambda text: say(f"worker {name} {text}"),
            address,
            nthreads=1,
            name=name,
            memory_limit=memory_limit,
            security=security,
            dashboard=False,
            dashboard_address="127.0.0.1:0",
        )

    async def keep(name: str) -> None:
        told = ""
        while True:
            try:
                async with worker(name) as nanny:
                    told = ""
                    await nanny.finished()
            except (OSError, RuntimeError, TimeoutError) as error:
                reason = _reason(error)
                kind = _NAME_TAKEN if _NAME_TAKEN in reason else "no answer"
                if kind != told and kind == _NAME_TAKEN:
                    taken = "another worker of this scheduler has this name: choose another --name"
                    say(f"worker {name}: {taken}; still trying")
                elif kind != told:
                    say(f"worker {name}: {address} does not answer ({reason}); still trying")
                told = kind
            await asyncio.sleep(_AGAIN_S)

    return _run(lambda: [keep(name) for name in names])


class _Worker(Nanny):  # type: ignore[misc]  # distributed ships no types
    """Says where its process is, and that it ended."""

    def __init__(self, say: Callable[[str], None], address: str, **options: Any) -> None:
        super().__init__(address, **options)
        self._say, self._served, self._up = say, address, 0

    async def instantiate(self) -> Any:
        if self._up:
            full = self.memory_manager._last_terminated_pid == self._up  # noqa: SLF001
            self._say(f"ended{', its memory was full' if full else ''}: starting another process")
        self._up = 0
        status = await super().instantiate()
        if status == Status.running:
            self._say(f"at {self.worker_address} for {self._served}")
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

    async def keep() -> None:
        try:
            scheduler = await Scheduler(
                host=host,
                port=port,
                protocol="tcp" if tls is None else "tls",
                security=None if tls is None else tls.security(),
                dashboard=False,
                dashboard_address="127.0.0.1:0",  # None would listen on all addresses
            )
        except (OSError, RuntimeError) as error:
            raise SweepError(f"{host}:{port} cannot be used ({_reason(error)}): choose another") from None
        try:
            say(f"scheduler at {scheduler.address}")
            await scheduler.finished()
        finally:
            with suppress(Exception):
                await scheduler.close(reason="signal")

    return _run(lambda: [keep()])


def _run(parts: Callable[[], list[Any]]) -> int:
    send_at_once()
    environment = {**WORKER_ENVIRONMENT, **SILENT_ENVIRONMENT}
    resource_tracker.ensure_running()  # which would take the mask off the thread that starts it
    # Workers inherit the mask and see no Ctrl-C of the terminal's; this thread takes it for the command.
    threading.Thread(target=threading.Event().wait, name="signals", daemon=True).start()
    with dask.config.set({**SETTINGS, _ENVIRONMENT: environment}), sigint_blocked():
        return asyncio.run(_until_signal(parts))


async def _until_signal(parts: Callable[[], list[Awaitable[None]]]) -> int:
    """Run the parts; the first signal cancels them, and each closes what it started."""
    came: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def stop(number: int) -> None:
        if not came.done():
            came.set_result(number)

    for number in _ENDED_BY:
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(part) for part in parts()]
    done, _ = await asyncio.wait([came, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_S):
            await asyncio.gather(*tasks, return_exceptions=True)
    if came.done():
        return 128 + came.result()
    for task in tasks:
        if task in done:
            task.result()
    return 0
