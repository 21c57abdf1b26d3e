"""What was chosen on validation data, in words, the same in every report; reads the JSON document alone."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mnist_ablate.reports import sentences
from mnist_ablate.reports.sentences import Document
from mnist_ablate.text import arm_name, effect, number, signed, value_name
from mnist_ablate.workloads.workload import default_workload

BOTH_TITLE = "The recipe as written, and tuned"
VALUES_TITLE = "Chosen by validation accuracy"
PATH_TITLE = "The path from the baseline to the target"
IMPORTANCE_TITLE = "Importance of the searched factors"
IMPORTANCE_NOTE = (
    "PED-ANOVA: how far the best tenth of the trials differs from all in the values of each factor, as a share of the"
    " sum; interval by bootstrap over the trials. It says what the best trials agree on in the part of the space that"
    " the search visited; it is not the size of an effect."
)
_MOST_ARMS = 4


def edges(document: Document) -> list[str]:
    """A warning for each factor whose best value nothing was tried beyond, with the arms it happened in."""
    tuning = document["tuning"]
    found: dict[tuple[str, str], list[str]] = {}
    for arm in tuning["arms"] if tuning else ():
        for name, end in arm["edges"].items():
            found.setdefault((name, end), []).append(f"{arm_name(arm['params'])} ({value_name(arm['values'][name])})")
    return [
        f"At the edge: the best {sentences.plain(name)} is the {end} that was tried for"
        f" {sentences.listed(arms, _MOST_ARMS)}; a better one may lie beyond: widen its range, or try more."
        for (name, end), arms in found.items()
    ]


def both_heads(document: Document) -> tuple[str, str, str]:
    """The heads of `both`."""
    known = document["as_written"]["values"].items()
    written = ", ".join(f"{sentences.plain(name)} {' or '.join(map(value_name, values))}" for name, values in known)
    return "claim", f"as written ({written})", "tuned for each arm"


def both(document: Document) -> Iterator[tuple[str, str, str]]:
    """Each claim's name with its verdict on the recipe as written and on the tuned one; nothing unless both exist."""
    found = document["as_written"]
    for written, tuned in zip(found["claims"], document["claims"], strict=True) if found else ():
        yield tuned["name"], _verdict(written), _verdict(tuned)


def both_note(document: Document) -> str:
    """What the two verdicts have in common, and how many differ."""
    found = document["as_written"]
    pairs = list(zip(found["claims"], document["claims"], strict=True))
    differ = sum(written["verdict"] != tuned["verdict"] for written, tuned in pairs)
    counts = {"planned": 0, **found["trials"]}
    missing = counts.pop("planned") - sum(counts.values())
    lacking = [f"{counts[status]:,} {status}" for status in ("failed", "lost") if counts[status]]
    lacking += [f"{missing:,} not run yet"] if missing else []
    trials = f" Trials as written: {', '.join(lacking)}." if lacking else ""
    return (
        f"{differ} of {len(pairs)} verdicts differ. Both are judged on the same seeds at the same level, each set of"
        f" claims as if it were alone.{trials}"
    )


def _verdict(claim: Mapping[str, Any]) -> str:
    if claim["effect"] is None:
        return str(claim["verdict"])
    limits = f" ({sentences.interval(claim)})" if claim["ci_low"] is not None else ""
    return f"{claim['verdict']}, {effect(claim['metric'], claim['effect'])}{limits}"


def gain(document: Document) -> str:
    """What a search gained, as it looked and as it is; empty if nothing was searched or confirmed."""
    found = document["search"] and document["search"]["gain"]
    if not found:
        return ""
    seen = effect(default_workload().selection_metric, found["seen"])
    parts = [f"{sentences.plain(each['metric'])} {_gained(each)}" for each in found["confirmed"]]
    return (
        f"Gain over the baseline: the best of {found['tried']:,} trials was seen at {seen} on validation images, which"
        " flatters it: it is the luckiest too. Its recipe on fresh seeds, where nothing is chosen any more:"
        f" {', '.join(parts)} ({found['confirmed'][0]['n_pairs']} pairs, 95% intervals)."
    )


