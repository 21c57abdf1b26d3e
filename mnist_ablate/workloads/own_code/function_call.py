"""A user's function: imported once, then called in the child process of a trial, which sends what came out."""

import importlib
import inspect
import json
import os
import select
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, Any]  # JSON of one line, as it travels


def imported(
    folder: str, module: str, function: str, pickle: str = "", paths: Sequence[str] = ()
) -> tuple[Callable[..., Any] | None, str]:
    """The function, or why there is none. The folder of the sweep file comes first, so its `train.py` wins.

    `pickle` is the file of a function that lives in no module; `paths` are where it may import from beside the folder.
    """
    os.chdir(folder)
    sys.path[:] = [folder, *dict.fromkeys([*sys.path, *paths])]
    try:
        found: Any = _opened(pickle) if pickle else importlib.import_module(module)
        for part in function.split(".") if not pickle else ():
            found = getattr(found, part)
    except BaseException as error:  # noqa: BLE001 - a module may even call sys.exit
        traceback.print_exc()
        place = place_in(error, folder)
        return None, f"{place}{type(error).__name__}: {error}"
    return found, "" if callable(found) else f"{module}:{function} is no function"


def _opened(pickle: str) -> object:
    import cloudpickle

    return cloudpickle.loads(Path(pickle).read_bytes())


def place_in(error: BaseException, folder: str) -> str:
    """`file:line: ` of the last line of a traceback that is in the folder, else of the last line."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(folder)] or [
        frame for frame in frames if frame.filename != __file__
    ]
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}: " if own else ""


class _StopTraining(BaseException):
    """Raised by a second report after the trial was told to stop."""


def call(function: Callable[..., Any] | None, request: Message, messages: int, stop: int) -> None:
    """Call a users' function in the child, and send what it returns or raises."""
    out = os.fdopen(messages, "w", encoding="utf-8")
    told = False

    def send(message: Message) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    def report(step: int, metrics: Mapping[str, Any]) -> bool:
        """Tell the sweep the metrics of a step, such as an epoch. True says that the trial may stop here."""
        nonlocal told
        if told:
            raise _StopTraining
        send({"step": int(step), "metrics": numbers(metrics)})
        told = bool(select.select([stop], [], [], 0.0)[0])
        return told

    try:
        given = {"seed": request["seed"], "report": report, "trial_dir": Path(request["trial_dir"])}
        send(_result(_called(function, request["settings"], given), request["metric"]))
    except _StopTraining:
        send({"status": "pruned"})
    except SystemExit as error:
        send({"status": "failed", "reason": f"called sys.exit({error.code!r}) and returned no metrics"})
    except BaseException as error:  # noqa: BLE001 - whatever a function raises is its trial's outcome
        if type(error).__name__ == "TrialPruned":
            send({"status": "pruned"})
        else:
            place, text = place_in(error, request["folder"]), str(error)
            reason = f"{place}{type(error).__name__}" + (f": {text}" if text else "")
            send({"status": "failed", "reason": reason, "traceback": traceback.format_exc()})
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    out.close()
    os._exit(0)


def _called(function: Any, settings: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """Call it with what its parameters ask for: `settings` whole or one by one, `seed`, `report`, `trial_dir`."""
    values = {**settings, "settings": dict(settings), **given}
    positional: list[Any] = []
    named: Message = {}
    rest = dict(settings)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            named |= rest
        elif parameter.kind is parameter.VAR_POSITIONAL or name not in values:
            continue
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            positional.append(values[name])
        else:
            named[name] = values[name]
        rest.pop(name, None)
    return function(*positional, **named)


def _result(returned: Any, metric: str) -> Message:
    """The message for what a function returned. Raises TypeError for what has no metrics."""
    diagnostics: Message = {}
    if isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], Mapping):  # noqa: PLR2004 - a pair
        returned, diagnostics = returned[0], numbers(returned[1])
    history = getattr(returned, "history", None)
    if isinstance(history, Mapping):  # Keras
        returned = {name: values[-1] for name, values in history.items() if isinstance(values, Sequence) and values}
    if not isinstance(returned, Mapping):
        returned = {metric: returned}
    return {"metrics": numbers(returned), "diagnostics": diagnostics}


def numbers(values: Mapping[Any, Any]) -> dict[str, float]:
    """The same with every value as a float, from numbers and from arrays and tensors of one number.

    Raises TypeError for another value.
    """
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, str | bytes) or not hasattr(value, "__float__"):
            wanted = "return a mapping of metrics to numbers"
            raise TypeError(f"{name or 'the result'} is {type(value).__name__}, not a number; {wanted}")
        found[str(name)] = float(value)
    return found
