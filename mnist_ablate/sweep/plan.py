"""From a sweep to its trials: arms, tuning points, seeds, and how many; nothing is run or stored here."""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from mnist_ablate.errors import SweepError
from mnist_ablate.settings import MAX_TRIALS
from mnist_ablate.sweep.designs import DESIGNS
from mnist_ablate.sweep.sweep import Choice, Sweep
from mnist_ablate.trial import CONTROL_SEED, TUNING_SEED, Params, Scalar, Trial
from mnist_ablate.workloads.workload import PlannedSettings, Workload, trial_of


@dataclass(frozen=True)
class Arm:
    """One combination of the scientific factors, and every setting that it stands for."""

    params: Params
    settings: Params


@dataclass(frozen=True)
class PlannedTrial:
    """A trial and its place in the plan; `stage` is "tuning", "verdict", "as_written" or "control"."""

    trial: Trial
    arm: Arm
    stage: str

    @property
    def id(self) -> str:
        """The trial's."""
        return self.trial.id


@dataclass(frozen=True)
class Plan:
    """Everything that may be trained, at the most seeds. What tuning is to choose, `verdict_trials` must be given."""

    sweep: Sweep
    arms: tuple[Arm, ...]
    points: tuple[Params, ...]
    data_digest: str
    _verdict_trials: dict[str, tuple[PlannedTrial, ...]] = field(default_factory=dict, init=False, compare=False)
    """Those that were asked for, since those of a large sweep take a while to make."""

    @property
    def size(self) -> int:
        """The number of trials with tuning, at most."""
        return count(self.sweep)

    @property
    def tuning_size(self) -> int:
        """The number of trials that tune, search, or choose a path."""
        return DESIGNS[self.sweep.design].tuning_count(self.sweep)

    @cached_property
    def arms_together(self) -> list[list[Arm]]:
        """The arms by the training that serves them, with one seed: the longest last."""
        found = trainings(self.sweep.workload, self.verdict_trials()[: len(self.arms)])
        return [[each.arm for each in training] for training in found]

    def training_count(self, trials: int, seeds: int) -> int:
        """The number of trainings for so many trials, with so many seeds an arm."""
        repeats = len(self.points) + seeds * (2 if self.sweep.as_written else 1)
        return trials - repeats * (len(self.arms) - len(self.arms_together))

    @cached_property
    def tuning(self) -> tuple[PlannedTrial, ...]:
        """Every arm at the same nuisance points, one seed each, arms taking turns."""
        return tuple(self._planned(arm, point, TUNING_SEED, "tuning") for point in self.points for arm in self.arms)

    def searched(self, settings: Params) -> PlannedTrial:
        """A trial of a search: the baseline with these settings; it belongs to the arm that will be the winner."""
        return self._planned(self.arms[-1], settings, TUNING_SEED, "tuning")

    def changed(self, settings: Params, step: int) -> tuple[PlannedTrial, ...]:
        """A candidate for the next arm after so many steps of an ablation path, at every seed of the choice."""
        arm = replace(self.arms[step + 1], settings=self.arms[0].settings)
        seeds = range(TUNING_SEED, TUNING_SEED + self.sweep.min_seeds)
        return tuple(self._planned(arm, settings, seed, "tuning") for seed in seeds)

    def verdict_trials(self, tuned: Mapping[str, Params] | None = None) -> tuple[PlannedTrial, ...]:
        """Every arm at every seed, seeds outermost; `tuned` has the nuisance values of each arm by its label."""
        nuisance = [(tuned or {}).get(label(arm.params), {}) for arm in self.arms]
        if (key := repr(nuisance)) not in self._verdict_trials:
            self._verdict_trials[key] = tuple(
                self._planned(arm, values, seed, "verdict")
                for seed in range(self.sweep.max_seeds)
                for arm, values in zip(self.arms, nuisance, strict=True)
            )
        return self._verdict_trials[key]

    def as_written_trials(self) -> tuple[PlannedTrial, ...]:
        """The verdicts' trials with the values of `fixed` in place of tuned ones, if the sweep asks for them."""
        trials = self.verdict_trials() if self.sweep.as_written else ()
        return tuple(replace(each, stage="as_written") for each in trials)

    @cached_property
    def control_arm(self) -> Arm:
        """What the negative control repeats: the first arm that has the baseline's values."""
        baseline = self.sweep.baseline.items()
        return next((arm for arm in self.arms if baseline <= arm.params.items()), self.arms[0])

    def control_trials(self, tuned: Mapping[str, Params] | None = None) -> tuple[PlannedTrial, ...]:
        """The baseline again with as many other seeds, at its tuned values; none if the sweep has no control."""
        arm, seeds = self.control_arm, range(CONTROL_SEED, CONTROL_SEED + self.sweep.control_seeds)
        nuisance = (tuned or {}).get(label(arm.params), {})
        return tuple(self._planned(arm, nuisance, seed, "control") for seed in seeds)

    def _planned(self, arm: Arm, nuisance: Params, seed: int, stage: str) -> PlannedTrial:
        workload = self.sweep.workload
        settings = workload.complete({**arm.settings, **nuisance}) if nuisance else arm.settings
        return PlannedTrial(trial_of(workload, settings, seed, self.data_digest, self.sweep.vary), arm, stage)


