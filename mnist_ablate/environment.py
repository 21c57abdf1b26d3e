"""Variables that a process sets for itself, and what its user had in their place. Starts no process."""

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_INTERNAL = "_MNIST_ABLATE_"
"""The names of variables that our processes pass to each other begin so."""
_USERS = f"{_INTERNAL}USERS"
"""In a process with such variables and its children: by name, what the user had and what is set in its place."""
TRAINING = {
    # glibc returns 100 MB blocks to the kernel by default: page faults on every mask cost 3% of an epoch.
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "6640",  # Dask would set it to this, whatever the user has
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
"""For a process that trains. They must be there when it starts."""
NO_THREADS = {"OPENBLAS_NUM_THREADS": "1"}
"""For a command, before NumPy is imported: beside other work its threads wait ten times as long as they compute."""
_changing = threading.Lock()


def override(variables: Mapping[str, str | None]) -> None:
    """Set variables of this process and its children, or remove them. What the user had is remembered."""
    with _changing:
        users: dict[str, list[str | None]] = json.loads(os.environ.get(_USERS) or "{}")
        for name, value in variables.items():
            had, ours = users.get(name, (None, None))
            now = os.environ.get(name)
            users[name] = [had if name in users and now == ours else now, value]
            _put(name, value)
        os.environ[_USERS] = json.dumps(users, sort_keys=True)


@contextmanager
def overridden(variables: Mapping[str, str | None]) -> Iterator[None]:
    """The same for a while: afterwards this process has what it had before, and nothing is remembered of it."""
    earlier: dict[str, list[str | None]] = json.loads(os.environ.get(_USERS) or "{}")
    override(variables)
    try:
        yield
    finally:
        with _changing:
            users, remembered = of_user(), json.loads(os.environ.pop(_USERS, "{}"))
            for name, value in variables.items():
                is_ours = name in earlier and os.environ.get(name) == value
                _put(name, earlier[name][1] if is_ours else users.get(name))
                remembered.pop(name, None)
                remembered |= {name: earlier[name]} if is_ours else {}
            _put(_USERS, json.dumps(remembered, sort_keys=True) if remembered else None)


def of_user() -> dict[str, str]:
    """The variables as they would be without `override`, and no internal ones. What the user changed after it stays."""
    found: dict[str, str | None] = {**os.environ}
    for name, (had, ours) in json.loads(found.pop(_USERS, None) or "{}").items():
        if found.get(name) == ours:
            found[name] = had
    return {name: value for name, value in found.items() if value is not None and not name.startswith(_INTERNAL)}


def _put(name: str, value: str | None) -> None:
    if value is not None:
        os.environ[name] = value
    else:
        os.environ.pop(name, None)
