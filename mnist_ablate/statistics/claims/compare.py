"""A comparison: treatment against control, a number that is claimed, or the difference of two differences."""

import math
from collections.abc import Sequence
from dataclasses import replace

from mnist_ablate.statistics.claims.kind import ClaimKind, contrast_of, matched
from mnist_ablate.statistics.pairing import ArmRows, Contrast
from mnist_ablate.sweep.claim import Claim


class Compare(ClaimKind):
    """Treatment minus control, or minus `reference`; with `versus` an interaction."""

    meaning = "X is better (worse, the same, no worse) than Y; X hurts A more than B; X reaches 0.97."
    compares_two = True
    is_paired_difference = True
    glossary = "Difference: treatment minus control at the same seed, averaged over the seeds."

    def contrast(self, arms: Sequence[ArmRows], claim: Claim) -> Contrast:
        """Up to four sides: with `versus` the second difference is subtracted."""
        if claim.control is None and claim.reference is None:
            return Contrast(problem="the claim has neither control nor reference", metric=claim.metric)
        # What `versus` does not mention stays as `where` has it, so that both differences stand in one context.
        first = [("treatment", 1.0, claim.treatment)]
        if claim.control is not None:
            first.append(("control", -1.0, claim.control))
        sides = [(name, sign, {**claim.where, **params}) for name, sign, params in first]
        if claim.versus is not None:
            sides += [
                (f"{name}_versus", -sign, {**claim.where, **claim.versus, **params}) for name, sign, params in first
            ]
        found = contrast_of(claim, *matched(arms, sides))
        if claim.reference is None or claim.versus is not None:  # it cancels in a difference of two differences
            return found
        offset = math.log(claim.reference) if claim.is_ratio else claim.reference
        return replace(found, offset=offset, seen=(claim.reference,))


KIND = Compare()
