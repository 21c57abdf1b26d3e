"""A claim as a frozen value: what every kind of claim says, and the keys of a comparison. Judges nothing.

The other kinds are subclasses that live with their rules, in `statistics/claims` or in a user's package.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SerializeAsAny, ValidatorFunctionWrapHandler
from pydantic.functional_validators import WrapValidator

from mnist_ablate.sweep.designs import equal_values
from mnist_ablate.text import listed, plainly
from mnist_ablate.trial import Params
from mnist_ablate.workloads.bounds import metric_by_name
from mnist_ablate.workloads.workload import Metric, default_workload

if TYPE_CHECKING:
    from mnist_ablate.sweep.sweep import Sweep

Direction = Literal["lower", "higher", "not_lower", "not_higher", "same"]
Estimand = Literal["typical", "mean"]
Scale = Literal["difference", "ratio"]
Problem = tuple[str, str]  # the key of a claim at fault, and what is wrong with it

GROUP = "mnist_ablate.claims"
"""The entry points by which installed packages add kinds: `name = "module:KIND"`."""
SHIPPED = ("compare", "best", "indifferent", "trend", "spread", "sensitivity", "contribution", "sooner")


class Model(BaseModel):
    """A frozen value without unknown keys; the schema for editors has the descriptions of its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Claim(Model):
    """A statement about the difference of `metric`, treatment minus control or reference, over seed pairs."""

    name: str = Field(description="A short name for tables.")
    kind: str = Field(
        default="compare",
        description="What kind of claim it is: compare, best, trend and so on; `mnist-ablate new --kind` begins one.",
    )
    statement: str = Field(description="The claim, in a sentence.")
    treatment: Params = Field(description="The arm that the claim is about.")
    control: Params | None = Field(default=None, description="The arm that it is compared with.")
    reference: float | None = Field(default=None, description="The number that is claimed, in place of control.")
    where: Params = Field(default={}, description="Other factors' values. A factor that is not named is averaged over.")
    versus: Params | None = Field(default=None, description="Interaction: replaces where in a difference to subtract.")
    metric: str = Field(default=default_workload().main_metric, description="What is compared.")
    direction: Direction = Field(description="lower, higher: an effect. not_lower, not_higher: none such. same: none.")
    margin: float = Field(
        ge=0.0,
        description="The smallest difference that matters (of a share, 0.002 is 0.2 pp). Choose it before any run.",
    )
    scale: Scale = Field(
        default="difference",
        description="ratio: treatment divided by control, with the margin as a factor: 2 is twice, or half.",
    )
    estimand: Estimand = Field(
        default="typical",
        description="typical: the effect of seeds that trained, with collapses counted apart. mean: over all seeds.",
    )
    collapse_at: float | None = Field(
        default=None, description="A training whose metric is worse than this collapsed. Default: the metric's own."
    )
    positive_control: bool = Field(default=False, description="Known to hold: the report says first if it is missed.")
    _about: Metric | None = PrivateAttr(default=None)
    _samples_images: bool = PrivateAttr(default=False)

    never: ClassVar[tuple[str, ...]] = ()
    """The keys of a comparison that claims of this kind do not have."""
    arms_in: ClassVar[tuple[str, ...]] = ("treatment", "control")
    """The keys that name arms, each of which the design must have."""
    is_sum: ClassVar[bool] = True
    """Whether its effect is a sum of results, each times a weight."""

    @property
    def samples_images(self) -> bool:
        """Whether its interval takes in that the test images are a sample: what its sweep says."""
        return self._samples_images

    @property
    def about(self) -> Metric:
        """What is known of its metric: what its sweep says; of a claim without a sweep, what the workload says."""
        return self._about or default_workload().metrics.get(self.metric) or metric_by_name(self.metric)

    @property
    def measured_metric(self) -> str:
        """The metric that its effect has the unit of."""
        return self.metric

    @property
    def is_ratio(self) -> bool:
        """Whether its effect is a factor and not a difference."""
        return self.scale == "ratio"

    def compared_plainly(self, **content: Any) -> "Claim":
        """A comparison with this content that knows what the metric is."""
        made = Claim(**content)
        made._about, made._samples_images = self._about, self._samples_images
        return made

    def problems(self, sweep: "Sweep") -> Iterator[Problem]:  # noqa: ARG002 - other kinds need the factors
        """What makes no sense in it, whatever the values are: whether it compares two things that differ in one way."""
        if not self.treatment:
            yield "treatment", "is empty; name the arm that the claim is about: {factor: value}"
        if self.control is None and self.reference is None:
            yield "control", "is missing; give the arm to compare with, or reference: a number"
        if self.control is not None and self.reference is not None:
            yield "reference", "goes in place of control; remove one of them"
        yield from self.two_sides()
        if self.versus is None:
            return
        if self.control is None:
            yield "versus", "compares two differences, so it needs control"
        if self.where:
            yield from _two("versus", self.versus, "where", self.where)
        else:
            yield "versus", "takes the place of where in the second difference; add where: {factor: value}"

    def two_sides(self) -> Iterator[Problem]:
        """What is wrong with treatment, control and where beside each other."""
        if self.control is not None:
            yield from _two("control", self.control, "treatment", self.treatment)
        for key in (key for key in self.where if key in self.treatment):
            yield "where", f"{plainly(key)} is in treatment too; remove it from one of them"

    def scale_problems(self, *, is_declared: bool) -> Iterator[Problem]:
        """Whether a ratio makes sense; `is_declared` says that the metric's bounds are known."""
        if not self.is_ratio:
            return
        if is_declared and self.about.low < 0.0:
            yield "scale", f"ratio needs a metric that is never negative, and {self.metric} may be; use difference"
        if self.margin < 1.0:
            yield "margin", f"is a factor with scale: ratio, 1 at least (2 is twice, or half); not {self.margin:g}"
        if self.reference is not None and self.reference <= 0.0:
            yield "reference", f"must be above 0 with scale: ratio, not {self.reference:g}"
        if self.estimand == "mean":
            yield "estimand", "mean is that of differences; a ratio is typical"


