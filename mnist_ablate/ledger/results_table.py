"""Reads the CSV of `judge` into rows; every error names file, row and column, and nothing is guessed."""

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mnist_ablate.errors import SweepError
from mnist_ablate.statistics.pairing import label
from mnist_ablate.text import hint, plainly, shown
from mnist_ablate.trial import COUNTED, Row, Scalar, Status

_INTEGER = re.compile(r"([+-]?[0-9]{1,300})(\.0*)?")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_STATUSES: dict[str, Status] = {status: status for status in COUNTED}

Record = tuple[int, list[str]]
"""The number of a row, as a spreadsheet counts (the header is row 1), and its cells."""


class _Layout(NamedTuple):
    """The header and where the columns that are read stand; `outcome` is None without that column."""

    header: list[str]
    factors: dict[str, int]
    metrics: dict[str, int]
    seed: int
    outcome: int | None


class _Arm(NamedTuple):
    """The params that all rows of an arm share, and the number of the row of each seed."""

    params: dict[str, Scalar]
    row_of_seed: dict[int, int]


def read(
    path: str | Path, factors: Mapping[str, Sequence[Scalar]] | Sequence[str], metrics: Sequence[str]
) -> list[Row]:
    """The rows of a UTF-8 CSV file with a column per factor and metric, `seed`, and optionally `outcome`.

    Other columns are ignored. A factor's cell becomes a bool or a number if it reads like one, unless it is
    exactly one of the values given with that factor. Raises SweepError at the first cell that cannot be used.
    """
    path = Path(path)
    values = factors if isinstance(factors, Mapping) else dict.fromkeys(factors, ())
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return _read(stream, values, metrics)
    except UnicodeDecodeError as error:
        line = _undecodable_line(path)
        raise SweepError(f"{plainly(path.name)}: line {line} is not UTF-8: save the table as CSV in UTF-8") from error
    except csv.Error as error:
        raise SweepError(f"{plainly(path.name)}: not a CSV file: {error}") from error
    except OSError as error:
        raise SweepError(f"{plainly(str(path))}: cannot be read: {error.strerror}") from error
    except SweepError as error:
        raise SweepError(f"{plainly(path.name)}: {error}") from error


def _read(stream: Iterable[str], values: Mapping[str, Sequence[Scalar]], metrics: Sequence[str]) -> list[Row]:
    records = ((n, cells) for n, cells in enumerate(csv.reader(stream, strict=True), start=1) if cells)
    rows = list(_rows(records, _layout(records, list(values), metrics), values))
    if not rows:
        raise SweepError("no row below the header")
    return rows


def _undecodable_line(path: Path) -> int:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def _layout(records: Iterator[Record], factors: Sequence[str], metrics: Sequence[str]) -> _Layout:
    number, cells = next(records, (0, [""]))
    if not number:
        raise SweepError("the file is empty")
    header = [cell.strip() for cell in cells]
    if len(header) == 1 and re.search("[;\t]", header[0]):
        raise SweepError(f"row {number}: one column, {shown(header[0])}: separate the columns by commas")
    column = {name: _position(number, header, name) for name in (*factors, "seed", *metrics)}
    outcome = _position(number, header, "outcome") if "outcome" in header else None
    return _Layout(
        header,
        {name: column[name] for name in factors},
        {name: column[name] for name in metrics},
        column["seed"],
        outcome,
    )


def _position(number: int, header: list[str], name: str) -> int:
    if header.count(name) == 1:
        return header.index(name)
    wrong = "appears twice in the header" if name in header else f"missing; {hint(name, header, 'the header has')}"
    raise SweepError(f"row {number}, column {plainly(name)}: {wrong}")


def _rows(records: Iterable[Record], layout: _Layout, values: Mapping[str, Sequence[Scalar]]) -> Iterator[Row]:
    """One row at a time; the rows of an arm share one params object."""
    by_text: dict[tuple[str, ...], _Arm] = {}
    by_value: dict[tuple[Scalar, ...], _Arm] = {}
    places = tuple(layout.factors.values())
    for number, cells in records:
        if len(cells) != len(layout.header):
            raise SweepError(_uneven(number, cells, layout.header))
        texts = tuple([cells[place] for place in places])
        arm = by_text.get(texts)
        if arm is None:
            params = _params(number, texts, values)
            arm = by_text[texts] = by_value.setdefault(tuple(params.values()), _Arm(params, {}))
        seed = _seed(number, cells[layout.seed])
        earlier = arm.row_of_seed.setdefault(seed, number)
        if earlier != number:
            which = f"{label(arm.params)} with seed {seed}"
            raise SweepError(f"row {number}, column seed: {which} is in row {earlier} already: keep one")
        status = "complete" if layout.outcome is None else _status(number, cells[layout.outcome])
        ended = status in ("complete", "diverged")
        yield Row(arm.params, seed, _metrics(number, cells, layout.metrics, status) if ended else {}, status)


def _uneven(number: int, cells: list[str], header: list[str]) -> str:
    place = min(len(cells), len(header))
    column = plainly(header[place]) if place < len(header) else str(place + 1)
    return f"row {number}, column {column}: the row has {len(cells)} cells, the header {len(header)}"


def _params(number: int, texts: tuple[str, ...], values: Mapping[str, Sequence[Scalar]]) -> dict[str, Scalar]:
    params = {name: _typed(text.strip(), known) for text, (name, known) in zip(texts, values.items(), strict=True)}
    for name, value in params.items():
        if value == "":
            raise SweepError(f"row {number}, column {plainly(name)}: empty")
        if isinstance(value, str) and not value.isprintable():
            raise SweepError(f"row {number}, column {plainly(name)}: {shown(value)} has characters that are not text")
    return params


def _typed(text: str, known: Sequence[Scalar]) -> Scalar:
    """A known value, a bool, a finite number, or else the text as it stands."""
    for value in known:
        if text == str(value):
            return value
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if whole := _INTEGER.fullmatch(text):
        return int(whole[1])
    return float(text) if _NUMBER.fullmatch(text) and math.isfinite(float(text)) else text


def _seed(number: int, text: str) -> int:
    """A whole number, also as pandas writes it beside empty cells: 3.0."""
    found = _INTEGER.fullmatch(text.strip())
    if found is None:
        raise SweepError(f"row {number}, column seed: {_not('a whole number', text)}")
    return int(found[1])


def _status(number: int, text: str) -> Status:
    status = _STATUSES.get(text.strip())
    if status is None:
        raise SweepError(f"row {number}, column outcome: {_not('an outcome', text)}; {hint(text.strip(), _STATUSES)}")
    return status


def _metrics(number: int, cells: list[str], places: Mapping[str, int], status: Status) -> dict[str, float]:
    metrics = {}
    for name, place in places.items():
        text = cells[place]
        try:
            value = math.nan if "_" in text else float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            why = "; a diverged trial counts with the number it reached" if status == "diverged" else ""
            raise SweepError(f"row {number}, column {plainly(name)}: {_not('a finite number', text)}{why}")
        metrics[name] = value
    return metrics


def _not(what: str, text: str) -> str:
    return f"{shown(text)} is not {what}" if text.strip() else "empty"
