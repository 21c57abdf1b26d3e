"""Searches recipes with Optuna's TPE by validation accuracy: suggests and learns; trains and records nothing."""

import warnings
from collections.abc import Iterator, Mapping

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from mnist_ablate.ledger import Entry
from mnist_ablate.plan import Plan, Planned
from mnist_ablate.sweep import Range, Sweep
from mnist_ablate.trial import Outcome, Scalar

METRIC = "val_accuracy"
_MOST_REPEATS = 100
"""After so many suggestions that were all tried before, the space is taken as exhausted."""


class Search:
    """Suggests `tuning_trials` trials, each from what the finished ones came to; begins with those recorded."""

    def __init__(self, plan: Plan, entries: Mapping[str, Entry]) -> None:
        self._plan, self._space = plan, space(plan.sweep)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(seed=0, multivariate=True, group=True, constant_liar=True)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._asked: dict[str, optuna.Trial] = {}
        self._known: dict[str, float | None] = {}
        for entry in entries.values():
            if entry.stage == "tuning":
                self._recall(entry)

    def trials(self) -> Iterator[Planned]:
        """The trials still to be tried, each suggested when it is asked for."""
        repeats = 0
        while len(self._known) < self._plan.sweep.tuning_trials and repeats < _MOST_REPEATS:
            asked = self._study.ask(self._space)
            planned = self._plan.searched(asked.params)
            trial_id = planned.trial.id
            if trial_id in self._known:
                repeats += 1
                self._learn(asked, self._known[trial_id])
                continue
            repeats, self._known[trial_id], self._asked[trial_id] = 0, None, asked
            yield planned

    def tell(self, outcome: Outcome) -> None:
        """Learn what a suggested trial came to; a failed or lost one teaches nothing."""
        value = outcome.metrics.get(METRIC)
        self._known[outcome.trial_id] = value
        self._learn(self._asked.pop(outcome.trial_id), value)

    def _learn(self, asked: optuna.Trial, value: float | None) -> None:
        self._study.tell(asked, value, TrialState.FAIL if value is None else TrialState.COMPLETE)

    def _recall(self, entry: Entry) -> None:
        value = entry.outcome.metrics.get(METRIC)
        self._known[entry.trial.id] = value
        if value is not None:
            recipe = entry.trial.recipe
            params = {name: getattr(recipe, name) for name in self._space}
            self._study.add_trial(create_trial(value=value, params=params, distributions=self._space))


def space(sweep: Sweep) -> dict[str, BaseDistribution]:
    """What is searched: the scientific lists and the nuisance ranges."""
    return {name: _distribution(choice) for name, choice in {**sweep.scientific, **sweep.nuisance}.items()}


def _distribution(choice: Range | list[Scalar]) -> BaseDistribution:
    if isinstance(choice, list):
        return CategoricalDistribution(choice)
    if choice.integer:
        return IntDistribution(round(choice.low), round(choice.high), log=choice.log)
    return FloatDistribution(choice.low, choice.high, log=choice.log)
