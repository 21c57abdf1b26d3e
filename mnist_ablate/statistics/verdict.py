"""From rows and claims to verdicts. `evidence` has what one contrast shows, `claims` what each kind compares."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from mnist_ablate.statistics.claim_verdict import ALPHA, ClaimVerdict
from mnist_ablate.statistics.claims.kind import kind_of
from mnist_ablate.statistics.collapses import collapse_of, collapses
from mnist_ablate.statistics.decision_rule import Finding
from mnist_ablate.statistics.evidence import Evidence
from mnist_ablate.statistics.paired_tests import holm, t_interval
from mnist_ablate.statistics.pairing import Contrast, by_arm, pairs, unusable
from mnist_ablate.sweep.adaptive_schedule import SINGLE_LOOK, Look
from mnist_ablate.sweep.claim import Claim
from mnist_ablate.text import listed
from mnist_ablate.trial import Row, Scalar


@dataclass(frozen=True)
class Arm:
    """An arm over its seeds: the mean of the metric, its t interval (infinite if unknown), and how its trials ended."""

    params: Mapping[str, Scalar]
    n: int
    mean: float
    ci_low: float
    ci_high: float
    outcomes: Mapping[str, int]


def judge(
    rows: Sequence[Row], claims: Sequence[Claim], alpha: float = ALPHA, looks: Sequence[Look] = ()
) -> tuple[ClaimVerdict, ...]:
    """One verdict for each claim, in order. In an adaptive sweep the first of its `looks` that decides gives it.

    A look is taken once all of its seeds are there. The first one is taken with the seeds that are there.
    Raises SweepError if an arm has two rows with one seed.
    """
    return tuple(_verdict(*each, explained=True) for each in _judged(rows, claims, alpha, looks, ()))


def decide(
    rows: Sequence[Row], claims: Sequence[Claim], looks: Sequence[Look] = (), waiting: Collection[str] = ()
) -> tuple[ClaimVerdict, ...]:
    """The same verdicts without reasons and the seeds that they need, which take most of the time.

    The `waiting` claims are not judged but count: what they find later can only confirm the verdicts of the others.
    """
    return tuple(_verdict(*each, explained=False) for each in _judged(rows, claims, ALPHA, looks, waiting))


def _judged(
    rows: Sequence[Row], claims: Sequence[Claim], alpha: float, looks: Sequence[Look], waiting: Collection[str]
) -> list[tuple[Sequence[Evidence], float, float]]:
    """Of each claim that is not waiting the evidence of its last look, and its p-values."""
    arm_rows = by_arm(rows)
    contrasts = [kind_of(claim).contrasts(arm_rows, claim) for claim in claims]
    judged: dict[int, tuple[Sequence[Evidence], float, float]] = {}
    p_raw = [1.0] * len(claims)
    open_ = [i for i, claim in enumerate(claims) if claim.name not in waiting]
    for look in looks or SINGLE_LOOK:
        found = {i: [_evidence(claims[i], each, len(claims), alpha, look) for each in contrasts[i]] for i in open_}
        taken = {
            i: parts
            for i, parts in found.items()
            if look.number == 1 or all(each.pairs.seeds == look.seeds for each in parts)
        }
        for i, parts in taken.items():
            p_raw[i] = min(p_raw[i], max(each.p_raw for each in parts))
        p_values = holm(p_raw)
        judged |= {i: (parts, p_raw[i], p_values[i]) for i, parts in taken.items()}
        open_ = [i for i in taken if _verdict(*judged[i], explained=False).is_open]
    return [judged[i] for i in sorted(judged)]


def _evidence(claim: Claim, contrast: Contrast, n_claims: int, alpha: float, look: Look) -> Evidence:
    """The evidence of a contrast. Where seeds do not pair, it is of the results that the claim's estimand is about."""
    has_collapsed = collapse_of(claim)
    apart = claim.estimand == "typical" and contrast.counts_collapses
    found = pairs(contrast, look.seeds, (lambda row: not has_collapsed(row)) if apart else None)
    return Evidence(claim, contrast, found, collapses(contrast, claim, look.seeds), n_claims, alpha, look)


def _verdict(parts: Sequence[Evidence], p_raw: float, p_value: float, *, explained: bool) -> ClaimVerdict:
    """The verdict of all contrasts of a claim together.

    All must hold, so each may be shown at the whole level (intersection-union; Berger, Technometrics 24, 1982). One
    that fails, or that is too small to matter, is enough against the claim: so these share the level.
    """
    if len(parts) == 1:
        return parts[0].judged(p_raw, p_value, explained=explained)
    nearest = min(parts, key=lambda each: each.outward)
    shared = [replace(each, n_claims=each.n_claims * len(parts)) for each in parts]
    against = [each for each in shared if each.verdict == "refuted"] or [
        each for each in shared if each.verdict == "equivalent"
    ]
    stopped = [each for each in parts if each.finding in (Finding.NOT_JUDGED, Finding.MIXED)]
    lacking = [each for each in parts if each.verdict != "supported"]
    if against:
        shown = min(against, key=lambda each: each.outward)
    else:
        open_ = [each for each in lacking if each.is_open]
        # A part that is decided at the whole level, but not at its share of it, is still open.
        shown = (stopped or sorted(open_, key=lambda each: each.outward) or [nearest])[0]
        if lacking and not stopped and not open_:
            shown = min((s for s, each in zip(shared, parts, strict=True) if each in lacking), key=lambda e: e.outward)
    made = shown.judged(p_raw, p_value, explained=explained)
    if not explained:
        return made
    if made.is_open:
        needed = [each.seeds_needed for each in lacking if each.is_open]
        most = None if None in needed else max((each for each in needed if each), default=made.seeds_needed)
        made = replace(made, seeds_needed=most)
    told = f"{shown.contrast.name}: {made.reason}"
    others = [each.contrast.name for each in lacking if each.contrast is not shown.contrast]
    if made.verdict == "inconclusive" and others:
        told += f"; open too: {listed(others)}"
    return replace(made, reason=told, parts=tuple(each.part() for each in parts))


def arms(rows: Sequence[Row], metric: str, alpha: float = ALPHA) -> tuple[Arm, ...]:
    """The arms in the order first seen. A row counts in n and mean if it ended with a finite `metric`."""
    found = []
    for arm in by_arm(rows):
        values = [row.metrics[metric] for row in arm.by_seed.values() if not unusable(row, metric)]
        mean, _, low, high = t_interval(values, alpha)
        outcomes = Counter[str](row.status for row in arm.by_seed.values())
        found.append(Arm(arm.params, len(values), mean, low, high, dict(outcomes)))
    return tuple(found)
