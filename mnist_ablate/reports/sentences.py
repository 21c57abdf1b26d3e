"""Verdicts in words, the same in every report; reads the JSON document and judges nothing."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mnist_ablate.reports import repeated
from mnist_ablate.statistics.verdict import MOST_SEEDS, NOT_JUDGED, REVERSED, UNBACKED, can_decide, fewest_seeds
from mnist_ablate.text import counted, effect, signed, unit

Document = Mapping[str, Any]
"""What `summary.document` gives."""
Claimed = Mapping[str, Any]
"""One of its claims."""

_MOST_DIGITS = 4
_MANY = 3
_COUNTED = ("supported", "refuted", "equivalent", "inconclusive")


def interval(claim: Claimed) -> str:
    """The limits of a claim's difference, or that they are unknown."""
    metric, low, high = claim["metric"], claim["ci_low"], claim["ci_high"]
    if low is None or high is None:
        return "unknown"
    return f"{signed(metric, low, _digits(claim))} to {effect(metric, high, _digits(claim))}"


def margin(claim: Claimed) -> str:
    """The margin, without a sign."""
    return effect(claim["metric"], claim["margin"], _digits(claim)).lstrip("+")


def level(document: Document) -> str:
    """The confidence of each claim's interval: with it, all k of them hold at once at level 1 - alpha."""
    return f"{100 * (1 - document['alpha'] / max(len(document['claims']), 1)):.3g}%"


def p_value(value: float) -> str:
    """Three significant digits, small ones as a power of ten."""
    return f"{value:.3g}"


def sentence(claim: Claimed, document: Document) -> str:
    """Difference, interval, what it says of the margin, pairs, and what would decide an open claim."""
    if not _is_judged(claim):
        return explanation(claim, document)
    difference = f"Difference {effect(claim['metric'], claim['effect'])}"
    if claim["ci_low"] is None:
        return f"{difference}, no interval: {claim['reason']}."
    text = f"{difference}; its {level(document)} {repeated.interval(document)}, {interval(claim)}, {_says(claim)}"
    return f"{text}; {_pairs(claim)}{repeated.look(claim, document)}.{_open(claim, document)}"


def explanation(claim: Claimed, document: Document) -> str:
    """The same without the numbers that a table beside it gives."""
    if claim["ci_low"] is None or not _is_judged(claim):
        return f"{_capital(claim['reason'])}."
    return f"The interval {_says(claim)}.{_open(claim, document)}"


def glossary(document: Document) -> str:
    """What the words of the sentences mean."""
    claims = len(document["claims"])
    over = [*([f"{claims} claims"] if claims > 1 else []), *(["the looks"] if document["adaptive"] else [])]
    flips = f"exact sign flips{', corrected for ' * bool(over)}{' and '.join(over)}"
    pp = "; pp: percentage points" if any(unit(claim["metric"]) for claim in document["claims"]) else ""
    return f"Difference: treatment minus control at the same seed, the mean over seeds{pp}; p: of {flips}."


def is_exploratory(document: Document) -> bool:
    """Whether its verdicts rest on a question that may have been chosen with results at hand."""
    return (document["preregistration"] or {}).get("status") == "exploratory"


def exploratory(document: Document) -> str:
    """Why the verdicts are exploratory, for the top of a report; empty if they are not."""
    if not is_exploratory(document) or not document["claims"]:
        return ""
    reasons = "; ".join(document["preregistration"]["reasons"])
    return f"Exploratory verdicts: {reasons}. They can suggest a claim; fresh seeds or other images must confirm it."


def registration(document: Document) -> str:
    """When, and under which digest, what is claimed was written down; empty if nobody knows."""
    found = document["preregistration"]
    if not found or not document["claims"] or is_exploratory(document):
        return ""
    return (
        f"Preregistered {found['registered']}: question, plan, claims and margins were recorded before the first trial,"
        f" digest {found['digest'][:12]}."
    )


