"""A trial and its outcome in MLflow's words: names, statuses, metrics, params and tags. Pure; sends nothing."""

import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mnist_ablate.errors import mask
from mnist_ablate.trial import CONTROL_SEED, TUNING_SEED, Epoch, Outcome, Scalar, Trial
from mnist_ablate.workloads.workload import Metric as MetricMeaning
from mnist_ablate.workloads.workload import Workload

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric

STATUSES = {"complete": "FINISHED", "diverged": "FINISHED", "failed": "FAILED", "lost": "KILLED", "pruned": "KILLED"}
OUTCOME_TAGS = ("outcome", "reason", "worker")
_LONGEST_NOTE = 5000
_LONGEST_KEY = 250
_LONGEST_ARM = 28
_MARKED = {"control": CONTROL_SEED, "tuning": TUNING_SEED}
SAME_TIME_MS = 50
"""A worker starts its clock so long before the trainer does. A run that began live keeps that start."""

Point = tuple[int, int]  # a step and its time in ms since 1970: two attempts at the same trial have different points


@dataclass(frozen=True)
class StoredRun:
    """What MLflow holds of a trial: `status` is MLflow's word, `outcome` ours and empty while it trains."""

    run_id: str
    status: str = "RUNNING"
    outcome: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    started_ms: int | None = None
    ended_ms: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Everything was sent: the status goes last."""
        return self.status != "RUNNING" and bool(self.outcome)


@dataclass(frozen=True)
class Data:
    """What a sweep is trained on, as MLflow's page names it."""

    name: str
    digest: str
    source: str

    def inputs(self) -> "list[DatasetInput]":
        """One data set for all uses: MLflow keeps one use of each name and digest."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        data = Dataset(self.name[:500], self.digest[:36], "local", self.source)
        return [DatasetInput(data, [InputTag("mlflow.data.context", "train, validation, test")])]


def claim_key(kind: str, claim: str) -> str:
    """What the sweep's own run calls the verdict or the effect of a claim, in characters that MLflow takes."""
    return re.sub(r"[^\w.\-]", "_", f"{kind}.{claim}")[:_LONGEST_KEY]


def points(metrics: "Iterable[Metric]") -> set[Point]:
    """Where these metrics stand: an epoch at its number and its end."""
    return {(metric.step, metric.timestamp) for metric in metrics}


def same_attempt(sent: set[Point], new: set[Point]) -> bool:
    """False if a step of `new` was sent before with another time."""
    return {number for number, _ in sent - new}.isdisjoint(number for number, _ in new)


def arm_name(arm: Mapping[str, Scalar], seed: int) -> str:
    """Words as they are, numbers with what they are: `centered relu dropout=0.5`."""
    words = [value if isinstance(value, str) else f"{key}={value}" for key, value in arm.items()]
    words += ["control"] if seed >= CONTROL_SEED else []  # so that MLflow groups it apart from the arm that it repeats
    return " ".join(words)


def run_name(arm: Mapping[str, Scalar], seed: int) -> str:
    """The arm, as much as fits the column, and the seed: `centered relu seed 3`, `relu tuning 0`, `relu control 3`."""
    which = next((word for word, first in _MARKED.items() if seed >= first), "seed")
    name = arm_name(arm, 0)
    short = name if len(name) <= _LONGEST_ARM else f"{name[: _LONGEST_ARM - 1]}…"
    return f"{short} {which} {seed - _MARKED.get(which, 0)}".lstrip()


def trial_note(arm: Mapping[str, Scalar], trial: Trial, outcome: Outcome, metric: MetricMeaning) -> str:
    """Two lines: which arm and seed, and what came out or why nothing did."""
    use = {"tuning": ", to choose values", "control": ", for the negative control"}.get(_stage(trial), "")
    value = outcome.metrics.get(metric.name)
    unit = "%" if metric.is_share else f" {metric.unit}".rstrip()
    shown = "" if value is None else f", {metric.name} {100 * value if metric.is_share else value:.4g}{unit}"
    came = f"{outcome.status.capitalize()}{shown}" + (f": {mask(outcome.reason)[:300]}" if outcome.reason else "")
    return f"{arm_name(arm, 0) or 'The only arm'}, seed {trial.seed}{use}.\n\n{came}."


def _stage(trial: Trial) -> str:
    return "tuning" if trial.is_blind else "control" if trial.seed >= CONTROL_SEED else "verdict"


def params(workload: Workload, trial: Trial) -> dict[str, str]:
    """Every setting that has a meaning beside the others, and the seed."""
    settings = trial.settings
    found = {key: str(value) for key, value in settings.items() if workload.is_used(key, settings)}
    return found | {"seed": str(trial.seed)}


