"""The style sheet of the page is readable in light, in dark and on paper, and asks for nothing."""

import re
from collections.abc import Iterator
from pathlib import Path

from mnist_ablate.reports import html

CSS = Path(html.__file__).with_name("page.css").read_text(encoding="utf-8")


def _luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _palettes() -> Iterator[dict[str, str]]:
    for block in re.findall(r":root \{(.*?)\n\s*\}", CSS, re.DOTALL):
        yield dict(re.findall(r"--([\w]+): (#[0-9a-f]{6})", block))


def test_every_text_color_has_enough_contrast_in_light_dark_and_print() -> None:
    palettes = list(_palettes())
    assert len(palettes) == 3
    texts = [
        "ink",
        "muted",
        "accent",
        "supported",
        "refuted",
        "equivalent",
        "inconclusive",
        *(f"s{i}" for i in range(6)),
    ]
    for palette in palettes:
        for name in texts:
            for ground in ("paper", "panel"):
                light, dark = sorted((_luminance(palette[name]), _luminance(palette[ground])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, ground, palette)


def test_the_style_sheet_loads_nothing() -> None:
    assert "@import" not in CSS
    assert "url(" not in CSS
