"""Indifference: all values of a factor give the same within the margin."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mnist_ablate.statistics.claims.kind import ClaimKind, two_sides, values_of
from mnist_ablate.statistics.pairing import ArmRows, Contrast
from mnist_ablate.sweep.claim import Claim, Direction, Problem
from mnist_ablate.text import hint
from mnist_ablate.trial import Params

if TYPE_CHECKING:
    from mnist_ablate.sweep.sweep import Sweep


class FactorClaim(Claim):
    """A claim about all values of one factor, which has no treatment."""

    treatment: Params = Field(default={}, description="Not used: the claim is about all values of the factor.")
    factor: str = Field(description="The factor whose values are compared.")
    never: ClassVar[tuple[str, ...]] = ("treatment", "control", "reference", "versus")

    def problems(self, sweep: "Sweep") -> Iterator[Problem]:
        """Whether the factor is one, with values to compare."""
        if self.factor not in sweep.factors:
            yield "factor", f"{self.factor} is no factor of this sweep; {hint(self.factor, sweep.factors, 'factors')}"
        elif len(sweep.factors[self.factor]) <= 1:
            yield "factor", f"{self.factor} has one value in this sweep; add others to compare"
        if self.factor in self.where:
            yield f"where.{self.factor}", "is the factor whose values are compared; remove it"


class IndifferentClaim(FactorClaim):
    """A factor that is claimed not to matter."""

    direction: Direction = Field(default="same", description="Not used: no value may be better or worse.")
    never = (*FactorClaim.never, "direction")


class Indifferent(ClaimKind):
    """Every pair of values, each of which must be the same within the margin."""

    meaning = "It does not matter which."
    keys = IndifferentClaim
    is_paired_difference = True
    glossary = "Difference between two values: the pair that differs most, or that decided."
    example = """\
design: one_factor
baseline: {initializer: glorot_uniform}
scientific:
  initializer: [glorot_uniform, he_normal, lecun_normal]
fixed: {model: mlp, epochs: 3}
seeds: {min: 4, max: 30}
claims:
  - name: initializer-is-free
    kind: indifferent           # every pair of values must be the same within the margin
    statement: It does not matter which initializer is taken.
    factor: initializer
    margin: 0.003
"""

    def contrasts(self, arms: Sequence[ArmRows], claim: Claim) -> Sequence[Contrast]:
        """All pairs."""
        name = getattr(claim, "factor", "")
        values = [each[name] for each in values_of(arms, [name], claim.where)]
        if len(values) <= 1:
            return (Contrast(problem=f"the results have {len(values)} values of {name}", metric=claim.metric),)
        return [
            two_sides(arms, claim, {name: one}, {name: other}, f"{one} against {other}")
            for one, other in combinations(values, 2)
        ]

    def measure(self, claim: Claim) -> str:
        """What its effect is called."""
        return f"{'ratio of' if claim.is_ratio else 'difference between'} two values"


KIND = Indifferent()
