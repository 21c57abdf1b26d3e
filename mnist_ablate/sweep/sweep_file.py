"""Find a sweep file, read it, override values, check it: a Sweep, or one error with a line per problem. And back."""

import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import yaml

from mnist_ablate.errors import SweepError
from mnist_ablate.sweep import checks, yaml_reader
from mnist_ablate.sweep.claim import AskedKind, kind_named, kind_names
from mnist_ablate.sweep.designs import DESIGNS
from mnist_ablate.sweep.sweep import NAME_RULE, QUICK, SECTIONS, Sweep, is_name
from mnist_ablate.sweep.yaml_reader import MAX_PROBLEMS, Address, Finding, Mark, Plain, SourceFile, child, raise_if_any
from mnist_ablate.text import hint, listed, plainly, shortened, shown
from mnist_ablate.workloads.own_code.notebook_function import MARK, NotebookFunction
from mnist_ablate.workloads.workload import default_workload

_PACKAGE = Path(__file__).parents[1]
_SUFFIXES = (".yaml", ".yml")
_KIND = Template("""\
# yaml-language-server: $$schema=${schema}
# A sweep with a claim of kind ${kind}. It asks: ${meaning}
#   mnist-ablate plan ${name}.yaml            what it would train, how long, the smallest effect it can find
#   mnist-ablate sweep ${name}.yaml           train, judge, show where to look
# `mnist-ablate new OTHER` writes a file with every other key explained.

question: Replace this with what is asked, in a sentence.
source: replace this with the article, page and line

${example}""")

FolderOfCode = Callable[[Mapping[str, Plain]], tuple[Path, Sequence[Finding]]]
"""From the values of a file to the folder where the code is that they name, and what they may not name."""


def load(  # noqa: PLR0913 - what each option of a command changes
    source: str,
    *,
    overrides: Sequence[str] = (),
    seeds: int | None = None,
    quick: bool = False,
    any_factors: bool = False,
    function: NotebookFunction | None = None,
) -> Sweep:
    """The sweep of a shipped name or a file, with `--set` and `--seeds` applied, shortened if `quick`.

    `any_factors` lets the factors be any columns of a table in place of the settings of the workload. A `function`
    takes the place of what the file trains.
    Raises SweepError that names every problem, each with its line and column or its flag.
    """
    path = _find(source)
    name = _name_of(path)
    if not is_name(name) or (quick and not is_name(name + QUICK)):
        raise SweepError(f"{plainly(str(path))}: a sweep has its file's name, but {NAME_RULE}; rename the file")
    file = yaml_reader.parse(_read(path), plainly(str(path)))
    folder = path.absolute().parent
    sweep = _checked(file, name, lambda _: (folder, ()), overrides, seeds, any_factors=any_factors, function=function)
    sweep = sweep if any_factors else sweep.with_found_settings()
    return sweep.quick() if quick else sweep


def name_and_text(source: str) -> tuple[str, str]:
    """The name of a shipped sweep and no text; of a file its name and what it says, which is not checked."""
    path = _find(source)
    text = "" if path in shipped().values() else _read(path).decode("utf-8", "surrogateescape")
    return _name_of(path), text


def of_text(  # noqa: PLR0913 - as `load`
    text: str | bytes,
    name: str,
    *,
    code: FolderOfCode,
    overrides: Sequence[str] = (),
    seeds: int | None = None,
    quick: bool = False,
) -> Sweep:
    """The sweep of a text that lies in no file, as `load` gives that of a file. Errors call it NAME.yaml.

    `code` says in which folder the code lies that the text names, or what it may not name.
    """
    name = unicodedata.normalize("NFC", name)
    if not is_name(name) or (quick and not is_name(name + QUICK)):
        raise SweepError(f"{plainly(shortened(name))}: {NAME_RULE}")
    content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    sweep = _checked(yaml_reader.parse(content, f"{name}.yaml"), name, code, overrides, seeds).with_found_settings()
    return sweep.quick() if quick else sweep


def _checked(  # noqa: PLR0913 - what each option of a command changes
    file: SourceFile,
    name: str,
    code: FolderOfCode,
    overrides: Sequence[str],
    seeds: int | None,
    *,
    any_factors: bool = False,
    function: NotebookFunction | None = None,
) -> Sweep:
    if file.root is None or len(file.problems) > MAX_PROBLEMS:
        raise_if_any(file.problems)
    for setting in overrides:
        _override(file, setting)
    if seeds is not None and isinstance(file.root, dict):
        file.root["seeds"] = seeds
        file.move(("seeds",), Mark(f"--seeds {seeds}"))
    if function is not None and isinstance(file.root, dict):
        file.root["train"] = function.text
        file.move(("train",), Mark("train"))
    folder, refused = code(file.root if isinstance(file.root, dict) else {})
    if refused:  # before anything looks at what it names
        raise_if_any([*file.problems, *map(file.located, refused)])
    sweep, found = checks.check(name, file.root or {}, folder, any_factors=any_factors, function=function)
    raise_if_any([*file.problems, *map(file.located, found)])
    return sweep


def shipped() -> dict[str, Path]:
    """The project's own sweeps by name: in the package if it is installed, beside it in a checkout."""
    folders = (_PACKAGE / "sweeps", _PACKAGE.parent / "sweeps")
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def template(name: str, schema_file: str, kind: str | None = None) -> str:
    """The text of a new sweep file, which names the file of its schema: with every key explained, or for one kind."""
    designs = "\n".join(f"#   {design.name:<16} {design.__doc__}" for design in DESIGNS.values())
    if kind is None or kind == "compare":
        return Template(default_workload().template).substitute(name=name, schema=schema_file, designs=designs)
    if kind not in kind_names():
        raise SweepError(f"--kind {plainly(kind)}: no such kind; {hint(kind, kind_names())}")
    found: AskedKind = kind_named(kind)
    return _KIND.substitute(name=name, schema=schema_file, kind=kind, meaning=found.meaning, example=found.example)


