"""The designs: which arms each of them runs, which sections of a sweep file it reads, and what these must hold.

A design is one class. To add one, write it, its name in `DesignName` and its place in `DESIGNS`; all else follows.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from mnist_ablate.sweep.yaml_reader import Finding
from mnist_ablate.text import listed, plainly, shown
from mnist_ablate.trial import Params, Scalar
from mnist_ablate.workloads.workload import Workload

if TYPE_CHECKING:  # a sweep imports this module for its design
    from mnist_ablate.sweep.sweep import Choice, Sweep

DesignName = Literal["factorial", "one_factor", "leave_one_out", "configurations", "search", "ablation_path"]
CONFIGURATION = "configuration"  # the factor of arms that have names in place of values
SECTIONS = ("baseline", "scientific", "configurations", "target", "nuisance", "as_written", "conditions", "pruning")
"""The sections that only some designs have."""


def equal_values(one: Scalar, other: Scalar) -> bool:
    """Whether two values of a factor are the same: 1 and 1.0 are, 1 and true are not."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def contains_value(values: Iterable[Scalar], value: Scalar) -> bool:
    """Whether a value of a factor is one of several."""
    return any(equal_values(value, other) for other in values)


class Design(ABC):
    """What a design decides. Each method takes a sweep of this design; the docstring of a class is what users read."""

    name: ClassVar[DesignName]
    sections: ClassVar[frozenset[str]]
    """Those of SECTIONS that it reads; it refuses the others."""
    needs: ClassVar[Mapping[str, str]] = {}
    """The sections that must not be empty, each with what to write there."""
    tried_sections: ClassVar[tuple[str, ...]] = ("nuisance",)
    """Where the factors stand whose values are tried by tuning or search."""
    searches: ClassVar[bool] = False
    """Whether something must be tried, once for the sweep and not for each arm alike."""
    baseline_is_arm: ClassVar[bool] = False
    """Whether the baseline's values name an arm that is trained."""
    lists_baseline: ClassVar[bool] = False
    """Whether the baseline's values must be among the scientific ones."""

    @abstractmethod
    def factors(self, sweep: "Sweep") -> dict[str, list[Scalar]]:
        """What a claim can name: every factor with the values that are run."""

    @abstractmethod
    def arms(self, sweep: "Sweep") -> Iterator[tuple[Params, Params]]:
        """Each arm's factor values, and the settings they stand for."""

    def arm_count(self, sweep: "Sweep") -> int:
        """The number of arms."""
        return sum(1 for _ in self.arms(sweep))

    def tuning_count(self, sweep: "Sweep") -> int:
        """The number of trials that choose something: that tune, search or find a path."""
        times = 1 if self.searches else self.arm_count(sweep) if sweep.nuisance else 0
        return times * sweep.tuning_trials

    def tried(self, sweep: "Sweep") -> dict[str, "Choice"]:
        """The factors whose values are tried by tuning or search."""
        return sweep.space if self.searches else sweep.nuisance

    def missing_arm(self, sweep: "Sweep", arm: Params) -> str:  # noqa: ARG002 - a full grid misses none
        """Why no arm has all these values, each of which some arm has; '' if one has."""
        return ""

    def findings(self, sweep: "Sweep", workload: Workload | None) -> Iterator[Finding]:
        """What is wrong with the plan as a whole; without a workload its factors have no meaning."""
        yield from self._sections(sweep)
        if "scientific" in self.sections:
            yield from self._baseline(sweep)
        yield from self._conditions(sweep)
        yield from self._tuning(sweep)
        for setting, source in workload.derived.items() if workload else ():
            yield from self._tried_without(setting, source, sweep)

    def _sections(self, sweep: "Sweep") -> Iterator[Finding]:
        for section in SECTIONS:
            if section not in self.sections and getattr(sweep, section) != type(sweep).model_fields[section].default:
                others = [each.name for each in DESIGNS.values() if section in each.sections]
                instead = f", or write design: {others[0]}" if len(others) == 1 else ""
                yield Finding((section,), f"design: {self.name} has no {section}; remove it{instead}", at_key=True)
        for section, what in self.needs.items():
            if not getattr(sweep, section):
                yield Finding((section,), f"design: {self.name} needs {what}")
        if self.searches and not self.tried(sweep):
            yield Finding(self.tried_sections[:1], f"design: {self.name} needs {' or '.join(self.tried_sections)}")

    def _baseline(self, sweep: "Sweep") -> Iterator[Finding]:
        for key, value in sweep.baseline.items():
            values = sweep.scientific.get(key)
            if values is None:
                text = f"not a scientific factor ({listed(sweep.scientific) or 'there is none'}); move it to fixed"
                yield Finding(("baseline", key), text, at_key=True)
            elif self.lists_baseline and not contains_value(values, value):
                yield Finding(("baseline", key), f"{shown(value)} is not in scientific: {listed(values)}")

    def _conditions(self, sweep: "Sweep") -> Iterator[Finding]:
        """A searched factor may depend on searched lists that depend on nothing themselves."""
        for key, wanted in sweep.conditions.items() if self.searches else ():
            if key not in sweep.space:
                yield Finding(("conditions", key), f"is not searched: {listed(sweep.space)}", at_key=True)
            for other, values in wanted.items():
                choice, here = sweep.space.get(other), ("conditions", key, other)
                if other in sweep.conditions or not isinstance(choice, list):
                    yield Finding(here, "must be a list that is searched, with no conditions of its own", at_key=True)
                    continue
                for index, value in enumerate(values):
                    if not contains_value(choice, value):
                        yield Finding((*here, index), f"{shown(value)} is not searched: {listed(choice)}")

    def _tuning(self, sweep: "Sweep") -> Iterator[Finding]:
        here, tried = ("tuning_trials",), self.tried(sweep)
        if (tried or self.searches) and not sweep.tuning_trials:
            yield Finding(here, "must be at least 1: the number of trials that tune each arm, or that a search tries")
        elif sweep.tuning_trials and not tried:
            yield Finding(here, "there is nothing to tune; add nuisance factors, or remove it", at_key=True)
        elif sweep.tuning_trials > (most := self._possible_points(sweep)):
            yield Finding(here, f"more than the {most:g} there are to try; write at most {most:g}")
        if sweep.as_written and "as_written" in self.sections:
            if not sweep.nuisance:
                text = "trains the fixed values of what is tuned, and nothing is tuned; remove it"
                yield Finding(("as_written",), text, at_key=True)
            for key in (key for key in sweep.nuisance if key not in sweep.fixed):
                yield Finding(("as_written",), f"needs the written value of {plainly(key)}; add it to fixed")

    def _possible_points(self, sweep: "Sweep") -> float:
        """How many points there are to try, counted until there are enough. Conditions make some of them the same."""
        tried = self.tried(sweep)
        conditions = sweep.conditions if self.searches and not any(self._conditions(sweep)) else {}
        others = sorted({other for wanted in conditions.values() for other in wanted})
        always = math.prod(_values_in(choice) for name, choice in tried.items() if name not in {*others, *conditions})
        found = 0.0
        for values in itertools.product(*(choice for name in others if isinstance(choice := tried[name], list))):
            settings = dict(zip(others, values, strict=True))
            active = (_values_in(tried[name]) for name in conditions if sweep.is_active(name, settings))
            found += always * math.prod(active)
            if found >= sweep.tuning_trials:
                break
        return found

    def _tried_without(self, setting: str, source: str, sweep: "Sweep") -> Iterator[Finding]:
        """`source` decides the default of `setting` for an arm, before the values of `source` are tried in it."""
        arms = sweep.configurations.values()
        tried = setting in sweep.space and setting not in sweep.conditions
        written = sweep.fixed.get(setting) or sweep.baseline.get(setting)
        if tried or written or (arms and all(arm.get(setting) for arm in arms)):
            return
        for section in (section for section in self.tried_sections if source in getattr(sweep, section)):
            text = f"all would be tried with the default {setting} of one {source}; give {setting} too"
            yield Finding((section, source), text, at_key=True)


