"""Contribution: what a component adds, as its Shapley value over the subsets that were trained."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from pydantic import Field

from mnist_ablate.statistics.claims.kind import ClaimKind, contrast_of
from mnist_ablate.statistics.paired_tests import smallest_effect
from mnist_ablate.statistics.pairing import ArmRows, Contrast, Side, label
from mnist_ablate.sweep.claim import Claim, Problem
from mnist_ablate.sweep.designs import DESIGNS
from mnist_ablate.text import hint
from mnist_ablate.trial import Params

if TYPE_CHECKING:
    from mnist_ablate.sweep.sweep import Sweep

EACH = "each"
MOST_COMPONENTS = 6  # whose subsets are all trained: 64 arms


class ContributionClaim(Claim):
    """A treatment with all components, a control with none, and the component that the claim is about."""

    component: str = Field(description="The factor of treatment and control that the claim is about.")
    than: str = Field(
        default="", description="Another component that it adds more than, or each: than every other one."
    )
    never = ("reference", "versus")
    arms_in = ("treatment",)

    def problems(self, sweep: "Sweep") -> Iterator[Problem]:
        """Whether the components are there, and the design trains what is needed."""
        if self.control is None:
            yield "control", "is missing; give the value that each component has when it is left out"
            return
        yield from super().problems(sweep)
        others = [name for name in self.treatment if name != self.component]
        if self.component not in self.treatment:
            yield "component", f"{self.component} is not in treatment; {hint(self.component, self.treatment)}"
        elif not others:
            yield "treatment", "has one component; name all of them, and compare one alone with kind: compare"
        if self.than and self.than not in (EACH, *others):
            yield "than", f"{self.than} is no other component; {hint(self.than, [*others, EACH])}"
        for name in self.treatment:
            if name in (self.control or {}) and self.treatment[name] == self.control[name]:
                yield f"control.{name}", "is the same as in treatment; give the value without the component"
                return
        if not {*self.treatment} <= {*sweep.factors} or self.treatment.keys() != self.control.keys():
            return  # which is said elsewhere
        lacking = [
            arm for arm in _needed(self, sweep) if DESIGNS[sweep.design].missing_arm(sweep, {**self.where, **arm})
        ]
        if lacking:
            text = (
                f"needs arms without some components, such as {label(lacking[0])}, and design: {sweep.design} has none"
            )
            yield "component", f"{text}; write design: factorial, or leave_one_out"


def _needed(claim: Claim, sweep: "Sweep") -> Iterator[Params]:
    """The arm of every subset of the components; of a design that leaves out one, of all and of all but one."""
    names, control = [*claim.treatment], claim.control or {}
    if sweep.design == "leave_one_out":
        yield claim.treatment
        yield from ({**claim.treatment, name: control[name]} for name in names)
        return
    for bits in range(2 ** min(len(names), 12)):
        yield {name: (claim.treatment if bits >> place & 1 else control)[name] for place, name in enumerate(names)}


class Contribution(ClaimKind):
    """The Shapley value of each seed (Shapley 1953): the mean gain of adding the component, over all orders.

    Of a design that leaves out one component at a time only the last gain of an order is known: the treatment's result
    less that without the component.
    """

    meaning = "This component matters most; X adds at least 0.5 points."
    keys = ContributionClaim
    glossary = (
        "Contribution: the gain from adding the component, averaged over all orders of adding them (Shapley); "
        "in a design that leaves out one at a time, what is lost without it."
    )
    example = """\
design: factorial
baseline: {normalizer: unit, dropout: 0.0, optimizer: sgd}
scientific:                     # every subset of the components: two values each, at most six components
  normalizer: [unit, standardized]
  dropout: [0.0, 0.5]
  optimizer: [sgd, adam]
