"""The main plot of a judged sweep as an SVG file of its own, for a README, a slide or a paper; light and dark."""

from importlib.resources import files

from mnist_ablate.errors import SweepError
from mnist_ablate.reports import figures
from mnist_ablate.reports.html import MOST_ARMS
from mnist_ablate.reports.markup import Markup, element
from mnist_ablate.reports.recorded import Recorded, main_arms
from mnist_ablate.reports.sentences import Document

_SVG = '<svg xmlns="http://www.w3.org/2000/svg"'
_OWN = "svg { width: auto; background: var(--paper); font-family: system-ui, 'DejaVu Sans', sans-serif; }"


def svg(document: Document, recorded: Recorded) -> str:
    """Differences with their intervals and margins for the claims about the first claim's metric; arms if none.

    Raises SweepError if nothing is recorded that could be drawn.
    """
    if document["claims"]:
        drawn = figures.forest("plot", document, document["metric"])
    elif document["arms"]:
        drawn = figures.arms("plot", document, main_arms(document["arms"], recorded.sweep, MOST_ARMS), recorded)
    else:
        raise SweepError(f"{recorded.sweep.name}: no trial is recorded yet: run the sweep first")
    style = element(
        "style", Markup(files("mnist_ablate.reports").joinpath("page.css").read_text(encoding="utf-8") + _OWN)
    )
    head, _, body = drawn.partition(">")
    return f"{head.replace('<svg', _SVG, 1)}>{style}{body}\n"
