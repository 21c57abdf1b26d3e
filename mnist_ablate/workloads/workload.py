"""The seam between the engine and what is trained. What the engine knows of a workload is in these types alone."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Literal, Protocol

from pydantic import BaseModel, JsonValue

from mnist_ablate.trial import USUAL_SOURCES, Epoch, Outcome, Params, RecordedTrial, Scalar, Source, Trial

Contents = Sequence[Mapping[str, JsonValue]]  # descriptions of inputs as JSON, as the ledger keeps them


@dataclass(frozen=True)
class Metric:
    """A number that a trial reports. `low` and `high` bound it, infinite where it has no bound.

    A share is a fraction of one, which reports show in percent. `percent` is that of a table, whose numbers become
    shares when it is read. `per_epoch` says that every epoch reports it too.
    `seed_sd` is the usual standard deviation of its paired differences between seeds, if it is known before a sweep.
    A trial whose value is worse than `collapse_at` has collapsed; None if no value tells that. `of_test_images`: it is
    the share of the test images that are right, and trials record which. `of_machine`: it depends on the machine and
    the moment, so a trial that is repeated has another one.
    """

    name: str
    meaning: str = ""
    better: Literal["higher", "lower"] = "higher"
    unit: Literal["share", "percent", "nats", "epochs", "seconds", "bytes", ""] = ""
    low: float = -math.inf
    high: float = math.inf
    per_epoch: bool = False
    seed_sd: float | None = None
    collapse_at: float | None = None
    of_test_images: bool = False
    of_machine: bool = False

    @property
    def is_share(self) -> bool:
        """Whether reports show it in percent, and its differences in percentage points."""
        return self.unit == "share"


@dataclass(frozen=True)
class Table:
    """Cells of a report as text. From column `numbers_from` on they are numbers.

    `shades` has a fraction for each cell that is colored by it, None for others; empty if none is. `note` stands below.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    note: str = ""
    numbers_from: int = 1
    shades: tuple[tuple[float | None, ...], ...] = ()


@dataclass(frozen=True)
class Curves:
    """A chart of a number that changes while a trial is trained: by arm, then seed, its (place, value) points.

    `ends` names the first and the last place. `at_least`: the axis begins at zero and reaches at least so far.
    """

    measure: str
    ends: tuple[str, str]
    points: Mapping[str, Mapping[int, Sequence[tuple[float, float]]]]
    caption: str
    is_share: bool
    at_least: float | None = None


@dataclass(frozen=True)
class Section:
    """One subject of a report, which every format renders: paragraphs, charts, tables, a list of lines, notes.

    `short` replaces tables and lines where they do not fit, such as in a terminal: groups of lines by their heads.
    """

    name: str
    title: str
    intro: str = ""
    charts: tuple[Curves, ...] = ()
    tables: tuple[Table, ...] = ()
    lines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    short: Mapping[str, Sequence[str]] = field(default_factory=dict)


class Inputs(Protocol):
    """The inputs of a sweep's trials, loaded and checked."""

    @property
    def digest(self) -> str:
        """The sha256 of their content, which goes into every trial's id."""


class Trainer(Protocol):
    """Made once a worker from the inputs; trains one trial at a time, or those together that share a training."""

    def train(self, trial: Trial, on_epoch: Callable[[Epoch], None], on_wait: Callable[[str], None]) -> Outcome:
        """The outcome of the trial, after telling each epoch, and what takes long before the first.

        An empty text says that the trial runs, where nothing else may be said for minutes.
        """

    def train_together(
        self, trials: Sequence[Trial], on_epoch: Callable[[Epoch], None], on_wait: Callable[[str], None]
    ) -> Iterator[Outcome]:
        """The outcomes of trials that differ in the budget alone, the longest last, each when it is reached.

        Only a workload that `shares_trainings` is asked for it.
        """

    def train_lanes(
        self,
        trainings: Sequence[Sequence[Trial]],
        on_epoch: Callable[[Trial, Epoch], None],
        on_wait: Callable[[str], None],
    ) -> Iterator[Outcome]:
        """The outcomes of several trainings at once, as `train_together` gives those of one; epochs by longest trial.

        Only trials that have a `Workload.lane_group`, and the same one, are asked for.
        """

    def save(self, trial: Trial, folder: Path) -> None:
        """Write the model that the last training of this trial ended with, for `Workload.open_model`."""


