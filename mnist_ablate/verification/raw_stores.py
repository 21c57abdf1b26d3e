"""The rows of the ledger and of MLflow as their databases hold them, for `verify`; changes nothing, translates nothing.

MLflow's database is read directly, which takes milliseconds; a server is asked for each curve.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import sqlalchemy
from sqlalchemy import text

from mnist_ablate.errors import SweepError
from mnist_ablate.ledger import database as ledger_database
from mnist_ablate.ledger.database import connect_args, sqlite_file
from mnist_ablate.ledger.raw_records import RawStudy, RawTrial
from mnist_ablate.tracking.client import check_answer, connect, database_error, translate_errors
from mnist_ablate.tracking.home_store import database
from mnist_ablate.verification import artifacts

_READERS = 4  # runs that a server is asked for side by side


def read_ledger(url: str, sweep: str) -> list[RawStudy]:
    """Every study of a sweep, the latest last. Raises SweepError if there is none, and creates nothing.

    Raises UnreachableError if the database cannot be read.
    """
    path = sqlite_file(url)
    found: list[RawStudy] = []
    if path is None or path.exists():
        with ledger_database.translate_errors(url):
            engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, connect_args=connect_args(url))
            with engine.connect() as connection:
                found = _studies(connection, sweep)
    found = [study for study in found if study.trials or "content" in study.attrs]  # else cut off before it began
    if not found:
        raise SweepError(f"{sweep}: nothing recorded: run `mnist-ablate sweep {sweep}` first")
    return found


def _studies(connection: sqlalchemy.Connection, sweep: str) -> list[RawStudy]:
    if not sqlalchemy.inspect(connection).has_table("studies"):
        return []
    own: dict[int, tuple[int, str]] = {}  # by the number of the record
    for study_id, study_name in connection.execute(text("SELECT study_id, study_name FROM studies")):
        name, _, number = study_name.rpartition("/")
        if name == sweep and number.isdecimal():
            own[int(number)] = (study_id, study_name)
    return [_study(connection, *own[number]) for number in sorted(own)]


def _study(connection: sqlalchemy.Connection, study_id: int, name: str) -> RawStudy:
    def rows(query: str) -> list[Any]:
        return list(connection.execute(text(query), {"study": study_id}).all())

    def by_trial(table: str, key: str, value: str, about: str = "NULL") -> defaultdict[int, dict[Any, Any]]:
        found: defaultdict[int, dict[Any, Any]] = defaultdict(dict)
        of_study = "JOIN trials USING (trial_id) WHERE study_id = :study"
        query = f"SELECT trial_id, {key}, {value}, {about} FROM {table} {of_study} ORDER BY trial_id, {key}"  # noqa: S608
        for trial_id, name_, stored, kind in rows(query):
            found[trial_id][name_] = _decoded(stored, kind) if kind else stored
        return found

    params = by_trial("trial_params", "param_name", "param_value", "distribution_json")
    values = by_trial("trial_values", "objective", "value")
    steps = by_trial("trial_intermediate_values", "step", "intermediate_value")
    attrs = by_trial("trial_user_attributes", '"key"', "value_json")
    trials = (
        RawTrial(number, state, params[id_], tuple(values[id_].values()), steps[id_], attrs[id_])
        for id_, number, state in rows(
            "SELECT trial_id, number, state FROM trials WHERE study_id = :study ORDER BY number, trial_id"
        )
    )
    about = rows('SELECT "key", value_json FROM study_user_attributes WHERE study_id = :study')
    return RawStudy(name, dict(map(tuple, about)), tuple(trials))


def _decoded(value: float, distribution: str) -> Any:
    """A parameter's value: Optuna stores the place of a choice, and every number as a float."""
    about = json.loads(distribution)
    if "choices" in about["attributes"]:
        return about["attributes"]["choices"][int(value)]
    return int(value) if about["name"] == "IntDistribution" else value


