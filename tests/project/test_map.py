"""CONTRIBUTING.md maps the package: every file, with the first line of its docstring."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mnist_ablate"
MAP = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FOLDERS = [PACKAGE, *sorted(path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)]


def first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()[0]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_the_map_has_every_file_with_its_first_line(folder: Path) -> None:
    if folder.name == "registered":  # an old name of one module
        return
    section = MAP.split(f"### `{folder.relative_to(ROOT)}/`\n")[1].split("\n###")[0].split("\n## ")[0]
    assert first_line(folder / "__init__.py") in section
    told = [line for line in section.splitlines() if line.startswith("| `")]
    files = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
    assert told == [f"| `{path.name}` | {first_line(path)} |" for path in files]
