"""The winner of a sweep in MLflow's model registry: trained again for its weights, checked against its record."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mnist_ablate.environment import TRAINING
from mnist_ablate.errors import AblateError, one_line
from mnist_ablate.ledger import progress
from mnist_ablate.ledger.ledger import Record
from mnist_ablate.settings import Settings
from mnist_ablate.tracking.client import connect, translate_errors
from mnist_ablate.tracking.mirror import Mirror
from mnist_ablate.tracking.registered_model import OUTCOME
from mnist_ablate.tracking.run_format import arm_name, claim_key, run_name
from mnist_ablate.trial import Outcome, RecordedTrial
from mnist_ablate.workloads.workload import Workload, repeatable


def register(record: Record, mirror: Mirror, settings: Settings, verdicts: Mapping[str, str]) -> str:
    """Register the winner unless it is there, and say in a line what is there now; `verdicts` are by claim.

    Raises UnreachableError if MLflow cannot be reached, AblateError if there is no winner or it cannot be trained.
    """
    sweep = record.sweep
    if sweep.workload.runs_code and not sweep.train:
        raise AblateError(
            f"{sweep.name}: a registered model would lack your own choices or images; it is not registered"
        )
    if sweep.workload.runs_code:
        raise AblateError(f"{sweep.name}: your own code keeps its models itself: write them to its trial_dir")
    found = progress.winner(record.plan, record.entries())
    if found is None:
        raise AblateError(f"{sweep.name}: nothing to register: no arm has completed every seed")
    name, arm = f"mnist-ablate-{sweep.name}", run_name(found.params, found.trial.seed)
    own = {"trial_id": found.trial.id, "sweep_digest": sweep.digest}
    client = connect(settings.tracking_uri)
    with translate_errors(settings.tracking_uri):
        for each in client.search_model_versions(f"name = '{name}'"):
            if own.items() <= each.tags.items():
                return f"registered: {name} version {each.version} ({arm}), as it was"
    run_id = mirror.run_id(found.trial)
    with tempfile.TemporaryDirectory() as folder:
        outcome = _trained(sweep.workload, found, Path(folder), settings)
        tags = {
            **own,
            **_tags(sweep.workload, found, outcome),
            **{claim_key("verdict", claim): verdict for claim, verdict in verdicts.items()},
        }
        with translate_errors(settings.tracking_uri):
            _describe(Path(folder), run_id)
            client.log_artifacts(run_id, folder, "model")
            if not client.search_registered_models(f"name = '{name}'"):
                client.create_registered_model(name, description=sweep.question)
            source = f"{client.get_run(run_id).info.artifact_uri}/model"
            made = client.create_model_version(name, source, run_id, tags=tags, await_creation_for=0)
    same = _same_numbers(sweep.workload, found, outcome)
    alone = "" if found.outcome.diagnostics.get("lanes", 1) == 1 else " by itself, not in lanes"
    differs = "" if same else f"; trained again here{alone}, its numbers differ: see its tags"
    return f"registered: {name} version {made.version} ({arm}){differs}"


def _trained(workload: Workload, found: RecordedTrial, folder: Path, settings: Settings) -> Outcome:
    """The outcome of training again, in a process of its own: keras stays out of this one, and its noise too."""
    trial = found.trial.model_dump_json()
    command = [sys.executable, "-m", "mnist_ablate.tracking.registered_model", str(folder)]
    command += [settings.trainer or workload.trainer, *([settings.data] if settings.data else [])]
    environment = {**os.environ, **TRAINING, **workload.environment(settings.weights)}
    done = subprocess.run(command, env=environment, input=trial, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if done.returncode:
        last = one_line("\n".join(reversed(done.stderr.splitlines())))
        raise AblateError(f"trial {found.trial.id} could not be trained again, so nothing was registered: {last}")
    outcome = Outcome.model_validate_json((folder / OUTCOME).read_text(encoding="utf-8"))
    (folder / OUTCOME).unlink()
    return outcome


def _same_numbers(workload: Workload, found: RecordedTrial, outcome: Outcome) -> bool:
    """Whether training again gave what was recorded, but for what it cost."""
    return repeatable(workload, outcome.metrics) == repeatable(workload, found.outcome.metrics)


def _describe(folder: Path, run_id: str) -> None:
    """The file that tells MLflow how to load the model, without a pickle."""
    from mlflow import pyfunc
    from mlflow.models import Model

    model = Model(artifact_path="model", run_id=run_id)
    pyfunc.add_to_model(model, loader_module="mnist_ablate.tracking.registered_model", data=".")
    model.save(str(folder / "MLmodel"))


def _tags(workload: Workload, found: RecordedTrial, outcome: Outcome) -> dict[str, str]:
    shown = {workload.main_metric, workload.selection_metric}
    return {
        "arm": arm_name(found.params, found.trial.seed),
        "seed": str(found.trial.seed),
        "chosen_by": f"mean {workload.selection_metric} of its arm",
        "same_numbers_as_recorded": str(_same_numbers(workload, found, outcome)).lower(),
        "data_digest": found.trial.data_digest,
        **{name: str(value) for name, value in outcome.metrics.items() if name in shown},
    }
