"""This workload behind the seam: networks on MNIST or images in its layout. Importing it loads no Keras, no NumPy."""

import hashlib
import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import JsonValue

from mnist_ablate.errors import DataError, SweepError
from mnist_ablate.text import listed
from mnist_ablate.trial import SOURCES, Outcome, Params, Scalar, Trial
from mnist_ablate.workloads.keras_mnist import own_choices, program_cache, sections, weights_download
from mnist_ablate.workloads.keras_mnist.choices import frozen_bases, layers
from mnist_ablate.workloads.keras_mnist.choices.models import MODELS
from mnist_ablate.workloads.keras_mnist.choices.optimizers import OPTIMIZERS, default_learning_rate, takes_momentum
from mnist_ablate.workloads.keras_mnist.keras_settings import other_backend
from mnist_ablate.workloads.keras_mnist.metrics import METRICS, chance_metrics, curve_metrics
from mnist_ablate.workloads.keras_mnist.recipe import OF_TRAINING_IMAGES, TRAINER_VERSION, Recipe, program_key
from mnist_ablate.workloads.versions import deciding_versions
from mnist_ablate.workloads.workload import Cost, Inputs, PlannedSettings

MNIST_DIGEST = "b8370d4157fa0b022fbe73e37bdbd58bf6ba70dc85345002838ce9b2e3868914"
MNIST_CLASSES = 10
_OF_BYTES = {"centered_uint8", "saturated"}
"""Normalizers that are about how bytes wrap around or stop."""
_PACE = ("model", "width", "depth", "norm_layer", "augmentation", "batch_size", "train_fraction", "class_imbalance")


@dataclass(frozen=True)
class Unseen:
    """Images that a function will give, where trials are trained; `digest` stands for theirs in a plan."""

    digest: str


