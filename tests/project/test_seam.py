"""The seam: a workload that is no network goes through plan, engine, ledger, MLflow, verdicts and verification."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from command import PROGRAM, base_environment
from mlflow_helpers import new_home
from tiny_images import SUPPORT

SWEEP = """
question: Does the bent coin fall on heads more often?
scientific: {coin: [fair, bent]}
baseline: {coin: fair}
nuisance: {lift: {low: 0.01, high: 0.1}}
tuning_trials: 2
fixed: {rounds: 3}
seeds: 8
claims:
  - {name: bent, statement: The bent coin shows more heads., treatment: {coin: bent}, control: {coin: fair},
     direction: higher, margin: 0.05}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("coin")
    (made / "coin.yaml").write_text(SWEEP)
    new_home(made / "home")
    return made


def run(folder: Path, *words: str) -> str:
    coin = {"PYTHONPATH": str(SUPPORT), "MNIST_ABLATE_WORKLOAD": "coin_workload:COIN", "MLFLOW_TRACKING_URI": ""}
    environment = base_environment(**coin, MNIST_ABLATE_HOME=str(folder / "home"))
    done = subprocess.run([PROGRAM, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_settings_and_choices_are_those_of_the_workload(folder: Path) -> None:
    assert "Heads seven times in ten." in run(folder, "list", "choices")
    assert "2 arms x 8 seeds" in run(folder, "plan", "coin.yaml")
    schema = json.loads(run(folder, "schema"))
    assert schema["definitions"]["rounds"]["maximum"] == 100
    assert schema["definitions"]["Claim"]["properties"]["metric"]["enum"] == ["late_heads", "heads"]


@pytest.mark.slow
def test_a_sweep_of_another_workload_ends_in_a_verdict_that_verify_confirms(folder: Path) -> None:
    report = json.loads(run(folder, "sweep", "coin.yaml", "--json"))
    assert report["metric"] == "late_heads"
    assert report["trials"]["complete"] == 16
    assert [claim["verdict"] for claim in report["claims"]] == ["supported"]
    assert report["tuning"]["metric"] == "heads"
    shown = run(folder, "report", "coin")
    assert all(word in shown for word in ("late heads", "%", "pp"))
    run(folder, "report", "coin", "--output", "coin.html")
    page = (folder / "coin.html").read_text()
    assert "The seeds vary the tosses." in page
    assert not re.search("image|accuracy", page)
    run(folder, "verify", "coin")
    assert json.loads(run(folder, "report", "coin", "--format", "json")) == report
