"""What `mlflow.pyfunc.load_model("models:/mnist-ablate-NAME/1")` gives: the model of a workload."""

from pathlib import Path
from typing import Any

from mnist_ablate.workloads.workload import default_workload


def _load_pyfunc(path: str) -> Any:
    """Called by MLflow, which names it."""
    return default_workload().open_model(Path(path))
