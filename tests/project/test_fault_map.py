"""docs/explanation/faults.md names tests that exist, for every fault."""

import re
from pathlib import Path

FAULTS = 30


def test_every_fault_names_tests_that_exist() -> None:
    tests = Path(__file__).parents[1]
    page = (tests.parent / "docs" / "explanation" / "faults.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \|.*\|(.*)\|$", page, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, FAULTS + 1))
    for number, cell in rows:
        named = re.findall(r"`(\w+)::(\w+)`", cell)
        assert named, f"fault {number} names no test"
        for module, test in named:
            assert f"def {test}(" in next(tests.rglob(f"{module}.py")).read_text(), f"fault {number}: {module}::{test}"
