"""What explains the results, from the trials' diagnostics: each normalizer's inputs, dead and always-on units."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from mnist_ablate.reports.axes import Axis
from mnist_ablate.reports.drawing import line, minus
from mnist_ablate.reports.markup import Markup, element, join, table
from mnist_ablate.reports.recorded import Recorded
from mnist_ablate.text import arm_name
from mnist_ablate.trial import RecordedTrial
from mnist_ablate.workloads.keras_mnist import input_words

MOST_LAYERS = 6
_INPUTS = {
    "input_min": "lowest",
    "input_max": "highest",
    "input_mean": "mean",
    "input_std": "std",
    "input_offset": "|mean| / std",
    "input_energy": "energy",
}
_UNITS = re.compile(r"(dead|always_on)_(.+)_(start|end)")
_STRIP = 230.0  # pixels
_WHOLE = 1e4  # from here on, no digits after the point
_KINDS = {"dead": "Dead units: positive for no image", "always_on": "Always-on units: positive for every image"}


def gate(prints: Sequence[input_words.Print]) -> Markup:
    """Every normalizer's numbers on the training images with its flags, and what the flags rest on."""
    rows = [_flags_first(tuple(map(minus, input_words.cells(found)))) for found in prints]
    reasons = element("ul", *(element("li", text) for text in input_words.paths(prints)), class_="fine")
    note = element("p", f"{input_words.TITLE}. {input_words.GLOSSARY}", class_="fine")
    return join(
        [
            note,
            table(_flags_first(input_words.HEADS), rows, numbers_from=2, caption="Fingerprints by normalizer"),
            reasons,
        ]
    )


def _flags_first(cells: Sequence[str]) -> tuple[str, ...]:
    """What matters most beside the name: a wide table's last column may need scrolling."""
    return cells[0], cells[-1], *cells[1:-1]


def fingerprints(recorded: Recorded) -> Markup | None:
    """A row for each normalizer: range, mean and spread of the training inputs; None if none was recorded."""
    found: dict[str, list[RecordedTrial]] = {}
    for entry in recorded.entries:
        if "input_mean" in entry.outcome.diagnostics:
            found.setdefault(str(entry.trial.settings["normalizer"]), []).append(entry)
    if not found:
        return None
    means = {name: {key: _mean(entries, key) for key in _INPUTS} for name, entries in found.items()}
    ends = [value for each in means.values() for key in ("input_min", "input_max") if (value := each[key]) is not None]
    axis = Axis(min([*ends, -1.0]), max([*ends, 1.0]), 4.0, _STRIP - 4.0, math.asinh)
    rows = [(name, _strip(each, axis), *map(_shown, each.values())) for name, each in means.items()]
    return table(("normalizer", "inputs", *_INPUTS.values()), rows, numbers_from=2, caption="Inputs by normalizer")


def _strip(values: Mapping[str, float | None], axis: Axis) -> Markup:
    """Range as a line, mean plus and minus one standard deviation as a box, zero as a mark."""
    low, high, mean, std = (values[key] or 0.0 for key in ("input_min", "input_max", "input_mean", "input_std"))
    left, right = axis.at(max(mean - std, low)), axis.at(min(mean + std, high))
    return element(
        "svg",
        line(axis.at(0.0), 1.0, axis.at(0.0), 21.0, "zero"),
        line(axis.at(low), 11.0, axis.at(high), 11.0, "ci arm"),
        element("rect", x=left, y=6.0, width=max(right - left, 1.0), height=10.0, class_="box"),
        line(axis.at(mean), 4.0, axis.at(mean), 18.0, "ci arm"),
        viewBox=f"0 0 {_STRIP:g} 22",
        class_="strip",
        aria_hidden="true",
    )


def units(arms: Sequence[Mapping[str, Any]], recorded: Recorded) -> list[Markup]:
    """A table for dead and one for always-on units: the fraction by layer, before training and after it."""
    return [made for kind in _KINDS if (made := _units(kind, arms, recorded)) is not None]


def _units(kind: str, arms: Sequence[Mapping[str, Any]], recorded: Recorded) -> Markup | None:
    found = {arm_name(arm["params"]): recorded.arm(arm["params"]) for arm in arms}
    layers = _layers(kind, (entry for entries in found.values() for entry in entries))
    if not layers:
        return None
    rows = [(name, *(_change(entries, f"{kind}_{layer}") for layer in layers)) for name, entries in found.items()]
    heads = ("arm", *(layer.replace("_", " ") for layer in layers))
    return table(heads, rows, numbers_from=1, caption=_KINDS[kind])


def gradients(arms: Sequence[Mapping[str, Any]], recorded: Recorded) -> Markup | None:
    """The gradient's norm at the start and the end of training; None if it was not recorded."""
    rows = []
    for arm in arms:
        entries = recorded.arm(arm["params"])
        ends = [_mean(entries, f"gradient_norm_{when}") for when in ("start", "end")]
        if any(value is not None for value in ends):
            rows.append((arm_name(arm["params"]), *map(_shown, ends)))
    heads = ("arm", "before training", "after training")
    return table(heads, rows, numbers_from=1, caption="Norm of the gradient") if rows else None


def _layers(kind: str, entries: Iterator[RecordedTrial]) -> list[str]:
    names = {key for entry in entries for key in entry.outcome.diagnostics}
    matches = (_UNITS.fullmatch(name) for name in names)
    return sorted({match[2] for match in matches if match and match[1] == kind})[:MOST_LAYERS]


def _change(entries: Sequence[RecordedTrial], name: str) -> Markup:
    """Percent before and after; the darker, the more after."""
    start, end = (_mean(entries, f"{name}_{when}") for when in ("start", "end"))
    if start is None and end is None:
        return element("span", "\N{EN DASH}")
    said = " \N{RIGHTWARDS ARROW} ".join("?" if value is None else f"{value:.1%}" for value in (start, end))
    return element("span", said, class_="heat", style=f"--v:{max(0.0, min(1.0, end or 0.0)):.3f}")


def _mean(entries: Sequence[RecordedTrial], name: str) -> float | None:
    values = [found[name] for entry in entries if name in (found := entry.outcome.diagnostics)]
    return fmean(values) if values else None


def _shown(value: float | None) -> str:
    if value is None:
        return "\N{EN DASH}"
    return minus(f"{value:,.0f}" if abs(value) >= _WHOLE else f"{value:.3g}")
