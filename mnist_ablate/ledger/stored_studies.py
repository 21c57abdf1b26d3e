"""The studies of a ledger as its database holds them, in plain SQL: whoever reads needs no Optuna. Writes nothing."""

import json
from collections import defaultdict
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy
from sqlalchemy import Connection, text

from mnist_ablate.trial import Params

_STUDIES = text("SELECT study_id, study_name FROM studies WHERE substr(study_name, 1, length(:beginning)) = :beginning")
_REGISTERED = text("SELECT study_id FROM study_user_attributes WHERE \"key\" = 'content'")
_ATTRIBUTES = text('SELECT "key", value_json FROM study_user_attributes WHERE study_id = :study')
_COUNT = text("SELECT count(*) FROM trials WHERE study_id = :study")
_TRIALS = text("SELECT trial_id FROM trials WHERE study_id = :study ORDER BY number, trial_id")
_PARAMS = "trial_params", "param_name, param_value, distribution_json", "param_id"
_ATTRS = "trial_user_attributes", '"key", value_json, NULL', "trial_user_attribute_id"
"""A table, what is read of it, and its key."""


class StoredStudy(NamedTuple):
    """A study by its key. Its name is `sweep/number`; a sweep that is begun anew has another number.

    It is registered once all is written that says what it asks. One that is not was cut off by a crash.
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


def studies(connection: Connection, sweep: str | None = None) -> list[StoredStudy]:
    """Every record of a sweep, or of all, the first one of each first. Empty if no tables were made yet."""
    if not sqlalchemy.inspect(connection).has_table("studies"):
        return []
    rows = connection.execute(_STUDIES, {"beginning": "" if sweep is None else f"{sweep}/"}).all()
    if not rows:  # the other tables may be being made, or whoever made them was killed
        return []
    registered = {*connection.execute(_REGISTERED).scalars()}
    found = (StoredStudy(id_, name, id_ in registered) for id_, name in rows)
    own = (study for study in found if study.number and sweep in {None, study.sweep})
    return sorted(own, key=lambda study: (study.sweep, study.number))


def attributes(connection: Connection, study: StoredStudy) -> dict[str, str]:
    """What is noted of a study, as JSON."""
    return dict(map(tuple, connection.execute(_ATTRIBUTES, {"study": study.id})))


def count(connection: Connection, study: StoredStudy) -> int:
    """How many trials it has."""
    return int(connection.execute(_COUNT, {"study": study.id}).scalar_one())


def trials(connection: Connection, study: StoredStudy) -> list[tuple[Params, dict[str, str]]]:
    """Every trial by its number: its parameters, and its attributes still as JSON."""
    ids = connection.execute(_TRIALS, {"study": study.id}).scalars().all()  # first: what is written now is left out
    params, attrs = _by_trial(connection, study, *_PARAMS), _by_trial(connection, study, *_ATTRS)
    return [(params[id_], attrs[id_]) for id_ in ids]


def _by_trial(
    connection: Connection, study: StoredStudy, table: str, columns: str, key: str
) -> defaultdict[int, dict[str, Any]]:
    """The rows of each trial in a table, in the order of writing: a name, what is stored, and what that means."""
    found: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    of_study = f"FROM {table} JOIN trials USING (trial_id) WHERE study_id = :study ORDER BY {key}"
    query = text(f"SELECT trial_id, {columns} {of_study}")
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
