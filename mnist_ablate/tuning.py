"""What the arms' names and tuning stand for: settings that differ, values chosen, the best that were tried."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mnist_ablate.amounts import arm_name, value_name
from mnist_ablate.drawing import shown_number
from mnist_ablate.ledger import Entry
from mnist_ablate.markup import Markup, element, join, table
from mnist_ablate.recorded import Recorded, key
from mnist_ablate.sentences import plain
from mnist_ablate.trial import Recipe, Scalar

METRIC = "val_accuracy"
MOST_TRIED = 10
_CHOSEN = (
    "Chosen for each arm by validation accuracy, from the same points for all arms, with seeds that no verdict uses."
    " A value at the edge of what was tried may not be the best there is: widen its range."
)
_SEARCHED = (
    "Searched by validation accuracy with a seed that no verdict uses. The best of many looks better here than it is:"
    " what counts is how the winner does on fresh seeds, above."
)


def settings(arms: Sequence[Mapping[str, Any]], recorded: Recorded) -> Markup | None:
    """The settings that differ between arms and are not told by their names; None if the names tell all."""
    recipes = {arm_name(arm["params"]): found[0].trial.recipe for arm in arms if (found := recorded.arm(arm["params"]))}
    told = {*recorded.sweep.nuisance, *(arms[0]["params"] if arms else ())}
    names = [name for name in Recipe.model_fields if name not in told and _differs(name, recipes.values())]
    if recorded.sweep.design == "search":
        names = [*recorded.sweep.scientific, *recorded.sweep.nuisance]
    if not names or not recipes:
        return None
    rows = [(arm, *(value_name(getattr(recipe, name)) for name in names)) for arm, recipe in recipes.items()]
    return table(("arm", *map(plain, names)), rows, numbers_from=1 + len(names), caption="Settings that differ")


def _differs(name: str, recipes: Iterable[Recipe]) -> bool:
    return len({getattr(recipe, name) for recipe in recipes}) > 1


def chosen(arms: Sequence[Mapping[str, Any]], recorded: Recorded) -> Markup | None:
    """The values that tuning chose for each arm, or the best that a search tried; None if nothing was tuned."""
    if not recorded.tuning:
        return None
    search = recorded.sweep.design == "search"
    content = _best(recorded) if search else _by_arm(arms, recorded)
    ended = Counter(entry.outcome.status for entry in recorded.tuning)
    ends = ", ".join(f"{n:,} {status}" for status, n in ended.items())
    counted = element("p", f"{len(recorded.tuning):,} tuning trials: {ends}.", class_="fine")
    return join([element("p", _SEARCHED if search else _CHOSEN, class_="fine"), content, counted])


def _best(recorded: Recorded) -> Markup:
    names = [*recorded.sweep.scientific, *recorded.sweep.nuisance]
    ranked = sorted(recorded.tuning, key=lambda entry: -entry.outcome.metrics.get(METRIC, -1.0))[:MOST_TRIED]
    rows = [
        (
            str(place),
            *(value_name(getattr(entry.trial.recipe, name)) for name in names),
            shown_number(METRIC, entry.outcome.metrics.get(METRIC)),
        )
        for place, entry in enumerate(ranked, 1)
    ]
    heads = ("place", *map(plain, names), "validation accuracy")
    return table(heads, rows, numbers_from=1 + len(names), caption=f"The best {len(rows)} that were tried")


def _by_arm(arms: Sequence[Mapping[str, Any]], recorded: Recorded) -> Markup:
    names = list(recorded.sweep.nuisance)
    tried: dict[object, list[Entry]] = {}
    for entry in recorded.tuning:
        tried.setdefault(key(entry.params), []).append(entry)
    rows = [row for arm in arms if (row := _row(arm, names, tried.get(key(arm["params"]), []), recorded))]
    heads = ("arm", *map(plain, names), "validation accuracy", "points tried")
    return table(heads, rows, numbers_from=1, caption="Values chosen")


def _row(
    arm: Mapping[str, Any], names: Sequence[str], tried: Sequence[Entry], recorded: Recorded
) -> tuple[str, ...] | None:
    judged = recorded.arm(arm["params"])
    if not judged or not tried:
        return None
    values = {name: getattr(judged[0].trial.recipe, name) for name in names}
    same = (each for each in tried if all(getattr(each.trial.recipe, name) == values[name] for name in names))
    score = next((each.outcome.metrics.get(METRIC) for each in same), None)
    return (arm_name(arm["params"]), *_values(values, tried), shown_number(METRIC, score), str(len(tried)))


def _values(values: Mapping[str, Scalar], tried: Sequence[Entry]) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, str | bool):
            yield str(value)
            continue
        others = {getattr(entry.trial.recipe, name) for entry in tried}
        edge = ", lowest tried" if value == min(others) else ", highest tried" if value == max(others) else ""
        yield f"{value_name(value)}{edge if len(others) > 1 else ''}"
