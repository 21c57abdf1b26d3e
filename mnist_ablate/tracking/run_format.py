"""A trial and its outcome in MLflow's words: names, statuses, metrics, params and tags. Pure; sends nothing."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mnist_ablate.errors import mask
from mnist_ablate.trial import CONTROL_SEED, Epoch, Outcome, Scalar, Trial
from mnist_ablate.workloads.workload import default_workload

if TYPE_CHECKING:
    from mlflow.entities import Metric

STATUSES = {"complete": "FINISHED", "diverged": "FINISHED", "failed": "FAILED", "lost": "KILLED", "pruned": "KILLED"}
_LONGEST_REASON = 500
_LONGEST_NOTE = 5000

Point = tuple[int, int]
"""An epoch's number and its end in ms since 1970: two attempts at the same trial have different points."""


def points(epochs: Sequence[Epoch]) -> set[Point]:
    """The steps and times at which these epochs are stored."""
    return {(epoch.number, epoch.ended_ms) for epoch in epochs}


def same_attempt(sent: set[Point], new: set[Point]) -> bool:
    """False if an epoch of `new` was sent before with another time."""
    return {number for number, _ in sent - new}.isdisjoint(number for number, _ in new)


def run_name(arm: Mapping[str, Scalar], seed: int) -> str:
    """Words as they are, numbers with what they are: `centered relu dropout=0.5 seed 3`."""
    words = [value if isinstance(value, str) else f"{key}={value}" for key, value in arm.items()]
    words += ["control"] if seed >= CONTROL_SEED else []  # so that MLflow groups it apart from the arm that it repeats
    return " ".join([*words, f"seed {seed}"])


def params(trial: Trial) -> dict[str, str]:
    """Every setting of the recipe that its network has, and the seed."""
    workload, settings = default_workload(), trial.settings
    found = {key: str(value) for key, value in settings.items() if workload.is_used(key, settings)}
    return found | {"seed": str(trial.seed)}


def tags(trial: Trial, arm: Mapping[str, Scalar], outcome: Outcome) -> dict[str, str]:
    """What one looks runs up by, without the tags that make it this trial's run."""
    return {
        "mlflow.runName": run_name(arm, trial.seed),
        "outcome": outcome.status,
        "reason": mask(outcome.reason)[:_LONGEST_REASON],
        "arm": run_name(arm, trial.seed).rpartition(" seed ")[0],
        "seed": str(trial.seed),
        "data_digest": trial.data_digest,
        "worker": mask(outcome.worker),
    }


def live_tags(trial: Trial) -> dict[str, str]:
    """A name for a run whose arm comes with its outcome."""
    return {
        "mlflow.runName": run_name({"pace": default_workload().pace(trial.settings)}, trial.seed),
        "seed": str(trial.seed),
    }


def epoch_metrics(epochs: Sequence[Epoch]) -> "list[Metric]":
    """The curves; a value that is not finite is left out: MLflow would store 1.8e308 and sort by it."""
    from mlflow.entities import Metric

    return [
        Metric(key, value, epoch.ended_ms, epoch.number)
        for epoch in epochs
        for key, value in epoch.metrics.items()
        if math.isfinite(value)
    ]


def final_values(outcome: Outcome) -> dict[str, float]:
    """The numbers of the whole run, the diagnostics under a heading of their own, the duration in seconds.

    Those that the curves end with are left to them: a step has one row of each metric. The numbers that a
    diverged trial counts with are not those of its last epoch, and stand at the one that it did not end.
    """
    diagnostics = {f"diagnostics/{key}": value for key, value in outcome.diagnostics.items()}
    curves = outcome.epochs[-1].metrics if outcome.epochs and outcome.status != "diverged" else ()
    own = {key: value for key, value in outcome.metrics.items() if key not in curves}
    return {**own, **diagnostics, "seconds": outcome.seconds}


def final_metrics(outcome: Outcome) -> "list[Metric]":
    """The numbers of the whole run, at its last epoch and its end."""
    from mlflow.entities import Metric

    number, at_ms = end_point(outcome)
    return [Metric(key, value, at_ms, number) for key, value in final_values(outcome).items()]


def end_point(outcome: Outcome) -> Point:
    """The last epoch, 0 if there was none, the next one if it diverged; and the end of the run in ms since 1970."""
    last = outcome.epochs[-1].number if outcome.epochs else 0
    return last + (outcome.status == "diverged"), ended_ms(outcome) or 0


def ended_ms(outcome: Outcome) -> int | None:
    """The end of the run in ms since 1970, None if its start was never known."""
    return outcome.started_ms + round(outcome.seconds * 1000) if outcome.started_ms else None


def latest(outcome: Outcome) -> dict[str, float]:
    """The value MLflow shows for each metric of a run that is in step."""
    curves = {metric.key: metric.value for metric in epoch_metrics(outcome.epochs)}
    return {**curves, **final_values(outcome)}


def in_step(
    status: str, outcome_tag: str, metrics: Mapping[str, float], stored_end_ms: int | None, outcome: Outcome
) -> bool:
    """True if a stored run says what the ledger says; another attempt with the same numbers ended at another time."""
    if (status, outcome_tag) != (STATUSES[outcome.status], outcome.status):
        return False
    if ended_ms(outcome) not in {None, stored_end_ms}:
        return False
    wanted = latest(outcome).items()
    return all(math.isclose(metrics.get(key, math.nan), value, rel_tol=1e-9) for key, value in wanted)


def changed(metrics: Mapping[str, float], stored: Mapping[str, float]) -> "list[Metric]":
    """Verdicts have no time of their own, so only new values become points: saying them again adds none."""
    from mlflow.entities import Metric

    now_ms = int(time.time() * 1000)
    news = {key: value for key, value in metrics.items() if math.isfinite(value) and stored.get(key) != value}
    return [Metric(key, value, now_ms, 0) for key, value in news.items()]


def note(markdown: str) -> str:
    """As much as every MLflow takes, in whole lines."""
    text = mask(markdown)
    if len(text) <= _LONGEST_NOTE:
        return text
    start = text[: _LONGEST_NOTE - 100]
    return (start.rpartition("\n")[0] or start) + "\n\n(cut: the whole report is among the artifacts)"
