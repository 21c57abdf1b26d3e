"""What this workload adds to a report: the inputs of its networks, and their units and gradients."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from mnist_ablate.trial import RecordedTrial
from mnist_ablate.workloads.keras_mnist.data_gate import SEVERE
from mnist_ablate.workloads.workload import Contents, Curves, Section, Table

Print = Mapping[str, Any]
"""What `Fingerprint.document` gives."""
Arms = Mapping[str, Sequence[RecordedTrial]]
"""Finished trials by the name of their arm."""

MOST_LAYERS = 6
_LEAST_DEAD = 0.05
"""The scale of dead units goes at least so far: fractions of a percent are no mountains."""
_WHOLE = 1e4  # from here on, no digits after the point
_UNITS = re.compile(r"(dead|always_on)_(.+)_(start|end)")
_KINDS = {"dead": "Dead units: positive for no image", "always_on": "Always-on units: positive for every image"}
_INPUTS = {
    "input_min": "lowest",
    "input_max": "highest",
    "input_mean": "mean",
    "input_std": "std",
    "input_offset": "|mean| / std",
    "input_energy": "energy",
}
_DEAD_CAPTION = (
    "Thin lines: the seeds. Thick lines: their means. A unit is dead if it is positive for no validation image; the"
    " number is the mean over the hidden layers. It is recorded before the first epoch and after the last one, so the"
    " lines show how it changed in total, not how it went on."
)
_UNITS_INTRO = (
    "Means over seeds, before training and after it, on validation images. A dead relu unit is constant and does not"
    " learn. An always-on relu unit is linear."
)


_HEADS = (
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
_TITLE = "Inputs of the first layer, from the training images, before anything is trained"
_GLOSSARY = (
    "Energy: E|x|^2 of an image; top eigenvalue: of E[xx'], with its ratio to the next; dead, always on: units of the"
    " first layer at initialization, if it is relu, that are positive for none or all of 2,000 images."
)
_NUMBERS = ("min", "max", "mean", "std", "offset", "energy", "top_eigenvalue", "eigenvalue_ratio")
_NO_DIGITS = 1e3  # from here on, no digits after the point
_TINY = 1e-6  # what float32 leaves of zero


def input_alarms(contents: Contents) -> list[str]:
    """The normalizers that damage the images, a sentence each."""
    return [f"Data gate: {text}." for text in _damage(contents)]


def input_section(contents: Contents) -> Section:
    """Every normalizer's numbers on the training images with its flags, and what the flags rest on."""
    rows = tuple(_flags_first(_cells(each)) for each in contents)
    table = Table(_flags_first(_HEADS), rows, "Fingerprints by normalizer", numbers_from=2)
    return Section(
        "gate",
        "Data gate",
        intro=f"{_TITLE}.",
        tables=(table,),
        lines=tuple(_paths(contents)),
        notes=(_GLOSSARY,),
        short={str(each["normalizer"]): [*_lines(each)] for each in contents},
    )


def _flags_first(cells: Sequence[str]) -> tuple[str, ...]:
    """What matters most stands beside the name: the last column of a wide table may need scrolling."""
    return cells[0], cells[-1], *cells[1:-1]


def diagnostic_sections(arms: Arms) -> list[Section]:
    """Dead units over training, the inputs of the network, and its units by layer; those that were recorded."""
    return [*_dead_curves(arms), *_inputs(arms), *_inside(arms)]


def _dead_curves(arms: Arms) -> Iterator[Section]:
    points = {
        name: {each.trial.seed: ends for each in trials if (ends := dead_units(each))} for name, trials in arms.items()
    }
    points = {name: seeds for name, seeds in points.items() if seeds}
    if points:
        chart = Curves("dead units", ("before", "after"), points, _DEAD_CAPTION, is_share=True, at_least=_LEAST_DEAD)
        yield Section("dead", "Dead units", charts=(chart,))


def dead_units(entry: RecordedTrial) -> list[tuple[float, float]]:
    """The mean over the layers of a trial, at 0 before training and at 1 after it; nothing unless both are known."""
    found = entry.outcome.diagnostics
    ends = [
        [value for name, value in found.items() if name.startswith("dead_") and name.endswith(f"_{when}")]
        for when in ("start", "end")
    ]
    return [(float(place), fmean(values)) for place, values in enumerate(ends)] if all(ends) else []


def _inputs(arms: Arms) -> Iterator[Section]:
    found: dict[str, list[RecordedTrial]] = {}
    for entry in (each for trials in arms.values() for each in trials):
        if "input_mean" in entry.outcome.diagnostics:
            found.setdefault(str(entry.trial.settings["normalizer"]), []).append(entry)
    if not found:
        return
    means = {name: {key: _mean(entries, key) for key in _INPUTS} for name, entries in found.items()}
    rows = tuple((name, *map(_shown, each.values())) for name, each in means.items())
    table = Table(("normalizer", *_INPUTS.values()), rows, "Inputs by normalizer")
    notes = ("Energy: the mean squared length of an image.",)
    yield Section("inputs", "What the network sees", tables=(table,), notes=notes)


