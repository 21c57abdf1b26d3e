"""Plain values to a Sweep: keys, types and ranges, all checked however much is wrong; knows no meaning."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mnist_ablate.problems import MAX_PROBLEMS, Address, Finding, guess, hint, listed, shown
from mnist_ablate.sweep.source_tree import Plain, Unreadable
from mnist_ablate.sweep.sweep import Claim, Design, Direction, NegativeControl, Pruning, Range, SeedRange, Sweep

_ALLOWED = {
    "sweep": tuple(key for key in Sweep.model_fields if key != "name"),
    "claims": tuple(Claim.model_fields),
    "nuisance": tuple(Range.model_fields),
    "seeds": tuple(SeedRange.model_fields),
}
_LITERALS = {
    "design": get_args(Design),
    "direction": get_args(Direction),
    "negative_control": get_args(NegativeControl),
    "pruning": get_args(Pruning),
}
_SCALAR_TAGS = {"str", "int", "float", "bool"}
_SCALAR_TEXT = "must be a single value: text, a number, true or false"
_WANTED = {
    "string_type": "text; put it in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list: [a, b]",
    "dict_type": "a mapping: {key: value}",
    "model_type": "a mapping: {key: value}",
    "range_or_list": "a list [a, b] or a range {low: 1e-4, high: 1e-1, log: true}",
}
_BLANK_CLAIM = {"statement": "?", "treatment": {}, "direction": "same", "margin": 0}
_BOUNDS = {
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "above {gt:g}",
    "less_than_equal": "at most {le:g}",
    "less_than": "below {lt:g}",
}


@dataclass(frozen=True)
class Shape:
    """What is sound of a file: a sweep without its claims, and the claims by their place in the list.

    `doubtful` are the sections and claims that lost something: what hangs on them cannot be judged.
    """

    sweep: Sweep
    claims: Mapping[int, Claim]
    doubtful: frozenset[str | int]
    findings: tuple[Finding, ...]


def shape(name: str, plain: Plain) -> Shape:
    """Validate a whole file; what is wrong is left out and named in `findings`."""
    if not isinstance(plain, dict):
        nothing = Sweep(name=name, question="?", seeds=1)
        return Shape(nothing, {}, frozenset(_ALLOWED["sweep"]), tuple(_no_mapping(plain)))
    sections = {key: value for key, value in plain.items() if key not in ("name", "claims")}
    sweep, findings = _sweep(name, sections)
    claims, found = _claims(plain.get("claims", []))
    if "name" in plain:
        findings.append(Finding(("name",), "a sweep is named by its file; remove this line", at_key=True))
    findings += found
    return Shape(sweep, claims, frozenset(_doubtful(findings, plain)), tuple(_readable(findings, plain)))


def describe(error: ErrorDetails) -> str:
    """What pydantic found, in words that name the value, what was allowed and the next step."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind in _WANTED:
        return f"must be {_WANTED[kind]}, not {shown(value)}"
    if kind in _BOUNDS:
        return f"must be {_BOUNDS[kind].format(**context)}, not {shown(value)}"
    return f"{shown(value)}: {error['msg']}"


def _no_mapping(plain: Plain) -> Iterator[Finding]:
    if not isinstance(plain, Unreadable):
        yield Finding((), f"a sweep file is a mapping of {listed(_ALLOWED['sweep'])}; not {shown(plain)}")


def _sweep(name: str, sections: Mapping[str, Plain]) -> tuple[Sweep, list[Finding]]:
    content: dict[str, Any] = {"name": name, **sections}
    findings = list(_findings(Sweep, content, ()))
    sound = _without(content, [_entry(finding.address) for finding in findings])
    return Sweep.model_validate({"question": "?", "seeds": 1, **sound}, strict=True), findings


def _entry(address: Address) -> Address:
    """What is left out for a finding: the entry of a section, or the whole of one that is nothing without its parts."""
    return address[:1] if address[0] == "seeds" else address[:2]


def _claims(plain: Plain) -> tuple[dict[int, Claim], list[Finding]]:
    if not isinstance(plain, list):
        return {}, [Finding(("claims",), f"must be a list of claims, not {shown(plain)}")]
    claims: dict[int, Claim] = {}
    findings: list[Finding] = []
    for index, item in enumerate(plain):
        if len(findings) > MAX_PROBLEMS:
            break
        found = list(_findings(Claim, item, ("claims", index)))
        findings += found
        if isinstance(item, dict):
            sound = _without(item, [finding.address[2:4] for finding in found])
            claims[index] = Claim.model_validate(_BLANK_CLAIM | {"name": f"claim-{index}"} | sound, strict=True)
    return claims, findings


def _without(content: Mapping[str, Any], addresses: Iterable[Address]) -> dict[str, Any]:
    """The content without the entries at these addresses, which are at most two keys long."""
    sound = {key: dict(value) if isinstance(value, dict) else value for key, value in content.items()}
    for key, *entry in addresses:
        section = sound.get(str(key))
        if entry and isinstance(section, dict):
            section.pop(entry[0], None)
        else:
            sound.pop(str(key), None)
    return sound


def _findings(model: type[BaseModel], content: object, base: Address) -> Iterator[Finding]:
    """One finding per address: a union reports every member."""
    try:
        model.model_validate(content, strict=True)
    except ValidationError as error:
        seen: set[Address] = set()
        for details in error.errors(include_url=False):
            address, rest = _split(details["loc"], content)
            if address not in seen or details["type"] == "missing":
                seen.add(address)
                yield _finding((*base, *address), rest, details)


def _split(location: Iterable[Any], top: Any) -> tuple[Address, list[str | int]]:
    """An error's location as the address of a value that exists, and the rest: union tags, a missing key."""
    address: list[str | int] = []
    rest: list[str | int] = []
    for part in location:
        if part in top if isinstance(top, dict) else isinstance(top, list) and isinstance(part, int):
            top = top[part]
            address.append(part)
        else:
            rest.append(part)
    return tuple(address), rest


def _finding(address: Address, rest: list[str | int], error: ErrorDetails) -> Finding:
    key = address[-1] if address else ""
    if error["type"] == "missing":
        return Finding((*address, rest[-1]), "is missing")
    if error["type"] == "extra_forbidden":
        section = str(address[0]) if len(address) > 1 else "sweep"
        return Finding(address, f"unknown key; {hint(key, _ALLOWED[section])}", at_key=True)
    if error["type"] == "literal_error":
        return Finding(address, f"no such {key}: {shown(error['input'])}; {hint(error['input'], _LITERALS[str(key)])}")
    if rest and rest[-1] in _SCALAR_TAGS:
        return Finding(address, f"{_SCALAR_TEXT}, not {shown(error['input'])}")
    return Finding(address, describe(error))


def _doubtful(findings: Iterable[Finding], plain: Mapping[str, Plain]) -> Iterator[str | int]:
    """Sections and claims that lost something, and sections that a misspelled key was meant to be."""
    for section, *rest in (finding.address for finding in findings):
        yield section
        yield from rest[:1] if section == "claims" else ()
        if section not in _ALLOWED["sweep"]:
            yield from (known for known in _ALLOWED["sweep"] if known not in plain and guess(section, [known]))


def _readable(findings: Iterable[Finding], plain: Plain) -> Iterator[Finding]:
    """The findings without those on values that the reader of the file has already refused."""
    for finding in findings:
        value: Any = plain
        for part in finding.address:
            known = part in value if isinstance(value, dict) else isinstance(value, list)
            value = value[part] if known else None
        if finding.at_key or not isinstance(value, Unreadable):
            yield finding
