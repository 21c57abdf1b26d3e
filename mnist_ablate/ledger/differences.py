"""What differs between two registered sweeps, in words; decides nothing."""

from collections.abc import Iterator, Mapping
from typing import Any

_SHOWN = 3
_LONGEST = 60
_UNNAMED = ("", "sweep", "fixed", "scientific")
"""Sections whose keys say enough alone: `epochs 5 -> 8`."""


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """`epochs 5 -> 8, seeds 4 -> 6 and 2 more`; sources, and values that are equal as numbers, do not count."""
    before, after = dict(_flat(old)), dict(_flat(new))
    changes = [
        f"{name} {_shown(before.get(name))} -> {_shown(after.get(name))}"
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name) and name != "source"
    ]
    rest = len(changes) - _SHOWN
    return ", ".join(changes[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its path; an item of a list by its name, if it has one."""
    if isinstance(value, list) and value and all(isinstance(item, Mapping) and "name" in item for item in value):
        value = {item["name"]: item for item in value}
    if not isinstance(value, Mapping):
        yield path, value
        return
    for key, inner in value.items():
        yield from _flat(inner, key if path in _UNNAMED else f"{path}.{key}")


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