def control_alarm(document: Document) -> str:
    """That the negative control found an effect, for the top of a report; empty if it did not."""
    control = document["negative_control"]
    if not control or not control["alarm"]:
        return ""
    found = "; ".join(_checked(each, document) for each in control["checks"] if each["alarm"])
    return (
        f"Negative control failed: the baseline differs from itself with other seeds by more than the margin: {found}."
        f" Do not rely on the verdicts before this is explained; by chance alone at most {document['alpha']:.0%} of"
        " sweeps come to it."
    )


def missed(document: Document) -> str:
    """That the sweep did not find what is known to hold, for the top of a report; empty if it did."""
    found = document["positive_control"]
    if not found or not found["alarm"]:
        return ""
    named = "; ".join(f"{name} came out {verdict}" for name, verdict in found["missed"].items())
    return (
        f"Positive control failed: what is known to hold was not found: {named}."
        " Do not rely on the other verdicts before this is explained."
    )


def alarms(document: Document) -> Iterator[str]:
    """What must be known before any verdict is read: controls that failed."""
    yield from filter(None, (control_alarm(document), missed(document)))


def controls(document: Document) -> Iterator[str]:
    """What controls came to that did not fail."""
    if text := control(document):
        yield text
    found = document["positive_control"]
    if found and not found["missed"]:
        yield f"Positive control: what is known to hold was found: {', '.join(found['claims'])}."


def control(document: Document) -> str:
    """What the negative control came to; empty if there is none."""
    found = document["negative_control"]
    if not found or found["alarm"]:
        return ""
    outcomes, planned = found["outcomes"], found["planned"]
    if not outcomes:
        return f"Negative control: not run yet ({counted(planned, 'trial')} of the baseline with other seeds)."
    counts = {
        **{status: outcomes.get(status) for status in ("failed", "lost")},
        "not run yet": planned - sum(outcomes.values()),
    }
    lacking = ", ".join(f"{n} {what}" for what, n in counts.items() if n)
    checks = "; ".join(_checked(each, document) for each in found["checks"])
    found_none = "no effect beyond the margin"
    if not all(_is_within(each) for each in found["checks"]):
        found_none = "no effect shown, but one beyond the margin is not excluded,"
    text = f"Negative control: {found_none} between the baseline and itself with other seeds: {checks}"
    return f"{text} ({lacking})." if lacking else f"{text}."


def _is_within(check: Claimed) -> bool:
    """Whether the interval excludes every effect beyond the margin."""
    return check["ci_low"] is not None and -check["margin"] <= check["ci_low"] and check["ci_high"] <= check["margin"]


def _checked(check: Claimed, document: Document) -> str:
    if check["effect"] is None:
        return f"{plain(check['metric'])} has no pair"
    within = f"{level(document)} interval {interval(check)}" if check["ci_low"] is not None else "interval unknown"
    difference = f"{plain(check['metric'])} {effect(check['metric'], check['effect'])}"
    return f"{difference}, {within}, margin {margin(check)}, {counted(check['n_pairs'], 'pair')}"


def left_out(claim: Claimed, most: int = _MANY) -> str:
    """The sides that kept seeds out, the first by name; empty if every pair is complete."""
    sides = [side.partition(": ") for side in claim["excluded"]]
    return f"Left out: {listed([f'{seed} ({fault})' for seed, _, fault in sides], most)}." if sides else ""


def tally(document: Document) -> str:
    """How many claims met which verdict: `4 claims: 3 supported, 1 refuted`."""
    verdicts = [claim["verdict"] for claim in document["claims"]]
    counts = ", ".join(f"{verdicts.count(name)} {name}" for name in _COUNTED if name in verdicts)
    return f"{counted(len(verdicts), 'claim')}: {counts}"


def trials(document: Document) -> str:
    """How many trials were planned and what became of them."""
    counts = document["trials"]
    parts = [f"{n:,} {status}" for status, n in counts.items() if n and status != "planned"]
    missing = missing_trials(document)
    parts += [f"{missing:,} not run yet"] if missing and parts else []
    return f"{counted(counts['planned'], 'trial')} planned: {', '.join(parts) or 'none recorded'}"


