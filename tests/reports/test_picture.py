"""The plot as a file of its own."""

import re
from xml.etree import ElementTree as ET

import pytest
from judged_sweep import judged
from pages import sweep

from mnist_ablate.errors import SweepError
from mnist_ablate.reports import picture

SVG = "{http://www.w3.org/2000/svg}"


def test_it_is_one_svg_that_needs_nothing_else() -> None:
    text = picture.svg(*judged())
    root = ET.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert root.find(f"{SVG}style") is not None
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) == []
    assert "url(" not in text


def test_it_shows_every_claim_with_its_verdict() -> None:
    document, recorded = judged()
    words = [element.text for element in ET.fromstring(picture.svg(document, recorded)).iter(f"{SVG}text")]
    for claim in document["claims"]:
        assert claim["name"] in words
        assert any(claim["verdict"] in (word or "") for word in words)


def test_without_claims_it_shows_the_arms_and_without_arms_it_says_so() -> None:
    document, recorded = judged(sweep(claims=[]))
    assert "centered_uint8" in picture.svg(document, recorded)
    with pytest.raises(SweepError, match="no trial is recorded yet"):
        picture.svg({**document, "arms": []}, recorded)
