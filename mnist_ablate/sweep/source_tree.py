"""A file as a tree of plain values, each with its place; reads no file and judges no value."""

from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from mnist_ablate.problems import Address, Finding, Mark, Problem, dotted


class Unreadable(Enum):
    """Stands where a value was refused, so that nobody reports it again."""

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
class Document:
    """What was read from a source and what could not be; `root` is None where reading stopped early."""

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
        where = dotted(self.named(finding.address))
        return Problem(mark, f"{where}: {finding.text}" if where else finding.text)

    def named(self, address: Address) -> Address:
        """The address with the names of list items in place of their indices, as `--set` takes it."""
        node, parts = self.root, []
        for part in address:
            node = node.child(part) if node else None
            name = node.child("name") if node and isinstance(part, int) else None
            parts.append(name.value if name and isinstance(name.value, str) and name.value else part)
        return tuple(parts)
