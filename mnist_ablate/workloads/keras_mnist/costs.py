"""What a network costs: parameters and multiply-adds of its graph, and this process's memory. Trains nothing."""

import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

_PEAK_SINCE_RESET = "5"  # what /proc/self/clear_refs takes to forget the peak


def multiply_adds(graph: Any) -> float:
    """Of an image, in a forward pass of two: of matrix products and convolutions; nan if their shapes are open."""
    nested = {node.op for function in graph.as_graph_def().library.function for node in function.node_def}
    if nested & _COUNTED.keys():
        return math.nan
    found = [_of_operation(each) for each in graph.get_operations() if each.type in _COUNTED]
    return math.fsum(found) / 2


def _of_operation(operation: Any) -> float:
    first, second = (each.shape for each in operation.inputs[:2])
    size = operation.outputs[0].shape.num_elements()
    if size is None or not (first.is_fully_defined() and second.is_fully_defined()):
        return math.nan
    return float(size * _COUNTED[operation.type](operation, first.as_list(), second.as_list()))


def _row_of_matrix(operation: Any, first: list[int], _second: list[int]) -> int:
    """The length of what is multiplied and added for an output."""
    return first[-2 if operation.get_attr("transpose_a") else -1]


_COUNTED: dict[str, Callable[[Any, list[int], list[int]], int]] = {
    "MatMul": _row_of_matrix,
    "BatchMatMulV2": lambda operation, first, _second: first[-2 if operation.get_attr("adj_x") else -1],
    "Conv2D": lambda _operation, _first, kernel: math.prod(kernel[:3]),
    "DepthwiseConv2dNative": lambda _operation, _first, kernel: math.prod(kernel[:2]),
}
"""By kind of operation, how many multiplications each number of its output takes."""


def forget_peak_memory() -> None:
    """Begin to measure the peak anew, where the system can do that."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text(_PEAK_SINCE_RESET, encoding="ascii")


def peak_memory() -> dict[str, float]:
    """The most memory that this process had since then, in bytes, as a metric; empty where the system does not say."""
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        found = next(line for line in lines if line.startswith("VmHWM:"))
        return {"peak_memory": 1024.0 * int(found.split()[1])}
    return {}
