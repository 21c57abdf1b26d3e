"""The live view of a running sweep, on stderr: a table on a terminal, plain lines elsewhere. It says the time left."""

import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager
from html import escape
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mnist_ablate.errors import mask
from mnist_ablate.execution.events import Event, Preparing
from mnist_ablate.execution.live_progress import LiveProgress, Snapshot
from mnist_ablate.statistics.claim_verdict import ClaimVerdict
from mnist_ablate.sweep.plan import Plan, PlannedTrial
from mnist_ablate.trial import RecordedTrial

_PLAIN_EVERY_S = 10.0
_MESSAGES_KEPT = 20
_REDRAWN_EVERY_S = 0.5
_MOST_ROWS = 50


class Watch(AbstractContextManager["Watch"]):
    """Shows a sweep to a person, as a `driver.View`, or by snapshots that come from elsewhere.

    A context manager: the live table is up inside it.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._progress: LiveProgress | None = None
        self._latest = Snapshot()
        self._printed = time.monotonic()

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def snapshot(self) -> Snapshot:
        """What there is to show now."""
        return self._latest if self._progress is None else self._progress.snapshot()

    def opened(self, plan: Plan, entries: Mapping[str, RecordedTrial]) -> None:
        """Show the plan, and what was recorded of it earlier."""
        self._progress = LiveProgress(plan, entries)
        if self._progress.resumes:
            self.message(self._progress.resumes)
        if not self._progress.is_finished:
            self._begin()

    def show(self, snapshot: Snapshot) -> None:
        """Show what came from elsewhere."""
        begins, self._latest = not self._latest.size, snapshot
        if begins:
            self._begin()
        self._refresh(time.monotonic(), "")

    def _begin(self) -> None:
        """Show that there is something to train."""
        if self._console.is_terminal and self._live is None:
            self._live = Live(console=self._console, get_renderable=self._table, transient=True)
            self._live.start()

    def event(self, planned: PlannedTrial, event: Event) -> None:
        """Take an event in, and print a line if a person must know of it."""
        assert self._progress is not None  # it was opened
        now = time.monotonic()
        if line := self._progress.event(planned, event):
            self.message(line)
        self._refresh(now, event.text if isinstance(event, Preparing) else "")

    def verdict(self, found: ClaimVerdict) -> None:
        """Tell a verdict that stands."""
        assert self._progress is not None  # it was opened
        self.message(self._progress.verdict(found))

    def _refresh(self, now: float, line: str) -> None:
        """Where there is no live table, print a line from time to time."""
        if not self._console.is_terminal and now - self._printed >= _PLAIN_EVERY_S:
            self._printed = now
            self.message(line or self.snapshot.status)

    def message(self, text: str) -> None:
        """Print a line of its own, above the live table."""
        self._console.print(Text(mask(text)), highlight=False, soft_wrap=True)

    def _table(self) -> RenderableType:
        """Arms, running trials and the status, as many as the terminal has lines for. The status is never cut off."""
        shown = self.snapshot
        running = [Text(f"  {line}", style="dim") for line in shown.running]
        room = max(1, self._console.height - len(running) - 4)  # other lines
        table = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("arm", "n", f"{shown.metric} so far"):
            table.add_column(column, justify="left" if column == "arm" else "right", no_wrap=True)
        for arm in shown.arms[:room]:
            table.add_row(arm.name, str(arm.n), arm.mean)
        more = [Text(f"and {shown.n_arms - room} more arms")] if shown.n_arms > room else []
        status = Table.grid(padding=(0, 2, 0, 0))
        status.add_row(ProgressBar(total=shown.size, completed=shown.done, width=30), shown.status)
        return Group(*([table] if shown.arms else []), *more, *running, status)


class NotebookWatch(Watch):
    """The same below a notebook's cell: a progress bar, the arms so far, what runs now, and the latest messages."""

    def __init__(self) -> None:
        super().__init__(Console(quiet=True))
        self._messages: deque[str] = deque(maxlen=_MESSAGES_KEPT)
        self._display: Any = None
        self._drawing = threading.RLock()  # a signal can interrupt a drawing, and its message draw again

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.end()
        self._latest = self._latest.model_copy(update={"running": ()})
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

        snapshot = self.snapshot
        shown = {"text/html": self._html(snapshot), "text/plain": snapshot.status}
        with self._drawing:
            if self._display is None:
                self._display = display(shown, raw=True, display_id=True)
            else:
                self._display.update(shown, raw=True)

    def _html(self, shown: Snapshot) -> str:
        arms = ((escape(arm.name), arm.n, arm.mean) for arm in shown.arms[:_MOST_ROWS])
        rows = "".join(f"<tr><td>{arm}</td><td>{n}</td><td>{mean}</td></tr>" for arm, n, mean in arms)
        head = f"<tr><th>arm</th><th>n</th><th>{escape(shown.metric)} so far</th></tr>"
        bar = f'<progress value="{shown.done}" max="{shown.size}" style="width: 20em"></progress> '
        return (
            (f"<div>{bar}{escape(shown.status)}</div>" if shown.size else "")
            + (f"<table>{head}{rows}</table>" if rows else "")
            + "".join(f'<div style="opacity: 0.6">{escape(line)}</div>' for line in shown.running)
            + "".join(f"<div>{escape(line)}</div>" for line in [*self._messages])
        )


def watch_here(*, progress: bool) -> Watch:
    """What shows progress to who calls from Python: below the cell of a notebook, else on stderr, or nothing."""
    console = Console(stderr=True, quiet=not progress)
    return NotebookWatch() if progress and console.is_jupyter else Watch(console)
