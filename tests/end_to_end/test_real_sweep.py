"""The promise of equal numbers, on real images with the real trainer: any number of jobs, interrupted or not."""

import json
import signal
import sqlite3
import subprocess
import time
from contextlib import closing

import pytest
from command import PROGRAM, base_environment
from mlflow_helpers import new_home

from mnist_ablate.ledger.ledger import Ledger

SWEEP = """
question: Do centered inputs hurt?
scientific: {normalizer: [unit, centered]}
fixed: {model: mlp, width: 64, epochs: 2}
seeds: 3
"""

EMBEDDED = base_environment(MLFLOW_TRACKING_URI="")

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "centered.yaml").write_text(SWEEP)
    return tmp_path


def command(home, *options):
    return [PROGRAM, "sweep", "centered.yaml", "--home", home, "--json", *options]


def numbers(folder, home):
    """Everything that was measured, to the bit; times left out."""
    entries = Ledger(f"sqlite:///{folder / home / 'ledger.db'}").find("centered").entries()
    outcomes = {id_: entry.outcome for id_, entry in entries.items()}
    return {id_: (o.metrics, o.diagnostics, [epoch.metrics for epoch in o.epochs]) for id_, o in outcomes.items()}


def sweep(folder, home, *options):
    words = command(home, *options)
    done = subprocess.run(words, cwd=folder, env=EMBEDDED, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_numbers_are_the_same_bits_with_one_job_two_jobs_and_after_an_interrupt(folder):
    for home in ("one", "two", "cut"):
        new_home(folder / home)
    one = sweep(folder, "one", "--jobs", "1")
    two = sweep(folder, "two", "--jobs", "2")
    assert one["arms"] == two["arms"]
    assert numbers(folder, "one") == numbers(folder, "two")

    started = {"env": EMBEDDED, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command("cut", "--jobs", "1"), cwd=folder, **started) as driver:
        ledger = folder / "cut" / "ledger.db"
        while driver.poll() is None and not (ledger.exists() and recorded(ledger)):
            time.sleep(0.1)
        driver.send_signal(signal.SIGINT)
        _, messages = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "run the same command again to continue" in messages
    assert "Traceback" not in messages
    assert 0 < recorded(ledger) < 6
    assert sweep(folder, "cut", "--jobs", "2")["arms"] == one["arms"]
    assert numbers(folder, "cut") == numbers(folder, "one")


def recorded(ledger):
    try:
        with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT count(*) FROM trials").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def test_help_is_quick_and_quiet(folder):
    times = []
    for _ in range(5):
        clock = time.perf_counter()
        done = subprocess.run([PROGRAM, "--help"], cwd=folder, capture_output=True, text=True, timeout=20)
        times.append(time.perf_counter() - clock)
        assert done.returncode == 0
        assert done.stderr == ""
    assert min(times) < 0.3
