"""Bytes to plain values with the place of each: a small, strict part of YAML; knows nothing of sweeps.

Allowed: one UTF-8 document (a byte order mark at its start is skipped) of mappings, lists, text, finite numbers,
true and false. Refused: anchors, aliases, tags, directives, duplicate keys, empty values, and whatever looks like a
number but is not written as one (010, 0x1f, 1_000, 1:30, .inf). `no`, `off` and dates are text.

PyYAML's parser gives the events. The rest is written here because every error is reported at once with its place,
within a tenth of a second: ruamel.yaml and strictyaml stop at the first, and need seconds for hostile files.
"""

import math
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import yaml

from mnist_ablate.sweep.source_tree import Address, Mark, Node, Problem, SourceFile, Unreadable, dotted
from mnist_ablate.text import shown
from mnist_ablate.trial import Scalar

MAX_BYTES = 256 * 1024
MAX_DEPTH = 8
MAX_VALUES = 3_000

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML has it: some 20 times faster
# Control characters, line breaks that editors do not count, and what reorders the text on the screen.
_UNSEEN = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
    "|[\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]"
)
_PASSWORD = re.compile(r"://[^\s/:@]{0,100}:(?!\*\*\*@)[^\s/@]{1,200}@")

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*|(?=\.[0-9]))(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_NUMBER_LIKE = re.compile(
    r"[-+]?(\.?[0-9][0-9_.,]*(e[-+]?[0-9_]*)?|0x[0-9a-f_]+|0o[0-7_]+|0b[01_]+|[0-9]+(:[0-9]+)+(\.[0-9]*)?)",
    re.IGNORECASE,
)
_NOT_FINITE = re.compile(r"[-+]?\.?(inf|infinity|nan)", re.IGNORECASE)
_EXACT = 2**53  # beyond this neither JSON nor a float holds every whole number
_MAX_DIGITS = 40

_UNFITTING = "this does not fit what is before it; check the indentation, the quotes and the brackets"
_MEANINGS = (  # part of the complaint of libyaml or of PyYAML's own parser: what it means
    (
        "mapping values are not allowed",
        "a ':' that does not fit; put a text that holds ': ' in quotes, or check the indentation",
    ),
    ("could not find expected ':'", "no ':' after the key; write `key: value`"),
    ("unknown escape character", "a backslash in double quotes; use single quotes"),
    ("did not find expected key", _UNFITTING),
    ("expected <block end>", _UNFITTING),
    ("'-' indicator", _UNFITTING),
    ("<document start>", _UNFITTING),
    ("node content", "a value is missing here; put text that starts with , [ ] { } in quotes"),
)


class ScalarError(ValueError):
    """Why a scalar is refused and how to write it; the reader of the file adds the place."""


class _StopError(Exception):
    """Reading cannot go on."""

    def __init__(self, mark: Mark, text: str) -> None:
        super().__init__(text)
        self.problem = Problem(mark, text)


def parse(data: bytes, source: str) -> SourceFile:
    """Read a file; everything wrong is in its `problems`, nothing is raised."""
    file = SourceFile(source)
    text = ""
    try:
        text = _decode(data, source)
        _Composer(text, file).compose()
    except _StopError as stop:
        file.problems.append(stop.problem)
        file.root = None
    except yaml.MarkedYAMLError as error:
        file.problems.append(_syntax_problem(error, text, source))
        file.root = None
    return file


def _decode(data: bytes, source: str) -> str:
    if len(data) > MAX_BYTES:
        raise _StopError(Mark(source), f"more than {MAX_BYTES:,} bytes")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data:
        raise _StopError(Mark(source, 1, 1), "not UTF-8 text (UTF-16, or a binary file); save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        mark = _mark_after(data[: error.start].decode("utf-8-sig", "replace"), source)
        raise _StopError(mark, f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8") from None
    if unseen := _UNSEEN.search(text):
        raise _StopError(_mark_after(text[: unseen.start()], source), f"{_code(unseen[0])} is not allowed; remove it")
    if directive := re.search(r"^%", text, re.MULTILINE):  # before the parser, which is slow on many
        mark = _mark_after(text[: directive.start()], source)
        raise _StopError(mark, "a line that starts with % is a directive, which is not allowed; remove it")
    return text


def _mark_after(before: str, source: str) -> Mark:
    lines = re.split("\r\n|\r|\n", before)
    return Mark(source, len(lines), len(lines[-1]) + 1)


def _code(character: str) -> str:
    name = unicodedata.name(character, "control character")
    return f"U+{ord(character):04X} ({name})"


class _Composer:
    """Builds the tree from the parser's events; a class because reading recurses over one stream."""

    def __init__(self, text: str, file: SourceFile) -> None:
        self.file = file
        self.values = 0
        self.events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)

    def compose(self) -> None:
        """Read the one document of the text."""
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent) and self.file.root is not None:
                raise _StopError(self.mark(event), "a second document starts here; remove this `---`")
            if isinstance(event, yaml.NodeEvent):
                self.file.root = self.node(event, ())
        if self.file.root is None:
            raise _StopError(Mark(self.file.source, 1, 1), "nothing in it; write at least one `key: value` line")

    def node(self, event: Any, address: Address) -> Node:
        """The value that starts with this event."""
        self.values += 1
        if len(address) > MAX_DEPTH:
            raise _StopError(self.mark(event), f"nested more than {MAX_DEPTH} deep")
        if self.values > MAX_VALUES:
            raise _StopError(self.mark(event), f"more than {MAX_VALUES:,} values")
        if isinstance(event, yaml.AliasEvent):
            return self.refuse(
                event, address, f"alias {shown(f'*{event.anchor}')} is not allowed; write the value again"
            )
        if event.anchor:
            self.report(event, address, f"anchor {shown('&' + event.anchor)} is not allowed; remove it")
        if event.tag:
            self.report(event, address, f"tag {shown(event.tag)} is not allowed; remove it")
        if isinstance(event, yaml.MappingStartEvent):
            return self.mapping(event, address)
        if isinstance(event, yaml.SequenceStartEvent):
            return self.sequence(event, address)
        return self.scalar(event, address)

    def sequence(self, start: Any, address: Address) -> Node:
        """A list."""
        items: list[Node] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self.node(event, (*address, len(items))))
        return Node(self.mark(start), items)

    def mapping(self, start: Any, address: Address) -> Node:
        """A mapping with text keys; the value of a refused key is read and dropped."""
        entries: dict[str, Node] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self.key(event, address)
            if key in entries:
                line = (entries[key].key_mark or entries[key].mark).line
                self.report(event, (*address, key), f"duplicate key, first in line {line}; keep one")
            node = self.node(next(self.events), (*address, key))
            if key not in entries and key:
                node.key_mark = self.mark(event)
                entries[key] = node
        return Node(self.mark(start), entries)

    def key(self, event: Any, address: Address) -> str:
        """The text of a key; '' for one that is refused."""
        if not isinstance(event, yaml.ScalarEvent):
            self.node(event, (*address, "?"))
            self.report(event, address, "a key must be text; put it in quotes")
            return ""
        if event.anchor or event.tag:
            self.report(event, address, "a key must be plain text, without anchor or tag")
        key = self.text(event, (*address, event.value))
        if not key:
            self.report(event, address, "a key is missing before ':'")
        return key

    def scalar(self, event: Any, address: Address) -> Node:
        """A single value: quoted and block scalars are text, plain ones are resolved."""
        text = self.text(event, address)
        if event.style is not None and event.style != "":
            return Node(self.mark(event), text)
        try:
            return Node(self.mark(event), resolve(text))
        except ScalarError as error:
            return self.refuse(event, address, f"{shown(text)}: {error}" if text else str(error))

    def text(self, event: Any, address: Address) -> str:
        """The text of a scalar, NFC-normalized, so that equal looks are equal values."""
        if unseen := _UNSEEN.search(event.value):
            self.report(event, address, f"{_code(unseen[0])} is not allowed in a text; remove it")
        if _PASSWORD.search(event.value):  # what a sweep file says is kept, and shown to everybody
            self.report(event, address, "an address with a password is not allowed; remove the password")
        return unicodedata.normalize("NFC", event.value)

    def refuse(self, event: Any, address: Address, text: str) -> Node:
        """Report a value and put a placeholder in its place."""
        self.report(event, address, text)
        return Node(self.mark(event), Unreadable.UNREADABLE)

    def report(self, event: Any, address: Address, text: str) -> None:
        """Note a problem and go on."""
        where = f"{dotted(address)}: " if address else ""
        self.file.problems.append(Problem(self.mark(event), where + text))

    def mark(self, event: Any) -> Mark:
        """Where the event starts; lines and columns from 1."""
        return Mark(self.file.source, event.start_mark.line + 1, event.start_mark.column + 1)


