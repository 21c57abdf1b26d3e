"""A home that 0.1.0 recorded: later versions read it to the digit and go on with it."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from command import Command
from sweep_runs import starts

GOLDEN = Path(__file__).parent / "data" / "home-0.1.0"


@pytest.fixture
def recorded(command: Command) -> Command:
    home = command.folder / ".mnist-ablate"
    home.mkdir()
    connection = sqlite3.connect(home / "ledger.db")
    connection.executescript((GOLDEN / "ledger.sql").read_text())
    connection.close()
    shutil.copy(GOLDEN / "small.yaml", command.folder)
    return command


@pytest.mark.slow
def test_a_recorded_home_is_read_and_goes_on(recorded: Command, images: Path, fake: Path) -> None:
    told = json.loads((GOLDEN / "report.json").read_text())
    found = recorded("report", "small", "--format", "json").document
    assert {name: found[name] for name in told} == told
    done = recorded("sweep", "small.yaml", "--data", str(images), "--json")
    assert done.code == 7, done.err  # there is no MLflow
    assert done.document["arms"] == told["arms"]
    arms = {f"{activation}/{seed}" for activation in ("relu", "tanh") for seed in range(3)}
    assert not arms & set(starts(fake))
