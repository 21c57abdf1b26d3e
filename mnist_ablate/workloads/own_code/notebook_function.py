"""A function that lives in no file, such as one of a notebook's cells: its digest, and its bytes for workers."""

import hashlib
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from mnist_ablate.errors import SweepError


def pickled(function: Callable[..., Any]) -> bytes:
    """The function with all that it refers to. Raises SweepError that names the variable which cannot be sent."""
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(function))
    except Exception as error:
        for name, value in _variables(_plain(function)):
            try:
                cloudpickle.dumps(value)
            except Exception as reason:  # noqa: BLE001 - as above
                where = f"{_name(function)} uses {name} ({type(value).__name__}), which cannot be sent to a worker"
                raise SweepError(f"{where}: {reason}; make it inside the function") from error
        raise SweepError(f"{_name(function)} cannot be sent to a worker: {error}") from error


def function_digest(function: Callable[..., Any]) -> str:
    """The sha256 of what the function does: its code, its defaults, the variables and functions that it refers to.

    It is the same in another session and in another cell. Modules count by their name. A value that is not the same
    when it is pickled again gives another digest, and then the trials are trained anew.
    """
    found = hashlib.sha256()
    for part in _content(function, set()):
        found.update(part + b"\0")
    return found.hexdigest()


def _content(value: object, seen: set[int]) -> Iterator[bytes]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, partial):
        yield from _content((value.func, value.args, value.keywords), seen)
    elif isinstance(value, MethodType):
        yield from _content((value.__func__, value.__self__), seen)
    elif isinstance(value, FunctionType):
        yield from _code_content(value.__code__)
        yield from _content((value.__defaults__, value.__kwdefaults__), seen)
        for name, each in _variables(value):
            yield name.encode()
            yield from _content(each, seen)
    elif isinstance(value, ModuleType):
        yield value.__name__.encode()
    elif isinstance(value, tuple | list | dict):
        for each in value.items() if isinstance(value, dict) else value:
            yield from _content(each, seen)
    else:
        yield _value(value)


def _code_content(code: CodeType) -> Iterator[bytes]:
    """What a code object does, without its file and its lines."""
    yield code.co_code
    yield repr((code.co_names, code.co_varnames, code.co_freevars)).encode()
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _code_content(each)
        else:
            yield repr(each).encode()


def _value(value: object) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception:  # noqa: BLE001 - an object of a notebook's own class
        import cloudpickle

        return bytes(cloudpickle.dumps(value))


def _plain(function: Any) -> Any:
    """The function inside a partial, a method or a decorated one."""
    while not isinstance(function, FunctionType):
        inner = getattr(function, "func", getattr(function, "__func__", None))
        if inner is None:
            return type(function).__call__ if not isinstance(function, type) else function
        function = inner
    return function


def _variables(function: Any) -> Iterator[tuple[str, object]]:
    """The variables from outside that a function refers to, also from functions inside it."""
    if not isinstance(function, FunctionType):
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield name, cell.cell_contents
    for name in dict.fromkeys(_global_names(function.__code__)):
        if name in function.__globals__:
            yield name, function.__globals__[name]


def _global_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _global_names(each)


def _name(function: object) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
