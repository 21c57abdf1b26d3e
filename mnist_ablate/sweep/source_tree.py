"""A sweep file as a tree of values with their places, and what is wrong with it; reads no file, judges no value."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, TypeAlias

from mnist_ablate.errors import SweepError
from mnist_ablate.text import plainly

Address = tuple[str | int, ...]
"""The way to a value from the top of a file: ("scientific", "width", 0)."""

MAX_PROBLEMS = 50


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


class Unreadable(Enum):
    """Stands where a value was refused, so that no check reports it again."""

    UNREADABLE = "unreadable"


Plain: TypeAlias = "str | int | float | bool | Unreadable | list[Plain] | dict[str, Plain]"


@dataclass
class Node:
    """A value, where it starts and where its key stands; collections hold nodes."""

    mark: Mark
    value: "str | int | float | bool | Unreadable | list[Node] | dict[str, Node]"
    key_mark: Mark | None = None

    def child(self, part: str | int) -> "Node | None":
        """The entry or the item of that name or index, if there is one."""
        if isinstance(self.value, dict) and isinstance(part, str):
            return self.value.get(part)
        if isinstance(self.value, list) and isinstance(part, int) and part < len(self.value):
            return self.value[part]
        return None

    def plain(self) -> Plain:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value

    def moved(self, mark: Mark) -> "Node":
        """The same value, all of it at one place."""
        value = self.value
        if isinstance(value, dict):
            value = {key: node.moved(mark) for key, node in value.items()}
        elif isinstance(value, list):
            value = [node.moved(mark) for node in value]
        return Node(mark, value, mark)


@dataclass
class SourceFile:
    """What was read from a source and what is wrong with it; `root` is None where reading stopped early."""

    source: str
    root: Node | None = None
    problems: list[Problem] = field(default_factory=list)

    def located(self, finding: Finding) -> Problem:
        """A finding with its place, or that of the closest value around it, and its address in words."""
        node = self.root
        mark = node.mark if node else Mark(self.source, 1, 1)
        for part in finding.address:
            node = node.child(part) if node else None
            if node is None:
                break
            mark = node.mark
            key_mark = node.key_mark
        else:
            if finding.at_key and finding.address:
                mark = key_mark or mark
        where = dotted(self._named(finding.address))
        return Problem(mark, f"{where}: {finding.text}" if where else finding.text)

    def _named(self, address: Address) -> Address:
        """The address with the names of list items in place of their indices, as `--set` takes it."""
        node, parts = self.root, []
        for part in address:
            node = node.child(part) if node else None
            name = node.child("name") if node and isinstance(part, int) else None
            parts.append(name.value if name and isinstance(name.value, str) and name.value else part)
        return tuple(parts)


def raise_if_any(problems: Iterable[Problem]) -> None:
    """Raise one SweepError with a line for each problem: those of the file in its order, then those of the flags."""
    ordered = sorted(problems, key=lambda problem: (not problem.mark.line, problem.mark[1:]))
    lines = list(dict.fromkeys(f"{mark}: {text}" for mark, text in ordered))
    if len(lines) > MAX_PROBLEMS:
        lines[MAX_PROBLEMS:] = [f"{ordered[0].mark.source}: and more; correct these {MAX_PROBLEMS} first"]
    if lines:
        raise SweepError("\n".join(lines))


def dotted(address: Address) -> str:
    """An address as it is written after `--set`: ("scientific", "width", 0) is scientific.width[0]."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{plainly(part)}" for part in address)
    return "".join(parts).removeprefix(".")
