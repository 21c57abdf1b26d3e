"""Do the verdicts of a bundle follow from its trials, and its trials from its plan? Needs no TensorFlow, no database.

It finds what does not fit together. It cannot find a forger who makes everything fit: for that there is the bundle's
digest, published elsewhere, and training some of the trials again, which gives the same numbers.
"""

import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from zipfile import BadZipFile

from pydantic import JsonValue

from mnist_ablate.errors import AblateError
from mnist_ablate.reports import judging
from mnist_ablate.reports.bundle import Bundle, unpack
from mnist_ablate.sweep.plan import count
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.text import shortened, shown
from mnist_ablate.verification.ledger_check import CheckedLedger
from mnist_ablate.workloads import versions

MOST_PLANNED = 200_000  # trials of a plan that is expanded: a few bytes can ask for more than a machine can hold
MOST_LINES = 20
_LATER = {"generalizes_over"}  # of a report: older versions did not tell it
_AGAIN = "get the bundle again from whoever made it"
_DAMAGED = (AblateError, BadZipFile, zlib.error, EOFError)
_OF_OTHER_TYPES = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What content of other types than a bundle's can raise on the way."""


@dataclass(frozen=True)
class Checked:
    """What is wrong with a bundle, one line each, nothing if all is well; its digest, its trials, its verdicts."""

    problems: list[str]
    digest: str = ""
    trials: int = 0
    claims: int = 0


def check(source: Path) -> Checked:
    """Look at the file, then at the records, then at the verdicts; the first of them that is wrong is told.

    Raises OSError if the file cannot be read.
    """
    try:
        bundle = unpack(source)
        found = [*_wrong_records(bundle)] or [*islice(_wrong_verdicts(bundle), MOST_LINES + 1)]
        packed, here = bundle.versions.get("version.mnist-ablate", "none"), versions.deciding_versions()["mnist-ablate"]
    except (*_DAMAGED, *_OF_OTHER_TYPES) as error:
        text = _one_line(str(error)) or type(error).__name__
        return Checked([f"bundle: {source.name} is incomplete or was altered: {text}: {_AGAIN}"])
    if not found:
        claims = bundle.verdicts["claims"]
        return Checked([], bundle.digest, len(bundle.study.trials), len(claims) if isinstance(claims, list) else 0)
    other = f"it was packed by mnist-ablate {shown(packed)}, this is {here}: verify it with that one"
    texts = [*found[:MOST_LINES], *["and more problems like these"] * (len(found) > MOST_LINES)]
    return Checked([f"bundle: {_one_line(text)}: {_AGAIN if packed == here else other}" for text in texts])


def _wrong_records(bundle: Bundle) -> Iterator[str]:
    study = bundle.study
    sweep = Sweep.model_validate(json.loads(study.attrs["content"])["sweep"])
    if (planned := count(sweep)) > MOST_PLANNED:
        raise ValueError(f"its plan has {planned:,} trials; up to {MOST_PLANNED:,} can be verified")
    if study.name.rpartition("/")[0] != sweep.name or json.loads(study.attrs["sweep"]) != sweep.name:
        yield f"{shown(study.name)} is not the name of its sweep, {shown(sweep.name)}"
    names = [f"{sweep.name}/{number}" for number, _ in enumerate((*bundle.earlier, study), 1)]
    if [*(each.record for each in bundle.earlier), study.name] != names:
        yield f"its earlier records are not all that were begun before {shown(study.name)}, in order"
    numbers = {trial.number for trial in study.trials}
    if lacking := {*range(len(numbers))} - numbers:
        yield f"there is no record {min(lacking)} among the {len(study.trials)} that it holds"
        return
    for problem in CheckedLedger([study]).problems:
        what, _, _ = problem.removeprefix("ledger: ").rpartition(": ")  # what to do differs: there is no ledger
        yield what


def _wrong_verdicts(bundle: Bundle) -> Iterator[str]:
    """Everything in the report that the records do not say, verdicts first."""
    judged = json.loads(judging.of_raw(bundle.study, bundle.earlier, bundle.fingerprints).model_dump_json())
    known = {key: value for key, value in judged.items() if key in bundle.verdicts or key not in _LATER}
    differing = differences(bundle.verdicts, known)
    yield from sorted(differing, key=lambda text: ".verdict is " not in text)


def differences(told: JsonValue, found: JsonValue, where: str = "") -> Iterator[str]:
    """Where two JSON values differ; numbers may by what other versions of a library round otherwise."""
    if isinstance(told, dict) and isinstance(found, dict):
        for key in {**told, **found}:
            yield from differences(told.get(key), found.get(key), f"{where}.{key}" if where else key)
    elif isinstance(told, list) and isinstance(found, list) and len(told) == len(found):
        for place, (one, other) in enumerate(zip(told, found, strict=True)):
            yield from differences(one, other, f"{where}[{_name(other, place)}]")
    elif not _is_same(told, found):
        yield f"{where} is {shown(told)} in verdicts.json, the records say {shown(found)}"


def _name(item: JsonValue, place: int) -> str:
    """What an item of a list is called: a claim by its name, an arm by its factors."""
    match item:
        case {"name": str(name)}:
            return shortened(name)
        case {"params": dict(params)}:
            return shortened(" ".join(map(str, params.values())))
    return str(place)


def _is_same(told: JsonValue, found: JsonValue) -> bool:
    if {type(told), type(found)} <= {int, float}:
        return math.isclose(told, found, rel_tol=1e-9, abs_tol=1e-15)  # type: ignore[arg-type]
    return type(told) is type(found) and told == found


def _one_line(text: str) -> str:
    """The first line, with nothing in it that a terminal would obey."""
    first = text.strip().partition("\n")[0][:400]
    return "".join(letter if letter.isprintable() else "?" for letter in first)
