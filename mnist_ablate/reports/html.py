"""A judged sweep as one HTML file that needs nothing else: no script, no font, no request; it opens offline."""

from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from mnist_ablate.reports import answers, curves, effects_page, figures, footnotes, mechanism, sentences, tuning
from mnist_ablate.reports.drawing import shown_number
from mnist_ablate.reports.interaction import grid, interaction
from mnist_ablate.reports.markup import Markup, element, join, table
from mnist_ablate.reports.panels import MOST_PANELS
from mnist_ablate.reports.recorded import Recorded, main_arms
from mnist_ablate.reports.sentences import Document, exceptions

MOST_ARMS = 60
"""In a picture; more cannot be read."""
MOST_ROWS = 1000
"""Of the table of arms: with them the file stays below 2 MB."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"

_FOREST = (
    "Points: one for each seed, treatment minus control. Diamond and bar: their mean and its {} interval."
    " Shaded: differences smaller than the margin. Arrow: the bar goes on."
)
_ARMS = (
    "Points: one for each seed; crosses: diverged. Diamond and bar: the mean and its {} interval;"
    " arrow: the bar goes on. The verdicts do not compare these bars but pairs of trials with the same seed."
)
_INTERACTION = (
    "Symbols: means with their intervals. Where lines are far from parallel, one factor changes what the other does."
)
_CURVES = "Lines: means over seeds by epoch on the validation images. Bands: from the lowest seed to the highest."
_DEAD = (
    "Lines: means over seeds of the fraction of units that are positive for no validation image, the mean of the hidden"
    " layers. Bands: from the lowest seed to the highest. Recorded before the first epoch and after the last, not"
    " between: what a line joins is known, not its shape."
)
_INPUTS = (
    "Training images after each normalizer, before the first layer. Strip: from the lowest to the highest input, the"
    " box one standard deviation around the mean, the line at zero (compressed away from zero). Energy: mean squared"
    " length of an image."
)
_UNITS = (
    "Means over seeds, before training and after it, on validation images. A dead relu unit is constant and does not"
    " learn; an always-on relu unit is linear."
)

Arm = dict[str, Any]
Section = tuple[str, str, Markup]
"""Its id, its heading, its content."""


def html(document: Document, recorded: Recorded) -> str:
    """The page: verdicts first, then what they rest on, then how to check it."""
    sections = list(_sections(document, recorded))
    links = [element("a", title, href=f"#{ident}") for ident, title, _ in sections]
    body = element(
        "main",
        answers.headline(document, recorded),
        element("nav", *links, aria_label="Sections"),
        *(element("section", element("h2", title), part, id=ident) for ident, title, part in sections),
    )
    return f"<!DOCTYPE html>\n{element('html', _head(recorded), element('body', body), lang='en')}\n"


def write(document: Document, recorded: Recorded, path: Path) -> Path:
    """Write the page to a file; folders on the way are made. Returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html(document, recorded), encoding="utf-8")
    return path


def _head(recorded: Recorded) -> Markup:
    style = Markup(files("mnist_ablate.reports").joinpath("page.css").read_text(encoding="utf-8"))
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),
        element("title", f"{recorded.sweep.question} \N{MIDDLE DOT} {recorded.sweep.name}"),
        element("style", style),
    )


def _sections(document: Document, recorded: Recorded) -> Iterator[Section]:
    arms = main_arms(document["arms"], recorded.sweep, MOST_ARMS)
    yield "verdicts", "Verdicts", answers.claims(document, recorded)
    if document["fingerprints"]:
        yield "gate", "Data gate", mechanism.gate(document["fingerprints"])
    if document["as_written"] and document["claims"]:
        yield "as-written", "As written, and tuned", tuning.both(document)
    if document["claims"]:
        yield "differences", "Differences and margins", join(_forests(document))
    if (named := tuning.settings(arms, recorded)) is not None:
        yield "settings", "What the arms are", named
    yield "arms", "Every arm", join(_arms(document, arms, recorded))
    yield from effects_page.sections(document)
    yield from _explanations(document, arms, recorded)
    yield "failures", "What went wrong", footnotes.failures(document, recorded)
    yield "caveats", "Caveats", footnotes.caveats(document, recorded)
    yield "reproduce", "Run it again", footnotes.how_to_run(recorded)
    yield "provenance", "Provenance", footnotes.provenance(recorded)


