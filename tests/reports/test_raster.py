"""The PNG is the SVG: the same marks in the same places and colors."""

import io
import re
import warnings

import numpy as np
import numpy.typing as npt
import pytest
from judged_sweep import judged
from PIL import Image

from mnist_ablate.reports import picture, raster

GREEN, RED, BAND = (17, 99, 41), (180, 35, 24), (232, 236, 241)
HEAD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 50"><style>'
STYLE = (
    ":root { --paper: #ffffff; --ink: #000000; --green: #116329; } svg { background: var(--paper); }"
    " @media (x) { :root { --green: #000000; } .a { fill: none } } body { color: var(--ink); }"
    " .a { fill: var(--green); } svg .a.b { fill: currentColor; color: #b42318; } svg text { fill: var(--ink); }"
)


def pixels(svg: str) -> npt.NDArray[np.uint8]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(raster.png(svg)))
    return np.asarray(image.convert("RGB"))


def drawn(shapes: str) -> npt.NDArray[np.uint8]:
    return pixels(f"{HEAD}{STYLE}</style>{shapes}</svg>")


def test_a_shape_stands_where_it_is_in_the_svg_at_two_pixels_for_one() -> None:
    found = drawn('<rect x="10" y="20" width="30" height="10" class="a"/>')
    assert found.shape == (100, 200, 3)
    rows, columns = np.where((found == GREEN).all(axis=2))
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (40, 60, 20, 80)


@pytest.mark.parametrize(
    ("shape", "color"),
    [
        ('<circle cx="50" cy="25" r="5" class="a"/>', GREEN),
        ('<path d="M40 20L60 20L60 30L40 30Z" class="a b"/>', RED),
        ('<path d="M40 20l20 0l0 10l-20 0Z" class="b a"/>', RED),
    ],
)
def test_more_classes_win_and_other_media_do_not_count(shape: str, color: tuple[int, int, int]) -> None:
    assert tuple(drawn(shape)[50, 100]) == color


def test_text_is_written_on_its_side_of_the_place() -> None:
    for anchor, side in (("", slice(100, 200)), (' text-anchor="end"', slice(0, 100))):
        found = drawn(f'<text x="50" y="30"{anchor}>$a_b$ \N{CHECK MARK}</text>') < 128
        assert found.any()
        assert found[:, side].sum() == found.sum()


def test_the_picture_of_the_verdicts_has_its_marks_and_nothing_of_the_day() -> None:
    document, recorded = judged()
    svg = picture.svg(document, recorded)
    found = pixels(svg)
    width, height = map(float, re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0])
    assert found.shape == (2 * height, 2 * width, 3)
    assert tuple(found[0, 0]) == (255, 255, 255)
    verdicts = {claim["verdict"] for claim in document["claims"]}
    for verdict, color in (("supported", GREEN), ("refuted", RED)):
        assert (found == color).all(axis=2).any() == (verdict in verdicts)
    assert (found == BAND).all(axis=2).sum() > 1000
    assert raster.png(svg) == raster.png(svg)
