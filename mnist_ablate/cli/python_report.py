"""A report as notebooks and scripts have it: DataFrames, a page in a frame, and files; computes no number itself."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mnist_ablate.cli.records import SUFFIXES, as_text
from mnist_ablate.errors import SweepError
from mnist_ablate.processes import whole_file
from mnist_ablate.text import plainly
from mnist_ablate.trial import Params, RecordedTrial, Row

if TYPE_CHECKING:
    import pandas as pd

    from mnist_ablate.ledger.ledger import Record
    from mnist_ablate.reports import report as reports
    from mnist_ablate.settings import Settings

_HEIGHT_PX = 720
_CLAIM_COLUMNS = (
    *("name", "statement", "verdict", "effect", "ci_low", "ci_high", "p_value", "n_pairs"),
    *("metric", "direction", "margin", "seeds_needed", "reason"),
)


@dataclass(frozen=True, repr=False)
class Report:
    """What the trials of a sweep say. A notebook shows it as the page that `save("report.html")` writes.

    `result` is the typed report, with every number that a page shows. A report is of the moment it was made.
    """

    result: "reports.Report"
    _recorded: "reports.RecordedSweep | None" = None
    _rows: Sequence[Row] = ()
    _bundle: "Callable[[], tuple[bytes, str]] | None" = None
    _table: "Callable[[], str] | None" = None

    @classmethod
    def of_record(cls, found: "reports.Report", record: "Record", settings: "Settings") -> Self:
        """That of a sweep in a home."""
        from mnist_ablate.execution import recorded_report
        from mnist_ablate.reports import trial_table

        return cls(
            found,
            recorded_report.recorded_sweep(record),
            _bundle=lambda: recorded_report.bundle(record, settings, found),
            _table=lambda: trial_table.table(record.plan, record.entries()),
        )

    @property
    def claims(self) -> "pd.DataFrame":
        """A row for each claim: verdict, effect with its interval, p-value, number of pairs, reason."""
        rows = [{name: getattr(claim, name) for name in _CLAIM_COLUMNS} for claim in self.result.claims]
        return _frame(rows, _CLAIM_COLUMNS)

    @property
    def arms(self) -> "pd.DataFrame":
        """A row for each arm: its factors, and the mean of `result.metric` over `n` seeds with its interval."""
        numbers = ("n", "mean", "ci_low", "ci_high")
        rows = [{**arm.params, **{name: getattr(arm, name) for name in numbers}} for arm in self.result.arms]
        return _frame(rows, numbers)

    @property
    def trials(self) -> "pd.DataFrame":
        """A row for each recorded trial: id, stage, factors and settings, seed, status, metrics, seconds, reason.

        `stage` tells what a trial is for: verdict, as_written, tuning or control. Metrics are as recorded: a share
        is a fraction of one. Diagnostics are columns too, as `diagnostics.NAME`.
        """
        if self._recorded is None:
            rows = [{**row.params, "seed": row.seed, "status": row.status, **row.metrics} for row in self._rows]
            return _frame(rows, ("seed", "status"))
        return _frame([_trial_row(entry) for entry in self._entries], ("trial", "stage", "seed", "status"))

    @property
    def curves(self) -> "pd.DataFrame":
        """A row for each epoch or step that a trial reported: trial, stage, factors, seed, epoch, metrics."""
        rows = [
            {"trial": entry.trial.id, "stage": entry.stage, **entry.params, "seed": entry.trial.seed}
            | {"epoch": epoch.number, **epoch.metrics}
            for entry in self._entries
            for epoch in entry.outcome.epochs
        ]
        return _frame(rows, ("trial", "stage", "seed", "epoch"))

    def save(self, path: str | Path) -> Path:
        """Write it to a file, and give the path. Folders on the way are made.

        The suffix says what is written: `.html` the page, `.md` Markdown, `.json` every number, `.csv` the trials,
        `.txt` the terminal's tables, `.svg` the main chart, `.zip` the bundle that `mnist-ablate verify` checks.

        Raises:
            SweepError: no format has this suffix, it cannot be had, or the path cannot be written.
        """
        path, suffix = Path(path), Path(path).suffix.lower()
        forms = {each: form for each, form in SUFFIXES.items() if form != "png"}
        if suffix not in forms:
            raise SweepError(f"{plainly(str(path))}: no format has this suffix; known: {', '.join(forms)}")
        if self._recorded is None and suffix in {".html", ".svg", ".zip"}:
            had = "a table that was judged has no records; save .md, .json, .txt or .csv"
            raise SweepError(f"{plainly(str(path))}: {had}")
        if suffix == ".csv":
            content = (self._table() if self._table else self.trials.to_csv(index=False)).encode()
        elif suffix == ".zip" and self._bundle is not None:
            content, _ = self._bundle()
        else:
            content = as_text(self.result, self._recorded, forms[suffix]).encode()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as part:
                part.write_bytes(content)
        except OSError as error:
            raise SweepError(f"{plainly(str(path))}: cannot be written: {error.strerror or error}") from error
        return path

    @property
    def _entries(self) -> list[RecordedTrial]:
        found = self._recorded
        return [*found.entries, *found.tuning, *found.control] if found else []

    def __repr__(self) -> str:
        return as_text(self.result, None, "table")

    def _repr_html_(self) -> str:
        """The page in a frame of its own, so that its style and the notebook's do not meet."""
        if self._recorded is None:
            return f"<pre>{escape(repr(self))}</pre>"
        page = escape(as_text(self.result, self._recorded, "html"))
        style = f"width: 100%; height: {_HEIGHT_PX}px; border: 1px solid #ccc"
        return f'<iframe sandbox="allow-popups" style="{style}" srcdoc="{page}"></iframe>'


def _trial_row(entry: RecordedTrial) -> Params:
    trial, outcome = entry.trial, entry.outcome
    return {
        "trial": trial.id,
        "stage": entry.stage,
        **entry.params,
        **trial.settings,
        "seed": trial.seed,
        "status": outcome.status,
        **outcome.metrics,
        "seconds": outcome.seconds,
        "reason": outcome.reason,
        **{f"diagnostics.{name}": value for name, value in outcome.diagnostics.items()},
    }


def _frame(rows: Sequence[Mapping[str, Any]], columns: Iterable[str]) -> "pd.DataFrame":
    """A table of these rows. Without any it has these columns."""
    import pandas as pd

    return pd.DataFrame([*rows]) if rows else pd.DataFrame(columns=[*columns])
