"""How long a sweep still takes, by what trials of each arm took so far; arms can differ a hundredfold."""

from collections import Counter, defaultdict, deque
from statistics import fmean, median

from mnist_ablate.sweep.plan import Plan, label
from mnist_ablate.trial import Params, Trial
from mnist_ablate.workloads.workload import default_workload

_EPOCHS_KEPT = 200


class TimeLeft:
    """Told of a plan and of what happens to its trials, at seconds of any one clock."""

    def __init__(self) -> None:
        self._settings: dict[str, Params] = {}
        self._left: Counter[str] = Counter()
        self._others = 0
        self._began: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._trial_s: defaultdict[str, list[float]] = defaultdict(list)
        self._epoch_s: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_EPOCHS_KEPT))

    def opened(self, plan: Plan) -> None:
        """All of it is left."""
        self._settings = {label(arm.params): arm.settings for arm in plan.arms}
        self._left = Counter(dict.fromkeys(self._settings, plan.sweep.most_seeds))
        self._left.update(label(each.arm.params) for each in plan.tuning)
        if plan.sweep.controlled:
            self._left[label(plan.control_arm.params)] += plan.sweep.most_seeds
        self._others = max(0, plan.size - self._left.total())

    def started(self, trial: Trial, at: float) -> None:
        """It begins to train; said again, what came before was preparation, which no later trial waits for."""
        self._began[trial.id] = self._told[trial.id] = at

    def progressed(self, trial: Trial, at: float) -> None:
        """It ended an epoch."""
        if trial.id in self._told:
            self._epoch_s[default_workload().pace(trial.settings)].append(at - self._told[trial.id])
            self._told[trial.id] = at

    def lost(self, trial: Trial) -> None:
        """It will begin again."""
        for times in (self._began, self._told):
            times.pop(trial.id, None)

    def ended(self, trial: Trial, arm: str, at: float) -> None:
        """It needs no more time, and others of its arm about as much as it took."""
        if trial.id in self._began:
            self._trial_s[arm].append(at - self._began[trial.id])
        self.lost(trial)
        self.recorded(arm)

    def recorded(self, arm: str) -> None:
        """A trial of the arm is done that was not watched."""
        if self._left[arm]:
            self._left[arm] -= 1
        else:
            self._others = max(0, self._others - 1)

    def seconds(self, workers: int, at: float) -> tuple[float, bool] | None:
        """For so many workers, and whether that is all: not while trials are left that nothing is known of.

        None before anything is known.
        """
        costs = {arm: self._cost(arm, settings) for arm, settings in self._settings.items()}
        known = [cost for cost in costs.values() if cost is not None]
        if not known:
            return None
        usual = fmean(known)
        work = sum(self._left[arm] * (usual if cost is None else cost) for arm, cost in costs.items())
        spent = sum(at - began for began in self._began.values())
        is_all = all(cost is not None for arm, cost in costs.items() if self._left[arm])
        return max(0.0, work + self._others * usual - spent) / max(1, workers), is_all

    def _cost(self, arm: str, settings: Params) -> float | None:
        if taken := self._trial_s[arm]:
            return fmean(taken)
        if epochs := self._epoch_s[default_workload().pace(settings)]:
            return float(settings[default_workload().budget]) * median(epochs)
        return None