def resolve(text: str) -> Scalar:
    """The value of a plain scalar. Raises ScalarError."""
    if text in ("true", "false"):
        return text == "true"
    if _FLOAT.fullmatch(text):
        return _number(text)
    if reason := _refusal(text):
        raise ScalarError(reason)
    return text


def _number(text: str) -> int | float:
    if len(text) > _MAX_DIGITS:
        raise ScalarError(f"a number of {len(text)} characters; write at most {_MAX_DIGITS}")
    if _INTEGER.fullmatch(text):
        if abs(int(text)) > _EXACT:
            raise ScalarError("a whole number beyond 2^53; use a smaller one, or 1e20")
        return int(text)
    number = float(text) + 0.0  # -0.0 + 0.0 is 0.0
    if not math.isfinite(number) or (number == 0.0 and re.search("[1-9]", re.split("[eE]", text)[0])):
        raise ScalarError("a number beyond what a 64-bit float can hold")
    return number


def _refusal(text: str) -> str:
    """Why a text must not stand without quotes; '' if it may."""
    if text in ("", "~") or text.lower() == "null":
        return "no value; write one, or remove the line"
    if text.lower() in ("true", "false"):
        return f"write {text.lower()}, or put it in quotes if it is text"
    if _NOT_FINITE.fullmatch(text):
        return "numbers must be finite; put it in quotes if it is text"
    if len(text) <= _MAX_DIGITS and _NUMBER_LIKE.fullmatch(text):
        return "looks like a number, but numbers are written 8, 0.5 or 1e-3; put it in quotes if it is text"
    return ""


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, source: str) -> Problem:
    """The one syntax error that the parser stopped at."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Problem(Mark(source, 1, 1), f"not YAML: {error.problem}")
    lines = text.splitlines()
    character = lines[mark.line][mark.column : mark.column + 1] if mark.line < len(lines) else ""  # "": at a line's end
    return Problem(Mark(source, mark.line + 1, mark.column + 1), _meaning(error, character))


def _meaning(error: yaml.MarkedYAMLError, character: str) -> str:
    complaint, context = error.problem or "", error.context or ""
    opened = error.context_mark
    at = f"line {opened.line + 1}, column {opened.column + 1}" if opened else "an earlier line"
    if character == "\t" or "tab character" in complaint:
        return "a tab; indent and separate with spaces"
    if "cannot start any token" in complaint:
        return f"a value cannot start with {shown(character)}; put it in quotes"
    if "unexpected end of stream" in complaint:
        return f"the quote opened at {at} is not closed"
    if "flow sequence" in context or "flow mapping" in context:
        return f"the bracket opened at {at} is not closed here, or a comma is missing"
    for part, meaning in _MEANINGS:
        if part in complaint:
            return meaning
    return f"not YAML: {complaint}"
