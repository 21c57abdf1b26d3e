"""Which factors of a search mattered for its best trials, with how sure that is; reads trials alone.

PED-ANOVA (Watanabe, Bansal and Hutter 2023, as in Optuna): how far the values of the best tenth of the trials differ
in distribution from those of all that were tried, factor by factor, as shares that sum to 1. It tells which factors the
best trials agree on, in a space that the search itself did not visit evenly; it is no effect, and interactions are not
in it. The interval is that of the percentile bootstrap over the trials.
"""

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, create_trial

from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import RecordedTrial
from mnist_ablate.workloads.workload import selection_score

RESAMPLES = 100
LEVEL = 0.9
FEWEST = 20  # trials below which the best tenth is no more than one


def importances(sweep: Sweep, tried: Sequence[RecordedTrial]) -> list[tuple[str, float, float, float]]:
    """Each searched factor, its share, and the ends of its interval, the largest first; none of fewer than `FEWEST`."""
    trials = [trial for entry in tried if (trial := optuna_trial(sweep, entry))]
    if len(trials) < FEWEST or len(sweep.space) < 2:  # noqa: PLR2004 - one factor has all there is to have
        return []
    rng = np.random.default_rng(0)
    draws = [_shares(sweep, [trials[i] for i in rng.integers(len(trials), size=len(trials))]) for _ in range(RESAMPLES)]
    limits = np.quantile(draws, [(1.0 - LEVEL) / 2, (1.0 + LEVEL) / 2], axis=0).tolist()
    return sorted(zip(sweep.space, _shares(sweep, trials), *limits, strict=True), key=lambda each: -each[1])


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


def _shares(sweep: Sweep, trials: Sequence[FrozenTrial]) -> list[float]:
    """The share of each factor of the space, in its order."""
    from optuna.importance import PedAnovaImportanceEvaluator  # scikit-learn comes with it: 1.8 s

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a resample may have few trials where a factor has a meaning
        raw = PedAnovaImportanceEvaluator().evaluate(_Finished(trials))
    total = sum(raw.values())
    return [raw.get(name, 0.0) / total if total else 0.0 for name in sweep.space]


def optuna_trial(sweep: Sweep, entry: RecordedTrial, **more: Any) -> FrozenTrial | None:
    """A trial with its score; a pruned one with that of its last epoch. None if it has none. `more` is Optuna's."""
    settings, outcome = entry.trial.settings, entry.outcome
    metrics = outcome.epochs[-1].metrics if outcome.status == "pruned" else outcome.metrics
    score = selection_score(sweep.workload, metrics) if sweep.workload.selection_metric in metrics else None
    own = {name: choice for name, choice in space(sweep).items() if sweep.is_active(name, settings)}
    params = {name: settings[name] for name in own}
    return None if score is None else create_trial(value=score, params=params, distributions=own, **more)


def space(sweep: Sweep) -> dict[str, BaseDistribution]:
    """What is searched: the scientific lists and the nuisance ranges."""
    found: dict[str, BaseDistribution] = {}
    for name, choice in sweep.space.items():
        if isinstance(choice, list):
            found[name] = CategoricalDistribution(choice)
        elif choice.integer:
            found[name] = IntDistribution(round(choice.low), round(choice.high), log=choice.log)
        else:
            found[name] = FloatDistribution(choice.low, choice.high, log=choice.log)
    return found
