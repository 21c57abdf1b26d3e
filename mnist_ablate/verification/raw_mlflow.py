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
_SQL = ("sqlite", "postgresql", "mysql", "mssql")


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
    if not uri.lower().startswith(_SQL):
        return _from_server(uri, name)
    check_answer(uri)
    try:
        engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            return _from_database(connection, name)
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise database_error(uri, error) from None


def _from_database(connection: sqlalchemy.Connection, name: str) -> RawExperiment | None:
    if not sqlalchemy.inspect(connection).has_table("experiments"):
        return None
    found = connection.execute(
        text("SELECT experiment_id FROM experiments WHERE name = :name AND lifecycle_stage = 'active'"), {"name": name}
    ).scalar()
    if found is None:
        return None

    def rows(query: str) -> list[Any]:
        return list(connection.execute(text(query), {"id": found}).all())

    of_runs = "JOIN runs USING (run_uuid) WHERE experiment_id = :id AND lifecycle_stage = 'active'"
    params, tags = (defaultdict[str, dict[str, str]](dict) for _ in range(2))
    points: defaultdict[str, list[tuple[str, int, int, float]]] = defaultdict(list)
    for table, by_run in (("params", params), ("tags", tags)):
        for run_id, key, value in rows(f"SELECT run_uuid, {table}.key, {table}.value FROM {table} {of_runs}"):  # noqa: S608
            by_run[run_id][key] = value
    for run_id, key, step, at_ms, value in rows(
        f"SELECT run_uuid, m.key, m.step, m.timestamp, m.value FROM metrics m {of_runs}"  # noqa: S608
    ):
        points[run_id].append((key, step, at_ms, value))
    runs = rows(
        "SELECT run_uuid, status FROM runs WHERE experiment_id = :id AND lifecycle_stage = 'active' "
        "ORDER BY start_time, run_uuid"
    )
    return RawExperiment(
        dict(rows("SELECT t.key, t.value FROM experiment_tags t WHERE experiment_id = :id")),
        tuple(RawRun(id_, status, params[id_], tags[id_], tuple(points[id_])) for id_, status in runs),
    )


def _from_server(uri: str, name: str) -> RawExperiment | None:
    client = connect(uri)
    with translate_errors(uri):
        experiment = client.get_experiment_by_name(name)
        if experiment is None or experiment.lifecycle_stage != "active":
            return None
        runs: list[Any] = []
        page: Any = client.search_runs([experiment.experiment_id], max_results=_PAGE)
        runs.extend(page)
        while page.token:
            page = client.search_runs([experiment.experiment_id], max_results=_PAGE, page_token=page.token)
            runs.extend(page)
        return RawExperiment(experiment.tags, tuple(_run(client, run) for run in runs))


def _run(client: Any, run: Any) -> RawRun:
    run_id = run.info.run_id
    curves = (client.get_metric_history(run_id, key) for key in run.data.metrics)
    points = tuple((point.key, point.step, point.timestamp, point.value) for curve in curves for point in curve)
    return RawRun(run_id, run.info.status, run.data.params, run.data.tags, points)
