"""The top of the page: the question, how many claims stand, and every claim with its verdict in plain words."""

from collections.abc import Iterator, Mapping

from mnist_ablate.reports import repeated, sentences
from mnist_ablate.reports.drawing import minus, shown_number
from mnist_ablate.reports.figures import SIGNS
from mnist_ablate.reports.markup import Markup, element
from mnist_ablate.reports.recorded import Recorded
from mnist_ablate.reports.sentences import Claimed, Document
from mnist_ablate.sweep.sweep import Claim
from mnist_ablate.text import PERCENT, counted
from mnist_ablate.trial import Scalar
from mnist_ablate.workloads.keras_mnist import input_words

_MEANINGS = {
    "supported": "the interval shows what is claimed: an effect beyond the margin, or that there is none",
    "refuted": "the interval rules out what is claimed, or the effect goes the other way",
    "equivalent": "the whole interval lies within the margin: a difference too small to matter",
    "inconclusive": "the interval includes the margin, or too few pairs back it: more seeds are needed",
}


def headline(document: Document, recorded: Recorded) -> Markup:
    """The question, its source, the verdicts counted, and what the reader must know before believing them."""
    sweep = recorded.sweep
    source = [element("p", f"Source: {sweep.source}", class_="source")] if sweep.source else []
    return element(
        "header",
        element("p", "mnist-ablate", element("span", sweep.name), class_="kicker"),
        element("h1", sweep.question),
        *source,
        element("ul", *_counts(document), class_="counts"),
        element("p", _size(document, recorded), class_="fine"),
        *(element("p", warning, class_="warning", role="note") for warning in _warnings(document)),
    )


def claims(document: Document, recorded: Recorded) -> Markup:
    """Every claim: verdict, statement, what was found, and the sentence with the numbers."""
    if not document["claims"]:
        return element("p", "This sweep claims nothing: it shows its arms, and no verdict follows.")
    pairs = zip(recorded.sweep.claims, document["claims"], strict=True)
    meanings = [
        part
        for verdict, meaning in _MEANINGS.items()
        for part in (element("dt", badge(verdict)), element("dd", meaning))
    ]
    return element(
        "div",
        element("ol", *(_claim(claim, found, document) for claim, found in pairs), class_="claims"),
        element("dl", *meanings, class_="meanings"),
        element("p", sentences.glossary(document), class_="fine"),
        *([element("p", told, class_="fine")] if (told := sentences.registration(document)) else []),
        *([element("p", told, class_="fine")] if (told := repeated.saving(document)) else []),
        *(element("p", minus(control), class_="fine") for control in sentences.controls(document)),
    )


def badge(verdict: str) -> Markup:
    """A verdict with its sign and its color."""
    return element(
        "span", element("span", SIGNS[verdict], aria_hidden="true"), f" {verdict}", class_=f"badge {verdict}"
    )


def plainly(claim: Claim, found: Claimed) -> str:
    """What was found, as one would say it."""
    if found["effect"] is None:
        return "There is nothing to compare yet."
    metric, value = sentences.plain(claim.metric), found["effect"]
    treatment = _words(claim.treatment)
    context = f", for {_words(claim.where)}" if claim.where else ""
    instead = f" in place of {_words(claim.control)}" if claim.control else ""
    if claim.versus is not None:
        amount = _amount(claim.metric, value, "higher", "lower")
        here = f" with {_words(claim.where)}" if claim.where else ""
        return f"The effect of {treatment}{instead} on {metric} was {amount}{here} than with {_words(claim.versus)}."
    if claim.control is None:
        amount = _amount(claim.metric, value, "above", "below")
        return f"With {treatment}{context}, {metric} was {amount} {shown_number(claim.metric, claim.reference)}."
    amount = _amount(claim.metric, value, "higher", "lower")
    return f"With {treatment}{instead}{context}, {metric} was {amount} on average."


def _claim(claim: Claim, found: Claimed, document: Document) -> Markup:
    left_out = sentences.left_out(found)
    mark = " (exploratory)" if sentences.is_exploratory(document) else ""
    return element(
        "li",
        element("h3", badge(found["verdict"]), " ", element("span", found["statement"]), mark),
        element("p", plainly(claim, found), _doubt(found)),
        element("p", minus(sentences.sentence(found, document)), f" {left_out}" if left_out else "", class_="fine"),
        class_=f"claim {found['verdict']}",
    )


def _doubt(found: Claimed) -> str:
    n = found["n_pairs"]
    is_open = found["verdict"] == "inconclusive" and n
    return f" {n} pair{'s are' if n > 1 else ' is'} not enough to tell." if is_open else ""


def _counts(document: Document) -> Iterator[Markup]:
    verdicts = [claim["verdict"] for claim in document["claims"]]
    for verdict in SIGNS:
        if n := verdicts.count(verdict):
            yield element("li", element("strong", str(n)), " ", badge(verdict))


def _size(document: Document, recorded: Recorded) -> str:
    arms, sweep = len(document["arms"]), recorded.sweep
    seeds = f"{sweep.min_seeds:,} to " * bool(sweep.looks) + counted(sweep.max_seeds, "seed")
    return f"{counted(arms, 'arm')}, {seeds} each. {sentences.trials(document)}."


def _warnings(document: Document) -> Iterator[str]:
    yield from sentences.alarms(document)
    if warning := sentences.exploratory(document):
        yield warning
    for text in input_words.damage(document["fingerprints"]):
        yield f"Data gate: {text}."
    counts = document["trials"]
    if missing := sentences.missing_trials(document):
        yield f"Preliminary: {missing:,} of {counts['planned']:,} planned trials have not run yet."
    broken = [f"{counts[status]:,} {status}" for status in ("failed", "lost") if counts[status]]
    if broken:
        yield f"{' and '.join(broken)}: their pairs are left out of the comparisons and named below."


def _amount(metric: str, value: float, up: str, down: str) -> str:
    size = f"{abs(100 * value):.2f} percentage points" if metric.endswith(PERCENT) else f"{abs(value):.4g}"
    return f"{size} {up if value >= 0 else down}"


def _words(params: Mapping[str, Scalar]) -> str:
    """Factor values as one says them: words as they are, other values with their factor."""
    said = [value if isinstance(value, str) else f"{name.replace('_', ' ')} {value}" for name, value in params.items()]
    return ", ".join(said)
