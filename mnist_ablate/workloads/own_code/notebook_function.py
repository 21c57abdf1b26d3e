"""A function that lives in no file, such as one of a notebook's cells: its digest, and its bytes for workers."""

import dis
import hashlib
import io
import pickle
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from mnist_ablate.errors import SweepError
from mnist_ablate.workloads.own_code import source_code
from mnist_ablate.workloads.own_code.signature import Signature, signature_of

MARK = "<function>:"
"""What `train` begins with in the record of a sweep that trains such a function. No module has this name."""


@dataclass(frozen=True)
class NotebookFunction:
    """A function as it was when the sweep began, and the modules that it uses. Any callable will do."""

    function: Callable[..., Any]
    name: str
    signature: Signature

    @property
    def text(self) -> str:
        """What `train` says of it in the record of its sweep."""
        return f"{MARK}{self.name}"

    def in_folder(self, folder: Path, named: tuple[str, ...]) -> tuple["SentFunction", source_code.SourceCode]:
        """What workers get: its bytes and digest, and its own modules below the folder. Raises SweepError."""
        modules = sorted(_modules(self.function))
        return (
            SentFunction(pickled(self.function), function_digest(self.function)),
            source_code.of_modules(folder, modules, named),
        )


@dataclass(frozen=True)
class SentFunction:
    """The bytes of a function, which another process can open, and the digest of what it does."""

    content: bytes
    digest: str


def notebook_function(function: Callable[..., Any]) -> NotebookFunction:
    """A function that a sweep is to train. Raises SweepError if it cannot be used."""
    name = _name(function).strip("<>")
    return NotebookFunction(function, name, signature_of(function, name))


def pickled(function: Callable[..., Any]) -> bytes:
    """The function with all that it refers to. Raises SweepError that names the variable which cannot be sent."""
    try:
        content = _dumped(function)
    except Exception as error:
        for name, value in _all_variables(function):
            try:
                _dumped(value)
            except Exception as reason:  # noqa: BLE001 - as above
                where = f"{_name(function)} uses {name} ({type(value).__name__}), which cannot be sent to a worker"
                raise SweepError(f"{where}: {reason}; make it inside the function") from None
        raise SweepError(f"{_name(function)} cannot be sent to a worker: {error}") from error
    if len(content) > source_code.MAX_BYTES:
        sizes = {name: len(_dumped(value)) for name, value in _all_variables(function)}
        largest = max(sizes, key=sizes.__getitem__, default="")
        holds = f"{_name(function)} holds {len(content):,} bytes" + (f", {largest} most of them" if largest else "")
        raise SweepError(f"{holds}; at most {source_code.MAX_BYTES:,} are sent: load the data inside the function")
    return content


def _dumped(value: object) -> bytes:
    """What cloudpickle makes of a value; it leaves functions with a cache to us."""
    import cloudpickle

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]  # cloudpickle ships no types
        def reducer_override(self, each: Any) -> Any:
            if isinstance(each, _Cached) and _is_own(each.__wrapped__):
                return _cached, (each.__wrapped__, each.cache_parameters())
            return super().reducer_override(each)

    stream = io.BytesIO()
    Pickler(stream).dump(value)
    return stream.getvalue()


def _cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Callable[..., Any]:
    found: Callable[..., Any] = lru_cache(**parameters)(function)
    return found


_Cached = type(lru_cache(len))


def function_digest(function: Callable[..., Any]) -> str:
    """The sha256 of what the function does: its code, its defaults, the variables, functions, classes it refers to.

    It is the same in another session and in another cell. What is installed counts by its name. A value that is not
    the same when it is pickled again gives another digest, and then the trials are trained anew.
    """
    return _Digest().of(function)


class _Digest:
    """Digests values by what they are made of. A value that holds itself counts by its place."""

    def __init__(self) -> None:
        self._inside: dict[int, int] = {}
        self._known: dict[int, tuple[object, str]] = {}  # the object is kept, so that no other gets its id

    def of(self, value: object) -> str:
        if id(value) in self._known:
            return self._known[id(value)][1]
        if id(value) in self._inside:
            return f"inside {self._inside[id(value)]}"
        self._inside[id(value)] = len(self._inside)
        found = hashlib.sha256(type(value).__qualname__.encode())
        for part in self._parts(value):
            found.update(part.encode() + b"\0" if isinstance(part, str) else part)
        del self._inside[id(value)]
        digest = found.hexdigest()
        self._known[id(value)] = value, digest
        return digest

    def _parts(self, value: Any) -> Iterator[str | bytes]:  # noqa: C901, PLR0912 - one case a kind of value
        if isinstance(value, ModuleType):
            yield value.__name__
        elif isinstance(value, partial):
            yield from map(self.of, (value.func, value.args, value.keywords))
        elif isinstance(value, MethodType):
            yield from map(self.of, (value.__func__, value.__self__))
        elif isinstance(value, CodeType):
            yield from self._code(value)
        elif isinstance(value, tuple | list):
            yield from map(self.of, value)
        elif isinstance(value, dict):
            yield from (self.of(each) for item in value.items() for each in item)
        elif isinstance(value, set | frozenset):
            yield from sorted(map(self.of, value))
        elif isinstance(value, FunctionType | type | BuiltinFunctionType) and not _is_own(value):
            yield f"{value.__module__}.{value.__qualname__}"
        elif isinstance(value, FunctionType):
            yield from map(self.of, (value.__code__, value.__defaults__, value.__kwdefaults__))
            yield from self._named(_variables(value))
        elif isinstance(value, type):
            yield from map(self.of, value.__bases__)
            own = {name: each for name, each in vars(value).items() if name not in _OF_CLASSES}
            yield from self._named(own.items())
        elif isinstance(value, staticmethod | classmethod):
            yield self.of(value.__func__)
        elif isinstance(value, property):
            yield from map(self.of, (value.fget, value.fset, value.fdel))
        elif hasattr(value, "__wrapped__"):  # such as a cached function
            yield self.of(value.__wrapped__)
        else:
            is_own = _is_own(type(value))
            yield from [self.of(type(value))] if is_own else []
            yield from self._named(vars(value).items()) if is_own and hasattr(value, "__dict__") else [_bytes(value)]

    def _named(self, items: Any) -> Iterator[str]:
        for name, value in items:
            yield from (str(name), self.of(value))

    def _code(self, code: CodeType) -> Iterator[str | bytes]:
        """What a code object does, without its file and its lines."""
        yield code.co_code
        yield code.co_exceptiontable
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        yield repr((*names, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags))
        yield self.of(code.co_consts)