class _Grid(Design):
    """A design whose arms are combinations of values of the scientific factors."""

    sections = frozenset({"baseline", "scientific", "nuisance", "as_written"})
    needs: ClassVar[Mapping[str, str]] = {"scientific": "what varies: {factor: [a, b]}"}

    def factors(self, sweep: "Sweep") -> dict[str, list[Scalar]]:
        found = {key: list(values) for key, values in sweep.scientific.items()}
        for key, value in sweep.baseline.items():
            if value not in found.get(key, [value]):
                found[key].append(value)
        return found


class _Factorial(_Grid):
    """Every combination of the scientific values."""

    name = "factorial"
    lists_baseline = True

    def arms(self, sweep: "Sweep") -> Iterator[tuple[Params, Params]]:
        for values in itertools.product(*sweep.scientific.values()):
            params = dict(zip(sweep.scientific, values, strict=True))
            yield params, params

    def arm_count(self, sweep: "Sweep") -> int:
        return math.prod(map(len, sweep.scientific.values()))  # without listing them: there may be millions


class _OneFactor(_Grid):
    """The baseline, and each other value alone."""

    name: ClassVar[DesignName] = "one_factor"
    needs: ClassVar[Mapping[str, str]] = {"baseline": "the usual value of each factor: {factor: value}", **_Grid.needs}
    baseline_is_arm = True

    def arms(self, sweep: "Sweep") -> Iterator[tuple[Params, Params]]:
        yield sweep.baseline, sweep.baseline
        for factor, values in sweep.scientific.items():
            for params in ({**sweep.baseline, factor: value} for value in values if value != sweep.baseline[factor]):
                yield params, params

    def missing_arm(self, sweep: "Sweep", arm: Params) -> str:
        usual = sweep.baseline
        changed = {key: arm[key] for key in arm if key in usual and not equal_values(arm[key], usual[key])}
        rule = f"{self.name} changes one factor of the baseline ({_written(usual)}) at a time; use design: factorial"
        return f"no arm has {_written(changed)}: {rule}" if len(changed) > 1 else ""

    def findings(self, sweep: "Sweep", workload: Workload | None) -> Iterator[Finding]:
        yield from super().findings(sweep, workload)
        for key in sweep.scientific if sweep.baseline else ():
            if key not in sweep.baseline:
                yield Finding(("baseline", key), f"design: {self.name} needs the baseline's {plainly(key)}")


