"""What a plain (unquoted) scalar means: a number, true, false or text; refuses what could be two of them."""

import math
import re

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*|(?=\.[0-9]))(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_NUMBER_LIKE = re.compile(
    r"[-+]?(\.?[0-9][0-9_.,]*(e[-+]?[0-9_]*)?|0x[0-9a-f_]+|0o[0-7_]+|0b[01_]+|[0-9]+(:[0-9]+)+(\.[0-9]*)?)",
    re.IGNORECASE,
)
_NOT_FINITE = re.compile(r"[-+]?\.?(inf|infinity|nan)", re.IGNORECASE)
_EXACT = 2**53  # beyond this neither JSON nor a float holds every whole number
_MAX_DIGITS = 40

Scalar = str | int | float | bool


class ScalarError(ValueError):
    """Why a scalar is refused and how to write it; the reader of the file adds the place."""


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
