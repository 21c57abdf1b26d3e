"""Choices of users' own, from a file beside the sweep file or an installed package.

Their names are read from the source, which runs only where trials are trained.
"""

import ast
import importlib
import inspect
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import cache_from_source, find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_ablate.errors import AblateError, SweepError, one_line
from mnist_ablate.text import hint, plainly
from mnist_ablate.workloads.keras_mnist.keras_settings import override_environment
from mnist_ablate.workloads.own_code import source_code
from mnist_ablate.workloads.own_code.source_code import SourceCode

if TYPE_CHECKING:
    from mnist_ablate.workloads.keras_mnist.choices.tables import Tables

GROUP = "mnist_ablate.choices"
"""The entry points by which an installed package offers choices."""
DICTS = {
    "MODELS": "model",
    "ACTIVATIONS": "activation",
    "NORMALIZERS": "normalizer",
    "OPTIMIZERS": "optimizer",
    "NORM_LAYERS": "norm_layer",
    "INITIALIZERS": "initializer",
    "SCHEDULES": "schedule",
    "AUGMENTATIONS": "augmentation",
}
_FIELDS = {setting: f"{setting}s" for setting in DICTS.values()}
_BUILDER_PARAMETERS = 3
"""A Keras builder takes settings, input shape and classes. A function of the shipped kind takes the network, x."""


class ChoiceError(AblateError):
    """A function of the user's choices went wrong; the text says where."""


@dataclass(frozen=True)
class OwnChoices:
    """What `choices:` of a sweep file names: by setting, names with a line about each, and the source that has them.

    `module` is imported from `source`, or from where it is installed if `is_installed`.
    """

    module: str
    names: Mapping[str, Mapping[str, str]]
    source: SourceCode
    is_installed: bool = False

    def digest_with(self, data_digest: str) -> str:
        """The sha256 of the data and of the source files."""
        return self.source.digest_with(data_digest)

    @property
    def digest(self) -> str:
        """The sha256 of the source files."""
        return self.source.digest_with(self.module)

    def load(self, shipped: "Tables") -> "Tables":
        """Import the module, and add what it has to what ships. Raises SweepError with file, line and reason."""
        module = self._imported()
        own: dict[str, dict[str, Any]] = {}
        for table, setting in DICTS.items():
            if setting in self.names:
                own[_FIELDS[setting]] = self._functions(table, getattr(module, table, {}))
        return shipped.with_own({**own, **_models(own.pop("models", {}))})

    def _functions(self, table: str, found: object) -> dict[str, Any]:
        """The entries whose names the plan knows."""
        names = self.names[DICTS[table]]
        where = f"{self.module}: {table}"
        if not isinstance(found, Mapping) or set(found) != set(names):
            raise SweepError(f"{where} differs when it is imported from what its source says; write it as one dict")
        if broken := [name for name in names if not callable(found[name])]:
            raise SweepError(f"{where}: {plainly(broken[0])} is no function but {type(found[broken[0]]).__name__}")
        return dict(found)

    def _imported(self) -> Any:
        """The module, afresh: this process may have imported another version of it for another sweep."""
        override_environment()
        if self.is_installed:
            if not self.source.is_in(self.source.folder):
                raise SweepError(f"choices: {self.module} is installed here in another version; install the same")
            return self._executed(self.source.folder, lambda: importlib.import_module(self.module))
        folder = self.source.folder
        if not self.source.is_in(folder):
            folder = source_code.unpack(
                self.source.packed(), Path(tempfile.mkdtemp(prefix="mnist-ablate-code-"))
            ).folder
        own = {".".join(Path(name).with_suffix("").parts).removesuffix(".__init__") for name, _ in self.source.files}
        for name in [each for each in sys.modules if each in own and _is_foreign(each)]:
            del sys.modules[name]
        for name, _ in self.source.files:  # Python takes a file of the same size and second for the same
            with suppress(OSError):
                Path(cache_from_source(str(folder / name))).unlink(missing_ok=True)
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()

        def run() -> Any:
            spec = spec_from_file_location(self.module, folder / f"{self.module}.py")
            assert spec is not None
            assert spec.loader is not None
            module = module_from_spec(spec)
            if self.module not in sys.stdlib_module_names:
                sys.modules[self.module] = module
            spec.loader.exec_module(module)
            return module

        return self._executed(folder, run)

    def _executed(self, folder: Path, run: Any) -> Any:
        try:
            return run()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            raise SweepError(f"choices: {_said(error, folder)}") from error


@contextmanager
def naming_place(own: OwnChoices | None) -> Iterator[None]:
    """Exceptions of the user's functions as a ChoiceError that names file and line."""
    try:
        yield
    except AblateError:
        raise
    except Exception as error:
        files = {Path(name).name for name, _ in own.source.files} if own else set()
        frames = traceback.extract_tb(error.__traceback__)
        if any(Path(frame.filename).name in files for frame in frames) and not isinstance(error, MemoryError):
            raise ChoiceError(_said(error, None, files)) from error
        raise


def _said(error: BaseException, folder: Path | None, files: set[str] = frozenset()) -> str:  # type: ignore[assignment]
    """`file:line: Kind: text`, of the last line of the traceback that is the user's."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}: SyntaxError: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames
        if Path(frame.filename).name in files or (folder and frame.filename.startswith(str(folder)))
    ]
    place = f"{Path(own[-1].filename).name}:{own[-1].lineno}: " if own else ""
    return one_line(f"{place}{type(error).__name__}: {error}".replace("\n", " "))


def _is_foreign(module: str) -> bool:
    """Whether a module may be forgotten: those of Python and of this package may not."""
    return module.partition(".")[0] not in (*sys.stdlib_module_names, "mnist_ablate")


def _models(functions: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Models by how they are built: with this package's network, or with Keras's own layers."""
    from mnist_ablate.workloads.keras_mnist.choices.models import Model

    builders = {name: each for name, each in functions.items() if _takes_shapes(each)}
    others = {name: Model(each) for name, each in functions.items() if name not in builders}
    return {"models": others, "keras_builders": builders}


