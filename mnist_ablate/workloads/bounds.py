"""What a metric's values can be: those outside its bounds are named with their likely cause. Reads no files."""

import re
from typing import TYPE_CHECKING

from mnist_ablate.trial import Outcome
from mnist_ablate.workloads.workload import Metric, Workload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ROUNDING = 1e-6  # shares that were summed up in float32 may be so much beyond a bound
_SHARE = re.compile(
    r"(?:^|[^a-z])(?:acc|accuracy|top[-_ ]?[15]|f1|auc|auroc|precision|recall|iou|dice|error_rate)(?:[^a-z]|$)"
)
_ACCURACY = re.compile(r"(?:^|[^a-z])acc(?:uracy)?(?:[^a-z]|$)")


def metric_by_name(name: str) -> Metric:
    """What a metric that nobody declared must be by its name: an accuracy, F1 and the like are shares."""
    if _SHARE.search(name.lower()):
        return Metric(name, unit="share", low=0.0, high=1.0, better="lower" if "error" in name else "higher")
    return Metric(name)


def is_outside(metric: Metric, values: "NDArray[np.float64]") -> "NDArray[np.bool_]":
    """Which of the values cannot be those of the metric; nan is none of them."""
    import numpy as np

    return np.logical_or(values < metric.low - _ROUNDING, values > metric.high + _ROUNDING)


def outside(metric: Metric, value: float) -> str:
    """What is wrong with a value that is not within the bounds: `97.01: an accuracy is a share, 0 to 1`."""
    if metric.is_share:
        called = "an accuracy" if _ACCURACY.search(metric.name.lower()) else metric.name
        return f"{value:g}: {called} is a share, 0 to 1"
    low, high = f"at least {metric.low:g}", f"at most {metric.high:g}"
    return f"{value:g}: {metric.name} is {low if value < metric.low else high}"


def checked(outcome: Outcome, workload: Workload) -> Outcome:
    """The outcome, or a failed one if a metric is outside its declared bounds: no verdict may rest on it."""
    epochs = (each for epoch in outcome.epochs for each in epoch.metrics.items())
    for name, value in (*outcome.metrics.items(), *epochs):
        known = workload.metrics.get(name)
        if known and not known.low - _ROUNDING <= value <= known.high + _ROUNDING:
            mend = ": divide by 100" if known.is_share and 1 < value <= 100 else ""  # noqa: PLR2004 - percent
            reason = f"{name} {outside(known, value)}{mend}"
            failed = {"status": "failed", "reason": reason, "metrics": {}, "diagnostics": {}, "epochs": ()}
            return outcome.model_copy(update=failed)
    return outcome
