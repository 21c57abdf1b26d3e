"""Plain values to a Sweep, and everything that is wrong with them: keys, types, ranges, then whether it makes sense.

What only one design asks for is in `designs`. Without a workload the factors are columns of a table, with any values.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mnist_ablate.errors import SweepError
from mnist_ablate.sweep import claim_checks, conflicts, settings_across, sources
from mnist_ablate.sweep.claim import Claim, keys_of, kind_names
from mnist_ablate.sweep.designs import CONFIGURATION, DESIGNS, contains_value, equal_values
from mnist_ablate.sweep.designs import SECTIONS as DESIGN_SECTIONS
from mnist_ablate.sweep.sweep import NAME_RULE, SECTIONS, Choice, Range, SeedRange, Sweep, is_name
from mnist_ablate.sweep.yaml_reader import MAX_PROBLEMS, Address, Finding, Plain, Unreadable, child
from mnist_ablate.text import guess, hint, listed, plainly, shown
from mnist_ablate.trial import Params, Scalar
from mnist_ablate.workloads.own_code.declaration import (
    METRIC_NAME,
    METRIC_RULE,
    RESERVED_METRICS,
    MetricDeclaration,
    Setting,
)
from mnist_ablate.workloads.own_code.notebook_function import NotebookFunction
from mnist_ablate.workloads.workload import Workload, default_workload

M = TypeVar("M", bound=BaseModel)
_MODELS: Mapping[str | int, type[BaseModel]] = {
    "nuisance": Range,
    "seeds": SeedRange,
    "settings": Setting,
    "metrics": MetricDeclaration,
}
"""The models of values in a section; those of all others are Sweep's own fields."""
_WANTED = {
    "string_type": "text; put it in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list: [a, b]",
    "dict_type": "a mapping: {{key: value}}",
    "model_type": "a mapping: {{key: value}}",
    "range_or_list": "a list [a, b] or a range {{low: 1e-4, high: 1e-1, log: true}}",
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "above {gt:g}",
    "less_than_equal": "at most {le:g}",
    "less_than": "below {lt:g}",
}
_BLANK_CLAIM: Mapping[str, Plain] = {"statement": "?", "treatment": {}, "direction": "same", "margin": 0}
_BLANKS: Mapping[object, Plain] = {str: "?", float: 1.0, int: 1}
"""What stands for a value that a kind of claim needs and that is missing or wrong."""
_RELATED = frozenset({"design", "tuning_trials", *DESIGN_SECTIONS})
"""The sections that are judged together: not with one of them unreliable."""
_OTHER_ROLES = {
    "nuisance": ("scientific",),
    "across": ("scientific", "nuisance", "target"),
    "fixed": ("scientific", "target"),
    "configurations": ("nuisance", "fixed"),
}
"""Where a factor must not stand too. Only the value that tuning replaces may be fixed as well."""


def check(
    name: str, plain: Plain, folder: Path, *, any_factors: bool = False, function: NotebookFunction | None = None
) -> tuple[Sweep, list[Finding]]:
    """What is sound of a file's values as a sweep, and what is wrong, up to somewhat more than MAX_PROBLEMS.

    `folder` is that of the file. With `any_factors` they are columns of a table, not settings of a workload. The
    `function` is the one that `train` names, if it lives in no file.
    """
    if not isinstance(plain, dict):
        text = f"a sweep file is a mapping of {listed(SECTIONS)}; not {shown(plain)}"
        return Sweep(name=name, question="?", seeds=1), [] if isinstance(plain, Unreadable) else [Finding((), text)]
    content = {**plain, "name": name}
    items = content.pop("claims", [])
    sweep, found = _sound(Sweep, content, (), {"question": "?", "seeds": 1})
    claims: dict[int, Claim] = {}
    for index, item in enumerate(items) if isinstance(items, list) else ():
        if len(found) <= MAX_PROBLEMS:
            claims[index], wrong = _sound_claim(item, ("claims", index), f"claim-{index}")
            found += wrong
    if not isinstance(items, list):
        text = "" if isinstance(items, Unreadable) else f"must be a list of claims, not {shown(items)}"
        found.append(Finding(("claims",), text))
    if "name" in plain:
        found.append(Finding(("name",), "a sweep has the name of its file; remove this line", at_key=True))
    if "found_settings" in plain:
        found.append(Finding(("found_settings",), f"unknown key; {hint('found_settings', SECTIONS)}", at_key=True))
    sweep = sweep.located(folder, function).with_claims(list(claims.values()))
    workload, wrong = (None, []) if any_factors else _workload_of(sweep)
    found += wrong
    unreliable = {part for each in found for part in each.address[: 2 if each.address[0] == "claims" else 1]}
    misspelled = [key for key in unreliable if key not in SECTIONS]
    unreliable |= {known for known in SECTIONS if known not in plain and any(guess(key, [known]) for key in misspelled)}
    found = [finding for finding in found if finding.text]
    rules = _Rules(workload, workload.choices if workload else {}, {**default_workload().metrics, **sweep.metrics})
    claims = dict(zip(claims, sweep.claims, strict=True))
    found += islice(_sense(sweep, claims, unreliable, rules), MAX_PROBLEMS + 1)
    found += () if found or unreliable else conflicts.findings(sweep, workload)
    return sweep, found


