"""Does what varies and what is fixed make a plan: keys, values, overlaps, and the rules of each design."""

import itertools
import math
from collections.abc import Iterator, Mapping

from mnist_ablate.problems import Address, Finding, listed, plainly, shown
from mnist_ablate.sweep.sweep import NAME_RULE, Range, SeedRange, Sweep, is_name
from mnist_ablate.sweep.value_checks import among, key_problem, range_problems, same, value_problem
from mnist_ablate.trial import Params, Scalar
from mnist_ablate.workloads.workload import default_workload

RELATED = frozenset(
    {
        "design",
        "baseline",
        "scientific",
        "configurations",
        "nuisance",
        "tuning_trials",
        "as_written",
        "conditions",
        "pruning",
        "target",
    }
)
"""The sections that are judged together; with one of them doubtful, only `local` findings are certain."""
_AROUND_BASELINE = ("one_factor", "leave_one_out", "search")
"""The designs whose baseline is an arm."""


def local(sweep: Sweep, *, any_factors: bool) -> Iterator[Finding]:
    """What is wrong with single entries, whatever the rest says."""
    for address in _keys(sweep):
        if text := key_problem(str(address[-1]), any_factors=any_factors):
            yield Finding(address, text, at_key=True)
    for address, key, value in _values(sweep):
        if text := value_problem(key, value, any_factors=any_factors):
            yield Finding(address, text)
    for key, choice in sweep.nuisance.items():
        for part, text in range_problems(key, choice, any_factors=any_factors) if isinstance(choice, Range) else ():
            yield Finding(("nuisance", key, part) if part else ("nuisance", key), text)
    yield from _lists(sweep)
    if not any_factors:
        yield from _default_rates(sweep)
    yield from _overlaps(sweep)
    yield from _configuration_names(sweep, any_factors=any_factors)
    if isinstance(sweep.seeds, SeedRange) and sweep.seeds.min >= sweep.seeds.max:
        yield Finding(("seeds", "min"), f"must be below max, but {sweep.seeds.min} is not below {sweep.seeds.max}")
    if not sweep.question.strip():
        yield Finding(("question",), "is empty; say in a sentence what the sweep asks")


def related(sweep: Sweep, *, any_factors: bool) -> Iterator[Finding]:
    """What is wrong with the plan as a whole."""
    yield from _sections(sweep)
    yield from _baseline(sweep)
    yield from _dropped(sweep)
    yield from _tuning(sweep)
    if not any_factors:
        yield from _tried_optimizers(sweep)


def _lists_of(sweep: Sweep) -> Iterator[tuple[Address, list[Scalar]]]:
    for key, values in sweep.scientific.items():
        yield ("scientific", key), values
    for key, choice in sweep.nuisance.items():
        if isinstance(choice, list):
            yield ("nuisance", key), choice


def _params_of(sweep: Sweep) -> Iterator[tuple[Address, Params]]:
    yield ("baseline",), sweep.baseline
    yield ("fixed",), sweep.fixed
    yield ("target",), sweep.target
    for name, params in sweep.configurations.items():
        yield ("configurations", name), params


def _keys(sweep: Sweep) -> Iterator[Address]:
    for section in ("scientific", "nuisance"):
        yield from ((section, key) for key in getattr(sweep, section))
    for address, params in _params_of(sweep):
        yield from ((*address, key) for key in params)


def _values(sweep: Sweep) -> Iterator[tuple[Address, str, Scalar]]:
    for address, values in _lists_of(sweep):
        yield from (((*address, index), str(address[-1]), value) for index, value in enumerate(values))
    for address, params in _params_of(sweep):
        yield from (((*address, key), key, value) for key, value in params.items())


def _lists(sweep: Sweep) -> Iterator[Finding]:
    for address, values in _lists_of(sweep):
        if not values:
            yield Finding(address, "an empty list; give at least one value, or remove the line")
        seen: set[tuple[bool, Scalar]] = set()
        for index, value in enumerate(values):
            if (isinstance(value, bool), value) in seen:
                yield Finding((*address, index), f"{shown(value)} is there twice; keep one")
            seen.add((isinstance(value, bool), value))


def _default_rates(sweep: Sweep) -> Iterator[Finding]:
    """What an arm or a tried point is said to have must be what it is trained with; fixed values name no arm."""
    text = "0 stands for the optimizer's default: write the number"
    for address, values in _lists_of(sweep):
        if address[-1] == "learning_rate":
            yield from (Finding((*address, index), text) for index, value in enumerate(values) if same(value, 0))
    if sweep.design in _AROUND_BASELINE and same(sweep.baseline.get("learning_rate", ""), 0):
        yield Finding(("baseline", "learning_rate"), text)