_OF_CLASSES = {
    *("__dict__", "__weakref__", "__module__", "__firstlineno__", "__static_attributes__"),
    *("__abstractmethods__", "_abc_impl", "__annotate_func__", "__annotations_cache__"),
}
"""What Python itself puts into classes, and what differs between sessions."""


def _bytes(value: object) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception:  # noqa: BLE001 - such as an object that holds a lambda
        return _dumped(value)


def _is_own(value: Any) -> bool:
    """Whether a function or a class is the user's: written in a notebook or a file, not installed, not built in."""
    module = sys.modules.get(getattr(value, "__module__", None) or "__main__")
    path = getattr(module, "__file__", None)
    if path is None:
        return module is None or module.__name__ == "__main__"
    installed = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return "site-packages" not in Path(path).parts and not any(Path(path).is_relative_to(each) for each in installed)


def _plain(function: Any) -> Any:
    """The function inside a partial, a method or a callable object."""
    while not isinstance(function, FunctionType):
        inner = getattr(function, "func", getattr(function, "__func__", None))
        if inner is None:
            call = vars(function).get("__init__") if isinstance(function, type) else type(function).__call__
            return call if isinstance(call, FunctionType) else None
        function = inner
    return function


def _variables(function: Any) -> Iterator[tuple[str, object]]:
    """The variables from outside that a function refers to, also from functions inside it."""
    if not isinstance(function, FunctionType):
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not bound yet
            continue
    loads = ("LOAD_GLOBAL", "LOAD_NAME")
    for name in dict.fromkeys(name for code in _codes(function.__code__) for name in _arguments(code, *loads)):
        if name in function.__globals__:
            yield name, function.__globals__[name]


def _all_variables(function: Any) -> Iterator[tuple[str, object]]:
    """Those of a callable: of an object its attributes, of a partial its arguments, then those of the function."""
    if isinstance(function, partial):
        yield from ((f"argument {number}", each) for number, each in enumerate(function.args, 1))
        yield from function.keywords.items()
        yield from _all_variables(function.func)
        return
    holder = getattr(function, "__self__", function)
    if not isinstance(holder, FunctionType | type | ModuleType):
        yield from ((f"self.{name}", each) for name, each in getattr(holder, "__dict__", {}).items())
    for name, value in _variables(_plain(function)):
        if isinstance(value, FunctionType) and _is_own(value) and value is not function:
            yield from _variables(value)
        yield name, value


def _modules(function: Any) -> set[str]:
    """The modules that a function and the user's own functions and classes that it uses are in, or import."""
    found: set[str] = set()
    seen: list[object] = []
    waiting: list[Any] = [function]
    while waiting:
        value = waiting.pop()
        if any(value is each for each in seen):
            continue
        seen.append(value)
        if isinstance(value, ModuleType):
            found.add(value.__name__)
            continue
        plain = _plain(value) if callable(value) and not isinstance(value, type) else value
        if isinstance(plain, FunctionType | type) and _is_own(plain):
            found.add(plain.__module__ or "")
            inner = [each for each in vars(plain).values() if isinstance(each, FunctionType)]
            waiting += inner if isinstance(plain, type) else [each for _, each in _variables(plain)]
        elif not callable(value) and _is_own(type(value)):
            waiting.append(type(value))
        if isinstance(plain, FunctionType) and _is_own(plain):
            found |= {name for code in _codes(plain.__code__) for name in _arguments(code, "IMPORT_NAME")}
    return found - {"", "__main__"}


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and those inside it."""
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


def _arguments(code: CodeType, *operations: str) -> Iterator[str]:
    """The names that these operations of a code object work on."""
    return (each.argval for each in dis.get_instructions(code) if each.opname in operations)


def _name(function: Any) -> str:
    while isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))
