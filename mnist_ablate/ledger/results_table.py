"""Results that others recorded, as rows for a verdict: what counts, what is left out, what stands beside them.

`table_file` reads the file, `table_columns` finds the columns, `table_cells` reads the cells. Every error names row and
column, and nothing is guessed.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mnist_ablate.errors import SweepError
from mnist_ablate.ledger import table_cells, table_columns, table_file
from mnist_ablate.ledger.table_cells import COMPLETE, DIVERGED, FAILED, KILLED, Cells, refused
from mnist_ablate.ledger.table_columns import STAGE, Columns, Wanted, folded
from mnist_ablate.ledger.table_file import TableFile
from mnist_ablate.statistics.confounds import Column, Context
from mnist_ablate.statistics.pairing import label
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.text import counted, shown
from mnist_ablate.trial import Params, Row, Scalar, Status
from mnist_ablate.workloads.workload import Metric

_STATUSES: Mapping[str, Status] = {COMPLETE: "complete", DIVERGED: "diverged", FAILED: "failed", KILLED: "lost"}
_PLAIN = "`,`, decimal point, UTF-8"
VERDICT = "verdict"
STAGES = (VERDICT, "as written", "tuning", "control")
_PROGRESS, _TRIAL = "training_iteration", "trial_id"  # Ray Tune's: a row for each report of a trial


@dataclass(frozen=True)
class Reading:
    """How a table was read, and what was not: by arm and state the rows left out, and what a reader must know."""

    read_as: str = ""
    left_out: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def lines(self) -> Iterator[str]:
        """The same for a person."""
        if self.read_as and self.read_as != _PLAIN:
            yield f"read as: {self.read_as}"
        if self.left_out:
            arms = (
                f"{arm}: {', '.join(f'{n} {why}' for why, n in each.items())}" for arm, each in self.left_out.items()
            )
            yield f"left out: {'; '.join(arms)}"
        yield from self.notes


@dataclass(frozen=True)
class ResultsTable:
    """The rows that verdicts read, the columns beside them, and how the table was read."""

    rows: Sequence[Row]
    context: Context
    reading: Reading
    has_seeds: bool


def metrics_of(sweep: Sweep) -> dict[str, Metric]:
    """The metrics that the claims of a sweep are about: as declared, or what their names say."""
    names = dict.fromkeys(claim.metric for claim in sweep.claims)
    percent = {name for name, told in sweep.metrics.items() if told.unit == "percent"}
    return {
        name: replace(sweep.metric(name), unit="percent") if name in percent else sweep.metric(name) for name in names
    }


def read(
    source: Path | TableFile,
    factors: Mapping[str, Sequence[Scalar]],
    metrics: Mapping[str, Metric],
    named: Mapping[str, str] | None = None,
) -> ResultsTable:
    """The results in a table of any form that `table_file` reads; `named` has the columns that the user named.

    A factor's cell becomes a bool or a number if it reads like one, unless it is one of the values given with that
    factor. Raises SweepError at the first cell that cannot be used.
    """
    table = table_file.read(source) if isinstance(source, Path) else source
    name = table_file.table_name(source) if isinstance(source, Path) else "the runs"
    try:
        return _read(table, Wanted(factors, [*metrics], named or {}), metrics)
    except SweepError as error:
        raise SweepError(f"{name}: {error}") from error


def _read(table: TableFile, wanted: Wanted, metrics: Mapping[str, Metric]) -> ResultsTable:
    table, notes = _last_reports(table_columns.tidy(table, wanted))
    if not len(table.cells):
        raise SweepError("no row below the header")
    columns = table_columns.find(table, wanted)
    table, told = _judged_stage(table, columns)
    reader = _Reader(table, columns, wanted.factors, metrics)
    kept = reader.kept()
    if not kept:
        raise SweepError(f"no row can be judged: {'; '.join(Reading('', reader.left()).lines())}")
    reading = Reading(reader.read_as(), reader.left(), (*notes, *told, *reader.notes()))
    return ResultsTable(reader.rows(kept), _context(table, columns, kept), reading, columns.seed is not None)


def _last_reports(table: TableFile) -> tuple[TableFile, list[str]]:
    """Of a trial that reported again and again, the last report."""
    if not {_PROGRESS, _TRIAL} <= {*table.names} or not len(table.cells):
        return table, []
    progress, trials = (table.cells.iloc[:, table.names.index(name)] for name in (_PROGRESS, _TRIAL))
    order = progress.map(lambda text: table_cells.number(str(text), table_cells.POINT)).sort_values(kind="stable")
    last = trials.loc[order.index].drop_duplicates(keep="last").index
    cells = table.cells.loc[last.sort_values()]
    gone = len(table.cells) - len(cells)
    note = f"the last of several reports of a trial: {counted(gone, 'earlier row')} left out"
    return replace(table, cells=cells), [note] if gone else []


def _judged_stage(table: TableFile, columns: Columns) -> tuple[TableFile, list[str]]:
    """Of a table that this program wrote, the trials of the verdicts."""
    if STAGE not in columns.others:
        return table, []
    stages = table.cells.iloc[:, columns.others[STAGE][0]]
    if not set(stages) <= {*STAGES} or not (stages == VERDICT).any():
        return table, []
    gone = Counter(stages[stages != VERDICT])
    note = f"not judged: {', '.join(counted(n, f'{stage} trial') for stage, n in gone.items())}"
    return replace(table, cells=table.cells[stages == VERDICT]), [note] if gone else []


class _Reader:
    """The columns of one table, read; then a row at a time."""

    def __init__(
        self,
        table: TableFile,
        columns: Columns,
        factors: Mapping[str, Sequence[Scalar]],
        metrics: Mapping[str, Metric],
    ) -> None:
        self._table, self._factors = table, factors
        self._rows = rows = table.numbers()
        self._columns = columns

        def cells(place: int) -> Cells:
            return Cells(table.names[place], table.column(place), rows)

        measured = {name: cells(place) for name, place in columns.metrics.items()}
        arms = {name: cells(place) for name, place in columns.factors.items()}
        self._states = table_cells.states([cells(place) for place in columns.states]) if columns.states else []
        self._states = self._states or [COMPLETE] * len(rows)
        self._left: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._params: dict[tuple[str, ...], Params] = {}
        numeric = [arms[name] for name, known in factors.items() if any(isinstance(v, int | float) for v in known)]
        self.sign = table_cells.decimal_sign([*measured.values(), *numeric])
        self._texts = [*zip(*(each.texts for each in arms.values()), strict=True)] if arms else [()] * len(rows)
        self._arms = arms
        counted_as = [state if state in (COMPLETE, DIVERGED) else "" for state in self._states]
        self._metrics = {
            name: table_cells.numbers(_ended(each, counted_as), metrics[name], self.sign, self._states)
            for name, each in measured.items()
        }
        found = [np.isfinite(np.asarray(values)) for values in self._metrics.values()]
        self._has_result: list[bool] = np.any(found, axis=0).tolist() if found else [True] * len(rows)
        self._seeds, self._seed_note = [*range(len(rows))], ""
        self._seed_cells = cells(columns.seed) if columns.seed is not None else None

    def kept(self) -> list[int]:
        """The places of the rows that count, or that failed and were not tried again."""
        blank = {texts for texts in {*self._texts} if texts and not any(text.strip() for text in texts)}
        named = [place for place, texts in enumerate(self._texts) if texts not in blank or self._names_arm(place)]
        self._number_seeds(named)
        best: dict[tuple[int, int], int] = {}  # by arm and seed
        kept: list[int] = []
        for place in named:
            state, arm = self._states[place], self._params.get(self._texts[place]) or self._arm(place)
            if state in (COMPLETE, DIVERGED) and not self._has_result[place]:
                self._leave_out(place, f"without {' or '.join(self._metrics)}")
                continue
            if state not in _STATUSES:
                self._leave_out(place, state)
                continue
            key = (id(arm), self._seeds[place])
            earlier = best.get(key)
            if earlier is None:
                best[key] = place
            elif state in (FAILED, KILLED):
                self._leave_out(place, f"{state}, tried again")
            elif self._states[earlier] in (FAILED, KILLED):
                self._leave_out(earlier, f"{self._states[earlier]}, tried again")
                best[key] = place
            else:
                where = f"{label(arm)} with seed {self._seed_text(place)} is in row {self._rows[earlier]} already"
                raise refused(self._rows[place], "seed", f"{where}: keep one{self._differing(earlier, place)}")
        kept = sorted(best.values())
        for place in kept:
            if self._states[place] in (FAILED, KILLED):
                self._leave_out(place, self._states[place])
        return kept

    def rows(self, kept: Sequence[int]) -> list[Row]:
        """The rows at these places; those of an arm share one params object."""
        texts, seeds, states, metrics = self._texts, self._seeds, self._states, self._metrics
        if len(metrics) == 1:  # a million rows are made in a second
            ((name, values),) = metrics.items()
            found = [{name: v} if math.isfinite(v := values[place]) else {} for place in kept]
        else:
            found = [{m: v for m, all_ in metrics.items() if math.isfinite(v := all_[place])} for place in kept]
        rows = zip(kept, found, strict=True)
        return [Row(self._params[texts[p]], seeds[p], measured, _STATUSES[states[p]]) for p, measured in rows]

    def left(self) -> dict[str, dict[str, int]]:
        """The rows that do not count, by arm and reason."""
        return {arm: dict(reasons) for arm, reasons in self._left.items()}

    def read_as(self) -> str:
        """How the table was read, in a few words."""
        sign = [self.sign] if self._table.separator else []
        form = [*self._table.form[:1], *sign, *self._table.form[1:], *table_columns.programs(self._table)]
        value = [
            f"value is {name}" for name, place in self._columns.metrics.items() if self._table.names[place] == "value"
        ]
        return ", ".join([*form, *value])

    def notes(self) -> Iterator[str]:
        """What a reader must know of how cells were read."""
        if self._seed_note:
            yield self._seed_note
        if self._seed_cells is None:
            yield "no column has seeds: arms are compared without pairs"
        for texts, params in self._params.items():
            for text, (name, value) in zip(texts, params.items(), strict=True):
                if isinstance(value, str) and value != text.strip():
                    yield f"{name}: {shown(text.strip())} is taken for {shown(value)}"

    def _names_arm(self, place: int) -> bool:
        """Whether a row without settings is of an arm: a parent run has no results either."""
        if self._states[place] in (COMPLETE, DIVERGED) and self._has_result[place]:
            return True
        self._left["no arm"][self._states[place] if self._states[place] != COMPLETE else "without settings"] += 1
        return False

    def _number_seeds(self, named: Sequence[int]) -> None:
        if self._seed_cells is None:
            return
        cells = self._seed_cells
        own = Cells(cells.name, [cells.texts[place] for place in named], [self._rows[place] for place in named])
        numbers, self._seed_note = table_cells.seeds(own)
        for place, number in zip(named, numbers, strict=True):
            self._seeds[place] = number

    def _seed_text(self, place: int) -> str:
        return self._seed_cells.texts[place].strip() if self._seed_cells else str(self._seeds[place])

    def _arm(self, place: int) -> Params:
        texts = self._texts[place]
        if texts not in self._params:
            made = {
                name: self._factor(place, name, text.strip()) for text, name in zip(texts, self._factors, strict=True)
            }
            equal = (each for each in self._params.values() if each == made and _kinds(each) == _kinds(made))
            self._params[texts] = next(equal, made)
        return self._params[texts]

    def _factor(self, place: int, name: str, text: str) -> Scalar:
        if not (text and text.isprintable()):
            why = f"{shown(text)} has characters that are not text" if text else "empty"
            raise self._arms[name].refused(place, why)
        return table_cells.scalar(text, self._factors[name], self.sign)

    def _leave_out(self, place: int, why: str) -> None:
        self._left[label(self._arm(place))][why] += 1

    def _differing(self, one: int, other: int) -> str:
        """A setting in which two rows of an arm and seed differ: then it may be a factor."""
        for name, (place, role) in self._columns.others.items():
            texts = [str(self._table.cells.iloc[row, place]) for row in (one, other)]
            if role == "setting" and texts[0] != texts[1]:
                return f"; they differ in {name} ({texts[0]}, {texts[1]}): is it a factor?"
        return ""


def _kinds(params: Params) -> list[type]:
    return [type(value) for value in params.values() if isinstance(value, bool)]


def _ended(cells: Cells, counted_as: Sequence[str]) -> Cells:
    """The cells of trials that ended with a result; those of others are not read."""
    if all(counted_as):
        return cells
    return replace(cells, texts=[text if state else "" for text, state in zip(cells.texts, counted_as, strict=True)])


def _context(table: TableFile, columns: Columns, kept: Sequence[int]) -> Context:
    """The columns that no verdict reads, in the order of the rows."""
    import pandas as pd

    rows = np.asarray(kept, dtype=np.intp)
    found: dict[str, Column] = {}
    for name, (place, role) in columns.others.items():
        codes, values = pd.factorize(table.cells.iloc[:, place].iloc[rows])
        found[name] = Column(role, tuple(map(str, values)), codes)
    return Context(found, {folded(table_columns.bare(name)[0]): name for name in found})