def _overlaps(sweep: Sweep) -> Iterator[Finding]:
    """A factor has one role; only the value that tuning replaces may be fixed as well."""
    for key in sweep.scientific:
        for section in ("nuisance", "fixed"):
            if key in getattr(sweep, section):
                yield Finding((section, key), "is in scientific too; remove it from one of them", at_key=True)
    for name, params in sweep.configurations.items():
        for section in ("nuisance", "fixed"):
            for key in (key for key in params if key in getattr(sweep, section)):
                yield Finding(
                    ("configurations", name, key),
                    f"is in {section} too; remove it from one of them",
                    at_key=True,
                )


def _configuration_names(sweep: Sweep, *, any_factors: bool) -> Iterator[Finding]:
    earlier: dict[frozenset[tuple[str, Scalar]], str] = {}
    for name, params in sweep.configurations.items():
        if not is_name(name):
            yield Finding(("configurations", name), NAME_RULE, at_key=True)
        whole = params if any_factors else _trained(sweep, params)
        first = earlier.setdefault(frozenset(whole.items()), name)
        if first != name:
            yield Finding(("configurations", name), f"is the same as {shown(first)}; remove one", at_key=True)


def _trained(sweep: Sweep, params: Params) -> Params:
    """A configuration with everything that it leaves out."""
    workload = default_workload()
    settings = {name: field.default for name, field in workload.settings.model_fields.items()} | sweep.fixed | params
    try:
        return workload.complete(settings)
    except (KeyError, ValueError):  # a value that is wrong is found elsewhere
        return settings


def _sections(sweep: Sweep) -> Iterator[Finding]:
    """Which sections a design has."""
    if sweep.design == "ablation_path":
        yield from _path(sweep)
        return
    if sweep.target:
        yield Finding(("target",), f"design: {sweep.design} has none; write design: ablation_path", at_key=True)
    if sweep.design == "configurations":
        if not sweep.configurations:
            yield Finding(("configurations",), "design: configurations needs them: {name: {model: mlp}}")
        for section in ("scientific", "baseline"):
            if getattr(sweep, section):
                yield Finding((section,), f"design: configurations has no {section}; remove it", at_key=True)
        return
    if sweep.configurations:
        yield Finding(
            ("configurations",), f"design: {sweep.design} has none; write design: configurations", at_key=True
        )
    if sweep.design == "search" and not (sweep.scientific or sweep.nuisance):
        yield Finding(("scientific",), "design: search needs scientific lists or nuisance ranges to search")
    if sweep.design != "search" and not sweep.scientific:
        yield Finding(("scientific",), f"design: {sweep.design} needs what varies: {{normalizer: [unit, centered]}}")


def _path(sweep: Sweep) -> Iterator[Finding]:
    """A path goes from the baseline to the target, which name the same factors."""
    for section in ("scientific", "configurations", "nuisance"):
        if getattr(sweep, section):
            text = f"design: ablation_path has baseline and target in place of {section}; remove it"
            yield Finding((section,), text, at_key=True)
    for params, other in ((sweep.baseline, "target"), (sweep.target, "baseline")):
        for key in (key for key in params if key not in getattr(sweep, other)):
            yield Finding((other,), f"needs {plainly(key)} too: a path goes from baseline to target")
    for key in (key for key in sweep.fixed if key in sweep.target):
        yield Finding(("fixed", key), "is in target too; remove it from one of them", at_key=True)
    written = sweep.target.get("learning_rate", sweep.fixed.get("learning_rate", 0)) and sweep.baseline.get(
        "learning_rate", 1
    )
    if "optimizer" in sweep.changes and not written:
        yield Finding(
            ("target",), "changes the optimizer, and its default learning rate with it; give learning_rate too"
        )
    if not sweep.changes:
        yield Finding(("target",), "design: ablation_path needs where the path ends: what differs from the baseline")


def _baseline(sweep: Sweep) -> Iterator[Finding]:
    if sweep.design in ("configurations", "ablation_path"):
        return
    for key, value in sweep.baseline.items():
        values = sweep.scientific.get(key)
        if values is None:
            text = f"not a scientific factor ({listed(sweep.scientific) or 'there is none'}); move it to fixed"
            yield Finding(("baseline", key), text, at_key=True)
        elif sweep.design in ("factorial", "search") and not among(value, values):
            yield Finding(("baseline", key), f"{shown(value)} is not in scientific: {listed(values)}")
    if sweep.design in ("one_factor", "leave_one_out"):
        for key in (key for key in sweep.scientific if key not in sweep.baseline):
            yield Finding(("baseline", key), f"design: {sweep.design} needs the baseline's {plainly(key)}")


