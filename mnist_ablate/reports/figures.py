"""The pictures of the verdicts: differences with their margins, arms with their seeds, two factors together."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mnist_ablate.reports import sentences
from mnist_ablate.reports.axes import Axis, of_differences, of_metric
from mnist_ablate.reports.drawing import (
    LETTER,
    WIDTH,
    columns,
    crosses,
    diamond,
    difference_names,
    dots,
    drawing,
    interval,
    line,
    minus,
    short,
    shown_effect,
    shown_number,
    text,
    thinned,
    value_names,
)
from mnist_ablate.reports.markup import Markup, element
from mnist_ablate.reports.recorded import Recorded
from mnist_ablate.reports.sentences import Claimed, Document
from mnist_ablate.text import arm_name, unit

MOST_CLAIMS = 60
_TICKS = 52.0  # pixels between marks
_FOREST_ROW, _ARM_ROW, _TOP, _BOTTOM = 46.0, 31.0, 24.0, 46.0
_POINTS = 2400  # in one picture
_FAR = 4.0  # times the largest difference: an interval's end beyond becomes an arrow


def forest(ident: str, document: Document, metric: str) -> Markup:
    """Every claim about a metric: seeds as points, mean and interval above them, the margin as a band behind."""
    claims = [(i, each) for i, each in enumerate(document["claims"], 1) if each["metric"] == metric][:MOST_CLAIMS]
    margins = [claim["margin"] for _, claim in claims]
    left, right = 40.0 + LETTER * min(36, max(len(claim["name"]) for _, claim in claims)), WIDTH - 220.0
    axis = of_differences(_reach(claims), margins).placed(left, right)
    bottom = _TOP + _FOREST_ROW * len(claims)
    places = [_TOP + _FOREST_ROW * (i + 0.5) for i in range(len(claims))]
    bands = [_band(axis, claim["margin"], y) for (_, claim), y in zip(claims, places, strict=True)]
    title = f"difference in {sentences.plain(metric)}{', percentage points' if unit(metric) else ''}"
    each = points_each(len(claims))
    return drawing(
        ident,
        f"Forest plot: {title}, with its interval and margin, for {len(claims)} claims",
        " ".join(f"{claim['name']}, {claim['verdict']}: {sentences.sentence(claim, document)}" for _, claim in claims),
        bottom + _BOTTOM,
        *bands,
        *columns(axis, _TOP, bottom, difference_names(metric, axis, _TICKS), _titled(title, axis)),
        line(axis.at(0.0), _TOP, axis.at(0.0), bottom, "zero"),
        text(axis.at(0.0), _TOP - 9.0, _margins(claims), "small", "middle"),
        *(part for (i, claim), y in zip(claims, places, strict=True) for part in _claim(i, claim, axis, y, each)),
    )


def points_each(rows: int) -> int:
    """How many points a row of a picture can have; of more, so many are drawn, evenly."""
    return max(20, _POINTS // max(rows, 1))


def _reach(claims: Sequence[tuple[int, Claimed]]) -> Iterator[float]:
    """What the axis must hold: every difference, and those ends of intervals that leave room for them."""
    for _, claim in claims:
        values = [*claim["differences"].values(), claim["margin"]]
        yield from claim["differences"].values()
        most = _FAR * max(map(abs, values))
        yield from (end for end in (claim["ci_low"], claim["ci_high"]) if end is not None and abs(end) <= most)


def _margins(claims: Sequence[tuple[int, Claimed]]) -> str:
    sizes = {sentences.margin(claim) for _, claim in claims}
    return f"margin ±{sizes.pop()}" if len(sizes) == 1 else "margin of each claim"


def _band(axis: Axis, margin: float, y: float) -> Markup:
    left, right = axis.at(-margin), axis.at(margin)
    height = _FOREST_ROW - 6.0
    return element("rect", x=left, y=y - height / 2, width=right - left, height=height, class_="band")


def _claim(i: int, claim: Claimed, axis: Axis, y: float, most: int) -> Iterator[Markup]:
    metric, verdict = claim["metric"], claim["verdict"]
    yield text(6.0, y + 4.0, str(i), "order")
    yield text(30.0, y + 4.0, short(claim["name"], 36), "label")
    seeds = thinned(sorted(claim["differences"].items(), key=lambda item: item[1]), most)
    yield from dots([(axis.at(d), y + 11.0, f"seed {seed}: {shown_effect(metric, d)}") for seed, d in seeds], "dot")
    yield from interval(axis, claim["ci_low"], claim["ci_high"], y - 5.0, f"ci {verdict}")
    if claim["effect"] is not None:
        yield diamond(axis.at(claim["effect"]), y - 5.0, 6.0, f"mean {verdict}")
    yield text(WIDTH - 204.0, y - 3.0, f"{SIGNS[verdict]} {verdict}", f"verdict {verdict}")
    found = shown_effect(metric, claim["effect"])
    limits = "" if claim["ci_low"] is None else f" ({minus(sentences.interval(claim).removesuffix(unit(metric)))})"
    yield text(WIDTH - 204.0, y + 14.0, found + limits, "small")


SIGNS: Mapping[str, str] = {
    "supported": "\N{CHECK MARK}",
    "refuted": "\N{BALLOT X}",
    "equivalent": "\N{ALMOST EQUAL TO}",
    "inconclusive": "?",
}
"""A sign for each verdict, so that color is never alone."""


def arms(ident: str, document: Document, shown: Sequence[Mapping[str, Any]], recorded: Recorded) -> Markup:
    """Arms with every seed's result, their mean and its interval; a diverged trial is a cross."""
    metric = document["metric"]
    results = [_results(arm, recorded, metric) for arm in shown]
    values = [value for points, lost in results for value, _ in (*points, *lost)]
    names = [arm_name(arm["params"]) for arm in shown]
    left = 16.0 + LETTER * min(44, max(map(len, names), default=0))
    axis = of_metric(metric, values).placed(left, WIDTH - 90.0)
    bottom = _TOP + _ARM_ROW * len(shown)
    each = points_each(len(shown))
    title = sentences.plain(metric)
    described = (f"{name}: {shown_number(metric, arm['mean'])}" for name, arm in zip(names, shown, strict=True))
    parts = (
        part
        for i, (arm, name, found) in enumerate(zip(shown, names, results, strict=True))
        for part in _arm(arm, name, found, axis, _TOP + _ARM_ROW * (i + 0.5), each, metric)
    )
    return drawing(
        ident,
        f"{title} of every trial in {len(shown)} arms, with means and intervals",
        "; ".join(described),
        bottom + _BOTTOM,
        *columns(axis, _TOP, bottom, value_names(metric, axis, _TICKS), _titled(title, axis)),
        *parts,
    )


