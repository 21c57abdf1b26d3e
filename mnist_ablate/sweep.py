"""The question of a sweep as a checked, frozen value: what varies, what is fixed, what is claimed."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from mnist_ablate.trial import Scalar

Direction = Literal["lower", "higher", "not_lower", "not_higher", "same"]
Design = Literal["factorial", "one_factor", "leave_one_out", "configurations", "search"]
Params = dict[str, Scalar]


class Range(BaseModel):
    """An interval from which a nuisance value is chosen, log-uniformly if `log`; whole numbers if `integer`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    low: float
    high: float
    log: bool = False
    integer: bool = False


class Claim(BaseModel):
    """A statement about the mean difference of `metric`, treatment minus control, over seed pairs.

    `where` fixes other factors; `versus` replaces `where` in a second difference that is subtracted (an
    interaction). `reference` takes the place of `control` where the claim names a number ("about 97%").
    lower/higher: an effect beyond the margin. not_lower/not_higher: no such effect. same: none either way.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    statement: str
    treatment: Params
    control: Params | None = None
    reference: float | None = None
    where: Params = {}
    versus: Params | None = None
    metric: str = "test_accuracy"
    direction: Direction
    margin: float = Field(ge=0.0)


class Sweep(BaseModel):
    """One question and the runs that answer it, as read from a sweep file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    question: str
    source: str = ""
    design: Design = "factorial"
    baseline: Params = {}
    scientific: dict[str, list[Scalar]] = {}
    configurations: dict[str, Params] = {}
    nuisance: dict[str, Range | list[Scalar]] = {}
    tuning_trials: int = Field(default=0, ge=0, le=1000)
    fixed: Params = {}
    seeds: int = Field(ge=1, le=1000)
    claims: list[Claim] = []
