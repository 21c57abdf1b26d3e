"""How Dask is set in every process of a cluster: driver, scheduler, nanny and worker. Starts none of them.

Importing this file imports nothing of Dask, so a command can check its options soon.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_ablate import environment
from mnist_ablate.errors import SweepError, mask

CONNECT_TIMEOUT_S = 6
TLS_SCHEME = "tls://"

SETTINGS: dict[str, object] = {
    "distributed.scheduler.allowed-failures": 0,  # retries are ours, so that each is told and counted
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.comm.timeouts.connect": f"{CONNECT_TIMEOUT_S}s",
    "distributed.admin.system-monitor.disk": False,
    "distributed.admin.system-monitor.interval": "10s",  # asks the kernel twice a second in every process
    "distributed.admin.tick.interval": "1s",  # 50 times a second in every process, only to warn of a slow event loop
    "distributed.worker.profile.enabled": False,  # walks the stack of the training thread a hundred times a second
    "distributed.scheduler.worker-ttl": None,  # it goes by the clock, which may jump; the engine sees who hangs
    "distributed.deploy.lost-worker-timeout": "1 day",  # 15 s after a kill it would close the nanny that restarts
    "distributed.nanny.pre-spawn-environ": environment.TRAINING,  # a variable of the process wins over them
}

_LOGGERS = ("distributed", "distributed.client", "distributed.gc", "tornado", "tornado.application", "asyncio")
"""Those that distributed gives a level of their own, and asyncio's."""
_SILENT = logging.CRITICAL + 1
SILENT_ENVIRONMENT = {f"DASK_LOGGING__{name.upper()}": str(_SILENT) for name in _LOGGERS if "." not in name}
"""For a process that imports distributed itself."""


def silence() -> None:
    """Hide what Dask logs. We tell the user what matters of it, in one line."""
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(_SILENT)


def send_at_once() -> None:
    """Send messages without delay. Dask delays them by the wall clock: if it is set back a day, by a day."""
    from distributed.batched import BatchedSend

    BatchedSend.next_deadline = property(lambda _self: None, lambda _self, _deadline: None)


@dataclass(frozen=True)
class Tls:
    """PEM files: the authority that signed every certificate of the cluster, and the certificate and key used here."""

    ca_file: Path
    cert: Path
    key: Path

    def security(self) -> Any:
        """Dask's form of it, for any part of a cluster. A peer without a certificate of the authority is refused."""
        from distributed.security import Security

        files = {"tls_ca_file": self.ca_file}
        for role in ("client", "scheduler", "worker"):
            files |= {f"tls_{role}_cert": self.cert, f"tls_{role}_key": self.key}
        return Security(require_encryption=True, **{name: str(path.absolute()) for name, path in files.items()})


def tls_from_options(address: str | None, ca_file: Path | None, cert: Path | None, key: Path | None) -> Tls | None:
    """The certificates for a scheduler's address, None for one without TLS.

    Raises SweepError if some are missing, cannot be read, or do not go with the address.
    """
    options = {"--tls-ca-file": ca_file, "--tls-cert": cert, "--tls-key": key}
    given = {name: path for name, path in options.items() if path}
    encrypted = address is not None and address.startswith(TLS_SCHEME)
    if not (encrypted or given):
        return None
    if missing := [name for name in options if name not in given]:
        raise SweepError(f"TLS needs {', '.join(options)}: give {' and '.join(missing)} too")
    if not encrypted:
        where = mask(address or "no --cluster")
        raise SweepError(f"certificates, but {where}: the address must begin with {TLS_SCHEME}")
    for name, path in given.items():
        if not (path.is_file() and os.access(path, os.R_OK) and path.stat().st_size):
            raise SweepError(f"{name} {path}: cannot be read: check the path and its permissions")
    return Tls(*given.values())
