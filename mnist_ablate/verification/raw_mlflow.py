"""The runs of an experiment as MLflow's store holds them, for `verify`; changes nothing, translates nothing.

A database is read directly, which takes milliseconds; a server is asked for each curve.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy
from sqlalchemy import text

from mnist_ablate.tracking.client import check_answer, connect, database, database_error, translate_errors

_PAGE = 1000


@dataclass(frozen=True)
class RawRun:
    """A run that is not deleted; `points` has every stored row: key, step, time in ms since 1970, value."""

    run_id: str
    status: str
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    points: tuple[tuple[str, int, int, float], ...] = ()


@dataclass(frozen=True)
class RawExperiment:
    """An experiment that is not deleted."""

    tags: Mapping[str, str]
    runs: tuple[RawRun, ...]


def read(uri: str, name: str) -> RawExperiment | None:
    """The experiment of that name, None if there is none. Raises UnreachableError."""
    path = database(uri)
    if path is not None and not path.exists():
        return None
    if not uri.lower().startswith(("sqlite", "postgresql", "mysql", "mssql")):
        return _from_server(uri, name)
    check_answer(uri)
    try:
        with sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool).connect() as connection:
            return _from_database(connection, name)
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise database_error(uri, error) from None


def _from_database(connection: sqlalchemy.Connection, name: str) -> RawExperiment | None:
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
    runs = rows(f"SELECT run_uuid, status FROM runs WHERE {active}", id_)  # noqa: S608
    return RawExperiment(
        dict(rows("SELECT t.key, t.value FROM experiment_tags t WHERE experiment_id = :of", id_)),
        tuple(RawRun(run, status, dict(params[run]), dict(tags[run]), tuple(points[run])) for run, status in runs),
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
            page = client.search_runs([experiment.experiment_id], max_results=_PAGE, page_token=token or None)
            runs += [_run(client, run) for run in page]
            token = page.token or None
        return RawExperiment(experiment.tags, tuple(runs))


def _run(client: Any, run: Any) -> RawRun:
    run_id = run.info.run_id
    curves = (client.get_metric_history(run_id, key) for key in run.data.metrics)
    points = tuple((point.key, point.step, point.timestamp, point.value) for curve in curves for point in curve)
    return RawRun(run_id, run.info.status, run.data.params, run.data.tags, points)
