"""Which factors of a search mattered for its best trials, with how sure that is; reads trials alone.

PED-ANOVA (Watanabe, Bansal and Hutter 2023, as in Optuna): how far the values of the best tenth of the trials differ
in distribution from those of all that were tried, factor by factor, as shares that sum to 1. It tells which factors the
best trials agree on, in a space that the search itself did not visit evenly; it is no effect, and interactions are not
in it. The interval is that of the percentile bootstrap over the trials.
"""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, create_trial

from mnist_ablate.sweep.sweep import Range, Sweep
from mnist_ablate.trial import RecordedTrial, Scalar
from mnist_ablate.workloads.workload import default_workload

METRIC = default_workload().selection_metric
RESAMPLES = 100
LEVEL = 0.9
FEWEST = 20
"""Trials below which the best tenth is no more than one."""


@dataclass(frozen=True)
class Importance:
    """A factor's share of the importance of all, and the interval of that share."""

    factor: str
    share: float
    low: float
    high: float


def importances(sweep: Sweep, tried: Sequence[RecordedTrial]) -> list[Importance]:
    """Each searched factor's share and its interval, the largest first; none of fewer than `FEWEST` trials."""
    trials = [_trial(sweep, entry) for entry in tried if _score(entry) is not None]
    if len(trials) < FEWEST or len(space(sweep)) < 2:  # noqa: PLR2004 - one factor has all there is to have
        return []
    rng = np.random.default_rng(0)
    draws = [_shares(sweep, [trials[i] for i in rng.integers(len(trials), size=len(trials))]) for _ in range(RESAMPLES)]
    whole, tail = _shares(sweep, trials), (1.0 - LEVEL) / 2
    found = []
    for name, share in sorted(whole.items(), key=lambda item: -item[1]):
        low, high = np.quantile([draw[name] for draw in draws], [tail, 1.0 - tail])
        found.append(Importance(name, share, float(low), float(high)))
    return found


class _Finished(optuna.Study):
    """As much of a study as the evaluator reads: adding a resample to a real one takes 40 ms."""

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        self._own = [copy.copy(trial) for trial in trials]
        for number, trial in enumerate(self._own):
            trial._trial_id = number  # noqa: SLF001 - a trial drawn twice is two trials

    @property
    def directions(self) -> list[StudyDirection]:
        return [StudyDirection.MAXIMIZE]

    def get_trials(self, *_: object, **__: object) -> list[FrozenTrial]:
        return self._own


def _shares(sweep: Sweep, trials: Sequence[FrozenTrial]) -> dict[str, float]:
    from optuna.importance import PedAnovaImportanceEvaluator  # scikit-learn comes with it: 1.8 s

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a resample may have few trials where a factor has a meaning
        raw = PedAnovaImportanceEvaluator().evaluate(_Finished(trials))
    total = sum(raw.values())
    return {name: raw.get(name, 0.0) / total if total else 0.0 for name in sweep.space}


def _trial(sweep: Sweep, entry: RecordedTrial) -> FrozenTrial:
    recipe = entry.trial.settings
    own: dict[str, BaseDistribution] = {
        name: choice for name, choice in space(sweep).items() if sweep.is_active(name, recipe)
    }
    params = {name: recipe[name] for name in own}
    return create_trial(value=_score(entry), params=params, distributions=own)


def _score(entry: RecordedTrial) -> float | None:
    """Validation accuracy at the end; of a pruned trial, which is none of the best, at its last epoch."""
    outcome = entry.outcome
    pruned = outcome.epochs[-1].metrics[METRIC] if outcome.status == "pruned" else None
    return outcome.metrics.get(METRIC, pruned)


def space(sweep: Sweep) -> dict[str, BaseDistribution]:
    """What is searched: the scientific lists and the nuisance ranges."""
    return {name: _distribution(choice) for name, choice in sweep.space.items()}


def _distribution(choice: Range | list[Scalar]) -> BaseDistribution:
    if isinstance(choice, list):
        return CategoricalDistribution(choice)
    if choice.integer:
        return IntDistribution(round(choice.low), round(choice.high), log=choice.log)
    return FloatDistribution(choice.low, choice.high, log=choice.log)
