"""Whether the claims of a sweep make sense: texts, what their kind asks for, and whether arms have what they name.

What only one kind of claim asks for is with the kind. Reads no file.
"""

import math
from collections.abc import Container, Iterator, Mapping
from itertools import product

from mnist_ablate.sweep.claim import Claim
from mnist_ablate.sweep.designs import DESIGNS, contains_value
from mnist_ablate.sweep.sweep import NAME_RULE, Sweep, is_name
from mnist_ablate.sweep.yaml_reader import Address, Finding
from mnist_ablate.text import hint, shown
from mnist_ablate.workloads.workload import Workload


def findings(
    sweep: Sweep, claims: Mapping[int, Claim], lost: set[str | int], workload: Workload | None
) -> Iterator[Finding]:
    """What is wrong with claims by themselves. Of those that are `lost` and of lost sections nothing is said twice."""
    earlier: set[str] = set()
    for index, claim in claims.items():
        problems = (*_texts(claim, earlier, workload), *(() if index in lost else _by_kind(claim, sweep)))
        if "metrics" not in lost:
            problems += (*_estimand(claim, sweep), *claim.scale_problems(is_declared=workload is not None))
        yield from (Finding(("claims", index, *key.split(".")), text) for key, text in problems)
        earlier.add(claim.name)


def _texts(claim: Claim, earlier: Container[str], workload: Workload | None) -> Iterator[tuple[str, str]]:
    if not is_name(claim.name):
        yield "name", f"{shown(claim.name)}: {NAME_RULE}"
    if claim.name in earlier:
        yield "name", f"{shown(claim.name)} is there twice; give each claim its own name"
    if not claim.statement.strip():
        yield "statement", "is empty; say in a sentence what is claimed"
    if workload and claim.metric not in workload.metrics:
        yield "metric", f"no such metric: {shown(claim.metric)}; {hint(claim.metric, workload.metrics)}"


def _estimand(claim: Claim, sweep: Sweep) -> Iterator[tuple[str, str]]:
    """Whether the mean of all seeds can be asked for."""
    metric = sweep.metric(claim.metric)
    if claim.estimand == "mean" and not (math.isfinite(metric.low) and math.isfinite(metric.high)):
        yield "estimand", f"mean needs a metric with bounds, and {claim.metric} has none; use typical"


def _by_kind(claim: Claim, sweep: Sweep) -> Iterator[tuple[str, str]]:
    """Whether it has what its kind asks for."""
    for key in claim.never:
        if getattr(claim, key) != type(claim).model_fields[key].get_default():
            yield key, f"kind: {claim.kind} has no {key}; remove it"
    yield from claim.problems(sweep)


def of_arms(address: Address, claim: Claim, sweep: Sweep, *, is_sound: bool) -> Iterator[Finding]:
    """Factors and values of a claim that no arm has, else combinations of them that the design leaves out."""
    factors = sweep.factors
    for side in ("treatment", "control", "where", "versus"):
        for key, value in (getattr(claim, side) or {}).items():
            if key not in factors:
                text, is_sound = f"not a factor of this sweep; {hint(key, factors, 'factors')}", False
                yield Finding((*address, side, key), text, at_key=True)
            elif not contains_value(factors[key], value):
                text, is_sound = f"no arm has {shown(value)}; {hint(value, factors[key], 'values')}", False
                yield Finding((*address, side, key), text)
    for context, side in product(("where", "versus"), claim.arms_in) if is_sound else ():
        one, other = getattr(claim, context), getattr(claim, side)
        if None not in (one, other) and (text := DESIGNS[sweep.design].missing_arm(sweep, {**one, **other})):
            yield Finding((*address, "versus" if context == "versus" else side), text)
