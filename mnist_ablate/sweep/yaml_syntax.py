"""The YAML parser's complaints in words that say what to change; parses nothing."""

import yaml

from mnist_ablate.problems import Mark, Problem, shown

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


def problem(error: yaml.MarkedYAMLError, text: str, source: str) -> Problem:
    """The one syntax error that the parser stopped at."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Problem(Mark(source, 1, 1), f"not YAML: {error.problem}")
    return Problem(
        Mark(source, mark.line + 1, mark.column + 1),
        _meaning(error, _character(text, mark.line, mark.column)),
    )


def _character(text: str, line: int, column: int) -> str:
    """The character at a place; '' at the end of a line."""
    lines = text.splitlines()
    return lines[line][column : column + 1] if line < len(lines) else ""


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
