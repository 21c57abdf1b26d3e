"""Does a sweep make sense: known settings, legal values, one role for each factor, claims about arms that are run.

What only one design asks for is in `designs`. Without a workload the factors are columns of a table, which may have any
name and value.
"""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from pydantic import ValidationError

from mnist_ablate.sweep import designs
from mnist_ablate.sweep.designs import CONFIGURATION, DESIGNS, contains_value, equal_values
from mnist_ablate.sweep.source_tree import Address, Finding
from mnist_ablate.sweep.structure_check import ParsedSweep, describe
from mnist_ablate.sweep.sweep import NAME_RULE, Claim, Range, SeedRange, Sweep, is_name
from mnist_ablate.text import hint, listed, plainly, shown
from mnist_ablate.trial import Params, Scalar
from mnist_ablate.workloads.workload import Workload, default_workload

_RELATED = frozenset({"design", "tuning_trials", *designs.SECTIONS})
"""The sections that are judged together: not with one of them unreliable."""
_SIDES = ("treatment", "control", "where", "versus")


def findings(parsed: ParsedSweep, workload: Workload | None) -> Iterator[Finding]:
    """Everything that is wrong; what depends on an unreliable section is not judged."""
    sweep, unreliable = parsed.sweep, parsed.unreliable_sections
    yield from parsed.findings
    rules = _Rules(workload)
    yield from _entries(sweep, rules)
    yield from _lists(sweep)
    yield from _derived_values(sweep, workload)
    yield from _overlaps(sweep)
    yield from _configurations(sweep, rules)
    if isinstance(sweep.seeds, SeedRange) and sweep.seeds.min >= sweep.seeds.max:
        yield Finding(("seeds", "min"), f"must be below max, but {sweep.seeds.min} is not below {sweep.seeds.max}")
    if not sweep.question.strip():
        yield Finding(("question",), "is empty; say in a sentence what the sweep asks")
    yield from _claims(parsed.claims, unreliable, workload)
    if unreliable & _RELATED:
        return
    yield from DESIGNS[sweep.design].findings(sweep, workload)
    if sweep.looks and not parsed.claims and "claims" not in unreliable:
        text = "min and max add seeds while a claim is undecided, and there is no claim; write one number"
        yield Finding(("seeds",), text)
    for index, claim in parsed.claims.items():
        unknown = list(_unknown(index, claim, sweep))
        yield from unknown or (() if index in unreliable else _never_run(index, claim, sweep))


@dataclass(frozen=True)
class _Rules:
    """What is known of factors and their values; every method returns '' for what is right."""

    workload: Workload | None

    @cached_property
    def choices(self) -> Mapping[str, Mapping[str, str]]:
        """The allowed names of settings, made once."""
        return self.workload.choices if self.workload else {}

    def is_setting(self, key: str) -> bool:
        """Whether the workload declares it."""
        return self.workload is not None and key in self.workload.settings.model_fields

    def key_problem(self, key: str) -> str:
        """Why a key is not a factor."""
        if self.workload:
            return "" if self.is_setting(key) else f"unknown key; {hint(key, self.workload.settings.model_fields)}"
        if key in ("seed", "outcome", CONFIGURATION) or key in default_workload().metrics:
            return "is a column with a meaning of its own, not a factor; use another name"
        wanted = "a factor is named by letters, digits and '_' and does not start with a digit"
        return "" if key.isidentifier() else wanted

    def value_problem(self, key: str, value: Scalar) -> str:
        """Why a value is not one of its setting's; what is no setting can have any."""
        if not self.workload or not self.is_setting(key):
            return ""
        if allowed := self.choices.get(key):
            return "" if contains_value(allowed, value) else f"no such {key}: {shown(value)}; {hint(value, allowed)}"
        try:
            self.workload.settings.model_validate({key: value}, strict=True)
        except ValidationError as error:
            return describe(error.errors(include_url=False)[0])
        return ""

    def range_problems(self, key: str, interval: Range) -> Iterator[tuple[str, str]]:
        """Why a range cannot be searched for its factor, each with the key at fault; '' is all of it."""
        ends = {"low": interval.low, "high": interval.high}
        if interval.low >= interval.high:
            yield "low", f"must be below high, but {interval.low:g} is not below {interval.high:g}"
        if interval.log and interval.low <= 0:
            yield "low", f"must be above 0 with log: true, not {interval.low:g}"
        for part, end in ends.items() if interval.integer else ():
            if not end.is_integer():
                yield part, f"must be a whole number with integer: true, not {end:g}"
        if not self.workload or not self.is_setting(key):
            return
        kind = self.workload.settings.model_fields[key].annotation
        if kind not in (int, float):
            yield "", "is not a number, so it has no range; give a list: [a, b]"
            return
        if kind is int and not interval.integer:
            yield "", "takes whole numbers; add integer: true"
        for part, end in ends.items():
            if text := self.value_problem(key, int(end) if kind is int else end):
                yield part, text


