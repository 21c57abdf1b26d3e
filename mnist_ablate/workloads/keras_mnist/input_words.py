"""Fingerprints of normalizers in words and cells, the same in every report; measures and judges nothing."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mnist_ablate.workloads.keras_mnist.data_gate import SEVERE

Print = Mapping[str, Any]
"""What `Fingerprint.document` gives."""

HEADS = (
    "normalizer",
    "lowest",
    "highest",
    "mean",
    "std",
    "|mean| / std",
    "energy",
    "top eigenvalue",
    "ratio to the next",
    "dead",
    "always on",
    "flags",
)
TITLE = "Inputs of the first layer, from the training images, before anything is trained"
GLOSSARY = (
    "Energy: E|x|^2 of an image; top eigenvalue: of E[xx'], with its ratio to the next; dead, always on: units of the"
    " first layer at initialization, if it is relu, that are positive for none or all of 2,000 images."
)
_NUMBERS = ("min", "max", "mean", "std", "offset", "energy", "top_eigenvalue", "eigenvalue_ratio")
_WHOLE = 1e3  # from here on, no digits after the point
_TINY = 1e-6  # what float32 leaves of zero


def cells(found: Print) -> tuple[str, ...]:
    """One for each of HEADS."""
    numbers = (_number(found[name]) for name in _NUMBERS)
    return (found["normalizer"], *numbers, _share(found["dead"]), _share(found["always_on"]), named(found))


def named(found: Print) -> str:
    """The flags by name: `wrapped, not centered`; a dash for none."""
    return ", ".join(flag["name"] for flag in found["flags"]) or "-"


def lines(found: Print) -> Iterator[str]:
    """For a terminal: its name and range first, its flags last, each with its reason."""
    low, high, mean, std, offset, energy, top, ratio = (_number(found[name]) for name in _NUMBERS)
    yield f"{low} to {high}, mean {mean}, std {std}, |mean|/std {offset}, energy {energy}"
    dead, always_on = _share(found["dead"]), _share(found["always_on"])
    yield f"top eigenvalue {top}, {ratio} x the next; {dead} dead, {always_on} always on"
    yield found["dtypes"]
    yield from (f"{flag['name'].upper()}: {flag['reason']}" for flag in found["flags"])


def paths(prints: Sequence[Print]) -> Iterator[str]:
    """The path of the arithmetic and the reasons of the flags, a line for each normalizer."""
    for found in prints:
        reasons = [f"{flag['name']} ({flag['reason']})" for flag in found["flags"]]
        yield "; ".join([f"{found['normalizer']}: {found['dtypes']}", *reasons])


def damage(prints: Sequence[Print]) -> Iterator[str]:
    """The normalizers that damage the images: a reader must know them before any verdict."""
    for found in prints:
        for flag in found["flags"]:
            if flag["name"] in SEVERE:
                yield f"normalizer {found['normalizer']} is {flag['name']}: {flag['reason']}"


def _number(value: float) -> str:
    if abs(value) < _TINY:
        return "0"
    return f"{value:,.0f}" if abs(value) >= _WHOLE else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
