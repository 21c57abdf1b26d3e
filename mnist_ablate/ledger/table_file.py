"""A file of results as a table of text: whatever its dialect, encoding or format; knows no factor and no metric."""

import csv
import gzip
import io
import itertools
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_ablate.errors import SweepError
from mnist_ablate.text import plainly, shown

if TYPE_CHECKING:
    import pandas as pd  # where it is used: it takes half a second, and only `judge` needs it

MAX_BYTES = 1 << 29  # unpacked: a million rows of an MLflow export have a tenth of it
MAX_LINE = 1 << 20
MAX_ROWS = 5_000_000
STANDARD_INPUT = Path("-")
SPACES = " "
_SEPARATORS = {",": "`,`", ";": "`;`", "\t": "tabs", "|": "`|`", SPACES: "spaces"}
_SNIFFED = 20  # lines that tell the separator


@dataclass(frozen=True)
class TableFile:
    """A table as it stands in a file. `cells` has a column for each of `names`, all of text, '' where nothing stands.

    The first row of `cells` has the number `first_row`, as a spreadsheet counts; its index counts on from there.
    `form` says how it was read, part by part, and `separator` by what, if it is delimited text.
    """

    names: tuple[str, ...]
    cells: "pd.DataFrame"
    first_row: int = 2
    form: tuple[str, ...] = ()
    separator: str = ""

    def column(self, place: int) -> list[str]:
        """The cells of a column."""
        return [*map(str, self.cells.iloc[:, place].tolist())]

    def numbers(self) -> list[int]:
        """The number of each row, as a spreadsheet counts."""
        return [self.first_row + int(place) for place in self.cells.index]


def read(path: Path) -> TableFile:
    """The table in a file, in standard input (`-`) or in the folder of a KerasTuner project.

    Raises SweepError that says what is wrong, and where.
    """
    name = table_name(path)
    try:
        if path.is_dir():
            return _keras_tuner(path)
        if path == STANDARD_INPUT:
            return _read(_unpacked(open(0, "rb", closefd=False)))
        return _read(_unpacked(path.open("rb")))
    except SweepError as error:
        raise SweepError(f"{name}: {error}") from error
    except (EOFError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error) as error:
        raise SweepError(f"{name}: the file is damaged: {error}") from error
    except OSError as error:
        raise SweepError(f"{plainly(str(path))}: cannot be read: {error.strerror or error}") from error


def table_name(path: Path) -> str:
    """What a table is called in messages."""
    return "standard input" if path == STANDARD_INPUT else plainly(path.name)


def _unpacked(stream: io.BufferedReader) -> bytes:
    """The content, unpacked if it is gzip. Neither a long line nor what unpacks to gigabytes is read to its end."""
    with stream:
        return _bounded(gzip.GzipFile(fileobj=stream) if stream.peek(2).startswith(b"\x1f\x8b") else stream)


def _bounded(stream: Any) -> bytes:
    parts: list[bytes] = []
    size = since = 0
    is_text = True
    while part := stream.read(MAX_LINE):
        if not parts:
            is_text = not part.startswith((b"PAR1", b"PK\x03\x04", b"\xd0\xcf\x11\xe0"))
        parts.append(part)
        size += len(part)
        since = len(part) - part.rfind(b"\n") - 1 if b"\n" in part else since + len(part)
        if is_text and since > MAX_LINE:
            raise SweepError(f"a line is longer than {MAX_LINE:,} bytes: not a table")
        if size > MAX_BYTES:
            raise SweepError(f"more than {MAX_BYTES >> 20} MB when unpacked: keep only the columns that are needed")
    return b"".join(parts)


def _read(content: bytes) -> TableFile:
    if not content.strip():
        raise SweepError("the file is empty")
    if content.startswith(b"PAR1"):
        return _parquet(content)
    if content.startswith(b"PK\x03\x04"):
        return _excel(content)
    if content.startswith(b"\xd0\xcf\x11\xe0"):
        raise SweepError("an old Excel file: save it as .xlsx or CSV")
    text, encoding = _decoded(content)
    del content
    if text.lstrip()[:1] in ("{", "["):
        return _json(text, encoding)
    return _delimited(text, encoding)


