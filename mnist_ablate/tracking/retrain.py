"""A process that trains one recorded trial again and keeps the weights, which sweeps do not; records nothing."""

import sys
from pathlib import Path
from pkgutil import resolve_name

from mnist_ablate.trial import Trial
from mnist_ablate.workloads.workload import default_workload

TRIAL, OUTCOME = "trial.json", "outcome.json"
"""In the folder: what is asked; what came out. The trainer writes the model beside them."""


def main(folder: Path, trainer: str, images: Path | None = None) -> None:
    """Train the trial in `folder`/trial.json."""
    trial = Trial.model_validate_json((folder / TRIAL).read_text(encoding="utf-8"))
    made = resolve_name(trainer)(default_workload().load(images))
    outcome = made.train(trial, lambda _epoch: None)
    made.save(trial, folder)
    (folder / OUTCOME).write_text(outcome.model_dump_json(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *map(Path, sys.argv[3:4]))