@dataclass(frozen=True)
class PlannedSettings:
    """Every setting that trials of a plan can have: those of each arm, and lists of values that tuning may put in."""

    arms: Sequence[Params]
    tried: Mapping[str, Sequence[Scalar]]


@dataclass(frozen=True)
class Cost:
    """Seconds of one core: an epoch of each arm, and what is prepared once before any trial."""

    epoch_s: Sequence[float]
    preparation_s: float


class Workload(Protocol):
    """What can be trained: its settings, its metrics, its inputs, and the trainer that runs one trial.

    `budget` is the setting that counts the epochs of a trial, if there is one. `version` is part of every trial id: it
    is raised when the same trial would give other numbers. `fixed_defaults` says that a changed default raises it too:
    then ids leave defaults out. `trainer` is `module:factory`, called once in each worker with the inputs.
    `shipped_digest` is that of the inputs that need no file, `shipped_name` what they are called. `sources` are
    the sources of variance that a sweep can choose among; none if the trained code knows nothing but a seed.
    `trains_on_gpus`: its trainer uses a GPU if it sees one, so that each worker gets one of its own.
    """

    name: str
    version: int
    fixed_defaults: bool
    budget: str
    trainer: str
    shipped_name: str
    sources: tuple[Source, ...]
    trains_on_gpus: bool

    @property
    def derived(self) -> Mapping[str, str]:
        """The settings for which 0 stands for a default that another setting decides."""

    @property
    def shipped_digest(self) -> str:
        """That of the inputs that need no file; empty if there are none."""

    @property
    def runs_code(self) -> str:
        """The user's code that trials run; empty if they run this package alone."""

    @property
    def main_metric(self) -> str:
        """What a claim is about unless it names another metric."""

    @property
    def selection_metric(self) -> str:
        """What tuning and search choose by."""

    @property
    def settings(self) -> type[BaseModel]:
        """A frozen pydantic model: each field has a type, a range, a default and a description."""

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics that a trial reports, by name."""

    @property
    def choices(self) -> Mapping[str, Mapping[str, str]]:
        """The names that a setting can have, each with what it is in a line."""

    @property
    def template(self) -> str:
        """The text of a new sweep file, with `${name}`, `${schema}` and `${designs}` for what differs."""

    def complete(self, settings: Mapping[str, Scalar]) -> Params:
        """Every setting with the value that is trained: defaults filled in, numbers in their declared type."""

    def conflicts(self, settings: Params) -> Iterator[tuple[str, str]]:
        """Settings that have no meaning beside the others and were changed all the same, each with what to do."""

    def shares_trainings(self, settings: Mapping[str, Scalar]) -> bool:
        """Whether a training passes through the outcomes of all smaller budgets, to the bit."""

    def lane_group(self, trial: Trial) -> Hashable | None:
        """Trials of the same group can be trained by one program at once. None if this one trains by itself."""

    def is_used(self, setting: str, settings: Mapping[str, Scalar]) -> bool:
        """Whether a setting has a meaning beside the others."""

    def pace(self, settings: Mapping[str, Scalar]) -> str:
        """Trials of the same pace take about equally long for an epoch."""

    def load(self, source: str | Path | bytes | None, *, run_code: bool = True) -> Inputs:
        """The inputs of a source, such as a file; of bytes, as workers get them; else those of the sweep, or that ship.

        Without `run_code` no code of the user runs, and inputs that only that could give stay unseen. Raises DataError.
        """

    def sent(self, inputs: Inputs, source: str | None) -> bytes | None:
        """What `load` makes the same inputs of in a worker; `source` is what they were loaded from, if any."""

    def check(self, inputs: Inputs, planned: PlannedSettings) -> None:
        """Raises DataError if trials of the plan cannot take these inputs."""

    def prepare(self, planned: PlannedSettings, given: Path | None, say: Callable[[str], None]) -> None:
        """Fetch what the trials need, before any is trained; `given` is the file of --weights. Raises DataError."""

    def warnings(self, planned: PlannedSettings, given: Path | None) -> list[str]:
        """What the trials lack on this machine."""

    def environment(self, given: Path | None) -> dict[str, str]:
        """Variables that a process which trains must have."""

    def shared(self) -> AbstractContextManager[dict[str, str]]:
        """Variables for the local workers of a sweep, of what they share while inside."""

    def fingerprints(self, inputs: Inputs, planned: PlannedSettings) -> list[dict[str, JsonValue]]:
        """What the inputs are like before anything is trained, as JSON."""

    def cost(self, inputs: Inputs, arms: Sequence[Params]) -> Cost | None:
        """Times a short trial of each kind of arm. None if that would run the user's code."""

    def generalization(self, vary: Sequence[Source]) -> str:
        """What verdicts generalize over if these sources vary, and what stays the same, in a sentence."""

    def implied_metrics(self, settings: Mapping[str, Scalar], data_digest: str, outcome: Outcome) -> dict[str, float]:
        """The metrics that follow from an outcome's own epochs, to check a record against itself."""

    def open_model(self, folder: Path) -> Any:
        """The model that a trainer saved in a folder, as MLflow's pyfunc wants it."""

    def input_section(self, contents: Contents) -> Section:
        """What the inputs are like, from the `content` of input descriptions as the ledger keeps it."""

    def input_alarms(self, contents: Contents) -> list[str]:
        """What must be known of the inputs before any verdict is read."""

    def diagnostic_sections(self, arms: Mapping[str, Sequence[RecordedTrial]]) -> list[Section]:
        """What explains the results, from the diagnostics of finished trials by the name of their arm."""


