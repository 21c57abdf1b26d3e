"""The best of several: the treatment against each other value of its factors."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mnist_ablate.statistics.claims.kind import ClaimKind, two_sides, values_of
from mnist_ablate.statistics.pairing import ArmRows, Contrast, label
from mnist_ablate.sweep.claim import Claim, Problem
from mnist_ablate.text import listed

if TYPE_CHECKING:
    from mnist_ablate.sweep.sweep import Sweep


class BestClaim(Claim):
    """A treatment that is claimed to beat all others, or, with not_lower or not_higher, to be among the best."""

    never = ("control", "reference", "versus")

    def problems(self, sweep: "Sweep") -> Iterator[Problem]:
        """Whether there are rivals, and a way to be better."""
        if not self.treatment:
            yield "treatment", "is empty; name what is claimed to be the best: {factor: value}"
        yield from self.two_sides()
        if self.direction == "same":
            yield "direction", "must be lower or higher (the best), not_lower or not_higher (among the best), not same"
        known = [name for name in self.treatment if name in sweep.factors]
        if known and all(len(sweep.factors[name]) <= 1 for name in known):
            yield "treatment", f"has no rival: {listed(known)} has one value in this sweep; add others to compare with"


class Best(ClaimKind):
    """A comparison with each rival, all of which must come out as claimed."""

    meaning = "X is the best of these; X is among the best."
    keys = BestClaim
    is_paired_difference = True
    glossary = (
        "Lead: the treatment minus a rival at the same seed; the numbers are those of the nearest or deciding rival."
    )
    example = """\
design: one_factor
baseline: {optimizer: sgd}
scientific:
  optimizer: [sgd, adam, rmsprop]
fixed: {model: mlp, epochs: 3}
seeds: {min: 4, max: 30}
claims:
  - name: adam-is-best
    kind: best                  # the treatment against each other value of its factor; all must come out as claimed
    statement: Adam is the best of these optimizers.
    treatment: {optimizer: adam}
    direction: higher           # higher, lower: beats each by the margin; not_lower, not_higher: none beats it by more
    margin: 0.002
"""

    def contrasts(self, arms: Sequence[ArmRows], claim: Claim) -> Sequence[Contrast]:
        """The treatment against each other combination of values that its factors have."""
        rivals = [each for each in values_of(arms, claim.treatment, claim.where) if each != claim.treatment]
        if not rivals:
            return (Contrast(problem=f"no result is a rival of {label(claim.treatment)}", metric=claim.metric),)
        return [two_sides(arms, claim, claim.treatment, each, f"against {label(each)}") for each in rivals]

    def measure(self, claim: Claim) -> str:
        """What its effect is called."""
        return "lead as a factor" if claim.is_ratio else "lead"


KIND = Best()
