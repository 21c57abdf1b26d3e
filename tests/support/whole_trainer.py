"""The fake trainer with every metric that a shipped sweep's claims ask for."""

from collections.abc import Sequence

from fake_trainer import FakeTrainer

from mnist_ablate.trial import Epoch, Outcome, Trial
from mnist_ablate.workloads.keras_mnist.data import Dataset
from mnist_ablate.workloads.keras_mnist.metrics import curve_metrics


class WholeTrainer(FakeTrainer):
    def _outcome(self, trial: Trial, reached: Sequence[Epoch], fault: str, started_ms: int) -> Outcome:
        made = super()._outcome(trial, reached, fault, started_ms)
        costs = {"epoch_seconds": 1 + made.metrics["val_accuracy"] % 0.01}
        of_curve = curve_metrics(made.epochs, trial.settings["epochs"], 10)
        return made.model_copy(update={"metrics": {**costs, **of_curve, **made.metrics}})


def factory(_digits: Dataset) -> WholeTrainer:
    return WholeTrainer()
