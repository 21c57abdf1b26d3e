"""How Dask is set in every process of a cluster of ours: driver, scheduler, nanny and worker; starts none of them."""

import logging
from typing import Any

from distributed.batched import BatchedSend

CONNECT_TIMEOUT_S = 6

SETTINGS: dict[str, Any] = {
    "distributed.scheduler.allowed-failures": 0,  # retries are ours, so that each is told and counted
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.comm.timeouts.connect": f"{CONNECT_TIMEOUT_S}s",
    "distributed.admin.system-monitor.disk": False,
    "distributed.admin.tick.interval": "1s",  # 50 times a second in every process, only to warn of a slow event loop
    "distributed.worker.profile.enabled": False,  # walks the stack of the training thread a hundred times a second
    "distributed.scheduler.worker-ttl": None,  # it goes by the clock, which may jump; the engine sees who hangs
    "distributed.deploy.lost-worker-timeout": "1 day",  # 15 s after a kill it would close the nanny that restarts
    # glibc returns 100 MB blocks to the kernel by default: page faults on every mask cost 3% of an epoch.
    "distributed.nanny.pre-spawn-environ": {
        "MALLOC_MMAP_THRESHOLD_": "4000000000",
        "MALLOC_TRIM_THRESHOLD_": "8000000000",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    },
}

_LOGGERS = ("distributed", "distributed.client", "distributed.gc", "tornado", "tornado.application", "asyncio")
"""Those that distributed gives a level of their own, and asyncio's."""
_SILENT = logging.CRITICAL + 1
SILENT_ENVIRONMENT = {f"DASK_LOGGING__{name.upper()}": str(_SILENT) for name in _LOGGERS if "." not in name}
"""For a process that imports distributed itself."""


def silence() -> None:
    """What a user has to know of what Dask logs is ours to say, in one line."""
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(_SILENT)


def send_at_once() -> None:
    """Dask holds messages back for milliseconds of the wall clock: of one that is set back a day, for a day."""
    BatchedSend.next_deadline = property(lambda _self: None, lambda _self, _deadline: None)
