"""The live view of a running sweep, on stderr: a table on a terminal, plain lines elsewhere. It says the time left."""

import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from contextlib import AbstractContextManager
from html import escape
from statistics import fmean, median
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mnist_ablate.errors import mask
from mnist_ablate.execution.engine import RETRIES, Event, Finished, Preparing, Progress, Retried, Started
from mnist_ablate.ledger import progress
from mnist_ablate.reports.wording import number
from mnist_ablate.sweep.plan import Plan, PlannedTrial, label
from mnist_ablate.trial import Epoch, Outcome, Params, RecordedTrial
from mnist_ablate.workloads.workload import epochs_of

_PLAIN_EVERY_S = 10.0
_MOST_RUNNING_LINES = 20
_EPOCHS_KEPT = 200
_MESSAGES_KEPT = 20
_REDRAWN_EVERY_S = 0.5


class Watch(AbstractContextManager["Watch"]):
    """Shows a sweep to a person, as a `driver.View`. A context manager: the live table is up inside it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._scores: defaultdict[str, list[float]] = defaultdict(list)
        self._running: dict[str, tuple[str, str]] = {}  # by trial: its worker, and what is shown of it
        self._done = self._workers = self._size = 0
        self._printed = time.monotonic()

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def opened(self, plan: Plan, entries: Mapping[str, RecordedTrial]) -> None:
        """Show the plan, and what was recorded of it earlier. A trial that failed is not done: it is run again."""
        self._sweep, self._size, self._left = plan.sweep, plan.size, TimeLeft(plan)
        self._total = f"at most {plan.size}" if plan.sweep.looks else f"{plan.size}"
        ended = {id_: entry for id_, entry in entries.items() if entry.outcome.status not in {"failed", "lost"}}
        for entry in ended.values():
            self._count(label(entry.params), entry.stage, entry.outcome)
            self._left.recorded(label(entry.params))
        adaptive = bool(plan.sweep.looks and progress.verdict_trials(plan, ended))
        if self._done >= plan.size or (adaptive and not progress.due(plan, ended)):
            return
        if entries:
            self.message(f"resuming: {self._done} of {self._total} done")
        self._begin()

    def _begin(self) -> None:
        """Show that there is something to train."""
        if self._console.is_terminal:
            self._live = Live(console=self._console, get_renderable=self._table, transient=True)
            self._live.start()

    def event(self, planned: PlannedTrial, event: Event) -> None:
        """Take an event in, and print a line if a person must know of it."""
        trial, arm, now, plain_line = event.trial, label(planned.arm.params), time.monotonic(), ""
        tried = (f"{key}={value}" for key, value in trial.settings.items() if value != planned.arm.settings[key])
        name = f"{arm} tuning {' '.join(tried)}" if planned.stage == "tuning" else f"{arm} seed {trial.seed}"
        name = f"negative control: {name}" if planned.stage == "control" else name
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
                plain_line = event.text
            case Progress() if trial.id in self._running:
                epochs = epochs_of(self._sweep.workload, trial.settings)
                place = f"epoch {event.epoch.number} of {epochs}" if epochs else f"report {event.epoch.number}"
                line = f"{name}: {place}{self._metric_text(event.epoch)}"
                self._running[trial.id] = self._running[trial.id][0], line
            case Retried():
                self._running.pop(trial.id, None)
                self.message(f"trial {name} lost ({event.reason}) - retrying {event.attempt}/{RETRIES}")
            case Finished():
                self._running.pop(trial.id, None)
                self._count(arm, planned.stage, event.outcome)
                if event.outcome.status == "diverged":
                    self.message(f"trial {name} diverged at epoch {len(event.outcome.epochs) + 1}")
                elif event.outcome.status != "complete":
                    self.message(f"trial {name} {event.outcome.status}: {event.outcome.reason}")
        self._refresh(now, plain_line)

    def _refresh(self, now: float, line: str) -> None:
        """Where there is no live table, print a line from time to time."""
        if not self._console.is_terminal and now - self._printed >= _PLAIN_EVERY_S:
            self._printed = now
            self.message(line or self._status())

    def message(self, text: str) -> None:
        """Print a line of its own, above the live table."""
        self._console.print(Text(mask(text)), highlight=False, soft_wrap=True)

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

    def _status(self) -> str:
        time_left, seconds = "time left: measuring", self._left.seconds(self._workers, time.monotonic())
        if seconds is not None:
            time_left = f"{seconds / 60:.1f} min left" if seconds > 90 else f"{seconds:.0f} s left"  # noqa: PLR2004 - seconds read well so far
        return f"{self._done} of {self._total} trials, {len(self._running)} running, {time_left}"

    def _table(self) -> RenderableType:
        """Arms, running trials and the status, as many as the terminal has lines for. The status is never cut off."""
        running = [Text(f"  {line}", style="dim") for _, line in list(self._running.values())[:_MOST_RUNNING_LINES]]
        room = max(1, self._console.height - len(running) - 4)  # other lines
        arms, metric = list(self._scores.items()), self._sweep.workload.main_metric
        table = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("arm", "n", f"{metric} so far"):
            table.add_column(column, justify="left" if column == "arm" else "right", no_wrap=True)
        for arm, scores in arms[:room]:
            table.add_row(arm, str(len(scores)), number(fmean(scores), self._sweep.metric(metric).unit))
        more = [Text(f"and {len(arms) - room} more arms")] if len(arms) > room else []
        status = Table.grid(padding=(0, 2, 0, 0))
        status.add_row(ProgressBar(total=self._size, completed=self._done, width=30), self._status())
        return Group(*([table] if arms else []), *more, *running, status)


class NotebookWatch(Watch):
    """The same below a notebook's cell: a progress bar, the arms so far, what runs now, and the latest messages."""

    def __init__(self) -> None:
        super().__init__(Console(quiet=True))
        self._messages: deque[str] = deque(maxlen=_MESSAGES_KEPT)
        self._display: Any = None
        self._drawing = threading.Lock()

    def __exit__(self, *_: object) -> None:
        self._running.clear()
        self._draw()

    def message(self, text: str) -> None:
        """Add a line below the progress bar."""
        self._messages.append(mask(text))
        self._draw()

    def _begin(self) -> None:
        self._draw()

    def _refresh(self, now: float, line: str) -> None:  # noqa: ARG002 - as above
        if now - self._printed >= _REDRAWN_EVERY_S:
            self._printed = now
            self._draw()

    def _draw(self) -> None:
        """Replace what the cell shows. Messages may come from any thread."""
        from IPython.display import display

        shown = {"text/html": self._html(), "text/plain": self._status() if self._size else ""}
        with self._drawing:
            if self._display is None:
                self._display = display(shown, raw=True, display_id=True)
            else:
                self._display.update(shown, raw=True)

    def _html(self) -> str:
        metric, arms = self._sweep.workload.main_metric if self._size else "", list(self._scores.items())
        means = [(arm, len(scores), number(fmean(scores), self._sweep.metric(metric).unit)) for arm, scores in arms]
        rows = "".join(f"<tr><td>{escape(arm)}</td><td>{n}</td><td>{mean}</td></tr>" for arm, n, mean in means[:50])
        head = f"<tr><th>arm</th><th>n</th><th>{escape(metric)} so far</th></tr>"
        bar = f'<progress value="{self._done}" max="{self._size}" style="width: 20em"></progress> '
        running = [line for _, line in list(self._running.values())[:_MOST_RUNNING_LINES]]
        return (
            (f"<div>{bar}{escape(self._status())}</div>" if self._size else "")
            + (f"<table>{head}{rows}</table>" if rows else "")
            + "".join(f'<div style="opacity: 0.6">{escape(line)}</div>' for line in running)
            + "".join(f"<div>{escape(line)}</div>" for line in [*self._messages])
        )


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