def claim_findings(content: Plain) -> list[Finding]:
    """What is wrong with the values of a claim by itself. Whether it suits a sweep is another question."""
    found = _sound_claim(content, ("claims", 0), "claim")[1]
    return [Finding(each.address[2:], each.text, each.at_key) for each in found]


def _sound_claim(content: Plain, base: Address, name: str) -> tuple[Claim, list[Finding]]:
    """A claim by the keys of its kind, as `_sound` gives it."""
    keys, kind = keys_of(content), child(content, "kind")
    if isinstance(kind, str) and kind not in kind_names():
        text = f"no such kind: {shown(kind)}; {hint(kind, kind_names())}"
        return Claim.model_validate({**_BLANK_CLAIM, "name": name}), [Finding((*base, "kind"), text)]
    needed = {key: field.annotation for key, field in keys.model_fields.items() if field.is_required()}
    blank = {key: _BLANKS[type_] for key, type_ in needed.items() if type_ in _BLANKS}
    usual = {key: value for key, value in _BLANK_CLAIM.items() if key not in keys.never}
    return _sound(keys, content, base, {**blank, **usual, "name": name})


def _workload_of(sweep: Sweep) -> tuple[Workload | None, list[Finding]]:
    """What the sweep trains; nothing, and why, if its code or what is said of its settings cannot be used."""
    try:
        workload = sweep.workload
        workload.settings, workload.choices  # noqa: B018 - they are read from the code
    except SweepError as error:
        return None, [Finding(("train" if sweep.train else "choices",), str(error))]
    except ValidationError as error:
        return None, [Finding(("settings",), _describe(error.errors(include_url=False)[0]))]
    return workload, []


def _sound(model: type[M], content: Plain, base: Address, blank: Mapping[str, Plain]) -> tuple[M, list[Finding]]:
    """A mapping without what is wrong in it, and that: a finding for each address, '' where a value was refused."""
    found: dict[Address, Finding] = {}
    try:
        model.model_validate(content, strict=True)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            address, value, rest = base, content, ""  # the rest of a location: union tags, a missing key
            for part in details["loc"]:
                if (inner := child(value, part)) is None:
                    rest = str(part)
                else:
                    address, value = (*address, part), inner
            finding = _finding(address, rest, details, model)
            found.setdefault(finding.address, finding)
    entries = content.items() if isinstance(content, dict) else ()
    sound = {key: dict(value) if isinstance(value, dict) else value for key, value in entries}
    # A finding costs the entry of its section, or the whole of one that is nothing without its parts.
    for key, *entry in (address[len(base) :] for address in found if address != base):
        section = sound.get(str(key))
        if entry and isinstance(section, dict) and key != "seeds":
            section.pop(str(entry[0]), None)
        else:
            sound.pop(str(key), None)
    return model.model_validate({**blank, **sound}, strict=True), list(found.values())


def _finding(address: Address, rest: str, error: ErrorDetails, model: type[BaseModel]) -> Finding:
    if model is Sweep and len(address) > 1:
        model = _MODELS.get(address[0], Sweep)
    value = error["input"]
    if error["type"] == "missing":
        return Finding((*address, rest), "is missing")
    if error["type"] == "extra_forbidden":
        never = model.never if issubclass(model, Claim) else ()
        allowed = SECTIONS if model is Sweep else tuple(key for key in model.model_fields if key not in never)
        return Finding(address, f"unknown key; {hint(address[-1], allowed)}", at_key=True)
    if isinstance(value, Unreadable):
        return Finding(address, "")
    if error["type"] == "literal_error":
        key = next(part for part in reversed(address) if isinstance(part, str))
        kinds = get_args(model.model_fields[key].annotation)
        allowed = tuple(name for kind in kinds for name in (get_args(kind) or (kind,)) if isinstance(name, str))
        return Finding(address, f"no such {key}: {shown(value)}; {hint(value, allowed)}")
    if rest in {"str", "int", "float", "bool"}:
        return Finding(address, f"must be a single value: text, a number, true or false, not {shown(value)}")
    return Finding(address, _describe(error))


