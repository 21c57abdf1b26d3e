"""Files of pretrained weights: finds or downloads them and checks their hash before reading; builds no network."""

import hashlib
import os
import shutil
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_ablate.errors import DataError
from mnist_ablate.processes import call_within, whole_file
from mnist_ablate.workloads.keras_mnist.choices.frozen_bases import WEIGHTS, WeightsFile

Arrays = npt.NDArray[np.float32]

ENVIRONMENT = "MNIST_ABLATE_WEIGHTS"
CONNECT_S = 8.0


def weights_file(weights: str, given: Path | None = None) -> WeightsFile | None:
    """Where the file of these weights is: `given`, or as MNIST_ABLATE_WEIGHTS says. None for weights that are drawn."""
    named = os.environ.get(ENVIRONMENT)
    return WEIGHTS[weights](given or (Path(named) if named else None))


def why_unavailable(weights: str, given: Path | None = None) -> str:
    """Why these weights cannot be read without a download; empty if they can."""
    try:
        verified_file(weights, given)
    except DataError as error:
        return str(error)
    return ""


def verified_file(weights: str, given: Path | None = None) -> WeightsFile | None:
    """The file of these weights, which exists and has the right hash. None for weights that are drawn.

    Raises DataError otherwise, in one line that names the file and what to do.
    """
    file = weights_file(weights, given)
    if file is None:
        return None
    if not file.path.is_file():
        raise DataError(f"weights {weights}: {file.path} is not there: {file.advice}")
    _check(file, file.path)
    return file


def ensure_downloaded(weights: str, given: Path | None, say: Callable[[str], None]) -> None:
    """Download the file of these weights if it is missing and has an address. Raises DataError as `verified_file`."""
    file = weights_file(weights, given)
    if file is not None and file.url and not file.path.is_file():
        say(f"weights {weights}: downloading to {file.path}")
        try:
            _download(file)
        except (OSError, HTTPException, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise DataError(
                f"weights {weights}: {file.path} is not there, and its download failed ({reason}): {file.advice}"
            ) from error
    verified_file(weights, given)


def read_layers(weights: str, layers: Sequence[str]) -> Iterator[tuple[Arrays, Arrays]]:
    """Kernel (3, 3, in, out) and bias (out,) of each convolution. The file is checked first.

    Raises DataError if the file is not there or has no such layer.
    """
    import h5py

    file = verified_file(weights)
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


def _check(file: WeightsFile, path: Path) -> None:
    algorithm, _, wanted = file.digest.partition(":")
    with path.open("rb") as content:
        found = hashlib.file_digest(content, lambda: _hash(algorithm)).hexdigest()
    if found != wanted:
        raise DataError(f"{path}: not the expected weights ({algorithm} {found}, not {wanted}): {file.advice}")


def _hash(algorithm: str) -> Any:
    return hashlib.new(algorithm, usedforsecurity=False)  # Keras publishes an MD5


def _download(file: WeightsFile) -> None:
    """Download to a name of this process, check, then rename. No other process ever reads a part of the file."""
    file.path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file.path) as partial:
        with _opened(file.url) as answer, partial.open("wb") as out:
            shutil.copyfileobj(answer, out)
        _check(file, partial)


def _opened(url: str) -> Any:
    """Open a URL in a thread, because resolving a name has no time-out of its own when packets vanish."""
    try:
        return call_within(CONNECT_S, lambda: urllib.request.urlopen(url, timeout=CONNECT_S))  # noqa: S310 - https
    except TimeoutError:
        raise TimeoutError(f"no answer in {CONNECT_S:.0f} s") from None
