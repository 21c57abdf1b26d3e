"""The one truth: Optuna's storage, a study for each sweep, a final trial for each outcome.

A trial is written when it has ended, in one transaction: a crash leaves it whole or absent. Nothing here runs trials.
Optuna is imported when something is written: whoever only reads does not wait for it.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import JsonValue, ValidationError

from mnist_ablate.errors import ConflictError, SweepError
from mnist_ablate.ledger import stored_studies
from mnist_ablate.ledger.database import Lock, hold, open_engine, open_storage, sqlite_file, translate_errors
from mnist_ablate.ledger.preregistration import Earlier, Registration, differences, digest, digests
from mnist_ablate.ledger.raw_records import STATES, recorded_trial
from mnist_ablate.ledger.stored_studies import StoredStudy
from mnist_ablate.sweep.plan import Plan, PlannedTrial, make_plan
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.text import hint, plainly
from mnist_ablate.trial import Outcome, RecordedTrial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

    from mnist_ablate.ledger.optuna_rows import TrialRows

Found = TypeVar("Found")
_SCHEMA = ".schema"  # a lock that no sweep can have: names start with a letter or digit


@dataclass(frozen=True)
class Mirrored:
    """That MLflow at `tracker` was seen to have the first `records` records, under `link`."""

    records: int = 0
    tracker: str = ""
    link: str = ""


class Ledger:
    """Finished trials by sweep. `url` is a SQLAlchemy URL. To read creates nothing."""

    def __init__(self, url: str) -> None:
        self.url, self._file = url, sqlite_file(url)
        with translate_errors(url):
            self._engine = open_engine(url)

    @cached_property
    def storage(self) -> "RDBStorage":
        """Optuna's, to write with: it makes the tables that are not there, where anything may be written."""
        there = self._file if self._file and self._file.exists() else None
        can_write = there is None or os.access(there.resolve().parent, os.W_OK)
        lock = hold(self.url, _SCHEMA, wait_s=60.0) if can_write else nullcontext()
        with lock, translate_errors(self.url):
            storage = open_storage(self.url, create=can_write)
            self._engine.dispose()
            self._engine = storage.engine
        return storage

    def read(self, query: Callable[..., Found], *given: object) -> Found:
        """What one of the queries of `stored_studies` finds."""
        with translate_errors(self.url), self._engine.connect() as connection:
            return query(connection, *given)

    def driving(self, name: str) -> AbstractContextManager[Lock]:
        """While inside, no other driver runs the sweep. Raises ConflictError that names the one that does."""
        return hold(self.url, name)

    def begin(self, plan: Plan, *, fresh: bool) -> "Record":
        """The record to continue or, if there is none or `fresh`, a new one; older ones stay as they are.

        There is a new one too if only the user's code was changed since: its trials are others.
        Raises ConflictError if the latest record of this name has another digest: the sweep file was changed.
        """
        name = plan.sweep.name
        study = next(reversed(self.studies(name)), None)
        if study is not None and study.is_registered and plan.sweep.workload.runs_code:
            fresh |= self._has_other_code(study, plan)
        if study is None or (fresh and study.is_registered):
            study = self._created(f"{name}/{1 + (study.number if study else 0)}")
        if not study.is_registered:  # new, or cut off by a crash before its first trial
            self.note(study, "sweep", name)
            self.note(study, "digest", plan.sweep.digest)
            self.note(study, "preregistration", digests(plan))
            self.note(study, "registered", datetime.now(UTC).isoformat(timespec="seconds"))
            # Each is a transaction: the last one says that all are there.
            self.note(study, "content", _content(plan.sweep, plan.data_digest))
        record = self._record(study)
        _check_same(record, plan.sweep, plan.data_digest)
        return record

    def _created(self, name: str) -> StoredStudy:
        from optuna import create_study

        storage = self.storage
        with translate_errors(self.url):
            create_study(study_name=name, storage=storage, direction="maximize")
            return StoredStudy(storage.get_study_id_from_name(name), name, is_registered=False)

    def note(self, study: StoredStudy, name: str, value: object) -> None:
        """Write an attribute of a study."""
        storage = self.storage
        with translate_errors(self.url):
            storage.set_study_user_attr(study.id, name, value)

    def check_question(self, sweep: Sweep) -> None:
        """Raises ConflictError if the latest record of this name asks another question, whatever its data."""
        study = next((each for each in reversed(self.studies(sweep.name)) if each.is_registered), None)
        if study:
            record = self._record(study)
            _check_same(record, sweep, record.data_digest)

    def _has_other_code(self, study: StoredStudy, plan: Plan) -> bool:
        """Whether a record asks the same of code that was changed since."""
        old = self.noted(study)["content"]
        is_same_question = Sweep.model_validate(old["sweep"]).digest == plan.sweep.digest
        return is_same_question and old["data_digest"] != plan.data_digest

    def find(self, name: str, number: int | None = None) -> "Record":
        """The latest record of a sweep, or the `number`-th that was begun. Raises SweepError if there is none."""
        for study in reversed(self.studies(name)):
            if number in {None, study.number} and study.is_registered:
                return self._record(study)
        known = dict.fromkeys(study.sweep for study in self.studies())
        asked = plainly(name)
        if number is not None and name in known:
            raise SweepError(f"{asked}/{number}: no such record of {asked}: leave the number out for the latest")
        recorded = hint(name, known, "recorded")
        raise SweepError(f"{asked}: nothing recorded: run `mnist-ablate sweep {asked}` first; {recorded}")

    def names(self) -> list[str]:
        """Every sweep that is recorded, in the order of the alphabet."""
        return [*dict.fromkeys(study.sweep for study in self.studies() if study.is_registered)]

    def studies(self, name: str | None = None) -> list[StoredStudy]:
        """Those of a sweep, or of all; the first one first."""
        if self._file and not self._file.exists():
            return []
        return self.read(stored_studies.studies, name)

    def _record(self, study: StoredStudy) -> "Record":
        """A record, with those of the same name that were begun before it, the first one first."""
        earlier = []
        for each in self.studies(study.sweep):
            if each.number < study.number and each.is_registered:
                noted, trials = self.noted(each), self.read(stored_studies.count, each)
                said = {key: noted[key] for key in ("registered", "content")}
                earlier.append(Earlier(record=each.name, trials=trials, **said))
        return Record(self, study, earlier)

    def noted(self, study: StoredStudy) -> dict[str, Any]:
        """Every attribute of a study."""
        return {name: json.loads(text) for name, text in self.read(stored_studies.attributes, study).items()}


