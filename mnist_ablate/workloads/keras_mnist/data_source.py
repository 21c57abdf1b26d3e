"""Where images come from: a .npz file, a folder of IDX files, or a function of the user's; gives arrays as they are.

Run with `python -m`, this module calls the function: in a process of its own, which has a time limit.
"""

import gzip
import importlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import traceback
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from mnist_ablate.errors import DataError, one_line
from mnist_ablate.text import plainly

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
VALIDATION = ("x_val", "y_val")
"""These may be missing: then a part of the training images is the validation split."""
MAX_BYTES = 4 * 2**30
MAX_RATIO = 100
"""Images shrink to a fifth. What shrinks further may unpack to UNPACKED_BYTES: a few bytes can become gigabytes."""
UNPACKED_BYTES = 64 * 2**20
FUNCTION_S = 600.0
"""The longest that a function may take to give the images."""
IDX = "idx:"
_IDX_FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_FORMS = "give FILE.npz, idx:FOLDER or module:function"
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    ValueError,
    MemoryError,
    NotImplementedError,
)

Arrays = dict[str, npt.NDArray[np.generic]]


def is_function(source: str) -> bool:
    """Whether a source is `module:function`, which runs the user's code."""
    return bool(re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", source)) and not source.startswith(IDX)


def module_of(source: str) -> str:
    """The module of `module:function`, which may be written as the name of its file."""
    return source.partition(":")[0].removesuffix(".py")


def read(source: str, folder: Path) -> Arrays:
    """The arrays of a source in the order of ARRAYS; paths start at `folder`. Raises DataError with one line."""
    if re.match(r"\w+:/+", source) and not source.startswith(IDX):
        address = re.sub(r":/+", "://", source, count=1)
        raise DataError(f"{address}: an address; download the file and give its path, e.g. --data images.npz")
    if is_function(source):
        return _of_function(source, folder)
    if source.startswith(IDX):
        return _of_idx(folder / source.removeprefix(IDX))
    path = folder / source
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no such data file"
        raise DataError(f"{plainly(source)}: {kind}: {_FORMS} (see --data)")
    with path.open("rb") as file:
        return read_npz(source, file)


def read_npz(name: str, file: BinaryIO) -> Arrays:
    """The arrays of an open .npz file. Errors call it `name`."""
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(member.file_size for member in archive.infolist())
            packed = sum(member.compress_size for member in archive.infolist())
        most = MAX_BYTES if size <= MAX_RATIO * packed else min(MAX_BYTES, UNPACKED_BYTES)
        if size > most:
            raise DataError(f"{name}: unpacks to {size:,} bytes; at most {most:,} are read from {packed:,} packed ones")
        file.seek(0)
        with np.load(file, allow_pickle=False) as content:
            if missing := [array for array in ARRAYS if array not in content.files]:
                has = f"; it has {', '.join(content.files[:8])}" if content.files else ""
                raise DataError(f"{name}: no array {', '.join(missing)}; Keras's layout has {', '.join(ARRAYS)}{has}")
            arrays = {array: content[array] for array in (*ARRAYS, *VALIDATION) if array in content.files}
    except _UNREADABLE as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{name}: not a readable .npz of plain arrays ({reason}): fetch or make it again") from error
    if strange := [array for array, value in arrays.items() if not isinstance(value, np.ndarray)]:
        raise DataError(f"{name}: {', '.join(strange)} is not an array: fetch or make the file again")
    return arrays


def _of_idx(folder: Path) -> Arrays:
    return {array: _read_idx(folder, name) for array, name in _IDX_FILES.items()}


def _read_idx(folder: Path, name: str) -> npt.NDArray[np.generic]:
    """An array in the IDX format (Y. LeCun): type, number of dimensions, sizes, values; it may be gzipped."""
    paths = [folder / f"{each}{end}" for each in (name, name.replace("-idx", ".idx")) for end in ("", ".gz")]
    path = next((each for each in paths if each.is_file()), None)
    if path is None:
        raise DataError(f"{IDX}{folder}: no file {name} or {name}.gz; names are those of MNIST's IDX files")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a readable IDX file ({error}): fetch it again") from error
    dimensions = content[3] if len(content) >= 4 else 0  # noqa: PLR2004 - the magic number
    start = 4 + 4 * dimensions
    kind = _IDX_TYPES.get(content[2]) if len(content) >= start and content[:2] == b"\0\0" else None
    if kind is None or not dimensions:
        raise DataError(f"{path}: no IDX file: it begins with {content[:4].hex(' ') or 'nothing'}; fetch it again")
    shape = tuple(map(int, np.frombuffer(content, ">u4", dimensions, 4)))
    values = np.frombuffer(content[start:], np.uint8)
    expected = int(np.prod(shape, dtype=object)) * np.dtype(kind).itemsize
    if len(values) != expected:
        raise DataError(f"{path}: {len(values):,} bytes of values, {expected:,} are announced: fetch it again")
    return values.view(kind).reshape(shape).astype(np.dtype(kind).newbyteorder("="))


def _of_function(source: str, folder: Path) -> Arrays:
    """What a function returns: a mapping of arrays, or a tuple as Keras's `load_data` returns."""
    with tempfile.TemporaryDirectory(prefix="mnist-ablate-data-") as place:
        path = Path(place, "images.npz")
        command = [sys.executable, "-P", "-m", __name__, str(folder.absolute()), source, str(path)]
        child = subprocess.Popen(  # noqa: S603 - our own module
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            _, said = child.communicate(timeout=FUNCTION_S)
        except subprocess.TimeoutExpired:
            raise DataError(f"data: {source} took over {FUNCTION_S:.0f} s to give the images") from None
        finally:
            _end_group(child)
        if child.returncode or not path.is_file():
            last = [line for line in said.splitlines() if line.strip()][-1:] or [f"ended with {child.returncode}"]
            raise DataError(f"data: {source}: {one_line(last[0])}")
        with path.open("rb") as file:
            return read_npz(f"data: {source}", file)


def _end_group(child: "subprocess.Popen[str]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    if child.stderr:
        child.stderr.close()


def _call(folder: str, source: str, path: str) -> str:
    """Write the arrays that a function returns to a file; what went wrong, in one line."""
    os.chdir(folder)
    sys.path.insert(0, folder)
    name = source.partition(":")[2]
    try:
        function = getattr(importlib.import_module(module_of(source)), name, None)
        if not callable(function):
            return f"no function {name} in {module_of(source)}"
        arrays = _named(function())
    except BaseException as error:  # noqa: BLE001 - the function may even call sys.exit
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename.startswith(folder)]
        place = f"{Path(own[-1].filename).name}:{own[-1].lineno}: " if own else ""
        return f"{place}{type(error).__name__}: {error}"
    if isinstance(arrays, str):
        return arrays
    if objects := [key for key, value in arrays.items() if value.dtype == object]:
        return f"{', '.join(objects)}: rows of different lengths or objects, not numbers"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return ""


def _named(returned: Any) -> Arrays | str:
    """What a function returned, by names of arrays; else why it is of no use."""
    if isinstance(returned, Mapping):
        pairs = {str(key): value for key, value in returned.items() if key in ARRAYS + VALIDATION}
    elif isinstance(returned, tuple | list):
        flat = [each for part in returned for each in (part if isinstance(part, tuple | list) else [part])]
        names = {4: ARRAYS, 6: ("x_train", "y_train", *VALIDATION, "x_test", "y_test")}.get(len(flat), ())
        pairs = dict(zip(names, flat, strict=True)) if names else {}
    else:
        pairs = {}
    if missing := [key for key in ARRAYS if key not in pairs]:
        what = type(returned).__name__
        return (
            f"returned {what} without {', '.join(missing)}; return a dict of {', '.join(ARRAYS)}, or load_data's tuple"
        )
    return {key: np.asarray(pairs[key]) for key in (*ARRAYS, *VALIDATION) if key in pairs}


if __name__ == "__main__":
    sys.exit(_call(*sys.argv[1:4]) or None)