@dataclass(frozen=True)
class KerasMnist:
    """See `workloads.workload.Workload`.

    `choices_source` names choices of the user's own, and `data_source` images, as a sweep file does: from its `folder`.
    """

    choices_source: str = ""
    data_source: str = ""
    folder: Path = Path()

    name = "keras_mnist"
    version = TRAINER_VERSION
    fixed_defaults = True
    settings = Recipe
    metrics = METRICS
    main_metric = "test_accuracy"
    selection_metric = "val_accuracy"
    budget = "epochs"
    derived = MappingProxyType({"learning_rate": "optimizer"})
    trainer = "mnist_ablate.workloads.keras_mnist.trainer:Trainer"
    shipped_name = "the MNIST that ships"
    sources = SOURCES
    trains_on_gpus = True
    template = Path(__file__).with_name("template.yaml").read_text(encoding="utf-8")
    input_section = staticmethod(sections.input_section)
    input_alarms = staticmethod(sections.input_alarms)
    diagnostic_sections = staticmethod(sections.diagnostic_sections)
    generalization = staticmethod(sections.generalization)

    def __getstate__(self) -> dict[str, Any]:
        """With the user's source files, which a worker on another machine lacks."""
        return {**{name: vars(self)[name] for name in self.__dataclass_fields__}, "own": self.own}

    @cached_property
    def own(self) -> own_choices.OwnChoices | None:
        """The user's choices, read and not run. Raises SweepError with file and line."""
        if not self.choices_source:
            return None
        return own_choices.find(self.folder, self.choices_source, _shipped_choices())

    @property
    def runs_code(self) -> str:
        """What is the user's: the choices, and a function that gives the images."""
        return " and ".join(filter(None, (self.choices_source, self.data_source if self._calls_function else "")))

    @property
    def _calls_function(self) -> bool:
        from mnist_ablate.workloads.keras_mnist.data_source import is_function

        return is_function(self.data_source)

    @property
    def shipped_digest(self) -> str:
        """That of MNIST with these choices; empty if the sweep has images of its own, or the choices are gone."""
        if self.data_source:
            return ""
        try:
            return self.own.digest_with(MNIST_DIGEST) if self.own else MNIST_DIGEST
        except SweepError:
            return ""

    @property
    def choices(self) -> Mapping[str, Mapping[str, str]]:
        shipped = _shipped_choices()
        own = self.own.names if self.own else {}
        return {setting: {**names, **own.get(setting, {})} for setting, names in shipped.items()}

    def complete(self, settings: Mapping[str, Scalar]) -> Params:
        """A learning rate of 0 becomes the optimizer's default. That of a user's own is known where it is built."""
        found: Params = self.settings.model_validate(settings).model_dump()
        if found["optimizer"] in OPTIMIZERS:
            found["learning_rate"] = found["learning_rate"] or default_learning_rate(str(found["optimizer"]))
        return found

    def conflicts(self, settings: Params) -> Iterator[tuple[str, str]]:
        """What a choice of the user's own makes of a setting is known where it is built."""
        optimizer, model = str(settings["optimizer"]), str(settings["model"])
        if settings["momentum"] and optimizer in OPTIMIZERS and not takes_momentum(OPTIMIZERS[optimizer]):
            others = [name for name, build in OPTIMIZERS.items() if takes_momentum(build)]
            yield "momentum", f"optimizer {optimizer} has none that can be set; take 0, or one of {listed(others)}"
        if settings["depth"] != 1 and model in MODELS and not MODELS[model].any_depth:
            others = [name for name in MODELS if MODELS[name].any_depth]
            yield "depth", f"model {model} has layers of its own; take 1, or model {listed(others)}"
        if settings["augmentation"] != "none" and _has_frozen_base(model):
            yield "augmentation", f"the features of model {model} are computed once; take none, or another model"

    def shares_trainings(self, settings: Mapping[str, Scalar]) -> bool:
        """Unless the learning rate follows the number of epochs."""
        from mnist_ablate.workloads.keras_mnist.choices.schedules import WHATEVER_FOLLOWS

        return settings["schedule"] in WHATEVER_FOLLOWS

    def lane_group(self, trial: Trial) -> Hashable | None:
        """Trials whose network is the same but for its numbers, on the same images.

        By itself trains what has training images of its own, convolutions, whose kernels differ by lane in no fast
        operation, and users' own parts of a network.
        """
        recipe, own = Recipe.model_validate(trial.settings), self.own.names if self.own else {}
        in_network = ("model", "activation", "optimizer", "norm_layer")
        is_own = any(getattr(recipe, name) in own.get(name, {}) for name in in_network)
        own_images = trial.split_seed is not None or any(
            getattr(recipe, name) != Recipe.model_fields[name].default for name in OF_TRAINING_IMAGES
        )
        return None if is_own or own_images or MODELS[recipe.model].filters else program_key(recipe)

    def is_used(self, setting: str, settings: Mapping[str, Scalar]) -> bool:
        """Weights have a meaning only for a model with a frozen base."""
        return setting != "weights" or _has_frozen_base(settings["model"])

    def pace(self, settings: Mapping[str, Scalar]) -> str:
        """By the network's size, and by how many images an epoch has and what is done to them."""
        removed = (settings.get("label_noise") or "") if settings.get("size_matched") else ""
        return " ".join(str(each) for each in (*(settings.get(name) for name in _PACE), removed))

    def load(self, source: Path | str | bytes | None, *, run_code: bool = True) -> Inputs:
        """What only a function can give is `Unseen` if it must not be run."""
        from mnist_ablate.workloads.keras_mnist import data
        from mnist_ablate.workloads.keras_mnist.data_source import is_function

        if isinstance(source, bytes):
            return data.read(source, self.own)
        place = Path() if source is not None else self.folder
        name = str(source) if source is not None else self.data_source
        if is_function(name) and not run_code:
            return Unseen(hashlib.sha256(name.encode()).hexdigest())
        return data.load(name or None, place, self.own)

    def sent(self, inputs: Any, source: str | None) -> bytes | None:
        """The file of the images as it is; images from elsewhere packed."""
        packed: bytes | None = Path(source).read_bytes() if source and Path(source).is_file() else inputs.packed()
        return packed

    def prepare(self, planned: PlannedSettings, given: Path | None, say: Callable[[str], None]) -> None:
        for weights in _weights_needed(planned):
            weights_download.ensure_downloaded(weights, given, say)

    def warnings(self, planned: PlannedSettings, given: Path | None) -> list[str]:
        return [text for each in _weights_needed(planned) if (text := weights_download.why_unavailable(each, given))]

    def environment(self, given: Path | None) -> dict[str, str]:
        return {weights_download.ENVIRONMENT: str(given.absolute())} if given else {}

    def shared(self) -> AbstractContextManager[dict[str, str]]:
        return program_cache.programs(deciding_versions())

    def check(self, inputs: Any, planned: PlannedSettings) -> None:
        """Raises DataError if a model that ships cannot take the images, or a normalizer cannot."""
        if isinstance(inputs, Unseen):
            return
        height, width, channels = inputs.image_shape
        names = _each_value(planned, "model")
        models = {name: MODELS[name] for name in names if name in MODELS}
        for name, model in models.items():
            if min(height, width) < model.smallest:
                size = f"{model.smallest}x{model.smallest}"
                fit = [each for each in MODELS if MODELS[each].smallest <= min(height, width)]
                raise DataError(
                    f"the images are {height}x{width}, but model {name} needs {size} at least; take {listed(fit)}"
                )
            if model.frozen_base and channels not in (1, frozen_bases.CHANNELS):
                raise DataError(f"the images have {channels} channels, but model {name} takes gray or RGB images")
        if inputs.x_train.dtype.kind == "f" and (odd := [*_each_value(planned, "normalizer") & _OF_BYTES]):
            kind = "the images hold floats or numbers beyond 0 to 255"
            raise DataError(f"{kind}, but normalizer {odd[0]} is the arithmetic of bytes; take another")

    def fingerprints(self, inputs: Any, planned: PlannedSettings) -> list[dict[str, JsonValue]]:
        """The images if they are not MNIST, and what each normalizer makes of them that is not the user's own."""
        from mnist_ablate.workloads.keras_mnist.choices.normalizers import NORMALIZERS
        from mnist_ablate.workloads.keras_mnist.data_gate import about_images, fingerprints

        if isinstance(inputs, Unseen):
            return [{"images": "", "notes": [f"{self.data_source} gives the images where trials are trained"]}]
        own = (settings["normalizer"] for settings in planned.arms)
        names = [str(name) for name in dict.fromkeys([*own, *planned.tried.get("normalizer", ())])]
        known = [name for name in names if name in NORMALIZERS]
        found = fingerprints(known, Recipe.model_validate(_known(planned.arms[0])), inputs.x_train)
        if inputs.content_digest == MNIST_DIGEST and known == names:
            return found
        return [about_images(inputs, known, [name for name in names if name not in known]), *found]

    def cost(self, inputs: Any, arms: Sequence[Params]) -> Cost | None:
        """Seconds, measured. None if an arm has a choice of the user's own, or Keras runs on another backend here."""
        own = self.own.names if self.own else {}
        if isinstance(inputs, Unseen) or any(arm[key] in names for arm in arms for key, names in own.items()):
            return None
        if other_backend():
            return None
        with _without_stderr():
            from mnist_ablate.workloads.keras_mnist.trainer import cost

            return cost(inputs.without_own(), [Recipe.model_validate(_known(settings)) for settings in arms])

    def implied_metrics(self, settings: Mapping[str, Scalar], data_digest: str, outcome: Outcome) -> dict[str, float]:
        """The metrics of the last epoch and the curve; all metrics of a diverged trial, which counts with chance."""
        epochs, planned, classes = outcome.epochs, int(settings[self.budget]), self._known_classes(data_digest)
        if outcome.status == "complete" and len(epochs) == planned:
            curve = curve_metrics(epochs, planned, classes or 1)
            known = {name: value for name, value in curve.items() if classes or name != "converged"}
            return {**epochs[-1].metrics, **known}
        if outcome.status == "diverged" and len(epochs) < planned:
            chance = outcome.metrics.get("test_accuracy", outcome.metrics.get("val_accuracy", 0.0))
            classes = classes or max(2, round(1 / max(chance, 1e-6)))
            return {**chance_metrics(classes), **curve_metrics(epochs, planned, classes)}
        return {}

    def _known_classes(self, data_digest: str) -> int | None:
        """The number of classes of MNIST. That of others follows from a diverged trial, which counts with chance."""
        return MNIST_CLASSES if data_digest == self.shipped_digest else None

    def open_model(self, folder: Path) -> Any:
        from mnist_ablate.workloads.keras_mnist.saved_model import Classifier

        return Classifier(folder)


