"""A process that trains one recorded trial again and keeps the weights, which sweeps do not; records nothing."""

import json
import sys
from pathlib import Path
from pkgutil import resolve_name

from mnist_ablate.trial import Trial
from mnist_ablate.workloads.keras_mnist import data

TRIAL, ABOUT, OUTCOME, WEIGHTS = "trial.json", "model.json", "outcome.json", "model.weights.h5"
"""In the folder: what is asked; what the model is, its outcome and its weights, which are written."""


def main(folder: Path, trainer: str, images: Path | None = None) -> None:
    """Train the trial in `folder`/trial.json."""
    trial = Trial.model_validate_json((folder / TRIAL).read_text(encoding="utf-8"))
    digits = data.load(images)
    made = resolve_name(trainer)(digits)
    outcome = made.train(trial, lambda _epoch: None)
    made.save(trial, folder / WEIGHTS)
    about = {"image_shape": digits.image_shape, "classes": digits.classes, "trial": trial.model_dump()}
    (folder / ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")
    (folder / OUTCOME).write_text(outcome.model_dump_json(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *map(Path, sys.argv[3:4]))
