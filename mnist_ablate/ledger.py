"""The one truth: Optuna's storage, a study for each sweep, a final trial for each outcome.

A trial is written when it has ended, in one transaction: a crash leaves it whole or absent. Nothing here runs trials.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from mnist_ablate.errors import AblateError, ConflictError, DiskError, UnreachableError
from mnist_ablate.lock import hold
from mnist_ablate.masking import mask
from mnist_ablate.plan import Plan, Planned
from mnist_ablate.sweep import Params, Sweep
from mnist_ablate.trial import Outcome, Scalar, Trial

METRIC = "test_accuracy"
_STATES = {
    "complete": TrialState.COMPLETE,
    "diverged": TrialState.COMPLETE,
    "failed": TrialState.FAIL,
    "lost": TrialState.FAIL,
}


@dataclass(frozen=True)
class Entry:
    """A finished trial as recorded; `params` are its arm's factors, `stage` is "tuning" or "verdict"."""

    trial: Trial
    params: Params
    stage: str
    outcome: Outcome


class Ledger:
    """Finished trials by sweep. `url` is a SQLAlchemy URL; `home` is where lock files of a SQLite ledger stand."""

    def __init__(self, url: str, home: Path) -> None:
        self.url, self._home = url, home
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with _explained(url), hold(url, home, "schema", wait_s=60.0):
            self._storage = optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})

    @contextmanager
    def driving(self, name: str) -> Iterator[None]:
        """While inside, no other driver runs the sweep. Raises ConflictError that names the one that does."""
        with _explained(self.url), hold(self.url, self._home, name):
            yield

    def begin(self, plan: Plan, *, fresh: bool) -> "Record":
        """The record to continue or, if there is none or `fresh`, a new one; older ones stay as they are.

        Raises ConflictError if the latest record of this name has another digest: the sweep file was changed.
        """
        with _explained(self.url):
            latest = self._latest(plan.sweep.name)
            content = _content(plan)
            if latest is None or fresh:
                return Record(self._create(plan, content), self.url)
            stored = latest.user_attrs["content"]
        if stored != content:
            raise ConflictError(
                f"{plan.sweep.name}: stored sweep differs: {_difference(stored, content)}; use --fresh or another name"
            )
        return Record(latest, self.url)

    def find(self, name: str) -> "Record":
        """The latest record of a sweep. Raises ConflictError if it was never run."""
        with _explained(self.url):
            latest = self._latest(name)
        if latest is None:
            raise ConflictError(f"{name}: nothing recorded: run `mnist-ablate sweep {name}` first")
        return Record(latest, self.url)

    def names(self) -> list[str]:
        """The sweeps that were ever run, oldest first."""
        with _explained(self.url):
            summaries = sorted(optuna.get_all_study_summaries(self._storage), key=lambda study: study._study_id)
        return list(dict.fromkeys(study.user_attrs["sweep"] for study in summaries if "sweep" in study.user_attrs))

    def _latest(self, name: str) -> optuna.Study | None:
        prefix = f"{name}/"
        numbers = [
            int(study.rpartition("/")[2])
            for study in optuna.get_all_study_names(self._storage)
            if study.startswith(prefix) and study[len(prefix) :].isdecimal()
        ]
        return optuna.load_study(study_name=f"{name}/{max(numbers)}", storage=self._storage) if numbers else None

    def _create(self, plan: Plan, content: dict[str, Any]) -> optuna.Study:
        latest = self._latest(plan.sweep.name)
        number = 1 + (int(latest.study_name.rpartition("/")[2]) if latest else 0)
        study = optuna.create_study(
            study_name=f"{plan.sweep.name}/{number}", storage=self._storage, direction="maximize"
        )
        study.set_user_attr("sweep", plan.sweep.name)
        study.set_user_attr("digest", plan.sweep.digest)
        study.set_user_attr("registered", datetime.now(UTC).isoformat(timespec="seconds"))
        study.set_user_attr("content", content)
        return study


