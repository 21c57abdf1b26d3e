"""Metrics, differences, counts and arms as text: accuracies in percent and percentage points; knows no verdicts."""

from collections.abc import Mapping

PERCENT = "accuracy"
"""A metric whose name ends so is a fraction, shown in percent."""


def number(metric: str, value: float | None) -> str:
    """Accuracies in percent to two digits, anything else to four significant ones."""
    if value is None:
        return "-"
    return f"{value:.2%}" if metric.endswith(PERCENT) else f"{value:.4g}"


def unit(metric: str) -> str:
    """What a difference is measured in, ready to follow its number: percentage points, or nothing."""
    return " pp" if metric.endswith(PERCENT) else ""


def effect(metric: str, value: float | None, digits: int = 2) -> str:
    """A difference with its sign and unit; accuracies in percentage points."""
    return "-" if value is None else f"{signed(metric, value, digits)}{unit(metric)}"


def signed(metric: str, value: float, digits: int = 2) -> str:
    """The same without the unit."""
    if not metric.endswith(PERCENT):
        return f"{value + 0.0:+.4g}"
    return f"{round(100 * value, digits) + 0.0:+.{digits}f}"  # + 0.0: no -0


def counted(n: int, noun: str) -> str:
    """How many of what: `1 seed`, `2 seeds`, `1,000 seeds`."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def arm_name(params: Mapping[str, object]) -> str:
    """An arm in words: those as they are, other values with their factor: `centered dropout=0.5`."""
    return " ".join(v if isinstance(v, str) else f"{name}={value_name(v)}" for name, v in params.items())


def value_name(value: object) -> str:
    """A factor's value; of a number the digits that matter."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