def _entries(sweep: Sweep, rules: _Rules) -> Iterator[Finding]:
    """Keys that are no setting, and values and ranges that their setting cannot have."""
    for address, key, value in _values_of(sweep):
        if text := rules.value_problem(key, value):
            yield Finding(address, text)
    keys = [(section, key) for section in ("scientific", "nuisance") for key in getattr(sweep, section)]
    for address in (*keys, *((*address, key) for address, params in _params_of(sweep) for key in params)):
        if text := rules.key_problem(str(address[-1])):
            yield Finding(address, text, at_key=True)
    for key, choice in sweep.nuisance.items():
        for part, text in rules.range_problems(key, choice) if isinstance(choice, Range) else ():
            yield Finding(("nuisance", key, part) if part else ("nuisance", key), text)


def _values_of(sweep: Sweep) -> Iterator[tuple[Address, str, Scalar]]:
    for address, values in _lists_of(sweep):
        yield from (((*address, index), str(address[-1]), value) for index, value in enumerate(values))
    for address, params in _params_of(sweep):
        yield from (((*address, key), key, value) for key, value in params.items())


def _lists_of(sweep: Sweep) -> Iterator[tuple[Address, list[Scalar]]]:
    for section in ("scientific", "nuisance"):
        for key, values in getattr(sweep, section).items():
            if isinstance(values, list):
                yield (section, key), values


def _params_of(sweep: Sweep) -> Iterator[tuple[Address, Params]]:
    for section in ("baseline", "fixed", "target"):
        yield (section,), getattr(sweep, section)
    for name, params in sweep.configurations.items():
        yield ("configurations", name), params


def _lists(sweep: Sweep) -> Iterator[Finding]:
    for address, values in _lists_of(sweep):
        if not values:
            yield Finding(address, "an empty list; give at least one value, or remove the line")
        seen: set[tuple[bool, Scalar]] = set()
        for index, value in enumerate(values):
            if (isinstance(value, bool), value) in seen:
                yield Finding((*address, index), f"{shown(value)} is there twice; keep one")
            seen.add((isinstance(value, bool), value))


def _derived_values(sweep: Sweep, workload: Workload | None) -> Iterator[Finding]:
    """What an arm or a tried point is said to have must be what is trained; fixed values name no arm."""
    for setting, source in workload.derived.items() if workload else ():
        text = f"0 stands for the {source}'s default; write the number"
        for address, values in _lists_of(sweep):
            if address[-1] == setting:
                zeros = (index for index, value in enumerate(values) if equal_values(value, 0))
                yield from (Finding((*address, index), text) for index in zeros)
        if DESIGNS[sweep.design].baseline_is_arm and equal_values(sweep.baseline.get(setting, ""), 0):
            yield Finding(("baseline", setting), text)


def _overlaps(sweep: Sweep) -> Iterator[Finding]:
    """A factor has one role; only the value that tuning replaces may be fixed as well."""
    for section in ("nuisance", "fixed"):
        others = getattr(sweep, section)
        for key in (key for key in sweep.scientific if key in others):
            yield Finding((section, key), "is in scientific too; remove it from one of them", at_key=True)
        for name, params in sweep.configurations.items():
            for key in (key for key in params if key in others):
                text = f"is in {section} too; remove it from one of them"
                yield Finding(("configurations", name, key), text, at_key=True)