def _describe(error: ErrorDetails) -> str:
    """What pydantic found, in words that name the value, what was allowed and the next step."""
    value, wanted = shown(error["input"]), _WANTED.get(error["type"])
    return f"must be {wanted.format(**error.get('ctx', {}))}, not {value}" if wanted else f"{value}: {error['msg']}"


@dataclass(frozen=True)
class _Rules:
    """What is known of factors and their values; every method returns '' for what is right."""

    workload: Workload | None
    choices: Mapping[str, Mapping[str, str]]
    metrics: Collection[str]

    def key_problem(self, key: str) -> str:
        if self.workload:
            fields = self.workload.settings.model_fields
            return "" if key in fields else f"unknown key; {hint(key, fields)}"
        if key in ("seed", "outcome", CONFIGURATION) or key in self.metrics:
            return "is a column with a meaning of its own, not a factor; use another name"
        wanted = "a factor is named by letters, digits and '_' and does not start with a digit"
        return "" if key.isidentifier() else wanted

    def value_problem(self, key: str, value: Scalar, *, names_arm: bool = False) -> str:
        if not self.workload or key not in self.workload.settings.model_fields:
            return ""
        if allowed := self.choices.get(key):
            return "" if contains_value(allowed, value) else f"no such {key}: {shown(value)}; {hint(value, allowed)}"
        try:
            self.workload.settings.model_validate({key: value}, strict=True)
        except ValidationError as error:
            own = [each for each in error.errors(include_url=False) if each["type"] != "missing"]
            if own:
                return _describe(own[0])
        # What an arm or a tried point is said to have must be what is trained.
        if names_arm and key in self.workload.derived and equal_values(value, 0):
            return f"0 stands for the {self.workload.derived[key]}'s default; write the number"
        return ""

    def range_problems(self, key: str, interval: Range) -> Iterator[tuple[Address, str]]:
        """Why a range cannot be searched for its factor, each with the key at fault, if it is not all of it."""
        field = self.workload.settings.model_fields.get(key) if self.workload else None
        kind = field.annotation if field else None
        if interval.low >= interval.high:
            yield ("low",), f"must be below high, but {interval.low:g} is not below {interval.high:g}"
        if interval.log and interval.low <= 0:
            yield ("low",), f"must be above 0 with log: true, not {interval.low:g}"
        if kind not in (int, float, None):
            yield (), "is not a number, so it has no range; give a list: [a, b]"
        if kind is int and not interval.integer:
            yield (), "takes whole numbers; add integer: true"
        for part, end in (("low", interval.low), ("high", interval.high)):
            if interval.integer and not end.is_integer():
                yield (part,), f"must be a whole number with integer: true, not {end:g}"
            if kind in (int, float) and (text := self.value_problem(key, int(end) if kind is int else end)):
                yield (part,), text


def _sense(sweep: Sweep, claims: dict[int, Claim], lost: set[str | int], rules: _Rules) -> Iterator[Finding]:
    """What makes no sense. What depends on a section, or on the place of a claim, that lost a part is not judged."""
    places: list[tuple[Address, Choice | Scalar]] = []  # of factors: their addresses, which end with their names
    for section in ("baseline", "scientific", "target", "nuisance", "fixed", "across"):
        places += [((section, key), content) for key, content in getattr(sweep, section).items()]
    for name, params in sweep.configurations.items():
        places += [(("configurations", name, key), value) for key, value in params.items()]
    for address, content in places:
        yield from _factor(address, content, sweep, rules)
    yield from _configurations(sweep, rules)
    if isinstance(sweep.seeds, SeedRange) and sweep.seeds.min >= sweep.seeds.max:
        yield Finding(("seeds", "min"), f"must be below max, but {sweep.seeds.min} is not below {sweep.seeds.max}")
    if not sweep.question.strip():
        yield Finding(("question",), "is empty; say in a sentence what the sweep asks")
    yield from _own_code(sweep, claims, lost, rules)
    yield from sources.findings(sweep, claims, lost, rules.workload)
    yield from claim_checks.findings(sweep, claims, lost, rules.workload)
    if lost & _RELATED:
        return
    yield from DESIGNS[sweep.design].findings(sweep, rules.workload)
    yield from settings_across.findings(sweep.model_copy(update={"claims": [*claims.values()]}))
    if sweep.looks and not claims and "claims" not in lost:
        text = "min and max add seeds while a claim is undecided, and there is no claim; write one number"
        yield Finding(("seeds",), text)
    for index, claim in claims.items():
        yield from claim_checks.of_arms(("claims", index), claim, sweep, is_sound=index not in lost)