def _two(side: str, params: Params, other: str, others: Params) -> Iterator[Problem]:
    """Two sides of a comparison have the same factors with different values."""
    if params.keys() != others.keys():
        yield side, f"must have the factors of {other}: {listed(others)}; not: {listed(params) or 'none'}"
    elif others and all(equal_values(params[key], others[key]) for key in params):
        yield side, f"is the same as {other}; change one of them"


class AskedKind(Protocol):
    """What reading and checking need to know of a kind. `statistics.claims.kind.ClaimKind` is the whole of it."""

    @property
    def meaning(self) -> str:
        """The sentences that people say, which it asks, on a line."""

    @property
    def keys(self) -> type[Claim]:
        """The keys of its claims, and what is wrong with them."""

    @property
    def example(self) -> str:
        """A sweep file from `scientific` to its claims, with comments."""


@cache
def kind_names() -> tuple[str, ...]:
    """The kinds that ship, then those of installed packages."""
    return tuple(dict.fromkeys((*SHIPPED, *(each.name for each in entry_points(group=GROUP)))))


@cache
def kind_named(name: str) -> Any:
    """The kind of this name, loaded when it is first asked for. Raises KeyError if there is none."""
    if name in SHIPPED:
        return resolve_name(f"mnist_ablate.statistics.claims.{name}:KIND")
    return entry_points(group=GROUP)[name].load()


def keys_of(content: object) -> type[Claim]:
    """The model of a claim's content, by the kind that it names; that of comparisons if there is no such kind."""
    name = content.get("kind", "compare") if isinstance(content, Mapping) else "compare"
    if name == "compare" or name not in kind_names():
        return Claim
    found: AskedKind = kind_named(name)
    return found.keys


def _of_its_kind(content: Any, handler: ValidatorFunctionWrapHandler) -> Claim:
    keys = Claim if isinstance(content, Claim) else keys_of(content)
    made: Claim = handler(content) if keys is Claim else keys.model_validate(content)
    return made


AnyClaim = Annotated[SerializeAsAny[Claim], WrapValidator(_of_its_kind)]
"""A claim of any kind, read by the keys of its kind."""
