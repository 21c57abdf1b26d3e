"""Random histories, a few; `make faults` plays more."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_every_history_ends_well() -> None:
    tests = Path(__file__).parents[1]
    program = [sys.executable, "-W", "ignore", str(tests / "campaigns" / "random_histories.py"), "4"]
    path = os.pathsep.join(str(tests / name) for name in ("support", "campaigns", "."))
    environment = {**os.environ, "PYTHONPATH": path}
    answer = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]
    told = json.loads(answer.stdout)
    assert told["problems"] == []
    assert told["steps"] > 20
