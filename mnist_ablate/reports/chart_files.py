"""Drawn charts as SVG for a page, SVG files and PNG files; colors for light, dark and print. Draws nothing itself.

Charts are drawn in the colors of LIGHT. In SVG each becomes a CSS variable, to which STYLE gives its values.
"""

import io
import re
import unicodedata
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import matplotlib as mpl
from matplotlib.figure import Figure

LIGHT: Mapping[str, str] = {
    "paper": "#ffffff", "ink": "#1b1f24", "muted": "#57606a", "grid": "#e4e8ec", "band": "#e8ecf1", "dot": "#5b7a99",
    "supported": "#116329", "refuted": "#b42318", "equivalent": "#0b57a4", "inconclusive": "#7a4d00",
    "s0": "#0a56a3", "s1": "#c2410c", "s2": "#11735b", "s3": "#8a3ffc", "s4": "#9a6700", "s5": "#555e68",
}  # fmt: skip
"""Colors by name, no two equal. Those of text have a contrast of at least 4.5 to paper, as in DARK."""
DARK: Mapping[str, str] = {
    "paper": "#0f1318", "ink": "#e6eaef", "muted": "#a0abb7", "grid": "#232b34", "band": "#222b36", "dot": "#7f9cb8",
    "supported": "#57d17e", "refuted": "#ff8a7d", "equivalent": "#78b4ff", "inconclusive": "#e3b341",
    "s0": "#78b4ff", "s1": "#ff9d5c", "s2": "#4fd1ae", "s3": "#c9a4ff", "s4": "#e3b341", "s5": "#a0abb7",
}  # fmt: skip
_FONT = "system-ui,'Segoe UI',Roboto,'Helvetica Neue','DejaVu Sans',sans-serif"


def _variables(palette: Mapping[str, str]) -> str:
    return ":root{" + "".join(f"--{name}:{color};" for name, color in palette.items()) + "}"


STYLE = (
    f":root{{color-scheme:light dark}}{_variables(LIGHT)}\n"
    f"@media (prefers-color-scheme:dark){{{_variables(DARK)}}}\n"
    f"@media print{{:root{{color-scheme:light}}{_variables(LIGHT)}.chart{{print-color-adjust:exact}}}}\n"
    f".chart{{display:block;width:100%;height:auto;font-family:{_FONT};font-variant-numeric:tabular-nums;"
    "stroke-linejoin:round}\n"
    ".chart .mark{cursor:help}.chart .mark:hover{filter:drop-shadow(0 0 1.5px var(--ink))}\n"
)
"""The style sheet that a page with charts must contain once."""

_SVG, _LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_COLOR = re.compile(r"(fill|stroke): (#[0-9a-f]{6})")
_FAMILY = re.compile(r" ?font-family: [^;]*;?")
_LONG = re.compile(r"-?\d+\.\d{3,}")
_REFERENCE = re.compile(r"#([\w-]+)")


@dataclass(frozen=True)
class Chart:
    """A drawn figure and its words: a title, a description for those who do not see it, and what marks say.

    hovers: for each group of marks, by its gid in the figure, what each mark shows under a pointer.
    """

    figure: Figure
    title: str
    description: str
    hovers: dict[str, list[str]]


def to_svg(chart: Chart, ident: str = "chart") -> str:
    """The chart as an `<svg>` element for a page that contains STYLE; `ident` must be unique in the page."""
    return ET.tostring(_element(chart, ident), encoding="unicode")


def to_svg_file(chart: Chart) -> str:
    """The chart as the text of an SVG file that needs nothing else, light and dark."""
    root = _element(chart, "chart")
    style = ET.Element(f"{{{_SVG}}}style")
    style.text = f"{STYLE}.chart{{width:auto}}"
    root.insert(2, style)
    return ET.tostring(root, encoding="unicode") + "\n"


def to_png(chart: Chart, path: Path, *, width: int = 1840) -> None:
    """Write the chart in light colors to a PNG file, `width` pixels wide."""
    with plain_settings():
        # The small addition is for matplotlib, which cuts off what is left of the last pixel.
        chart.figure.savefig(
            path, format="png", dpi=(width + 1e-3) / chart.figure.get_figwidth(), metadata={"Software": None}
        )


