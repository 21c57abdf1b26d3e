"""A winner's model: trained again with its weights, which sweeps do not keep, and opened from MLflow's registry.

`python -m` trains the trial on its stdin, in a process of its own. `mlflow.pyfunc.load_model` names this module.
"""

import sys
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from mnist_ablate.trial import Trial
from mnist_ablate.workloads.workload import default_workload

OUTCOME = "outcome.json"  # what came out, beside the model that the trainer writes


def train_again(trial: Trial, folder: Path, trainer: str, images: Path | None = None) -> None:
    """Train a trial, and leave its model and its outcome in a folder."""
    made = resolve_name(trainer)(default_workload().load(images))
    outcome = made.train(trial, lambda _epoch: None)
    made.save(trial, folder)
    (folder / OUTCOME).write_text(outcome.model_dump_json(), encoding="utf-8")


def _load_pyfunc(path: str) -> Any:
    """The model in a folder, as MLflow's pyfunc wants it; MLflow calls this by its name."""
    return default_workload().open_model(Path(path))


if __name__ == "__main__":
    train_again(Trial.model_validate_json(sys.stdin.read()), Path(sys.argv[1]), sys.argv[2], *map(Path, sys.argv[3:4]))
