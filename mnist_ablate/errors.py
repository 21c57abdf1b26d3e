"""Every error a user can meet, with its exit code, and the masking of secrets in texts; recovers from nothing."""

import os
import re
from typing import NamedTuple

_MASKS = (
    # Greedy up to the last @ of the word: it may hide too much, never too little. A path has one slash where // was.
    (re.compile(r"(:/{1,2})([^\s/:@]*):(?!\d+/)\S*@"), r"\1\2:***@"),
    (re.compile(r"(:/{1,2})[^\s/:@]+@"), r"\1***@"),
    (re.compile(r"\b((?:ssl)?password|passwd|pwd|token|secret|api_?key)=[^\s&;'\"]+", re.IGNORECASE), r"\1=***"),
)
_ADDRESS = re.compile(r"[\w+.-]+://[^\s/:@]*:([^\s@]+)@")
_SECRET_NAME = re.compile(r"PASSWORD|PASSWD|TOKEN|SECRET|API_?KEY|CREDENTIAL|WEBHOOK")
_SHORTEST = 8  # of the secrets: a shorter one would blank words


class Place(NamedTuple):
    """One problem of a sweep file: its line and column from 1, both 0 for that of a flag, and what is wrong."""

    line: int
    column: int
    text: str


class AblateError(Exception):
    """One line: what is wrong, where, and what to do next."""

    exit_code = 1

    def __init_subclass__(cls, exit_code: int | None = None) -> None:
        cls.exit_code = exit_code or cls.exit_code


class SweepError(AblateError, exit_code=2):
    """The command or the sweep file is wrong; nothing was created. `places` has each problem of a file by itself."""

    places: tuple[Place, ...] = ()


class UnreachableError(AblateError, exit_code=3):
    """The tracker, the database or the cluster does not answer, or refused the credentials."""


class DataError(AblateError, exit_code=4):
    """The data set or a weights file is missing, damaged or of another shape."""


class DiskError(AblateError, exit_code=5):
    """The disk is full or read-only."""


class ConflictError(AblateError, exit_code=6):
    """Another driver holds the sweep, or the stored sweep differs from the file."""


class BusyError(ConflictError):
    """Another process holds the lock; when it ends, the lock is free."""


def mask(text: str) -> str:
    """The text with `user:***@` in addresses and without the value of any secret environment variable."""
    for pattern, kept in _MASKS:
        text = pattern.sub(kept, text)
    for name, value in os.environ.items():
        address = _ADDRESS.match(value)
        secret = value if _SECRET_NAME.search(name.upper()) else address[1] if address else ""
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, "***")
    return text


def one_line(text: str) -> str:
    """The first line that says something, masked and not longer than 300 characters."""
    return mask(next((line.strip() for line in text.splitlines() if line.strip()), ""))[:300]
