"""The seam between claims and verdicts: what a kind of claim decides. Judges nothing itself.

A kind is a subclass in a file of its own, with an object `KIND`. A package adds one by an entry point of the group
`mnist_ablate.claims`: `name = "module:KIND"`. All that is not written here has one way for every kind.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from mnist_ablate.statistics.paired_tests import smallest_effect
from mnist_ablate.statistics.pairing import ArmRows, Contrast, Factors, Side, label
from mnist_ablate.sweep.claim import Claim, kind_named
from mnist_ablate.text import guess
from mnist_ablate.trial import Params, Scalar

if TYPE_CHECKING:
    from mnist_ablate.sweep.sweep import Sweep

Found = tuple[tuple[Side, ...], str]  # the arms of each side, or none and why they cannot be compared


class ClaimKind:
    """A kind of claim. As it stands, it compares treatment with control, at the same seed.

    To write another, override `contrasts`, or `contrast` if there is one. Each of several contrasts is judged by
    itself: the claim is supported if all are (each at the whole level, intersection-union), and refuted if any is (at a
    level divided by their number).
    """

    meaning: ClassVar[str] = ""
    """The sentences that people say, which it asks, on a line."""
    keys: ClassVar[type[Claim]] = Claim
    """The keys of its claims; its `problems` say what makes no sense."""
    example: ClassVar[str] = ""
    """A sweep file from `design` to its claims, with comments."""
    glossary: ClassVar[str] = ""
    """What its effect is, in a sentence."""
    compares_two: ClassVar[bool] = False
    """Whether it is about treatment and control alone, so that the negative control can ask it of the baseline."""
    is_paired_difference: ClassVar[bool] = False
    """Whether its numbers are differences of two results, of which a share can be better."""

    reads_curves: ClassVar[bool] = False
    """Whether it needs the epochs of each row."""

    def contrasts(self, arms: Sequence[ArmRows], claim: Claim) -> Sequence[Contrast]:
        """What is compared; all of it must hold."""
        return (self.contrast(arms, claim),)

    def contrast(self, arms: Sequence[ArmRows], claim: Claim) -> Contrast:
        """The arms of the claim, side by side, and what the results of one seed come to."""
        return two_sides(arms, claim, claim.treatment, claim.control or {})

    def sides(self, arms: Sequence[ArmRows], claim: Claim) -> list[tuple[float, Sequence[ArmRows]]]:
        """The arms that it needs, side by side, each with the sign of its side; none if they cannot be compared."""
        return [(side.sign, side.arms) for each in self.contrasts(arms, claim) for side in each.sides]

    def measure(self, claim: Claim) -> str:
        """What its effect is called: `difference`."""
        return "ratio" if claim.is_ratio else "difference"

    def unit(self, claim: Claim) -> str:
        """The unit of its effect: that of the metric, or `ratio` for a factor."""
        return "ratio" if claim.is_ratio else claim.about.unit

    def sentence(self, claim: Claim, effect: str, nearest: str) -> str:
        """What was found, in a sentence; `nearest` is the contrast that the effect is of, where there are several."""
        of = f" ({nearest})" if nearest else ""
        return f"The {self.measure(claim)}{of} in {claim.metric.replace('_', ' ')} was {effect}."

    def smallest_effect(self, claim: Claim, sweep: "Sweep", n_seeds: int, n_claims: int, alpha: float) -> float:  # noqa: ARG002
        """The smallest effect beyond its margin that so many seeds find with 80% power; inf if none or unknown."""
        sd = claim.about.seed_sd
        return smallest_effect(n_seeds, n_claims, sd, alpha) if sd and not claim.is_ratio else math.inf


def kind_of(claim: Claim) -> ClaimKind:
    """The kind of a claim."""
    return cast("ClaimKind", kind_named(claim.kind))


def margin_of(claim: Claim) -> float:
    """The margin of its numbers: of a ratio they are logarithms."""
    return math.log(claim.margin) if claim.is_ratio else claim.margin


def two_sides(  # noqa: PLR0913, PLR0917 - two sides, and what tells contrasts apart
    arms: Sequence[ArmRows],
    claim: Claim,
    treatment: Params,
    control: Params,
    name: str = "",
    margin: float | None = None,
) -> Contrast:
    """The mean of the treatment's arms minus that of the control's."""
    found, problem = matched(
        arms, [("treatment", 1.0, {**claim.where, **treatment}), ("control", -1.0, {**claim.where, **control})]
    )
    return contrast_of(claim, found, problem, name=name, margin=margin)


def contrast_of(  # noqa: PLR0913 - what kinds differ in
    claim: Claim,
    sides: tuple[Side, ...],
    problem: str = "",
    *,
    weigh: Callable[[ArmRows], float] | None = None,
    name: str = "",
    margin: float | None = None,
) -> Contrast:
    """A contrast of a claim: the mean of each side times its sign, or each arm times what `weigh` says."""
    if problem:
        return Contrast(problem=problem, metric=claim.metric, name=name)
    if weigh is None:
        weights = tuple(side.sign / len(side.arms) for side in sides for _ in side.arms)
        signs = [side.sign for side in sides]
        reach = (float(signs.count(1.0)), float(-signs.count(-1.0)))
    else:
        weights = tuple(weigh(arm) for side in sides for arm in side.arms)
        reach = (sum(max(weight, 0.0) for weight in weights), sum(min(weight, 0.0) for weight in weights))
    return Contrast(
        sides=sides,
        weights=weights,
        metric=claim.metric,
        about=claim.about,
        margin=margin_of(claim) if margin is None else margin,
        direction=claim.direction,
        is_ratio=claim.is_ratio,
        reach=reach,
        name=name,
    )


def matched(arms: Sequence[ArmRows], sides: Sequence[tuple[str, float, Params]]) -> Found:
    """The arms of each side, given by its name, its sign and its values; other factors take the values all sides have.

    The arms of the sides stand in the same order.
    """
    named = {name for _, _, fixed in sides for name in fixed}
    cells: list[dict[Factors, ArmRows]] = []
    for _, _, fixed in sides:
        matches = [arm for arm in arms if fixed.items() <= arm.params.items()]
        for name in sorted(named - fixed.keys()):
            if len({arm.params.get(name) for arm in matches}) > 1:
                return (), f"{label(fixed)} leaves {name} open, which another side fixes: name it on every side"
        cells.append({frozenset(item for item in arm.params.items() if item[0] not in named): arm for arm in matches})
    shared = [rest for rest in cells[0] if all(rest in cell for cell in cells)]
    if not shared:
        absent = [fixed for cell, (_, _, fixed) in zip(cells, sides, strict=True) if not cell]
        if not absent:
            return (), "no two results differ only as claimed"
        return (), f"no result has {' or '.join(map(label, absent))}{_nearest(absent, arms)}"
    return tuple(
        Side(name, sign, [cell[rest] for rest in shared]) for (name, sign, _), cell in zip(sides, cells, strict=True)
    ), ""


def values_of(arms: Sequence[ArmRows], names: Iterable[str], where: Mapping[str, Scalar]) -> list[Params]:
    """The combinations of values that arms with `where` have of some factors, in the order first seen."""
    names = [*names]
    found = [{name: arm.params[name] for name in names} for arm in arms if _has(arm, names, where)]
    return [each for place, each in enumerate(found) if each not in found[:place]]


def _has(arm: ArmRows, names: Iterable[str], where: Mapping[str, Scalar]) -> bool:
    return where.items() <= arm.params.items() and all(name in arm.params for name in names)


def _nearest(absent: Iterable[Mapping[str, Scalar]], arms: Sequence[ArmRows]) -> str:
    """A suggestion for a value that no result has, if one is close."""
    for name, value in (item for each in absent for item in each.items()):
        there = dict.fromkeys(arm.params.get(name) for arm in arms)
        if value not in there and (told := guess(value, there)):
            return f"; {told}"
    return ""
