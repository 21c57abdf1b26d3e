"""The files of pretrained weights: found or fetched, checked by their hash before they are read; builds no network."""

import hashlib
import os
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_ablate.errors import DataError
from mnist_ablate.processes import call_within, whole_file
from mnist_ablate.workloads.keras_mnist.choices.base_weights import WEIGHTS, File

Arrays = npt.NDArray[np.float32]

ENVIRONMENT = "MNIST_ABLATE_WEIGHTS"
CONNECT_S = 8.0
_PIECE = 2**20


def file_of(weights: str, given: Path | None = None) -> File | None:
    """Where the file of these weights is, `given` or as MNIST_ABLATE_WEIGHTS says; None for weights that are drawn."""
    named = os.environ.get(ENVIRONMENT)
    return WEIGHTS[weights](given or (Path(named) if named else None))


def problem(weights: str, given: Path | None = None) -> str:
    """Why these weights cannot be read as they are; empty if they can."""
    try:
        located(weights, given)
    except DataError as error:
        return str(error)
    return ""


def located(weights: str, given: Path | None = None) -> File | None:
    """The file of these weights, there and with the hash that it should have; None for weights that are drawn.

    Raises DataError in one line that names the file and what to do.
    """
    file = file_of(weights, given)
    if file is None:
        return None
    if not file.path.is_file():
        raise DataError(f"weights {weights}: {file.path} is not there: {file.advice}")
    _check(file, file.path)
    return file


def fetch(weights: str, given: Path | None, say: Callable[[str], None]) -> None:
    """See to it that these weights are there: download what is missing and can be downloaded.

    Raises DataError as `located` does.
    """
    file = file_of(weights, given)
    if file is not None and file.url and not file.path.is_file():
        say(f"weights {weights}: downloading to {file.path}")
        try:
            _download(file)
        except (OSError, HTTPException, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise DataError(
                f"weights {weights}: {file.path} is not there, and its download failed ({reason}): {file.advice}"
            ) from error
    located(weights, given)


def read(weights: str, layers: Sequence[str]) -> Iterator[tuple[Arrays, Arrays]]:
    """Kernel (3, 3, in, out) and bias (out,) of each convolution; the file is checked first.

    Raises DataError if the file is not there or has no such layer.
    """
    import h5py

    file = located(weights)
    if file is None:
        raise ValueError(f"weights {weights} are drawn, not read")
    with h5py.File(file.path, "r") as content:
        for layer in layers:
            group = content.get(file.group(layer))
            if group is None:
                raise DataError(f"weights {weights}: {file.path} has no layer {layer}: {file.advice}")
            yield _kernel_and_bias(group)


def _kernel_and_bias(group: Any) -> tuple[Arrays, Arrays]:
    found: list[Any] = []
    group.visititems(lambda _name, each: found.append(each) if hasattr(each, "dtype") else None)
    kernel, bias = sorted(found, key=lambda each: -each.ndim)
    return np.asarray(kernel, np.float32), np.asarray(bias, np.float32)


def _check(file: File, path: Path) -> None:
    algorithm, _, wanted = file.digest.partition(":")
    with path.open("rb") as content:
        found = hashlib.file_digest(content, lambda: _hash(algorithm)).hexdigest()
    if found != wanted:
        raise DataError(f"{path}: not the weights that are wanted ({algorithm} {found}, not {wanted}): {file.advice}")


def _hash(algorithm: str) -> Any:
    return hashlib.new(algorithm, usedforsecurity=False)  # Keras publishes an MD5


def _download(file: File) -> None:
    """To a name of this process, checked, then to its own: no other process ever reads a part of it."""
    file.path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file.path) as partial:
        with _opened(file.url) as answer, partial.open("wb") as out:
            while piece := answer.read(_PIECE):
                out.write(piece)
        _check(file, partial)


def _opened(url: str) -> Any:
    """Resolving a name has no time-out of its own where packets vanish: a thread's wait has."""
    try:
        return call_within(CONNECT_S, lambda: urllib.request.urlopen(url, timeout=CONNECT_S))  # noqa: S310 - https
    except TimeoutError:
        raise TimeoutError(f"no answer in {CONNECT_S:.0f} s") from None
