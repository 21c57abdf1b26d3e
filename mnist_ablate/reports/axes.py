"""Where a value stands on an axis and which values are marked; draws nothing."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mnist_ablate.text import PERCENT

_WIDE = 25.0  # times the margin: beyond, a linear axis would hide the margin
_SPREAD = 8.0  # highest error over lowest: beyond, a linear axis would hide the good arms
_LEAST_ERROR = 1e-4  # one test image of 10,000
_FINEST = 1e-5  # of the reach: nothing closer to zero is spread out
_FEW = 3
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Axis:
    """From values low to high to pixels start to end; `note` says in words how it is bent, empty if it is not.

    `landmarks` are the values worth marking, the most important first.
    """

    low: float
    high: float
    start: float
    end: float
    bend: Callable[[float], float] = float
    landmarks: tuple[float, ...] = ()
    note: str = ""

    def at(self, value: float) -> float:
        """The pixel of a value; of one beyond the axis, its end."""
        bottom, top = self.bend(self.low), self.bend(self.high)
        share = (self.bend(min(max(value, self.low), self.high)) - bottom) / (top - bottom)
        return self.start + share * (self.end - self.start)

    def placed(self, start: float, end: float) -> "Axis":
        """The same axis elsewhere."""
        return Axis(self.low, self.high, start, end, self.bend, self.landmarks, self.note)

    def ticks(self, spacing: float) -> list[float]:
        """Values to mark, at least `spacing` pixels apart."""
        inside = [value for value in self.landmarks if self.low <= value <= self.high]
        found: list[float] = []
        for value in inside if len(inside) >= _FEW else self._regular(spacing):
            if all(abs(self.at(value) - self.at(other)) >= spacing for other in found):
                found.append(value)
        return sorted(found)

    def _regular(self, spacing: float) -> list[float]:
        most = max(2.0, abs(self.end - self.start) / spacing)
        raw = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * size for size in _STEPS if power * size >= raw * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(i * step, 12) for i in range(first, last + 1)]


def of_differences(values: Iterable[float], margins: Sequence[float]) -> Axis:
    """Zero, every margin and every value; compressed away from zero where they are far beyond the margins."""
    values = list(values)
    low, high = min([*values, *(-m for m in margins), 0.0]), max([*values, *margins, 0.0])
    size = max(margins, default=0.0)
    if low == high:
        low, high = -1.0, 1.0
    if size <= 0.0 or max(high, -low) <= _WIDE * size:
        pad = 0.04 * (high - low)
        return Axis(low - pad, high + pad, 0.0, 1.0)
    size = max(size, _FINEST * max(high, -low))
    decades = [sign * step * 10.0**power for power in range(3, -8, -1) for step in (1, 5, 2) for sign in (1, -1)]
    landmarks = (0.0, *(value for value in decades if abs(value) >= size / 2))
    low, high = low * 1.15, high * 1.15
    return Axis(low, high, 0.0, 1.0, lambda value: math.asinh(value / size), landmarks, "compressed away from zero")


def of_metric(metric: str, values: Iterable[float]) -> Axis:
    """Every value; accuracies by the logarithm of the error and losses by their own, where they differ much."""
    values = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(values), max(values)
    if metric.endswith(PERCENT) and 0 <= low <= high <= 1 and 1 - low > _SPREAD * max(1 - high, _LEAST_ERROR):
        return _of_errors(low, high)
    if not metric.endswith(PERCENT) and low > 0.0 and high > _SPREAD * low:
        landmarks = tuple(step * 10.0**power for power in range(-8, 9) for step in (1, 5, 2))
        return Axis(low / 1.15, high * 1.15, 0.0, 1.0, math.log, landmarks, "logarithmic")
    pad = 0.06 * (high - low) or max(abs(high) * 0.01, 1e-3)
    top = min(high + pad, max(high, 1.0)) if metric.endswith(PERCENT) else high + pad
    return Axis(low - pad, top, 0.0, 1.0)


def _of_errors(low: float, high: float) -> Axis:
    def bend(value: float) -> float:
        return -math.log(max(1.0 - value, _LEAST_ERROR))

    landmarks = tuple(1.0 - step / 10.0**power for power in range(5) for step in (1, 5, 2) if step / 10.0**power <= 1)
    low = max(1.0 - (1.0 - low) * 1.12, -0.2)
    high = 1.0 - max(1.0 - high, _LEAST_ERROR) / 1.12
    return Axis(low, high, 0.0, 1.0, bend, landmarks, "by the logarithm of the error, which spreads out the good arms")
