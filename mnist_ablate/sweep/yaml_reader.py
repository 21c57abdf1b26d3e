"""Bytes to plain values with the place of each, and what is wrong with them: a small, strict part of YAML.

Allowed: one UTF-8 document (a byte order mark at its start is skipped) of mappings, lists, text, finite numbers,
true and false. Refused: anchors, aliases, tags, directives, duplicate keys, empty values, and whatever looks like a
number but is not written as one (010, 0x1f, 1_000, 1:30, .inf). `no`, `off` and dates are text.

PyYAML's parser gives the events. The rest is here because every error is reported at once, within a tenth of a second:
ruamel.yaml and strictyaml stop at the first, and need seconds for hostile files.
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

import yaml

from mnist_ablate.errors import Place, SweepError
from mnist_ablate.text import plainly, shown
from mnist_ablate.trial import Scalar

MAX_BYTES = 256 * 1024
MAX_DEPTH = 8
MAX_VALUES = 3_000
MAX_PROBLEMS = 50

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML has it: some 20 times faster
# Control characters, line breaks that editors do not count, and what reorders the text on the screen.
_UNSEEN = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
    "|[\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]"
)
_UNFIT = re.compile(rf"{_UNSEEN.pattern}|^%", re.MULTILINE)
_PASSWORD = re.compile(r"://[^\s/:@]{0,100}:(?!\*\*\*@)[^\s/@]{1,200}@")

_FLOAT = re.compile(r"-?(0|[1-9][0-9]*|(?=\.[0-9]))(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_NUMBER_LIKE = re.compile(
    r"[-+]?(\.?[0-9][0-9_.,]*(e[-+]?[0-9_]*)?|0x[0-9a-f_]+|0o[0-7_]+|0b[01_]+|[0-9]+(:[0-9]+)+(\.[0-9]*)?)",
    re.IGNORECASE,
)
_NOT_FINITE = re.compile(r"[-+]?\.?(inf|infinity|nan)", re.IGNORECASE)
_EXACT = 2**53  # beyond this neither JSON nor a float holds every whole number
_MAX_DIGITS = 40

_MEANINGS = (  # a pattern in the complaint of libyaml or of PyYAML's own parser: what it means
    ("tab character", "a tab; indent and separate with spaces"),
    ("cannot start any token", "a value cannot start with {character}; put it in quotes"),
    ("unexpected end of stream", "the quote opened at {opened} is not closed"),
    ("flow (sequence|mapping)", "the bracket opened at {opened} is not closed here, or a comma is missing"),
    ("mapping values", "a ':' that does not fit; put a text that holds ': ' in quotes, or check the indentation"),
    ("could not find expected ':'", "no ':' after the key; write `key: value`"),
    ("unknown escape character", "a backslash in double quotes; use single quotes"),
    (
        "did not find expected key|expected <block end>|'-' indicator|<document start>",
        "this does not fit what is before it; check the indentation, the quotes and the brackets",
    ),
    ("node content", "a value is missing here; put text that starts with , [ ] {{ }} in quotes"),
    ("", "not YAML: {problem}"),
)

Address = tuple[str | int, ...]  # the way to a value from the top of a file: ("scientific", "width", 0)


class Mark(NamedTuple):
    """A place in a file, lines and columns from 1; line 0 stands for all of the source, say a flag."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


Problem = tuple[Mark, str]  # one line of an error: where, and what


class Finding(NamedTuple):
    """What a check found at an address; `at_key` points to the key instead of its value."""

    address: Address
    text: str
    at_key: bool = False


class Unreadable(Enum):
    """Stands where a value was refused, so that no check reports it again."""

    UNREADABLE = "unreadable"


Plain: TypeAlias = "str | int | float | bool | Unreadable | list[Plain] | dict[str, Plain]"


@dataclass
class SourceFile:
    """What was read, with the places of values and of keys; `root` is None where reading stopped early."""

    source: str
    root: "Plain | None" = None
    problems: list[Problem] = field(default_factory=list)
    marks: dict[Address, Mark] = field(default_factory=dict)
    key_marks: dict[Address, Mark] = field(default_factory=dict)

    def located(self, finding: Finding) -> Problem:
        """A finding with its place, or that of the closest value around it, and its address as `--set` takes it."""
        address, value = finding.address, self.root
        around = next(address[:n] for n in range(len(address), -1, -1) if address[:n] in self.marks)
        mark = self.key_marks.get(address) if finding.at_key else None
        words: list[str | int] = []
        for part in address:
            value = child(value, part)
            name = child(value, "name") if isinstance(part, int) else None
            words.append(name if isinstance(name, str) and name else part)
        return (mark or self.marks[around], f"{dotted(words)}: {finding.text}".removeprefix(": "))

    def move(self, address: Address, mark: Mark) -> None:
        """Give one place to all of the value at an address."""
        for marks in (self.marks, self.key_marks):
            for inner in [each for each in marks if each[: len(address)] == address]:
                del marks[inner]
            marks[address] = mark