def _inside(arms: Arms) -> Iterator[Section]:
    tables = [*(made for kind in _KINDS for made in _units(kind, arms)), *_gradients(arms)]
    if tables:
        yield Section("units", "Inside the network", intro=_UNITS_INTRO, tables=tuple(tables))


def _units(kind: str, arms: Arms) -> Iterator[Table]:
    """The fraction of units by layer, before training and after it; the darker, the more after."""
    layers = _layers(kind, (entry for trials in arms.values() for entry in trials))
    if layers:
        heads = ("arm", *(layer.replace("_", " ") for layer in layers))
        ends = [[_ends(trials, f"{kind}_{layer}") for layer in layers] for trials in arms.values()]
        rows = tuple((name, *map(_change, found)) for name, found in zip(arms, ends, strict=True))
        shades = tuple((None, *(after for _, after in found)) for found in ends)
        yield Table(heads, rows, _KINDS[kind], shades=shades)


def _gradients(arms: Arms) -> Iterator[Table]:
    """The gradient's norm at the start and the end of training."""
    ends = {name: _ends(trials, "gradient_norm") for name, trials in arms.items()}
    rows = tuple((name, *map(_shown, found)) for name, found in ends.items() if found != (None, None))
    if rows:
        yield Table(("arm", "before training", "after training"), rows, "Norm of the gradient")


def _layers(kind: str, entries: Iterable[RecordedTrial]) -> list[str]:
    names = {key for entry in entries for key in entry.outcome.diagnostics}
    matches = (_UNITS.fullmatch(name) for name in names)
    return sorted({match[2] for match in matches if match and match[1] == kind})[:MOST_LAYERS]


def _ends(entries: Sequence[RecordedTrial], name: str) -> tuple[float | None, float | None]:
    return _mean(entries, f"{name}_start"), _mean(entries, f"{name}_end")


def _change(ends: tuple[float | None, float | None]) -> str:
    if ends == (None, None):
        return "\N{EN DASH}"
    return " \N{RIGHTWARDS ARROW} ".join("?" if value is None else f"{value:.1%}" for value in ends)


def _mean(entries: Sequence[RecordedTrial], name: str) -> float | None:
    values = [found[name] for entry in entries if name in (found := entry.outcome.diagnostics)]
    return fmean(values) if values else None


def _shown(value: float | None) -> str:
    if value is None:
        return "\N{EN DASH}"
    return f"{value:,.0f}" if abs(value) >= _WHOLE else f"{value:.3g}"


def _cells(found: Print) -> tuple[str, ...]:
    """One for each of _HEADS."""
    numbers = (_number(found[name]) for name in _NUMBERS)
    return (found["normalizer"], *numbers, _share(found["dead"]), _share(found["always_on"]), _named(found))


def _named(found: Print) -> str:
    """The flags by name: `wrapped, not centered`; a dash for none."""
    return ", ".join(flag["name"] for flag in found["flags"]) or "-"


def _lines(found: Print) -> Iterator[str]:
    """For a terminal: its name and range first, its flags last, each with its reason."""
    low, high, mean, std, offset, energy, top, ratio = (_number(found[name]) for name in _NUMBERS)
    yield f"{low} to {high}, mean {mean}, std {std}, |mean|/std {offset}, energy {energy}"
    dead, always_on = _share(found["dead"]), _share(found["always_on"])
    yield f"top eigenvalue {top}, {ratio} x the next; {dead} dead, {always_on} always on"
    yield found["dtypes"]
    yield from (f"{flag['name'].upper()}: {flag['reason']}" for flag in found["flags"])


def _paths(prints: Sequence[Print]) -> Iterator[str]:
    """The path of the arithmetic and the reasons of the flags, a line for each normalizer."""
    for found in prints:
        reasons = [f"{flag['name']} ({flag['reason']})" for flag in found["flags"]]
        yield "; ".join([f"{found['normalizer']}: {found['dtypes']}", *reasons])


def _damage(prints: Sequence[Print]) -> Iterator[str]:
    """The normalizers that damage the images: a reader must know them before any verdict."""
    for found in prints:
        for flag in found["flags"]:
            if flag["name"] in SEVERE:
                yield f"normalizer {found['normalizer']} is {flag['name']}: {flag['reason']}"


def _number(value: float) -> str:
    if abs(value) < _TINY:
        return "0"
    return f"{value:,.0f}" if abs(value) >= _NO_DIGITS else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
