"""Whether a part of the cluster is well: `scheduler` accepts connections, `worker` holds one to the scheduler."""

import socket
import sys
from pathlib import Path

PORT = 8786
_ESTABLISHED = "01"
_TIMEOUT_S = 5
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def scheduler(port: int = PORT) -> bool:
    """Whether something listens here."""
    try:
        socket.create_connection(("127.0.0.1", port), _TIMEOUT_S).close()
    except OSError:
        return False
    return True


def worker(port: int = PORT) -> bool:
    """Whether a connection to a scheduler's port stands, in the kernel's own table."""
    lines = [line for table in _TABLES if table.exists() for line in table.read_text().splitlines()[1:]]
    return any(_to(port, line.split()) for line in lines)


def _to(port: int, fields: list[str]) -> bool:
    remote, state = fields[2], fields[3]
    return state == _ESTABLISHED and int(remote.rpartition(":")[2], 16) == port


if __name__ == "__main__":
    sys.exit(not {"scheduler": scheduler, "worker": worker}[sys.argv[1]]())
