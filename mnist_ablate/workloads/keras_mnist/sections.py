"""What this workload adds to a report: the inputs of its networks, and their units and gradients. Needs no NumPy."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from mnist_ablate.trial import SOURCES, RecordedTrial, Source
from mnist_ablate.workloads.workload import Curves, Section, Table

Print = Mapping[str, Any]  # what `data_gate.Fingerprint.document` gives
Arms = Mapping[str, Sequence[RecordedTrial]]  # finished trials by the name of their arm
Ends = tuple[float | None, float | None]  # before training and after it; None if it was not recorded

MOST_LAYERS = 6
_SEVERE = frozenset({"wrapped", "saturated"})
"""Flags that say that the images themselves were damaged. The other two describe offset and scale."""
_NO_DIGITS = 1e3  # from here on, no digits after the point
_TINY = 1e-6  # what float32 leaves of zero
_KINDS = {"dead": "Dead units: positive for no image", "always_on": "Always-on units: positive for every image"}
_INPUTS = {
    "min": "lowest",
    "max": "highest",
    "mean": "mean",
    "std": "std",
    "offset": "|mean| / std",
    "energy": "energy",
}
_NUMBERS = {**_INPUTS, "top_eigenvalue": "top eigenvalue", "eigenvalue_ratio": "ratio to the next"}
_GLOSSARY = (
    "Energy: E|x|^2 of an image; top eigenvalue: of E[xx'], with its ratio to the next; dead, always on: units of the"
    " first layer at initialization, if it is relu, that are positive for none or all of 2,000 images."
)
_DEAD_CAPTION = (
    "Thin lines: the seeds. Thick lines: their means. A unit is dead if it is positive for no validation image; the"
    " number is the mean over the hidden layers. It is recorded before the first epoch and after the last one, so the"
    " lines show how it changed in total, not how it went on."
)
_UNITS_INTRO = (
    "Means over seeds, before training and after it, on validation images. A dead relu unit is constant and does not"
    " learn. An always-on relu unit is linear."
)
_SOURCES: Mapping[Source, tuple[str, str]] = {
    "init": ("initial weights", "the initial weights"),
    "order": ("image orders", "the order of the images"),
    "dropout": ("dropout masks", "the dropout masks"),
    "split": ("training/validation splits", "the split"),
    "test": ("test images", "the test images"),
}
"""Each source of variance in words: as what varies, and as what stays the same."""


def generalization(vary: Sequence[Source]) -> str:
    """What verdicts generalize over, and what stays the same in every trial."""
    held = [source for source in SOURCES if source not in vary]
    stay = "stays" if held in (["order"], ["split"]) else "stay"
    over = f"The verdicts generalize over {_in_words([_SOURCES[source][0] for source in vary])}"
    return f"{over}; {_in_words([_SOURCES[source][1] for source in held])} {stay} the same." if held else f"{over}."


def _in_words(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def input_alarms(contents: Sequence[Print]) -> list[str]:
    """What may surprise in the images, and the normalizers that damage them, a sentence each."""
    about, prints = _parts(contents)
    return [f"Data gate: {note}." for each in about for note in each["notes"]] + [
        f"Data gate: normalizer {found['normalizer']} is {flag['name']}: {flag['reason']}."
        for found in prints
        for flag in found["flags"]
        if flag["name"] in _SEVERE
    ]


def _parts(contents: Sequence[Print]) -> tuple[list[Print], list[Print]]:
    """What is said of the images, and what of each normalizer."""
    return [each for each in contents if "images" in each], [each for each in contents if "images" not in each]


def input_section(contents: Sequence[Print]) -> Section:
    """The data gate: each normalizer's flags, beside its name, its numbers, and what the flags rest on."""
    heads = ("normalizer", "flags", *_NUMBERS.values(), "dead", "always on")
    about, prints = _parts(contents)
    rows, lines = [], [f"{each['images']}; {'; '.join(each['notes'])}".strip("; ") for each in about]
    short = {"images": lines.copy()} if about else {}
    for each in prints:
        name, flags = each["normalizer"], each["flags"]
        rows.append((name, ", ".join(flag["name"] for flag in flags) or "-", *_numbers(each)))
        reasons = (f"{flag['name']} ({flag['reason']})" for flag in flags)
        lines.append("; ".join([f"{name}: {each['dtypes']}", *reasons]))
    return Section(
        "gate",
        "Data gate",
        intro="Inputs of the first layer, from the training images, before anything is trained.",
        tables=(Table(heads, tuple(rows), "Fingerprints by normalizer", numbers_from=2),) if rows else (),
        lines=tuple(lines),
        notes=(_GLOSSARY,) if rows else (),
        short={**short, **{each["normalizer"]: [*_lines(each)] for each in prints}},
    )


