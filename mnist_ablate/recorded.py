"""What a page shows beside the JSON document: the sweep, its trials and where they come from."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from mnist_ablate.ledger import Entry
from mnist_ablate.sweep import Sweep

Key = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Recorded:
    """A sweep as registered and its finished trials, in the order of the plan.

    `registered` is ISO 8601 in UTC; `provenance` names versions, platform and commit.
    """

    sweep: Sweep
    entries: tuple[Entry, ...]
    registered: str
    data_digest: str
    provenance: Mapping[str, str]

    @cached_property
    def by_arm(self) -> dict[Key, list[Entry]]:
        """The trials that verdicts read, by `key` of their arm."""
        found: dict[Key, list[Entry]] = {}
        for entry in self.entries:
            if entry.stage == "verdict":
                found.setdefault(key(entry.params), []).append(entry)
        return found

    def arm(self, params: Mapping[str, object]) -> list[Entry]:
        """The trials of an arm, by its factor values."""
        return self.by_arm.get(key(params), [])


def key(params: Mapping[str, object]) -> Key:
    """Factor values as something to look up by; True and 1 are not one value."""
    return frozenset((name, repr(value)) for name, value in params.items())
