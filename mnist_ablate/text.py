"""Counts, arms and values as text, for reports and messages alike; knows no metrics and no verdicts."""

from collections.abc import Mapping


def counted(n: int, noun: str) -> str:
    """How many of what: `1 seed`, `2 seeds`, `1,000 seeds`."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def arm_name(params: Mapping[str, object]) -> str:
    """An arm in words: those as they are, other values with their factor: `centered dropout=0.5`."""
    return " ".join(v if isinstance(v, str) else f"{name}={value_name(v)}" for name, v in params.items())


def value_name(value: object) -> str:
    """A factor's value; of a number the digits that matter."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