def child(value: "Plain | None", part: str | int) -> "Plain | None":
    """The entry or the item of that name or index, if there is one."""
    if isinstance(value, dict):
        return value.get(str(part))
    return value[part] if isinstance(value, list) and isinstance(part, int) and part < len(value) else None


def dotted(address: Iterable[str | int]) -> str:
    """An address as it is written after `--set`: ("scientific", "width", 0) is scientific.width[0]."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{plainly(part)}" for part in address).removeprefix(".")


def raise_if_any(problems: Iterable[Problem]) -> None:
    """Raise one SweepError with a line for each problem: those of the file in its order, then those of the flags."""
    ordered = sorted(problems, key=lambda problem: (not problem[0].line, problem[0][1:]))
    lines = {f"{mark}: {text}": _place(mark, text) for mark, text in ordered}
    if lines:
        texts = list(lines)
        if len(texts) > MAX_PROBLEMS:
            texts[MAX_PROBLEMS:] = [f"{ordered[0][0].source}: and more; correct these {MAX_PROBLEMS} first"]
        error = SweepError("\n".join(texts))
        error.places = tuple(lines.values())[:MAX_PROBLEMS]
        raise error


def _place(mark: Mark, text: str) -> Place:
    """A problem without the name of the file, which a form has not; that of a flag keeps the flag."""
    return Place(mark.line, mark.column, text if mark.line else f"{mark}: {text}")


class _StopError(Exception):
    """Reading cannot go on. The arguments are a Problem."""


def parse(data: bytes, source: str) -> SourceFile:
    """Read a file; everything wrong is in its `problems`, nothing is raised."""
    file = _Composer(source)
    try:
        file.compose(_decode(data, source))
    except _StopError as stop:
        file.problems.append(stop.args)
        file.root = None
    return file


def _decode(data: bytes, source: str) -> str:
    if len(data) > MAX_BYTES:
        raise _StopError(Mark(source), f"more than {MAX_BYTES:,} bytes")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data:
        raise _StopError(Mark(source, 1, 1), "not UTF-8 text (UTF-16, or a binary file); save it as UTF-8")
    text = data.decode("utf-8-sig", "surrogateescape")
    if found := _UNFIT.search(text):  # before the parser, which is slow on many directives
        lines, character = re.split("\r\n|\r|\n", text[: found.start()]), found[0]
        what = f"{_code(character)} is not allowed; remove it"
        if character == "%":
            what = "a line that starts with % is a directive, which is not allowed; remove it"
        elif "\udc80" <= character <= "\udcff":
            what = f"byte 0x{ord(character) - 0xDC00:02x} is not UTF-8; save the file as UTF-8"
        raise _StopError(Mark(source, len(lines), len(lines[-1]) + 1), what)
    return text


def _code(character: str) -> str:
    return f"U+{ord(character):04X} ({unicodedata.name(character, 'control character')})"


def _events(text: str, source: str) -> Iterator[Any]:
    """The parser's events. Its one syntax error, which it stops at, is told in our words."""
    try:
        yield from yaml.parse(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        place, opened = error.problem_mark or error.context_mark, error.context_mark
        line, column = (place.line, place.column) if place else (0, 0)
        character = "".join(text.splitlines()[line : line + 1])[column : column + 1]  # "" at a line's end
        complaint = "tab character" if character == "\t" else f"{error.problem} {error.context}"
        at = f"line {opened.line + 1}, column {opened.column + 1}" if opened else "an earlier line"
        meanings = (meaning for pattern, meaning in _MEANINGS if re.search(pattern, complaint))
        told = next(meanings).format(opened=at, character=shown(character), problem=error.problem)
        raise _StopError(Mark(source, line + 1, column + 1), told) from None


class _Composer(SourceFile):
    """Builds values from the parser's events; a class because reading recurses over one stream."""

    events: Iterator[Any]
    values = 0

    def compose(self, text: str) -> None:
        """Read the one document of the text."""
        self.events = _events(text, self.source)
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
                raise _StopError(self.mark(event), "a second document starts here; remove this `---`")
            if isinstance(event, yaml.NodeEvent):
                self.root = self.value(event, ())
        if self.root is None:
            raise _StopError(Mark(self.source, 1, 1), "nothing in it; write at least one `key: value` line")

    def value(self, event: Any, address: Address) -> Plain:
        """The value that starts with this event."""
        self.values += 1
        if len(address) > MAX_DEPTH or self.values > MAX_VALUES:
            is_deep = len(address) > MAX_DEPTH
            what = f"nested more than {MAX_DEPTH} deep" if is_deep else f"more than {MAX_VALUES:,} values"
            raise _StopError(self.mark(event), what)
        self.marks.setdefault(address, self.mark(event))
        if isinstance(event, yaml.AliasEvent):
            text = f"alias {shown(f'*{event.anchor}')} is not allowed; write the value again"
            return self.refuse(event, address, text)
        if event.anchor:
            self.refuse(event, address, f"anchor {shown('&' + event.anchor)} is not allowed; remove it")
        if event.tag:
            self.refuse(event, address, f"tag {shown(event.tag)} is not allowed; remove it")
        if isinstance(event, yaml.MappingStartEvent):
            return self.mapping(address)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Plain] = []
            while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
                items.append(self.value(event, (*address, len(items))))
            return items
        text = self.text(event, address)
        if event.style:
            return text
        try:
            return resolve(text)
        except ValueError as error:
            return self.refuse(event, address, f"{shown(text)}: {error}" if text else str(error))

    def mapping(self, address: Address) -> Plain:
        """A mapping with text keys; the value of a refused key is read and dropped."""
        entries: dict[str, Plain] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self.key(event, address)
            inner = (*address, key)
            if key in entries:
                self.refuse(event, inner, f"duplicate key, first in line {self.key_marks[inner].line}; keep one")
            value = self.value(next(self.events), inner)
            if key not in entries and key:
                entries[key] = value
                self.key_marks.setdefault(inner, self.mark(event))
        return entries

    def key(self, event: Any, address: Address) -> str:
        """The text of a key; '' for one that is refused."""
        if not isinstance(event, yaml.ScalarEvent):
            self.value(event, (*address, "?"))
            self.refuse(event, address, "a key must be text; put it in quotes")
            return ""
        if event.anchor or event.tag:
            self.refuse(event, address, "a key must be plain text, without anchor or tag")
        key = self.text(event, (*address, event.value))
        if not key:
            self.refuse(event, address, "a key is missing before ':'")
        return key

    def text(self, event: Any, address: Address) -> str:
        """The text of a scalar, NFC-normalized, so that equal looks are equal values."""
        if unseen := _UNSEEN.search(event.value):
            self.refuse(event, address, f"{_code(unseen[0])} is not allowed in a text; remove it")
        if _PASSWORD.search(event.value):  # what a sweep file says is kept, and shown to everybody
            self.refuse(event, address, "an address with a password is not allowed; remove the password")
        return unicodedata.normalize("NFC", event.value)

    def refuse(self, event: Any, address: Address, text: str) -> Unreadable:
        """Note a problem and go on, with this in place of the value."""
        self.problems.append((self.mark(event), f"{dotted(address)}: {text}".removeprefix(": ")))
        return Unreadable.UNREADABLE

    def mark(self, event: Any) -> Mark:
        """Where the event starts."""
        return Mark(self.source, event.start_mark.line + 1, event.start_mark.column + 1)


