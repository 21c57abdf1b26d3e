"""A made-up record of the shipped normalization sweep, as large and as untidy as a test wants; trains nothing."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import BaseModel

from mnist_ablate.ledger import progress
from mnist_ablate.reports import judging
from mnist_ablate.reports.report import RecordedSweep, Report
from mnist_ablate.sweep import sweep_file
from mnist_ablate.sweep.plan import Arm, PlannedTrial, label, make_plan
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import Epoch, Outcome, RecordedTrial, Row

ARMS = {
    "unit": (0.9790, 0.9735, (0.0, 0.996, 0.131, 0.307, 0.425, 87.5)),
    "raw": (0.9655, 0.9302, (0.0, 255.0, 33.4, 78.7, 0.425, 5.73e6)),
    "centered": (0.9775, 0.9712, (-1.0, 1.008, -0.737, 0.620, 1.19, 727.0)),
    "centered_uint8": (0.9420, 0.9280, (0.0, 2.008, 0.99, 0.19, 5.2, 797.0)),
    "standardized": (0.9801, 0.9740, (-0.424, 2.82, 0.0, 1.0, 0.0, 784.0)),
    "inverted": (0.9772, 0.9655, (0.004, 1.0, 0.869, 0.307, 2.83, 667.0)),
}
"""By normalizer: mean accuracy with relu and with tanh, and what the inputs are like, by `KEYS`."""
KEYS = ("min", "max", "mean", "std", "offset", "energy")
MEANS = {
    f"{name} {activation}": ARMS[name][place] for name in ARMS for place, activation in enumerate(("relu", "tanh"))
}
PROVENANCE = {"version.mnist-ablate": "0.1.0", "version.keras": "3.15.0", "git_commit": "unknown"}
TROUBLE = {
    **dict.fromkeys([("centered_uint8 relu", 3), ("raw tanh", 6), ("raw tanh", 8)], "diverged"),
    **dict.fromkeys([("inverted relu", 2), ("standardized tanh", 1)], "failed"),
    ("unit tanh", 7): "lost",
}


def judged(
    sweep: Sweep | None = None, *, reason: str = "ValueError: no such layer", trouble: bool = True
) -> tuple[Report, RecordedSweep]:
    """The report on a finished sweep, normalization with ten seeds by default, and its trials."""
    sweep = sweep or sweep_file.load("normalization", seeds=10)
    plan = make_plan(sweep, "b8370d41" * 8, max_trials=10**6)
    entries = [_entry(planned, reason, trouble=trouble) for planned in plan.verdict_trials()]
    rows = [Row(e.params, e.trial.seed, e.outcome.metrics, e.outcome.status) for e in entries]
    report = judging.of_rows(sweep, rows, progress.count(rows))
    registered = "2026-11-24T06:32:50+00:00"
    return report, RecordedSweep(sweep, tuple(entries), (), registered, plan.data_digest, PROVENANCE)


def with_claim(report: Report, **changes: Any) -> Report:
    """The report with its first claim altered."""
    first, *others = report.claims
    return report.model_copy(update={"claims": (replace(first, **changes), *others)})


def with_trials(report: Report, **changes: int) -> Report:
    """The report with other counts of trials."""
    return report.model_copy(update={"trials": report.trials.model_copy(update=changes)})


def as_json(value: BaseModel) -> Any:
    """A report as `--format json` prints it, read again."""
    return json.loads(value.model_dump_json())


def _entry(planned: PlannedTrial, reason: str, *, trouble: bool) -> RecordedTrial:
    name, trial = label(planned.arm.params), planned.trial
    status = TROUBLE.get((name, trial.seed), "complete") if trouble else "complete"
    outcome: dict[str, Any] = {"trial_id": trial.id, "status": status, "seconds": 4.0}
    if status in {"failed", "lost"}:
        outcome |= {"reason": reason}
    else:
        diverged = status == "diverged"
        epochs = tuple(_epochs(planned.arm, trial.seed, 1 if diverged else trial.settings["epochs"]))
        accuracy = 0.1 if diverged else epochs[-1].metrics["val_accuracy"] + 0.0005
        metrics = {"test_accuracy": accuracy, "test_loss": -math.log(accuracy), "epochs_to_95": 2.0}
        outcome |= {"epochs": epochs, "metrics": metrics, "diagnostics": _diagnostics(planned.arm, trial.seed)}
        outcome["reason"] = "loss not finite in epoch 2" if diverged else ""
    return RecordedTrial(trial, planned.arm.params, planned.stage, Outcome(**outcome))


def _epochs(arm: Arm, seed: int, epochs: int) -> Iterator[Epoch]:
    noise = np.random.default_rng([seed, sum(label(arm.params).encode())]).normal(0.0, 0.0012, epochs + 1)
    worst = 1 - MEANS.get(label(arm.params), 0.97)
    for number in range(1, epochs + 1):
        error = worst * (1 + 1.2 * math.exp(-number + epochs / 6)) / (1 + 1.2 * math.exp(-epochs * 5 / 6))
        accuracy = round(1 - error + noise[0] + 0.5 * noise[number], 4)
        training = {"train_loss": 2 * error, "train_accuracy": accuracy - 0.01}
        ended_ms = 1_795_501_978_227 + number
        yield Epoch(number=number, **training, val_loss=error, val_accuracy=accuracy, ended_ms=ended_ms)


def _diagnostics(arm: Arm, seed: int) -> dict[str, float]:
    relu, wrapped = arm.settings["activation"] == "relu", arm.settings["normalizer"] == "centered_uint8"
    units = {}
    for layer in ("dense_1", "dense_2", "dense_3"):
        depth = int(layer[-1])
        units[f"dead_{layer}_start"] = 0.31 / depth if wrapped else 0.0
        units[f"dead_{layer}_end"] = (0.42 if wrapped else 0.012) / depth + 0.001 * seed if relu else 0.004
        units[f"always_on_{layer}_start"] = 0.28 if wrapped else 0.0
        units[f"always_on_{layer}_end"] = 0.2 / depth if wrapped else 0.0
    statistics = zip(KEYS, ARMS.get(arm.settings["normalizer"], ARMS["unit"])[2], strict=True)
    inputs = {f"input_{key}": value for key, value in statistics}
    return {**inputs, **units, "gradient_norm_start": 1.2, "gradient_norm_end": 0.15 + 0.01 * seed}
