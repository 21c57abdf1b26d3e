"""What was written down before the first trial: digests of question, plan, claims and margins; reads no storage.

A verdict is exploratory if one of them was chosen, or may have been, with results at hand. A record cannot be changed
(another file is refused), so that means: begun anew with --fresh after an earlier record of the name had results for
the same images, unless the first of those asked exactly the same; or altered in the database; or read by a version
that would plan or judge it differently. A copy under another name is another sweep, which nothing here can see.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, JsonValue

from mnist_ablate.statistics.claim_verdict import ALPHA
from mnist_ablate.sweep.adaptive_schedule import SPENDING
from mnist_ablate.sweep.plan import Plan
from mnist_ablate.sweep.sweep import QUICK, Sweep
from mnist_ablate.text import counted

_MOST_DIFFERENCES = 3
_LONGEST_VALUE = 60
_UNNAMED = ("", "sweep", "fixed", "scientific")  # sections whose keys say enough alone: `epochs 5 -> 8`


_LATER = {
    "positive_control": False,
    "estimand": "typical",
    "collapse_at": None,
    "kind": "compare",
    "scale": "difference",
}
"""Keys of a claim that older versions did not know, with the defaults that change no digest."""


class Earlier(BaseModel, frozen=True):
    """A record of the same name that was begun before: when, what it asked of which data, how many trials it has."""

    record: str
    registered: str
    content: dict[str, JsonValue]
    trials: int

    @property
    def sweep(self) -> Sweep:
        """What it asked."""
        return Sweep.model_validate(self.content["sweep"])


@dataclass(frozen=True)
class Registration:
    """What a record says of its beginning: the time, the sweep's digest, `digests` of the parts, what came before.

    Records of older versions have no `digests`.
    """

    registered: str
    sweep_digest: str
    digests: Mapping[str, str] = field(default_factory=dict)
    earlier: Sequence[Earlier] = ()


def digest(content: object) -> str:
    """The sha256 of a content as JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def digests(plan: Plan) -> dict[str, str]:
    """The sha256 of each part. The plan's covers every trial id, so recipes, seeds, images and trainer too.

    Of an adaptive sweep it covers the trials of the most seeds, the looks and how they spend the error rate.
    """
    sweep = plan.sweep
    asked = sweep.model_dump(mode="json", include={"design", "scientific", "nuisance", "tuning_trials", "seeds"})
    # older versions did not know these
    later = {"as_written", "conditions", "pruning", "target", "across", "crossed", "vary"}
    asked |= sweep.model_dump(mode="json", include=later, exclude_defaults=True)
    asked["trials"] = [each.id for each in (*plan.tuning, *plan.verdict_trials(), *plan.control_trials())]
    if sweep.looks:
        asked |= {"looks": [[look.seeds, look.share] for look in sweep.looks], "spending": SPENDING}
    claims = [claim.model_dump(mode="json", exclude={"margin"}) for claim in sweep.claims]
    content = {
        "question": sweep.question,
        "plan": asked,
        "claims": [{key: claim[key] for key in claim if claim[key] != _LATER.get(key, ...)} for claim in claims],
        "margins": [ALPHA, {claim.name: claim.margin for claim in sweep.claims}],
    }
    return {part: digest(value) for part, value in content.items()}


def document(plan: Plan, registration: Registration) -> dict[str, object]:
    """For the report: when and under which digest it was registered; why its verdicts are exploratory, if they are."""
    now = digests(plan)
    parts = dict(registration.digests) or now
    reasons = [*_reasons(plan, registration, now)]
    return {
        "status": "exploratory" if reasons else "preregistered",
        "registered": registration.registered,
        "digest": digest(parts),
        "parts": parts,
        "reasons": reasons,
    }


def _reasons(plan: Plan, registration: Registration, now: Mapping[str, str]) -> Iterator[str]:
    told, sweep = registration.digests, plan.sweep
    if sweep.name.endswith(QUICK):
        yield "--quick shortens the trials, which makes it another question"
    if changed := [part for part in now if told and told.get(part) != now[part]]:
        yield f"{' and '.join(changed)} differ from what was registered"
    elif registration.sweep_digest != sweep.digest:  # of older records only the digest of all is known
        yield "the sweep differs from what was registered"
    with_results = [each for each in registration.earlier if each.trials]
    if not sweep.workload.runs_code:  # of a sweep of other images nothing was seen
        with_results = [each for each in with_results if each.content["data_digest"] == plan.data_digest]
    for first in with_results[:1]:
        changes = ["the code"] if first.content["data_digest"] != plan.data_digest else []
        if first.sweep.digest != sweep.digest:
            changes.append(differences(first.sweep.model_dump(mode="json"), sweep.model_dump(mode="json")))
        if changes:
            trials = counted(first.trials, "trial")
            yield f"changed after {trials} of {first.record}, registered {first.registered}: {', '.join(changes)}"


def differences(old: Mapping[str, object], new: Mapping[str, object]) -> str:
    """`epochs 5 -> 8, seeds 4 -> 6 and 2 more`; sources, and values that are equal as numbers, do not count."""
    before, after = dict(_flat(old)), dict(_flat(new))
    changes = [
        f"{name} {_value_text(before.get(name))} -> {_value_text(after.get(name))}"
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name) and name != "source" and not name.startswith("found_settings")
    ]
    rest = len(changes) - _MOST_DIFFERENCES
    return ", ".join(changes[:_MOST_DIFFERENCES]) + (f" and {rest} more" if rest > 0 else "")


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its path; an item of a list by its name, if it has one."""
    if isinstance(value, list) and value and all(isinstance(item, Mapping) and "name" in item for item in value):
        value = {item["name"]: item for item in value}
    if not isinstance(value, Mapping):
        yield path, value
        return
    for key, inner in value.items():
        yield from _flat(inner, key if path in _UNNAMED else f"{path}.{key}")


def _value_text(value: Any) -> str:
    if value is None:
        return "nothing"
    text = f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."
