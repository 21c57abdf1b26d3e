"""The checker can fail: it finds every planted bug, and nothing in a healthy sweep."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from planted import BUGS, HEALTHY

from mnist_ablate import verify
from mnist_ablate.errors import SweepError
from mnist_ablate.settings import Settings

TESTS = Path(__file__).parent


@cache
def said() -> dict[str, dict[str, list[str]]]:
    """In a process of its own: it forks, and threads of other tests would not survive that."""
    program = [sys.executable, "-W", "ignore", str(TESTS / "planted.py")]
    answer = subprocess.run(program, capture_output=True, text=True, timeout=250, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]
    found: dict[str, dict[str, list[str]]] = json.loads(answer.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
def test_every_planted_bug_is_found(bug: str) -> None:
    problems = said()["bugs"][bug]
    assert problems
    for line in problems:
        assert line.startswith(("ledger: ", "MLflow: "))
        assert line.isprintable()


@pytest.mark.slow
@pytest.mark.parametrize("case", [*HEALTHY, "tuned", "searched"])
def test_nothing_is_found_in_a_healthy_sweep(case: str) -> None:
    assert said()["healthy"][case] == []


def test_verify_of_what_was_never_run_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="small: nothing recorded: run `mnist-ablate sweep small` first"):
        verify.problems("small", Settings(home=tmp_path / "home"))
    assert not [*tmp_path.iterdir()]


def test_checker_shares_nothing_with_what_records() -> None:
    recording = {
        "driver",
        "engine",
        "history",
        "ledger",
        "mirror",
        "publishing",
        "record",
        "runs",
        "standing",
        "uploader",
    }
    for name in ("verify", "verify_ledger", "verify_tracker", "raw_ledger", "raw_tracker"):
        text = (Path(verify.__file__).parent / f"{name}.py").read_text()
        words = {word for line in text.splitlines() if "import" in line for word in line.replace(",", " ").split()}
        modules = {word.removeprefix("mnist_ablate.") for word in words}
        assert not modules & recording, name
