"""The question of a sweep as a frozen value: what varies, what is fixed, what is claimed.

It has the right types and ranges; whether it makes sense is checked where a file is read (`sweep_file`).
"""

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from mnist_ablate.sweep.adaptive_schedule import Look, looks
from mnist_ablate.trial import Params, Scalar
from mnist_ablate.workloads.workload import default_workload

Direction = Literal["lower", "higher", "not_lower", "not_higher", "same"]
NegativeControl = Literal["baseline", "none"]
Pruning = Literal["none", "median", "asha"]
Design = Literal["factorial", "one_factor", "leave_one_out", "configurations", "search", "ablation_path"]

METRICS = tuple(default_workload().metrics)
"""What a claim can be about."""

NAME_RULE = (
    "a name has 1 to 100 letters, digits or marks of any script, '-', '_' or '.' (200 bytes at most),"
    " and starts with a letter or digit"
)
_MAX_NAME = 100
_MAX_NAME_BYTES = 200  # file systems allow 255, and others append to it
_CONFIGURATION = "configuration"


def is_name(text: str) -> bool:
    """Whether NAME_RULE holds; the text must be NFC-normalized too."""
    kinds = [unicodedata.category(character) for character in text]
    return (
        0 < len(text) <= _MAX_NAME
        and all(
            kind[0] in "LM" or kind == "Nd" or character in "-_." for kind, character in zip(kinds, text, strict=True)
        )
        and (kinds[0][0] == "L" or kinds[0] == "Nd")
        and len(text.encode()) <= _MAX_NAME_BYTES
        and unicodedata.is_normalized("NFC", text)
    )


class Range(BaseModel):
    """An interval to choose a nuisance value from, log-uniformly if `log`; whole numbers if `integer`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    low: float
    high: float
    log: bool = False
    integer: bool = False


class SeedRange(BaseModel):
    """Seeds for every arm at first, and at most for the arms of a claim that stays open; see `looks`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: int = Field(ge=1, le=1000)
    max: int = Field(ge=1, le=1000)


def _kind(value: object) -> str | None:
    """Which of the two forms a nuisance entry has."""
    return "range" if isinstance(value, dict | Range) else "list" if isinstance(value, list) else None


Choice = Annotated[
    Annotated[Range, Tag("range")] | Annotated[list[Scalar], Tag("list")],
    Discriminator(_kind, custom_error_type="range_or_list", custom_error_message="Input should be a range or a list"),
]


def _count_or_range(value: object) -> str:
    return "range" if isinstance(value, dict | SeedRange) else "count"


Seeds = Annotated[
    Annotated[int, Field(ge=1, le=1000), Tag("count")] | Annotated[SeedRange, Tag("range")],
    Discriminator(_count_or_range),
]