fixed: {model: mlp, epochs: 3}
seeds: {min: 4, max: 30}
claims:
  - name: adam-matters-most
    kind: contribution          # the Shapley value of a component over the trained subsets
    statement: Of these components, Adam matters most.
    treatment: {normalizer: standardized, dropout: 0.5, optimizer: adam}   # all components
    control: {normalizer: unit, dropout: 0.0, optimizer: sgd}              # none
    component: optimizer
    than: each                  # another component, or each; without it: adds at least the margin
    direction: higher
    margin: 0.002
"""

    def contrasts(self, arms: Sequence[ArmRows], claim: Claim) -> Sequence[Contrast]:
        """One, or one against each other component."""
        asked = cast("ContributionClaim", claim)
        others = [name for name in claim.treatment if name != asked.component]
        if asked.than != EACH:
            return (self._against(arms, asked, asked.than),)
        return [self._against(arms, asked, other) for other in others]

    def _against(self, arms: Sequence[ArmRows], claim: ContributionClaim, other: str) -> Contrast:
        names, on, off = [*claim.treatment], claim.treatment, claim.control or {}
        found: dict[int, frozenset[str]] = {}
        kept: list[ArmRows] = []
        for arm in arms:
            values = {name: arm.params.get(name) for name in names}
            if claim.where.items() <= arm.params.items() and all(v in (on[k], off[k]) for k, v in values.items()):
                found[id(arm)] = frozenset(name for name, value in values.items() if value == on[name])
                kept.append(arm)
        counts = Counter(found.values())
        weights = _weights(claim.component, names, counts)
        if weights is None or (other and (less := _weights(other, names, counts)) is None):
            lacking = f"the results lack subsets that the contribution of {claim.component} needs"
            return Contrast(problem=f"{lacking}: all of them, or all components but one", metric=claim.metric)
        if other and less:
            weights = {key: weights.get(key, 0.0) - less.get(key, 0.0) for key in {**weights, **less}}

        def weigh(arm: ArmRows) -> float:
            return weights.get(found[id(arm)], 0.0) / counts[found[id(arm)]]

        used = [arm for arm in kept if weigh(arm)]
        sides = tuple(
            Side(name, sign, [arm for arm in used if weigh(arm) * sign > 0.0])
            for name, sign in (("with", 1.0), ("without", -1.0))
        )
        return contrast_of(claim, sides, weigh=weigh, name=f"than {other}" if other else "")

    def measure(self, claim: Claim) -> str:
        """What its effect is called."""
        asked = cast("ContributionClaim", claim)
        told = f"contribution of {asked.component}{f' less that of {asked.than}' if asked.than else ''}"
        return f"{told}, as a factor" if claim.is_ratio else told.replace("that of each", "that of another")

    def smallest_effect(self, claim: Claim, sweep: "Sweep", n_seeds: int, n_claims: int, alpha: float) -> float:
        """A Shapley value varies less than a difference of two arms."""
        asked, sd = cast("ContributionClaim", claim), claim.about.seed_sd
        if not sd or claim.is_ratio:
            return math.inf
        every = Counter(
            frozenset(k for k, v in arm.items() if v == claim.treatment[k]) for arm in _needed(claim, sweep)
        )
        weights = _weights(asked.component, [*claim.treatment], every) or {}
        total = sum(weight * weight for weight in weights.values())
        return smallest_effect(n_seeds, n_claims, sd * math.sqrt(total / 2.0), alpha)


def _weights(
    component: str, names: Sequence[str], there: Mapping[frozenset[str], int]
) -> dict[frozenset[str], float] | None:
    """The weight of each subset in a component's contribution: by Shapley, else by leaving it out; None if lacking."""
    n, found = len(names), dict[frozenset[str], float]()
    if len(there) == 2**n:
        for subset in there:
            rest = len(subset - {component})
            size = math.factorial(rest) * math.factorial(n - rest - 1) / math.factorial(n)
            found[subset] = size if component in subset else -size
        return found
    whole = frozenset(names)
    if whole in there and whole - {component} in there:
        return {whole: 1.0, whole - {component}: -1.0}
    return None


KIND = Contribution()
