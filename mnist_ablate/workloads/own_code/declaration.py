"""What a sweep file says of users' own code: its settings and its metrics, and a pydantic model of the settings."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from mnist_ablate.trial import Scalar
from mnist_ablate.workloads.workload import Metric

KINDS: Mapping[str, type[Scalar]] = {"float": float, "int": int, "str": str, "bool": bool}
Kind = Literal["float", "int", "str", "bool"]
METRIC_NAME = re.compile(r"[A-Za-z_][\w./ -]{0,99}", re.ASCII)
RESERVED_METRICS = ("number", "ended_ms", "seconds")
METRIC_RULE = (
    f"a metric is named by letters, digits, '_', '.', '/', ' ' or '-', and not {' or '.join(RESERVED_METRICS)}"
)
"""What MLflow takes, and what an epoch and a run have beside their metrics."""


class _Declared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Setting(_Declared):
    """A setting of users' code. Without a default every trial must be given a value."""

    type: Kind | None = Field(default=None, description="float, int, str or bool. By default that of the values.")
    choices: list[Scalar] = Field(default=[], description="The allowed values. By default any.")
    low: float | None = Field(default=None, description="The lowest allowed number.")
    high: float | None = Field(default=None, description="The highest allowed number.")
    default: Scalar | None = Field(default=None, description="The value where none is given.")
    description: str = Field(default="", description="What it is, in a line.")


class MetricDeclaration(_Declared):
    """A metric that users' code reports. A diverged trial counts with the worse of its bounds, `low` and `high`."""

    better: Literal["higher", "lower"] = Field(default="higher", description="Which values are better.")
    unit: Literal["share", "percent", ""] = Field(
        default="",
        description="share: a fraction of one, which is shown in percent. percent: a table has it in percent.",
    )
    low: float | None = Field(default=None, description="The lowest possible value.")
    high: float | None = Field(default=None, description="The highest possible value.")
    collapse_at: float | None = Field(
        default=None, description="A trial whose value is worse than this collapsed. By default only a diverged one."
    )
    description: str = Field(default="", description="What it is, in a line.")

    def metric(self, name: str) -> Metric:
        """The same as the engine knows it."""
        low = self.low if self.low is not None else (0.0 if self.unit else -math.inf)
        high = self.high if self.high is not None else (1.0 if self.unit else math.inf)
        unit: Literal["share", ""] = "share" if self.unit else ""
        return Metric(name, self.description, self.better, unit, low, high, collapse_at=self.collapse_at)


def settings_model(settings: Mapping[str, Setting]) -> type[BaseModel]:
    """A frozen pydantic model with a field for each setting, which checks values as the sweep file's are checked."""
    fields: dict[str, Any] = {}  # pydantic's own form
    for name, setting in settings.items():
        known = Literal[tuple(setting.choices)] if setting.choices else KINDS[setting.type or "str"]
        text = setting.description or f"Setting {name} of the training code."
        about = Field(ge=setting.low, le=setting.high, description=text)
        fields[name] = (Annotated[known, about], ... if setting.default is None else setting.default)
    return create_model("OwnSettings", __config__=ConfigDict(frozen=True, extra="forbid"), **fields)


def kind_of(values: list[Scalar]) -> Kind:
    """The type that holds all these values: a float where whole numbers and fractions are mixed."""
    kinds = {type(value) for value in values}
    if kinds <= {int, float} and kinds:
        return "float" if float in kinds else "int"
    return "bool" if kinds == {bool} else "str"
