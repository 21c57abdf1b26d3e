"""Sizes of differences and the effects of a factorial sweep as rows of words, the same in every report."""

from collections.abc import Mapping, Sequence
from typing import Any

from mnist_ablate.reports import sentences
from mnist_ablate.reports.sentences import Document
from mnist_ablate.text import counted

MOST_EFFECTS = 15
"""Of the table in a report; the JSON has all. Four factors have so many."""
SIZES_TITLE = "Size of the differences"
SIZES_HEADS = ("claim", "standardized (g_z)", "treatment better, of pairs")
EFFECTS_HEADS = ("effect", "df", "F", "p", "partial omega\N{SUPERSCRIPT TWO}")


def sizes(document: Document) -> Sequence[tuple[str, ...]]:
    """A row for each claim whose size is known."""
    return [
        (found["name"], _size(found["standardized"], ".2f"), _share(found["improvement"]))
        for found in document["effect_sizes"]
        if found["standardized"]["value"] is not None
    ]


def sizes_note(document: Document) -> str:
    """What the numbers are."""
    return (
        f"Brackets: {sentences.level(document)} intervals. g_z: mean of the paired differences over their standard"
        " deviation, corrected for few pairs; of the seeds, not of the images: a tiny difference that never varies is"
        " large in it. Better: the share of seeds, with their score interval. The verdicts rest on neither."
    )


def effects_title(document: Document) -> str:
    """The heading of the table."""
    return f"Main effects and interactions on {sentences.plain(document['factorial_effects']['metric'])}"


def effects(document: Document) -> Sequence[tuple[str, ...]]:
    """A row for each effect, the largest first where there are more than fit, then the seeds."""
    found = document["factorial_effects"]
    if not found or found["effects"][0]["f"] is None:
        return []
    shown = found["effects"]
    if len(shown) > MOST_EFFECTS:
        shown = sorted(shown, key=lambda effect: -effect["f"])[:MOST_EFFECTS]
    return [*map(_effect, shown), _effect(found["block"])]


def effects_note(document: Document) -> str:
    """The model, and what it leaves out."""
    found = document["factorial_effects"]
    n, left_out, rest = found["seeds"], found["left_out"], len(found["effects"]) - MOST_EFFECTS
    more = f" {rest} smaller effects are in the JSON." if rest > 0 else ""
    lacking = f" {counted(left_out, 'seed')} that not every arm has: left out." if left_out else ""
    return (
        f"Analysis of variance with {n} seeds as blocks, error with {found['error']['freedom']} degrees of freedom; p"
        f" with Holm's correction over {len(found['effects'])} effects.{lacking}{more} F assumes that all arms vary"
        " alike, which a collapsed arm breaks: the verdicts compare pairs and do not rest on this table."
    )


def _effect(effect: Mapping[str, Any]) -> tuple[str, ...]:
    name = " x ".join(effect["factors"])
    p_value = effect["p_value"] if effect["p_holm"] is None else effect["p_holm"]
    return (name, str(effect["freedom"]), f"{effect['f']:.3g}", sentences.p_value(p_value), f"{effect['omega']:.2f}")


def _size(found: Mapping[str, Any], form: str) -> str:
    if found["ci_low"] is None or found["ci_high"] is None:
        return f"{found['value']:{form}}"
    return f"{found['value']:{form}} [{found['ci_low']:{form}}, {found['ci_high']:{form}}]"


def _share(found: Mapping[str, Any] | None) -> str:
    return _size(found, ".0%") if found else "of a difference of two: none"
