"""A Dask client whose workers are set up: processes here, or those of a scheduler elsewhere. Runs no trial."""

import errno
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import resource_tracker, spawn
from pathlib import Path
from typing import Any

import dask
import distributed.utils
from distributed import Client, LocalCluster, Status
from distributed.comm import CommClosedError

from mnist_ablate import environment
from mnist_ablate.errors import AblateError, UnreachableError, mask
from mnist_ablate.execution import worker_template
from mnist_ablate.execution.dask_settings import (
    CONNECT_TIMEOUT_S,
    SETTINGS,
    Tls,
    send_at_once,
    silence,
)
from mnist_ablate.execution.worker import TrainerPlugin
from mnist_ablate.processes import call_within, sigint_blocked

_SET_UP_S = 300
_SET_UPS = 3
_SET_BY_DASK = "__DASK_PARENT_PID"
_WORKER_PROCESS = "Dask Worker process (from Nanny)"
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


@contextmanager
def connected(jobs: int, address: str | None, plugin: TrainerPlugin, tls: Tls | None = None) -> Iterator[Any]:
    """A client whose workers have the plugin: `jobs` local processes, or the workers of the scheduler at `address`.

    Local workers stop at the end. Those of a cluster go on. Raises UnreachableError that names the address.
    """
    silence()
    send_at_once()
    # Workers here are ours alone. Those elsewhere may need what the user set to be reached.
    users = {} if address is None else dask.config.config
    with dask.config.set(dask.config.merge(*dask.config.defaults, users) | SETTINGS), ExitStack() as stack:
        if address is None:
            resource_tracker.ensure_running()  # which would take the mask off the thread that starts it
            # Workers get the variables of this process, which may be a notebook. Dask sets one of its own there.
            stack.enter_context(environment.overridden({**environment.TRAINING, _SET_BY_DASK: str(os.getpid())}))
            stack.enter_context(_main_left_alone())
            stack.enter_context(_started_as_copies())
            with sigint_blocked():
                cluster = LocalCluster(
                    n_workers=jobs,
                    threads_per_worker=1,
                    dashboard_address="127.0.0.1:0",  # None would listen on all addresses at port 8787
                    silence_logs=logging.CRITICAL,  # of the workers: into their logs in the home
                )
            stack.callback(_close, cluster)
            stack.callback(_kill_workers, cluster)
            client = Client(cluster, set_as_default=False)
        else:
            options = {"timeout": f"{CONNECT_TIMEOUT_S}s", "security": tls and tls.security(), "set_as_default": False}
            try:  # Dask's own time-out does not hold if something else listens there
                client = call_within(CONNECT_TIMEOUT_S + 1, lambda: Client(address, **options))
            except Exception:  # noqa: BLE001 - what Dask raises depends on what answers
                where = mask(address)
                raise UnreachableError(f"{where}: no Dask scheduler answers: start it or check --cluster") from None
        stack.callback(_close, client)
        _set_up(client, address, plugin)
        yield client


@contextmanager
def _main_left_alone() -> Iterator[None]:
    """Workers do not import the `__main__` of this process: it may be a script that would start the sweep again.

    Workers can start at any time while the cluster is up. Other processes that the user starts are as always.
    """
    usual = spawn.get_preparation_data

    def without_main(name: str) -> dict[str, Any]:
        found: dict[str, Any] = usual(name)
        if name == _WORKER_PROCESS:
            found.pop("init_main_from_name", None)
            found.pop("init_main_from_path", None)
        return found

    spawn.get_preparation_data = without_main
    try:
        yield
    finally:
        spawn.get_preparation_data = usual


@contextmanager
def _started_as_copies() -> Iterator[None]:
    """Workers are copies of the template, if there is one. Dask would import much more into it."""
    before, distributed.utils._forkserver_preload_set = distributed.utils._forkserver_preload_set, True  # noqa: SLF001
    with dask.config.set({"distributed.worker.multiprocessing-method": worker_template.method()}):
        try:
            yield
        finally:
            distributed.utils._forkserver_preload_set = before  # noqa: SLF001


