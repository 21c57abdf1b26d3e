"""The certificates of a cluster: who may talk to its scheduler and workers, encrypted; opens no connection."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_ablate.errors import SweepError, mask

SCHEME = "tls://"


@dataclass(frozen=True)
class Tls:
    """PEM files: the authority that signed every certificate of the cluster, and the certificate and key used here."""

    ca_file: Path
    cert: Path
    key: Path

    def security(self) -> Any:
        """Dask's form of it, for any part of a cluster; whoever shows no certificate of the authority is refused."""
        from distributed.security import Security

        ca_file, cert, key = (str(path.absolute()) for path in (self.ca_file, self.cert, self.key))
        roles = {f"tls_{role}_{part}": path for role in _ROLES for part, path in (("cert", cert), ("key", key))}
        return Security(require_encryption=True, tls_ca_file=ca_file, **roles)


_ROLES = ("client", "scheduler", "worker")


def chosen(address: str | None, ca_file: Path | None, cert: Path | None, key: Path | None) -> Tls | None:
    """The certificates for a scheduler's address, None for one without TLS.

    Raises SweepError if some are missing, cannot be read, or do not go with the address.
    """
    options = {"--tls-ca-file": ca_file, "--tls-cert": cert, "--tls-key": key}
    missing = [name for name, path in options.items() if path is None]
    encrypted = address is not None and address.startswith(SCHEME)
    if len(missing) == len(options) and not encrypted:
        return None
    if missing:
        raise SweepError(f"TLS needs {', '.join(options)}: give {' and '.join(missing)} too")
    if not encrypted:
        raise SweepError(f"certificates, but {mask(address or 'no --cluster')}: the address must begin with {SCHEME}")
    for name, path in options.items():
        if path is not None and not _readable(path):
            raise SweepError(f"{name} {path}: cannot be read: check the path and its permissions")
    assert ca_file
    assert cert
    assert key
    return Tls(ca_file, cert, key)


def _readable(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return bool(file.read(1))
    except OSError:
        return False
