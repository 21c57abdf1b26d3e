"""What an adaptive sweep did, in words, the same in every report; reads the JSON document alone."""

from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]


def saving(document: Document) -> str:
    """How seeds were added and what that saved; empty for a sweep with a fixed number of seeds."""
    found = document["adaptive"]
    if not found:
        return ""
    counts = document["trials"]
    saved = counts.get("saved", 0)
    sizes = [str(look["seeds"]) for look in found["looks"]]
    text = (
        f"Adaptive seeds: every arm has {sizes[0]}; the arms of open claims get more, up to {', '.join(sizes[1:-1])}"
        f"{' and ' if sizes[1:-1] else ''}{sizes[-1]}. The error rate is spent over the looks, so each interval holds"
        " wherever the claim stopped."
    )
    if not saved:
        return text
    fixed = counts["planned"]
    return (
        f"{text} Saved: {saved:,} of the {fixed:,} trials of {found['max']} seeds for every arm ({saved / fixed:.0%})."
    )


def share(claim: Mapping[str, Any], document: Document) -> float:
    """The part of the error rate that a claim's last look may use; all of it if there is one look."""
    found = document["adaptive"]
    return float(found["looks"][claim["look"] - 1]["share"]) if found else 1.0


def interval(document: Document) -> str:
    """What the interval of a claim is called."""
    return "repeated interval" if document["adaptive"] else "interval"


def look(claim: Mapping[str, Any], document: Document) -> str:
    """`look 2 of 5`, and a comma before it; empty if there was one look."""
    found = document["adaptive"]
    return f", look {claim['look']} of {len(found['looks'])}" if found else ""
