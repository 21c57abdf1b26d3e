"""Checks plan, ledger and MLflow against each other; reads both stores itself, so that it can find the driver wrong."""

import re
from collections.abc import Iterator, Mapping, Sequence

from mnist_ablate.ledger.raw_records import RawStudy
from mnist_ablate.settings import Settings
from mnist_ablate.verification import mlflow_check, raw_stores
from mnist_ablate.verification.ledger_check import CheckedLedger
from mnist_ablate.verification.raw_stores import RawExperiment

_SECRET = re.compile(r"://[^\s/:@]*:(?!\*\*\*@)[^\s/@]+@")


def problems(name: str, settings: Settings) -> list[str]:
    """What is wrong with what is recorded of a sweep, one line each: what, where, what to do; nothing if all is well.

    Raises SweepError if nothing is recorded, UnreachableError if the ledger or MLflow cannot be read.
    """
    studies = raw_stores.read_ledger(settings.ledger_url, name)
    ledger = CheckedLedger(studies)
    experiment = raw_stores.read_mlflow(settings.tracking_uri, name)
    return [*ledger.problems, *mlflow_check.problems(ledger, experiment), *_secrets(studies, experiment)]


def _secrets(studies: Sequence[RawStudy], experiment: RawExperiment | None) -> Iterator[str]:
    """Texts that look like an address with a password."""
    for study in studies:
        records = ((f"record {trial.number}", trial.attrs) for trial in study.trials)
        for where, texts in (("its attributes", study.attrs), *records):
            yield from _told(f"ledger: {study.name}: {where}", texts)
    if experiment is not None:
        yield from _told("MLflow: the experiment", experiment.tags)
        for run in experiment.runs:
            yield from _told(f"MLflow: run {run.run_id}", {**run.params, **run.tags})


def _told(where: str, texts: Mapping[str, str]) -> Iterator[str]:
    for key, value in texts.items():
        if _SECRET.search(value):
            yield f"{where}: {key} holds a password: change the password, then remove it there"