def _takes_shapes(function: Any) -> bool:
    return len(inspect.signature(function).parameters) >= _BUILDER_PARAMETERS


def find(folder: Path, choices: str, shipped: Mapping[str, Mapping[str, str]]) -> OwnChoices:
    """The choices of a file in a folder, or of an installed package by the name of its entry point.

    `shipped` has the names that are taken. Raises SweepError with file and line.
    """
    if choices.endswith(".py"):
        path = folder / choices
        if not path.is_file():
            raise SweepError(f"choices: no file {plainly(choices)} beside the sweep file")
        if Path(choices).name != choices:
            raise SweepError(f"choices: {plainly(choices)} is not beside the sweep file; move it there")
        source, module = source_code.of_module(folder, path.stem), path.stem
    else:
        path, module, source = _installed(choices)
    found = read_names(path.read_bytes(), path.name)
    for setting, names in found.items():
        for name, (line, _) in names.items():
            if name in shipped.get(setting, {}):
                raise SweepError(f"{path.name}:{line}: {setting} {plainly(name)} ships already; choose another name")
    summaries = {setting: {name: text for name, (_, text) in names.items()} for setting, names in found.items()}
    return OwnChoices(module, summaries, source, is_installed=not choices.endswith(".py"))


def _installed(name: str) -> tuple[Path, str, SourceCode]:
    """The file, the name and the source of the module that an entry point names; nothing is imported."""
    offered = {each.name: each.value.partition(":")[0] for each in entry_points(group=GROUP)}
    if name not in offered:
        advice = hint(name, offered, "installed packages") if offered else f"no installed package has {GROUP}"
        raise SweepError(f"choices: {plainly(name)} is no .py file, and no package offers it; {advice}")
    module = offered[name]
    top, *rest = module.split(".")
    spec = find_spec(top)
    origin = Path(spec.origin) if spec and spec.origin else None
    if origin is None:
        raise SweepError(f"choices: {plainly(name)}: the package {top} has no file")
    if origin.name != "__init__.py":
        return origin, module, SourceCode(origin.parent, ((origin.name, origin.read_bytes()),))
    package = origin.parent
    base = package.joinpath(*rest)
    candidates = [base.with_suffix(".py"), base / "__init__.py"] if rest else [origin]
    path = next((each for each in candidates if each.is_file()), None)
    if path is None:
        raise SweepError(f"choices: {plainly(name)}: no module {module} is installed")
    files = sorted(package.rglob("*.py"))
    return (
        path,
        module,
        SourceCode(
            package.parent, tuple((each.relative_to(package.parent).as_posix(), each.read_bytes()) for each in files)
        ),
    )


def read_names(source: bytes, where: str) -> dict[str, dict[str, tuple[int, str]]]:
    """By setting, the names in a module's dicts, each with its line and the first line of its function's docstring."""
    try:
        module = ast.parse(source, where)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise SweepError(f"{where}{f':{line}' if line else ''}: no Python: {getattr(error, 'msg', error)}") from None
    functions = {node.name: node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    found: dict[str, dict[str, tuple[int, str]]] = {}
    for node in module.body:
        for name, value in _assignments(node):
            if name in DICTS:
                found[DICTS[name]] = dict(_entries(name, value, where, functions))
    if not found:
        raise SweepError(f"{where}: none of the dicts {', '.join(DICTS)}; e.g. NORMALIZERS = {{'bipolar': bipolar}}")
    return found


def _assignments(node: ast.stmt) -> Iterator[tuple[str, ast.expr | None]]:
    """The names that a statement at the top of a module binds, with their values."""
    if isinstance(node, ast.Assign):
        yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        yield node.target.id, node.value
    elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        yield node.target.id, None


def _entries(
    table: str, value: ast.expr | None, where: str, functions: Mapping[str, ast.FunctionDef | ast.ClassDef]
) -> Iterator[tuple[str, tuple[int, str]]]:
    literal = f"{table} must be one dict in braces, each name in quotes, so that it can be read without running it"
    if not isinstance(value, ast.Dict):
        line = f":{value.lineno}" if value else ""
        raise SweepError(f"{where}{line}: {literal}")
    if not value.keys:
        raise SweepError(f"{where}:{value.lineno}: {table} is empty")
    seen: set[str] = set()
    for key, entry in zip(value.keys, value.values, strict=True):
        if not (isinstance(key, ast.Constant) and isinstance(key.value, str) and key.value):
            raise SweepError(f"{where}:{(key or entry).lineno}: {literal}")
        if key.value in seen:
            raise SweepError(f"{where}:{key.lineno}: {table} has {plainly(key.value)} twice")
        seen.add(key.value)
        yield key.value, (key.lineno, _summary(entry, functions))


def _summary(entry: ast.expr, functions: Mapping[str, ast.FunctionDef | ast.ClassDef]) -> str:
    """The first line of a docstring; of a short function in `choice("...", ...)` that text."""
    if isinstance(entry, ast.Name) and entry.id in functions:
        return (ast.get_docstring(functions[entry.id]) or "").partition("\n")[0]
    if isinstance(entry, ast.Call) and entry.args and isinstance(entry.args[0], ast.Constant):
        return str(entry.args[0].value).partition("\n")[0]
    return ""
