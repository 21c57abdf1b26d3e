"""Runs that another program's store holds, as a table: a study of Optuna, an experiment of MLflow. Writes nothing."""

import os
from typing import Any

from mnist_ablate.errors import SweepError, UnreachableError, mask, one_line
from mnist_ablate.ledger.table_file import TableFile, of_frame
from mnist_ablate.text import hint, plainly
from mnist_ablate.tracking.client import check_answer, translate_errors
from mnist_ablate.tracking.home_store import database

_MOST_RUNS = 100_000


def of_optuna(url: str, study: str) -> TableFile:
    """The trials of a study, as Optuna's own `trials_dataframe` has them.

    Raises UnreachableError if the storage does not answer, SweepError if it has no such study.
    """
    import optuna
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = database(url)
    if path is not None and not path.exists():  # SQLite would make it
        raise UnreachableError(f"the Optuna storage {mask(url)} cannot be read: no such file")
    try:
        storage = optuna.storages.RDBStorage(url, skip_table_creation=True, skip_compatibility_check=False)
        names = optuna.get_all_study_names(storage)
    except (ArgumentError, ImportError):
        raise SweepError(f"--optuna {mask(url)}: not the address of a database: sqlite:///study.db") from None
    except (SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError, AssertionError) as error:
        reason = one_line(str(error.__cause__ or error))
        raise UnreachableError(f"the Optuna storage {mask(url)} cannot be read: {reason}") from None
    if study not in names:
        raise SweepError(f"--optuna: no study {plainly(study)}; {hint(study, names, 'studies')}")
    frame = optuna.load_study(study_name=study, storage=storage).trials_dataframe()
    return of_frame(frame, (f"the Optuna study {plainly(study)}",))


def of_mlflow(experiment: str) -> TableFile:
    """The runs of an experiment that are not deleted, in the columns of `mlflow.search_runs`.

    Raises UnreachableError if MLflow at MLFLOW_TRACKING_URI does not answer, SweepError if it has no such experiment.
    """
    import pandas as pd

    uri = os.environ.get("MLFLOW_TRACKING_URI") or ""
    if not uri:
        raise SweepError("--mlflow: set MLFLOW_TRACKING_URI to the server or the store that has the experiment")
    check_answer(uri)
    from mlflow import MlflowClient

    with translate_errors(uri):
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            names = [each.name for each in client.search_experiments(max_results=100)]
            raise SweepError(f"--mlflow: no experiment {plainly(experiment)}; {hint(experiment, names, 'experiments')}")
        runs: list[dict[str, Any]] = []
        token = None
        while token != "" and len(runs) < _MOST_RUNS:
            page = client.search_runs([found.experiment_id], max_results=1000, page_token=token or None)
            runs += [_columns(run) for run in page]
            token = page.token or ""
    return of_frame(pd.DataFrame(runs), (f"the MLflow experiment {plainly(experiment)}",))


def _columns(run: Any) -> dict[str, Any]:
    info, data = run.info, run.data
    return {
        "run_id": info.run_id,
        "status": info.status,
        "start_time": pd_time(info.start_time),
        **{f"params.{name}": value for name, value in data.params.items()},
        **{f"metrics.{name}": value for name, value in data.metrics.items()},
        **{f"tags.{name}": value for name, value in data.tags.items()},
    }


def pd_time(milliseconds: int | None) -> str:
    """A time in milliseconds since 1970 as text."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat() if milliseconds else ""
