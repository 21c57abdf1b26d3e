"""Searches settings with Optuna's TPE by the selection metric: suggests, learns, prunes. Trains and records nothing."""

import warnings
from collections.abc import Callable, Iterator, Mapping

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.trial import TrialState

from mnist_ablate.errors import AblateError
from mnist_ablate.ledger.importance import optuna_trial, space
from mnist_ablate.sweep.plan import Plan, PlannedTrial
from mnist_ablate.sweep.sweep import Pruning
from mnist_ablate.trial import Epoch, Outcome, RecordedTrial, Scalar, Trial
from mnist_ablate.workloads.workload import epochs_of, selection_score

REDUCTION = 3  # successive halving (asynchronous, Li et al. 2020) promotes one trial in so many at 1, 3, 9, ... epochs
_MOST_REPEATS = 100  # after this many suggestions in a row that were all tried before, the space counts as exhausted
_PRUNERS: Mapping[Pruning, Callable[[], BasePruner]] = {
    "none": NopPruner,
    "median": MedianPruner,
    "asha": lambda: SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION),
}


class Search:
    """Suggests `tuning_trials` trials, each from the results of the finished ones, first of all those recorded."""

    def __init__(self, plan: Plan, entries: Mapping[str, RecordedTrial]) -> None:
        self._plan, self._sweep, self._space = plan, plan.sweep, space(plan.sweep)
        self._metric = plan.sweep.workload.selection_metric
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(seed=0, multivariate=True, group=True, constant_liar=True)
        self._study = optuna.create_study(direction="maximize", sampler=sampler, pruner=_PRUNERS[self._sweep.pruning]())
        self._asked: dict[str, optuna.Trial] = {}
        self._reported: set[tuple[int, int]] = set()
        self._known: dict[str, Outcome | None] = {}
        self._repeats = 0
        for entry in entries.values():
            if entry.stage == "tuning":
                self._recall(entry)

    def trials(self) -> Iterator[PlannedTrial]:
        """The trials still to be tried, each suggested when it is asked for. Fewer if the space is exhausted."""
        while len(self._known) < self._sweep.tuning_trials and self._repeats < _MOST_REPEATS:
            asked, suggested = self._study.ask(), dict[str, Scalar]()
            for name, distribution in self._space.items():
                if self._sweep.is_active(name, suggested):
                    suggested[name] = asked._suggest(name, distribution)  # noqa: SLF001 - public ones take no distribution
            planned = self._plan.searched(suggested)
            if planned.id in self._known:
                self._repeats += 1
                self._tell_study(asked, self._known[planned.id])
                continue
            self._repeats, self._known[planned.id], self._asked[planned.id] = 0, None, asked
            yield planned

    def check_not_exhausted(self) -> None:
        """Raises AblateError if the space was exhausted before `tuning_trials` were tried: there can be no winner."""
        tried, wanted = len(self._known), self._sweep.tuning_trials
        if self._repeats >= _MOST_REPEATS:
            found = f"{self._sweep.name}: the search found {tried} recipes to try, tuning_trials asks for {wanted}"
            raise AblateError(f"{found}: write tuning_trials: {tried} and begin anew with --fresh")

    def gives_up(self, trial: Trial, epoch: Epoch) -> bool:
        """Whether a suggested trial is not worth another epoch after this one."""
        asked = self._asked.get(trial.id)
        if asked is None or self._sweep.pruning == "none" or not self._report(asked, epoch):
            return False
        epochs = epochs_of(self._sweep.workload, trial.settings)
        return (epochs is None or epoch.number < epochs) and asked.should_prune()

    def learn(self, outcome: Outcome) -> None:
        """Learn from the outcome of a suggested trial. A failed or lost one teaches nothing."""
        self._known[outcome.trial_id] = outcome
        self._tell_study(self._asked.pop(outcome.trial_id), outcome)

    def _report(self, asked: optuna.Trial, epoch: Epoch) -> bool:
        """False if the epoch was reported before: a lost trial is run again. Or if it does not have the metric."""
        if (asked.number, epoch.number) in self._reported or self._metric not in epoch.metrics:
            return False
        self._reported.add((asked.number, epoch.number))
        asked.report(selection_score(self._sweep.workload, epoch.metrics), epoch.number)
        return True

    def _tell_study(self, asked: optuna.Trial, outcome: Outcome | None) -> None:
        if outcome is not None and outcome.status == "pruned":
            for epoch in outcome.epochs:
                self._report(asked, epoch)
            self._study.tell(asked, state=TrialState.PRUNED)
        else:
            known = outcome is not None and self._metric in outcome.metrics
            value = selection_score(self._sweep.workload, outcome.metrics) if outcome and known else None
            self._study.tell(asked, value, TrialState.FAIL if value is None else TrialState.COMPLETE)

    def _recall(self, entry: RecordedTrial) -> None:
        self._known[entry.trial.id] = outcome = entry.outcome
        epochs, workload = (each for each in outcome.epochs if self._metric in each.metrics), self._sweep.workload
        curve = {epoch.number: selection_score(workload, epoch.metrics) for epoch in epochs}
        # What Optuna notes of a trial at each rung that it reached, so that later trials compete with it.
        steps = enumerate(REDUCTION**rung for rung in range(len(curve)))
        rungs = {f"completed_rung_{rung}": curve[step] for rung, step in steps if step in curve}
        state = TrialState.PRUNED if outcome.status == "pruned" else TrialState.COMPLETE
        attrs = rungs if self._sweep.pruning == "asha" else {}
        if found := optuna_trial(self._sweep, entry, state=state, intermediate_values=curve, system_attrs=attrs):
            self._study.add_trial(found)
