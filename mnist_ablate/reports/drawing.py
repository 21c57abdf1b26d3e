"""What every chart is drawn on: axes, colors for light, dark and print, SVG and PNG files. Draws no marks.

Charts are drawn in the colors of LIGHT. In SVG each becomes a CSS variable, to which STYLE gives its values.
"""

import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree as ET

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from rich.text import Text

from mnist_ablate.reports.wording import minus, plain
from mnist_ablate.workloads.workload import Metric

Options = dict[str, Any]  # what matplotlib's functions take by name
_TEMPLATES = Path(__file__).with_name("templates")
STYLE = (_TEMPLATES / "charts.css").read_text(encoding="utf-8")
"""The style sheet that a page with charts must contain once."""
LIGHT: Mapping[str, str] = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", STYLE.partition("@media")[0]))  # colors by name
_NAMES = {color: name for name, color in LIGHT.items()}
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_SVG, _HREF = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
ET.register_namespace("", _SVG[1:-1])
ET.register_namespace("xlink", _HREF[1:].partition("}")[0])
_LARGEST = 1e300  # what matplotlib can draw
_NOISE = 1e-7  # what is left of equal numbers after subtraction is less
_FAR = 4.0  # times the largest difference: an interval that ends farther out gets an arrow
_WIDE = 25.0  # times the margin: a linear axis that reaches farther would hide the margin
_SPREAD = 8.0  # highest error over lowest: beyond, a linear axis would hide the good arms
_LEAST_ERROR = 1e-4  # one image of 10,000
_ROUND = [sign * step * 10.0**power for power in range(9, -9, -1) for step in (1, 5, 2) for sign in (1, -1)]


@dataclass(frozen=True)
class Chart:
    """A drawn figure and its words. hovers: by gid of a group of marks, what each shows under a pointer."""

    figure: Figure
    title: str
    description: str
    hovers: dict[str, list[str]] = field(default_factory=dict)


@contextmanager
def canvas(title: str, description: str, height: float) -> Iterator[Chart]:
    """A chart to draw on, 920 pixels wide and `height` high; at the end every part gets its place for good."""
    with _settings():
        chart = Chart(Figure((920 / 72, height / 72)), title, description)
        yield chart
        for artist in chart.figure.findobj():
            artist.set_clip_on(False)
        chart.figure.draw_without_rendering()
        chart.figure.set_layout_engine("none")


