"""The JSON document of recorded trials: which of them are judged, and what is said beside; reads no storage."""

from collections.abc import Mapping, Sequence
from typing import Any

from mnist_ablate import preregistration, selection, standing, summary
from mnist_ablate.entry import Entry
from mnist_ablate.plan import Plan
from mnist_ablate.preregistration import Registration


def document(
    plan: Plan, entries: Mapping[str, Entry], registration: Registration, prints: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What `report` prints: of the recorded trials by their ids, with the fingerprints of the normalizers."""
    rows = standing.rows(plan, entries)
    counts = summary.count(rows, len(plan.arms) * plan.sweep.seeds)
    about = summary.About(
        prints,
        standing.again(plan, entries),
        preregistration.document(plan, registration),
        selection.document(plan, entries),
    )
    return summary.document(plan.sweep, rows, counts, about)