def _decoded(content: bytes) -> tuple[str, str]:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return content.decode("utf-16"), "UTF-16"
        except UnicodeDecodeError as error:
            raise SweepError(f"not UTF-16 as its first bytes say: {error.reason} at byte {error.start:,}") from None
    try:
        text, encoding = content.decode("utf-8-sig"), "UTF-8"
    except UnicodeDecodeError as error:
        line = 1 + content.count(b"\n", 0, error.start)
        try:
            text, encoding = content.decode("cp1252"), "Latin-1"
        except UnicodeDecodeError:
            raise SweepError(f"line {line} is neither UTF-8 nor Latin-1: save the table as CSV in UTF-8") from None
    if "\0" in text:
        raise SweepError(f"line {1 + text.count(chr(10), 0, text.index(chr(0)))} has characters of a binary file")
    return text, encoding


def _delimited(text: str, encoding: str) -> TableFile:
    import pandas as pd

    skipped, given = 0, ""
    lines = io.StringIO(text, newline="")
    for line in lines:
        if told := re.fullmatch(r"sep=(.)\s*", line):  # Excel's
            given = told[1]
        elif line.strip() and not line.startswith("#"):
            break
        skipped += 1
    else:
        raise SweepError("nothing but comments")
    first = [line, *(each for _, each in zip(range(_SNIFFED - 1), lines, strict=False) if each.strip())]
    separator = given or _separator(first)
    if not separator:
        what = f"row {skipped + 1}: one column, {shown(line.strip())}"
        raise SweepError(f"{what}: separate the columns by commas, semicolons or tabs")
    records = _records(text, separator, skipped)
    first_row, head = next(records)
    names = tuple(cell.strip() for cell in head)
    rows, numbers = [], []
    for number, cells in records:
        if len(cells) != len(names):
            raise SweepError(_ragged(number, len(cells), names, separator))
        rows.append(cells)
        numbers.append(number - first_row - 1)
    form = (_SEPARATORS.get(separator, f"`{separator}`"), encoding)
    frame = pd.DataFrame(rows, index=numbers, columns=range(len(names)), dtype=str)
    return TableFile(names, frame, first_row + 1, form, separator)


def _records(text: str, separator: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
    """Each record that has a cell, with its number, as a spreadsheet counts."""
    lines = itertools.islice(io.StringIO(text, newline=""), skipped, None)
    is_spaced = separator == SPACES
    reader = (
        map(str.split, lines)
        if is_spaced
        else csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=True)
    )
    number = skipped
    try:
        for number, cells in enumerate(reader, skipped + 1):
            if cells:
                yield number, cells
    except csv.Error as error:
        raise SweepError(f"row {number + 1}: not a CSV file: {error}") from error


def _separator(lines: Sequence[str]) -> str:
    """The separator by which the first lines have equally many cells, most of all; '' if there is none."""
    best, found = (0, 0), ""
    for separator in (",", ";", "\t", "|"):
        counts = [re.sub(r'"[^"]*"', "", line).count(separator) for line in lines]
        score = (sum(count == counts[0] for count in counts), counts[0])
        if counts[0] and score > best:
            best, found = score, separator
    if not found and len({len(line.split()) for line in lines}) == 1 and len(lines[0].split()) > 1:
        return SPACES
    return found


def _ragged(row: int, seen: int, names: Sequence[str], separator: str) -> str:
    place, expected = min(seen, len(names)), len(names)
    column = (names[place] if place < expected else "") or str(place + 1)
    more = "; a decimal comma needs quotes, or another separator" if separator == "," and seen > expected else ""
    return f"row {row}, column {plainly(column)}: the row has {seen} cells, the header {expected}{more}"


def _parquet(content: bytes) -> TableFile:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    try:
        file = pq.ParquetFile(io.BytesIO(content))
        size = sum(file.metadata.row_group(n).total_byte_size for n in range(file.metadata.num_row_groups))
        if file.metadata.num_rows > MAX_ROWS or size > MAX_BYTES:
            raise SweepError(f"{file.metadata.num_rows:,} rows, {size:,} bytes: too large; keep only what is needed")
        frame = file.read().to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise SweepError(f"not a Parquet file: {plainly(str(error).partition(chr(10))[0])}") from error
    if frame.index.names != [None]:
        frame = frame.reset_index()
    return of_frame(frame, ("Parquet",))


