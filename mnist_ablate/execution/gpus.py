"""The GPUs of this machine: how many workers and lanes they want, and which one a worker trains on. Trains nothing."""

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

VARIABLE = "CUDA_VISIBLE_DEVICES"
"""What CUDA reads: the GPUs that a process may use, by number or name. A user may have set it."""
LANES = 32
"""The lanes of a GPU unless told. It was derived, not measured: see docs/guides/gpu.md."""


def usable(environment: Mapping[str, str] = os.environ, devices: Path = Path("/dev")) -> list[str]:
    """The GPUs that TensorFlow can use here, as CUDA names them; none where the extra `gpu` is not installed."""
    count = sum(path.name.removeprefix("nvidia").isdecimal() for path in devices.glob("nvidia*"))
    if not (count and _has_libraries()):
        return []
    named = environment.get(VARIABLE)
    given = [str(number) for number in range(count)] if named is None else [each.strip() for each in named.split(",")]
    is_one = [bool(name) and not name.startswith("-") for name in given]
    return given[: is_one.index(False)] if False in is_one else given  # CUDA reads as far as it understands


def workers_and_lanes(
    jobs: int | None, lanes: int | None, *, trains_on_gpus: bool, here: bool = True
) -> tuple[int, int]:
    """How many workers a sweep has, and how many lanes each, unless told: one for each GPU of this machine, or core."""
    gpus = len(usable()) if trains_on_gpus and here else 0
    return jobs or gpus or _cores(), lanes or (LANES if gpus else 1)


def _cores() -> int:
    """Those that this process may use, in a container a part of the machine's."""
    from dask.system import CPU_COUNT

    return int(CPU_COUNT)


def take_one(folder: Path | None = None) -> None:
    """Let this process see one GPU alone: one that no other process of the user took, else any of them.

    It must not have imported TensorFlow. It keeps the GPU until it ends. With one GPU or none nothing is changed.
    """
    gpus = usable()
    if len(gpus) > 1:
        place = folder or Path(tempfile.gettempdir())
        free = (gpu for gpu in gpus if _locked(place / f"mnist-ablate-{os.getuid()}-gpu-{quote(gpu, safe='')}.lock"))
        os.environ[VARIABLE] = next(free, gpus[os.getpid() % len(gpus)])


def _has_libraries() -> bool:
    """Whether NVIDIA's libraries are installed beside TensorFlow, as its extra `and-cuda` does."""
    spec = find_spec("nvidia")
    places = (spec and spec.submodule_search_locations) or ()
    return any((Path(place) / "cudnn").is_dir() for place in places)


def _locked(file: Path) -> bool:
    """Whether this process has the lock of a file now, until it ends: the file stays open."""
    with suppress(OSError):
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
        except OSError:
            os.close(descriptor)
        else:
            return True
    return False
