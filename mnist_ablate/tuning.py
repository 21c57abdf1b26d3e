"""The nuisance values that tuning chose for each arm, beside what was tried; chooses nothing."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mnist_ablate.drawing import shown_number
from mnist_ablate.ledger import Entry
from mnist_ablate.markup import Markup, element, join, table
from mnist_ablate.recorded import Recorded, arm_name, key
from mnist_ablate.trial import Scalar

METRIC = "val_accuracy"
_NOTE = (
    "Chosen for each arm by validation accuracy, from the same points for all arms, with seeds that no verdict uses."
    " A value at the edge of what was tried may not be the best there is: widen its range."
)


def chosen(arms: Sequence[Mapping[str, Any]], recorded: Recorded) -> Markup | None:
    """A row for each arm; None if nothing was tuned."""
    names = list(recorded.sweep.nuisance)
    tried: dict[object, list[Entry]] = {}
    for entry in recorded.tuning:
        tried.setdefault(key(entry.params), []).append(entry)
    rows = [_row(arm, names, tried.get(key(arm["params"]), []), recorded) for arm in arms]
    found = [row for row in rows if row]
    if not names or not found:
        return None
    heads = ("arm", *(name.replace("_", " ") for name in names), "validation accuracy", "points tried")
    return join([element("p", _NOTE, class_="fine"), table(heads, found, numbers_from=1, caption="Values chosen")])


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
        yield f"{value:.4g}{edge if len(others) > 1 else ''}"
