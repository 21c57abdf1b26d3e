"""The winner of a sweep in MLflow's model registry: chosen on validation data, once, loadable, told in tags."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from command import PROGRAM, Command, base_environment
from ledger_records import outcome
from mlflow import MlflowClient
from mlflow_helpers import new_home
from sweep_runs import small, sweep_file

from mnist_ablate.ledger.progress import winner
from mnist_ablate.sweep.plan import Plan, PlannedTrial, make_plan
from mnist_ablate.trial import Params, RecordedTrial

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's tables, SQLAlchemy 2.1
USE = """
from mlflow import pyfunc
from mnist_ablate.workloads.keras_mnist import data
digits = data.load()
model = pyfunc.load_model("models:/mnist-ablate-tiny/1")
print((model.predict(digits.x_test) == digits.y_test).mean())
"""


def entry(planned: PlannedTrial, status: str = "complete", **metrics: float) -> RecordedTrial:
    made = outcome(planned, status)
    changed = made.model_copy(update={"metrics": {**made.metrics, **metrics}})
    return RecordedTrial(planned.trial, planned.arm.params, planned.stage, changed)


def won(plan: Plan, *entries: RecordedTrial) -> tuple[Params, int] | None:
    """Params and seed of the winner, with these entries; the other trials are equal."""
    made = [entry(each, val_accuracy=0.9, test_accuracy=0.9) for each in plan.verdict_trials()]
    found = winner(plan, {each.trial.id: each for each in (*made, *entries)})
    return found and (found.params, found.trial.seed)


def test_the_winner_is_the_best_by_validation_of_the_arms_that_completed_every_seed() -> None:
    plan = make_plan(small(), "d1" * 32)
    relu, tanh, _, tanh_again, *_ = plan.verdict_trials()
    best = entry(tanh, val_accuracy=0.99)
    assert won(plan, entry(relu, test_accuracy=0.99), best) == ({"activation": "tanh"}, 0)
    assert won(plan, best, entry(tanh_again, "diverged")) == ({"activation": "relu"}, 0)
    assert winner(plan, {each.trial.id: entry(each) for each in plan.verdict_trials()[:-1]}) is None


def test_a_search_has_its_own_winner() -> None:
    search = small(design="search", tuning_trials=2, claims=[], baseline={"activation": "relu"})
    plan = make_plan(search, "d1" * 32)
    scores = {"relu": 0.8, "tanh": 0.9}
    known = [entry(plan.searched({"activation": name}), val_accuracy=score) for name, score in scores.items()]
    best = {"baseline": {}, "winner": {"activation": "tanh"}}
    known += [entry(each, val_accuracy=0.5) for each in plan.verdict_trials(best)]
    found = winner(plan, {each.trial.id: each for each in known})
    assert found is not None
    assert (found.params, found.trial.settings["activation"]) == ({"configuration": "winner"}, "tanh")


def versions(uri: str, name: str) -> list[Any]:
    return list(MlflowClient(tracking_uri=uri).search_model_versions(f"name = '{name}'"))


@pytest.mark.slow
def test_register_puts_the_winner_there_once_and_without_mlflow_not_at_all(command: Command, images: Path) -> None:
    sweep_file(command.folder)
    uri = new_home(command.folder / ".mnist-ablate")
    words = ("sweep", "small.yaml", "--data", str(images), "--register")
    done = command(*words)
    assert done.code == 7
    assert "registered:" not in done.err
    done = command(*words, MLFLOW_TRACKING_URI=uri)
    assert done.code == 0, done.err
    assert "registered: mnist-ablate-small version 1 (relu seed 0)\n" in done.err
    (version,) = versions(uri, "mnist-ablate-small")
    client = MlflowClient(tracking_uri=uri)
    assert client.get_run(version.run_id).data.tags["trial_id"] == version.tags["trial_id"]
    assert {"arm": "relu", "seed": "0", "same_numbers_as_recorded": "true"}.items() <= version.tags.items()
    assert version.tags["verdict.tanh-hurts"] in {"supported", "inconclusive"}
    kept = sorted(each.path for each in client.list_artifacts(version.run_id, "model"))
    assert kept == ["model/MLmodel", "model/model.json", "model/model.weights.h5"]
    again = command(*words, MLFLOW_TRACKING_URI=uri)
    assert again.code == 0
    assert "registered: mnist-ablate-small version 1 (relu seed 0), as it was" in again.err
    assert len(versions(uri, "mnist-ablate-small")) == 1
    assert command("verify", "small", MLFLOW_TRACKING_URI=uri).code == 0


@pytest.mark.slow
def test_a_registered_network_tells_digits(tmp_path: Path) -> None:
    content = {"question": "q", "fixed": {"width": 32, "epochs": 1}, "seeds": 1}
    (tmp_path / "tiny.yaml").write_text(json.dumps({**content, "scientific": {"normalizer": ["pixelwise"]}}))
    uri = new_home(tmp_path / ".mnist-ablate")
    run = partial(subprocess.run, env=base_environment(MLFLOW_TRACKING_URI=uri), capture_output=True, text=True)
    done = run([PROGRAM, "sweep", "tiny.yaml", "--register", "--json"], cwd=tmp_path, timeout=200)
    assert done.returncode == 0, done.stderr
    (version,) = versions(uri, "mnist-ablate-tiny")
    assert version.tags["same_numbers_as_recorded"] == "true"
    found = run([sys.executable, "-W", "ignore", "-c", USE], timeout=100)
    assert found.returncode == 0, found.stderr
    assert float(found.stdout) == pytest.approx(float(version.tags["test_accuracy"]), abs=2e-4)
    assert json.loads(done.stdout)["arms"][0]["mean"] == float(version.tags["test_accuracy"])
