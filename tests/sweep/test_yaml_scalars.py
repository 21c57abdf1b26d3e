"""Protects the grammar of numbers: nothing that looks like one may silently become another, or text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_ablate.sweep.yaml_reader import ScalarError, resolve


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-0", 0),
        ("8", 8),
        ("-12", -12),
        ("9007199254740992", 2**53),
        ("1.0", 1.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.5", -0.5),
        ("1e-3", 1e-3),
        ("1E+3", 1e3),
        ("2.5e2", 250.0),
        ("1e20", 1e20),
        ("true", True),
        ("false", False),
    ],
)
def test_numbers_and_booleans_are_read(text: str, value: object) -> None:
    read = resolve(text)
    assert read == value
    assert type(read) is type(value)


def test_minus_zero_is_zero() -> None:
    assert str(resolve("-0.0")) == "0.0"


@pytest.mark.parametrize(
    "text",
    [
        "relu",
        "no",
        "off",
        "yes",
        "on",
        "none",
        "2026-11-24",
        "3x500",
        "5%",
        "1-2",
        ".",
        "-",
        "e5",
        "12 images",
        "\uff15",
    ],
)
def test_text_stays_text(text: str) -> None:
    assert resolve(text) == text


@pytest.mark.parametrize(
    "text",
    ["010", "0o17", "0x1F", "0b101", "1_000", "1,000", "0,5", "1:30", "1:30:00.5", "+1", "+.5", "1e", "1.2.3", "00.5"],
)
def test_what_only_looks_like_a_number_is_refused(text: str) -> None:
    with pytest.raises(ScalarError, match=r"looks like a number, but numbers are written 8, 0\.5 or 1e-3"):
        resolve(text)


@pytest.mark.parametrize("text", [".inf", "-.INF", "inf", "Infinity", ".nan", "NaN"])
def test_infinite_numbers_are_refused(text: str) -> None:
    with pytest.raises(ScalarError, match="numbers must be finite; put it in quotes if it is text"):
        resolve(text)


@pytest.mark.parametrize("text", ["", "~", "null", "Null", "NULL"])
def test_no_value_is_refused(text: str) -> None:
    with pytest.raises(ScalarError, match="no value; write one, or remove the line"):
        resolve(text)


@pytest.mark.parametrize("text", ["True", "FALSE"])
def test_other_spellings_of_booleans_are_refused(text: str) -> None:
    with pytest.raises(ScalarError, match=f"write {text.lower()}, or put it in quotes"):
        resolve(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1e999", "beyond what a 64-bit float can hold"),
        ("1e-999", "beyond what a 64-bit float can hold"),
        ("9007199254740993", r"beyond 2\^53"),
        ("9" * 41, "a number of 41 characters; write at most 40"),
    ],
)
def test_numbers_that_would_change_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ScalarError, match=reason):
        resolve(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_python_prints_is_read_back(number: float) -> None:
    assert resolve(repr(number)) == number


@given(st.text(max_size=30))
def test_any_text_is_a_value_or_refused(text: str) -> None:
    try:
        value = resolve(text)
    except ScalarError:
        return
    assert value == text or isinstance(value, int | float)