def keras_workload(folder: Path, choices: str, data: str) -> KerasMnist:
    """The workload of a sweep file in `folder` with `choices` of the user's own, images of its own, or both."""
    return KerasMnist(choices_source=choices, data_source=data, folder=folder)


def _shipped_choices() -> dict[str, dict[str, str]]:
    from mnist_ablate.workloads.keras_mnist.choices.augmentations import AUGMENTATIONS
    from mnist_ablate.workloads.keras_mnist.choices.normalizers import NORMALIZERS
    from mnist_ablate.workloads.keras_mnist.choices.schedules import SCHEDULES

    tables: Mapping[str, Mapping[str, Callable[..., Any]]] = {
        "model": {name: model.build for name, model in MODELS.items()},
        "activation": layers.ACTIVATIONS,
        "normalizer": NORMALIZERS,
        "optimizer": OPTIMIZERS,
        "norm_layer": layers.NORM_LAYERS,
        "initializer": layers.INITIALIZERS,
        "weights": frozen_bases.WEIGHTS,
        "schedule": SCHEDULES,
        "augmentation": AUGMENTATIONS,
    }
    return {
        setting: {name: (entry.__doc__ or "").partition("\n")[0] for name, entry in table.items()}
        for setting, table in tables.items()
    }


def _each_value(planned: PlannedSettings, setting: str) -> set[str]:
    """Every value of a setting that trials of a plan can have."""
    return {str(arm[setting]) for arm in planned.arms} | {str(value) for value in planned.tried.get(setting, ())}


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