@dataclass(frozen=True)
class RawRun:
    """A run that is not deleted; `points` has every stored row: key, step, time in ms since 1970, value.

    `artifacts` are by name what keeps each from being fetched, '' for nothing. Its times are in ms since 1970.
    """

    run_id: str
    status: str
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    points: tuple[tuple[str, int, int, float], ...] = ()
    artifacts: Mapping[str, str] = field(default_factory=dict)
    started_ms: int | None = None
    ended_ms: int | None = None


@dataclass(frozen=True)
class RawExperiment:
    """An experiment that is not deleted."""

    tags: Mapping[str, str]
    runs: tuple[RawRun, ...]


def read_mlflow(uri: str, name: str) -> RawExperiment | None:
    """The experiment of that name, None if there is none. Raises UnreachableError."""
    path = database(uri)
    if path is not None and not path.exists():
        return None
    if not uri.lower().startswith(("sqlite", "postgresql", "mysql", "mssql")):
        return _from_server(uri, name)
    check_answer(uri)
    try:
        with sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool).connect() as connection:
            return _from_database(connection, name, uri)
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise database_error(uri, error) from None


def _from_database(connection: sqlalchemy.Connection, name: str, uri: str) -> RawExperiment | None:
    def rows(query: str, of: object) -> list[Any]:
        return list(connection.execute(text(query), {"of": of}).all())

    def by_run(table: str, columns: str) -> defaultdict[str, list[Any]]:
        found: defaultdict[str, list[Any]] = defaultdict(list)
        query = f"SELECT run_uuid, {columns} FROM {table} t JOIN runs USING (run_uuid) WHERE experiment_id = :of"  # noqa: S608
        for run_id, *values in rows(query, id_):
            found[run_id].append(tuple(values))
        return found

    if not sqlalchemy.inspect(connection).has_table("experiments"):
        return None
    known = "SELECT experiment_id FROM experiments WHERE name = :of AND lifecycle_stage = 'active'"
    if not (found := rows(known, name)):
        return None
    ((id_,),) = found
    params, tags = by_run("params", "t.key, t.value"), by_run("tags", "t.key, t.value")
    points = by_run("metrics", "t.key, t.step, t.timestamp, t.value")
    active = "experiment_id = :of AND lifecycle_stage = 'active' ORDER BY start_time, run_uuid"
    runs = rows(f"SELECT run_uuid, status, artifact_uri, start_time, end_time FROM runs WHERE {active}", id_)  # noqa: S608
    path = database(uri)
    client = None if path else connect(uri)
    return RawExperiment(
        dict(rows("SELECT t.key, t.value FROM experiment_tags t WHERE experiment_id = :of", id_)),
        tuple(
            RawRun(
                run,
                status,
                dict(params[run]),
                dict(tags[run]),
                tuple(points[run]),
                artifacts.in_home(path, address) if path else artifacts.of_server(client, uri, run),
                *times,
            )
            for run, status, address, *times in runs
        ),
    )


def _from_server(uri: str, name: str) -> RawExperiment | None:
    client = connect(uri)
    with translate_errors(uri):
        experiment = client.get_experiment_by_name(name)
        if experiment is None or experiment.lifecycle_stage != "active":
            return None
        runs: list[RawRun] = []
        token: str | None = ""
        while token is not None:
            page = client.search_runs([experiment.experiment_id], max_results=1000, page_token=token or None)
            with ThreadPoolExecutor(_READERS) as readers:
                runs += readers.map(partial(_run, client, uri), page)
            token = page.token or None
        return RawExperiment(experiment.tags, tuple(runs))


def _run(client: Any, uri: str, run: Any) -> RawRun:
    run_id = run.info.run_id
    curves = (client.get_metric_history(run_id, key) for key in run.data.metrics)
    points = tuple((point.key, point.step, point.timestamp, point.value) for curve in curves for point in curve)
    stored = artifacts.of_server(client, uri, run_id)
    times = (run.info.start_time, run.info.end_time)
    return RawRun(run_id, run.info.status, run.data.params, run.data.tags, points, stored, *times)