def _gained(each: Mapping[str, Any]) -> str:
    metric, low, high = each["metric"], each["ci_low"], each["ci_high"]
    known = low is not None and high is not None
    return effect(metric, each["effect"]) + (f" ({signed(metric, low)} to {effect(metric, high)})" if known else "")


def path(document: Document) -> Sequence[tuple[str, ...]]:
    """Each change along an ablation path and its gain, the column heads first; nothing if there is no path."""
    found = document["path"]
    if not found:
        return ()
    rows = [
        (
            str(number),
            f"{sentences.plain(each['factor'])}: {value_name(each['from'])} to {value_name(each['to'])}",
            _of(each["scores"], each["factor"]),
            _gained(each) if each["n_pairs"] else "not confirmed yet",
        )
        for number, each in enumerate(found["steps"], 1)
    ]
    return [("step", "change", "chosen among", f"gain, {100 * found['level']:.3g}% interval"), *rows]


def path_note(document: Document) -> str:
    """How the path was chosen, and what it comes to as a whole."""
    found = document["path"]
    left = f" {found['left']} more to choose." if found["left"] else ""
    whole = found["whole"]
    total = f" From end to end: {_gained(whole)}." if whole["n_pairs"] else ""
    return (
        "Every change that was left was trained at every seed, and the best by mean validation accuracy was made"
        " (Fawcett and Hoos 2016). Gains are those of the arms on fresh seeds, each over the one before; the intervals"
        f" hold for all steps at once.{left}{total} Another order would give the same changes other gains."
    )


def _of(scores: Mapping[str, float], factor: str) -> str:
    if not scores:
        return "the last one"
    others = [
        f"{sentences.plain(name)} {number(default_workload().selection_metric, score)}"
        for name, score in scores.items()
        if name != factor
    ]
    return f"{number(default_workload().selection_metric, scores[factor])}; {', '.join(others)}"


def importances(document: Document) -> Sequence[tuple[str, str, str]]:
    """The share of each searched factor and its interval, the column heads first; nothing if there are none."""
    found = document["search"] and document["search"]["importances"]
    if not found or not found["factors"]:
        return ()
    rows = [
        (sentences.plain(each["factor"]), f"{each['share']:.0%}", f"{each['low']:.0%} to {each['high']:.0%}")
        for each in found["factors"]
    ]
    return [("factor", "importance", f"{found['level']:.0%} interval"), *rows]


def values(document: Document) -> Sequence[tuple[str, ...]]:
    """The values chosen for each arm, the column heads first; nothing if none were chosen."""
    tuning = document["tuning"]
    if not tuning or not tuning["arms"]:
        return ()
    names = list(dict.fromkeys(name for arm in tuning["arms"] for name in arm["values"]))
    rows = [
        (
            arm_name(arm["params"]),
            *(_value(arm, name) for name in names),
            "unknown" if arm["score"] is None else number(tuning["metric"], arm["score"]),
            f"{arm['tried']:,}",
        )
        for arm in tuning["arms"]
    ]
    return [("arm", *map(sentences.plain, names), sentences.plain(tuning["metric"]), "tried"), *rows]


def value_lines(document: Document) -> list[str]:
    """The same in sentences, for many factors."""
    return [
        f"{row[0]}: {', '.join(map('{} {}'.format, heads[1:-2], row[1:-2]))}; {heads[-2]} {row[-2]}, {row[-1]} tried"
        for heads, *rows in [values(document)]
        for row in rows
    ]


def _value(arm: Mapping[str, Any], name: str) -> str:
    end = arm["edges"].get(name)
    return value_name(arm["values"][name]) + (f" ({end} tried)" if end else "")