Results = tuple[list[tuple[float, str]], list[tuple[float, str]]]
"""Value and name of the trials that completed, and of those that diverged."""


def _results(arm: Mapping[str, Any], recorded: Recorded, metric: str) -> Results:
    found: Results = ([], [])
    for entry in recorded.arm(arm["params"]):
        value, status = entry.outcome.metrics.get(metric, math.nan), entry.outcome.status
        if status in ("complete", "diverged") and math.isfinite(value):
            name = f"seed {entry.trial.seed}: {shown_number(metric, value)}"
            found[status == "diverged"].append((value, name if status == "complete" else f"{name}, diverged"))
    return found


def _arm(  # noqa: PLR0913, PLR0917 - what one row shows, and where
    arm: Mapping[str, Any], name: str, found: Results, axis: Axis, y: float, most: int, metric: str
) -> Iterator[Markup]:
    complete, diverged = (thinned(sorted(points), most) for points in found)
    yield text(axis.start - 12.0, y + 4.0, short(name, 44), "label", "end")
    yield from dots([(axis.at(value), y + 6.0, said) for value, said in complete], "dot")
    yield from crosses([(axis.at(value), y + 6.0, said) for value, said in diverged], "diverged")
    yield from interval(axis, arm["ci_low"], arm["ci_high"], y - 5.0, "ci arm")
    if arm["mean"] is not None:
        yield diamond(axis.at(arm["mean"]), y - 5.0, 5.0, "mean arm")
    yield text(WIDTH - 6.0, y + 4.0, shown_number(metric, arm["mean"]), "small", "end")


def _titled(title: str, axis: Axis) -> str:
    return f"{title} (axis {axis.note})" if axis.note else title
