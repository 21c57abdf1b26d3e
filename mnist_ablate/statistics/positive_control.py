"""The positive control: claims known to hold. A sweep that does not find them cannot be trusted with the others."""

from collections.abc import Mapping, Sequence
from typing import Any

from mnist_ablate.sweep.sweep import Claim


def document(claims: Sequence[Claim], verdicts: Mapping[str, str], *, finished: bool) -> dict[str, Any] | None:
    """For the report, from the verdicts by claim: what is known to hold, and what of it was missed.

    An alarm once all has run; None if no claim is marked `positive_control`.
    """
    known = {claim.name for claim in claims if claim.positive_control}
    found = {name: verdict for name, verdict in verdicts.items() if name in known}
    missed = {name: verdict for name, verdict in found.items() if verdict != "supported"}
    return {"claims": [*found], "missed": missed, "alarm": finished and bool(missed)} if known else None
