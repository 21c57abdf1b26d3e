"""The studies of a ledger as its database holds them, in plain SQL: needs no Optuna, changes and translates nothing."""

import json
from collections import defaultdict
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy
from sqlalchemy import Connection, text

from mnist_ablate.ledger.raw_records import RawStudy, RawTrial
from mnist_ablate.trial import Params

_STUDIES = text(
    "SELECT studies.study_id, study_name, about.study_id IS NOT NULL FROM studies "
    "LEFT JOIN study_user_attributes about ON about.study_id = studies.study_id AND about.\"key\" = 'content'"
)
_ATTRIBUTES = text('SELECT "key", value_json FROM study_user_attributes WHERE study_id = :study')
_COUNT = text("SELECT count(*) FROM trials WHERE study_id = :study")
_TRIALS = text("SELECT trial_id, number, state FROM trials WHERE study_id = :study ORDER BY number, trial_id")
_PARAM = "param_name", "param_value", "distribution_json"
_ATTR = '"key"', "value_json"


class StoredStudy(NamedTuple):
    """A study by its key and its name, which is that of a sweep, `/`, and which record of it this is, from 1.

    It is registered once everything is written that says what it asks; one that is not was cut off by a crash.
    """

    id: int
    name: str
    is_registered: bool

    @property
    def sweep(self) -> str:
        """The name of the sweep."""
        return self.name.rpartition("/")[0]

    @property
    def number(self) -> int:
        """Which record of its sweep it is, from 1; 0 if the study is none of ours."""
        number = self.name.rpartition("/")[2]
        return int(number) if number.isdecimal() else 0


def studies(connection: Connection) -> list[StoredStudy]:
    """Every record of every sweep, the first one of each first. None if there is no table yet."""
    if not sqlalchemy.inspect(connection).has_table("studies"):
        return []
    found = (StoredStudy(id_, name, bool(is_registered)) for id_, name, is_registered in connection.execute(_STUDIES))
    return sorted((study for study in found if study.number), key=lambda study: (study.sweep, study.number))


def attributes(connection: Connection, study: StoredStudy) -> dict[str, str]:
    """What is noted of a study, as JSON."""
    return dict(map(tuple, connection.execute(_ATTRIBUTES, {"study": study.id})))


def count(connection: Connection, study: StoredStudy) -> int:
    """How many trials it has."""
    return int(connection.execute(_COUNT, {"study": study.id}).scalar_one())


def trials(connection: Connection, study: StoredStudy) -> list[tuple[Params, dict[str, str]]]:
    """Every trial by its number: its parameters in the order of writing, and its attributes still as JSON."""
    params = _by_trial(connection, study, "trial_params", *_PARAM, order="param_id")
    attrs = _by_trial(connection, study, "trial_user_attributes", *_ATTR)
    return [(params[id_], attrs[id_]) for id_, _, _ in connection.execute(_TRIALS, {"study": study.id})]


def whole(connection: Connection, study: StoredStudy) -> RawStudy:
    """All that is stored of it, parameters and attributes in the order of the alphabet."""
    params = _by_trial(connection, study, "trial_params", *_PARAM)
    attrs = _by_trial(connection, study, "trial_user_attributes", *_ATTR)
    values = _by_trial(connection, study, "trial_values", "objective", "value")
    steps = _by_trial(connection, study, "trial_intermediate_values", "step", "intermediate_value")
    own = (
        RawTrial(number, state, params[id_], tuple(values[id_].values()), steps[id_], attrs[id_])
        for id_, number, state in connection.execute(_TRIALS, {"study": study.id})
    )
    return RawStudy(study.name, attributes(connection, study), tuple(own))


def _by_trial(  # noqa: PLR0913, PLR0917 - the parts of one query
    connection: Connection,
    study: StoredStudy,
    table: str,
    key: str,
    value: str,
    distribution: str = "NULL",
    order: str = "2",
) -> defaultdict[int, dict[Any, Any]]:
    """What is stored of each trial in a table, by key; in the order of the keys unless another is given."""
    found: defaultdict[int, dict[Any, Any]] = defaultdict(dict)
    wanted = f"trial_id, {key}, {value}, {distribution} FROM {table} JOIN trials USING (trial_id)"
    query = text(f"SELECT {wanted} WHERE study_id = :study ORDER BY trial_id, {order}")
    for trial_id, name, stored, about in connection.execute(query, {"study": study.id}):
        found[trial_id][name] = _value(stored, *_distribution(about)) if about else stored
    return found


@cache
def _distribution(about: str) -> tuple[str, tuple[Any, ...]]:
    """The name of a distribution of Optuna's, and the choices that it has."""
    found = json.loads(about)
    return found["name"], tuple(found["attributes"].get("choices", ()))


def _value(stored: float, distribution: str, choices: tuple[Any, ...]) -> Any:
    """A parameter: Optuna stores the place of a choice, and every number as a float."""
    if choices:
        return choices[int(stored)]
    return int(stored) if distribution.startswith("Int") else stored
