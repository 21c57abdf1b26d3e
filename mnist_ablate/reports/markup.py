"""HTML and SVG elements as escaped text; knows no report. Text is escaped unless it is Markup already."""

import html
from collections.abc import Iterable

_VOID = frozenset({"br", "col", "link", "meta"})
_SHAPES = frozenset({"circle", "line", "path", "polygon", "polyline", "rect"})


class Markup(str):
    """Text that is HTML or SVG already, made here and nowhere else."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: str | float | None) -> Markup:
    """`<name …>children</name>`; `class_` is `class`, `stroke_width` is `stroke-width`, None leaves one out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    if name in _SHAPES and not children:
        return Markup(f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{join(children)}</{name}>")


def join(parts: Iterable[str]) -> Markup:
    """The parts one after the other, escaped where they are plain text."""
    return Markup("".join(part if isinstance(part, Markup) else html.escape(part) for part in parts))


def table(head: Iterable[str], rows: Iterable[Iterable[str]], *, numbers_from: int, caption: str = "") -> Markup:
    """An HTML table; the cells from column `numbers_from` on are right-aligned, the first is the row's head."""
    heads = [element("th", cell, scope="col", class_=_side(i, numbers_from)) for i, cell in enumerate(head)]
    body = [element("tr", *_cells(row, numbers_from)) for row in rows]
    parts = [element("caption", caption)] if caption else []
    content = element("table", *parts, element("thead", element("tr", *heads)), element("tbody", *body))
    return element("div", content, class_="scroll", tabindex="0", role="region", aria_label=caption or "table")


def _cells(row: Iterable[str], numbers_from: int) -> Iterable[Markup]:
    for i, cell in enumerate(row):
        if i == 0:
            yield element("th", cell, scope="row")
        else:
            yield element("td", cell, class_=_side(i, numbers_from))


def _side(i: int, numbers_from: int) -> str | None:
    return "number" if i >= numbers_from else None


def _value(value: str | float) -> str:
    """Numbers to a tenth, which is enough for pixels."""
    return html.escape(value) if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
