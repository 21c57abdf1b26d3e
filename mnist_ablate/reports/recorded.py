"""What a page shows beside the JSON document: the sweep, its trials and where they come from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from mnist_ablate.ledger import progress
from mnist_ablate.ledger.ledger import Record
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import RecordedTrial

Key = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Recorded:
    """A sweep as registered, and its finished trials.

    `entries` are those that verdicts read, in the order of the plan, `tuning` those that chose nuisance values,
    `control` those of the negative control.
    `registered` is ISO 8601 in UTC; `provenance` names versions, platform and commit.
    """

    sweep: Sweep
    entries: tuple[RecordedTrial, ...]
    tuning: tuple[RecordedTrial, ...]
    registered: str
    data_digest: str
    provenance: Mapping[str, str]
    control: tuple[RecordedTrial, ...] = ()

    @cached_property
    def by_arm(self) -> dict[Key, list[RecordedTrial]]:
        """The trials that verdicts read, by `key` of their arm."""
        found: dict[Key, list[RecordedTrial]] = {}
        for entry in self.entries:
            found.setdefault(key(entry.params), []).append(entry)
        return found

    def arm(self, params: Mapping[str, object]) -> list[RecordedTrial]:
        """The trials of an arm, by its factor values."""
        return self.by_arm.get(key(params), [])


def read(record: Record, provenance: Mapping[str, str]) -> Recorded:
    """All that is recorded of a sweep."""
    entries = record.entries()
    plan = record.plan
    judged = (each for each in progress.verdict_trials(plan, entries) if each.id in entries)
    return Recorded(
        sweep=record.sweep,
        entries=tuple(replace(entries[each.id], params=each.arm.params) for each in judged),
        tuning=tuple(entry for entry in entries.values() if entry.stage == "tuning"),
        registered=record.registered,
        data_digest=record.data_digest,
        provenance=provenance,
        control=tuple(entry for entry in entries.values() if entry.stage == "control"),
    )


def key(params: Mapping[str, object]) -> Key:
    """Factor values as something to look up by; True and 1 are not one value."""
    return frozenset((name, repr(value)) for name, value in params.items())


def main_arms(arms: list[dict[str, Any]], sweep: Sweep, most: int) -> list[dict[str, Any]]:
    """At most so many arms, in their order: those that claims compare, then the best and the worst."""
    if len(arms) <= most:
        return arms
    sides = [{**claim.where, **side} for claim in sweep.claims for side in (claim.treatment, claim.control or {})]
    named = [i for i, arm in enumerate(arms) if any(side and side.items() <= arm["params"].items() for side in sides)]
    ranked = sorted((i for i, arm in enumerate(arms) if arm["mean"] is not None), key=lambda i: -float(arms[i]["mean"]))
    ends = [i for pair in zip(ranked, reversed(ranked), strict=True) for i in pair]
    chosen = list(dict.fromkeys([*named[: most - 2], *ends, *range(len(arms))]))[:most]
    return [arms[i] for i in sorted(chosen)]
