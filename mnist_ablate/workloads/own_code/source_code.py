"""The source files that decide what a trial of users' own code does: found, hashed, packed for workers. Never run."""

import ast
import hashlib
import io
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mnist_ablate.errors import SweepError
from mnist_ablate.text import plainly

MAX_BYTES = 100_000_000
"""All files together: they are sent to every worker."""


@dataclass(frozen=True)
class SourceCode:
    """Files by their path from the folder of the sweep file, with `/`, as they were when the sweep began.

    `installed` is the sha256 of an installed package that has the function. It is empty if a file here has it.
    """

    folder: Path
    files: tuple[tuple[str, bytes], ...]
    installed: str = ""

    def digest_with(self, text: str) -> str:
        """The sha256, in hexadecimal, of a text and of all names and contents."""
        lines = [text, *(f"{name}\0{digest}" for name, _, digest in self.described())]
        lines += [self.installed] if self.installed else []
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def described(self) -> list[tuple[str, int, str]]:
        """Each file's name, its size in bytes and its sha256."""
        return [(name, len(content), hashlib.sha256(content).hexdigest()) for name, content in self.files]

    def is_in(self, folder: Path) -> bool:
        """Whether a folder has the same files."""
        try:
            return folder.is_dir() and all((folder / name).read_bytes() == content for name, content in self.files)
        except OSError:
            return False

    def packed(self) -> bytes:
        """The files as a zip archive."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in self.files:
                archive.writestr(zipfile.ZipInfo(name), content)
        return buffer.getvalue()


def unpack(content: bytes) -> SourceCode:
    """Packed files in a temporary folder of this user: the one that another process made of the same, or a new one."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = tuple((name, archive.read(name)) for name in archive.namelist())
        name = f"mnist-ablate-code-{os.getuid()}-{hashlib.sha256(content).hexdigest()[:16]}"
        found = SourceCode(Path(tempfile.gettempdir(), name), files)
        if found.is_in(found.folder) and found.folder.stat().st_uid == os.getuid():
            return found
        new = Path(tempfile.mkdtemp(prefix="mnist-ablate-code-"))
        archive.extractall(new)
    with suppress(OSError):  # there is one, of another user or changed by what ran in it
        new.rename(found.folder)
        return found
    return replace(found, folder=new)


def of_module(folder: Path, module: str, named: Sequence[str] = ()) -> SourceCode:
    """A module beside the sweep file, what it imports beside it, and the files that are named.

    Of an installed module its own file and those of its package count. Workers have them installed.
    """
    first = file_of(folder, module)
    own = [first, *_closure(first, folder)] if first else []
    found = _read(folder, [*own, *_named(folder, named)])
    return found if first else replace(found, installed=installed_digest(module))


def installed_digest(module: str) -> str:
    """The sha256 of the Python files of an installed module's top package. Empty if it is not installed."""
    path = module_path(Path(), module)
    if path is None:
        return ""
    levels = len(module.split(".")) - (path.name != "__init__.py")
    top = path.parents[levels - 1] if levels else path
    files = sorted(top.rglob("*.py")) if top.is_dir() else [path]
    lines = [f"{file.relative_to(top.parent)}\0{hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def of_modules(folder: Path, modules: Sequence[str], named: Sequence[str] = ()) -> SourceCode:
    """Those of the modules that are in the folder, what they import beside them, and the files that are named."""
    own = [path for module in modules if (path := file_of(folder, module))]
    return _read(folder, [*own, *(each for path in own for each in _closure(path, folder)), *_named(folder, named)])


def of_command(folder: Path, command: Sequence[str], named: Sequence[str] = ()) -> SourceCode:
    """The files that a command names, with what Python files among them import beside them, and those named."""
    parts = (Path(part) for part in command if "{" not in part)
    own = [folder / part for part in parts if not part.is_absolute() and _is_file(folder / part)]
    beside = [path for each in own if each.suffix == ".py" for path in _closure(each, folder)]
    return _read(folder, [*own, *beside, *_named(folder, named)])


def module_path(folder: Path, module: str) -> Path | None:
    """The file of a module: beside the sweep file, else installed. Nothing is imported to find it."""
    installed = (file_of(Path(entry or "."), module) for entry in sys.path)
    return file_of(folder, module) or next((path for path in installed if path), None)


def _closure(first: Path, folder: Path) -> set[Path]:
    """All that a file imports beside it, directly or not."""
    found: set[Path] = set()
    waiting = [first]
    while waiting:
        new = {*_imported_beside(waiting.pop(), folder)} - found - {first}
        found |= new
        waiting += new
    return found


def file_of(folder: Path, module: str) -> Path | None:
    """The file of a module in a folder, or of a package."""
    base = folder.joinpath(*module.split("."))
    candidates = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in candidates if _is_file(path)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _imported_beside(path: Path, folder: Path) -> Iterator[Path]:
    """The files in the folder that a Python file imports, with the `__init__.py` of packages on the way."""
    if path.suffix != ".py":
        return
    try:
        nodes = ast.walk(ast.parse(path.read_bytes()))
    except (SyntaxError, ValueError):
        return
    package = path.parent.relative_to(folder).parts
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            start = ".".join([*base, *([node.module] if node.module else [])])
            names = [start, *(f"{start}.{alias.name}".strip(".") for alias in node.names)]
        else:
            continue
        for name in filter(None, names):
            parts = name.split(".")
            for length in range(1, len(parts) + 1):
                for root in {folder, path.parent}:
                    if found := file_of(root, ".".join(parts[:length])):
                        yield found


def _named(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """The files that `code:` names; of a folder all files in it."""
    for name in names:
        path = folder / name
        if path.is_dir():
            yield from (each for each in sorted(path.rglob("*")) if each.is_file() and "__pycache__" not in each.parts)
        elif path.is_file():
            yield path
        else:
            raise SweepError(f"code: no such file: {plainly(name)}; give paths from the folder of the sweep file")


def _read(folder: Path, paths: Sequence[Path]) -> SourceCode:
    files: dict[str, bytes] = {}
    for path in sorted({*paths}):
        if not path.resolve().is_relative_to(folder.resolve()):
            raise SweepError(f"code: {plainly(str(path))} is not below the folder of the sweep file; move it there")
        try:
            files[path.relative_to(folder).as_posix()] = path.read_bytes()
        except OSError as error:
            raise SweepError(f"code: {plainly(str(path))}: cannot be read: {error.strerror or error}") from error
    if sum(map(len, files.values())) > MAX_BYTES:
        raise SweepError(f"code: over {MAX_BYTES:,} bytes of files; name fewer under code:, data does not belong there")
    return SourceCode(folder, tuple(files.items()))