@contextmanager
def plain_settings() -> Iterator[None]:
    """matplotlib's own settings in place of the user's, and no warning of letters that its font lacks."""
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "mnist-ablate"})
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def clean(text: str) -> str:
    """The text on one line, with a question mark for what XML does not allow."""
    return "".join(
        " " if letter in "\t\n\r" else "\N{REPLACEMENT CHARACTER}" if _is_forbidden(letter) else letter
        for letter in text
    )


def _is_forbidden(letter: str) -> bool:
    return unicodedata.category(letter) in {"Cc", "Cs"} or letter in "\ufffe\uffff"


def _element(chart: Chart, ident: str) -> ET.Element:
    stream = io.BytesIO()
    with plain_settings():
        chart.figure.savefig(stream, format="svg", metadata={"Date": None})
    root = ET.fromstring(stream.getvalue())  # noqa: S314 - matplotlib wrote it just now
    for unused in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}defs"):  # the second holds a style for the whole page, and clips
        for child in root.findall(unused):
            root.remove(child)
    for element in root.iter():
        _restyle(element)
    for gid, texts in chart.hovers.items():
        _add_titles(root, gid, texts)
    _rename(root, ident)
    _describe(root, chart, ident)
    return root


def _restyle(element: ET.Element) -> None:
    """CSS variables for colors, the page's font for the figure's, two decimals for six, no clipping."""
    element.attrib.pop("clip-path", None)
    element.tail = None
    if not (element.text or "").strip():
        element.text = None
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    if "style" in element.attrib:
        style = _FAMILY.sub("", element.attrib["style"])
        element.set("style", _COLOR.sub(_variable, style).replace("; ", ";"))
    for name in ("d", "x", "y"):
        if name in element.attrib:
            short = _LONG.sub(lambda number: f"{float(number[0]):.2f}", element.attrib[name])
            element.set(name, " ".join(short.split()))


def _variable(found: re.Match[str]) -> str:
    """A color and then its variable: programs that know no variables keep the color."""
    name = _NAMES.get(found[2])
    return found[0] if name is None else f"{found[0]};{found[1]}:var(--{name})"


_NAMES = {color: name for name, color in LIGHT.items()}


def _add_titles(root: ET.Element, gid: str, texts: list[str]) -> None:
    group = root.find(f".//{{{_SVG}}}g[@id='{gid}']")
    assert group is not None
    marks = group.findall(f".//{{{_SVG}}}use") or [group]  # a line has no marks
    for mark, text in zip(marks, texts, strict=True):
        title = ET.Element(f"{{{_SVG}}}title")
        title.text = clean(text)
        mark.insert(0, title)
        mark.set("class", "mark")


def _rename(root: ET.Element, ident: str) -> None:
    """Ids that are unique in a page that has unique idents; those that nothing refers to go."""
    used = {reference for element in root.iter() for reference in _REFERENCE.findall(element.get(_HREF, ""))}
    for element in root.iter():
        if element.get("id") in used:
            element.set("id", f"{ident}-{element.get('id')}")
        else:
            element.attrib.pop("id", None)
        if _HREF in element.attrib:
            element.set(_HREF, f"#{ident}-{element.attrib[_HREF][1:]}")


_HREF = f"{{{_LINK}}}href"


def _describe(root: ET.Element, chart: Chart, ident: str) -> None:
    for i, (name, text) in enumerate((("title", chart.title), ("desc", chart.description))):
        words = ET.Element(f"{{{_SVG}}}{name}", {"id": f"{ident}-{name}"})
        words.text = clean(text)
        root.insert(i, words)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    labels = {"aria-labelledby": f"{ident}-title", "aria-describedby": f"{ident}-desc"}
    root.attrib.update({"class": "chart", "role": "img", **labels})


ET.register_namespace("", _SVG)
ET.register_namespace("xlink", _LINK)
