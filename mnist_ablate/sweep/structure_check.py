"""Plain values to a Sweep: keys, types and ranges, all of them checked however much is wrong; knows no meaning."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mnist_ablate.sweep.source_tree import MAX_PROBLEMS, Address, Finding, Plain, Unreadable
from mnist_ablate.sweep.sweep import SECTIONS, Claim, Range, SeedRange, Sweep
from mnist_ablate.text import guess, hint, listed, shown

_MODELS: Mapping[str, type[BaseModel]] = {"claims": Claim, "nuisance": Range, "seeds": SeedRange}
"""The models of values in a section; those of all others are Sweep's own fields."""
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
_BOUNDS = {
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "above {gt:g}",
    "less_than_equal": "at most {le:g}",
    "less_than": "below {lt:g}",
}
_BLANK_CLAIM: Mapping[str, Plain] = {"statement": "?", "treatment": {}, "direction": "same", "margin": 0}


@dataclass(frozen=True)
class ParsedSweep:
    """What is sound of a file: a sweep without its claims, and the claims by their place in the list.

    `unreliable_sections` names sections, and claims by their place, that lost something: what depends on them cannot
    be judged.
    """

    sweep: Sweep
    claims: Mapping[int, Claim]
    unreliable_sections: frozenset[str | int]
    findings: tuple[Finding, ...]


def parse_sweep(name: str, plain: Plain) -> ParsedSweep:
    """Validate a whole file; what is wrong is left out and named in `findings`."""
    if not isinstance(plain, dict):
        text = f"a sweep file is a mapping of {listed(SECTIONS)}; not {shown(plain)}"
        wrong = () if isinstance(plain, Unreadable) else (Finding((), text),)
        return ParsedSweep(Sweep(name=name, question="?", seeds=1), {}, frozenset(SECTIONS), wrong)
    sections = {key: value for key, value in plain.items() if key not in ("name", "claims")}
    sweep, findings = _sweep(name, sections)
    claims, found = _claims(plain.get("claims", []))
    if "name" in plain:
        findings.append(Finding(("name",), "a sweep has the name of its file; remove this line", at_key=True))
    findings += found
    unreliable = frozenset(_unreliable(findings, plain))
    readable = (each for each in findings if each.at_key or not isinstance(_value_at(each.address, plain), Unreadable))
    return ParsedSweep(sweep, claims, unreliable, tuple(readable))


def describe(error: ErrorDetails) -> str:
    """What pydantic found, in words that name the value, what was allowed and the next step."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind in _WANTED:
        return f"must be {_WANTED[kind]}, not {shown(value)}"
    if kind in _BOUNDS:
        return f"must be {_BOUNDS[kind].format(**context)}, not {shown(value)}"
    return f"{shown(value)}: {error['msg']}"


def _sweep(name: str, sections: Mapping[str, Plain]) -> tuple[Sweep, list[Finding]]:
    content: dict[str, Plain] = {"name": name, **sections}
    findings = list(_findings(Sweep, content, ()))
    # A finding costs the entry of its section, or the whole of one that is nothing without its parts.
    lost = (each.address[: 1 if each.address[0] == "seeds" else 2] for each in findings)
    return Sweep.model_validate({"question": "?", "seeds": 1, **_without(content, lost)}, strict=True), findings


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
            sound = _without(item, (finding.address[2:4] for finding in found))
            claims[index] = Claim.model_validate({**_BLANK_CLAIM, "name": f"claim-{index}", **sound}, strict=True)
    return claims, findings


def _without(content: Mapping[str, Plain], addresses: Iterable[Address]) -> dict[str, Plain]:
    """The content without the entries at these addresses, which are at most two keys long."""
    sound = {key: dict(value) if isinstance(value, dict) else value for key, value in content.items()}
    for key, *entry in addresses:
        section = sound.get(str(key))
        if entry and isinstance(section, dict):
            section.pop(str(entry[0]), None)
        else:
            sound.pop(str(key), None)
    return sound


def _findings(model: type[BaseModel], content: Plain, base: Address) -> Iterator[Finding]:
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


def _split(location: Address, top: Plain) -> tuple[Address, list[str | int]]:
    """An error's location as the address of a value that exists, and the rest: union tags, a missing key."""
    address: list[str | int] = []
    rest: list[str | int] = []
    for part in location:
        if (isinstance(top, dict) and part in top) or (isinstance(top, list) and isinstance(part, int)):
            top = _value_at((part,), top)
            address.append(part)
        else:
            rest.append(part)
    return tuple(address), rest


def _finding(address: Address, rest: list[str | int], error: ErrorDetails) -> Finding:
    key = str(address[-1]) if address else ""
    model = _MODELS.get(str(address[0]), Sweep) if len(address) > 1 else Sweep
    if error["type"] == "missing":
        return Finding((*address, rest[-1]), "is missing")
    if error["type"] == "extra_forbidden":
        allowed = SECTIONS if model is Sweep else tuple(model.model_fields)
        return Finding(address, f"unknown key; {hint(key, allowed)}", at_key=True)
    if error["type"] == "literal_error":
        allowed = get_args(model.model_fields[key].annotation)
        return Finding(address, f"no such {key}: {shown(error['input'])}; {hint(error['input'], allowed)}")
    if rest and rest[-1] in _SCALAR_TAGS:
        return Finding(address, f"{_SCALAR_TEXT}, not {shown(error['input'])}")
    return Finding(address, describe(error))


def _unreliable(findings: Iterable[Finding], plain: Mapping[str, Plain]) -> Iterator[str | int]:
    """Sections and claims that lost something, and sections that a misspelled key was meant to be."""
    for section, *rest in (finding.address for finding in findings):
        yield section
        yield from rest[:1] if section == "claims" else ()
        if section not in SECTIONS:
            yield from (known for known in SECTIONS if known not in plain and guess(section, [known]))


def _value_at(address: Address, plain: Plain) -> Plain:
    """The value at an address; a mapping that lacks it has an empty one."""
    for part in address:
        if isinstance(plain, list) and isinstance(part, int):
            plain = plain[part]
        else:
            plain = plain.get(str(part), {}) if isinstance(plain, dict) else {}
    return plain
