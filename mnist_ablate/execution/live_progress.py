"""How far a running sweep is: its state by the driver's events, and a snapshot of it to show. Prints nothing."""

import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean

from pydantic import BaseModel, ConfigDict

from mnist_ablate.execution.events import RETRIES, Event, Finished, Preparing, Progress, Retried, Started
from mnist_ablate.execution.time_left import TimeLeft
from mnist_ablate.ledger import progress
from mnist_ablate.reports.wording import estimate, number
from mnist_ablate.statistics.claim_verdict import ClaimVerdict
from mnist_ablate.sweep.plan import Plan, PlannedTrial, label
from mnist_ablate.trial import Epoch, Outcome, RecordedTrial
from mnist_ablate.workloads.workload import epochs_of

MOST_RUNNING = 20
MOST_ARMS = 200
_PATIENCE_S = 1.0  # with an event that is being taken in, which takes no time unless a signal interrupts it


class ArmSoFar(BaseModel):
    """An arm with trials: how many ended with a result, and the mean of the main metric as text with its unit."""

    model_config = ConfigDict(frozen=True)

    name: str
    n: int
    mean: str


class ClaimSoFar(BaseModel):
    """A claim, and its verdict if it stands already, as in an adaptive sweep; empty until then."""

    model_config = ConfigDict(frozen=True)

    name: str
    statement: str
    verdict: str = ""


class Snapshot(BaseModel):
    """What there is to show of a sweep at one moment. `model_dump_json` and `model_validate_json` send it elsewhere.

    At most 200 `arms` of `n_arms`, and 20 lines of `running` trials. `size` is the number of trials, or the largest
    possible; `total` says which. `status` says in words how far it is. `seconds_left` is None until it is known.
    """

    model_config = ConfigDict(frozen=True)

    question: str = ""
    metric: str = ""
    arms: tuple[ArmSoFar, ...] = ()
    n_arms: int = 0
    running: tuple[str, ...] = ()
    done: int = 0
    size: int = 0
    total: str = ""
    seconds_left: float | None = None
    status: str = ""
    claims: tuple[ClaimSoFar, ...] = ()


