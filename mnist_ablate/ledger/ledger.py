"""The one truth: Optuna's storage, a study for each sweep, a final trial for each outcome.

A trial is written when it has ended, in one transaction: a crash leaves it whole or absent. Nothing here runs trials.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from pydantic import JsonValue, ValidationError

from mnist_ablate.errors import ConflictError, SweepError
from mnist_ablate.ledger.database import open_storage, resolved_folder, sqlite_file, translate_errors, writable
from mnist_ablate.ledger.lock import Lock, hold
from mnist_ablate.ledger.optuna_rows import TrialRow, TrialRows
from mnist_ablate.ledger.preregistration import Earlier, Registration, differences, digests
from mnist_ablate.sweep.plan import Plan, PlannedTrial, make_plan
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.text import hint, plainly
from mnist_ablate.trial import Outcome, RecordedTrial
from mnist_ablate.workloads.workload import default_workload, stored_trial

_SCHEMA = ".schema"
"""A lock that no sweep can have: names start with a letter or digit."""
_SCHEMA_WAIT_S = 60.0
_CONTENT = "content"
_ANY_SIZE = 10**9
_STATES = {
    "complete": TrialState.COMPLETE,
    "diverged": TrialState.COMPLETE,
    "failed": TrialState.FAIL,
    "lost": TrialState.FAIL,
    "pruned": TrialState.PRUNED,
}


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
        path = sqlite_file(url)
        self._storage: optuna.storages.RDBStorage | None = None
        if reading and path and not path.exists():
            return
        if reading and path and not writable(resolved_folder(path)):
            with translate_errors(url):
                self._storage = open_storage(url, create=False)
            return
        with hold(url, _SCHEMA, wait_s=_SCHEMA_WAIT_S), translate_errors(url):
            self._storage = open_storage(url, create=True)

    @contextmanager
    def driving(self, name: str) -> Iterator[Lock]:
        """While inside, no other driver runs the sweep. Raises ConflictError that names the one that does."""
        with hold(self.url, name) as lock:
            yield lock

    def begin(self, plan: Plan, *, fresh: bool) -> "Record":
        """The record to continue or, if there is none or `fresh`, a new one; older ones stay as they are.

        Raises ConflictError if the latest record of this name has another digest: the sweep file was changed.
        """
        with translate_errors(self.url):
            latest = self._latest(plan.sweep.name)
            if latest is None or (fresh and _is_registered(latest)):
                latest = self._create(plan.sweep.name, latest)
            if not _is_registered(latest):  # new, or cut off by a crash before its first trial
                _register(latest, plan)
            record = self._record(latest)
        if (record.sweep.digest, record.data_digest) != (plan.sweep.digest, plan.data_digest):
            changes = differences(_content(record.sweep, record.data_digest), _content(plan.sweep, plan.data_digest))
            raise ConflictError(f"{plan.sweep.name}: stored sweep differs: {changes}; use --fresh or another name")
        return record

    def find(self, name: str, number: int | None = None) -> "Record":
        """The latest record of a sweep, or the `number`-th that was begun. Raises SweepError if there is none."""

        def wanted(study: optuna.Study) -> bool:
            return _is_registered(study) and number in (None, int(study.study_name.rpartition("/")[2]))

        with translate_errors(self.url):
            latest = self._latest(name, wanted)
            if latest is not None:
                return self._record(latest)
            known = optuna.get_all_study_names(self._storage) if self._storage else []
        recorded = hint(name, dict.fromkeys(study.rpartition("/")[0] for study in known), "recorded")
        asked = plainly(name)
        if number is not None and name in {study.rpartition("/")[0] for study in known}:
            raise SweepError(f"{asked}/{number}: no such record of {asked}: leave the number out for the latest")
        raise SweepError(f"{asked}: nothing recorded: run `mnist-ablate sweep {asked}` first; {recorded}")

    def names(self) -> list[str]:
        """Every sweep that is recorded, in the order of the alphabet."""
        if self._storage is None:
            return []
        with translate_errors(self.url):
            studies = optuna.get_all_study_names(self._storage)
            names = sorted({study.rpartition("/")[0] for study in studies})
            return [name for name in names if self._latest(name, _is_registered)]

    def _latest(self, name: str, wanted: Callable[[optuna.Study], bool] = lambda _study: True) -> optuna.Study | None:
        return next((study for study in self._studies(name) if wanted(study)), None)

    def _record(self, study: optuna.Study) -> "Record":
        return Record(study, self.url, self._rows(study), self._earlier(study))

    def _rows(self, study: optuna.Study) -> TrialRows:
        assert self._storage is not None, "a study comes from a storage"
        return TrialRows(self._storage, study.study_name)

    def _earlier(self, study: optuna.Study) -> tuple[Earlier, ...]:
        """The records of the same name that were begun before this one, the first one first."""
        name, _, number = study.study_name.rpartition("/")
        before = (each for each in self._studies(name) if int(each.study_name.rpartition("/")[2]) < int(number))
        return tuple(_begun(each, self._rows(each).count()) for each in before if _is_registered(each))[::-1]

    def _studies(self, name: str) -> Iterator[optuna.Study]:
        """Those of a sweep, the latest first, each loaded when it is asked for."""
        if self._storage is None:
            return
        found = (each.rpartition("/") for each in optuna.get_all_study_names(self._storage))
        numbers = (int(number) for of, _, number in found if of == name and number.isdecimal())
        for number in sorted(numbers, reverse=True):
            yield optuna.load_study(study_name=f"{name}/{number}", storage=self._storage)

    def _create(self, name: str, latest: optuna.Study | None) -> optuna.Study:
        number = 1 + (int(latest.study_name.rpartition("/")[2]) if latest else 0)
        return optuna.create_study(study_name=f"{name}/{number}", storage=self._storage, direction="maximize")


def _register(study: optuna.Study, plan: Plan) -> None:
    """Optuna writes one attribute a transaction: the content goes last and says that all are there."""
    study.set_user_attr("sweep", plan.sweep.name)
    study.set_user_attr("digest", plan.sweep.digest)
    study.set_user_attr("preregistration", digests(plan))
    study.set_user_attr("registered", datetime.now(UTC).isoformat(timespec="seconds"))
    study.set_user_attr(_CONTENT, _content(plan.sweep, plan.data_digest))


def _begun(study: optuna.Study, trials: int) -> Earlier:
    attrs = study.user_attrs
    content = attrs[_CONTENT]
    sweep = Sweep.model_validate(content["sweep"])
    return Earlier(study.study_name, attrs["registered"], sweep, content["data_digest"], trials)


def _is_registered(study: optuna.Study) -> bool:
    return _CONTENT in study.user_attrs


class Record:
    """What is recorded of one sweep."""

    def __init__(self, study: optuna.Study, url: str, rows: TrialRows, earlier: tuple[Earlier, ...] = ()) -> None:
        self._study, self._url, self._rows, self._earlier = study, url, rows, earlier
        self._attrs = study.user_attrs
        self._unsure: list[str] = []
        self._distributions: dict[str, BaseDistribution] = {
            **{name: CategoricalDistribution(values) for name, values in self.sweep.factors.items()},
            "seed": IntDistribution(0, 2**31),
        }

    @property
    def sweep(self) -> Sweep:
        """The sweep as it was registered, before its first trial."""
        return Sweep.model_validate(self._attrs["content"]["sweep"])

    @property
    def data_digest(self) -> str:
        """The data set it was registered with."""
        return str(self._attrs["content"]["data_digest"])

    @property
    def plan(self) -> Plan:
        """Its trials, however many: that was decided when it was begun."""
        return make_plan(self.sweep, self.data_digest, max_trials=_ANY_SIZE)

    @property
    def registered(self) -> str:
        """When question, plan, claims and margins were recorded, ISO 8601, UTC."""
        return str(self._attrs["registered"])

    @property
    def registration(self) -> Registration:
        """What was written down before its first trial."""
        attrs = self._attrs
        return Registration(self.registered, str(attrs["digest"]), attrs.get("preregistration", {}), self._earlier)

    @property
    def fingerprints(self) -> list[dict[str, JsonValue]]:
        """Documents of the normalizers on its training images; none if they were never measured."""
        return list(self._study.user_attrs.get("fingerprints", []))

    @fingerprints.setter
    def fingerprints(self, found: list[dict[str, JsonValue]]) -> None:
        with translate_errors(self._url):
            self._study.set_user_attr("fingerprints", found)

    @property
    def name(self) -> str:
        """The record's own name: the sweep's, and how many times it was begun."""
        return self._study.study_name

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

    def records(self) -> list[RecordedTrial]:
        """Every finished trial in the order of writing; one that failed and was run again is there twice."""
        with translate_errors(self._url):
            trials = self._rows.read()
        try:
            return [_entry(trial) for trial in trials]
        except (KeyError, ValidationError) as error:
            raise ConflictError(
                f"{self._study.study_name}: written by another version of mnist-ablate: use that one, or --fresh"
            ) from error

    def entries(self) -> dict[str, RecordedTrial]:
        """Every finished trial by its id; of one that was run again after it failed, the last."""
        return {entry.trial.id: entry for entry in self.records()}

    @property
    def mirrored(self) -> Mirrored:
        """What MLflow was seen to have."""
        return Mirrored(**self._study.user_attrs.get("mirrored", {}))

    @mirrored.setter
    def mirrored(self, seen: Mirrored) -> None:
        with translate_errors(self._url):
            self._study.set_user_attr("mirrored", vars(seen))

    def _finished(self, planned: PlannedTrial, outcome: Outcome) -> FrozenTrial:
        workload, state = default_workload(), _STATES[outcome.status]
        score = workload.selection_metric
        complete = state == TrialState.COMPLETE
        content = {
            "trial": planned.trial.model_dump(exclude={"id"}),
            "stage": planned.stage,
            "outcome": outcome.model_dump(),
        }
        return create_trial(
            state=state,
            value=outcome.metrics.get(workload.main_metric, outcome.metrics.get(score)) if complete else None,
            params={**planned.arm.params, "seed": planned.trial.seed},
            distributions=self._distributions,
            user_attrs={"trial_id": planned.trial.id, **content, "sha256": _digest(content)},
            intermediate_values={epoch.number: epoch.metrics[score] for epoch in outcome.epochs},
        )


def _entry(recorded: TrialRow) -> RecordedTrial:
    return RecordedTrial(
        trial=stored_trial(recorded.attrs["trial"]),
        params={name: value for name, value in recorded.params.items() if name != "seed"},
        stage=json.loads(recorded.attrs["stage"]),
        outcome=Outcome.model_validate_json(recorded.attrs["outcome"]),
    )


def _digest(content: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _content(sweep: Sweep, data_digest: str) -> dict[str, object]:
    return {"sweep": sweep.model_dump(mode="json"), "data_digest": data_digest}