def _excel(content: bytes) -> TableFile:
    import pandas as pd

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if "xl/workbook.xml" not in archive.namelist():
            raise SweepError("a zip archive: unpack it, and give the table in it")
        if sum(each.file_size for each in archive.infolist()) > MAX_BYTES:
            raise SweepError(f"more than {MAX_BYTES >> 20} MB when unpacked: keep only the columns that are needed")
    try:
        sheets = pd.read_excel(io.BytesIO(content), sheet_name=None, header=None, dtype=object, engine="openpyxl")
    except ImportError:
        raise SweepError("an Excel file is read by openpyxl: pip install openpyxl; or save it as CSV") from None
    except Exception as error:  # openpyxl raises whatever it stumbles over
        raise SweepError(f"not an Excel file: {type(error).__name__}") from error
    filled = {name: sheet for name, sheet in sheets.items() if not sheet.empty}
    if not filled:
        raise SweepError("the file is empty")
    name, sheet = next(iter(filled.items()))
    start = next(place for place, row in enumerate(sheet.notna().any(axis=1)) if row)
    body = sheet.iloc[start + 1 :]
    body = body.set_axis(["" if pd.isna(each) else str(each).strip() for each in sheet.iloc[start]], axis=1)
    body = body[body.notna().any(axis=1)]
    form = f"Excel, sheet {shown(name)}" + (f" of {len(filled)}" if len(filled) > 1 else "")
    made = of_frame(body, (form,))
    return replace(made, cells=made.cells.set_axis(body.index - start - 1), first_row=start + 2)


def _json(text: str, encoding: str) -> TableFile:
    """JSON lines, or a list of objects."""
    is_list = text.lstrip().startswith("[")
    records: list[dict[str, Any]] = []
    where = "the list"
    try:
        if is_list:
            records = json.loads(text)
        for number, line in enumerate(io.StringIO("" if is_list else text), 1):
            where = f"row {number}"
            if line.strip():
                records.append(json.loads(line))
    except (ValueError, RecursionError) as error:
        raise SweepError(f"{where}: not JSON: {error}") from error
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise SweepError(f"row {number}: {shown(record)} is not an object with a value for each column")
    return replace(of_records(records, ("a JSON list" if is_list else "JSON lines", encoding)), first_row=1)


def _keras_tuner(folder: Path) -> TableFile:
    """The trials of a KerasTuner project, as it keeps them in its folder."""
    paths = sorted(folder.glob("trial_*/trial.json")) or sorted(folder.glob("*/trial_*/trial.json"))
    if not paths:
        raise SweepError("cannot be read: a folder, and not that of a KerasTuner project")
    try:
        records = [json.loads(path.read_bytes()) for path in paths]
    except ValueError as error:
        raise SweepError(f"a trial.json in it is damaged: {error}") from error
    return replace(of_records(records, ("a KerasTuner project",)), first_row=1)


def of_records(records: Sequence[dict[str, Any]], form: tuple[str, ...]) -> TableFile:
    """A table of objects; what is nested gets a name with dots."""
    import pandas as pd

    return of_frame(pd.DataFrame([dict(_flat(record)) for record in records]), form)


def _flat(record: dict[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        if isinstance(value, dict) and value and depth < 8:  # noqa: PLR2004 - deeper is no table
            yield from _flat(value, f"{prefix}{key}.", depth + 1)
        else:
            yield f"{prefix}{key}", value


def of_frame(frame: "pd.DataFrame", form: tuple[str, ...]) -> TableFile:
    """A table of values as one of text."""
    import pandas as pd

    cells = {place: _texts(frame.iloc[:, place]) for place in range(frame.shape[1])}
    names = tuple(str(name).strip() for name in frame.columns)
    return TableFile(names, pd.DataFrame(cells), 2, form)


def _texts(column: "pd.Series[Any]") -> list[str]:
    values = column.astype(object).where(column.notna(), "").tolist()
    return [json.dumps(value, default=str) if isinstance(value, list | dict) else str(value) for value in values]
