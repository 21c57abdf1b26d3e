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

from mnist_ablate.statistics.verdict import ALPHA
from mnist_ablate.sweep.adaptive_schedule import SPENDING
from mnist_ablate.sweep.plan import Plan
from mnist_ablate.sweep.sweep import Claim, Sweep

PARTS = ("question", "plan", "claims", "margins")
_MOST_DIFFERENCES = 3
_LONGEST_VALUE = 60
_UNNAMED = ("", "sweep", "fixed", "scientific")
"""Sections whose keys say enough alone: `epochs 5 -> 8`."""


@dataclass(frozen=True)
class Earlier:
    """A record of the same name that was begun before, and how many trials it has."""

    name: str
    registered: str
    sweep: Sweep
    data_digest: str
    trials: int


@dataclass(frozen=True)
class Registration:
    """What a record says of its beginning: the time, the sweep's digest, `digests` of the parts, what came before.

    Records of older versions have no `digests`.
    """

    registered: str
    sweep_digest: str
    digests: Mapping[str, str] = field(default_factory=dict)
    earlier: Sequence[Earlier] = ()


def digests(plan: Plan) -> dict[str, str]:
    """The sha256 of each of PARTS. The plan's covers every trial id, so recipes, seeds, images and trainer too.

    Of an adaptive sweep it covers the trials of the most seeds, the looks and how they spend the error rate.
    """
    sweep = plan.sweep.model_dump(mode="json")
    trials = (*plan.tuning, *plan.verdict_trials(), *plan.control_trials())
    claims = [claim.model_dump(mode="json", exclude=_not_in_digest(claim)) for claim in plan.sweep.claims]
    own = plan.sweep.model_dump(
        mode="json", include={"as_written", "conditions", "pruning", "target"}, exclude_defaults=True
    )
    looks = [[look.seeds, look.share] for look in plan.sweep.looks]
    content = {
        "question": sweep["question"],
        "plan": {
            **own,
            **{key: sweep[key] for key in ("design", "scientific", "nuisance", "tuning_trials", "seeds")},
            "trials": [each.id for each in trials],
            **({"looks": looks, "spending": SPENDING} if looks else {}),
        },
        "claims": claims,
        "margins": [ALPHA, {claim["name"]: claim["margin"] for claim in sweep["claims"]}],
    }
    return {part: _digest(content[part]) for part in PARTS}


def _not_in_digest(claim: Claim) -> set[str]:
    """What is not of a claim's own digest: its margin, and what older versions did not know and is not used."""
    return {"margin"} if claim.positive_control else {"margin", "positive_control"}


def document(plan: Plan, registration: Registration) -> dict[str, object]:
    """For the report: when and under which digest it was registered; why its verdicts are exploratory, if they are."""
    now = digests(plan)
    reasons = [*_altered(plan, registration, now), *_known(plan, registration.earlier)]
    return {
        "status": "exploratory" if reasons else "preregistered",
        "registered": registration.registered,
        "digest": _digest(dict(registration.digests) or now),
        "parts": dict(registration.digests) or now,
        "reasons": reasons,
    }


def _altered(plan: Plan, registration: Registration, now: Mapping[str, str]) -> list[str]:
    """Parts that are not what was registered; of older records only the digest of all is known."""
    if registration.digests:
        changed = [part for part in PARTS if registration.digests.get(part) != now[part]]
        if changed:
            return [f"{' and '.join(changed)} differ from what was registered"]
    if registration.sweep_digest != plan.sweep.digest:
        return ["the sweep differs from what was registered"]
    return []


def _known(plan: Plan, earlier: Sequence[Earlier]) -> list[str]:
    """Results that were there when the record was begun, unless the first of them belong to the same question."""
    seen = [each for each in earlier if each.trials and each.data_digest == plan.data_digest]
    if not seen or seen[0].sweep.digest == plan.sweep.digest:
        return []
    first = seen[0]
    changes = differences(*({"sweep": sweep.model_dump(mode="json")} for sweep in (first.sweep, plan.sweep)))
    trials = f"{first.trials} trial{'s' * (first.trials != 1)}"
    return [f"changed after {trials} of {first.name}, registered {first.registered}: {changes}"]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def differences(old: Mapping[str, object], new: Mapping[str, object]) -> str:
    """`epochs 5 -> 8, seeds 4 -> 6 and 2 more`; sources, and values that are equal as numbers, do not count."""
    before, after = dict(_flat(old)), dict(_flat(new))
    changes = [
        f"{name} {_value_text(before.get(name))} -> {_value_text(after.get(name))}"
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name) and name != "source"
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
