"""The question of a sweep as a frozen value: what varies, is fixed, is claimed. `checks` tells if it makes sense."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, PrivateAttr, Tag, field_validator, model_validator

from mnist_ablate.sweep.adaptive_schedule import Look, look_schedule
from mnist_ablate.sweep.claim import AnyClaim, Claim, Model
from mnist_ablate.sweep.designs import DESIGNS, DesignName
from mnist_ablate.sweep.settings_across import changes, settings_across
from mnist_ablate.trial import SOURCES, USUAL_SOURCES, Params, Scalar, Source
from mnist_ablate.workloads.bounds import metric_by_name
from mnist_ablate.workloads.own_code.declaration import MetricDeclaration, Setting
from mnist_ablate.workloads.workload import Metric, Workload, default_workload

Pruning = Literal["none", "median", "asha"]
QUICK = "-quick"  # how the names of sweeps end that `Sweep.quick` made
QUICK_SEEDS = (3, 6)  # at first and at most

NAME_RULE = (
    "a name has 1 to 100 letters, digits or marks of any script, '-', '_' or '.' (200 bytes at most),"
    " and starts with a letter or digit"
)
_MAX_NAME_BYTES = 200  # file systems allow 255, and others append to it


def is_name(text: str) -> bool:
    """Whether NAME_RULE holds; the text must be NFC-normalized too."""
    kinds = "".join(each if each in "-_." else unicodedata.category(each) for each in text)
    if not re.fullmatch(r"(L[a-z]|Nd)(L[a-z]|M[a-z]|Nd|[-_.]){0,99}", kinds):
        return False
    return len(text.encode()) <= _MAX_NAME_BYTES and unicodedata.is_normalized("NFC", text)


class Range(Model):
    """An interval to choose a value from."""

    low: float = Field(description="The lowest value to try.")
    high: float = Field(description="The highest value to try.")
    log: bool = Field(default=False, description="Choose log-uniformly: for values that are compared by their ratio.")
    integer: bool = Field(default=False, description="Whole numbers only.")


class SeedRange(Model):
    """Seeds for every arm at first, and at most for the arms of a claim that stays open; see `Sweep.looks`."""

    min: int = Field(ge=1, le=1000, description="The number of seeds that every arm begins with.")
    max: int = Field(ge=1, le=1000, description="The most seeds that the arms of an undecided claim get.")


Choice = Annotated[
    Annotated[Range, Tag("range")] | Annotated[list[Scalar], Tag("list")],
    Discriminator(
        lambda value: "range" if isinstance(value, dict | Range) else "list" if isinstance(value, list) else None,
        custom_error_type="range_or_list",
        custom_error_message="Input should be a range or a list",
    ),
]
Seeds = Annotated[
    Annotated[int, Field(ge=1, le=1000), Tag("count")] | Annotated[SeedRange, Tag("range")],
    Discriminator(lambda value: "range" if isinstance(value, dict | SeedRange) else "count"),
]


class Sweep(Model):
    """One question and the runs that answer it, as read from a sweep file.

    A factor is in one of `scientific`, `configurations`, `fixed`. A nuisance factor may be in `fixed` too, as written.
    """

    name: str
    question: str = Field(description="What the sweep asks, in a sentence.")
    source: str = Field(default="", description="Where the claim was read. Free text.")
    design: DesignName = Field(default="factorial", description="Which arms are run.")
    baseline: Params = Field(default={}, description="The usual value of each scientific factor.")
    scientific: dict[str, list[Scalar]] = Field(default={}, description="The factors to compare, each with its values.")
    configurations: dict[str, Params] = Field(default={}, description="For configurations: the settings of each name.")
    target: Params = Field(default={}, description="For ablation_path: where it ends, the baseline with other values.")
    nuisance: dict[str, Choice] = Field(default={}, description="Tuned for each arm alike, on validation data.")
    tuning_trials: int = Field(default=0, ge=0, le=1000, description="How many trials tune each arm or a search tries.")
    as_written: bool = Field(default=False, description="Whether arms are judged with the values under fixed too.")
    conditions: dict[str, dict[str, list[Scalar]]] = Field(
        default={}, description="For search: the values of others for which a factor is searched."
    )
    pruning: Pruning = Field(
        default="none", description="For search: stops trials early, below the median or by successive halving (asha)."
    )
    fixed: Params = Field(default={}, description="What stays the same, each a caveat. Others: their default.")
    across: dict[str, list[Scalar]] = Field(
        default={},
        description="Settings over which every claim is asked again, each with its values: how far it reaches.",
    )
    crossed: bool = Field(default=False, description="Every combination of across, in place of one change at a time.")
    vary: list[Source] = Field(
        default=[*USUAL_SOURCES],
        description="What differs between the trials of an arm: each named source follows the seed; test: the test"
        " images count as a sample.",
    )
    seeds: Seeds = Field(description="How often each arm is trained: 3 at least for a claim, more while undecided.")
    negative_control: Literal["baseline", "none"] = Field(
        default="baseline", description="Whether the baseline, trained with other seeds, is compared with itself."
    )
    claims: list[AnyClaim] = Field(default=[], description="What is claimed, and what would count as an effect.")
    choices: str = Field(
        default="", description="Choices of your own: a .py file beside this one, or what an installed package offers."
    )
    data: str = Field(default="", description="Images of your own: FILE.npz, idx:FOLDER or module:function.")
    train: str | list[str] = Field(
        default="", description="Your own training code: module:function, or the parts of a command."
    )
    settings: dict[str, Setting] = Field(default={}, description="For train: the settings that its code does not tell.")
    metrics: dict[str, MetricDeclaration] = Field(default={}, description="What your own metrics are, by name.")
    choose_by: str = Field(default="", description="For train: the metric that tuning and search choose by.")
    code: list[str] = Field(default=[], description="For train: more files and folders that decide what a trial does.")
    timeout_s: float | None = Field(default=None, gt=0, description="For train: the longest that a trial may take.")
    found_settings: dict[str, Setting] | None = None
    """For `train`: all settings, as they were read from the code. With them a recorded sweep needs no code."""
    _folder: Path = PrivateAttr(default=Path())
    _function: Any = PrivateAttr(default=None)  # a NotebookFunction, if `train` names one

    @field_validator("vary")
    @classmethod
    def _in_order(cls, vary: list[Source]) -> list[Source]:
        """One order, so that the same choice has one digest."""
        return sorted(vary, key=SOURCES.index)

    @model_validator(mode="after")
    def _tell_claims(self) -> Self:
        self.claims[:] = map(self._told, self.claims)
        return self

    def _told(self, claim: Claim) -> Claim:
        """A claim that knows what its metric is. One about own code is about the first metric unless it names one."""
        is_named = "metric" in claim.model_fields_set or not (self.train and self.metrics)
        told = claim.model_copy(update={} if is_named else {"metric": next(iter(self.metrics))})
        if self.train or self.metrics:
            told._about = self.metric(told.metric)  # noqa: SLF001 - a copy
        told._samples_images = "test" in self.vary  # noqa: SLF001 - a copy
        return told

    def metric(self, name: str) -> Metric:
        """What is known of a metric. Of one that nobody declared, such as a column of a table, what its name says."""
        if name in self.metrics:
            return self.metrics[name].metric(name)
        return (None if self.train else default_workload().metrics.get(name)) or metric_by_name(name)

    @cached_property
    def workload(self) -> Workload:
        """What its trials train. Raises SweepError if `train` names code that cannot be read."""
        if not self.train and (self.choices or self.data):
            from mnist_ablate.workloads.keras_mnist.workload import keras_workload

            return keras_workload(self._folder, self.choices, self.data)
        if not self.train:
            return default_workload()
        from mnist_ablate.workloads.own_code.workload import OwnCode

        return OwnCode(
            train=self.train if isinstance(self.train, str) else tuple(self.train),
            declared=self.settings,
            declared_metrics=self.metrics,
            written=self._written,
            claimed=tuple(dict.fromkeys(claim.metric for claim in self.claims)),
            selection_metric=self.choose_by,
            code=tuple(self.code),
            folder=self._folder,
            timeout_s=self.timeout_s,
            found=self.found_settings,
            given=self._function,
        )

    def with_found_settings(self) -> "Sweep":
        """The same with every setting as the code has it. Raises SweepError if the code cannot be read."""
        from mnist_ablate.workloads.own_code.workload import OwnCode

        workload = self.workload
        return self.model_copy(
            update={"found_settings": workload.known_settings} if isinstance(workload, OwnCode) else {}
        )

    @property
    def _written(self) -> dict[str, list[Scalar]]:
        """Every value that the sweep gives a setting; of a range its ends."""
        found: dict[str, list[Scalar]] = {}
        for name, choice in [*self.scientific.items(), *self.nuisance.items(), *self.across.items()]:
            found.setdefault(name, []).extend(choice if isinstance(choice, list) else _ends(choice))
        for params in (self.baseline, self.target, self.fixed, *self.configurations.values()):
            for name, value in params.items():
                found.setdefault(name, []).append(value)
        return found

    def located(self, folder: Path, function: Any = None) -> "Sweep":
        """The same beside the code in a folder; `function` is a NotebookFunction, if it trains one."""
        copy = self.model_copy()
        copy._folder, copy._function = folder, function  # noqa: SLF001 - a copy
        return copy

    def with_claims(self, claims: list[Claim]) -> "Sweep":
        """The same question with these claims."""
        return self.model_copy(update={"claims": [*map(self._told, claims)]})

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Pydantic's, with a workload of its own."""
        copy = super().model_copy(update=update, deep=deep)
        for made in ("workload", "settings_across", "every_claim"):
            copy.__dict__.pop(made, None)
        return copy

    @property
    def factors(self) -> dict[str, list[Scalar]]:
        """What a claim can name: every factor with the values that are run."""
        return DESIGNS[self.design].factors(self)

    @property
    def columns(self) -> dict[str, list[Scalar]]:
        """What tells arms apart: the factors, and the settings of `across`."""
        return {**self.factors, **self.across}

    @cached_property
    def settings_across(self) -> tuple[Params, ...]:
        """The settings in which every claim is asked, the usual one first."""
        return settings_across(self)

    @cached_property
    def every_claim(self) -> tuple[Claim, ...]:
        """The claims in every setting of `across`, first all of the usual one: they keep their names."""
        return tuple(
            _asked_in(claim, each, changes(self, each)) for each in self.settings_across for claim in self.claims
        )

    @property
    def changes(self) -> Params:
        """What an ablation path changes on its way from the baseline to the target."""
        differ = {key: (value, self.baseline.get(key)) for key, value in self.target.items()}
        return {key: new for key, (new, old) in differ.items() if (new, type(new)) != (old, type(old))}

    @property
    def space(self) -> dict[str, Range | list[Scalar]]:
        """What a search tries: factors before those that depend on them."""
        space: dict[str, Range | list[Scalar]] = {**self.scientific, **self.nuisance}
        return dict(sorted(space.items(), key=lambda item: item[0] in self.conditions))

    def is_active(self, name: str, settings: Mapping[str, Scalar]) -> bool:
        """Whether a searched factor has a meaning beside these values of others; else it keeps its usual value."""
        return all(settings[other] in values for other, values in self.conditions.get(name, {}).items())

    @property
    def min_seeds(self) -> int:
        """The number of seeds that every arm is trained with."""
        return self.seeds if isinstance(self.seeds, int) else self.seeds.min

    @property
    def max_seeds(self) -> int:
        """The number of seeds that an arm is trained with at most."""
        return self.seeds if isinstance(self.seeds, int) else self.seeds.max

    @property
    def looks(self) -> tuple[Look, ...]:
        """When the claims of an adaptive sweep are judged; none if the number of seeds is fixed."""
        return () if isinstance(self.seeds, int) else look_schedule(self.seeds.min, self.seeds.max)

    @property
    def control_seeds(self) -> int:
        """With how many seeds, at most, the baseline is compared with itself; 0 without claims, or if it is not."""
        return self.max_seeds if self.claims and self.negative_control != "none" else 0

    @property
    def digest(self) -> str:
        """The sha256, in hexadecimal, of all but `source` and defaults, so that a new field changes none. 1 is 1.0."""
        text = json.dumps(self.model_dump(mode="json", exclude={"source", "found_settings"}, exclude_defaults=True))
        return hashlib.sha256(json.dumps(json.loads(text, parse_int=float), sort_keys=True).encode()).hexdigest()

    def digest_with(self, data_digest: str) -> str:
        """What its runs in MLflow are found by: of a sweep with the user's code, that of the code counts too."""
        if not self.workload.runs_code:
            return self.digest
        return hashlib.sha256(f"{self.digest} {data_digest}".encode()).hexdigest()

    def quick(self) -> "Sweep":
        """The same question for a first answer, under another name: 3 to 6 seeds, 2 tuning trials, and short trials.

        It decides what is large. Its verdicts are exploratory, because short trials are another question.
        The budget of a trial (say, its epochs) is 1. Where the sweep varies, tunes or searches the budget, its k-th
        smallest value becomes k, so that arms stay apart, and a range of it becomes 1 to 2.
        """
        budget = self.workload.budget
        tried = self.space.get(budget)
        params = [self.baseline, self.target, self.fixed, *self.configurations.values()]
        values = [*(tried if isinstance(tried, list) else ()), *(each[budget] for each in params if budget in each)]
        written = sorted({value for value in values if isinstance(value, int)})
        ranks = {value: rank for rank, value in enumerate(written, 1)}

        def shorten(params: dict[str, Any]) -> dict[str, Any]:
            value = params.get(budget)
            if isinstance(value, list):
                params[budget] = [ranks.get(each, each) for each in value]
            elif isinstance(value, dict):
                params[budget] = {"low": 1, "high": 2, "integer": True} if "low" in value else value
            elif value is not None:
                params[budget] = ranks.get(value, value)
            return params

        content = json.loads(self.model_dump_json(), object_hook=shorten)
        arms: list[Params] = list(content["configurations"].values())
        if any(budget in arm for arm in arms):
            for arm in arms:
                arm.setdefault(budget, 1)
        elif (
            budget in self.workload.settings.model_fields
            and budget not in next(DESIGNS[self.design].arms(self), ({}, {}))[1]
        ):
            content["fixed"].setdefault(budget, 1)
        content["name"] = f"{self.name}{QUICK}"
        least, most = min(self.min_seeds, QUICK_SEEDS[0]), min(self.max_seeds, QUICK_SEEDS[1])
        content["seeds"] = {"min": least, "max": most} if self.claims and least < most else least
        content["across"], content["crossed"] = {}, False
        content["tuning_trials"] = min(self.tuning_trials, 2)
        return Sweep.model_validate(content).located(self._folder, self._function)


def _asked_in(claim: Claim, setting: Params, changed: Params) -> Claim:
    """The claim in a setting, with its changes in the name: `hurts.epochs-10`."""
    name = ".".join((claim.name, *(f"{key}-{value}" for key, value in changed.items())))
    versus = None if claim.versus is None else {**claim.versus, **setting}
    return claim.model_copy(update={"name": name, "where": {**claim.where, **setting}, "versus": versus})


def _ends(choice: Range) -> list[Scalar]:
    """The ends of a range, as whole numbers where it has these alone."""
    return [round(end) if choice.integer else end for end in (choice.low, choice.high)]


SECTIONS = tuple(key for key in Sweep.model_fields if key not in ("name", "found_settings"))
"""The keys of a sweep file; the name of a sweep is that of its file."""
