"""What the arms' names and tuning stand for: settings that differ, values chosen, the best that were tried."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mnist_ablate.reports import chosen
from mnist_ablate.reports.drawing import minus, shown_number
from mnist_ablate.reports.markup import Markup, element, join, table
from mnist_ablate.reports.recorded import Recorded
from mnist_ablate.reports.sentences import Document, plain
from mnist_ablate.text import arm_name, value_name
from mnist_ablate.trial import Params
from mnist_ablate.workloads.workload import default_workload

METRIC = default_workload().selection_metric
MOST_TRIED = 10
_CHOSEN = (
    "Chosen for each arm by validation accuracy, from the same points for all arms, with seeds that no verdict uses."
)
_SEARCHED = (
    "Searched by validation accuracy with a seed that no verdict uses. The best of many looks better here than it is:"
    " what counts is how the winner does on fresh seeds, above."
)


def settings(arms: Sequence[Mapping[str, Any]], recorded: Recorded) -> Markup | None:
    """The settings that differ between arms and are not told by their names; None if the names tell all."""
    recipes = {
        arm_name(arm["params"]): found[0].trial.settings for arm in arms if (found := recorded.arm(arm["params"]))
    }
    told = {*recorded.sweep.nuisance, *(arms[0]["params"] if arms else ())}
    names = [
        name
        for name in default_workload().settings.model_fields
        if name not in told and _differs(name, recipes.values())
    ]
    if recorded.sweep.design == "search":
        names = [*recorded.sweep.scientific, *recorded.sweep.nuisance]
    if not names or not recipes:
        return None
    rows = [(arm, *(value_name(recipe[name]) for name in names)) for arm, recipe in recipes.items()]
    return table(("arm", *map(plain, names)), rows, numbers_from=1 + len(names), caption="Settings that differ")


def _differs(name: str, recipes: Iterable[Params]) -> bool:
    return len({recipe[name] for recipe in recipes}) > 1


def values(document: Document, recorded: Recorded) -> Markup | None:
    """The values that tuning chose for each arm, or the best that a search tried; None if nothing was tuned."""
    if document["path"]:
        note = element("p", minus(chosen.path_note(document)), class_="fine")
        rows = [tuple(map(minus, row)) for row in chosen.path(document)]
        return join([note, table(rows[0], rows[1:], numbers_from=4, caption=chosen.PATH_TITLE)])
    if not recorded.tuning:
        return None
    search = recorded.sweep.design == "search"
    content = _best(recorded) if search else _by_arm(document)
    ended = Counter(entry.outcome.status for entry in recorded.tuning)
    ends = ", ".join(f"{n:,} {status}" for status, n in ended.items())
    counted = element("p", f"{len(recorded.tuning):,} tuning trials: {ends}.", class_="fine")
    edges = [element("p", warning, class_="fine") for warning in chosen.edges(document)]
    gain = [element("p", minus(text)) for text in filter(None, [chosen.gain(document)])]
    told = element("p", _SEARCHED if search else _CHOSEN, class_="fine")
    return join([told, *gain, content, *edges, *_importances(document), counted])


def _importances(document: Document) -> Iterator[Markup]:
    if rows := chosen.importances(document):
        yield table(rows[0], rows[1:], numbers_from=1, caption=chosen.IMPORTANCE_TITLE)
        yield element("p", chosen.IMPORTANCE_NOTE, class_="fine")


def both(document: Document) -> Markup:
    """The verdicts on the recipe as written beside those on the tuned one."""
    note = element("p", minus(chosen.both_note(document)), class_="fine")
    rows = [tuple(map(minus, row)) for row in chosen.both(document)]
    return join([note, table(chosen.both_heads(document), rows, numbers_from=3, caption=chosen.BOTH_TITLE)])


def _by_arm(document: Document) -> Markup:
    rows = chosen.values(document)
    if not rows:
        return element("p", "Not all of the tuning trials have run yet.")
    return table(rows[0], rows[1:], numbers_from=1, caption="Values chosen")


def _best(recorded: Recorded) -> Markup:
    names = [*recorded.sweep.scientific, *recorded.sweep.nuisance]
    ranked = sorted(recorded.tuning, key=lambda entry: -entry.outcome.metrics.get(METRIC, -1.0))[:MOST_TRIED]
    rows = [
        (
            str(place),
            *(value_name(entry.trial.settings[name]) for name in names),
            shown_number(METRIC, entry.outcome.metrics.get(METRIC)),
        )
        for place, entry in enumerate(ranked, 1)
    ]
    heads = ("place", *map(plain, names), "validation accuracy")
    return table(heads, rows, numbers_from=1 + len(names), caption=f"The best {len(rows)} that were tried")
