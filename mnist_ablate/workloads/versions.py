"""Which versions of the packages that matter are installed here; imports none of them."""

import platform
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

_DECIDING = ("mnist-ablate", "keras", "numpy", "distributed", "tensorflow")
"""Packages that decide a trial's numbers, or whether a worker can be talked to."""
_ABSENT = "none"


def deciding_versions() -> dict[str, str]:
    """Version by name: Python to its minor number, packages in full, "none" for one that is not installed."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, **{name: _version_of(name) for name in _DECIDING}}


def installed_versions() -> dict[str, str]:
    """Version by name of everything that results may depend on, Python in full."""
    packages = {name: _version_of(name) for name in (*_DECIDING, "optuna", "mlflow")}
    return {**packages, "python": platform.python_version()}


def difference(wanted: Mapping[str, str], found: Mapping[str, str]) -> str:
    """What differs, in words. Empty if nothing does."""
    pairs = ((name, found.get(name, _ABSENT), value) for name, value in wanted.items())
    return ", ".join(f"{name} {here} and the driver {value}" for name, here, value in pairs if here != value)


def _version_of(package: str) -> str:
    for name in ("tensorflow-cpu", "tensorflow") if package == "tensorflow" else (package,):
        with suppress(PackageNotFoundError):
            return version(name)
    return _ABSENT
