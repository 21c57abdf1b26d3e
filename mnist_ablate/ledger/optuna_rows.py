"""Writes the trials of a study in bulk, as rows of Optuna's own tables; knows no sweep.

`Study.add_trial` writes the same rows in some thirty statements.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from optuna.distributions import distribution_to_json
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy import Engine, Insert, Integer, Table, bindparam, func, insert, select

_STUDIES: Table = models.StudyModel.__table__
_TRIALS: Table = models.TrialModel.__table__

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
_VALUE, _PARAM = insert(models.TrialValueModel.__table__), insert(models.TrialParamModel.__table__)
_ATTR, _STEP = insert(models.TrialUserAttributeModel.__table__), insert(models.TrialIntermediateValueModel.__table__)

DbRow = dict[str, Any]  # a row of one of Optuna's tables, by column


class TrialRows:
    """The trials of one study, which is found by its key."""

    def __init__(self, engine: Engine, study_id: int) -> None:
        self._engine, self._study_id = engine, study_id
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
