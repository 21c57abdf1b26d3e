"""Find a sweep file, read it, override values, check it: a Sweep, or one error with a line per problem.

The text of a new file comes from the workload.
"""

import os
import stat
import unicodedata
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from string import Template

from mnist_ablate.errors import SweepError
from mnist_ablate.sweep import checks, yaml_reader
from mnist_ablate.sweep.designs import DESIGNS
from mnist_ablate.sweep.overrides import override, override_seeds
from mnist_ablate.sweep.source_tree import MAX_PROBLEMS, SourceFile, raise_if_any
from mnist_ablate.sweep.structure_check import parse_sweep
from mnist_ablate.sweep.sweep import NAME_RULE, Sweep, is_name
from mnist_ablate.text import hint, listed, plainly, shown
from mnist_ablate.workloads.workload import default_workload

_PACKAGE = Path(__file__).parents[1]
_SUFFIXES = (".yaml", ".yml")


def load(
    source: str,
    *,
    overrides: Sequence[str] = (),
    seeds: int | None = None,
    quick: bool = False,
    any_factors: bool = False,
) -> Sweep:
    """The sweep of a shipped name or a file, with `--set` and `--seeds` applied, shortened if `quick`.

    `any_factors` lets the factors be any columns of a table in place of the settings of the workload.
    Raises SweepError that names every problem, each with its line and column or its flag.
    """
    path = _find(source)
    name = _name(path, quick=quick)
    file = yaml_reader.parse(_read(path), plainly(str(path)))
    if file.root is None or len(file.problems) > MAX_PROBLEMS:
        raise_if_any(file.problems)
    for setting in overrides:
        override(file, setting)
    if seeds is not None:
        override_seeds(file, seeds)
    sweep = _checked(name, file, any_factors=any_factors)
    return sweep.quick() if quick else sweep


def shipped() -> dict[str, Path]:
    """The project's own sweeps by name: in the package if it is installed, beside it in a checkout."""
    folders = (_PACKAGE / "sweeps", _PACKAGE.parent / "sweeps")
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def template(name: str, schema_file: str) -> str:
    """The text of a new sweep file with every key explained, which names the file of its schema."""
    designs = "\n".join(f"#   {design.name:<16} {design.summary}" for design in DESIGNS.values())
    return Template(default_workload().template).substitute(name=name, schema=schema_file, designs=designs)


def _checked(name: str, file: SourceFile, *, any_factors: bool) -> Sweep:
    parsed = parse_sweep(name, file.root.plain() if file.root else {})
    found = islice(checks.findings(parsed, None if any_factors else default_workload()), MAX_PROBLEMS + 1)
    raise_if_any([*file.problems, *map(file.located, found)])
    return parsed.sweep.model_copy(update={"claims": list(parsed.claims.values())})


def _find(source: str) -> Path:
    if "\0" in source:
        raise SweepError(f"{shown(source)}: {NAME_RULE}")
    if os.sep in source or (os.altsep or os.sep) in source or source.lower().endswith(_SUFFIXES):
        return Path(source)
    known = shipped()
    name = unicodedata.normalize("NFC", source)
    if name in known:
        return known[name]
    if os.path.isfile(source):  # noqa: PTH113 - Path.is_file raises on a name that is too long
        return Path(source)
    if not is_name(name):
        raise SweepError(f"no sweep named {shown(source)}: {NAME_RULE}")
    raise SweepError(
        f"no sweep named {shown(source)}: {hint(name, known, 'shipped')}; or give the path of a .yaml file"
    )


def _name(path: Path, *, quick: bool) -> str:
    """The name of the sweep in a file: the file's, without .yaml."""
    name = unicodedata.normalize("NFC", path.name)
    name = name[: name.rindex(".")] if name.lower().endswith(_SUFFIXES) else name
    if not is_name(name) or (quick and not is_name(f"{name}-quick")):
        raise SweepError(f"{plainly(str(path))}: a sweep has its file's name, but {NAME_RULE}; rename the file")
    return name


def _read(path: Path) -> bytes:
    """The bytes of a regular file of a reasonable size."""
    where = plainly(str(path))
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise SweepError(f"{where}: not a file; give the path of a sweep file")
        if about.st_size > yaml_reader.MAX_BYTES:
            raise SweepError(f"{where}: {about.st_size:,} bytes; a sweep file has at most {yaml_reader.MAX_BYTES:,}")
        with path.open("rb") as file:
            return file.read(yaml_reader.MAX_BYTES + 1)
    except FileNotFoundError:
        raise SweepError(f"{where}: no such file; shipped: {listed(shipped())}") from None
    except OSError as error:
        raise SweepError(f"{where}: cannot be read: {error.strerror or error}") from error