class Record:
    """What is recorded of one sweep."""

    def __init__(self, study: optuna.Study, url: str) -> None:
        self._study, self._url = study, url
        factors = self.sweep.factors.items()
        self._distributions: dict[str, BaseDistribution] = {
            **{name: CategoricalDistribution(values) for name, values in factors},
            "seed": IntDistribution(0, 2**31),
        }

    @property
    def sweep(self) -> Sweep:
        """The sweep as it was registered, before its first trial."""
        return Sweep.model_validate(self._study.user_attrs["content"]["sweep"])

    @property
    def data_digest(self) -> str:
        """The data set it was registered with."""
        return str(self._study.user_attrs["content"]["data_digest"])

    @property
    def registered(self) -> str:
        """When question, plan, claims and margins were recorded, ISO 8601, UTC."""
        return str(self._study.user_attrs["registered"])

    @property
    def name(self) -> str:
        """The record's own name: the sweep's, and how many times it was begun."""
        return self._study.study_name

    def add(self, planned: Planned, outcome: Outcome) -> None:
        """Write a finished trial, whole, in one transaction."""
        trial, recorded = planned.trial, outcome.metrics.get(METRIC)
        params = {**planned.arm.params, "seed": trial.seed}
        state = _STATES[outcome.status]
        finished = create_trial(
            state=state,
            value=recorded if state == TrialState.COMPLETE else None,
            params=params,
            distributions=self._distributions,
            user_attrs={
                "trial_id": trial.id,
                "stage": planned.stage,
                "trial": trial.model_dump(),
                "outcome": outcome.model_dump(),
            },
            intermediate_values={epoch.number: epoch.val_accuracy for epoch in outcome.epochs},
        )
        with _explained(self._url):
            self._study.add_trial(finished)

    def entries(self) -> dict[str, Entry]:
        """Every finished trial by its id; of one that was run again after it failed, the last."""
        with _explained(self._url):
            trials = self._study.get_trials(deepcopy=False)
        return {trial.user_attrs["trial_id"]: _entry(trial.user_attrs, trial.params) for trial in trials}

    @property
    def mirrored(self) -> int:
        """How many entries MLflow was seen to have."""
        return int(self._study.user_attrs.get("mirrored", 0))

    @mirrored.setter
    def mirrored(self, entries: int) -> None:
        with _explained(self._url):
            self._study.set_user_attr("mirrored", entries)


def _entry(attrs: Mapping[str, Any], params: Mapping[str, Scalar]) -> Entry:
    return Entry(
        trial=Trial.model_validate(attrs["trial"]),
        params={name: value for name, value in params.items() if name != "seed"},
        stage=attrs["stage"],
        outcome=Outcome.model_validate(attrs["outcome"]),
    )


def _content(plan: Plan) -> dict[str, Any]:
    """What was registered, as JSON; two contents are equal if their sweeps ask the same."""
    return {"sweep": plan.sweep.model_dump(mode="json"), "data_digest": plan.data_digest}


def _difference(stored: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    old, new = dict(_flat(stored)), dict(_flat(content))
    changes = [
        f"{name} {old.get(name, 'nothing')} -> {new.get(name, 'nothing')}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]
    return ", ".join(changes[:3]) + (f" and {len(changes) - 3} more" if len(changes) > 3 else "")


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield path, value
        return
    for key, inner in value.items():
        yield from _flat(inner, key if path in ("", "sweep", "fixed") else f"{path}.{key}")


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Database errors as one line, without the password."""
    try:
        yield
    except AblateError:
        raise
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError) as error:
        text = mask(str(error.__cause__ or error).partition("\n")[0])
        if any(sign in text for sign in ("disk is full", "readonly", "read-only", "No space", "unable to open")):
            raise DiskError(f"no space on, or no right to write, {mask(url)}: free it and run again ({text})") from error
        raise UnreachableError(f"database {mask(url)} not usable: start it or check OPTUNA_STORAGE ({text})") from error
