"""Reads the CSV of `judge` into rows; every error names file, row and column, and nothing is guessed."""

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mnist_ablate.errors import SweepError
from mnist_ablate.statistics.pairing import label
from mnist_ablate.text import hint, plainly, shown
from mnist_ablate.trial import COUNTED, Row, Scalar, Status

_INTEGER = re.compile(r"([+-]?[0-9]{1,300})(\.0*)?")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_STATUSES: dict[str, Status] = {status: status for status in COUNTED}
_Arm = tuple[dict[str, Scalar], dict[int, int]]
"""The params that all rows of an arm share, and the number of the row of each seed."""


def read(path: Path, factors: Mapping[str, Sequence[Scalar]], metrics: Sequence[str]) -> list[Row]:
    """The rows of a UTF-8 CSV file with a column per factor and metric, `seed`, and optionally `outcome`.

    Other columns are ignored. A factor's cell becomes a bool or a number if it reads like one, unless it is
    exactly one of the values given with that factor. Raises SweepError at the first cell that cannot be used.
    """
    name = plainly(path.name)
    try:
        rows = [*_rows(path.read_bytes().decode("utf-8-sig"), factors, metrics)]
    except UnicodeDecodeError as error:
        line = 1 + error.object.count(b"\n", 0, error.start)
        raise SweepError(f"{name}: line {line} is not UTF-8: save the table as CSV in UTF-8") from error
    except csv.Error as error:
        raise SweepError(f"{name}: not a CSV file: {error}") from error
    except OSError as error:
        raise SweepError(f"{plainly(str(path))}: cannot be read: {error.strerror}") from error
    except SweepError as error:
        raise SweepError(f"{name}: {error}") from error
    if not rows:
        raise SweepError(f"{name}: no row below the header")
    return rows


def _rows(text: str, values: Mapping[str, Sequence[Scalar]], metrics: Sequence[str]) -> Iterator[Row]:
    """One row at a time; the rows of an arm share one params object. Their numbers are a spreadsheet's."""
    records = (
        (n, cells) for n, cells in enumerate(csv.reader(io.StringIO(text, newline=""), strict=True), start=1) if cells
    )
    number, cells = next(records, (0, []))
    if not number:
        raise SweepError("the file is empty")
    header = [cell.strip() for cell in cells]
    if len(header) == 1 and re.search("[;\t]", header[0]):
        raise SweepError(f"row {number}: one column, {shown(header[0])}: separate the columns by commas")
    optional = ["outcome"] if "outcome" in header else []
    column = {name: _position(number, header, name) for name in (*values, "seed", *metrics, *optional)}
    places = [column[name] for name in values]
    by_text: dict[tuple[str, ...], _Arm] = {}
    by_value: dict[tuple[Scalar, ...], _Arm] = {}
    for number, cells in records:
        if len(cells) != len(header):
            place = min(len(cells), len(header))
            name = header[place] if place < len(header) else str(place + 1)
            raise _refused(number, name, f"the row has {len(cells)} cells, the header {len(header)}")
        texts = tuple([cells[place] for place in places])
        if texts not in by_text:
            params = {
                name: _factor(number, name, text.strip(), known)
                for text, (name, known) in zip(texts, values.items(), strict=True)
            }
            by_text[texts] = by_value.setdefault(tuple(params.values()), (params, {}))
        params, row_of_seed = by_text[texts]
        seed = _seed(number, cells[column["seed"]])
        if (earlier := row_of_seed.setdefault(seed, number)) != number:
            raise _refused(number, "seed", f"{label(params)} with seed {seed} is in row {earlier} already: keep one")
        status = _status(number, cells[column["outcome"]]) if optional else "complete"
        ended = metrics if status in {"complete", "diverged"} else ()
        yield Row(params, seed, {name: _metric(number, name, cells[column[name]], status) for name in ended}, status)


def _position(number: int, header: list[str], name: str) -> int:
    if header.count(name) == 1:
        return header.index(name)
    wrong = "appears twice in the header" if name in header else f"missing; {hint(name, header, 'the header has')}"
    raise _refused(number, name, wrong)


def _factor(number: int, name: str, text: str, known: Sequence[Scalar]) -> Scalar:
    """A known value, a bool, a finite number, or else the text as it stands."""
    if not (text and text.isprintable()):
        raise _refused(number, name, f"{shown(text)} has characters that are not text" if text else "empty")
    for value in known:
        if text == str(value):
            return value
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    if whole := _INTEGER.fullmatch(text):
        return int(whole[1])
    return float(text) if _NUMBER.fullmatch(text) and math.isfinite(float(text)) else text


def _seed(number: int, text: str) -> int:
    """A whole number, also as pandas writes it beside empty cells: 3.0."""
    if found := _INTEGER.fullmatch(text.strip()):
        return int(found[1])
    raise _refused(number, "seed", _not("a whole number", text))


def _status(number: int, text: str) -> Status:
    if status := _STATUSES.get(text.strip()):
        return status
    raise _refused(number, "outcome", f"{_not('an outcome', text)}; {hint(text.strip(), _STATUSES)}")


def _metric(number: int, name: str, text: str, status: Status) -> float:
    try:
        value = math.nan if "_" in text else float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value):
        return value
    why = "; a diverged trial counts with the number it reached" if status == "diverged" else ""
    raise _refused(number, name, _not("a finite number", text) + why)


def _not(what: str, text: str) -> str:
    return f"{shown(text)} is not {what}" if text.strip() else "empty"


def _refused(number: int, column: str, why: str) -> SweepError:
    return SweepError(f"row {number}, column {plainly(column)}: {why}")
