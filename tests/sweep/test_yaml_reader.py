"""Protects what a sweep file may contain: nothing hidden, nothing built, nothing slow, and each place right."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from quiet_time import quiet_s

from mnist_ablate.sweep import yaml_reader
from mnist_ablate.sweep.yaml_reader import SourceFile, resolve


def read(text: str | bytes) -> SourceFile:
    return yaml_reader.parse(text.encode() if isinstance(text, str) else text, "x.yaml")


def plain(text: str | bytes) -> Any:
    document = read(text)
    assert document.root is not None
    assert document.problems == []
    return document.root


def lines(text: str | bytes) -> list[str]:
    return [f"{mark}: {problem}" for mark, problem in read(text).problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1\nb: [x, 2.5, true]\nc: {d: no}\n", {"a": 1, "b": ["x", 2.5, True], "c": {"d": "no"}}),
        ("a: '010'\nb: \"1\"\nc: |\n  1\n", {"a": "010", "b": "1", "c": "1\n"}),
        ("---\na: 1\n...\n", {"a": 1}),
        ("\ufeffa: 1\n", {"a": 1}),
        ("a: 1\r\nb: 2\r\n", {"a": 1, "b": 2}),
        ("1: a\ntrue: b\n2026-11-24: c", {"1": "a", "true": "b", "2026-11-24": "c"}),
        ("名前: あ # comment", {"名前": "あ"}),
        ("a: cafe\u0301", {"a": "caf\u00e9"}),
        ("[]", []),
        ("x", "x"),
        ("a: [1,\n  2,\n]", {"a": [1, 2]}),
    ],
)
def test_plain_values_are_read(text: str, value: object) -> None:
    assert plain(text) == value


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: &x 2", "2:4: b: anchor '&x' is not allowed; remove it"),
        ("a: *x", "1:4: a: alias '*x' is not allowed; write the value again"),
        ("a: !!python/object/apply:os.system [ls]", "1:4: a: tag 'tag:yaml.org,2002:python/object/apply:os.system' is"),
        ("a: !!int 3", "1:4: a: tag 'tag:yaml.org,2002:int' is not allowed; remove it"),
        ("a: ! 3", "1:4: a: tag '!' is not allowed; remove it"),
        ("? !x a\n: 1", "1:3: a key must be plain text, without anchor or tag"),
        ("[a]: 1", "1:1: a key must be text; put it in quotes"),
        ("a: {'': 1}", "1:5: a: a key is missing before ':'"),
        ("a: 1\nb: 2\na: 3", "3:1: a: duplicate key, first in line 1; keep one"),
        ("caf\u00e9: 1\ncafe\u0301: 2", "2:1: caf\u00e9: duplicate key, first in line 1; keep one"),
        ("a:\n  - 1\n  - b: 010", "3:8: a[1].b: '010': looks like a number"),
        ("a:\nb: 1", "1:3: a: no value; write one, or remove the line"),
        ("%YAML 1.2\n---\na: 1", "1:1: a line that starts with % is a directive, which is not allowed; remove it"),
        ("a: 1\n---\nb: 2", "2:1: a second document starts here; remove this `---`"),
        ("", "1:1: nothing in it; write at least one `key: value` line"),
        ("# only a comment\n", "1:1: nothing in it; write at least one `key: value` line"),
        ('a: "\\e[31m"', "1:4: a: U+001B (control character) is not allowed in a text; remove it"),
        ('a: "\\u202e"', "1:4: a: U+202E (RIGHT-TO-LEFT OVERRIDE) is not allowed in a text; remove it"),
        ("a: 1 # \u202e", "1:8: U+202E (RIGHT-TO-LEFT OVERRIDE) is not allowed; remove it"),
        ("a: 1\nb: \x07", "2:4: U+0007 (control character) is not allowed; remove it"),
        ("a: x\ufeffy", "1:5: U+FEFF (ZERO WIDTH NO-BREAK SPACE) is not allowed; remove it"),
        ("a: 1\u2028b: 2", "1:5: U+2028 (LINE SEPARATOR) is not allowed; remove it"),
        (b"a: 1\nb: caf\xe9", "2:7: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        (b"a: \xed\xa0\x80", "1:4: byte 0xed is not UTF-8; save the file as UTF-8"),
        ("a: 1".encode("utf-16"), "1:1: not UTF-8 text (UTF-16, or a binary file); save it as UTF-8"),
        ("a: 1".encode("utf-16-be"), "1:1: not UTF-8 text (UTF-16, or a binary file); save it as UTF-8"),
        ("a: 1".encode("utf-32"), "1:1: not UTF-8 text (UTF-16, or a binary file); save it as UTF-8"),
        (b"a: \0", "1:1: not UTF-8 text (UTF-16, or a binary file); save it as UTF-8"),
    ],
)
def test_what_is_not_plain_is_refused_with_its_place(text: str | bytes, line: str) -> None:
    assert any(f"{found}\n".startswith(f"x.yaml:{line}") for found in lines(text)), lines(text)


def test_every_problem_is_reported_not_only_the_first() -> None:
    assert len(lines("a: &x 010\nb: *x\nc: .inf\nc: 1\nd: ~")) == 6


@pytest.mark.parametrize("loader", [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)])
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a:\n\tb: 1", "2:1: a tab; indent and separate with spaces"),
        ("a:\n  b: 1\n\tc: 2", "3:1: a tab; indent and separate with spaces"),
        ("a: @x", "1:4: a value cannot start with '@'; put it in quotes"),
        ("a: b: c", "1:5: a ':' that does not fit; put a text that holds ': ' in quotes, or check the indentation"),
        ("a: [1\nb: 2", "2:2: the bracket opened at line 1, column 4 is not closed here, or a comma is missing"),
        ("a: {x: 1\nb: 2", "2:2: the bracket opened at line 1, column 4 is not closed here, or a comma is missing"),
        ("a: 'x\nb: 1", "2:5: the quote opened at line 1, column 4 is not closed"),
        ("a: 1\nb\nc: 2", "3:1: no ':' after the key; write `key: value`"),
        (
            "a:\n  - b\n c: 1",
            "3:2: this does not fit what is before it; check the indentation, the quotes and the brackets",
        ),
        ("a: ]", "1:4: a value is missing here; put text that starts with , [ ] { } in quotes"),
    ],
)
def test_syntax_errors_say_what_to_change(monkeypatch: pytest.MonkeyPatch, loader: type, text: str, line: str) -> None:
    monkeypatch.setattr(yaml_reader, "_LOADER", loader)
    assert lines(text) == [f"x.yaml:{line}"]


def test_nothing_is_read_after_a_syntax_error() -> None:
    assert read("a: 1\nb: [").root is None


KILO = 256 * 1024
BOMBS = {
    "billion laughs": b"a: &a [x, x]\n"
    + b"".join(b"%c: &%c [*%c, *%c]\n" % (n, n, n - 1, n - 1) for n in range(98, 123)),
    "deep lists": b"[" * KILO,
    "deep lists, one a line": b"[\n" * (KILO // 2),
    "deep mappings": b"{a: " * (KILO // 4),
    "deep blocks": b"- " * (KILO // 2),
    "deep keys": b"? " * (KILO // 2),
    "keys in lists": b"[? " * (KILO // 3),
    "many keys": b"".join(b"k%d: 1\n" % n for n in range(20_000)),
    "many duplicates": b"a: 1\n" * (KILO // 5),
    "many anchors": b"- &a x\n" * 37_000,
    "many directives": b"".join(b"%%TAG !a%d! b\n" % n for n in range(14_000)),
    "many documents": b"---\n" * (KILO // 4),
    "many colons": b":" * KILO,
    "many escapes": b'a: "' + b"\\u202e" * 40_000 + b'"',
    "a long number": b"a: " + b"9" * (KILO - 3),
    "a long almost number": b"a: &a 1" + b"_" * (KILO - 7),
    "a long time": b"a: &a 1" + b":1" * (KILO // 2 - 4),
    "too long": b"#" * (KILO + 1),
}


@pytest.mark.parametrize("name", BOMBS)
def test_hostile_files_are_refused_within_a_tenth_of_a_second(name: str) -> None:
    assert read(BOMBS[name]).problems
    assert quiet_s(lambda: read(BOMBS[name])) < 0.1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[" * 9, "x.yaml:1:10: nested more than 8 deep"),
        ("- x\n" * 3_001, "x.yaml:3000:3: more than 3,000 values"),
        ("#" * (KILO + 1), "x.yaml: more than 262,144 bytes"),
    ],
)
def test_limits_are_named(text: str, line: str) -> None:
    assert lines(text + "x" if text.startswith("[") else text) == [line]


def test_eight_levels_are_allowed() -> None:
    assert plain("[" * 8 + "]" * 8) == [[[[[[[[]]]]]]]]


@pytest.mark.parametrize(
    ("kind", "texts"), [(int, "0 -0 8 -12 9007199254740992"), (float, "1.0 1. .5 -.5 1e-3 1E+3 2.5e2 1e20")]
)
def test_numbers_are_read(kind: type, texts: str) -> None:
    for text in texts.split():
        read = resolve(text)
        assert read == kind(text)
        assert type(read) is kind


def test_booleans_are_read_and_minus_zero_is_zero() -> None:
    assert resolve("true") is True
    assert resolve("false") is False
    assert str(resolve("-0.0")) == "0.0"


def test_text_stays_text() -> None:
    texts = "relu no off yes on none 2026-11-24 3x500 5% 1-2 . - e5 \uff15"
    for text in ("12 images", *texts.split()):
        assert resolve(text) == text


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (
            "010 0o17 0x1F 0b101 1_000 1,000 0,5 1:30 1:30:00.5 +1 +.5 1e 1.2.3 00.5",
            "looks like a number, but numbers are",
        ),
        (".inf -.INF inf Infinity .nan NaN", "numbers must be finite; put it in quotes if it is text"),
        ("~ null Null NULL", "no value; write one, or remove the line"),
        ("True", "write true, or put it in quotes"),
        ("FALSE", "write false, or put it in quotes"),
        ("1e999 1e-999", "beyond what a 64-bit float can hold"),
        ("9007199254740993", r"beyond 2\^53"),
        ("9" * 41, "a number of 41 characters; write at most 40"),
    ],
)
def test_what_is_no_plain_value_is_refused(texts: str, reason: str) -> None:
    for text in texts.split():
        with pytest.raises(ValueError, match=reason):
            resolve(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_python_prints_is_read_back(number: float) -> None:
    assert resolve(repr(number)) == number


@given(st.text(max_size=30))
def test_any_text_is_a_value_or_refused(text: str) -> None:
    try:
        value = resolve(text)
    except ValueError:
        return
    assert value == text or isinstance(value, int | float)
