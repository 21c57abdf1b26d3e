"""Keeps compiled programs between sweeps, for this processor and these versions. Compiles nothing itself.

XLA can read programs from a folder and write them there. It runs what it reads even if a bit of it was flipped, and a
folder that it cannot write to ends the training. So it gets one in memory for a sweep, with what is whole by its
checksum. What is new there is kept in the user's cache.
"""

import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from shutil import disk_usage, rmtree
from tempfile import mkdtemp

from mnist_ablate.processes import whole_file
from mnist_ablate.settings import user_cache

FOLDER = "_MNIST_ABLATE_PROGRAMS"
"""The variable of a worker that names the folder."""
KEPT = 32
_MEMORY, _PREFIX, _LOCK, _ROOM = Path("/dev/shm"), "mnist-ablate-programs-", "lock", 64 << 20  # noqa: S108 - see above
_JUST_NOW_S = 60.0
_PROCESSOR = Path("/proc/cpuinfo")


@contextmanager
def programs(versions: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The variables for workers that share a folder of programs while inside; none where there is no such memory."""
    with ExitStack() as stack:
        folder = None
        with suppress(OSError):
            _remove_left()
            store = user_cache() / "programs" / _machine(versions)
            if disk_usage(_MEMORY).free > _ROOM:
                made = Path(mkdtemp(prefix=_PREFIX, dir=_MEMORY))
                stack.callback(rmtree, made, ignore_errors=True)
                flock(stack.enter_context((made / _LOCK).open("w")), LOCK_EX)
                _bring(store, made)
                folder = made
        yield {FOLDER: str(folder)} if folder else {}
        if folder:
            with suppress(OSError):
                _keep(folder, store)


def xla_flags() -> dict[str, str]:
    """The variable that makes XLA use the folder of this process, if it has one."""
    folder = os.environ.get(FOLDER, "")
    return {"TF_XLA_FLAGS": f"--tf_xla_persistent_cache_directory={folder}"} if Path(folder or ".none").is_dir() else {}


def _machine(versions: Mapping[str, str]) -> str:
    """What a program was compiled for. One of another processor may crash, or round in another way."""
    first = _PROCESSOR.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0].splitlines()
    processor = [line for line in first if line.startswith(("model name", "flags", "Features", "CPU part"))]
    return hashlib.sha256("\n".join([*processor, *map(str, sorted(versions.items()))]).encode()).hexdigest()[:16]


def _bring(store: Path, folder: Path) -> None:
    for file in store.glob("*.pb"):
        digest, _, name = file.name.partition(".")
        if hashlib.sha256(content := file.read_bytes()).hexdigest() == digest:
            (folder / name).write_bytes(content)
        else:
            file.unlink()


def _keep(folder: Path, store: Path) -> None:
    known = {file.name.partition(".")[2] for file in store.glob("*.pb")}
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in folder.glob("*.pb"):
        if file.name not in known:
            content = file.read_bytes()
            with whole_file(store / f"{hashlib.sha256(content).hexdigest()}.{file.name}") as part:
                part.write_bytes(content)
    for old in sorted(store.glob("*.pb"), key=lambda file: file.stat().st_mtime)[:-KEPT]:
        old.unlink()


def _remove_left() -> None:
    """The folders of sweeps that were killed: nobody holds their locks, and they are not being made just now."""
    for folder in _MEMORY.glob(f"{_PREFIX}*"):
        with suppress(OSError), (folder / _LOCK).open() as lock:
            flock(lock, LOCK_EX | LOCK_NB)
            if time.time() - folder.stat().st_mtime > _JUST_NOW_S:
                rmtree(folder)
