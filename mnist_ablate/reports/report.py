"""The report of a sweep as one typed value, from which every format is made. Computes nothing.

A number that does not exist is nan or infinite here, and null in JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from mnist_ablate.ledger.results_table import Reading
from mnist_ablate.statistics.anova import FactorialEffects
from mnist_ablate.statistics.claim_verdict import ClaimVerdict
from mnist_ablate.statistics.confounds import ClaimAudit
from mnist_ablate.statistics.controls import NegativeControl, PositiveControl
from mnist_ablate.statistics.decision_rule import Verdict
from mnist_ablate.statistics.effect_sizes import ClaimSizes
from mnist_ablate.statistics.pairing import label
from mnist_ablate.statistics.verdict import Arm
from mnist_ablate.sweep.adaptive_schedule import Look
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import Params, RecordedTrial, Scalar


class Part(BaseModel):
    """A part of a result that JSON is made from."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True, validate_by_name=True)


class TrialCounts(Part):
    """How many trials were planned, and how they ended; `saved` is how many an adaptive sweep did not need."""

    planned: int = 0
    complete: int = 0
    diverged: int = 0
    failed: int = 0
    lost: int = 0
    saved: Annotated[int | None, Field(exclude_if=lambda saved: saved is None)] = None

    @property
    def missing(self) -> int:
        """How many planned trials have no outcome yet."""
        return max(0, self.planned - self.complete - self.diverged - self.failed - self.lost - (self.saved or 0))


class Preregistration(Part):
    """What was written down before the first trial; `reasons` say why the verdicts are exploratory, if they are."""

    status: Literal["preregistered", "exploratory"]
    registered: str
    digest: str
    parts: Mapping[str, str]
    reasons: tuple[str, ...]


class Adaptive(Part):
    """How seeds are added: the fewest and the most seeds of an arm, and when the claims are judged."""

    min: int
    max: int
    spending: str
    looks: tuple[Look, ...]


class ChosenValues(Part):
    """The values that tuning chose for an arm: their score, of how many; `edges` are the ends of what was tried."""

    params: Params
    values: Params
    score: float | None
    tried: int
    edges: Mapping[str, Literal["lowest", "highest"]]


class Tuning(Part):
    """What was chosen by `metric`; no arms before all values have been tried."""

    metric: str
    trials: int
    outcomes: Mapping[str, int]
    arms: tuple[ChosenValues, ...]


class AsWritten(Part):
    """The verdicts at the values as first written, beside those at the tuned ones."""

    values: Mapping[str, tuple[Scalar, ...]]
    trials: TrialCounts
    arms: tuple[Arm, ...]
    claims: tuple[ClaimVerdict, ...]


class Difference(Part):
    """One arm minus another in a metric, with its interval, over the seeds that both have."""

    metric: str
    unit: Annotated[str, Field(exclude=True)]
    effect: float
    ci_low: float
    ci_high: float
    n_pairs: int


class Gain(Part):
    """What a search gained over the baseline in `chosen_by`: as it was `seen`, and as fresh seeds confirm it."""

    chosen_by: Annotated[str, Field(exclude=True)]
    tried: int
    seen: float
    confirmed: tuple[Difference, ...]


class Importance(Part):
    """The share of a searched factor in what sets the best trials apart, with its interval."""

    factor: str
    share: float
    low: float
    high: float


class Importances(Part):
    """The importance of every searched factor, at this level, from so many bootstrap resamples."""

    level: float
    resamples: int
    factors: tuple[Importance, ...]


class Search(Part):
    """What a search found."""

    gain: Gain | None
    importances: Importances


class PathStep(Difference):
    """A change along an ablation path: what it was chosen among, and what it gained."""

    configuration: Scalar
    factor: str
    before: Annotated[Scalar, Field(alias="from")]
    after: Annotated[Scalar, Field(alias="to")]
    scores: Mapping[str, float]