def _configurations(sweep: Sweep, rules: _Rules) -> Iterator[Finding]:
    earlier: dict[frozenset[tuple[str, Scalar]], str] = {}
    for name, params in sweep.configurations.items():
        if not is_name(name):
            yield Finding(("configurations", name), NAME_RULE, at_key=True)
        first = earlier.setdefault(frozenset(_trained({**sweep.fixed, **params}, rules).items()), name)
        if first != name:
            yield Finding(("configurations", name), f"is the same as {shown(first)}; remove one", at_key=True)


def _trained(settings: Params, rules: _Rules) -> Params:
    """What is trained with these settings, if they are legal; a table says nothing of what it leaves out."""
    wrong = (rules.key_problem(key) or rules.value_problem(key, value) for key, value in settings.items())
    return settings if not rules.workload or any(wrong) else rules.workload.complete(settings)


def _claims(
    claims: Mapping[int, Claim], unreliable: Container[str | int], workload: Workload | None
) -> Iterator[Finding]:
    """What is wrong with a claim by itself (of an unreliable one, its texts), and names that are there twice."""
    earlier: set[str] = set()
    for index, claim in claims.items():
        sides = () if index in unreliable else _sides(claim)
        for key, text in (*_texts(claim, workload), *sides):
            yield Finding(("claims", index, key), text)
        if claim.name in earlier:
            text = f"{shown(claim.name)} is there twice; give each claim its own name"
            yield Finding(("claims", index, "name"), text)
        earlier.add(claim.name)


def _texts(claim: Claim, workload: Workload | None) -> Iterator[tuple[str, str]]:
    if not is_name(claim.name):
        yield "name", f"{shown(claim.name)}: {NAME_RULE}"
    if not claim.statement.strip():
        yield "statement", "is empty; say in a sentence what is claimed"
    if workload and claim.metric not in workload.metrics:
        yield "metric", f"no such metric: {shown(claim.metric)}; {hint(claim.metric, workload.metrics)}"


def _sides(claim: Claim) -> Iterator[tuple[str, str]]:
    """Whether the claim compares two things that differ in one way."""
    if not claim.treatment:
        yield "treatment", "is empty; name the arm that the claim is about: {factor: value}"
    if claim.control is None and claim.reference is None:
        yield "control", "is missing; give the arm to compare with, or reference: a number"
    if claim.control is not None and claim.reference is not None:
        yield "reference", "goes in place of control; remove one of them"
    if claim.control is not None:
        yield from _two("control", claim.control, "treatment", claim.treatment)
    for key in (key for key in claim.where if key in claim.treatment):
        yield "where", f"{plainly(key)} is in treatment too; remove it from one of them"
    if claim.versus is None:
        return
    if claim.control is None:
        yield "versus", "compares two differences, so it needs control"
    if claim.where:
        yield from _two("versus", claim.versus, "where", claim.where)
    else:
        yield "versus", "takes the place of where in the second difference; add where: {factor: value}"


def _two(side: str, params: Params, other: str, others: Params) -> Iterator[tuple[str, str]]:
    """Two sides of a comparison have the same factors with different values."""
    if params.keys() != others.keys():
        yield side, f"must have the factors of {other}: {listed(others)}; not: {listed(params) or 'none'}"
    elif others and all(equal_values(params[key], others[key]) for key in params):
        yield side, f"is the same as {other}; change one of them"


def _unknown(index: int, claim: Claim, sweep: Sweep) -> Iterator[Finding]:
    """Factors and values of a claim that no arm has."""
    factors = sweep.factors
    for side in _SIDES:
        for key, value in (getattr(claim, side) or {}).items():
            address = ("claims", index, side, key)
            if key not in factors:
                yield Finding(address, f"not a factor of this sweep; {hint(key, factors, 'factors')}", at_key=True)
            elif not contains_value(factors[key], value):
                yield Finding(address, f"no arm has {shown(value)}; {hint(value, factors[key], 'values')}")


def _never_run(index: int, claim: Claim, sweep: Sweep) -> Iterator[Finding]:
    """Combinations of a claim's values that the design leaves out."""
    for context in ("where", "versus") if claim.versus is not None else ("where",):
        for side in ("treatment", "control") if claim.control is not None else ("treatment",):
            arm = {**getattr(claim, context), **getattr(claim, side)}
            if text := DESIGNS[sweep.design].missing_arm(sweep, arm):
                yield Finding(("claims", index, "versus" if context == "versus" else side), text)