class Claim(BaseModel):
    """A statement about the mean difference of `metric`, treatment minus control, over seed pairs.

    `where` fixes other factors; `versus` replaces `where` in a second difference that is subtracted (an
    interaction). `reference` takes the place of `control` where the claim names a number ("about 97%").
    lower/higher: an effect beyond the margin. not_lower/not_higher: no such effect. same: none either way.
    `positive_control` marks what is known to hold: a sweep that does not find it is not to be relied on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    statement: str
    treatment: Params
    control: Params | None = None
    reference: float | None = None
    where: Params = {}
    versus: Params | None = None
    metric: str = default_workload().main_metric
    direction: Direction
    margin: float = Field(ge=0.0)
    positive_control: bool = False


class Sweep(BaseModel):
    """One question and the runs that answer it, as read from a sweep file.

    A factor is in one of `scientific`, `configurations`, `fixed`. A nuisance factor may be in `fixed` too:
    that is its value as first written, which tuning then replaces; `as_written` trains and judges it as well.
    `target` is where the path of an ablation_path ends, which begins at the baseline.
    `conditions` says of a searched factor for which values of others it is searched.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    question: str
    source: str = ""
    design: Design = "factorial"
    baseline: Params = {}
    scientific: dict[str, list[Scalar]] = {}
    configurations: dict[str, Params] = {}
    target: Params = {}
    nuisance: dict[str, Choice] = {}
    tuning_trials: int = Field(default=0, ge=0, le=1000)
    as_written: bool = False
    conditions: dict[str, dict[str, list[Scalar]]] = {}
    pruning: Pruning = "none"
    fixed: Params = {}
    seeds: Seeds
    negative_control: NegativeControl = "baseline"
    claims: list[Claim] = []

    @property
    def factors(self) -> dict[str, list[Scalar]]:
        """What a claim can name: every factor with the values that are run."""
        if self.design == "configurations":
            return {_CONFIGURATION: list(self.configurations)}
        if self.design == "search":
            return {_CONFIGURATION: ["baseline", "winner"]}
        if self.design == "ablation_path":
            steps = [f"step-{number}" for number in range(1, len(self.changes))]
            return {_CONFIGURATION: ["baseline", *steps, "target"]}
        return {key: _with(values, self.baseline.get(key)) for key, values in self.scientific.items()}

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

    def searches(self, name: str, settings: Mapping[str, Scalar]) -> bool:
        """Whether a searched factor has a meaning beside these values of others; else it keeps its usual value."""
        return all(settings[other] in values for other, values in self.conditions.get(name, {}).items())

    @property
    def least_seeds(self) -> int:
        """What every arm is trained with."""
        return self.seeds if isinstance(self.seeds, int) else self.seeds.min

    @property
    def most_seeds(self) -> int:
        """What an arm can be trained with."""
        return self.seeds if isinstance(self.seeds, int) else self.seeds.max

    @property
    def looks(self) -> tuple[Look, ...]:
        """When the claims of an adaptive sweep are judged; none if the number of seeds is fixed."""
        return () if isinstance(self.seeds, int) else looks(self.seeds.min, self.seeds.max)

    @property
    def controlled(self) -> bool:
        """Whether it has a negative control: every sweep with claims does, unless it says `negative_control: none`."""
        return bool(self.claims) and self.negative_control != "none"

    @property
    def digest(self) -> str:
        """The sha256, in hexadecimal, of everything but `source`: equal questions have equal digests.

        Defaults are left out, so that a field added later changes no digest; 1 and 1.0 are one value.
        """
        content = self.model_dump(mode="json", exclude={"source"}, exclude_defaults=True)
        return hashlib.sha256(json.dumps(_canonical(content), sort_keys=True).encode()).hexdigest()

    def quick(self) -> "Sweep":
        """The same question as a smoke test, under another name: 1 epoch, at most 2 seeds and tuning trials.

        Where `epochs` is varied, tuned or searched its k-th smallest value becomes k, so that arms stay apart; a range
        of them becomes 1 to 2.
        """
        content = self.model_dump()
        epochs = self._epochs()
        named = any("epochs" in arm for arm in self.configurations.values())
        if named:
            content["configurations"] = {
                name: {"epochs": epochs[0], **arm} for name, arm in self.configurations.items()
            }
        if isinstance(self.nuisance.get("epochs"), Range):
            content["nuisance"]["epochs"] = {"low": 1, "high": 2, "integer": True}
        content = _with_epochs(content, {old: new for new, old in enumerate(epochs, start=1)})
        varied = "epochs" in self.scientific and self.design != "search"  # whose baseline may have none
        if not (varied or "epochs" in self.baseline or named):
            content["fixed"].setdefault("epochs", 1)
        changes = {
            "name": f"{self.name}-quick",
            "seeds": min(self.least_seeds, 2),
            "tuning_trials": min(self.tuning_trials, 2),
        }
        return Sweep.model_validate({**content, **changes})

    def _epochs(self) -> list[int]:
        """Every number of epochs that is written anywhere, ascending."""
        params = [self.baseline, self.target, self.fixed, *self.configurations.values()]
        tried = self.space.get("epochs")
        listed = [*(tried if isinstance(tried, list) else ()), *(each.get("epochs") for each in params)]
        return sorted({value for value in listed if isinstance(value, int)})


def _with(values: list[Scalar], extra: Scalar | None) -> list[Scalar]:
    return values if extra is None or extra in values else [*values, extra]


def _canonical(value: Any) -> Any:
    """Every number as a float, all else as it is."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _with_epochs(value: Any, ranks: Mapping[Any, int]) -> Any:
    """The same content with every value of an `epochs` replaced by its rank."""
    if isinstance(value, list):
        return [_with_epochs(item, ranks) for item in value]
    if isinstance(value, dict):
        return {
            key: _ranked(item, ranks) if key == "epochs" else _with_epochs(item, ranks) for key, item in value.items()
        }
    return value


def _ranked(value: Any, ranks: Mapping[Any, int]) -> Any:
    if isinstance(value, list):
        return [_ranked(item, ranks) for item in value]
    return value if isinstance(value, dict) else ranks.get(value, value)
