"""From a sweep to its trials: arms, tuning points, seeds, and how many; nothing is run or stored here."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from mnist_ablate.errors import SweepError
from mnist_ablate.settings import MAX_TRIALS
from mnist_ablate.sweep.sweep import Range, Sweep
from mnist_ablate.trial import CONTROL_SEED, TUNING_SEED, Params, Scalar, Trial
from mnist_ablate.workloads.workload import PlannedSettings, default_workload, trial_of

_DRAWS_A_POINT = 100
"""Of the Halton sequence: lists and whole numbers repeat themselves."""


@dataclass(frozen=True)
class Arm:
    """One combination of the scientific factors, and every setting that it stands for."""

    params: Params
    settings: Params


@dataclass(frozen=True)
class Planned:
    """A trial and its place in the plan; `stage` is "tuning", "verdict", "as_written" or "control"."""

    trial: Trial
    arm: Arm
    stage: str

    @cached_property
    def id(self) -> str:
        """The trial's, computed once."""
        return self.trial.id


@dataclass(frozen=True)
class Plan:
    """Everything that may be trained. With nuisance factors the verdict trials wait for the tuning.

    Of an adaptive sweep the trials are those of the most seeds; how many are needed, `standing` knows.
    """

    sweep: Sweep
    arms: tuple[Arm, ...]
    points: tuple[Params, ...]
    data_digest: str

    @property
    def size(self) -> int:
        """The number of trials, tuning included; of an adaptive sweep the most."""
        return count(self.sweep)

    @property
    def tuning_size(self) -> int:
        """The number of trials that tune, search, or choose a path."""
        return _tuning_count(self.sweep)

    @cached_property
    def tuning(self) -> tuple[Planned, ...]:
        """Every arm at the same nuisance points, one seed each, arms taking turns."""
        return tuple(
            Planned(self._trial(arm.settings, point, TUNING_SEED), arm, "tuning")
            for point in self.points
            for arm in self.arms
        )

    def searched(self, settings: Params) -> Planned:
        """A trial of a search: the baseline with these settings; it belongs to the arm that will be the winner."""
        arm = self.arms[-1]
        return Planned(self._trial(arm.settings, settings, TUNING_SEED), arm, "tuning")

    def changed(self, settings: Params, step: int) -> tuple[Planned, ...]:
        """A candidate for the next arm after so many steps of an ablation path, at every seed of the choice."""
        arm = self.arms[step + 1]
        seeds = range(TUNING_SEED, TUNING_SEED + self.sweep.least_seeds)
        return tuple(Planned(self._trial(self.arms[0].settings, settings, seed), arm, "tuning") for seed in seeds)

    def verdict_trials(self, tuned: Mapping[str, Params] | None = None) -> tuple[Planned, ...]:
        """Every arm at every seed, seeds outermost; `tuned` has the nuisance values of each arm by its label."""
        nuisance = [(tuned or {}).get(label(arm.params), {}) for arm in self.arms]
        key = repr(nuisance)
        if key not in self._verdict_trials:
            self._verdict_trials[key] = tuple(
                Planned(self._trial(arm.settings, values, seed), arm, "verdict")
                for seed in range(self.sweep.most_seeds)
                for arm, values in zip(self.arms, nuisance, strict=True)
            )
        return self._verdict_trials[key]

    @cached_property
    def _verdict_trials(self) -> dict[str, tuple[Planned, ...]]:
        """Those that were asked for: of a large sweep they take a while to make."""
        return {}

    def as_written_trials(self) -> tuple[Planned, ...]:
        """The verdicts' trials at the values of `fixed` in place of tuned ones; none unless the sweep asks for them."""
        trials = self.verdict_trials() if self.sweep.as_written else ()
        return tuple(replace(each, stage="as_written") for each in trials)

    @cached_property
    def control_arm(self) -> Arm:
        """What the negative control repeats: the first arm that has the baseline's values."""
        wanted = self.sweep.baseline.items() if self.sweep.design != "search" else ()
        return next((arm for arm in self.arms if set(wanted) <= set(arm.params.items())), self.arms[0])

    def control_trials(self, tuned: Mapping[str, Params] | None = None) -> tuple[Planned, ...]:
        """The baseline again, as often as in the verdicts, at its tuned values; none if the sweep has no control."""
        arm, seeds = self.control_arm, range(control_count(self.sweep))
        nuisance = (tuned or {}).get(label(arm.params), {})
        return tuple(
            Planned(self._trial(arm.settings, nuisance, CONTROL_SEED + seed), arm, "control") for seed in seeds
        )

    def _trial(self, settings: Params, nuisance: Params, seed: int) -> Trial:
        workload = default_workload()
        tuned = workload.complete({**settings, **nuisance}) if nuisance else settings
        return trial_of(workload, tuned, seed, self.data_digest)