class LiveProgress:
    """The state of a running sweep, for a `driver.View`. A trial that failed earlier is not done: it is run again.

    Safe to use from several threads: one may show what another takes in.

    `is_finished` says that nothing was left to train when it was opened. `resumes` is the line about what was
    recorded earlier; empty if nothing was.
    """

    def __init__(self, plan: Plan, entries: Mapping[str, RecordedTrial]) -> None:
        self._sweep, self._size, self._left = plan.sweep, plan.size, TimeLeft(plan)
        self._total = f"at most {plan.size}" if plan.sweep.looks else f"{plan.size}"
        self._scores: defaultdict[str, list[float]] = defaultdict(list)
        self._running: dict[str, tuple[str, str]] = {}  # by trial: its worker, and what is shown of it
        self._verdicts: dict[str, str] = {}
        self._done = self._workers = 0
        self._changing = threading.RLock()  # a signal can interrupt an event, and its message show the state
        ended = {id_: entry for id_, entry in entries.items() if entry.outcome.status not in {"failed", "lost"}}
        for entry in ended.values():
            self._count(label(entry.params), entry.stage, entry.outcome)
            self._left.recorded(label(entry.params))
        adaptive = bool(plan.sweep.looks and progress.verdict_trials(plan, ended))
        self.is_finished = self._done >= plan.size or (adaptive and not progress.due(plan, ended))
        self.resumes = f"resuming: {self._done} of {self._total} done" if entries and not self.is_finished else ""
        self._latest = self._snapshot()

    def event(self, planned: PlannedTrial, event: Event) -> str:
        """Take in what happened to a trial. The line to print if a person must know of it, else empty."""
        trial, arm, now = event.trial, label(planned.arm.params), time.monotonic()
        tried = (f"{key}={value}" for key, value in trial.settings.items() if value != planned.arm.settings[key])
        name = f"{arm} tuning {' '.join(tried)}" if planned.stage == "tuning" else f"{arm} seed {trial.seed}"
        name = f"negative control: {name}" if planned.stage == "control" else name
        with self._changing:
            return self._taken_in(event, planned.stage, arm, name, now)

    def _taken_in(self, event: Event, stage: str, arm: str, name: str, now: float) -> str:
        trial = event.trial
        if trial.id in self._running or isinstance(event, Started | Retried | Finished):
            self._left.event(event, arm, now)
        match event:
            case Started():
                # A worker trains one trial at a time: the one before has ended, even if that is not yet known.
                self._running = {other: shown for other, shown in self._running.items() if shown[0] != event.worker}
                self._running[trial.id] = event.worker, f"{name}: starting"
                self._workers = max(self._workers, len(self._running))
            case Preparing() if trial.id in self._running:
                self._running[trial.id] = self._running[trial.id][0], f"{name}: {event.text or 'running'}"
            case Progress() if trial.id in self._running:
                epochs = epochs_of(self._sweep.workload, trial.settings)
                place = f"epoch {event.epoch.number} of {epochs}" if epochs else f"report {event.epoch.number}"
                line = f"{name}: {place}{self._metric_text(event.epoch)}"
                self._running[trial.id] = self._running[trial.id][0], line
            case Retried():
                self._running.pop(trial.id, None)
                return f"trial {name} lost ({event.reason}) - retrying {event.attempt}/{RETRIES}"
            case Finished():
                self._running.pop(trial.id, None)
                self._count(arm, stage, event.outcome)
                if event.outcome.status == "diverged":
                    return f"trial {name} diverged at epoch {len(event.outcome.epochs) + 1}"
                if event.outcome.status != "complete":
                    return f"trial {name} {event.outcome.status}: {event.outcome.reason}"
        return ""

    def verdict(self, found: ClaimVerdict) -> str:
        """Take in the verdict on a claim of an adaptive sweep. The line to print."""
        with self._changing:
            self._verdicts[found.name] = found.verdict
        return verdict_line(found)

    def end(self) -> None:
        """Nothing runs any more."""
        with self._changing:
            self._running.clear()

    def snapshot(self) -> Snapshot:
        """What there is to show now, or was at last if a signal keeps another thread in the middle of an event."""
        if self._changing.acquire(timeout=_PATIENCE_S):
            try:
                self._latest = self._snapshot()
            finally:
                self._changing.release()
        return self._latest

    def _snapshot(self) -> Snapshot:
        sweep, scores, running = self._sweep, [*self._scores.items()][:MOST_ARMS], [*self._running.values()]
        metric = sweep.workload.main_metric
        unit = sweep.metric(metric).unit if scores else ""
        seconds = self._left.seconds(self._workers, time.monotonic())
        return Snapshot(
            question=sweep.question,
            metric=metric,
            arms=tuple(ArmSoFar(name=arm, n=len(own), mean=number(fmean(own), unit)) for arm, own in scores),
            n_arms=len(self._scores),
            running=tuple(line for _, line in running[:MOST_RUNNING]),
            done=self._done,
            size=self._size,
            total=self._total,
            seconds_left=seconds,
            status=f"{self._done} of {self._total} trials, {len(running)} running, {self._time_left(seconds)}",
            claims=tuple(
                ClaimSoFar(name=each.name, statement=each.statement, verdict=self._verdicts.get(each.name, ""))
                for each in sweep.every_claim
            ),
        )

    def _time_left(self, seconds: float | None) -> str:
        """Of an adaptive sweep it is what all seeds of every arm would take."""
        text = time_left_text(seconds)
        return f"at most {text}" if self._sweep.looks and seconds is not None else text

    def _metric_text(self, epoch: Epoch) -> str:
        """What values are chosen by; of own code that does not report it, the first metric."""
        score = self._sweep.workload.selection_metric
        metric = score if score in epoch.metrics else next(iter(epoch.metrics), "")
        if not metric:
            return ""
        return f", {number(epoch.metrics[metric], self._sweep.metric(metric).unit)} {metric.replace('_', ' ')}"

    def _count(self, arm: str, stage: str, outcome: Outcome) -> None:
        self._done += 1
        metric = self._sweep.workload.main_metric
        if stage == "verdict" and metric in outcome.metrics:
            self._scores[arm].append(outcome.metrics[metric])


def verdict_line(found: ClaimVerdict) -> str:
    """What a person reads of a claim that is decided before all trials have ended."""
    return f"{found.name}: {found.verdict} after {found.n_pairs} seeds, {estimate(found)}"


def time_left_text(seconds: float | None) -> str:
    """`1.8 min left`, `50 s left`, or that it is being measured."""
    if seconds is None:
        return "time left: measuring"
    return f"{seconds / 60:.1f} min left" if seconds > 90 else f"{seconds:.0f} s left"  # noqa: PLR2004 - seconds read well so far
