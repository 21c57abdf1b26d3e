"""One setting of a sweep: is its key known, is its value legal; knows nothing of designs and claims."""

from collections.abc import Iterable, Iterator, Mapping

from pydantic import ValidationError

from mnist_ablate.problems import hint, shown
from mnist_ablate.sweep.structure_check import describe
from mnist_ablate.sweep.sweep import METRICS, Range
from mnist_ablate.trial import Scalar
from mnist_ablate.workloads.workload import default_workload

RESERVED = ("seed", "outcome", "configuration", *METRICS)
"""Columns of a table of results that cannot be factors."""


def same(one: Scalar, other: Scalar) -> bool:
    """Equal as values of a factor: 1 and 1.0 are, 1 and true are not."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def among(value: Scalar, values: Iterable[Scalar]) -> bool:
    """Whether a value is one of several."""
    return any(same(value, other) for other in values)


def key_problem(key: str, *, any_factors: bool) -> str:
    """Why a key is not a factor; '' if it is."""
    if not any_factors:
        return (
            ""
            if key in default_workload().settings.model_fields
            else f"unknown key; {hint(key, default_workload().settings.model_fields)}"
        )
    if key in RESERVED:
        return "is a column of its own, not a factor; use another name"
    return "" if key.isidentifier() else "a factor is named by letters, digits and '_' and does not start with a digit"


def value_problem(key: str, value: Scalar, *, any_factors: bool) -> str:
    """Why a value is not one of its factor's; '' if it is, or if the key is no factor either."""
    if any_factors or key not in default_workload().settings.model_fields:
        return ""
    if allowed := choices().get(key):
        return "" if among(value, allowed) else f"no such {key}: {shown(value)}; {hint(value, allowed)}"
    try:
        default_workload().settings.model_validate({key: value}, strict=True)
    except ValidationError as error:
        return describe(error.errors(include_url=False)[0])
    return ""


def range_problems(key: str, interval: Range, *, any_factors: bool) -> Iterator[tuple[str, str]]:
    """Why a range cannot be searched for its factor, each with the key at fault; '' is all of it."""
    ends = {"low": interval.low, "high": interval.high}
    if interval.low >= interval.high:
        yield "low", f"must be below high, but {interval.low:g} is not below {interval.high:g}"
    if interval.log and interval.low <= 0:
        yield "low", f"must be above 0 with log: true, not {interval.low:g}"
    for part, end in ends.items() if interval.integer else ():
        if not end.is_integer():
            yield part, f"must be a whole number with integer: true, not {end:g}"
    if not any_factors and key in default_workload().settings.model_fields:
        yield from _recipe_problems(key, ends, integer=interval.integer)


def _recipe_problems(key: str, ends: Mapping[str, float], *, integer: bool) -> Iterator[tuple[str, str]]:
    kind = default_workload().settings.model_fields[key].annotation
    if kind is str:
        yield "", "is chosen by name; give a list: [a, b]"
        return
    if kind is int and not integer:
        yield "", "takes whole numbers; add integer: true"
    for part, end in ends.items():
        if text := value_problem(key, int(end) if kind is int else end, any_factors=False):
            yield part, text


def choices() -> dict[str, tuple[str, ...]]:
    """The allowed names of every recipe field that is a choice."""
    return {setting: tuple(known) for setting, known in default_workload().choices.items()}
