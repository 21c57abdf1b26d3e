"""Files of pretrained weights: finds or downloads them and checks their hash before reading; builds no network."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mnist_ablate.errors import DataError
from mnist_ablate.processes import call_within, whole_file
from mnist_ablate.workloads.keras_mnist.choices.frozen_bases import WEIGHTS, WeightsFile

ENVIRONMENT = "MNIST_ABLATE_WEIGHTS"
CONNECT_S = 8.0
_KERNEL = 4  # axes of a kernel; a bias has one


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
    """The file of these weights; None for drawn ones. Raises DataError if it cannot be read as it is."""
    if file := weights_file(weights, given):
        if not file.path.is_file():
            raise DataError(f"weights {weights}: {file.path} is not there: {file.advice}")
        if not find_spec(file.reader):
            raise DataError(
                f"weights {weights}: the package {file.reader}, which reads {file.path}, is not there: {file.advice}"
            )
        _check(file, file.path)
    return file


def ensure_downloaded(weights: str, given: Path | None, say: Callable[[str], None]) -> None:
    """Download the file of these weights if it is missing and has an address. Raises DataError as `verified_file`."""
    from http.client import HTTPException
    from urllib.request import urlopen

    file = weights_file(weights, given)
    if file and file.url and not file.path.is_file():
        say(f"weights {weights}: downloading to {file.path}")
        try:
            file.path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(file.path) as partial:
                # in a thread, because resolving a name has no time-out of its own when packets vanish
                answer = call_within(CONNECT_S, lambda: urlopen(file.url, timeout=CONNECT_S))  # noqa: S310 - https
                with answer, partial.open("wb") as out:
                    shutil.copyfileobj(answer, out)
                _check(file, partial)
        except (OSError, HTTPException) as error:
            reason = str(error) or f"no answer in {CONNECT_S:.0f} s"
            raise DataError(
                f"weights {weights}: {file.path} is not there, and its download failed ({reason}): {file.advice}"
            ) from error
    verified_file(weights, given)


def read_layers(weights: str, layers: Sequence[str]) -> Iterator[Sequence[Any]]:
    """Kernel (3, 3, in, out) and bias (out,) of each layer, as float32, from a checked file. May raise DataError."""
    file = verified_file(weights)
    if file is None:
        raise ValueError(f"weights {weights} are drawn, not read")
    read = _onnx_arrays if file.reader == "onnx" else _hdf5_arrays
    for layer, found in zip(layers, read(file.path, map(file.group, layers)), strict=True):
        if not found:
            raise DataError(f"weights {weights}: {file.path} has no layer {layer}: {file.advice}")
        yield sorted(found, key=lambda each: -each.ndim)


def _hdf5_arrays(path: Path, groups: Iterable[str]) -> Iterator[list[Any]]:
    import h5py

    with h5py.File(path, "r") as content:
        for group in groups:
            yield _datasets(content[group]) if group in content else []


def _datasets(group: Any) -> list[Any]:
    found: list[Any] = []
    group.visititems(lambda _name, each: found.append(each[()]) if hasattr(each, "dtype") else None)
    return found


def _onnx_arrays(path: Path, groups: Iterable[str]) -> Iterator[list[Any]]:
    """The arrays as Keras has them: ONNX has kernels as (out, in, height, width)."""
    import onnx

    tensors = onnx.load_model(path, load_external_data=False).graph.initializer
    for group in groups:
        found = [onnx.numpy_helper.to_array(each) for each in tensors if each.name.startswith(group)]
        yield [each.transpose(2, 3, 1, 0) if each.ndim == _KERNEL else each for each in found]


def _check(file: WeightsFile, path: Path) -> None:
    algorithm, _, wanted = file.digest.partition(":")
    with path.open("rb") as content:  # Keras publishes an MD5
        found = hashlib.file_digest(content, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
    if found != wanted:
        raise DataError(f"{path}: not the expected weights ({algorithm} {found}, not {wanted}): {file.advice}")
