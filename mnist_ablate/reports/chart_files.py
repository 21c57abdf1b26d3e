"""Drawn charts as SVG for a page, SVG files and PNG files; colors for light, dark and print. Draws no marks.

Charts are drawn in the colors of LIGHT. In SVG each becomes a CSS variable, to which STYLE gives its values.
"""

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

import matplotlib.style
from matplotlib.figure import Figure
from rich.text import Text

_TEMPLATES = Path(__file__).with_name("templates")
STYLE = (_TEMPLATES / "charts.css").read_text(encoding="utf-8")
"""The style sheet that a page with charts must contain once."""
LIGHT: Mapping[str, str] = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", STYLE.partition("@media")[0]))
"""Colors by name."""
_NAMES = {color: name for name, color in LIGHT.items()}
_COLOR = re.compile(r"(fill|stroke): (#[0-9a-f]{6})")
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_SVG, _HREF = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"


@dataclass(frozen=True)
class Chart:
    """A drawn figure and its words. hovers: by gid of a group of marks, what each shows under a pointer."""

    figure: Figure
    title: str
    description: str
    hovers: dict[str, list[str]] = field(default_factory=dict)


@contextmanager
def drawing(title: str, description: str, height: float) -> Iterator[Chart]:
    """A chart to draw on, 920 pixels wide and `height` high; at the end every part gets its place for good."""
    with _settings():
        chart = Chart(Figure((920 / 72, height / 72)), title, description)
        yield chart
        for artist in chart.figure.findobj():
            artist.set_clip_on(False)
        chart.figure.draw_without_rendering()
        chart.figure.set_layout_engine("none")


def to_svg(chart: Chart, ident: str = "chart") -> str:
    """The chart as an `<svg>` element for a page that contains STYLE; `ident` must be unique in the page."""
    return ET.tostring(_element(chart, ident), encoding="unicode")


def to_svg_file(chart: Chart) -> str:
    """The chart as the text of an SVG file that needs nothing else, light and dark."""
    root = _element(chart, "chart")
    _add(root, 2, "style", f"{STYLE}.chart {{ width: auto; }}")
    return ET.tostring(root, encoding="unicode") + "\n"


def to_png(chart: Chart, path: Path, *, width: int = 1840) -> None:
    """Write the chart in light colors to a PNG file, `width` pixels wide."""
    dpi = (width + 1e-3) / chart.figure.get_figwidth()  # matplotlib cuts off a fraction of a pixel
    with _settings():
        chart.figure.savefig(path, format="png", dpi=dpi, metadata={"Software": None})


def short(text: str, most: int) -> str:
    """Text for a figure: on one line, with an ellipsis for what is wider than so many letters of English."""
    found = Text(_clean(text))
    found.truncate(most, overflow="ellipsis")
    return found.plain


def _clean(text: str) -> str:
    """The text on one line, with a replacement character for what XML does not allow."""
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", " ".join(text.split()))


@contextmanager
def _settings() -> Iterator[None]:
    """The style of charts in place of the user's settings, and no warning of letters that the font lacks."""
    with matplotlib.style.context(_TEMPLATES / "charts.mplstyle", after_reset=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _element(chart: Chart, ident: str) -> ET.Element:
    stream = io.BytesIO()
    with _settings():
        chart.figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
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
                element.set(name, _COLOR.sub(lambda found: f"{found[0]};{found[1]}:var(--{_NAMES[found[2]]})", value))
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


ET.register_namespace("", _SVG[1:-1])
ET.register_namespace("xlink", _HREF[1:].partition("}")[0])