def tags(trial: Trial, arm: Mapping[str, Scalar], outcome: Outcome, stage: str = "") -> dict[str, str]:
    """What one looks runs up by, without the tags that make it this trial's run."""
    return {
        **live_tags(trial, arm),
        **({"stage": stage} if stage else {}),
        "outcome": outcome.status,
        "reason": mask(outcome.reason)[:500],
        "data_digest": trial.data_digest,
        "worker": mask(outcome.worker),
    }


def live_tags(trial: Trial, arm: Mapping[str, Scalar]) -> dict[str, str]:
    """What is known of a run that trains."""
    name, arm_in_words = run_name(arm, trial.seed), arm_name(arm, trial.seed)
    return {"mlflow.runName": name, "arm": arm_in_words, "seed": str(trial.seed), "stage": _stage(trial)}


def epoch_metrics(epochs: Sequence[Epoch]) -> "list[Metric]":
    """The curves; a value that is not finite is left out: MLflow would store 1.8e308 and sort by it."""
    from mlflow.entities import Metric

    found = ((epoch, key, value) for epoch in epochs for key, value in epoch.metrics.items())
    return [Metric(key, value, epoch.ended_ms, epoch.number) for epoch, key, value in found if math.isfinite(value)]


def all_metrics(outcome: Outcome) -> "list[Metric]":
    """The curves, and the numbers of the whole run at its last epoch (0 if there was none) and its end.

    Numbers that the curves end with are left to them: a step has one row of each metric. The numbers that a
    diverged trial counts with are not those of its last epoch, and stand at the one that it did not end.
    """
    from mlflow.entities import Metric

    number = (outcome.epochs[-1].number if outcome.epochs else 0) + (outcome.status == "diverged")
    at_ms = ended_ms(outcome) or 0
    curves = outcome.epochs[-1].metrics if outcome.epochs and outcome.status != "diverged" else ()
    final = {key: value for key, value in outcome.metrics.items() if key not in curves}
    final |= {f"diagnostics/{key}": value for key, value in outcome.diagnostics.items()}
    final["seconds"] = outcome.seconds
    return epoch_metrics(outcome.epochs) + [Metric(key, value, at_ms, number) for key, value in final.items()]


def ended_ms(outcome: Outcome) -> int | None:
    """The end of the run in ms since 1970, None if its start was never known."""
    return outcome.started_ms + round(outcome.seconds * 1000) if outcome.started_ms else None


def as_stored(run_id: str, outcome: Outcome) -> StoredRun:
    """What MLflow holds when an outcome was sent: of each metric the latest value."""
    metrics = {metric.key: metric.value for metric in all_metrics(outcome)}
    times = (outcome.started_ms or None, ended_ms(outcome))
    return StoredRun(run_id, STATUSES[outcome.status], outcome.status, metrics, *times)


def has_started_at(run: StoredRun, started_ms: int | None) -> bool:
    """Whether a run began when its trial did. MLflow changes no start afterwards. True if that was never known."""
    return not started_ms or (run.started_ms is not None and abs(run.started_ms - started_ms) <= SAME_TIME_MS)


def in_step(run: StoredRun, outcome: Outcome) -> bool:
    """True if a stored run says what the ledger says; another attempt with the same numbers ended at another time."""
    wanted = as_stored(run.run_id, outcome)
    return (
        (run.status, run.outcome) == (wanted.status, wanted.outcome)
        and wanted.ended_ms in {None, run.ended_ms}
        and all(math.isclose(run.metrics.get(key, math.nan), it, rel_tol=1e-9) for key, it in wanted.metrics.items())
    )


def changed(metrics: Mapping[str, float], stored: Mapping[str, float]) -> "list[Metric]":
    """Verdicts have no time of their own, so only new values become points: saying them again adds none."""
    from mlflow.entities import Metric

    now_ms = int(time.time() * 1000)
    news = {key: value for key, value in metrics.items() if math.isfinite(value) and stored.get(key) != value}
    return [Metric(key, value, now_ms, 0) for key, value in news.items()]


def beside(text: str, others: Mapping[str, str]) -> str:
    """A text with links to comparisons after its first paragraphs, where a long text is not cut."""
    if not others:
        return text
    links = "Compare with " + ", ".join(f"[{name}]({address})" for name, address in others.items())
    head, mark, rest = text.partition("\n\n[The sweep's run]")
    return f"{head}\n\n{links}{mark}{rest}" if mark else f"{text}\n\n{links}"


def note(markdown: str) -> str:
    """As much as every MLflow takes, in whole lines."""
    text = mask(markdown)
    if len(text) <= _LONGEST_NOTE:
        return text
    start = text[: _LONGEST_NOTE - 100]
    return (start.rpartition("\n")[0] or start) + "\n\n(cut: the whole report is among the artifacts)"
