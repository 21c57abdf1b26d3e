"""The promise of equal numbers, on real images with the real trainer: any number of jobs, interrupted or not."""

import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import numpy as np
import pytest
from command import Command, base_environment, wait_for
from keras_trials import to_the_bit
from mlflow_helpers import new_home

from mnist_ablate.ledger.ledger import Ledger
from mnist_ablate.workloads.keras_mnist import data

SWEEP = """
question: Do centered inputs hurt?
scientific: {normalizer: [unit, centered]}
fixed: {model: mlp, width: 64, epochs: 2}
seeds: 3
"""
CLAIM = """
claims:
  - name: centered-hurts
    statement: Centered inputs hurt.
    treatment: {normalizer: centered}
    control: {normalizer: unit}
    direction: lower
    margin: 0.005
"""
IMAGES = {"x_train": 3000, "y_train": 3000, "x_test": 1000, "y_test": 1000}

pytestmark = pytest.mark.slow


@pytest.fixture
def real(tmp_path):
    (tmp_path / "centered.yaml").write_text(SWEEP)
    return Command(tmp_path, base_environment(MLFLOW_TRACKING_URI=""))


def sweep(real, home, jobs):
    done = real("sweep", "centered.yaml", "--home", home, "--json", "--jobs", jobs)
    assert done.code == 0, done.err
    return done.document


def numbers(real, home):
    """Everything that was measured, to the bit; times left out."""
    entries = Ledger(f"sqlite:///{real.folder / home / 'ledger.db'}").find("centered").entries()
    outcomes = {id_: entry.outcome for id_, entry in entries.items()}
    return {id_: (to_the_bit(o), o.diagnostics, [epoch.metrics for epoch in o.epochs]) for id_, o in outcomes.items()}


def recorded(ledger):
    try:
        with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT count(*) FROM trials").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def test_numbers_are_the_same_bits_with_one_job_two_jobs_and_after_an_interrupt(real):
    for home in ("one", "two", "cut"):
        new_home(real.folder / home)
    one = sweep(real, "one", "1")
    assert sweep(real, "two", "2")["arms"] == one["arms"]
    assert numbers(real, "one") == numbers(real, "two")

    driver = real.start("sweep", "centered.yaml", "--home", "cut", "--json", "--jobs", "1")
    ledger = real.folder / "cut" / "ledger.db"
    wait_for(lambda: driver.poll() is not None or (ledger.exists() and recorded(ledger)), 100)
    driver.send_signal(signal.SIGINT)
    _, messages = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "run the same command again to continue" in messages
    assert "Traceback" not in messages
    assert 0 < recorded(ledger) < 6
    assert sweep(real, "cut", "2")["arms"] == one["arms"]
    assert numbers(real, "cut") == numbers(real, "one")


def test_a_sweep_in_lanes_is_verified_and_differs_from_one_at_a_time_by_rounding_alone(real):
    (real.folder / "centered.yaml").write_text(SWEEP + CLAIM)
    images = {name: getattr(data.load(), name)[:count] for name, count in IMAGES.items()}
    np.savez(real.folder / "few.npz", **images)
    found = {}
    for home, options in (("alone", ()), ("lanes", ("--lanes", "3"))):
        new_home(real.folder / home)
        done = real("sweep", "centered.yaml", "--home", home, "--json", "--jobs", "1", "--data", "few.npz", *options)
        assert done.code == 0, done.err
        found[home] = {claim["name"]: claim["verdict"] for claim in done.document["claims"]}
        assert real("verify", "centered", "--home", home).code == 0
    assert found["lanes"] == found["alone"]
    alone, lanes = numbers(real, "alone"), numbers(real, "lanes")
    assert alone.keys() == lanes.keys()
    for id_, (metrics, diagnostics, _epochs) in lanes.items():
        assert diagnostics["lanes"] > 1
        assert "lanes" not in alone[id_][1]
        assert metrics["val_loss"] == pytest.approx(alone[id_][0]["val_loss"], rel=1e-2)
        assert metrics["test_accuracy"] == pytest.approx(alone[id_][0]["test_accuracy"], abs=0.002)  # two images


def test_help_is_quick_and_quiet(real):
    """Beside a Python that imports what every program has: 3.3 times as long; 40 times with what a sweep imports."""
    usual, times = [], []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import argparse, json, logging, pathlib"], check=True)
        usual.append(time.perf_counter() - began)
        began = time.perf_counter()
        done = real("--help")
        times.append(time.perf_counter() - began)
        assert (done.code, done.err) == (0, "")
    assert min(times) < 8 * min(usual)
