"""The workload as reports know it: its metrics, and what it says of inputs and diagnostics. Needs no TensorFlow."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mnist_ablate.workloads.keras_mnist import sections
from mnist_ablate.workloads.workload import Metric

_ACCURACIES = ("test", "val", "train", "best_val", "mean_val", "first_epoch_val")
_LOSSES = ("test", "val", "train", "first_epoch_val")
_METRICS = (
    *(Metric(f"{name}_accuracy", "", "higher", "share", 0.0, 1.0) for name in _ACCURACIES),
    *(Metric(f"{name}_loss", "", "lower", "nats", 0.0) for name in _LOSSES),
    *(Metric(f"epochs_to_{percent}", "", "lower", "epochs", 1.0) for percent in (90, 95, 97)),
    Metric("converged", low=0.0, high=1.0),
)


@dataclass(frozen=True)
class KerasMnist:
    """Classifiers of MNIST images, trained with Keras."""

    name: str = "keras_mnist"
    main_metric: str = "test_accuracy"
    selection_metric: str = "val_accuracy"
    seeds_vary: str = sections.SEEDS_VARY
    metrics: Mapping[str, Metric] = field(default_factory=lambda: {each.name: each for each in _METRICS})
    version: int = 4

    data_name = staticmethod(sections.data_name)
    input_section = staticmethod(sections.input_section)
    input_alarms = staticmethod(sections.input_alarms)
    diagnostic_sections = staticmethod(sections.diagnostic_sections)
    is_used = staticmethod(sections.is_used)


KERAS_MNIST = KerasMnist()
