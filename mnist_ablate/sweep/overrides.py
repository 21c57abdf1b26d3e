"""`--set path=value` and `--seeds N`: put values into a file that was read, before anything is checked."""

from collections.abc import Iterable

from mnist_ablate.sweep import yaml_reader
from mnist_ablate.sweep.source_tree import Address, Mark, Node, Problem, SourceFile, dotted
from mnist_ablate.sweep.sweep import SECTIONS
from mnist_ablate.text import hint, plainly, shortened


def override(file: SourceFile, setting: str) -> None:
    """Set `fixed.NAME=2` or `claims.NAME.margin=0.01`; what is wrong is noted in the file's problems."""
    mark = Mark(f"--set {plainly(shortened(setting))}")
    path, equals, text = setting.partition("=")
    if not equals or not text.strip() or not path.strip("."):
        file.problems.append(Problem(mark, "write path=value, for example seeds=8"))
        return
    read = yaml_reader.parse(text.encode("utf-8", "surrogatepass"), mark.source)
    file.problems += [Problem(mark, f"{plainly(path)}: {problem.text}") for problem in read.problems]
    if read.root and file.root and (reason := _put(file.root, path, read.root.moved(mark), ())):
        file.problems.append(Problem(mark, reason))


def override_seeds(file: SourceFile, seeds: int) -> None:
    """Set the number of seeds, as `--seeds` does."""
    if file.root and isinstance(file.root.value, dict):
        mark = Mark(f"--seeds {seeds}")
        file.root.value["seeds"] = Node(mark, seeds, mark)


def _put(node: Node, path: str, value: Node, done: Address) -> str:
    """Put the value at the path below the node. Returns why that cannot be, or ''."""
    where = dotted(done)
    if isinstance(node.value, dict):
        return _put_entry(node.value, path, value, done)
    if isinstance(node.value, list) and done == ("claims",):
        return _put_claim(node.value, path, value)
    if isinstance(node.value, list):
        return f"{where} is a list; set it whole: {where}=[a, b]"
    return f"{where} is a single value: it has no {plainly(path)}" if done else ""


def _put_entry(entries: dict[str, Node], path: str, value: Node, done: Address) -> str:
    key, rest = _first(path, entries) or path.partition(".")[::2]
    if not done and key not in SECTIONS:
        return f"no such key: {plainly(key)}; {hint(key, SECTIONS)}"
    if not rest:
        entries[key] = value
        return ""
    if not done and key == "claims" and key not in entries:
        return f"no claim named {plainly(rest)}; this sweep has none"
    return _put(entries.setdefault(key, Node(value.mark, {}, value.mark)), rest, value, (*done, key))


def _put_claim(claims: list[Node], path: str, value: Node) -> str:
    names = [claim.child("name") for claim in claims]
    indices = {name.value: index for index, name in enumerate(names) if name and isinstance(name.value, str)}
    found = _first(path, indices)
    if found is None:
        wanted = path.partition(".")[0]
        return f"no claim named {plainly(wanted)}; {hint(wanted, indices, 'claims')}"
    claim, rest = found
    if rest:
        return _put(claims[indices[claim]], rest, value, ("claims", claim))
    claims[indices[claim]] = value
    return ""


def _first(path: str, names: Iterable[str]) -> tuple[str, str] | None:
    """The longest name that the path starts with, since names may hold dots, and the rest of the path."""
    matches = [name for name in names if path == name or path.startswith(f"{name}.")]
    name = max(matches, key=len, default=None)
    return None if name is None else (name, path[len(name) + 1 :])