def _check_same(record: "Record", sweep: Sweep, data_digest: str) -> None:
    if (record.sweep.digest, record.data_digest) != (sweep.digest, data_digest):
        changes = differences(_content(record.sweep, record.data_digest), _content(sweep, data_digest))
        raise ConflictError(f"{record.sweep.name}: stored sweep differs: {changes}; use --fresh or another name")


def _content(sweep: Sweep, data_digest: str) -> dict[str, object]:
    return {"sweep": sweep.model_dump(mode="json"), "data_digest": data_digest}


class Record:
    """What is recorded of one sweep: `sweep` as it was `registered` (ISO 8601, UTC) for the data of `data_digest`.

    `name` is the record's own: the sweep's, and how many times it was begun. `registration` says what was written down
    before the first trial.
    """

    def __init__(self, ledger: Ledger, study: StoredStudy, earlier: Sequence[Earlier] = ()) -> None:
        self._ledger, self._study = ledger, study
        noted = ledger.noted(study)
        self.name = study.name
        self.sweep = Sweep.model_validate(noted["content"]["sweep"])
        self.data_digest = str(noted["content"]["data_digest"])
        self.registered = str(noted["registered"])
        told = noted.get("preregistration", {})  # older versions wrote none
        self.registration = Registration(self.registered, str(noted["digest"]), told, earlier)
        self._unsure: list[str] = []

    @cached_property
    def plan(self) -> Plan:
        """Its trials, however many: that was decided when it was begun."""
        return make_plan(self.sweep, self.data_digest, max_trials=10**9)

    @property
    def fingerprints(self) -> list[dict[str, JsonValue]]:
        """Documents of the normalizers on its training images; none if they were never measured."""
        return list(self._ledger.noted(self._study).get("fingerprints", []))

    @fingerprints.setter
    def fingerprints(self, found: list[dict[str, JsonValue]]) -> None:
        self._ledger.note(self._study, "fingerprints", found)

    @property
    def mirrored(self) -> Mirrored:
        """What MLflow was seen to have."""
        return Mirrored(**self._ledger.noted(self._study).get("mirrored", {}))

    @mirrored.setter
    def mirrored(self, seen: Mirrored) -> None:
        self._ledger.note(self._study, "mirrored", vars(seen))

    @property
    def origin(self) -> dict[str, str]:
        """Who began it: `command` as it was typed, `user`, `commit`. Older versions wrote none."""
        return dict(self._ledger.noted(self._study).get("origin", {}))

    @origin.setter
    def origin(self, who: Mapping[str, str]) -> None:
        self._ledger.note(self._study, "origin", dict(who))

    def open(self) -> None:
        """Open what finished trials are written to: whoever trains hears at once if that is not possible."""
        _ = self._rows

    @cached_property
    def _rows(self) -> "TrialRows":
        from mnist_ablate.ledger.optuna_rows import TrialRows

        return TrialRows(self._ledger.storage.engine, self._study.id)

    @cached_property
    def _distributions(self) -> "dict[str, BaseDistribution]":
        from optuna.distributions import CategoricalDistribution, IntDistribution

        choices = {name: CategoricalDistribution(values) for name, values in self.sweep.columns.items()}
        return {**choices, "seed": IntDistribution(0, 2**31)}

    def add(self, planned: PlannedTrial, outcome: Outcome) -> None:
        """Write a finished trial."""
        self.add_all([(planned, outcome)])

    def add_all(self, finished: Sequence[tuple[PlannedTrial, Outcome]]) -> None:
        """Write finished trials, whole, all or none, in one transaction.

        After an error it is not known whether they were written: called again for the same, it looks first.
        """
        ids, (_, first) = [planned.trial.id for planned, _ in finished], finished[0]
        with translate_errors(self._ledger.url):
            if self._unsure == ids and first in [entry.outcome for entry in self.records()]:
                return
            self._unsure = ids
            self._rows.add(*(self._finished(planned, outcome) for planned, outcome in finished))
            self._unsure = []

    def _finished(self, planned: PlannedTrial, outcome: Outcome) -> "FrozenTrial":
        from optuna.trial import TrialState, create_trial

        workload, state = self.sweep.workload, TrialState[STATES[outcome.status]]
        score = workload.selection_metric
        value = outcome.metrics.get(workload.main_metric, outcome.metrics.get(score))
        content = {
            "trial": planned.trial.model_dump(exclude={"id"}),
            "stage": planned.stage,
            "outcome": outcome.model_dump(),
        }
        return create_trial(
            state=state,
            value=value if state == TrialState.COMPLETE else None,
            params={**planned.arm.params, "seed": planned.trial.seed},
            distributions=self._distributions,
            user_attrs={"trial_id": planned.trial.id, **content, "sha256": digest(content)},
            intermediate_values={e.number: e.metrics[score] for e in outcome.epochs if score in e.metrics},
        )

    def count(self) -> int:
        """The number of finished trials, which grows with each: one that was run again counts twice."""
        return self._ledger.read(stored_studies.count, self._study)

    def records(self) -> list[RecordedTrial]:
        """Every finished trial in the order of writing; one that failed and was run again is there twice."""
        trials = self._ledger.read(stored_studies.trials, self._study)
        try:
            return [recorded_trial(self.sweep.workload, params, attrs) for params, attrs in trials]
        except (KeyError, ValidationError) as error:
            raise ConflictError(
                f"{self.name}: written by another version of mnist-ablate: use that one, or --fresh"
            ) from error

    def entries(self) -> dict[str, RecordedTrial]:
        """Every finished trial by its id; of one that was run again after it failed, the last."""
        return {entry.trial.id: entry for entry in self.records()}