def _numbers(found: Print) -> list[str]:
    """One for each of _NUMBERS, and the fractions of units that are dead and always on."""
    numbers = [_number(found[name] if abs(found[name]) >= _TINY else 0.0) for name in _NUMBERS]
    return [*numbers, *("-" if share is None else f"{share:.1%}" for share in (found["dead"], found["always_on"]))]


def _lines(found: Print) -> Iterator[str]:
    """For a terminal: the range first, the flags last, each with its reason."""
    low, high, mean, std, offset, energy, top, ratio, dead, always_on = _numbers(found)
    yield f"{low} to {high}, mean {mean}, std {std}, |mean|/std {offset}, energy {energy}"
    yield f"top eigenvalue {top}, {ratio} x the next; {dead} dead, {always_on} always on"
    yield found["dtypes"]
    yield from (f"{flag['name'].upper()}: {flag['reason']}" for flag in found["flags"])


def diagnostic_sections(arms: Arms) -> list[Section]:
    """Dead units over training, the inputs of the network, and its units by layer; those that were recorded."""
    return [*_dead_curves(arms), *_inputs(arms), *_inside(arms)]


def _dead_curves(arms: Arms) -> Iterator[Section]:
    points: defaultdict[str, dict[int, list[tuple[float, float]]]] = defaultdict(dict)
    for name, each in ((name, each) for name, trials in arms.items() for each in trials):
        layers = [
            [value for key, value in each.outcome.diagnostics.items() if key.startswith("dead_") and key.endswith(when)]
            for when in ("_start", "_end")
        ]
        if all(layers):
            points[name][each.trial.seed] = [(float(place), fmean(values)) for place, values in enumerate(layers)]
    if points:
        # the scale goes to 5% at least: fractions of a percent are no mountains
        chart = Curves("dead units", ("before", "after"), points, _DEAD_CAPTION, is_share=True, at_least=0.05)
        yield Section("dead", "Dead units", charts=(chart,))


def _inputs(arms: Arms) -> Iterator[Section]:
    found: defaultdict[str, list[RecordedTrial]] = defaultdict(list)
    for entry in (each for trials in arms.values() for each in trials):
        if "input_mean" in entry.outcome.diagnostics:
            found[str(entry.trial.settings["normalizer"])].append(entry)
    if found:
        rows = tuple((name, *(_number(_mean(each, f"input_{key}")) for key in _INPUTS)) for name, each in found.items())
        table = Table(("normalizer", *_INPUTS.values()), rows, "Inputs by normalizer")
        notes = ("Energy: the mean squared length of an image.",)
        yield Section("inputs", "What the network sees", tables=(table,), notes=notes)


def _inside(arms: Arms) -> Iterator[Section]:
    tables = [*(made for kind in _KINDS for made in _units(kind, arms))]
    ends = {name: _ends(trials, "gradient_norm") for name, trials in arms.items()}
    if rows := tuple((name, *map(_number, found)) for name, found in ends.items() if found != (None, None)):
        tables.append(Table(("arm", "before training", "after training"), rows, "Norm of the gradient"))
    if tables:
        yield Section("units", "Inside the network", intro=_UNITS_INTRO, tables=tuple(tables))


def _units(kind: str, arms: Arms) -> Iterator[Table]:
    """The fraction of units by layer, before training and after it; the darker, the more after."""
    names = {name for trials in arms.values() for each in trials for name in each.outcome.diagnostics}
    matches = (re.fullmatch(rf"{kind}_(.+)_(?:start|end)", name) for name in names)
    if layers := sorted({match[1] for match in matches if match})[:MOST_LAYERS]:
        heads = ("arm", *(layer.replace("_", " ") for layer in layers))
        ends = [[_ends(trials, f"{kind}_{layer}") for layer in layers] for trials in arms.values()]
        rows = tuple((name, *map(_change, found)) for name, found in zip(arms, ends, strict=True))
        shades = tuple((None, *(after for _, after in found)) for found in ends)
        yield Table(heads, rows, _KINDS[kind], shades=shades)


def _ends(entries: Sequence[RecordedTrial], name: str) -> Ends:
    return _mean(entries, f"{name}_start"), _mean(entries, f"{name}_end")


def _change(ends: Ends) -> str:
    if ends == (None, None):
        return "\N{EN DASH}"
    return " \N{RIGHTWARDS ARROW} ".join("?" if value is None else f"{value:.1%}" for value in ends)


def _mean(entries: Sequence[RecordedTrial], name: str) -> float | None:
    values = [found[name] for entry in entries if name in (found := entry.outcome.diagnostics)]
    return fmean(values) if values else None


def _number(value: float | None) -> str:
    if value is None:
        return "\N{EN DASH}"
    return f"{value:,.0f}" if abs(value) >= _NO_DIGITS else f"{value:.3g}"
