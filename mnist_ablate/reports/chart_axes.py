"""Axes of charts: what they measure, where they begin and end, how they are bent, and their ticks. Draws no marks."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import MaxNLocator, NullLocator

from mnist_ablate.reports.chart_files import LIGHT

_LARGEST = 1e300  # what matplotlib can draw
_NOISE = 1e-9  # what is left of equal numbers after subtraction is less
_FAR = 4.0  # times the largest difference: an interval that ends farther out gets an arrow
_WIDE = 25.0  # times the margin: a linear axis that reaches farther would hide the margin
_SPREAD = 8.0  # highest error over lowest: beyond, a linear axis would hide the good arms
_LEAST_ERROR = 1e-4  # one image of 10,000


@dataclass(frozen=True)
class Measure:
    """What an axis measures: its name in words, and whether it is a fraction, which is shown in percent."""

    name: str
    is_fraction: bool

    def value(self, value: float) -> str:
        """A value as text: `97.31%` or `0.1234`."""
        return minus(f"{value:.2%}" if self.is_fraction else f"{value:.4g}")

    def difference(self, value: float) -> str:
        """A difference as text, with its sign: `+0.83 pp` or `+0.01234`; small ones with the digits they need."""
        if not self.is_fraction:
            return minus(f"{value + 0.0:+.4g}")
        points = round(100.0 * value, 2) + 0.0
        is_small = not points and abs(value) > _NOISE
        return minus(f"{100.0 * value:+.1g} pp" if is_small else f"{points:+.2f} pp")

    def tick(self, value: float) -> str:
        """A round value beside an axis: `95%` or `0.5`."""
        return minus(f"{round(100.0 * value, 9):.12g}%" if self.is_fraction else f"{value:.12g}")

    def difference_tick(self, value: float) -> str:
        """A round difference below an axis: `+0.5`, in percentage points for fractions."""
        return minus(f"{round(100.0 * value if self.is_fraction else value, 9):+.12g}") if value else "0"


@dataclass(frozen=True)
class Span:
    """Where an axis begins and ends, and how it is bent: a scale of matplotlib with its options.

    note: the bend in words, empty for a linear axis. landmarks: ticks, the most important first.
    """

    low: float
    high: float
    note: str = ""
    scale: str = "linear"
    options: Mapping[str, Any] = field(default_factory=dict)
    landmarks: tuple[float, ...] = ()

    def clip(self, value: float) -> float:
        """The value, or the end of the axis that it lies beyond."""
        return min(max(value, self.low), self.high)


def span_of_differences(
    differences: Iterable[float | None], limits: Iterable[float | None], margins: Sequence[float]
) -> Span:
    """Zero, every margin and every difference, and those limits of intervals that leave room for these.

    The axis is compressed away from zero where differences are many times as large as the margins.
    """
    values = [0.0, *finite(differences), *(sign * margin for margin in margins for sign in (-1, 1))]
    most = _FAR * max(map(abs, values)) or math.inf
    values += [limit for limit in finite(limits) if abs(limit) <= most]
    low, high, size = min(values), max(values), max(margins, default=0.0)
    if low == high:
        low, high = -1.0, 1.0
    if size <= 0.0 or max(high, -low) <= _WIDE * size:
        pad = 0.04 * (high - low)
        return Span(low - pad, high + pad)
    return compressed(1.15 * low, 1.15 * high, max(size, 1e-5 * max(high, -low)))


def span_of_values(found: Iterable[float | None], measure: Measure) -> Span:
    """Every value; by the logarithm of the error (1 minus the value) or of the value, where they differ much."""
    values = finite(found) or [0.0, 1.0]
    low, high = min(values), max(values)
    if measure.is_fraction and 0.0 <= low <= high <= 1.0 and 1.0 - low > _SPREAD * max(1.0 - high, _LEAST_ERROR):
        ends = max(1.0 - 1.12 * (1.0 - low), -0.2), 1.0 - max(1.0 - high, _LEAST_ERROR) / 1.12
        ticks = tuple(1.0 - step / 10.0**power for power in range(5) for step in (1, 5, 2) if step <= 10.0**power)
        note = "by the logarithm of the error, which spreads out the good arms"
        return Span(*ends, note, "function", {"functions": (_from_error, _to_error)}, ticks)
    if not measure.is_fraction and low > 0.0 and high > _SPREAD * low:
        return Span(low / 1.15, high * 1.15, "logarithmic", "log", {}, _decades(0.0))
    pad = 0.06 * (high - low) or max(0.01 * abs(high), 1e-3)
    return Span(low - pad, min(high + pad, max(high, 1.0)) if measure.is_fraction else high + pad)


def compressed(low: float, high: float, size: float) -> Span:
    """Linear up to about `size` on both sides of zero, logarithmic beyond."""
    return Span(low, high, "compressed away from zero", "asinh", {"linear_width": size}, (0.0, *_decades(size / 2)))


def finite(values: Iterable[float | None]) -> list[float]:
    """The numbers among the values, none larger than matplotlib can draw."""
    return [min(max(value, -_LARGEST), _LARGEST) for value in values if value is not None and math.isfinite(value)]


def set_scale(axes: Axes, which: Literal["x", "y"], span: Span, spacing: float, name: Callable[[float], str]) -> None:
    """Give one axis its span, and named grid lines at least `spacing` pixels apart."""
    axis: Axis
    if which == "x":
        axes.set_xscale(span.scale, **span.options)
        axes.set_xlim(span.low, span.high)
        axis, length = axes.xaxis, axes.bbox.width
    else:
        axes.set_yscale(span.scale, **span.options)
        axes.set_ylim(span.low, span.high)
        axis, length = axes.yaxis, axes.bbox.height
    bend = axis.get_transform().transform
    first, last = bend(np.array([span.low, span.high]))
    ticks: dict[float, float] = {}
    for tick in _candidates(span, max(1, int(length / spacing))):
        place = float((bend(np.array([tick]))[0] - first) / (last - first) * length)
        if all(abs(place - other) >= spacing for other in ticks.values()):
            ticks[tick] = place
    chosen = sorted(ticks)
    axis.set_ticks(chosen, [name(tick) for tick in chosen])
    axis.set_minor_locator(NullLocator())
    axis.grid(visible=True, color=LIGHT["grid"], linewidth=1)


def minus(text: str) -> str:
    """Numbers with a minus sign as wide as a plus; hyphens in words stay."""
    return re.sub(r"(?<!\w)-(?=[\d.])", "\N{MINUS SIGN}", text)


def _candidates(span: Span, most: int) -> list[float]:
    inside = [tick for tick in span.landmarks if span.low <= tick <= span.high]
    if len(inside) >= 3:  # noqa: PLR2004 - fewer say little about a scale
        return inside
    regular = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(span.low, span.high)
    return [float(tick) for tick in regular if span.low <= tick <= span.high]


def _decades(least: float) -> tuple[float, ...]:
    """Round numbers of at least so much with both signs, those first that tell most."""
    sizes = [step * 10.0**power for power in range(9, -9, -1) for step in (1, 5, 2)]
    return tuple(sign * size for size in sizes if size >= least for sign in (1, -1))


def _from_error(value: Any) -> Any:
    return -np.log(np.maximum(1.0 - np.asarray(value), _LEAST_ERROR))


def _to_error(value: Any) -> Any:
    return 1.0 - np.exp(-np.asarray(value))
