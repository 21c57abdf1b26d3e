"""How long a plan still takes, by what its arms took so far. Reads no clock and shows nothing."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from heapq import heapify, heapreplace
from statistics import fmean, median, median_low

from mnist_ablate.execution.events import Event, Finished, Preparing, Progress, Retried, Started
from mnist_ablate.sweep.plan import Plan, label
from mnist_ablate.trial import Params
from mnist_ablate.workloads.workload import epochs_of

_EPOCHS_KEPT = 200
_OF_FIRST = 0.25  # what compiling another arm of a pace costs, beside the first of it, before many were seen


@dataclass
class _Training:
    """`times`: when it began, and when its epochs ended. If it `is_cold`, its first epoch may have compiled.

    It `is_first` if its worker had none of its pace before.
    """

    arm: str
    pace: str
    worker: str
    times: list[float]
    is_cold: bool = False
    is_first: bool = False


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
        self._running: dict[str, _Training] = {}
        self._trial_s: defaultdict[str, list[float]] = defaultdict(list)  # by arm, of trials that were not cold
        self._cold_s: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)  # of others, and first epochs
        self._epoch_s: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_EPOCHS_KEPT))  # by pace
        self._cold_epoch_s: defaultdict[tuple[str, bool], list[float]] = defaultdict(list)
        """Of cold epochs, by pace, and whether it was the first of the pace for its worker."""
        self._of_arm: defaultdict[str, set[str]] = defaultdict(set)  # by arm, workers that ended an epoch of it
        self._of_pace: defaultdict[str, set[str]] = defaultdict(set)

    def event(self, event: Event, arm: str, at: float) -> None:
        """Take in what happened to a trial of an arm. Others of the arm take about as long as one that has ended."""
        id_, training = event.trial.id, self._running.get(event.trial.id)
        match event:
            case Preparing(text=""):  # a sign that it runs
                pass
            case Started():
                self._running[id_] = _Training(arm, self._workload.pace(event.trial.settings), event.worker, [at])
            case Preparing() if training:  # the time before was preparation, which no later trial needs
                training.times = [at]
            case Progress() if training:
                epoch_s = at - training.times[-1]
                is_cold = len(training.times) == 1 and self._is_cold(training, event.trial.settings)
                if is_cold:
                    self._cold_epoch_s[training.pace, training.is_first].append(epoch_s)
                elif not any(map(self._may_compile, self._running.values())):
                    self._epoch_s[training.pace].append(epoch_s)
                training.times.append(at)
                training.is_cold |= is_cold
            case Retried():
                self._running.pop(id_, None)
            case Finished():
                if self._running.pop(id_, None) and training:
                    self._ended(training, at)
                self.recorded(arm)

    def _is_cold(self, training: _Training, settings: Params) -> bool:
        """Whether this may compile: its worker has had none of the arm, and a later one will tell what is usual.

        Where no trial has a second epoch, whether its worker has had none of the pace.
        """
        several = (epochs_of(self._workload, settings) or 1) > 1
        training.is_first = training.worker not in self._of_pace[training.pace]
        is_cold = training.worker not in self._of_arm[training.arm] if several else training.is_first
        self._of_arm[training.arm].add(training.worker)
        self._of_pace[training.pace].add(training.worker)
        return is_cold

    def _may_compile(self, training: _Training) -> bool:
        """Whether this is in the first epoch that its worker has of the pace: epochs beside it take longer."""
        return len(training.times) == 1 and training.worker not in self._of_pace[training.pace]

    def _ended(self, training: _Training, at: float) -> None:
        began, *epochs = training.times
        if training.is_cold:
            self._cold_s[training.arm].append((at - began, epochs[0] - began))
        else:
            self._trial_s[training.arm].append(at - began)

    def recorded(self, arm: str) -> None:
        """A trial of the arm was done in an earlier run."""
        if self._left[arm]:
            self._left[arm] -= 1
        else:
            self._others = max(0, self._others - 1)

    def seconds(self, workers: int, at: float) -> float | None:
        """What so many workers need. None until each arm left has a trial or an epoch that did not compile."""
        costs = {arm: self._cost(arm, settings) for arm, settings in self._settings.items()}
        known = {arm: cost for arm, cost in costs.items() if cost is not None}
        if not known or any(self._left[arm] and arm not in known for arm in costs):
            return None
        busy = [max(0.0, self._expected_s(each, known) - (at - each.times[0])) for each in self._running.values()]
        free_after = [*busy, *[0.0] * (max(1, workers) - len(busy))]
        heapify(free_after)
        for trial_s in self._waiting(known, workers):
            heapreplace(free_after, free_after[0] + trial_s)
        return max(free_after)

    def _waiting(self, costs: Mapping[str, float], workers: int) -> Iterator[float]:
        """The seconds of each training that is still to begin, arms taking turns."""
        waiting = Counter(self._trainings_left())
        waiting.subtract(each.arm for each in self._running.values())
        paces = {arm: self._workload.pace(self._settings[arm]) for arm in waiting}
        first = {pace: max(0, workers - len(self._of_pace[pace])) for pace in paces.values()}
        for turn in range(max(waiting.values(), default=0)):
            for arm in (arm for arm, count in waiting.items() if turn < count):
                pace, compiling_s = paces[arm], 0.0
                if turn < workers - len(self._of_arm[arm]):
                    compiling_s = self._compiling_s(pace, is_first=first[pace] > 0)
                    first[pace] -= 1
                yield costs[arm] + compiling_s
        running_of_others = sum(max(0, -count) for count in waiting.values())
        yield from [fmean(costs.values())] * (self._others - running_of_others)

    def _trainings_left(self) -> dict[str, int]:
        """By arm. Of arms that share trainings, one needs its own beyond those of longer ones."""
        found: dict[str, int] = {}
        for arms in self._together:
            trained = 0
            for arm in reversed(arms):
                found[arm] = max(0, self._left[arm] - trained)
                trained = max(trained, self._left[arm])
        return found

    def _expected_s(self, training: _Training, costs: Mapping[str, float]) -> float:
        """How long a training takes from its begin to its end."""
        seconds = costs.get(training.arm) or fmean(costs.values())
        pace = training.pace
        if training.is_cold:
            began, ended, *_ = training.times
            return seconds + max(0.0, ended - began - self._usual_s(pace))
        if len(training.times) > 1 or training.worker in self._of_arm[training.arm]:
            return seconds
        return seconds + self._compiling_s(pace, is_first=training.worker not in self._of_pace[pace])

    def _compiling_s(self, pace: str, *, is_first: bool) -> float:
        """How much longer a first epoch is than others, on a worker that has had none of the arm, or of the pace."""
        usual_s = self._usual_s(pace)
        cold = [max(0.0, each - usual_s) for each in self._cold_epoch_s[pace, is_first]]
        if not is_first:
            cold.append(_OF_FIRST * self._compiling_s(pace, is_first=True))
        return fmean(cold) if cold else 0.0

    def _usual_s(self, pace: str) -> float:
        """Of an epoch that did not compile; 0 if there was none."""
        return median(self._epoch_s[pace] or [0.0])

    def _cost(self, arm: str, settings: Params) -> float | None:
        """Seconds of a trial that compiles nothing, as far as it is known."""
        if taken := self._trial_s[arm]:
            return median_low(taken)  # any trial may compile for a batch with more active pixels than others
        pace, planned = self._workload.pace(settings), epochs_of(self._workload, settings)
        if epoch_s := self._usual_s(pace):
            if cold := self._cold_s[arm]:
                return fmean(seconds - max(0.0, first_s - epoch_s) for seconds, first_s in cold)
            if planned:
                return planned * epoch_s
        known = ((self._workload.pace(other), self._trial_s[name]) for name, other in self._settings.items())
        alike = [seconds for other_pace, taken in known if other_pace == pace for seconds in taken]
        return fmean(alike) if alike else None
