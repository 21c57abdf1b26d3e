"""The settings of a Python function, from its source or from itself: names, types, choices, defaults. It never runs."""

import ast
import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from mnist_ablate.errors import SweepError
from mnist_ablate.text import hint
from mnist_ablate.trial import Scalar
from mnist_ablate.workloads.own_code.declaration import KINDS, Setting

GIVEN = ("settings", "seed", "report", "trial_dir")
"""Parameters that the sweep fills in itself."""
_ASYNC = "is async; give an ordinary function, which may call asyncio.run"
_GENERATOR = "is a generator; return the metrics, and call report(step, metrics) on the way"
_REQUIRED = inspect.Parameter.empty
_SCALARS = (str, int, float, bool)


@dataclass(frozen=True)
class Signature:
    """The settings that a function declares. If `is_open`, it takes others as well, which the sweep file names.

    It takes the `optional` ones only where the sweep names them: their defaults are no single values.
    """

    settings: Mapping[str, Setting]
    is_open: bool
    takes_seed: bool
    optional: Mapping[str, Setting] = dataclasses.field(default_factory=dict)


def read_signature(source: str, where: str, function: str) -> Signature:
    """The signature of a function in a module's source.

    Raises SweepError with the place if the source cannot be parsed, lacks the function, or the function cannot be used.
    """
    try:
        module = ast.parse(source, where)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise SweepError(f"{where}{f':{line}' if line else ''}: no Python: {getattr(error, 'msg', error)}") from None
    found = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assigned = {name for node in module.body for name in _assigned(node)}
    if function in found:
        return _signature(found[function], module, where)
    if function in assigned:  # a partial, a lambda, an object: its parameters are only known when it is run
        return Signature({}, is_open=True, takes_seed=True)
    raise SweepError(f"{where}: no function {function}; {hint(function, found, 'functions')}")


def signature_of(function: Callable[..., Any], name: str) -> Signature:
    """The same of a function that is there. Raises SweepError if it cannot be used."""
    called = function if inspect.isroutine(function) or isinstance(function, partial) else type(function).__call__
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called):
        raise SweepError(f"{name} {_ASYNC}")
    if inspect.isgeneratorfunction(function) or inspect.isgeneratorfunction(called):
        raise SweepError(f"{name} {_GENERATOR}")
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # of a built-in one nothing is known
        return Signature({}, is_open=True, takes_seed=True)
    hints = _type_hints(function)
    plain = [each for each in parameters.values() if each.kind not in {each.VAR_POSITIONAL, each.VAR_KEYWORD}]
    is_open = "settings" in parameters or len(plain) < len(parameters)
    whole = hints.get("settings") if "settings" in parameters else None
    fields = _declared_fields(whole) if isinstance(whole, type) else {}
    values = {each.name: each.default for each in plain if each.name not in GIVEN}
    optional = {name for name, value in values.items() if not isinstance(value, _SCALARS) and value is not _REQUIRED}
    found = {name: _setting_of(hints.get(name), value) for name, value in values.items()}
    return Signature(
        {**fields, **{name: each for name, each in found.items() if name not in optional}},
        is_open=is_open and not fields,
        takes_seed="seed" in parameters or is_open,
        optional={name: found[name] for name in optional},
    )


def _type_hints(function: Any) -> Mapping[str, Any]:
    """The annotations, also those of what a partial or an object calls; none where they cannot be worked out."""
    while isinstance(function, partial):
        function = function.func
    calls: tuple[Any, ...] = (function, type(function).__call__)
    for each in calls:
        try:
            if found := typing.get_type_hints(inspect.unwrap(each)):
                return found
        except (TypeError, NameError, AttributeError):
            continue
    return {}


def _declared_fields(holder: type) -> Mapping[str, Setting]:
    """The settings that a dataclass or a TypedDict declares."""
    hints = typing.get_type_hints(holder)
    return {name: _setting_of(hint, getattr(holder, name, _REQUIRED)) for name, hint in hints.items()}


def _setting_of(annotation: Any, default: Any) -> Setting:
    """A setting from its annotation and default, as far as these say something."""
    value = default if isinstance(default, _SCALARS) else None
    if typing.get_origin(annotation) is typing.Literal:
        return Setting(choices=[each for each in typing.get_args(annotation) if each is not None], default=value)
    kinds = [name for name, kind in KINDS.items() if kind in (annotation, *typing.get_args(annotation))]
    kinds = kinds or [name for name, kind in KINDS.items() if type(value) is kind]
    if "float" in kinds and type(value) is int:
        value = float(value)
    return Setting.model_validate({"type": kinds[0] if kinds else None, "default": value})


def _assigned(node: ast.stmt) -> Iterator[str]:
    """The names that a statement at the top of a module binds."""
    if isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in node.names)


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef, module: ast.Module, where: str) -> Signature:
    place = f"{where}:{node.lineno}: {node.name}"
    if isinstance(node, ast.AsyncFunctionDef):
        raise SweepError(f"{place} {_ASYNC}")
    if any(isinstance(each, ast.Yield | ast.YieldFrom) for each in _own_nodes(node)):
        raise SweepError(f"{place} {_GENERATOR}")
    if node.decorator_list:  # it can change the parameters
        return Signature({}, is_open=True, takes_seed=True)
    arguments = node.args
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(arguments.defaults)) + [*arguments.defaults]
    pairs = [*zip(plain, defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    names = [argument.arg for argument, _ in pairs]
    settings = {
        argument.arg: _setting(argument.annotation, default) for argument, default in pairs if argument.arg not in GIVEN
    }
    whole = next((argument for argument, _ in pairs if argument.arg == "settings"), None)
    if whole is not None and (fields := _fields(whole.annotation, module)):
        return Signature({**fields, **settings}, is_open=False, takes_seed="seed" in names)
    is_open = whole is not None or arguments.kwarg is not None
    return Signature(settings, is_open, takes_seed="seed" in names or arguments.kwarg is not None)


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Every node of a function but those of functions inside it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield child
            yield from _own_nodes(child)


def _fields(annotation: ast.expr | None, module: ast.Module) -> Mapping[str, Setting]:
    """The settings that a class of the same module declares, such as a dataclass or a TypedDict."""
    name = annotation.id if isinstance(annotation, ast.Name) else ""
    classes = (node for node in module.body if isinstance(node, ast.ClassDef) and node.name == name)
    return {
        each.target.id: _setting(each.annotation, each.value)
        for node in classes
        for each in node.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    }


def _setting(annotation: ast.expr | None, default: ast.expr | None) -> Setting:
    """A setting from its annotation and default, as far as these can be read."""
    value = _literal(default)
    if isinstance(annotation, ast.Name) and annotation.id in KINDS:
        kind = annotation.id
        value = float(value) if kind == "float" and isinstance(value, int) and not isinstance(value, bool) else value
        return Setting.model_validate({"type": kind, "default": value})
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).endswith("Literal"):
        inner = annotation.slice
        choices = [_literal(each) for each in (inner.elts if isinstance(inner, ast.Tuple) else [inner])]
        return Setting(choices=[each for each in choices if each is not None], default=value)
    kinds = [name for name, each in KINDS.items() if type(value) is each]
    return Setting.model_validate({"type": kinds[0] if kinds else None, "default": value})


def _literal(node: ast.expr | None) -> Scalar | None:
    """A number, a text, true or false as it is written; nothing for all else."""
    try:
        value = ast.literal_eval(node) if node is not None else None
    except ValueError:
        return None
    return value if isinstance(value, str | int | float | bool) else None
