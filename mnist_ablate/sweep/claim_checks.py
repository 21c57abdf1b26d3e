"""Can a claim be judged: its sides, its metric, and whether the sweep runs the arms it compares."""

from collections.abc import Container, Iterator, Mapping

from mnist_ablate.problems import Finding, hint, listed, plainly, shown
from mnist_ablate.sweep.sweep import METRICS, NAME_RULE, Claim, Sweep, is_name
from mnist_ablate.sweep.value_checks import among, same
from mnist_ablate.trial import Params

_SIDES = ("treatment", "control", "where", "versus")


def local(claims: Mapping[int, Claim], doubtful: Container[str | int], *, any_factors: bool) -> Iterator[Finding]:
    """What is wrong with a claim by itself (of a doubtful one, its texts), and names that are there twice."""
    earlier: set[str] = set()
    for index, claim in claims.items():
        sides = () if index in doubtful else _sides(claim)
        for key, text in (*_texts(claim, any_factors=any_factors), *sides):
            yield Finding(("claims", index, key), text)
        if claim.name in earlier:
            yield Finding(
                ("claims", index, "name"), f"{shown(claim.name)} is there twice; give each claim its own name"
            )
        earlier.add(claim.name)


def related(claims: Mapping[int, Claim], doubtful: Container[str | int], sweep: Sweep) -> Iterator[Finding]:
    """Factors, values and arms that the sweep does not have, and seeds that wait for a claim where there is none."""
    if sweep.looks and not claims and "claims" not in doubtful:
        yield Finding(("seeds",), "min and max add seeds while a claim is open, and there is none; write one number")
    for index, claim in claims.items():
        unknown = list(_unknown(index, claim, sweep))
        yield from unknown or (() if index in doubtful else _never_run(index, claim, sweep))


def _texts(claim: Claim, *, any_factors: bool) -> Iterator[tuple[str, str]]:
    if not is_name(claim.name):
        yield "name", f"{shown(claim.name)}: {NAME_RULE}"
    if not claim.statement.strip():
        yield "statement", "is empty; say in a sentence what is claimed"
    if not (any_factors or claim.metric in METRICS):
        yield "metric", f"no such metric: {shown(claim.metric)}; {hint(claim.metric, METRICS)}"


def _sides(claim: Claim) -> Iterator[tuple[str, str]]:
    """Whether the claim compares two things that differ in one way."""
    if not claim.treatment:
        yield "treatment", "is empty; name the arm the claim is about: {normalizer: centered}"
    if claim.control is None and claim.reference is None:
        yield "control", "is missing; give the arm to compare with, or reference: a number"
    if claim.control is not None:
        yield from _against_control(claim.treatment, claim.control, has_reference=claim.reference is not None)
    for key in (key for key in claim.where if key in claim.treatment):
        yield "where", f"{plainly(key)} is in treatment too; remove it from one of them"
    if claim.versus is not None:
        yield from _against_versus(claim.where, claim.versus, has_control=claim.control is not None)


def _against_control(treatment: Params, control: Params, *, has_reference: bool) -> Iterator[tuple[str, str]]:
    if has_reference:
        yield "reference", "goes in place of control; remove one of them"
    if control.keys() != treatment.keys():
        yield (
            "control",
            f"must have the factors of treatment: {listed(treatment)}; not: {listed(control) or 'none'}",
        )
    elif treatment and _equal(control, treatment):
        yield "control", "is the same as treatment; change one of them"


def _against_versus(where: Params, versus: Params, *, has_control: bool) -> Iterator[tuple[str, str]]:
    if not has_control:
        yield "versus", "compares two differences, so it needs control"
    if not where:
        yield "versus", "takes the place of where in the second difference; add where: {activation: relu}"
    elif versus.keys() != where.keys():
        yield "versus", f"must have the factors of where: {listed(where)}; not: {listed(versus) or 'none'}"
    elif _equal(versus, where):
        yield "versus", "is the same as where; change one of them"


def _equal(one: Params, other: Params) -> bool:
    return all(same(one[key], other[key]) for key in one)


def _unknown(index: int, claim: Claim, sweep: Sweep) -> Iterator[Finding]:
    factors = sweep.factors
    for side in _SIDES:
        for key, value in (getattr(claim, side) or {}).items():
            address = ("claims", index, side, key)
            if key not in factors:
                yield Finding(address, f"not a factor of this sweep; {hint(key, factors, 'factors')}", at_key=True)
            elif not among(value, factors[key]):
                yield Finding(address, f"no arm has {shown(value)}; {hint(value, factors[key], 'values')}")


def _never_run(index: int, claim: Claim, sweep: Sweep) -> Iterator[Finding]:
    """One_factor and leave_one_out run the baseline and arms that leave it in one factor."""
    if sweep.design not in ("one_factor", "leave_one_out"):
        return
    sides = [side for side in ("treatment", "control") if getattr(claim, side) is not None]
    for context in ("where", "versus") if claim.versus is not None else ("where",):
        for side in sides:
            arm = {**getattr(claim, context), **getattr(claim, side)}
            changed = {
                key: value
                for key, value in arm.items()
                if key in sweep.baseline and not same(value, sweep.baseline[key])
            }
            if len(changed) > 1:
                text = (
                    f"no arm has {_written(changed)}: {sweep.design} changes one factor of the baseline"
                    f" ({_written(sweep.baseline)}) at a time; use design: factorial"
                )
                yield Finding(("claims", index, "versus" if context == "versus" else side), text)


def _written(params: Params) -> str:
    return ", ".join(f"{plainly(key)}={listed([value])}" for key, value in params.items())
