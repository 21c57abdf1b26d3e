"""The ledger's rows as they lie in the database, for `verify`; knows nothing of how they were written."""

import json
from collections import defaultdict
from typing import Any

import sqlalchemy
from sqlalchemy import text

from mnist_ablate.errors import SweepError
from mnist_ablate.ledger.database import connect_args, sqlite_file, translate_errors
from mnist_ablate.ledger.raw_records import RawStudy, RawTrial


def read(url: str, sweep: str) -> list[RawStudy]:
    """Every study of a sweep, the latest last. Raises SweepError if there is none, and creates nothing.

    Raises UnreachableError if the database cannot be read.
    """
    path = sqlite_file(url)
    found: list[RawStudy] = []
    if path is None or path.exists():
        with translate_errors(url):
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