def trial_of(
    workload: Workload, settings: Params, seed: int, data_digest: str, vary: Sequence[Source] = USUAL_SOURCES
) -> Trial:
    """A trial with its id: the first 16 hexadecimal digits of the sha256 of its content.

    Fixed defaults are left out of the content, so that a setting added later, off by default, changes no id. So are
    test images as a source of variance: they change no training.
    """
    vary = tuple(source for source in vary if source != "test")
    defaults = _defaults(workload.settings) if workload.fixed_defaults else {}
    changed = {name: value for name, value in settings.items() if name not in defaults or value != defaults[name]}
    content = {"trainer": workload.version, "recipe": changed, "seed": seed, "data_digest": data_digest}
    content |= {"vary": vary} if vary != USUAL_SOURCES else {}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return Trial(settings=settings, seed=seed, data_digest=data_digest, id=digest[:16], vary=vary)


def stored_trial(text: str, workload: Workload) -> Trial:
    """A trial from its JSON in a record. Settings that did not exist when it was recorded have their defaults."""
    content = json.loads(text)
    settings = {**(_defaults(workload.settings) if workload.fixed_defaults else {}), **content["recipe"]}
    return trial_of(workload, settings, content["seed"], content["data_digest"], content.get("vary", USUAL_SOURCES))


@cache
def _defaults(settings: type[BaseModel]) -> dict[str, Scalar]:
    return {name: field.default for name, field in settings.model_fields.items()}


def epochs_of(workload: Workload, settings: Mapping[str, Scalar]) -> int | None:
    """How many epochs a trial is to be trained for. None if no setting counts them."""
    epochs = settings.get(workload.budget)
    return epochs if isinstance(epochs, int) else None


def selection_metric(workload: Workload) -> Metric:
    """What tuning and search choose by."""
    return workload.metrics.get(workload.selection_metric, Metric(workload.selection_metric))


def selection_score(workload: Workload, metrics: Mapping[str, float]) -> float:
    """What a choice compares, more is better. Without the metric, as of a failed trial, it is less than any other."""
    known, value = selection_metric(workload), metrics.get(workload.selection_metric)
    if known.better == "lower":
        return -known.high - 1.0 if value is None else -value
    return known.low - 1.0 if value is None else value


def repeatable(workload: Workload, metrics: Mapping[str, float]) -> dict[str, float]:
    """Those that a trial has again, to the bit, when it is trained again."""
    of_machine = {name for name, metric in workload.metrics.items() if metric.of_machine}
    return {name: value for name, value in metrics.items() if name not in of_machine}


@cache
def default_workload() -> Workload:
    """The workload of a sweep that names none: that of MNIST_ABLATE_WORKLOAD, `module:object`, else Keras on MNIST."""
    if named := os.environ.get("MNIST_ABLATE_WORKLOAD"):
        found: Workload = resolve_name(named)
        return found
    from mnist_ablate.workloads.keras_mnist.workload import KERAS_MNIST

    return KERAS_MNIST
