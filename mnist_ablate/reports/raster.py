"""PNG from the SVG that this package draws: its five shapes and its style sheet in light colors, by matplotlib's Agg.

No renderer of SVG in general. matplotlib comes with MLflow; it takes 0.5 s to import and is imported here alone.
"""

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

_PER_INCH = 96.0  # pixels of SVG
_POINT = 72.0 / _PER_INCH
_BOLD = 600
_SCALE = 2
"""Pixels of the PNG for one of the SVG."""
_MEDIA = re.compile(r"@\w+[^{]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}")
_RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
_SELECTOR = re.compile(r"(?:svg )?(?P<tag>[a-z]+)?(?P<kinds>(?:\.[\w-]+)*)")
_VARIABLE = re.compile(r"var\((--[\w]+)\)")
_STEP = re.compile(r"([MLZml])([^MLZml]*)")

Style = Mapping[str, str]


@dataclass(frozen=True)
class _Rule:
    tag: str
    kinds: frozenset[str]
    style: Style


def png(svg: str) -> bytes:
    """The picture at two pixels for one, on the style sheet's light paper."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    root = ET.fromstring(svg)  # noqa: S314 - this package wrote it
    shapes = [each for each in root if _tag(each) not in {"title", "desc", "style"}]
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    rules = _rules("".join(each.text or "" for each in root if _tag(each) == "style"))
    figure = Figure((width / _PER_INCH, height / _PER_INCH), facecolor=_style("svg", (), rules)["background"])
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(0.0, width), ylim=(height, 0.0), autoscale_on=False)
    axes.set_axis_off()
    for order, shape in enumerate(shapes):
        _draw(axes, shape, _style(_tag(shape), shape.get("class", "").split(), rules), order)
    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that the font lacks becomes a box
        figure.savefig(stream, format="png", dpi=_SCALE * _PER_INCH, metadata={"Software": None})
    return stream.getvalue()


def _tag(shape: ET.Element) -> str:
    return shape.tag.rpartition("}")[2]


def _rules(css: str) -> list[_Rule]:
    """The rules that a lone element can match, in their order, without those of other media; variables filled in."""
    plain = _MEDIA.sub("", css)
    found = [(selector.strip(), _declared(body)) for selector, body in _RULE.findall(plain)]
    variables = next(style for selector, style in found if selector == ":root")

    def filled(value: str) -> str:
        return _VARIABLE.sub(lambda match: variables.get(match[1], ""), value)

    rules = []
    for selectors, declared in found:
        style = {name: filled(value) for name, value in declared.items()}
        for selector in selectors.split(","):
            match = _SELECTOR.fullmatch(selector.strip())
            if match:
                rules.append(_Rule(match["tag"] or "", frozenset(match["kinds"].split(".")[1:]), style))
    return rules


def _declared(body: str) -> dict[str, str]:
    parts = (part.partition(":") for part in body.split(";") if ":" in part)
    return {name.strip(): value.strip() for name, _, value in parts}


def _style(tag: str, kinds: Sequence[str], rules: Sequence[_Rule]) -> dict[str, str]:
    """What the rules say of an element, those with more classes last; the ink is the body's."""
    own = [rule for rule in rules if rule.tag in {"", tag, "body"} and rule.kinds <= {*kinds}]
    style: dict[str, str] = {}
    for rule in sorted(own, key=lambda rule: (len(rule.kinds), rule.tag == tag)):
        if rule.tag != "body" or tag == "svg":
            style |= rule.style
        elif "color" in rule.style:
            style["color"] = rule.style["color"]
    return style


def _draw(axes: Any, shape: ET.Element, style: Style, order: int) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    if _tag(shape) == "text":
        _write(axes, shape, style, order)
        return
    if _tag(shape) == "circle":
        center, radius = (float(shape.attrib["cx"]), float(shape.attrib["cy"])), float(shape.attrib["r"])
        path = Path.circle(center, radius)
    else:
        path = Path(*_path(shape))
    width = float(style.get("stroke-width", "1"))
    dashes = tuple(float(part) / width for part in style.get("stroke-dasharray", "").split())
    axes.add_patch(
        PathPatch(
            path,
            facecolor=_color(style.get("fill", "#000000"), style, style.get("fill-opacity", "1")),
            edgecolor=_color(style.get("stroke", "none"), style, "1"),
            linewidth=_POINT * width,
            linestyle=(0.0, dashes) if dashes else "solid",
            capstyle="butt",
            zorder=order,
        )
    )


def _write(axes: Any, shape: ET.Element, style: Style, order: int) -> None:
    axes.text(
        float(shape.attrib["x"]),
        float(shape.attrib["y"]),
        shape.text or "",
        fontsize=_POINT * float(style.get("font-size", "12.5px").removesuffix("px")),
        fontweight="bold" if int(style.get("font-weight", "400")) >= _BOLD else "normal",
        fontfamily="DejaVu Sans",
        color=_color(style["fill"], style, "1"),
        horizontalalignment={"middle": "center", "end": "right"}.get(shape.get("text-anchor", ""), "left"),
        verticalalignment="baseline",
        parse_math=False,
        zorder=order,
    )


def _color(value: str, style: Style, opacity: str) -> tuple[str, float] | str:
    if value == "none":
        return value
    return style["color"] if value == "currentColor" else value, float(opacity)


def _path(shape: ET.Element) -> tuple[list[tuple[float, float]], list[int]]:
    """The corners of a line, rect or path, and matplotlib's codes: 1 move, 2 line, 79 close."""
    at = {name: float(value) for name, value in shape.attrib.items() if name in _NUMBERS}
    if _tag(shape) == "line":
        return [(at["x1"], at["y1"]), (at["x2"], at["y2"])], [1, 2]
    if _tag(shape) == "rect":
        left, top = at["x"], at["y"]
        right, bottom = left + at["width"], top + at["height"]
        return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], [1, 2, 2, 2, 79]
    steps = list(_steps(shape.attrib["d"]))
    return [point for point, _ in steps], [code for _, code in steps]


_NUMBERS = {"x", "y", "x1", "y1", "x2", "y2", "width", "height"}


def _steps(d: str) -> Iterator[tuple[tuple[float, float], int]]:
    x = y = 0.0
    for letter, numbers in _STEP.findall(d):
        if letter == "Z":
            yield (x, y), 79
            continue
        dx, dy = map(float, numbers.split())
        x, y = (x + dx, y + dy) if letter in "ml" else (dx, dy)
        yield (x, y), 1 if letter in "Mm" else 2