def reproduction(sweep: Sweep, data_digest: str) -> tuple[str, str]:
    """The command that runs the same trials, and the text of the file that it reads; '' if the sweep is shipped."""
    if _trains_function(sweep):
        name = str(sweep.train).removeprefix(MARK)
        return f'mnist_ablate.run("{sweep.name}.yaml", train={name})', as_yaml(sweep)
    data = "" if sweep.train or sweep.data or data_digest == sweep.workload.shipped_digest else " --data FILE.npz"
    name, quick = sweep.name.removesuffix(QUICK), sweep.name.endswith(QUICK)
    for seeds in (None, sweep.max_seeds) if name in shipped() else ():
        try:
            is_same = load(name, seeds=seeds, quick=quick).digest == sweep.digest
        except SweepError:
            break
        if is_same:
            options = f"{f' --seeds {seeds}' if seeds else ''}{' --quick' if quick else ''}"
            return f"mnist-ablate sweep {name}{options}{data}", ""
    return f"mnist-ablate sweep {sweep.name}.yaml{data}", as_yaml(sweep)


def as_yaml(sweep: Sweep) -> str:
    """A sweep file of the same digest, if it has the sweep's name. It names no function that lives in no file."""
    left_out = {"name", "found_settings", *(("train",) if _trains_function(sweep) else ())}
    content = sweep.model_dump(mode="json", exclude=left_out, exclude_defaults=True)
    for told, claim in zip(content.get("claims", ()), sweep.claims, strict=True):
        told.update({"metric": claim.metric} if sweep.train else {})
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


def _trains_function(sweep: Sweep) -> bool:
    return isinstance(sweep.train, str) and sweep.train.startswith(MARK)


def _name_of(path: Path) -> str:
    """What a sweep of this file is called."""
    name = unicodedata.normalize("NFC", path.name)
    return name[: name.rindex(".")] if name.lower().endswith(_SUFFIXES) else name


def _find(source: str) -> Path:
    if "\0" not in source and ("/" in source or source.lower().endswith(_SUFFIXES)):
        return Path(source)
    name, known = unicodedata.normalize("NFC", source), shipped()
    if name in known or os.path.isfile(source):  # noqa: PTH113 - Path.is_file raises on a name that is too long
        return known.get(name) or Path(source)
    rule = f"{hint(name, known, 'shipped')}; or give the path of a .yaml file" if is_name(name) else NAME_RULE
    raise SweepError(f"no sweep named {shown(source)}: {rule}")


def _read(path: Path) -> bytes:
    """The bytes of a regular file of a reasonable size."""
    where, most = plainly(str(path)), yaml_reader.MAX_BYTES
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise SweepError(f"{where}: not a file; give the path of a sweep file")
        if size > most:
            raise SweepError(f"{where}: {size:,} bytes; a sweep file has at most {most:,}")
        with path.open("rb") as file:
            return file.read(most + 1)
    except FileNotFoundError:
        raise SweepError(f"{where}: no such file; shipped: {listed(shipped())}") from None
    except OSError as error:
        raise SweepError(f"{where}: cannot be read: {error.strerror or error}") from error


def _override(file: SourceFile, setting: str) -> None:
    """Set `fixed.NAME=2` or `claims.NAME.margin=0.01`; what is wrong is noted in the file's problems."""
    mark = Mark(f"--set {plainly(shortened(setting))}")
    path, equals, text = setting.partition("=")
    if not equals or not text.strip() or not path.strip("."):
        file.problems.append((mark, "write path=value, for example seeds=8"))
        return
    read = yaml_reader.parse(text.encode("utf-8", "surrogatepass"), mark.source)
    file.problems += [(mark, f"{plainly(path)}: {problem}") for _, problem in read.problems]
    if read.root is not None and (reason := _put(file, path, read.root, mark)):
        file.problems.append((mark, reason))


def _put(file: SourceFile, path: str, value: Plain, mark: Mark) -> str:
    """Put a value at a path, and mappings on the way to it. Returns why that cannot be, or ''."""
    holder: Any = file.root
    address: Address = ()
    where = ""
    while isinstance(holder, dict) or (isinstance(holder, list) and address == ("claims",)):
        is_list = isinstance(holder, list)
        names = [child(each, "name") for each in holder] if is_list else holder
        places = {name: index if is_list else name for index, name in enumerate(names) if isinstance(name, str)}
        # The longest name that the path starts with, since names may hold dots.
        found = [name for name in places if f"{path}.".startswith(f"{name}.")]
        name = max(found, key=len, default=path.partition(".")[0])
        rest = path[len(name) + 1 :]
        if not address and name not in SECTIONS:
            return f"no such key: {plainly(name)}; {hint(name, SECTIONS)}"
        if not found and is_list:
            return f"no claim named {plainly(name)}; {hint(name, places, 'claims')}"
        if not found and not address and name == "claims" and rest:
            return f"no claim named {plainly(rest)}; this sweep has none"
        place: Any = places.get(name, name)
        address, where = (*address, place), f"{where}.{plainly(name)}".removeprefix(".")
        if not (found and rest):
            holder[place] = {} if rest else value
            file.move(address, mark)
        if not rest:
            return ""
        holder, path = holder[place], rest
    if isinstance(holder, list):
        return f"{where} is a list; set it whole: {where}=[a, b]"
    return f"{where} is a single value: it has no {plainly(path)}" if where else ""