class _LeaveOneOut(_OneFactor):
    """The baseline, and each factor replaced by the one value in its list."""

    name = "leave_one_out"

    def findings(self, sweep: "Sweep", workload: Workload | None) -> Iterator[Finding]:
        yield from super().findings(sweep, workload)
        for key, values in sweep.scientific.items():
            if len(values) > 1:
                text = f"design: {self.name} takes one value, which replaces the baseline's; not {len(values)}"
                yield Finding(("scientific", key), text)
            elif values and key in sweep.baseline and equal_values(values[0], sweep.baseline[key]):
                text = f"{shown(values[0])} is the baseline's own value; give what replaces it"
                yield Finding(("scientific", key, 0), text)


class _Configurations(Design):
    """Arms with names and settings of their own."""

    name: ClassVar[DesignName] = "configurations"
    sections = frozenset({"configurations", "nuisance", "as_written"})
    needs: ClassVar[Mapping[str, str]] = {"configurations": "arms: {name: {setting: value}}"}

    def settings(self, sweep: "Sweep") -> Mapping[str, Params]:
        """The settings of each arm by its name."""
        return sweep.configurations

    def factors(self, sweep: "Sweep") -> dict[str, list[Scalar]]:
        return {CONFIGURATION: list(self.settings(sweep))}

    def arms(self, sweep: "Sweep") -> Iterator[tuple[Params, Params]]:
        for name, settings in self.settings(sweep).items():
            yield {CONFIGURATION: name}, settings


class _Search(_Configurations):
    """Many settings are tried; the best is compared with the baseline on fresh seeds."""

    name = "search"
    sections = frozenset({"baseline", "scientific", "nuisance", "conditions", "pruning"})
    needs: ClassVar[Mapping[str, str]] = {}
    tried_sections = ("scientific", "nuisance")
    searches = True
    baseline_is_arm = True
    lists_baseline = True

    def settings(self, sweep: "Sweep") -> Mapping[str, Params]:
        return {"baseline": sweep.baseline, "winner": sweep.baseline}


class _AblationPath(_Configurations):
    """From the baseline to the target, change by change, the best one first."""

    name = "ablation_path"
    sections = frozenset({"baseline", "target"})
    needs: ClassVar[Mapping[str, str]] = {
        "baseline": "where the path begins: {setting: value}",
        "target": "where the path ends: {setting: value}",
    }

    def settings(self, sweep: "Sweep") -> Mapping[str, Params]:
        steps = (f"step-{number}" for number in range(1, len(sweep.changes)))
        return {"baseline": sweep.baseline, **dict.fromkeys(steps, sweep.baseline), "target": sweep.target}

    def tuning_count(self, sweep: "Sweep") -> int:
        # Of n changes n are tried, then n - 1, down to 2: the last one is not chosen.
        return sum(range(2, len(sweep.changes) + 1)) * sweep.min_seeds

    def findings(self, sweep: "Sweep", workload: Workload | None) -> Iterator[Finding]:
        yield from super().findings(sweep, workload)
        for key in sorted(sweep.baseline.keys() ^ sweep.target.keys()) if sweep.baseline and sweep.target else ():
            other = "target" if key in sweep.baseline else "baseline"
            yield Finding((other,), f"needs {plainly(key)} too: a path goes from baseline to target")
        for setting, source in workload.derived.items() if workload else ():
            written = sweep.target.get(setting, sweep.fixed.get(setting, 0)) and sweep.baseline.get(setting, 1)
            if source in sweep.changes and not written:
                yield Finding(("target",), f"changes {source}, and with it the default {setting}; give {setting} too")
        if sweep.target and not sweep.changes:
            yield Finding(("target",), "is the same as the baseline; change at least one value")


DESIGNS: Mapping[DesignName, Design] = {
    design.name: design
    for design in (_Factorial(), _OneFactor(), _LeaveOneOut(), _Configurations(), _Search(), _AblationPath())
}


def _values_in(choice: "Choice") -> float:
    """How many values can be tried of a factor."""
    if isinstance(choice, list):
        return len(choice)
    return choice.high - choice.low + 1 if choice.integer else math.inf


def _written(params: Params) -> str:
    return ", ".join(f"{plainly(key)}={listed([value])}" for key, value in params.items())
