"""The trials of a study as rows of Optuna's own tables, written and read in bulk; knows no sweep.

`Study.add_trial` writes the same rows in some thirty statements, and `Study.get_trials` keeps everything it ever read.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy import Connection, Insert, Integer, Table, bindparam, func, insert, select

from mnist_ablate.trial import Params

_STUDIES: Table = models.StudyModel.__table__
_TRIALS: Table = models.TrialModel.__table__
_PARAMS: Table = models.TrialParamModel.__table__
_ATTRS: Table = models.TrialUserAttributeModel.__table__

_LOCK = select(_STUDIES.c.study_id).where(_STUDIES.c.study_id == bindparam("study")).with_for_update()
_SINCE = select(func.count() + bindparam("seen", type_=Integer)).where(
    _TRIALS.c.study_id == bindparam("study"), _TRIALS.c.trial_id > bindparam("last_id")
)
"""A trial's number is that of all before it: the known ones, and those that anybody else wrote since."""
_TRIAL = (
    insert(_TRIALS)
    .values(
        study_id=bindparam("study"),
        number=_SINCE.scalar_subquery(),
        state=bindparam("state"),
        datetime_start=bindparam("start"),
        datetime_complete=bindparam("complete"),
    )
    .returning(_TRIALS.c.trial_id, _TRIALS.c.number)
)
_VALUE, _PARAM = insert(models.TrialValueModel.__table__), insert(_PARAMS)
_ATTR, _STEP = insert(_ATTRS), insert(models.TrialIntermediateValueModel.__table__)

DbRow = dict[str, Any]  # a row of one of Optuna's tables, by column
_distribution = cache(json_to_distribution)


class TrialRows:
    """The trials of one study of a storage."""

    def __init__(self, storage: RDBStorage, study_name: str) -> None:
        self._engine = storage.engine
        self._study_id = storage.get_study_id_from_name(study_name)
        self._is_own = _TRIALS.c.study_id == self._study_id
        self._seen, self._last_id = 0, 0

    def add(self, *trials: FrozenTrial) -> None:
        """Write finished trials, all or none, in one transaction: the rows that `Study.add_trial` writes of each.

        It takes as long however many trials there are: those seen before are not counted again.
        """
        seen, last_id = self._seen, self._last_id
        rows: defaultdict[Insert, list[DbRow]] = defaultdict(list)
        with self._engine.begin() as connection:
            connection.execute(_LOCK, {"study": self._study_id}).scalar_one()
            for trial in trials:
                known = {"study": self._study_id, "seen": seen, "last_id": last_id, "state": trial.state}
                times = {"start": _utc(trial.datetime_start), "complete": _utc(trial.datetime_complete)}
                last_id, number = connection.execute(_TRIAL, known | times).one()
                seen = number + 1
                for statement, row in _parts(trial):
                    rows[statement].append({"trial_id": last_id, **row})
            for statement, own in rows.items():
                connection.execute(statement, own)
        self._seen, self._last_id = seen, last_id

    def read(self) -> list[tuple[Params, dict[str, str]]]:
        """Every trial by its number: its parameters, and its attributes still as JSON."""
        order = select(_TRIALS.c.trial_id).where(self._is_own).order_by(_TRIALS.c.number, _TRIALS.c.trial_id)
        about_param = _PARAMS.c.param_name, _PARAMS.c.param_value, _PARAMS.c.distribution_json
        with self._engine.connect() as connection:
            ids = connection.execute(order).scalars().all()
            params, attrs = defaultdict[int, DbRow](dict), defaultdict[int, dict[str, str]](dict)
            for trial_id, name, value, about in self._of_trials(connection, _PARAMS, *about_param):
                params[trial_id][name] = _distribution(about).to_external_repr(value)
            for trial_id, name, text in self._of_trials(connection, _ATTRS, _ATTRS.c.key, _ATTRS.c.value_json):
                attrs[trial_id][name] = text
        return [(params[trial_id], attrs[trial_id]) for trial_id in ids]

    def _of_trials(self, connection: Connection, table: Table, *columns: Any) -> Sequence[Any]:
        query = select(table.c.trial_id, *columns).join(_TRIALS, _TRIALS.c.trial_id == table.c.trial_id)
        return connection.execute(query.where(self._is_own).order_by(next(iter(table.primary_key)))).all()

    def count(self) -> int:
        """How many trials there are."""
        with self._engine.connect() as connection:
            return int(connection.execute(select(func.count()).where(self._is_own)).scalar_one())


def _parts(trial: FrozenTrial) -> Iterator[tuple[Insert, DbRow]]:
    """The rows that belong to a trial's own, in the order of `Study.add_trial`."""
    for place, value in enumerate(trial.values or ()):
        stored, kind = models.TrialValueModel.value_to_stored_repr(value)
        yield _VALUE, {"objective": place, "value": stored, "value_type": kind}
    for name, value in trial.params.items():
        about = trial.distributions[name]
        row = {"param_value": about.to_internal_repr(value), "distribution_json": distribution_to_json(about)}
        yield _PARAM, {"param_name": name, **row}
    for name, value in trial.user_attrs.items():
        yield _ATTR, {"key": name, "value_json": json.dumps(value)}
    for step, value in trial.intermediate_values.items():
        number, its_kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
        yield _STEP, {"step": step, "intermediate_value": number, "intermediate_value_type": its_kind}


def _utc(local: datetime | None) -> datetime | None:
    """As Optuna stores times: UTC, without saying so."""
    return None if local is None else local.astimezone(UTC).replace(tzinfo=None)
