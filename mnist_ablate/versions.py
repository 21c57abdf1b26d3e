"""Which versions of what decides a trial's numbers are installed here; imports none of it."""

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

_DECIDE = ("mnist-ablate", "keras", "numpy", "distributed")
_ABSENT = "none"


def versions() -> dict[str, str]:
    """Version by name: Python to its minor number, packages in full, "none" for one that is not installed."""
    python = ".".join(platform.python_version_tuple()[:2])
    tensorflow = next((found for name in ("tensorflow-cpu", "tensorflow") if (found := _of(name)) != _ABSENT), _ABSENT)
    return {"Python": python, **{name: _of(name) for name in _DECIDE}, "tensorflow": tensorflow}


def difference(wanted: Mapping[str, str], found: Mapping[str, str]) -> str:
    """What differs, in words; empty if nothing does."""
    return ", ".join(
        f"{name} {found.get(name, _ABSENT)} and the driver {value}"
        for name, value in wanted.items()
        if found.get(name, _ABSENT) != value
    )


def _of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return _ABSENT