def resolve(text: str) -> Scalar:
    """The value of a plain scalar. Raises ValueError that says how to write it."""
    lower = text.lower()
    if text in ("true", "false"):
        return text == "true"
    if _FLOAT.fullmatch(text):
        return _number(text)
    if lower in ("", "~", "null"):
        raise ValueError("no value; write one, or remove the line")
    if lower in ("true", "false"):
        raise ValueError(f"write {lower}, or put it in quotes if it is text")
    if _NOT_FINITE.fullmatch(text):
        raise ValueError("numbers must be finite; put it in quotes if it is text")
    if len(text) <= _MAX_DIGITS and _NUMBER_LIKE.fullmatch(text):
        raise ValueError("looks like a number, but numbers are written 8, 0.5 or 1e-3; put it in quotes if it is text")
    return text


def _number(text: str) -> int | float:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} characters; write at most {_MAX_DIGITS}")
    if text.lstrip("-").isdigit():
        if abs(int(text)) > _EXACT:
            raise ValueError("a whole number beyond 2^53; use a smaller one, or 1e20")
        return int(text)
    number = float(text) + 0.0  # -0.0 + 0.0 is 0.0
    if not math.isfinite(number) or (number == 0.0 and re.search("[1-9]", re.split("[eE]", text)[0])):
        raise ValueError("a number beyond what a 64-bit float can hold")
    return number