def _own_code(sweep: Sweep, claims: Mapping[int, Claim], lost: set[str | int], rules: _Rules) -> Iterator[Finding]:
    """What the sections about the user's own code lack, or have without any code."""
    if sweep.train:
        text = "percent is for a table that is judged; code returns shares, 0 to 1"
        percent = (name for name, told in sweep.metrics.items() if told.unit == "percent")
        yield from (Finding(("metrics", name, "unit"), text) for name in percent)
        yield from _own_metrics(sweep, claims, lost)
        yield from _values_needed(sweep, lost, rules.workload)
        for section in ("choices", "data"):
            if getattr(sweep, section):
                text = "is for the networks of this package, and train: names other code; remove one of them"
                yield Finding((section,), text, at_key=True)
        return
    for section in ("settings", "choose_by", "code", "timeout_s", *(("metrics",) if rules.workload else ())):
        if getattr(sweep, section) != Sweep.model_fields[section].default and "train" not in lost:
            yield Finding((section,), "is about your own code, which train: names; add that line", at_key=True)


def _own_metrics(sweep: Sweep, claims: Mapping[int, Claim], lost: set[str | int]) -> Iterator[Finding]:
    """Metrics that are used and not declared."""
    for name in sweep.metrics:
        if not METRIC_NAME.fullmatch(name) or name in RESERVED_METRICS:
            yield Finding(("metrics", name), f"{shown(name)}: {METRIC_RULE}", at_key=True)
    used: list[tuple[Address, str]] = [
        (("claims", index, "metric"), each.metric) for index, each in claims.items() if index not in lost
    ]
    for index, claim in claims.items():
        if index not in lost and "metric" not in claim.model_fields_set:
            yield Finding(("claims", index, "metric"), "is missing; name a metric that the code reports")
            used.remove((("claims", index, "metric"), claim.metric))
    if not sweep.metrics:
        used = []
    if sweep.choose_by:
        used.append((("choose_by",), sweep.choose_by))
    elif (DESIGNS[sweep.design].searches or sweep.nuisance) and "choose_by" not in lost:
        yield Finding(("choose_by",), "is missing; name the metric under metrics that tuning and search choose by")
    for address, name in used if "metrics" not in lost else ():
        if name not in sweep.metrics:
            yield Finding(address, f"{shown(name)} is not under metrics; {hint(name, sweep.metrics)}")


def _values_needed(sweep: Sweep, lost: set[str | int], workload: Workload | None) -> Iterator[Finding]:
    """Settings without a default that some arm gives no value."""
    given = {*sweep.fixed, *sweep.scientific, *sweep.nuisance, *sweep.baseline, *sweep.target}
    arms = [*sweep.configurations.values()] or [Params()]
    for name, field in workload.settings.model_fields.items() if workload and not lost & _RELATED else ():
        if field.is_required() and name not in given and not all(name in arm for arm in arms):
            yield Finding(("fixed",), f"lacks {plainly(name)}, which the code needs: give it a value")


def _factor(address: Address, content: Choice | Scalar, sweep: Sweep, rules: _Rules) -> Iterator[Finding]:
    """What is wrong with a factor at one place: its name, its role, its values."""
    section, key = str(address[0]), str(address[-1])
    if text := rules.key_problem(key):
        yield Finding(address, text, at_key=True)
    for other in _OTHER_ROLES.get(section, ()):
        if key in getattr(sweep, other):
            yield Finding(address, f"is in {other} too; remove it from one of them", at_key=True)
    if isinstance(content, Range):
        yield from (Finding((*address, *part), text) for part, text in rules.range_problems(key, content))
        return
    if content == []:
        yield Finding(address, "an empty list; give at least one value, or remove the line")
    names_arm = isinstance(content, list) or (section == "baseline" and DESIGNS[sweep.design].baseline_is_arm)
    seen: set[tuple[bool, Scalar]] = set()
    for index, value in enumerate(content if isinstance(content, list) else [content]):
        place = (*address, index) if isinstance(content, list) else address
        if text := rules.value_problem(key, value, names_arm=names_arm):
            yield Finding(place, text)
        if (isinstance(value, bool), value) in seen:
            yield Finding(place, f"{shown(value)} is there twice; keep one")
        seen.add((isinstance(value, bool), value))


def _configurations(sweep: Sweep, rules: _Rules) -> Iterator[Finding]:
    """Names that are none, and configurations that are trained alike."""
    earlier: dict[frozenset[tuple[str, Scalar]], str] = {}
    for name, params in sweep.configurations.items():
        if not is_name(name):
            yield Finding(("configurations", name), NAME_RULE, at_key=True)
        settings = {**sweep.fixed, **params}
        wrong = any(rules.key_problem(key) or rules.value_problem(key, value) for key, value in settings.items())
        if rules.workload and not wrong and not sweep.train:
            settings = rules.workload.complete(settings)
        first = earlier.setdefault(frozenset(settings.items()), name)
        if first != name:
            yield Finding(("configurations", name), f"is the same as {shown(first)}; remove one", at_key=True)