def _explanations(document: Document, arms: list[Arm], recorded: Recorded) -> Iterator[Section]:
    few = main_arms(arms, recorded.sweep, MOST_PANELS)
    some = _part_of(few, document["arms"], "arms")
    if (shown := grid(document)) is not None:
        picture = interaction("interaction-plot", document, shown)
        yield "interaction", "Two factors together", figure(picture, _INTERACTION)
    if curves.has_curves(recorded):
        picture = curves.learning_curves("curves-plot", few, recorded)
        yield "curves", "Learning curves", figure(picture, _CURVES + some)
    if curves.has_dead_units(recorded):
        picture = curves.dead_curves("dead-plot", few, recorded)
        yield "dead", "Dead units", figure(picture, _DEAD + some)
    if (values := tuning.values(document, recorded)) is not None:
        yield "tuning", "Tuning", values
    if (inputs := mechanism.fingerprints(recorded)) is not None:
        yield "inputs", "What the network sees", join([element("p", _INPUTS, class_="fine"), inputs])
    tables = mechanism.units(arms, recorded)
    tables += [made for made in [mechanism.gradients(arms, recorded)] if made is not None]
    if tables:
        yield (
            "units",
            "Inside the network",
            join([element("p", _UNITS + _part_of(arms, document["arms"], "arms"), class_="fine"), *tables]),
        )


def figure(picture: Markup, caption: str) -> Markup:
    """A picture that scrolls where it does not fit, with its caption."""
    frame = element("div", picture, class_="scroll", tabindex="0", role="group", aria_label=caption)
    return element("figure", frame, element("figcaption", caption))


def _forests(document: Document) -> Iterator[Markup]:
    metrics = list(dict.fromkeys(claim["metric"] for claim in document["claims"]))
    for i, metric in enumerate(metrics):
        claims = [claim for claim in document["claims"] if claim["metric"] == metric]
        shown = claims[: figures.MOST_CLAIMS]
        note = _part_of(shown, claims, "claims") + _thinned(len(shown), (claim["n_pairs"] for claim in shown))
        yield figure(figures.forest(f"forest-{i}", document, metric), _FOREST.format(sentences.level(document)) + note)


def _part_of(shown: Sequence[object], every: Sequence[object], what: str) -> str:
    return f" Shown: {len(shown)} of {len(every):,} {what}." if len(shown) < len(every) else ""


def _thinned(rows: int, points: Iterable[int]) -> str:
    each = figures.points_each(rows)
    return f" Of more than {each} points in a row, {each} are drawn." if max(points, default=0) > each else ""


def _arms(document: Document, shown: list[Arm], recorded: Recorded) -> Iterator[Markup]:
    arms = document["arms"]
    level = f"{1 - document['alpha']:.0%}"
    if not arms:
        yield element("p", "No trial has been recorded yet.")
        return
    thinned = _thinned(len(shown), (arm["n"] for arm in shown))
    caption = _ARMS.format(level) + _part_of(shown, arms, "arms") + thinned
    yield figure(figures.arms("arms-plot", document, shown, recorded), caption)
    rest = len(arms) - MOST_ROWS
    more = [element("p", f"and {rest:,} more arms: mnist-ablate report --format json has all")] if rest > 0 else []
    yield element("details", element("summary", "The same in numbers"), _numbers(document, level), *more)


def _numbers(document: Document, level: str) -> Markup:
    metric, arms = document["metric"], document["arms"][:MOST_ROWS]
    factors = tuple(arms[0]["params"])
    rows = []
    for arm in arms:
        low, high = (shown_number(metric, arm[part]) for part in ("ci_low", "ci_high"))
        limits = "unknown" if arm["ci_low"] is None else f"{low} to {high}"
        values = (*map(str, arm["params"].values()), str(arm["n"]), shown_number(metric, arm["mean"]), limits)
        rows.append((*values, exceptions(arm["outcomes"])))
    heads = (*factors, "n", "mean", f"{level} interval", "not complete")
    return table(heads, rows, numbers_from=len(factors), caption=f"{sentences.plain(metric)} by arm")
