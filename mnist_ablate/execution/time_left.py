"""How long a plan still takes, by what its arms took so far. Reads no clock and shows nothing."""

from collections import Counter, defaultdict, deque
from statistics import fmean, median

from mnist_ablate.execution.events import Event, Finished, Preparing, Progress, Retried, Started
from mnist_ablate.sweep.plan import Plan, label
from mnist_ablate.trial import Params
from mnist_ablate.workloads.workload import epochs_of

_EPOCHS_KEPT = 200


class TimeLeft:
    """How long a plan still takes, in seconds of any clock, by what its arms took so far: they can differ a lot."""

    def __init__(self, plan: Plan) -> None:
        self._workload = plan.sweep.workload
        self._settings = {label(arm.params): arm.settings for arm in plan.arms}
        self._together = [[label(arm.params) for arm in each] for each in plan.arms_together]
        self._left = Counter(dict.fromkeys(self._settings, plan.sweep.max_seeds))
        self._left.update(label(each.arm.params) for each in plan.tuning)
        if plan.sweep.control_seeds:
            self._left[label(plan.control_arm.params)] += plan.sweep.max_seeds
        self._others = max(0, plan.size - self._left.total())
        self._times: dict[str, list[float]] = {}  # of each trial that runs: when it began and when its epochs ended
        self._trial_s: defaultdict[str, list[float]] = defaultdict(list)
        self._epoch_s: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_EPOCHS_KEPT))
        self._compiled: set[tuple[str, str]] = set()  # paces, and workers that ended an epoch of them
        self._cold_s: dict[str, tuple[str, float]] = {}  # by trial: its pace and that epoch, if it had one
        self._workers: dict[str, str] = {}

    def event(self, event: Event, arm: str, at: float) -> None:
        """Take in what happened to a trial of an arm. Others of the arm take about as long as one that has ended."""
        id_, times = event.trial.id, self._times.get(event.trial.id)
        match event:
            case Preparing(text=""):  # a sign that it runs
                pass
            case Started() | Preparing():  # the time before was preparation, which no later trial needs
                self._times[id_] = [at]
                if isinstance(event, Started):
                    self._workers[id_] = event.worker
            case Progress() if times:
                pace = self._workload.pace(event.trial.settings)
                cold = pace, self._workers.get(id_, "")
                if cold in self._compiled:
                    self._epoch_s[pace].append(at - times[-1])
                else:  # this epoch compiled, which no later one of its worker does
                    self._compiled.add(cold)
                    self._cold_s[id_] = pace, at - times[-1]
                times.append(at)
            case Retried() if times:
                del self._times[id_]
            case Finished():
                if times:
                    self._trial_s[arm].append(at - times[0] - self._compiling_s(id_))
                    del self._times[id_]
                self.recorded(arm)

    def recorded(self, arm: str) -> None:
        """A trial of the arm was done in an earlier run."""
        if self._left[arm]:
            self._left[arm] -= 1
        else:
            self._others = max(0, self._others - 1)

    def _compiling_s(self, id_: str) -> float:
        """How long a trial compiled, as far as it is known."""
        pace, first_s = self._cold_s.get(id_, ("", 0.0))
        return max(0.0, first_s - median(self._epoch_s[pace])) if self._epoch_s[pace] else 0.0

    def seconds(self, workers: int, at: float) -> float | None:
        """What so many workers need. None until each arm left has a trial or an epoch that did not compile."""
        costs = {arm: self._cost(arm, settings) for arm, settings in self._settings.items()}
        known = {arm: cost for arm, cost in costs.items() if cost is not None}
        if not known or any(self._left[arm] and arm not in known for arm in costs):
            return None
        work = sum(self._work(arms, known) for arms in self._together)
        spent = sum(at - began - self._compiling_s(id_) for id_, (began, *_) in self._times.items())
        return max(0.0, work + self._others * fmean(known.values()) - spent) / max(1, workers)

    def _work(self, arms: list[str], costs: dict[str, float]) -> float:
        """Seconds of the trainings of arms that share them: an arm needs its own beyond those of longer ones."""
        seconds, trained = 0.0, 0
        for arm in reversed(arms):
            seconds += max(0, self._left[arm] - trained) * costs.get(arm, 0.0)
            trained = max(trained, self._left[arm])
        return seconds

    def _cost(self, arm: str, settings: Params) -> float | None:
        if taken := self._trial_s[arm]:
            return fmean(taken)
        pace, planned = self._workload.pace(settings), epochs_of(self._workload, settings)
        if planned and self._epoch_s[pace]:
            return planned * median(self._epoch_s[pace])
        known = ((self._workload.pace(other), self._trial_s[arm]) for arm, other in self._settings.items())
        alike = [seconds for other_pace, taken in known if other_pace == pace for seconds in taken]
        return fmean(alike) if alike else None