def scheduler_id(client: Any) -> str:
    """The id of the scheduler that a client is connected to. A restarted scheduler has another."""
    return str(client._scheduler_identity.get("id", ""))  # noqa: SLF001 - `scheduler_info` asks for all workers


def replace_dead(client: Any) -> None:
    """Restart local workers that Dask gave up: a worker that dies while it starts takes its nanny with it."""
    cluster = client.cluster
    if cluster is None or cluster._lock.locked():  # noqa: SLF001 - it is just opening or closing some
        return
    specs, size = cluster.worker_spec, len(cluster.worker_spec)
    dead = [name for name, nanny in list(cluster.workers.items()) if nanny.status in {Status.closed, Status.failed}]
    for name in dead:
        specs.pop(name, None)
    if dead or specs.keys() - cluster.workers.keys():
        cluster.scale(size)


def enlarge(client: Any, size: int) -> None:
    """Start local workers until there are so many. Those of a cluster are not ours to start."""
    cluster = client.cluster
    if cluster is not None and not cluster._lock.locked() and len(cluster.worker_spec) < size:  # noqa: SLF001 - as above
        cluster.scale(size)


def ask_in_thread(ask: Callable[..., object], *arguments: object, **options: object) -> None:
    """Ask workers for something, and wait for no answer. A worker that is gone gives none."""

    def call() -> None:
        with suppress(Exception):
            ask(*arguments, **options)

    threading.Thread(target=call, name="ask-workers", daemon=True).start()


class MemoryKills:
    """Tells which local workers were killed for their memory: by Dask's nanny at 95% of its share, or by the kernel."""

    def __init__(self, client: Any) -> None:
        self._nannies = getattr(client.cluster, "workers", {})
        self._by_kernel = _kernel_kills()

    def include(self, pid: int) -> bool:
        """Whether the worker that had this process id, and was killed just now, is one of them."""
        before, self._by_kernel = self._by_kernel, _kernel_kills()
        guards = (getattr(nanny, "memory_manager", None) for nanny in self._nannies.values())
        by_nanny = pid in {getattr(guard, "_last_terminated_pid", None) for guard in guards}
        return bool(self._nannies) and (by_nanny or self._by_kernel > before)


def _kernel_kills() -> int:
    """How many processes of this machine the kernel has killed for memory; 0 where it does not say."""
    with suppress(OSError, ValueError):
        counts = Path("/proc/vmstat").read_text(encoding="ascii").split()
        return int(counts[counts.index("oom_kill") + 1])
    return 0


def _kill_workers(cluster: Any) -> None:
    """Kill workers without waiting: finished trials are already recorded. Dask would give a busy worker 4 s."""
    for nanny in cluster.workers.values():
        nanny.auto_restart = False
        if nanny.pid:
            with suppress(ProcessLookupError):
                os.kill(nanny.pid, signal.SIGKILL)


def _close(part: Any) -> None:
    with suppress(Exception):
        part.close(timeout=2)


def _set_up(client: Any, address: str | None, plugin: TrainerPlugin) -> None:
    """Give the workers their trainer. What a worker raised says why it cannot train.

    If a worker dies meanwhile, the others are asked again. A worker that replaces it gets its trainer when it joins.
    """
    failure: Exception
    for _ in range(_SET_UPS):
        try:
            call_within(_SET_UP_S, lambda: client.register_plugin(plugin))
        except CommClosedError as error:
            failure, reason, advice = error, "they die during set-up", "see their logs"
            continue
        except Exception as error:
            if isinstance(error, AblateError) or getattr(error, "errno", None) in _DISK:
                raise
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}"
            failure, advice = error, "install this mnist-ablate on all of them"
            if isinstance(error, TimeoutError) and not error.args:  # ours; one of a worker's says what it waited for
                reason, advice = f"one does not answer in {_SET_UP_S:.0f} s", "stop it, and run the same command again"
        else:
            return
        break
    if address is None:
        raise AblateError(f"workers cannot start ({reason}): see the logs in the home") from failure
    raise UnreachableError(f"{mask(address)}: its workers cannot be set up ({reason}): {advice}") from failure
