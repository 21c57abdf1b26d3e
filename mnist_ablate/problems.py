"""What is wrong in a file, where it stands and how it is said; finds nothing itself."""

import difflib
from collections.abc import Iterable
from typing import NamedTuple

from mnist_ablate.errors import SweepError

Address = tuple[str | int, ...]
"""The way to a value from the top of a file: ("scientific", "normalizer", 0)."""

MAX_PROBLEMS = 50
_MAX_SHOWN = 60
_MAX_LISTED = 30


class Mark(NamedTuple):
    """A place in a file, lines and columns from 1; line 0 stands for all of the source, say a flag."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        """`file:line:column`, the form that editors and terminals can follow."""
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


class Problem(NamedTuple):
    """One line of an error: where, and what."""

    mark: Mark
    text: str


class Finding(NamedTuple):
    """What a check found at an address; `at_key` points to the key instead of its value."""

    address: Address
    text: str
    at_key: bool = False


def raise_if_any(problems: Iterable[Problem]) -> None:
    """Raise one SweepError with a line for each problem, in the order of the file, then of the flags."""
    ordered = sorted(problems, key=lambda problem: (not problem.mark.line, problem.mark[1:]))
    lines = list(dict.fromkeys(f"{mark}: {text}" for mark, text in ordered))
    if len(lines) > MAX_PROBLEMS:
        lines[MAX_PROBLEMS:] = [f"{ordered[0].mark.source}: and more; correct these {MAX_PROBLEMS} first"]
    if lines:
        raise SweepError("\n".join(lines))


def shown(value: object) -> str:
    """A value as an error line can hold it: short, on one line, invisible characters escaped."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    return repr(shortened(value)) if isinstance(value, str) else shortened(str(value))


def shortened(text: str) -> str:
    """The first characters of a text of any length."""
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def plainly(text: str) -> str:
    """A name or a path without quotes, unless it is long or a terminal would not show all of it."""
    return text if text.isprintable() and 0 < len(text) <= 4 * _MAX_SHOWN else shown(text)


def dotted(address: Address) -> str:
    """An address as it is written after `--set`: ("scientific", "width", 0) is scientific.width[0]."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{plainly(part)}" for part in address)
    return "".join(parts).removeprefix(".")


def listed(allowed: Iterable[object]) -> str:
    """What is allowed, comma-separated, in its own order."""
    names = [plainly(name) if isinstance(name, str) else shown(name) for name in allowed]
    rest = len(names) - _MAX_LISTED
    return ", ".join(names[:_MAX_LISTED]) + (f" and {rest} more" if rest > 0 else "")


def guess(word: object, allowed: Iterable[object]) -> str:
    """`did you mean 'relu'?` when something allowed is close to the word, else nothing."""
    by_folded = {name.casefold(): name for name in allowed if isinstance(name, str)}
    folded = word[:_MAX_SHOWN].casefold() if isinstance(word, str) else ""
    close = difflib.get_close_matches(folded, by_folded, n=1)
    return f"did you mean {shown(by_folded[close[0]])}?" if close else ""


def hint(word: object, allowed: Iterable[object], label: str = "allowed") -> str:
    """The guess, then everything that is allowed."""
    allowed = tuple(allowed)
    return f"{guess(word, allowed)} {label}: {listed(allowed) or 'none'}".lstrip()
