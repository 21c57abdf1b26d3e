"""The live view of a running sweep: a table on a terminal, plain lines elsewhere; on stderr, never stdout."""

import time
from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mnist_ablate.execution.engine import RETRIES, Event, Finished, Preparing, Progress, Retried, Started
from mnist_ablate.execution.time_left import TimeLeft
from mnist_ablate.ledger import progress
from mnist_ablate.masking import mask
from mnist_ablate.reports.wording import number
from mnist_ablate.sweep.plan import Plan, Planned, label
from mnist_ablate.trial import Outcome, RecordedTrial
from mnist_ablate.workloads.workload import default_workload, epochs_of

_PLAIN_EVERY_S = 10.0
_REFRESH_PER_S = 4
_MANY = 20
_OTHER_LINES = 4
_BAR = 30


class Watch:
    """What a person can see of a sweep; `driver.View`. A context manager: the live table is up inside it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._size = 0
        self._most = ""  # said of the size of an adaptive sweep
        self._scores: defaultdict[str, list[float]] = defaultdict(list)
        self._running: dict[str, tuple[str, str]] = {}
        self._done = self._workers = 0
        self._left = TimeLeft()
        self._printed = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def opened(self, plan: Plan, entries: Mapping[str, RecordedTrial]) -> None:
        """Show the plan, and what was recorded of it earlier; a trial that failed is run again, and not done."""
        self._size, self._most = plan.size, "at most " if plan.sweep.looks else ""
        self._left.opened(plan)
        for entry in entries.values():
            if entry.outcome.status in {"complete", "diverged", "pruned"}:
                self._count(label(entry.params), entry.stage, entry.outcome)
                self._left.recorded(label(entry.params))
        if self._done >= plan.size or _is_decided(plan, entries):
            return
        if entries:
            self.message(f"resuming: {self._done} of {self._most}{plan.size} done")
        if self._console.is_terminal:
            self._live = Live(
                console=self._console, refresh_per_second=_REFRESH_PER_S, get_renderable=self._table, transient=True
            )
            self._live.start()

    def event(self, planned: Planned, event: Event) -> None:
        """Take an event in; say what a person must know."""
        trial, arm = event.trial, label(planned.arm.params)
        name = f"{arm} tuning {_tuned(planned)}" if planned.stage == "tuning" else f"{arm} seed {trial.seed}"
        name = f"negative control: {name}" if planned.stage == "control" else name
        now = time.monotonic()
        if isinstance(event, Started):
            self._left.started(trial, now)
            self._start(trial.id, event.worker, f"{name}: starting")
        elif isinstance(event, Preparing) and trial.id in self._running:
            self._left.started(trial, now)
            self._prepare(trial.id, name, event.text)
        elif isinstance(event, Progress) and trial.id in self._running:
            self._left.progressed(trial, now)
            score = default_workload().selection_metric
            shown = f"{number(score, event.epoch.metrics[score])} {score.replace('_', ' ')}"
            worker, _ = self._running[trial.id]
            line = f"{name}: epoch {event.epoch.number} of {epochs_of(trial)}, {shown}"
            self._running[trial.id] = worker, line
        elif isinstance(event, Retried):
            self._left.lost(trial)
            self._running.pop(trial.id, None)
            self.message(f"trial {name} lost ({event.reason}) - retrying {event.attempt}/{RETRIES}")
        elif isinstance(event, Finished):
            self._left.ended(trial, arm, now)
            self._running.pop(trial.id, None)
            self._count(arm, planned.stage, event.outcome)
            if event.outcome.status != "complete":
                self.message(f"trial {name} {_end(event.outcome)}")
        self._plain_line()

    def message(self, text: str) -> None:
        """A line of its own, above the live table."""
        self._console.print(Text(mask(text)), highlight=False, soft_wrap=True)

    def _prepare(self, trial_id: str, name: str, text: str) -> None:
        self._running[trial_id] = self._running[trial_id][0], f"{name}: {text}"
        self._plain_line(text)

    def _start(self, trial_id: str, worker: str, line: str) -> None:
        """A worker trains one trial at a time: what it did before has ended, even if that is not yet known."""
        self._running = {other: shown for other, shown in self._running.items() if shown[0] != worker}
        self._running[trial_id] = worker, line
        self._workers = max(self._workers, len(self._running))

    def _count(self, arm: str, stage: str, outcome: Outcome) -> None:
        self._done += 1
        if stage == "verdict" and default_workload().main_metric in outcome.metrics:
            self._scores[arm].append(outcome.metrics[default_workload().main_metric])

    def _plain_line(self, text: str = "") -> None:
        if self._console.is_terminal or time.monotonic() - self._printed < _PLAIN_EVERY_S:
            return
        self._printed = time.monotonic()
        self.message(text or self._status())

    def _status(self) -> str:
        return f"{self._done} of {self._most}{self._size} trials, {len(self._running)} running, {self._time_left()}"

    def _time_left(self) -> str:
        found = self._left.seconds(self._workers, time.monotonic())
        if not found:
            return "time left: measuring"
        left_s, is_all = found
        text = f"{left_s / 60:.1f} min left" if left_s > 90 else f"{left_s:.0f} s left"  # noqa: PLR2004 - seconds read well so far
        return text if is_all else f"over {text}"

    def _table(self) -> RenderableType:
        """Arms, running trials and the status, as many as the terminal has lines for: the status is never cut off."""
        running = [Text(f"  {line}", style="dim") for _, line in list(self._running.values())[:_MANY]]
        room = max(1, self._console.height - len(running) - _OTHER_LINES)
        arms = list(self._scores.items())
        table = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("arm", "n", f"{default_workload().main_metric} so far"):
            table.add_column(column, justify="left" if column == "arm" else "right", no_wrap=True)
        for arm, scores in arms[:room]:
            table.add_row(arm, str(len(scores)), number(default_workload().main_metric, fmean(scores)))
        more = [Text(f"and {len(arms) - room} more arms")] if len(arms) > room else []
        status = Table.grid(padding=(0, 2, 0, 0))
        status.add_row(ProgressBar(total=self._size, completed=self._done, width=_BAR), self._status())
        return Group(*([table] if arms else []), *more, *running, status)


def _is_decided(plan: Plan, entries: Mapping[str, RecordedTrial]) -> bool:
    """Whether an adaptive sweep needs no further seed."""
    ended = {trial_id: entry for trial_id, entry in entries.items() if entry.outcome.status not in {"failed", "lost"}}
    wanted = progress.verdict_trials(plan, ended) if plan.sweep.looks else ()
    return bool(wanted) and not progress.due(plan, ended)


def _tuned(planned: Planned) -> str:
    """The nuisance values that a tuning trial tries: where its recipe is not its arm's."""
    arm, tried = planned.arm.settings, planned.trial.settings
    return " ".join(f"{name}={value}" for name, value in tried.items() if value != arm[name])


def _end(outcome: Outcome) -> str:
    """How a trial ended that did not complete."""
    if outcome.status == "diverged":
        return f"diverged at epoch {len(outcome.epochs) + 1}"
    return f"{outcome.status}: {outcome.reason}"
