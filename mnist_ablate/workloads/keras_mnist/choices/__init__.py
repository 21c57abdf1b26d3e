"""What a setting can be: a dict for each setting. A new choice is an entry in one of them, with a line about it."""

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def choice(summary: str, function: F) -> F:
    """A short function with its docstring, whose first line is what `list choices` prints of an entry."""
    function.__doc__ = summary
    return function
