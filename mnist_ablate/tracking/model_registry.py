"""The winner of a sweep in MLflow's model registry: trained again for its weights, checked against its record."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_ablate.errors import AblateError, one_line
from mnist_ablate.ledger import progress
from mnist_ablate.ledger.ledger import Record
from mnist_ablate.settings import Settings
from mnist_ablate.tracking.client import connect, translate_errors
from mnist_ablate.tracking.mirror import Mirror
from mnist_ablate.tracking.registered_model import OUTCOME, TRIAL
from mnist_ablate.tracking.run_format import run_name
from mnist_ablate.trial import Outcome, RecordedTrial
from mnist_ablate.workloads.workload import default_workload

if TYPE_CHECKING:
    from mlflow import MlflowClient

_FOLDER = "model"
_EXISTS = "RESOURCE_ALREADY_EXISTS"


def model_name(sweep: str) -> str:
    """The name of a sweep's model in the registry."""
    return f"mnist-ablate-{sweep}"


def register(record: Record, mirror: Mirror, settings: Settings, verdicts: Mapping[str, str]) -> str:
    """Register the winner unless it is there, and say in a line what is there now; `verdicts` are by claim.

    Raises UnreachableError if MLflow cannot be reached, AblateError if there is no winner or it cannot be trained.
    """
    plan = record.plan
    found = progress.winner(plan, record.entries())
    if found is None:
        raise AblateError(f"{record.sweep.name}: nothing to register: no arm has completed every seed")
    name = model_name(record.sweep.name)
    arm = run_name(found.params, found.trial.seed)
    client = connect(settings.tracking_uri)
    with translate_errors(settings.tracking_uri):
        version = _version(client, name, found, record.sweep.digest)
    if version:
        return f"registered: {name} version {version} ({arm}), as it was"
    run_id = mirror.stored()[found.trial.id].run_id
    with tempfile.TemporaryDirectory() as folder:
        outcome = _trained(found, Path(folder), settings)
        with translate_errors(settings.tracking_uri):
            _describe(Path(folder), run_id)
            client.log_artifacts(run_id, folder, _FOLDER)
            tags = _tags(found, outcome, record.sweep.digest, verdicts)
            version = _create(client, name, record.sweep.question, run_id, tags)
    differs = (
        "" if outcome.metrics == found.outcome.metrics else "; trained again here, its numbers differ: see its tags"
    )
    return f"registered: {name} version {version} ({arm}){differs}"


def _version(client: "MlflowClient", name: str, found: RecordedTrial, digest: str) -> str:
    """The version of the model that is this trial of this sweep; empty if there is none."""
    own = {"trial_id": found.trial.id, "sweep_digest": digest}
    versions = client.search_model_versions(f"name = '{name}'")
    return next((str(each.version) for each in versions if own.items() <= each.tags.items()), "")


def _trained(found: RecordedTrial, folder: Path, settings: Settings) -> Outcome:
    """The outcome of training again, in a process of its own: keras stays out of this one, and its noise too."""
    (folder / TRIAL).write_text(found.trial.model_dump_json(), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "mnist_ablate.tracking.registered_model",
        str(folder),
        settings.trainer or default_workload().trainer,
    ]
    command += [str(settings.data)] if settings.data else []
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if settings.weights is not None:
        environment |= default_workload().environment(settings.weights)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if done.returncode:
        last = one_line("\n".join(reversed(done.stderr.splitlines())))
        raise AblateError(f"trial {found.trial.id} could not be trained again, so nothing was registered: {last}")
    outcome = Outcome.model_validate_json((folder / OUTCOME).read_text(encoding="utf-8"))
    for each in (TRIAL, OUTCOME):
        (folder / each).unlink()
    return outcome


def _describe(folder: Path, run_id: str) -> None:
    """The file that tells MLflow how to load the model, without a pickle."""
    from mlflow import pyfunc
    from mlflow.models import Model

    model = Model(artifact_path=_FOLDER, run_id=run_id)
    pyfunc.add_to_model(model, loader_module="mnist_ablate.tracking.registered_model", data=".")
    model.save(str(folder / "MLmodel"))


def _tags(found: RecordedTrial, outcome: Outcome, digest: str, verdicts: Mapping[str, str]) -> dict[str, str]:
    workload = default_workload()
    metrics = {
        name: str(outcome.metrics[name])
        for name in (workload.main_metric, workload.selection_metric)
        if name in outcome.metrics
    }
    return {
        "trial_id": found.trial.id,
        "sweep_digest": digest,
        "arm": run_name(found.params, found.trial.seed).rpartition(" seed ")[0],
        "seed": str(found.trial.seed),
        "chosen_by": f"mean {workload.selection_metric} of its arm",
        "same_numbers_as_recorded": str(outcome.metrics == found.outcome.metrics).lower(),
        "data_digest": found.trial.data_digest,
        **metrics,
        **{f"verdict.{claim}": verdict for claim, verdict in verdicts.items()},
    }


def _create(client: "MlflowClient", name: str, question: str, run_id: str, tags: Mapping[str, str]) -> str:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=question)
    except MlflowException as error:
        if error.error_code != _EXISTS:
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/{_FOLDER}"
    made = client.create_model_version(name, source, run_id, tags=dict(tags), await_creation_for=0)
    return str(made.version)