class Path(Part):
    """An ablation path: its steps, how many are `left` to choose, and the gain from end to end."""

    chosen_by: str
    level: float
    steps: tuple[PathStep, ...]
    left: int
    whole: Difference


class Selection(Part):
    """What was chosen by validation data; None where a sweep chooses nothing of the kind."""

    tuning: Tuning | None = None
    as_written: AsWritten | None = None
    search: Search | None = None
    path: Path | None = None


class ReachSetting(Part):
    """A setting of `across`, what it changes of the usual one, and what a claim came to there, by its name there."""

    claim: str
    settings: Params
    changes: Params
    verdict: Verdict


class Reach(Part):
    """A claim as written, in every setting, the usual one first."""

    name: str
    statement: str
    settings: tuple[ReachSetting, ...]


class Report(Part):
    """What the trials of a sweep say: every number that a format shows. `metric` is the one that arms are shown by.

    JSON leaves out `asked`, the sweep itself. `generalizes_over` says in a sentence what differed between the trials of
    an arm, and what stayed the same. Of a table from elsewhere `table` says how it was read, and `audits` what
    may explain each claim's difference besides.
    """

    sweep: str
    asked: Annotated[Sweep, Field(exclude=True, repr=False)]
    digest: str
    metric: str
    alpha: float
    generalizes_over: str
    trials: TrialCounts
    arms: tuple[Arm, ...]
    claims: tuple[ClaimVerdict, ...]
    preregistration: Preregistration | None
    negative_control: NegativeControl | None
    positive_control: PositiveControl | None
    adaptive: Adaptive | None
    effect_sizes: tuple[ClaimSizes, ...]
    factorial_effects: FactorialEffects | None
    tuning: Tuning | None
    as_written: AsWritten | None
    search: Search | None
    path: Path | None
    fingerprints: tuple[Mapping[str, JsonValue], ...]
    table: Annotated[Reading | None, Field(exclude_if=lambda table: table is None)] = None
    audits: Annotated[tuple[ClaimAudit, ...], Field(exclude_if=lambda audits: not audits)] = ()
    reach: Annotated[tuple[Reach, ...], Field(exclude_if=lambda reach: not reach)] = ()

    def unit(self, metric: str) -> str:
        """The unit of a metric."""
        return self.asked.metric(metric).unit

    @property
    def main_claims(self) -> tuple[ClaimVerdict, ...]:
        """The claims in the usual setting: those that are asked in others too are in `reach`."""
        return self.claims[: len(self.reach)] if self.reach else self.claims

    @property
    def is_exploratory(self) -> bool:
        """Whether its verdicts rest on a question that may have been chosen with results at hand."""
        return self.preregistration is not None and self.preregistration.status == "exploratory"


@dataclass(frozen=True)
class RecordedSweep:
    """A sweep as registered, and its finished trials: what a page shows beside the report.

    `entries` are those that verdicts read, in the order of the plan, `tuning` those that chose nuisance values,
    `control` those of the negative control. `registered` is ISO 8601 in UTC; `provenance` names versions and commit.
    """

    sweep: Sweep
    entries: tuple[RecordedTrial, ...]
    tuning: tuple[RecordedTrial, ...]
    registered: str
    data_digest: str
    provenance: Mapping[str, str]
    control: tuple[RecordedTrial, ...] = ()

    @property
    def every(self) -> tuple[RecordedTrial, ...]:
        """Every trial that is recorded."""
        return (*self.entries, *self.tuning, *self.control)

    @cached_property
    def by_arm(self) -> Mapping[str, list[RecordedTrial]]:
        """The trials that verdicts read, by the label of their arm."""
        found: dict[str, list[RecordedTrial]] = {}
        for entry in self.entries:
            found.setdefault(label(entry.params), []).append(entry)
        return found

    def arm(self, params: Mapping[str, Scalar]) -> list[RecordedTrial]:
        """The trials of an arm, by its factor values."""
        return self.by_arm.get(label(params), [])
