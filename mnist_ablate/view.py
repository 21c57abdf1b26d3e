"""The live view of a running sweep: a table on a terminal, plain lines elsewhere; on stderr, never stdout."""

import time
from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mnist_ablate.engine import RETRIES, Event, Finished, Progress, Retried, Started
from mnist_ablate.ledger import METRIC, Entry
from mnist_ablate.plan import Plan, label
from mnist_ablate.report import number
from mnist_ablate.trial import Outcome

_PLAIN_EVERY_S = 10.0
_REFRESH_PER_S = 4
_MANY = 40


class Watch:
    """What a person can see of a sweep; `driver.View`. A context manager: the live table is up inside it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._plan: Plan | None = None
        self._names: dict[str, str] = {}
        self._arms: dict[str, str] = {}
        self._scores: defaultdict[str, list[float]] = defaultdict(list)
        self._running: dict[str, str] = {}
        self._done = self._done_before = 0
        self._began = self._printed = time.monotonic()

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def opened(self, plan: Plan, entries: Mapping[str, Entry]) -> None:
        """Show what was recorded earlier, and the plan."""
        self._plan = plan
        for planned in (*plan.tuning, *plan.verdict_trials()):
            self._name(planned.trial.id, label(planned.arm.params), planned.trial.seed)
        for entry in entries.values():
            self._name(entry.trial.id, label(entry.params), entry.trial.seed)
            self._count(entry.trial.id, entry.outcome)
        self._done_before = self._done
        if self._done >= plan.size:
            return
        if self._done:
            self.message(f"resuming: {self._done} of {plan.size} done")
        if self._console.is_terminal:
            self._live = Live(
                console=self._console, refresh_per_second=_REFRESH_PER_S, get_renderable=self._table, transient=True
            )
            self._live.start()

    def event(self, event: Event) -> None:
        """Take an event in; say what a person must know."""
        trial = event.trial
        name = self._names.get(trial.id, f"{label(trial.recipe.model_dump())} seed {trial.seed}")
        if isinstance(event, Started):
            self._running[trial.id] = f"{name}: starting"
        elif isinstance(event, Progress):
            accuracy = number(METRIC, event.epoch.val_accuracy)
            self._running[trial.id] = f"{name}: epoch {event.epoch.number} of {trial.recipe.epochs}, {accuracy} valid"
        elif isinstance(event, Retried):
            self._running.pop(trial.id, None)
            self.message(f"trial {name} lost ({event.reason}) - retrying {event.attempt}/{RETRIES}")
        elif isinstance(event, Finished):
            self._running.pop(trial.id, None)
            self._count(trial.id, event.outcome)
            if event.outcome.status != "complete":
                self.message(f"trial {name} {event.outcome.status}: {event.outcome.reason}")
        self._plain_line()

    def message(self, text: str) -> None:
        """A line of its own, above the live table."""
        self._console.print(Text(text), highlight=False, soft_wrap=True)

    def _name(self, trial_id: str, arm: str, seed: int) -> None:
        self._arms[trial_id], self._names[trial_id] = arm, f"{arm} seed {seed}"

    def _count(self, trial_id: str, outcome: Outcome) -> None:
        self._done += 1
        if METRIC in outcome.metrics:
            self._scores[self._arms.get(trial_id, "tuned")].append(outcome.metrics[METRIC])

    def _plain_line(self) -> None:
        if self._console.is_terminal or time.monotonic() - self._printed < _PLAIN_EVERY_S:
            return
        self._printed = time.monotonic()
        self.message(self._status())

    def _status(self) -> str:
        size = self._plan.size if self._plan else 0
        return f"{self._done} of {size} trials, {len(self._running)} running, {self._time_left(size)}"

    def _time_left(self, size: int) -> str:
        trained = self._done - self._done_before
        if not trained:
            return "time left: measuring"
        left_s = (size - self._done) * (time.monotonic() - self._began) / trained
        return f"{left_s / 60:.1f} min left" if left_s > 90 else f"{left_s:.0f} s left"  # noqa: PLR2004 - seconds read well so far

    def _table(self) -> RenderableType:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("arm", "n", f"{METRIC} so far"):
            table.add_column(column, justify="left" if column == "arm" else "right")
        for arm, scores in list(self._scores.items())[:_MANY]:
            table.add_row(arm, str(len(scores)), number(METRIC, fmean(scores)))
        size = self._plan.size if self._plan else 1
        running = [Text(f"  {line}", style="dim") for line in list(self._running.values())[:_MANY]]
        return Group(table, *running, ProgressBar(total=size, completed=self._done, width=60), Text(self._status()))