def label(params: Mapping[str, Scalar]) -> str:
    """An arm in words: its factor values, in the sweep's order."""
    return " ".join(str(value) for value in params.values())


def trainings(workload: Workload, trials: Iterable[PlannedTrial]) -> list[tuple[PlannedTrial, ...]]:
    """The trials that one training serves, by training: those that differ in the budget alone, the longest last.

    Each stands alone if the workload cannot share one.
    """
    found: defaultdict[object, list[PlannedTrial]] = defaultdict(list)
    for each in trials:
        settings = each.trial.settings
        others = {name: value for name, value in settings.items() if name != workload.budget}
        found[(each.trial.seed, *others.items()) if workload.shares_trainings(settings) else each.id].append(each)
    return [tuple(sorted(each, key=lambda one: one.trial.settings.get(workload.budget, 0))) for each in found.values()]


def make_plan(sweep: Sweep, data_digest: str, max_trials: int = MAX_TRIALS) -> Plan:
    """The plan of a sweep. Raises SweepError if it has more than `max_trials` trials, before anything is listed."""
    size = count(sweep)
    if size > max_trials:
        raise SweepError(f"{sweep.name}: {size:,} trials; limit {max_trials:,} (--max-trials)")
    design, complete = DESIGNS[sweep.design], sweep.workload.complete
    arms = tuple(
        Arm({**params, **setting}, complete({**sweep.fixed, **settings, **setting}))
        for setting in sweep.settings_across
        for params, settings in design.arms(sweep)
    )
    return Plan(sweep, arms, () if design.searches else _points(sweep.nuisance, sweep.tuning_trials), data_digest)


def count(sweep: Sweep, seeds: int | None = None) -> int:
    """The number of trials of a sweep, at most, or with so many seeds."""
    design, seeds = DESIGNS[sweep.design], seeds or sweep.max_seeds
    confirmed = len(sweep.settings_across) * design.arm_count(sweep) * (2 if sweep.as_written else 1) + bool(
        sweep.control_seeds
    )
    return design.tuning_count(sweep) + confirmed * seeds


def planned_settings(plan: Plan) -> PlannedSettings:
    """Every setting that a trial of the plan can have."""
    tried = DESIGNS[plan.sweep.design].tried(plan.sweep).items()
    return PlannedSettings([arm.settings for arm in plan.arms], {k: v for k, v in tried if isinstance(v, list)})


def _points(nuisance: Mapping[str, Choice], n: int) -> tuple[Params, ...]:
    """`n` different points of a scrambled Halton sequence (Halton 1960), or as many as are found."""
    if not (nuisance and n):
        return ()
    from scipy.stats import qmc  # 0.9 s, and only tuning needs it

    points: dict[tuple[Scalar, ...], Params] = {}
    for row in qmc.Halton(len(nuisance), rng=0).random(100 * n):  # lists and whole numbers repeat themselves
        point = {name: _at(choice, float(u)) for (name, choice), u in zip(nuisance.items(), row, strict=True)}
        points.setdefault(tuple(point.values()), point)
    return tuple(itertools.islice(points.values(), n))


def _at(choice: Choice, u: float) -> Scalar:
    """The value at the fraction u, 0 to 1, of a range or list."""
    if isinstance(choice, list):
        return choice[min(int(u * len(choice)), len(choice) - 1)]
    if choice.log:
        value = math.exp(math.log(choice.low) + u * (math.log(choice.high) - math.log(choice.low)))
    else:
        value = choice.low + u * (choice.high - choice.low)
    return round(value) if choice.integer else float(f"{value:.4g}")