@contextmanager
def _settings() -> Iterator[None]:
    """The style of charts in place of the user's settings, and no warning of letters that the font lacks."""
    with matplotlib.style.context(_TEMPLATES / "charts.mplstyle", after_reset=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def to_svg(chart: Chart, ident: str = "chart") -> str:
    """The chart as an `<svg>` element for a page that contains STYLE; `ident` must be unique in the page."""
    return ET.tostring(_element(chart, ident), encoding="unicode")


def to_svg_file(chart: Chart) -> str:
    """The chart as the text of an SVG file that needs nothing else, light and dark."""
    root = _element(chart, "chart")
    _add(root, 2, "style", f"{STYLE}.chart {{ width: auto; }}")
    return ET.tostring(root, encoding="unicode") + "\n"


def to_png(chart: Chart, path: Path, width: int = 1840) -> None:
    """Write the chart in light colors to a PNG file, so many pixels wide."""
    inches = chart.figure.get_size_inches()[0]
    with _settings():  # a little more than that, because matplotlib cuts off a fraction of a pixel
        chart.figure.savefig(path, format="png", dpi=width / inches + 1e-4, metadata={"Software": None})


def _element(chart: Chart, ident: str) -> ET.Element:
    stream = io.BytesIO()
    with _settings():
        FigureCanvasSVG(chart.figure).print_svg(stream, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    root = ET.fromstring(stream.getvalue())  # noqa: S314 - matplotlib wrote it just now
    root.remove(root[0])  # a style for the whole page
    groups = {element.get("id"): element for element in root.iter()}
    for gid, texts in chart.hovers.items():
        marks = groups[gid].findall(f".//{_SVG}use") or [groups[gid]]  # a line has no marks
        for mark, text in zip(marks, texts, strict=True):
            _add(mark, 0, "title", text)
            mark.set("class", "mark")
    for element in root.iter():
        for name, value in element.items():
            if name == "style":  # programs that know no variables keep the color
                colored = re.sub(
                    r"(fill|stroke): (#[0-9a-f]{6})", lambda it: f"{it[0]};{it[1]}:var(--{_NAMES[it[2]]})", value
                )
                element.set(name, colored)
            elif name in {"id", _HREF}:
                element.set(name, re.sub("^#?", rf"\g<0>{ident}-", value))
    for place, (name, text) in enumerate((("title", chart.title), ("desc", chart.description))):
        _add(root, place, name, text).set("id", f"{ident}-{name}")
    root.attrib.update({"class": "chart", "role": "img"})
    root.attrib.update({"aria-labelledby": f"{ident}-title", "aria-describedby": f"{ident}-desc"})
    return root


def _add(parent: ET.Element, place: int, name: str, text: str) -> ET.Element:
    element = ET.Element(f"{_SVG}{name}")
    element.text = _clean(text)
    parent.insert(place, element)
    return element


def short(text: str, most: int) -> str:
    """Text for a figure: on one line, with an ellipsis for what is wider than so many letters of English."""
    found = Text(_clean(text))
    found.truncate(most, overflow="ellipsis")
    return found.plain


def _clean(text: str) -> str:
    """The text on one line, with a replacement character for what XML does not allow."""
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", " ".join(text.split()))


@dataclass(frozen=True)
class Measure:
    """What an axis measures: its name in words, and whether it is a fraction, which is shown in percent."""

    name: str
    is_fraction: bool
    is_ratio: bool = False  # its differences are logarithms of factors

    def value(self, value: float) -> str:
        """A value as text: `97.31%` or `0.1234`."""
        return minus(f"{value:.2%}" if self.is_fraction else f"{value:.4g}")

    def difference(self, value: float) -> str:
        """A difference as text, with its sign: `+0.83 pp` or `+0.01234`; small ones with the digits they need."""
        if self.is_ratio:
            return f"\N{MULTIPLICATION SIGN}{math.exp(value):.3g}"
        if not self.is_fraction:
            return minus(f"{value + 0.0:+.4g}")
        points = 100.0 * value
        return minus(f"{points:+.1g} pp" if _NOISE < abs(points) < 0.005 else f"{round(points, 2) + 0.0:+.2f} pp")  # noqa: PLR2004 - less is 0.00

    def tick(self, value: float) -> str:
        """A round value beside an axis: `95%` or `0.5`."""
        return minus(f"{round(100.0 * value, 9):.12g}%" if self.is_fraction else f"{value:.12g}")

    def difference_tick(self, value: float) -> str:
        """A round difference below an axis: `+0.5`, in percentage points for fractions."""
        if self.is_ratio:
            return f"\N{MULTIPLICATION SIGN}{math.exp(value):.3g}"
        return minus(f"{round(100.0 * value if self.is_fraction else value, 9):+.12g}") if value else "0"


def measure_of(metric: Metric) -> Measure:
    """What an axis of a metric measures."""
    return Measure(plain(metric.name), metric.is_share)


@dataclass(frozen=True)
class Span:
    """Where an axis begins and ends, its bend in words and as a scale, and good ticks, the most important first."""

    low: float
    high: float
    note: str = ""
    scale: str = "linear"
    options: Options = field(default_factory=dict)
    landmarks: Sequence[float] = ()


def span_of_differences(differences: Iterable[float], limits: Iterable[float], margins: Sequence[float]) -> Span:
    """Zero, every margin and every difference, and those limits of intervals that leave room for these.

    The axis is compressed away from zero where differences are many times as large as the margins.
    """
    values = [0.0, *_finite(differences), *(sign * margin for margin in margins for sign in (-1, 1))]
    most = _FAR * max(map(abs, values)) or math.inf
    values += [limit for limit in _finite(limits) if abs(limit) <= most]
    low, high, size = min(values), max(values), max(margins, default=0.0)
    if size <= 0.0 or max(high, -low) <= _WIDE * size:
        pad = 0.04 * (high - low) or 1.0
        return Span(low - pad, high + pad)
    size = max(size, 1e-5 * max(high, -low))
    ticks = [0.0, *(tick for tick in _ROUND if abs(tick) >= size / 2)]
    return Span(1.15 * low, 1.15 * high, "compressed away from zero", "asinh", {"linear_width": size}, ticks)


def span_of_values(found: Iterable[float], measure: Measure) -> Span:
    """Every value; by the logarithm of the error (1 minus the value) or of the value, where they differ much."""
    values = _finite(found) or [0.0, 1.0]
    low, high = min(values), max(values)
    if measure.is_fraction and 0.0 <= low <= high <= 1.0 and 1.0 - low > _SPREAD * max(1.0 - high, _LEAST_ERROR):
        ends = max(1.0 - 1.12 * (1.0 - low), -0.2), 1.0 - max(1.0 - high, _LEAST_ERROR) / 1.12
        note = "by the logarithm of the error, which spreads out the good arms"
        bend: Options = {"functions": (lambda v: -np.log(np.maximum(1 - v, _LEAST_ERROR)), lambda v: 1 - np.exp(-v))}
        return Span(*ends, note, "function", bend, [1.0 - size for size in _ROUND])
    if not measure.is_fraction and low > 0.0 and high > _SPREAD * low:
        return Span(low / 1.15, high * 1.15, "logarithmic", "log", {}, _ROUND)
    pad = 0.06 * (high - low) or max(0.01 * abs(high), 1e-3)
    return Span(low - pad, min(high + pad, max(high, 1.0)) if measure.is_fraction else high + pad)


def _finite(values: Iterable[float]) -> list[float]:
    """The numbers among the values, none larger than matplotlib can draw."""
    return [min(max(value, -_LARGEST), _LARGEST) for value in values if math.isfinite(value)]


def set_scale(  # noqa: PLR0913, PLR0917 - one axis of a chart
    axes: Axes, which: Literal["x", "y"], span: Span, tick_text: Callable[[float], str], name: str, most: int = 0
) -> None:
    """Give one axis its span, and grid lines with numbers, `most` of them (of x 8, of y 6); name it below."""
    axis, most = (axes.xaxis, most or 8) if which == "x" else (axes.yaxis, most or 6)
    (axes.set_xscale if which == "x" else axes.set_yscale)(span.scale, **span.options)
    (axes.set_xlim if which == "x" else axes.set_ylim)(span.low, span.high)
    note = f" (axis {span.note})" if name and span.note else ""
    axes.set_xlabel(f"{short(name, 110 - len(note))}{note}")
    candidates: Sequence[float] = [tick for tick in span.landmarks if span.low <= tick <= span.high]
    if len(candidates) < 3:  # noqa: PLR2004 - fewer say little about a scale
        regular = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(span.low, span.high)
        candidates = [float(tick) for tick in regular if span.low <= tick <= span.high]
    first, last, *places = axis.get_transform().transform(np.array([span.low, span.high, *candidates]))
    ticks: dict[float, float] = {}
    for tick, place in zip(candidates, places, strict=True):
        if all(abs(place - other) >= 0.999 * (last - first) / most for other in ticks.values()):
            ticks[tick] = place
    axis.set_ticks(sorted(ticks), [tick_text(tick) for tick in sorted(ticks)])
    axis.set_minor_locator(NullLocator())
    axis.grid(visible=True)
