"""This workload behind the seam: shared Keras networks, trained on MNIST or on other images in its layout.

Importing it needs neither Keras nor NumPy. They are loaded with a trial or its inputs.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, JsonValue

from mnist_ablate.trial import Outcome, Params, RecordedTrial, Scalar
from mnist_ablate.workloads.keras_mnist.choices.models import MODELS
from mnist_ablate.workloads.keras_mnist.choices.optimizers import default_learning_rate
from mnist_ablate.workloads.keras_mnist.metrics import METRICS, chance_metrics, curve_metrics
from mnist_ablate.workloads.keras_mnist.recipe import TRAINER_VERSION, Recipe
from mnist_ablate.workloads.workload import Contents, Cost, Inputs, Metric, PlannedSettings, Section

if TYPE_CHECKING:
    from mnist_ablate.workloads.keras_mnist.data import Dataset

MNIST_DIGEST = "b8370d4157fa0b022fbe73e37bdbd58bf6ba70dc85345002838ce9b2e3868914"
_CLASSES = {MNIST_DIGEST: 10}
"""The number of classes of known images. That of others follows from a diverged trial, which counts with chance."""


class KerasMnist:
    """See `workloads.workload.Workload`."""

    name = "keras_mnist"
    version = TRAINER_VERSION
    settings: type[BaseModel] = Recipe
    metrics: Mapping[str, Metric] = METRICS
    main_metric = "test_accuracy"
    selection_metric = "val_accuracy"
    budget = "epochs"
    derived: Mapping[str, str] = {"learning_rate": "optimizer"}
    trainer = "mnist_ablate.workloads.keras_mnist.trainer:Trainer"
    shipped_digest = MNIST_DIGEST
    shipped_name = "the MNIST that ships"
    seeds_vary = (
        "The seeds vary the initial weights, the order of the images and the dropout masks. The images and their split"
        " are the same in every trial."
    )

    @property
    def choices(self) -> Mapping[str, Mapping[str, str]]:
        """The entries of `choices/`, each with the first line of its docstring."""
        from mnist_ablate.workloads.keras_mnist.choices.all_choices import CHOICES, summary

        return {axis: {name: summary(entry) for name, entry in entries.items()} for axis, entries in CHOICES.items()}

    @property
    def template(self) -> str:
        """The file `template.yaml`."""
        return Path(__file__).with_name("template.yaml").read_text(encoding="utf-8")

    def complete(self, settings: Mapping[str, Scalar]) -> Params:
        """A learning rate of 0 becomes the optimizer's default."""
        found: Params = Recipe.model_validate(settings).model_dump()
        found["learning_rate"] = found["learning_rate"] or default_learning_rate(str(found["optimizer"]))
        return found

    def is_used(self, setting: str, settings: Mapping[str, Scalar]) -> bool:
        """Weights have a meaning only for a model with a frozen base."""
        return setting != "weights" or _has_frozen_base(settings["model"])

    def pace(self, settings: Mapping[str, Scalar]) -> str:
        """The model."""
        return str(settings["model"])

    def load(self, path: Path | None) -> "Dataset":
        """Images and labels of a `.npz`, or MNIST."""
        from mnist_ablate.workloads.keras_mnist import data

        return data.load(path)

    def read(self, content: bytes | None) -> "Dataset":
        """The same from the bytes of a `.npz`."""
        from mnist_ablate.workloads.keras_mnist import data

        return data.load() if content is None else data.read("--data", io.BytesIO(content))

    def prepare(self, planned: PlannedSettings, given: Path | None, say: Callable[[str], None]) -> None:
        """Download the missing weights of frozen bases."""
        from mnist_ablate.workloads.keras_mnist import weights_download

        for weights in _weights_needed(planned):
            weights_download.ensure_downloaded(weights, given, say)

    def warnings(self, planned: PlannedSettings, given: Path | None) -> list[str]:
        """The weights that are missing."""
        from mnist_ablate.workloads.keras_mnist import weights_download

        return [text for each in _weights_needed(planned) if (text := weights_download.why_unavailable(each, given))]

    def environment(self, given: Path | None) -> dict[str, str]:
        """The variable that names the file of pretrained weights."""
        from mnist_ablate.workloads.keras_mnist.weights_download import ENVIRONMENT

        return {ENVIRONMENT: str(given.absolute())} if given else {}

    def fingerprints(self, inputs: Inputs, planned: PlannedSettings) -> list[dict[str, JsonValue]]:
        """The fingerprint of every normalizer that the plan can train with, in its order."""
        from mnist_ablate.workloads.keras_mnist.data_gate import fingerprints

        own = (settings["normalizer"] for settings in planned.arms)
        names = dict.fromkeys([*own, *planned.tried.get("normalizer", ())])
        return fingerprints(map(str, names), Recipe.model_validate(planned.arms[0]), cast("Dataset", inputs))

    def cost(self, inputs: Inputs, arms: Sequence[Params]) -> Cost:
        """Times a trial on a part of the images, of each network shape."""
        from mnist_ablate.workloads.keras_mnist.timing import cost

        return cost(cast("Dataset", inputs), [Recipe.model_validate(settings) for settings in arms])

    def implied_metrics(self, settings: Mapping[str, Scalar], data_digest: str, outcome: Outcome) -> dict[str, float]:
        """The metrics of the last epoch and the curve; all metrics of a diverged trial, which counts with chance."""
        epochs, planned, classes = outcome.epochs, int(settings[self.budget]), _CLASSES.get(data_digest)
        if outcome.status == "complete" and len(epochs) == planned:
            curve = curve_metrics(epochs, planned, classes or 1)
            known = {name: value for name, value in curve.items() if classes or name != "converged"}
            return {**epochs[-1].metrics, **known}
        if outcome.status == "diverged" and len(epochs) < planned:
            chance = outcome.metrics.get("test_accuracy", outcome.metrics.get("val_accuracy", 0.0))
            classes = classes or max(2, round(1 / max(chance, 1e-6)))
            return {**chance_metrics(classes), **curve_metrics(epochs, planned, classes)}
        return {}

    def input_section(self, contents: Contents) -> Section:
        """The data gate: every normalizer's numbers, with its flags."""
        from mnist_ablate.workloads.keras_mnist import sections

        return sections.input_section(contents)

    def input_alarms(self, contents: Contents) -> list[str]:
        """The normalizers that damage the images."""
        from mnist_ablate.workloads.keras_mnist import sections

        return sections.input_alarms(contents)

    def diagnostic_sections(self, arms: Mapping[str, Sequence[RecordedTrial]]) -> list[Section]:
        """Dead units, the inputs of the network, its units and gradients."""
        from mnist_ablate.workloads.keras_mnist import sections

        return sections.diagnostic_sections(arms)

    def open_model(self, folder: Path) -> Any:
        """The network with its weights and its normalizer: images in, digits out."""
        from mnist_ablate.workloads.keras_mnist.classifier import Classifier

        return Classifier(folder)


def _has_frozen_base(model: Scalar) -> bool:
    found = MODELS.get(str(model))  # a record can have a model of another version
    return found is not None and bool(found.frozen_base)


def _weights_needed(planned: PlannedSettings) -> list[str]:
    """The names of the weights that frozen bases are trained on."""
    pairs = (
        (model, weights)
        for arm in planned.arms
        for model in (arm["model"], *planned.tried.get("model", ()))
        for weights in (arm["weights"], *planned.tried.get("weights", ()))
    )
    return list(dict.fromkeys(str(weights) for model, weights in pairs if _has_frozen_base(model)))


KERAS_MNIST = KerasMnist()