def label(params: Mapping[str, Scalar]) -> str:
    """An arm in words: its factor values, in the sweep's order."""
    return " ".join(str(value) for value in params.values())


def expand(sweep: Sweep, data_digest: str, max_trials: int = MAX_TRIALS) -> Plan:
    """The plan of a sweep; its size is checked by multiplication before anything is listed.

    Raises SweepError if there are more than `max_trials` trials.
    """
    size = count(sweep)
    if size > max_trials:
        raise SweepError(f"{sweep.name}: {size:,} trials; limit {max_trials:,} (--max-trials)")
    complete = default_workload().complete
    arms = tuple(Arm(params, complete({**sweep.fixed, **settings})) for params, settings in _arms(sweep))
    points = () if sweep.design == "search" else tuple(_points(sweep.nuisance, sweep.tuning_trials))
    return Plan(sweep, arms, points, data_digest)


def count(sweep: Sweep, seeds: int | None = None) -> int:
    """The number of trials of a sweep, at most, or with so many seeds."""
    seeds = sweep.most_seeds if seeds is None else seeds
    control = seeds if sweep.controlled else 0
    confirmed = seeds * (2 if sweep.as_written else 1)
    return _tuning_count(sweep) + arm_count(sweep) * confirmed + control


def _tuning_count(sweep: Sweep) -> int:
    """The number of trials that choose: for each arm alike, in a search, or for an ablation path."""
    if sweep.design == "search":
        return sweep.tuning_trials
    if sweep.design == "ablation_path":
        tried = sum(range(2, len(sweep.changes) + 1))  # the last change is not chosen
        return tried * sweep.least_seeds
    return arm_count(sweep) * sweep.tuning_trials if sweep.nuisance else 0


def control_count(sweep: Sweep) -> int:
    """The number of trials of the negative control, at most."""
    return sweep.most_seeds if sweep.controlled else 0


def arm_count(sweep: Sweep) -> int:
    """The number of arms of a sweep."""
    if sweep.design == "configurations":
        return len(sweep.configurations)
    if sweep.design in ("search", "ablation_path"):
        return len(sweep.factors["configuration"])
    if sweep.design == "factorial":
        return math.prod(len(values) for values in sweep.scientific.values())
    return 1 + sum(len(_others(sweep, factor)) for factor in sweep.scientific)


def planned_settings(plan: Plan) -> PlannedSettings:
    """Every setting that a trial of the plan can have."""
    sweep = plan.sweep
    searched = {**(sweep.scientific if sweep.design == "search" else {}), **sweep.nuisance}
    tried = {key: values for key, values in searched.items() if isinstance(values, list)}
    return PlannedSettings([arm.settings for arm in plan.arms], tried)


def _arms(sweep: Sweep) -> Iterator[tuple[Params, Params]]:
    """Each arm's factor values, and the settings they mean."""
    if sweep.design == "configurations":
        for name, settings in sweep.configurations.items():
            yield {"configuration": name}, settings
    elif sweep.design in ("search", "ablation_path"):
        for role in sweep.factors["configuration"]:
            yield {"configuration": role}, sweep.target if role == "target" else sweep.baseline
    elif sweep.design == "factorial":
        for values in itertools.product(*sweep.scientific.values()):
            params = dict(zip(sweep.scientific, values, strict=True))
            yield params, params
    else:
        yield sweep.baseline, sweep.baseline
        for factor in sweep.scientific:
            for value in _others(sweep, factor):
                params = {**sweep.baseline, factor: value}
                yield params, params


def _others(sweep: Sweep, factor: str) -> Sequence[Scalar]:
    return [value for value in sweep.scientific[factor] if value != sweep.baseline[factor]]


def _points(nuisance: Mapping[str, Range | list[Scalar]], n: int) -> Iterator[Params]:
    """`n` points of a Halton sequence (Halton 1960), the same for every arm; scrambled with a fixed seed.

    No point is there twice; there are fewer than `n` if that many cannot be found.
    """
    if not nuisance:
        return
    seen: set[tuple[Scalar, ...]] = set()
    from scipy.stats import qmc  # 0.9 s, and only tuning needs it

    for row in qmc.Halton(len(nuisance), rng=0).random(n * _DRAWS_A_POINT):
        point = {name: _at(choice, float(u)) for (name, choice), u in zip(nuisance.items(), row, strict=True)}
        if len(seen) < n and tuple(point.values()) not in seen:
            seen.add(tuple(point.values()))
            yield point


def _at(choice: Range | list[Scalar], u: float) -> Scalar:
    """The value at the fraction u, 0 to 1, of a range or list."""
    if isinstance(choice, list):
        return choice[min(int(u * len(choice)), len(choice) - 1)]
    if choice.log:
        value = math.exp(math.log(choice.low) + u * (math.log(choice.high) - math.log(choice.low)))
    else:
        value = choice.low + u * (choice.high - choice.low)
    return round(value) if choice.integer else float(f"{value:.4g}")
