"""The code that a submitted sweep may name: what lies in folders that the operator chose. Runs none of it."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mnist_ablate.sweep import sweep_file
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.sweep.yaml_reader import Address, Finding, Plain
from mnist_ablate.text import plainly, shortened
from mnist_ablate.workloads.keras_mnist.data_source import IDX, is_function, module_of
from mnist_ablate.workloads.own_code.source_code import file_of

_INTERPRETERS = ("{python}", "python", "python3")
Named = tuple[Address, str, Path | None]
"""Where a file says so, what it names, and the file or folder that this is, if it is there."""


def load(  # noqa: PLR0913 - as `sweep_file.load`
    text: str | bytes,
    name: str,
    code_paths: Sequence[Path],
    *,
    overrides: Sequence[str] = (),
    seeds: int | None = None,
    quick: bool = False,
) -> Sweep:
    """The sweep of a text that somebody sent, whose code is in one of these folders.

    Raises SweepError that names every problem; one of them is code from anywhere else.
    """
    return sweep_file.of_text(
        text,
        name,
        code=lambda values: folder_of(values, code_paths),
        overrides=overrides,
        seeds=seeds,
        quick=quick,
    )


def folder_of(values: Mapping[str, Plain], code_paths: Sequence[Path]) -> tuple[Path, Sequence[Finding]]:
    """The folder that has all of the code and the data that a sweep names, or what none has.

    Links are followed: what they lead to must be in the folder too.
    """
    if not any(_named(values, Path())):
        return Path(), ()
    if not code_paths:
        text = "this service takes no code and no data with a sweep; its operator can allow folders with --code-path"
        return Path(), [Finding(address[:1], text) for address, _, _ in _first_of_each(values)]
    refused = [(folder, [*_refused(values, folder)]) for folder in code_paths]
    return min(refused, key=lambda each: len(each[1]))


def _first_of_each(values: Mapping[str, Plain]) -> list[Named]:
    return [*{each[0][:1]: each for each in _named(values, Path())}.values()]


def _refused(values: Mapping[str, Plain], folder: Path) -> Iterator[Finding]:
    whole = os.path.realpath(folder)
    for address, name, path in _named(values, folder):
        if path is None or not os.path.exists(path) or not Path(os.path.realpath(path)).is_relative_to(whole):  # noqa: PTH110 - Path.exists raises on a name that is too long
            text = "is not in the folders that this service takes code and data from; ask its operator to put it there"
            yield Finding(address, f"{plainly(shortened(name))} {text}")


def _named(values: Mapping[str, Plain], folder: Path) -> Iterator[Named]:
    """All code and data that a sweep names, as it would be found from a folder. What is no text is refused later."""
    train = values.get("train")
    if isinstance(train, str) and train:
        yield ("train",), train, _module(folder, train)
    elif isinstance(train, list) and train:
        yield from _of_program([str(part) for part in train], folder)
    choices, data, code = values.get("choices"), values.get("data"), values.get("code")
    if isinstance(choices, str) and choices:
        yield ("choices",), choices, _file(folder, choices)
    if isinstance(data, str) and data:
        path = _module(folder, data) if is_function(data) else _file(folder, data.removeprefix(IDX))
        yield ("data",), data, path
    for index, name in enumerate(code if isinstance(code, list) else ()):
        yield ("code", index), str(name), _file(folder, str(name))


def _of_program(parts: Sequence[str], folder: Path) -> Iterator[Named]:
    """The program of a command: a file of the folder, or one that Python runs. The rest are words for that program."""
    if parts[0] in _INTERPRETERS:
        script = parts[1] if len(parts) > 1 else ""
        yield ("train",), f"{parts[0]} {script}", _file(folder, script)
    else:  # without a slash the system would look for it in its own folders
        yield ("train",), parts[0], _file(folder, parts[0]) if "/" in parts[0] else None


def _module(folder: Path, function: str) -> Path | None:
    return file_of(folder, module_of(function))


def _file(folder: Path, name: str) -> Path | None:
    """A path within the folder; None for one that starts elsewhere, is no name, or is filled in later."""
    if not name or name.startswith(("/", "-", "~")) or "{" in name or "\0" in name or len(name) > 1000:  # noqa: PLR2004
        return None
    return folder / name


def data_for(sweep: Sweep, data: str | None) -> str | None:
    """The operator's images for a sweep that has no data and no training code of its own."""
    return None if sweep.train or sweep.data else data
