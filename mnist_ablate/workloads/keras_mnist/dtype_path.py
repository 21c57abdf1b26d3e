"""The dtypes that an array goes through in a function, as numpy's operations show them; knows no normalizer."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Step = tuple[str, str]
"""A dtype and, unless it is only converted to, the operation whose result has it."""


class _Traced(np.ndarray[Any, np.dtype[Any]]):
    """An array that notes in `steps`, which its views and results share, what is done to it."""

    steps: list[Step]

    def __array_finalize__(self, source: Any) -> None:
        self.steps = getattr(source, "steps", [])

    def __array_ufunc__(self, ufunc: np.ufunc, method: Any, *inputs: Any, **options: Any) -> Any:
        steps = self.steps
        if "out" in options:
            options["out"] = tuple(map(_plain, options["out"]))
        result = getattr(ufunc, method)(*map(_plain, inputs), **options)
        if not isinstance(result, np.ndarray):
            return result
        steps.append((str(result.dtype), ufunc.__name__))
        traced = result.view(_Traced)
        traced.steps = steps
        return traced


def dtype_path(function: Callable[[Any], Any], array: npt.NDArray[Any]) -> str:
    """`uint8 -> uint8 (subtract) -> float64 (divide) -> float32`; what other libraries do in between is not seen."""
    traced = array.copy().view(_Traced)
    traced.steps = steps = [(str(array.dtype), "")]
    steps.append((str(function(traced).dtype), ""))
    parts: list[tuple[str, list[str]]] = []
    for dtype, operation in steps:
        if operation and parts and parts[-1][0] == dtype and parts[-1][1]:
            parts[-1][1].append(operation)
        elif operation or not parts or parts[-1][0] != dtype:
            parts.append((dtype, [operation] if operation else []))
    return " -> ".join(f"{dtype} ({', '.join(done)})" if done else dtype for dtype, done in parts)


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, _Traced) else value