def missing_trials(document: Document) -> int:
    """How many planned trials have no outcome."""
    counts = document["trials"]
    return max(0, int(counts["planned"] - sum(n for status, n in counts.items() if status != "planned")))


def exceptions(outcomes: Mapping[str, int]) -> str:
    """The outcomes of an arm that are not complete: `2 diverged, 1 lost`."""
    return ", ".join(f"{n} {status}" for status, n in outcomes.items() if n and status != "complete")


def listed(names: Sequence[str], most: int) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def plain(metric: str) -> str:
    """The name of a metric in words: `test accuracy`."""
    return metric.replace("_", " ")


def _digits(claim: Claimed) -> int:
    """As many as keep a limit that is not the margin from looking like it."""
    sizes = {abs(value) for part in ("ci_low", "ci_high", "margin") if (value := claim[part]) is not None}
    for digits in range(2, _MOST_DIGITS):
        if len({f"{100 * size:.{digits}f}" for size in sizes}) == len(sizes):
            return digits
    return _MOST_DIGITS


def _says(claim: Claimed) -> str:
    """What the interval says, as a predicate."""
    if claim["verdict"] == "refuted":
        return f"{_place(claim)}, which rules out what is claimed"
    return f"{_place(claim)}, too small to matter" if claim["verdict"] == "equivalent" else _place(claim)


def _place(claim: Claimed) -> str:
    low, high, size = claim["ci_low"], claim["ci_high"], claim["margin"]
    if claim["verdict"] != "inconclusive" or _is_unbacked(claim):
        return f"lies wholly {_side(claim, low, high, size)}"
    inside = [bound for bound in (-size, size) if low <= bound <= high]
    if len(inside) > 1 and size > 0:
        return f"reaches across the margin of ±{margin(claim)}"
    if not inside:  # a limit is on a bound but for rounding
        inside = [min((-size, size), key=lambda bound: min(abs(low - bound), abs(high - bound)))]
    return f"includes {_bound(claim, inside[0])}"


def _side(claim: Claimed, low: float, high: float, size: float) -> str:
    """Of which bound the interval lies on one side: the farthest that it clears, zero for a reversed effect."""
    if -size < low and high < size:
        return f"within the margin of ±{margin(claim)}"
    if high < -size:
        return f"below {_bound(claim, -size)}"
    if low > size:
        return f"above {_bound(claim, size)}"
    if REVERSED in claim["reason"]:
        return "above zero" if low > 0.0 else "below zero"
    return f"below {_bound(claim, size)}" if high < size else f"above {_bound(claim, -size)}"


def _bound(claim: Claimed, value: float) -> str:
    return f"the margin of {effect(claim['metric'], value, _digits(claim))}" if value else "zero"


def _pairs(claim: Claimed) -> str:
    return f"{counted(claim['n_pairs'], 'pair')}, p={p_value(claim['p_value'])}"


def _open(claim: Claimed, document: Document) -> str:
    """What keeps a claim undecided besides its interval, and the seeds that would decide it."""
    if claim["verdict"] != "inconclusive" or claim["ci_low"] is None or not _is_judged(claim):
        return ""
    alpha, k, n = document["alpha"], len(document["claims"]), claim["n_pairs"]
    now = alpha * repeated.share(claim, document)
    unsure = ""
    if _is_unbacked(claim):
        unsure = f" But p is above {alpha:.3g}"
        unsure += "." if can_decide(n, k, now) else f"; {fewest_seeds(k, now)} pairs can give less, {n} cannot."
    seeds = claim["seeds_needed"]
    if seeds is None:
        return f"{unsure} Not even {MOST_SEEDS:,} seeds would decide it at this mean and spread."
    return f"{unsure} About {seeds:,} seeds would decide it at this mean and spread."


def _is_judged(claim: Claimed) -> bool:
    return not claim["reason"].startswith(NOT_JUDGED)


def _is_unbacked(claim: Claimed) -> bool:
    """Whether the interval would decide and the sign flips keep it open."""
    return UNBACKED in claim["reason"]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
