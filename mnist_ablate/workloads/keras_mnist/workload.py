"""This workload behind the seam: networks on MNIST or images in its layout. Importing it loads no Keras, no NumPy."""

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, JsonValue

from mnist_ablate.trial import Outcome, Params, Scalar
from mnist_ablate.workloads.keras_mnist import sections, weights_download
from mnist_ablate.workloads.keras_mnist.choices import frozen_bases, layers
from mnist_ablate.workloads.keras_mnist.choices.models import MODELS
from mnist_ablate.workloads.keras_mnist.choices.optimizers import OPTIMIZERS, default_learning_rate
from mnist_ablate.workloads.keras_mnist.metrics import METRICS, chance_metrics, curve_metrics
from mnist_ablate.workloads.keras_mnist.recipe import TRAINER_VERSION, Recipe
from mnist_ablate.workloads.workload import Cost, Inputs, Metric, PlannedSettings

MNIST_DIGEST = "b8370d4157fa0b022fbe73e37bdbd58bf6ba70dc85345002838ce9b2e3868914"
_CLASSES = {MNIST_DIGEST: 10}
"""The number of classes of known images. That of others follows from a diverged trial, which counts with chance."""


class KerasMnist:
    """See `workloads.workload.Workload`."""

    name = "keras_mnist"
    version = TRAINER_VERSION
    fixed_defaults = True
    runs_code = ""
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
    template = Path(__file__).with_name("template.yaml").read_text(encoding="utf-8")
    input_section = staticmethod(sections.input_section)
    input_alarms = staticmethod(sections.input_alarms)
    diagnostic_sections = staticmethod(sections.diagnostic_sections)

    @property
    def choices(self) -> Mapping[str, Mapping[str, str]]:
        from mnist_ablate.workloads.keras_mnist.choices.normalizers import NORMALIZERS

        tables: Mapping[str, Mapping[str, Callable[..., Any]]] = {
            "model": {name: model.build for name, model in MODELS.items()},
            "activation": layers.ACTIVATIONS,
            "normalizer": NORMALIZERS,
            "optimizer": OPTIMIZERS,
            "norm_layer": layers.NORM_LAYERS,
            "initializer": layers.INITIALIZERS,
            "weights": frozen_bases.WEIGHTS,
        }
        return {
            setting: {name: (entry.__doc__ or "").partition("\n")[0] for name, entry in table.items()}
            for setting, table in tables.items()
        }

    def complete(self, settings: Mapping[str, Scalar]) -> Params:
        """A learning rate of 0 becomes the optimizer's default."""
        found: Params = self.settings.model_validate(settings).model_dump()
        found["learning_rate"] = found["learning_rate"] or default_learning_rate(str(found["optimizer"]))
        return found

    def is_used(self, setting: str, settings: Mapping[str, Scalar]) -> bool:
        """Weights have a meaning only for a model with a frozen base."""
        return setting != "weights" or _has_frozen_base(settings["model"])

    def pace(self, settings: Mapping[str, Scalar]) -> str:
        return str(settings["model"])

    def load(self, source: Path | bytes | None) -> Inputs:
        from mnist_ablate.workloads.keras_mnist import data

        return data.read("--data", io.BytesIO(source)) if isinstance(source, bytes) else data.load(source)

    def sent(self, inputs: Inputs, source: Path | None) -> bytes | None:  # noqa: ARG002 - the file has all of them
        return source.read_bytes() if source else None

    def prepare(self, planned: PlannedSettings, given: Path | None, say: Callable[[str], None]) -> None:
        for weights in _weights_needed(planned):
            weights_download.ensure_downloaded(weights, given, say)

    def warnings(self, planned: PlannedSettings, given: Path | None) -> list[str]:
        return [text for each in _weights_needed(planned) if (text := weights_download.why_unavailable(each, given))]

    def environment(self, given: Path | None) -> dict[str, str]:
        return {weights_download.ENVIRONMENT: str(given.absolute())} if given else {}

    def fingerprints(self, inputs: Any, planned: PlannedSettings) -> list[dict[str, JsonValue]]:
        from mnist_ablate.workloads.keras_mnist.data_gate import fingerprints

        own = (settings["normalizer"] for settings in planned.arms)
        names = dict.fromkeys([*own, *planned.tried.get("normalizer", ())])
        return fingerprints(map(str, names), Recipe.model_validate(_known(planned.arms[0])), inputs.x_train)

    def cost(self, inputs: Any, arms: Sequence[Params]) -> Cost:
        with _without_stderr():
            from mnist_ablate.workloads.keras_mnist.trainer import cost

            return cost(inputs, [Recipe.model_validate(_known(settings)) for settings in arms])

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

    def open_model(self, folder: Path) -> Any:
        from mnist_ablate.workloads.keras_mnist.trainer import Classifier

        return Classifier(folder)


def _known(settings: Params) -> Params:
    """The settings of a recipe, without those that `altered_images` adds."""
    return {name: value for name, value in settings.items() if name in Recipe.model_fields}


def _has_frozen_base(model: Scalar) -> bool:
    found = MODELS.get(str(model))  # a record can have a model of another version
    return found is not None and bool(found.frozen_base)


def _weights_needed(planned: PlannedSettings) -> list[str]:
    """The names of the weights that frozen bases are trained on."""
    found = [
        str(weights)
        for arm in planned.arms
        if any(map(_has_frozen_base, (arm["model"], *planned.tried.get("model", ()))))
        for weights in (arm["weights"], *planned.tried.get("weights", ()))
    ]
    return list(dict.fromkeys(found))


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Drop what TensorFlow's C++ parts write to file descriptor 2 at every log level."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


KERAS_MNIST = KerasMnist()
