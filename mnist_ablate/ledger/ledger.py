"""The one truth: Optuna's storage, a study for each sweep, a final trial for each outcome.

A trial is written when it has ended, in one transaction: a crash leaves it whole or absent. Nothing here runs trials.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from pydantic import JsonValue, ValidationError

from mnist_ablate.errors import ConflictError, SweepError
from mnist_ablate.ledger.database import Lock, hold, open_storage, sqlite_file, translate_errors
from mnist_ablate.ledger.optuna_rows import TrialRows
from mnist_ablate.ledger.preregistration import Earlier, Registration, differences, digest, digests
from mnist_ablate.ledger.raw_records import STATES, recorded_trial
from mnist_ablate.sweep.plan import Plan, PlannedTrial, make_plan
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.text import hint, plainly
from mnist_ablate.trial import Outcome, RecordedTrial

_SCHEMA = ".schema"  # a lock that no sweep can have: names start with a letter or digit


@dataclass(frozen=True)
class Mirrored:
    """That MLflow at `tracker` was seen to have the first `records` records, under `link`."""

    records: int = 0
    tracker: str = ""
    link: str = ""


class Ledger:
    """Finished trials by sweep. `url` is a SQLAlchemy URL; a ledger opened for `reading` creates nothing."""

    def __init__(self, url: str, *, reading: bool = False) -> None:
        self.url = url
        self.storage: Any = None  # Optuna's; none where there is no file to read
        file = sqlite_file(url) if reading else None
        if file and not file.exists():
            return
        can_write = not file or os.access(file.resolve().parent, os.W_OK)
        lock = hold(url, _SCHEMA, wait_s=60.0) if can_write else nullcontext()
        with lock, translate_errors(url):
            self.storage = open_storage(url, create=can_write)

    def driving(self, name: str) -> AbstractContextManager[Lock]:
        """While inside, no other driver runs the sweep. Raises ConflictError that names the one that does."""
        return hold(self.url, name)

    def begin(self, plan: Plan, *, fresh: bool) -> "Record":
        """The record to continue or, if there is none or `fresh`, a new one; older ones stay as they are.

        There is a new one too if only the user's code was changed since: its trials are others.
        Raises ConflictError if the latest record of this name has another digest: the sweep file was changed.
        """
        name, content = plan.sweep.name, _content(plan.sweep, plan.data_digest)
        with translate_errors(self.url):
            study = next(self.studies(name), None)
            if study is not None and is_registered(study) and plan.sweep.workload.runs_code:
                fresh |= self._has_other_code(study, plan)
            if study is None or (fresh and is_registered(study)):
                number = 1 + (_number(study.study_name) if study else 0)
                study = optuna.create_study(study_name=f"{name}/{number}", storage=self.storage, direction="maximize")
            if not is_registered(study):  # new, or cut off by a crash before its first trial
                study.set_user_attr("sweep", name)
                study.set_user_attr("digest", plan.sweep.digest)
                study.set_user_attr("preregistration", digests(plan))
                study.set_user_attr("registered", datetime.now(UTC).isoformat(timespec="seconds"))
                study.set_user_attr("content", content)  # each is a transaction: the last one says that all are there
            record = self._record(study)
        _check_same(record, plan.sweep, plan.data_digest)
        return record

    def check_question(self, sweep: Sweep) -> None:
        """Raises ConflictError if the latest record of this name asks another question, whatever its data."""
        with translate_errors(self.url):
            study = next((each for each in self.studies(sweep.name) if is_registered(each)), None)
            record = study and self._record(study)
        if record:
            _check_same(record, sweep, record.data_digest)

    @staticmethod
    def _has_other_code(study: optuna.Study, plan: Plan) -> bool:
        """Whether a record asks the same of code that was changed since."""
        old = study.user_attrs["content"]
        is_same_question = Sweep.model_validate(old["sweep"]).digest == plan.sweep.digest
        return is_same_question and old["data_digest"] != plan.data_digest

    def find(self, name: str, number: int | None = None) -> "Record":
        """The latest record of a sweep, or the `number`-th that was begun. Raises SweepError if there is none."""
        with translate_errors(self.url):
            for study in self.studies(name):
                if number in {None, _number(study.study_name)} and is_registered(study):
                    return self._record(study)
            known = dict.fromkeys(study.rpartition("/")[0] for study in self._study_names())
        asked = plainly(name)
        if number is not None and name in known:
            raise SweepError(f"{asked}/{number}: no such record of {asked}: leave the number out for the latest")
        recorded = hint(name, known, "recorded")
        raise SweepError(f"{asked}: nothing recorded: run `mnist-ablate sweep {asked}` first; {recorded}")

    def names(self) -> list[str]:
        """Every sweep that is recorded, in the order of the alphabet."""
        with translate_errors(self.url):
            names = sorted({study.rpartition("/")[0] for study in self._study_names()})
            return [name for name in names if any(map(is_registered, self.studies(name)))]

    def _study_names(self) -> list[str]:
        return optuna.get_all_study_names(self.storage) if self.storage else []

    def studies(self, name: str) -> Iterator[optuna.Study]:
        """Those of a sweep, the latest first, each loaded when it is asked for."""
        own = [each for each in self._study_names() if each.rpartition("/")[0] == name and _number(each)]
        for study_name in sorted(own, key=_number, reverse=True):
            yield optuna.load_study(study_name=study_name, storage=self.storage)

    def _record(self, study: optuna.Study) -> "Record":
        """A record, with those of the same name that were begun before it, the first one first."""
        earlier: list[Earlier] = []
        for each in self.studies(study.study_name.rpartition("/")[0]):
            if _number(each.study_name) < _number(study.study_name) and is_registered(each):
                said = {key: each.user_attrs[key] for key in ("registered", "content")}
                trials = TrialRows(self.storage, each.study_name).count()
                earlier.insert(0, Earlier(record=each.study_name, trials=trials, **said))
        return Record(study, self.url, TrialRows(self.storage, study.study_name), earlier)


def _number(study_name: str) -> int:
    """Which record of its sweep a study is, from 1; 0 if it is none of ours."""
    number = study_name.rpartition("/")[2]
    return int(number) if number.isdecimal() else 0


def is_registered(study: optuna.Study) -> bool:
    """Whether a study is a record: one that was cut off before its first trial is none."""
    return "content" in study.user_attrs


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

    def __init__(self, study: optuna.Study, url: str, rows: TrialRows, earlier: Sequence[Earlier] = ()) -> None:
        self._study, self._url, self._rows = study, url, rows
        attrs = study.user_attrs
        self.name = study.study_name
        self.sweep = Sweep.model_validate(attrs["content"]["sweep"])
        self.data_digest = str(attrs["content"]["data_digest"])
        self.registered = str(attrs["registered"])
        told = attrs.get("preregistration", {})  # older versions wrote none
        self.registration = Registration(self.registered, str(attrs["digest"]), told, earlier)
        self._unsure: list[str] = []
        self._distributions: dict[str, BaseDistribution] = {
            **{name: CategoricalDistribution(values) for name, values in self.sweep.columns.items()},
            "seed": IntDistribution(0, 2**31),
        }

    @cached_property
    def plan(self) -> Plan:
        """Its trials, however many: that was decided when it was begun."""
        return make_plan(self.sweep, self.data_digest, max_trials=10**9)

    @property
    def fingerprints(self) -> list[dict[str, JsonValue]]:
        """Documents of the normalizers on its training images; none if they were never measured."""
        return list(self._study.user_attrs.get("fingerprints", []))

    @fingerprints.setter
    def fingerprints(self, found: list[dict[str, JsonValue]]) -> None:
        with translate_errors(self._url):
            self._study.set_user_attr("fingerprints", found)

    @property
    def mirrored(self) -> Mirrored:
        """What MLflow was seen to have."""
        return Mirrored(**self._study.user_attrs.get("mirrored", {}))

    @mirrored.setter
    def mirrored(self, seen: Mirrored) -> None:
        with translate_errors(self._url):
            self._study.set_user_attr("mirrored", vars(seen))

    @property
    def origin(self) -> dict[str, str]:
        """Who began it: `command` as it was typed, `user`, `commit`. Older versions wrote none."""
        return dict(self._study.user_attrs.get("origin", {}))

    @origin.setter
    def origin(self, who: Mapping[str, str]) -> None:
        with translate_errors(self._url):
            self._study.set_user_attr("origin", dict(who))

    def add(self, planned: PlannedTrial, outcome: Outcome) -> None:
        """Write a finished trial."""
        self.add_all([(planned, outcome)])

    def add_all(self, finished: Sequence[tuple[PlannedTrial, Outcome]]) -> None:
        """Write finished trials, whole, all or none, in one transaction.

        After an error it is not known whether they were written: called again for the same, it looks first.
        """
        ids, (_, first) = [planned.trial.id for planned, _ in finished], finished[0]
        with translate_errors(self._url):
            if self._unsure == ids and first in [entry.outcome for entry in self.records()]:
                return
            self._unsure = ids
            self._rows.add(*(self._finished(planned, outcome) for planned, outcome in finished))
            self._unsure = []

    def _finished(self, planned: PlannedTrial, outcome: Outcome) -> FrozenTrial:
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
        with translate_errors(self._url):
            return self._rows.count()

    def records(self) -> list[RecordedTrial]:
        """Every finished trial in the order of writing; one that failed and was run again is there twice."""
        with translate_errors(self._url):
            trials = self._rows.read()
        try:
            return [recorded_trial(self.sweep.workload, params, attrs) for params, attrs in trials]
        except (KeyError, ValidationError) as error:
            raise ConflictError(
                f"{self.name}: written by another version of mnist-ablate: use that one, or --fresh"
            ) from error

    def entries(self) -> dict[str, RecordedTrial]:
        """Every finished trial by its id; of one that was run again after it failed, the last."""
        return {entry.trial.id: entry for entry in self.records()}
