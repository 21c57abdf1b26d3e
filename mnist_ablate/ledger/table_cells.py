"""The cells of a table as values: numbers in any usual writing, states of any program; what is ambiguous is refused."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mnist_ablate.errors import SweepError
from mnist_ablate.text import hint, plainly, shown
from mnist_ablate.trial import Scalar
from mnist_ablate.workloads.bounds import is_outside, outside
from mnist_ablate.workloads.workload import Metric

POINT, COMMA = "decimal point", "decimal comma"
_INTEGER = re.compile(r"([+-]?[0-9]{1,300})(\.0*)?")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_COMMA_NUMBER = re.compile(r"[+-]?([0-9]{1,3}(\.[0-9]{3})+|[0-9]*),[0-9]+([eE][+-]?[0-9]+)?")
_GROUPED = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")  # 1,234 is 1.234 or 1234
_GROUPED_POINT = re.compile(r"[+-]?[0-9]{1,3}(,[0-9]{3})+\.[0-9]*|[+-]?[0-9]{1,3}(,[0-9]{3}){2,}")
_DATE = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}|\d{1,2}[-. ][A-Za-z]{3}([-. ]\d{2,4})?")
_NOT_PLAIN = re.compile(r"[^0-9eE+. -]")
_UNKNOWN = {"", "nan", "na", "n/a", "null", "none", "<na>", "#n/a", "-"}

COMPLETE, DIVERGED, FAILED, KILLED, UNFINISHED, PRUNED = (
    "complete", "diverged", "failed", "killed", "unfinished", "pruned",
)  # fmt: skip
_WORDS = {
    COMPLETE: "complete completed finished finish success succeeded done ok terminated active passed",
    DIVERGED: "diverged",
    FAILED: "failed fail failure crashed crash error errored exception invalid",
    KILLED: "killed lost preempted cancelled canceled aborted interrupted timeout deleted",
    UNFINISHED: "running pending waiting queued scheduled starting paused idle unfinished",
    PRUNED: "pruned stopped early_stopped",
}
STATES: Mapping[str, str] = {word: state for state, words in _WORDS.items() for word in words.split()}
"""What a state in the words of MLflow, Optuna, W&B, Ray Tune or KerasTuner means."""


@dataclass(frozen=True)
class Cells:
    """A column: its name, its cells as text, and the number of each row."""

    name: str
    texts: Sequence[str]
    rows: Sequence[int]

    def refused(self, place: int, why: str) -> SweepError:
        """The error for a cell."""
        return refused(self.rows[place], self.name, why)


def refused(row: int, column: str, why: str) -> SweepError:
    """What is wrong at a place of a table."""
    where = f"row {row}, " if row else ""  # a table of objects has no header
    return SweepError(f"{where}column {plainly(column)}: {why}")


def decimal_sign(columns: Sequence[Cells]) -> str:
    """How fractions are written in these columns. Raises SweepError if in two ways, or if it cannot be told."""
    found: dict[str, tuple[Cells, int]] = {}
    unsure: tuple[Cells, int] | None = None
    for column in columns:
        for place, cell in enumerate(column.texts):
            if POINT in found and "," not in cell:
                continue
            text = cell.strip().removesuffix("%").rstrip()
            if "," in text and _GROUPED.fullmatch(text):
                unsure = unsure or (column, place)
            elif "," in text and _COMMA_NUMBER.fullmatch(text):
                found.setdefault(COMMA, (column, place))
            elif ("." in text or "," in text) and (_NUMBER.fullmatch(text) or _GROUPED_POINT.fullmatch(text)):
                found.setdefault(POINT, (column, place))
    if len(found) > 1:
        (one, first), (other, second) = found[POINT], found[COMMA]
        where = f"row {one.rows[first]} has {shown(one.texts[first].strip())}"
        raise other.refused(second, f"{shown(other.texts[second].strip())}, and {where}: use one decimal sign")
    if unsure and COMMA not in found:
        column, place = unsure
        text = column.texts[place].strip()
        two = f"{text.replace(',', '.')} or {text.replace(',', '')}"
        raise column.refused(place, f"{shown(text)} may be {two}: write it without the comma, or with a point")
    return COMMA if COMMA in found else POINT


def number(text: str, sign: str) -> float:
    """A number in this writing; nan if it is none."""
    if sign == COMMA and _COMMA_NUMBER.fullmatch(text):
        text = text.replace(".", "").replace(",", ".")
    elif sign == POINT and "," in text and _GROUPED_POINT.fullmatch(text):
        text = text.replace(",", "")
    return float(text) if _NUMBER.fullmatch(text) else math.nan


def numbers(cells: Cells, metric: Metric, sign: str, counted: Sequence[str]) -> list[float]:
    """The metric in every row, shares for percent; nan where a row has none. `counted` are the states of the rows.

    Raises SweepError at the first cell that is no number or out of bounds, and for a mixture of shares and percent.
    """
    values = _plain_numbers(cells.texts) if sign == POINT else []
    signed = set[int]()
    for place, cell in enumerate(cells.texts if not values else ()):
        text = cell.strip()
        if text.endswith("%"):
            signed.add(place)
            text = text[:-1].rstrip()
        value = float(text) if sign == POINT and _NUMBER.fullmatch(text) else number(text, sign)
        if math.isinf(value) or (math.isnan(value) and (text.lower() not in _UNKNOWN or counted[place] == DIVERGED)):
            raise cells.refused(place, _no_number(cell, counted[place]))
        values.append(value)
    is_percent = metric.unit == "percent"
    if signed and not is_percent:
        _check_all_signed(cells, values, signed)
    bare = [place for place, value in enumerate(values) if place not in signed and not math.isnan(value)]
    if is_percent:
        _check_percent(cells, values, bare)
    if is_percent or signed:
        values = [value / 100 for value in values]
        metric = Metric(metric.name, unit="share", low=0.0, high=1.0) if is_percent or metric.is_share else metric
    for place in np.flatnonzero(is_outside(metric, np.asarray(values, dtype=np.float64))).tolist():
        raise cells.refused(place, _out_of_bounds(cells, values, place, metric, signed=bool(signed or is_percent)))
    return values


def _plain_numbers(texts: Sequence[str]) -> list[float]:
    """The cells, if all of them are plain numbers; else nothing."""
    if not texts or _NOT_PLAIN.search("".join(texts)):
        return []
    try:
        values = np.array(texts).astype(np.float64)
    except ValueError:
        return []
    return values.tolist() if np.isfinite(values).all() else []


def _no_number(cell: str, state: str) -> str:
    text = cell.strip()
    why = "empty" if not text else f"{shown(cell)} is not a finite number"
    if text.startswith("="):
        why = f"{shown(cell)} is a formula, not a number: paste its value"
    elif _DATE.fullmatch(text):
        why = f"{shown(cell)} is a date, not a number: format the column as numbers"
    return why + ("; a diverged trial counts with the number it reached" if state == DIVERGED else "")


def _check_all_signed(cells: Cells, values: Sequence[float], signed: set[int]) -> None:
    for place, value in enumerate(values):
        if place not in signed and not math.isnan(value):
            first = min(signed)
            other = f"row {cells.rows[first]} has {shown(cells.texts[first].strip())}"
            text = shown(cells.texts[place].strip())
            raise cells.refused(place, f"{text}, and {other}: write all with a percent sign, or none")


def _check_percent(cells: Cells, values: Sequence[float], bare: Sequence[int]) -> None:
    """Numbers of at most 1 without a sign, in a column that is said to be in percent, are shares by mistake."""
    low = next((place for place in bare if 0 < values[place] <= 1), None)
    if low is None:
        return
    text, high = cells.texts[low].strip(), next((place for place in bare if values[place] > 1), None)
    other = f", and row {cells.rows[high]} has {cells.texts[high].strip()}" if high is not None else ""
    raise cells.refused(low, f"{text}{other}: is it a share? if it is percent write `{text}%`")


def _out_of_bounds(cells: Cells, values: Sequence[float], place: int, metric: Metric, *, signed: bool) -> str:
    value, text = values[place], cells.texts[place].strip()
    if signed:
        return f"{text}: {metric.name} is at most 100%, and at least 0%"
    why = outside(metric, value)
    if not metric.is_share or not 1 < value <= 100:  # noqa: PLR2004 - percent
        return why
    share = next((n for n, other in enumerate(values) if 0 < other <= 1), None)
    if share is not None:
        other = f"row {cells.rows[share]} has {cells.texts[share].strip()}"
        return f"{why}, and {other}: shares and percent are mixed; write all as shares"
    return f"{why}; for percent write `unit: percent` or `{text}%`"


def scalar(text: str, known: Sequence[Scalar], sign: str) -> Scalar:
    """A known value, a bool, a finite number, or else the text as it stands.

    Text that differs from one known value by nothing but capitals is that value.
    """
    for value in known:
        if text == str(value):
            return value
    folded = [value for value in known if isinstance(value, str) and value.casefold() == text.casefold()]
    if len(folded) == 1:
        return folded[0]
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    whole = _INTEGER.fullmatch(text)
    found = int(whole[1]) if whole else number(text, sign)
    if not whole and not math.isfinite(found):
        return text
    close = (value for value in known if isinstance(value, float) and math.isclose(value, found, rel_tol=1e-9))
    return next(close, found)


def states(columns: Sequence[Cells]) -> list[str]:
    """The state of each row, by all columns that tell one: the first that is not complete counts."""
    found = [COMPLETE] * len(columns[0].texts)
    for column in columns:
        known: dict[str, str] = {}
        for place, text in enumerate(column.texts):
            state = known.get(text)
            if state is None:
                word = text.strip().rpartition(".")[2].strip().lower().replace(" ", "_").replace("-", "_")
                if word not in STATES:
                    why = "empty" if not word else f"{shown(text.strip())} is not an outcome; {hint(word, STATES)}"
                    raise column.refused(place, f"{why}; or name another column: --map outcome=COLUMN")
                state = known[text] = STATES[word]
            if found[place] == COMPLETE:
                found[place] = state
    return found


def seeds(cells: Cells) -> tuple[list[int], str]:
    """A whole number for each seed, and what the numbers stand for if the cells are names.

    `run-3` is 3 where all are written alike; other names are counted in their order.
    """
    texts = [text.strip() for text in cells.texts]
    for place, text in enumerate(texts):
        if not text or not text.isprintable():
            raise cells.refused(place, f"{shown(text)} has characters that are not text" if text else "empty")
    distinct = dict.fromkeys(texts)
    whole = {text: int(found[1]) for text in distinct if (found := _INTEGER.fullmatch(text))}
    if len(whole) == len(distinct):
        return [whole[text] for text in texts], ""
    ending = {text: re.fullmatch(r"(\D*?)(\d{1,18})", text) for text in distinct}
    prefixes = {found[1] if found else text for text, found in ending.items()}
    if len(prefixes) == 1 and all(ending.values()):
        by_end = {text: int(found[2]) for text, found in ending.items() if found}
        if len(set(by_end.values())) == len(by_end):
            return [by_end[text] for text in texts], f"seed {shown(next(iter(distinct)))} is {by_end[texts[0]]}"
    numbered = {text: place for place, text in enumerate(sorted(distinct))}
    named = ", ".join(f"{place} = {text}" for text, place in [*numbered.items()][:3])
    return [numbered[text] for text in texts], f"seeds are numbered: {named}{', …' * (len(numbered) > 3)}"  # noqa: PLR2004
