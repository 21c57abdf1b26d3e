"""Studies and experiments that other programs made by their own calls are judged as they are."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from mlflow_helpers import new_home

from mnist_ablate.errors import SweepError, UnreachableError
from mnist_ablate.ledger.results_table import metrics_of, read
from mnist_ablate.ledger.table_file import TableFile
from mnist_ablate.reports import judging
from mnist_ablate.reports.report import Report
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.tracking import foreign_runs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),  # MLflow's tables, SQLAlchemy 2.1
]
SWEEP = Sweep.model_validate({
    "name": "digits",
    "question": "Does a network on digits need a nonlinearity?",
    "scientific": {"activation": ["relu", "identity"]},
    "seeds": 10,
    "claims": [
        {
            "name": "helps", "statement": "Relu beats no activation.", "treatment": {"activation": "relu"},
            "control": {"activation": "identity"}, "direction": "higher", "margin": 0.005, "metric": "test_accuracy",
            "collapse_at": 0.2,
        }
    ],
})  # fmt: skip
KERAS_TUNER = Path(__file__).parents[1] / "ledger" / "kerastuner_project"
"""What `GridSearch.search()` of KerasTuner 1.4.8 wrote: networks on scikit-learn's digits, with ten seeds."""


def accuracies() -> dict[tuple[str, int], float]:
    found = {}
    for path in KERAS_TUNER.glob("*/trial.json"):
        state = json.loads(path.read_text())
        values = state["hyperparameters"]["values"]
        found[values["activation"], values["seed"]] = state["score"]
    assert len(found) == 20
    return found


def judged(source: Path | TableFile) -> Report:
    return judging.of_table(SWEEP, read(source, SWEEP.factors, metrics_of(SWEEP)))


def check(report: Report, read_as: str) -> None:
    (claim,) = report.claims
    assert (claim.verdict, claim.n_pairs, report.trials.complete) == ("refuted", 10, 20)
    assert claim.effect == pytest.approx(-0.1128, abs=1e-4)
    assert report.table is not None
    assert report.table.read_as == read_as


def test_a_project_of_keras_tuner() -> None:
    check(judged(KERAS_TUNER), "a KerasTuner project, KerasTuner's columns")


@pytest.fixture
def study(tmp_path: Path) -> str:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    measured, space = accuracies(), {"activation": ["relu", "identity"], "seed": [*range(10)]}

    def objective(trial: optuna.Trial) -> float:
        arm = trial.suggest_categorical("activation", ["relu", "identity"])
        return measured[str(arm), trial.suggest_int("seed", 0, 9)]

    url = f"sqlite:///{tmp_path / 'study.db'}"
    sampler = optuna.samplers.GridSampler(space, seed=0)
    made = optuna.create_study(storage=url, study_name="digits", direction="maximize", sampler=sampler)
    made.optimize(objective, n_trials=20)
    made.trials_dataframe().to_csv(tmp_path / "optuna.csv", index=False)
    return url


def test_a_study_of_optuna(study: str, tmp_path: Path) -> None:
    check(judged(tmp_path / "optuna.csv"), "`,`, decimal point, UTF-8, Optuna's columns, value is test_accuracy")
    check(
        judged(foreign_runs.of_optuna(study, "digits")),
        "the Optuna study digits, Optuna's columns, value is test_accuracy",
    )
    with pytest.raises(SweepError, match="--optuna: no study digit; did you mean 'digits'\\? studies: digits"):
        foreign_runs.of_optuna(study, "digit")
    with pytest.raises(SweepError, match="not the address of a database"):
        foreign_runs.of_optuna("study.db", "digits")
    with pytest.raises(UnreachableError, match="cannot be read: no such file"):
        foreign_runs.of_optuna(f"sqlite:///{tmp_path / 'x.db'}", "digits")
    assert not (tmp_path / "x.db").exists()
    (tmp_path / "no.db").write_text("no database")
    with pytest.raises(UnreachableError, match=r"cannot be read: .*file is not a database"):
        foreign_runs.of_optuna(f"sqlite:///{tmp_path / 'no.db'}", "digits")


def test_an_experiment_of_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    uri = new_home(tmp_path / "home")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    warnings.simplefilter("ignore")
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("digits")
    with mlflow.start_run(run_name="grid"):
        for (arm, seed), value in accuracies().items():
            with mlflow.start_run(nested=True):
                mlflow.log_params({"activation": arm, "seed": seed})
                mlflow.log_metric("test_accuracy", value)
    frame: Any = mlflow.search_runs(experiment_names=["digits"])
    frame.to_csv(tmp_path / "mlflow.csv", index=False)
    report = judged(tmp_path / "mlflow.csv")
    check(report, "`,`, decimal point, UTF-8, MLflow's columns")
    assert report.table is not None
    assert report.table.left_out == {"no arm": {"without settings": 1}}
    check(judged(foreign_runs.of_mlflow("digits")), "the MLflow experiment digits, MLflow's columns")
    with pytest.raises(SweepError, match="--mlflow: no experiment digts; did you mean 'digits'\\?"):
        foreign_runs.of_mlflow("digts")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(SweepError, match="--mlflow: set MLFLOW_TRACKING_URI to the server or the store"):
        foreign_runs.of_mlflow("digits")
