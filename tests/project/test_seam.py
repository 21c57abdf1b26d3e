"""The seam: a workload that is no network goes through plan, engine, ledger, MLflow, verdicts and verification."""

import json
import re

import pytest
from command import Command, base_environment
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
def coin(tmp_path_factory: pytest.TempPathFactory) -> Command:
    folder = tmp_path_factory.mktemp("coin")
    (folder / "coin.yaml").write_text(SWEEP)
    new_home(folder / ".mnist-ablate")
    own = {"PYTHONPATH": str(SUPPORT), "MNIST_ABLATE_WORKLOAD": "coin_workload:COIN", "MLFLOW_TRACKING_URI": ""}
    return Command(folder, base_environment(**own))


def run(coin: Command, *words: str) -> str:
    done = coin(*words)
    assert done.code == 0, done.out + done.err
    return done.out


@pytest.mark.slow
def test_settings_and_choices_are_those_of_the_workload(coin: Command) -> None:
    assert "Heads seven times in ten." in run(coin, "list", "choices")
    assert "2 arms x 8 seeds" in run(coin, "plan", "coin.yaml")
    schema = json.loads(run(coin, "schema"))
    assert schema["definitions"]["rounds"]["maximum"] == 100
    assert schema["definitions"]["KnownClaim"]["properties"]["metric"]["enum"] == ["late_heads", "heads"]


@pytest.mark.slow
def test_a_sweep_of_another_workload_ends_in_a_verdict_that_verify_confirms(coin: Command) -> None:
    report = json.loads(run(coin, "sweep", "coin.yaml", "--json"))
    assert report["metric"] == "late_heads"
    assert report["trials"]["complete"] == 16
    assert [claim["verdict"] for claim in report["claims"]] == ["supported"]
    assert report["tuning"]["metric"] == "heads"
    shown = run(coin, "report", "coin")
    assert all(word in shown for word in ("late heads", "%", "pp"))
    run(coin, "report", "coin", "--output", "coin.html")
    page = (coin.folder / "coin.html").read_text()
    assert "The verdicts generalize over tosses; the coins stay the same." in page
    assert not re.search("image|accuracy", page)
    run(coin, "verify", "coin")
    assert json.loads(run(coin, "report", "coin", "--format", "json")) == report