def _dropped(sweep: Sweep) -> Iterator[Finding]:
    """In leave_one_out each factor lists what its baseline value is replaced with."""
    for key, values in sweep.scientific.items() if sweep.design == "leave_one_out" else ():
        if len(values) > 1:
            text = f"design: leave_one_out takes one value, what replaces the baseline's; not {len(values)}"
            yield Finding(("scientific", key), text)
        elif values and key in sweep.baseline and same(values[0], sweep.baseline[key]):
            yield Finding(("scientific", key, 0), f"{shown(values[0])} is the baseline's own; give what replaces it")


def _tuning(sweep: Sweep) -> Iterator[Finding]:
    tried = sweep.space if sweep.design == "search" else sweep.nuisance
    if sweep.design == "search" and not sweep.tuning_trials:
        yield Finding(("tuning_trials",), "design: search needs at least 1, the trials to search with")
    elif sweep.nuisance and not sweep.tuning_trials:
        yield Finding(("tuning_trials",), "nuisance factors need at least 1, the trials to tune each arm with")
    elif sweep.tuning_trials and not tried:
        yield Finding(("tuning_trials",), "there is nothing to tune; add nuisance factors or remove it", at_key=True)
    elif sweep.tuning_trials > (most := _recipes(sweep, tried)):
        yield Finding(("tuning_trials",), f"more than the {most:g} there are to try; write at most {most:g}")
    if sweep.as_written:
        yield from _as_written(sweep)
    if sweep.pruning != "none" and sweep.design != "search":
        text = "is for design: search; other designs give each arm the same trials, whole; remove it"
        yield Finding(("pruning",), text, at_key=True)
    yield from _conditions(sweep)


def _tried_optimizers(sweep: Sweep) -> Iterator[Finding]:
    """What is tried is put into an arm's recipe, which has the default learning rate of the arm's own optimizer."""
    rate, arms = "learning_rate", sweep.configurations.values()
    tried = rate in sweep.space and rate not in sweep.conditions
    written = sweep.fixed.get(rate) or sweep.baseline.get(rate) or (arms and all(arm.get(rate) for arm in arms))
    for section in ("scientific", "nuisance") if sweep.design == "search" else ("nuisance",):
        if "optimizer" in getattr(sweep, section) and not (tried or written):
            text = "all would be tried at one optimizer's default learning rate; give learning_rate too"
            yield Finding((section, "optimizer"), text, at_key=True)


def _conditions(sweep: Sweep) -> Iterator[Finding]:
    """A searched factor may hang on lists that are searched too, and do not hang on others themselves."""
    if sweep.conditions and sweep.design != "search":
        yield Finding(("conditions",), "is for design: search; remove it", at_key=True)
        return
    for key, wanted in sweep.conditions.items():
        if key not in sweep.space:
            yield Finding(("conditions", key), f"is not searched: {listed(sweep.space)}", at_key=True)
        for other, values in wanted.items():
            choice = sweep.space.get(other)
            if other in sweep.conditions or not isinstance(choice, list):
                text = "must be a list that is searched, with no conditions of its own"
                yield Finding(("conditions", key, other), text, at_key=True)
                continue
            for index, value in enumerate(values):
                if not among(value, choice):
                    text = f"{shown(value)} is not searched: {listed(choice)}"
                    yield Finding(("conditions", key, other, index), text)


def _recipes(sweep: Sweep, tried: Mapping[str, Range | list[Scalar]]) -> float:
    """How many recipes there are to try, counted up to `tuning_trials`: a factor is searched where it has a meaning."""
    conditions = {} if any(_conditions(sweep)) else sweep.conditions
    others = sorted({other for wanted in conditions.values() for other in wanted})
    always = math.prod(_values_in(choice) for name, choice in tried.items() if name not in {*others, *conditions})
    found = 0.0
    for values in itertools.product(*(choice for name in others if isinstance(choice := tried[name], list))):
        settings = dict(zip(others, values, strict=True))
        found += always * math.prod(_values_in(tried[name]) for name in conditions if sweep.searches(name, settings))
        if found >= sweep.tuning_trials:
            break
    return found


def _values_in(choice: Range | list[Scalar]) -> float:
    """How many values a nuisance factor has."""
    if isinstance(choice, list):
        return len(choice)
    return choice.high - choice.low + 1 if choice.integer else math.inf


def _as_written(sweep: Sweep) -> Iterator[Finding]:
    """The recipe as written is that of `fixed`, whole."""
    if sweep.design == "search" or not sweep.nuisance:
        text = "trains the fixed values of what is tuned, and nothing is tuned for each arm; remove it"
        yield Finding(("as_written",), text, at_key=True)
        return
    for key in (key for key in sweep.nuisance if key not in sweep.fixed):
        yield Finding(("as_written",), f"needs the written value of {plainly(key)}; add it to fixed")
