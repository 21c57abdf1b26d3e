"""How many seeds each arm of an adaptive sweep needs, by the rows so far: more only where a claim is open. Pure."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from mnist_ablate.statistics.pairing import ArmRows, Pairs, Rest, by_arm, compared
from mnist_ablate.statistics.verdict import judge
from mnist_ablate.sweep.adaptive_schedule import Look
from mnist_ablate.sweep.sweep import Claim
from mnist_ablate.trial import Row, Scalar

Arms = Sequence[Mapping[str, Scalar]]


def seeds_wanted(arms: Arms, rows: Sequence[Row], claims: Sequence[Claim], looks: Sequence[Look]) -> list[int]:
    """The number of seeds, 0 to it less 1, of each arm: those of the looks so far, and of the next where one is due.

    A look is over when every trial that it wants has a row, failed or not. What a claim at hand has decided, no
    later row changes; so after a crash the same seeds are wanted.
    """
    keys = [frozenset(arm.items()) for arm in arms]
    wanted = dict.fromkeys(keys, _seeds(looks[0]))
    recorded = by_arm(rows)
    for look, following in pairwise(looks):
        if not _is_over(recorded, wanted):
            break
        for arm in _undecided(recorded, rows, claims, looks[: look.number]):
            wanted[arm] = _seeds(following)
    return [wanted[key] for key in keys]


def _seeds(look: Look) -> int:
    assert look.seeds is not None, "an adaptive sweep counts its seeds"
    return look.seeds


def _is_over(recorded: Sequence[ArmRows], wanted: Mapping[Rest, int]) -> bool:
    found = {frozenset(arm.params.items()): arm.by_seed for arm in recorded}
    return all(seed in found.get(arm, {}) for arm, seeds in wanted.items() for seed in range(seeds))


def _undecided(
    recorded: Sequence[ArmRows], rows: Sequence[Row], claims: Sequence[Claim], looks: Sequence[Look]
) -> set[Rest]:
    """The arms of the claims that need another look; a claim that cannot be judged at all does not."""
    verdicts = judge(rows, claims, looks=looks)
    last = looks[-1].number
    open_ = [
        compared(recorded, claim)
        for claim, verdict in zip(claims, verdicts, strict=True)
        if verdict.verdict == "inconclusive" and verdict.look == last and verdict.is_judged
    ]
    sides = (sides for sides in open_ if not isinstance(sides, Pairs))
    return {frozenset(arm.params.items()) for each in sides for _, side in each for arm in side}
