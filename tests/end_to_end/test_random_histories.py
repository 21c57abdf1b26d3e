"""Random histories, a few; `make faults` plays more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_every_history_ends_well() -> None:
    program = [
        sys.executable,
        "-W",
        "ignore",
        str(Path(__file__).parents[1] / "campaigns" / "random_histories.py"),
        "4",
    ]
    answer = subprocess.run(program, capture_output=True, text=True, timeout=250, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]
    told = json.loads(answer.stdout)
    assert told["problems"] == []
    assert told["steps"] > 20
