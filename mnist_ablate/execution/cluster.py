"""A Dask client of workers that are set up: processes here, or those of a scheduler elsewhere; runs no trial."""

import errno
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import dask
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster, Status
from distributed.comm import CommClosedError

from mnist_ablate.errors import AblateError, UnreachableError, mask
from mnist_ablate.execution.dask_settings import CONNECT_TIMEOUT_S, SETTINGS, send_at_once, silence
from mnist_ablate.execution.tls import Tls
from mnist_ablate.execution.worker import TrainerPlugin
from mnist_ablate.processes import masked

_CLOSE_S = 2
_SET_UP_S = 300
_SET_UPS = 3
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


def default_jobs() -> int:
    """One worker a core that this process may use, as its affinity and its control group say."""
    return int(CPU_COUNT)


@contextmanager
def connected(jobs: int, address: str | None, plugin: TrainerPlugin, tls: Tls | None = None) -> Iterator[Any]:
    """A client whose workers have the plugin: `jobs` local processes, or the workers of the scheduler at `address`.

    Local workers stop at the end; those of a cluster are left to it. Raises UnreachableError that names the address.
    """
    silence()
    send_at_once()
    with dask.config.set(SETTINGS), _local(jobs) if address is None else _remote(address, tls) as client:
        _set_up(client, address, plugin)
        yield client


def scheduler_id(client: Any) -> str:
    """Of the scheduler that a client is connected to; one that was started anew has another."""
    return str(client._scheduler_identity.get("id", ""))  # noqa: SLF001 - `scheduler_info` asks for all workers


def replace_dead(client: Any) -> None:
    """Start local workers anew that Dask gave up: one that dies while it starts takes its nanny with it."""
    cluster = client.cluster
    if cluster is None or cluster._lock.locked():  # noqa: SLF001 - it is just opening or closing some
        return
    specs = cluster.worker_spec
    dead = [name for name, nanny in list(cluster.workers.items()) if nanny.status in {Status.closed, Status.failed}]
    size = len(specs)
    for name in dead:
        specs.pop(name, None)
    if dead or specs.keys() - cluster.workers.keys():
        cluster.scale(size)


class MemoryKills:
    """Tells which local workers were killed for their memory: by Dask's nanny at 95% of its share, or by the kernel."""

    def __init__(self, client: Any) -> None:
        self._nannies = getattr(client.cluster, "workers", {})
        self._by_kernel = _kernel_kills()

    def include(self, pid: int) -> bool:
        """Whether the worker that had this process id, and was killed just now, is one of them."""
        before, self._by_kernel = self._by_kernel, _kernel_kills()
        guards = [getattr(nanny, "memory_manager", None) for nanny in self._nannies.values()]
        by_nanny = any(getattr(guard, "_last_terminated_pid", None) == pid for guard in guards)
        return bool(self._nannies) and (by_nanny or self._by_kernel > before)


def _kernel_kills() -> int:
    """How many processes of this machine the kernel has killed for memory; 0 where it does not say."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


@contextmanager
def _local(jobs: int) -> Iterator[Any]:
    resource_tracker.ensure_running()  # which would take the mask off the thread that starts it
    with masked():
        cluster = LocalCluster(
            n_workers=jobs,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",  # None would listen on all addresses at port 8787
            silence_logs=logging.CRITICAL,  # of the workers: into their logs in the home
        )
    try:
        with _closing(Client(cluster, set_as_default=False)) as client:
            yield client
    finally:
        _kill(cluster)
        _close(cluster)


def _kill(cluster: Any) -> None:
    """Whoever closes waits for no trial: everything that ended is recorded. Dask would give a busy worker 4 s."""
    for nanny in cluster.workers.values():
        nanny.auto_restart = False
        if nanny.pid:
            with suppress(ProcessLookupError):
                os.kill(nanny.pid, signal.SIGKILL)


@contextmanager
def _remote(address: str, tls: Tls | None) -> Iterator[Any]:
    with _closing(_reached(address, tls)) as client:
        yield client


def _reached(address: str, tls: Tls | None) -> Any:
    """Dask's own time-out does not end where something else than a scheduler listens: a thread's can."""
    security = None if tls is None else tls.security()
    timeout = f"{CONNECT_TIMEOUT_S}s"
    found = _within(
        CONNECT_TIMEOUT_S + 1, lambda: Client(address, timeout=timeout, security=security, set_as_default=False)
    )
    if not isinstance(found, Client):  # what Dask raises depends on what answers
        raise UnreachableError(f"{mask(address)}: no Dask scheduler answers: start it or check --cluster")
    return found


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """What a call returns, or the exception that it raises; None if it takes longer, and goes on in its thread."""
    found: list[Any] = []

    def ask() -> None:
        try:
            found.append(call())
        except Exception as error:  # noqa: BLE001 - the caller looks at it
            found.append(error)

    thread = threading.Thread(target=ask, name="ask-scheduler", daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else None


@contextmanager
def _closing(client: Any) -> Iterator[Any]:
    try:
        yield client
    finally:
        _close(client)


def _close(part: Any) -> None:
    with suppress(Exception):
        part.close(timeout=_CLOSE_S)


def _set_up(client: Any, address: str | None, plugin: TrainerPlugin) -> None:
    """Give the workers their trainer; what a worker raised says why one cannot train.

    If one dies meanwhile, the others are asked again: whoever comes in its place gets its trainer when it joins.
    """
    for _ in range(_SET_UPS):
        answer = _within(_SET_UP_S, lambda: client.register_plugin(plugin))
        if not isinstance(answer, CommClosedError):
            break
    if isinstance(answer, AblateError) or (isinstance(answer, OSError) and answer.errno in _DISK):
        raise answer
    if answer is None:
        reason, advice = f"one does not answer in {_SET_UP_S:.0f} s", "stop it, and run the same again"
    elif isinstance(answer, CommClosedError):
        reason, advice = "they die of it", "see their logs"
    elif isinstance(answer, Exception):
        reason = f"{type(answer).__name__}: {str(answer).partition(chr(10))[0][:300]}"
        advice = "install this mnist-ablate on all of them"
    else:
        return
    error = answer if isinstance(answer, Exception) else None
    if address is None:
        raise AblateError(f"workers cannot start ({reason}): see the logs in the home") from error
    raise UnreachableError(f"{mask(address)}: its workers cannot be set up ({reason}): {advice}") from error
