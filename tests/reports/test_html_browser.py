"""The page in Chromium: every section is there to be read, in light, in dark and on paper, and nothing is asked for."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import browser as chromium
import pytest
from browser import Browser, browser
from judged_sweep import judged

from mnist_ablate.reports import html
from mnist_ablate.sweep.plan import make_plan, planned_settings
from mnist_ablate.workloads.keras_mnist.data import MNIST, load
from mnist_ablate.workloads.keras_mnist.workload import KERAS_MNIST

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not chromium.FOUND, reason="Chromium is not installed"),
]

SECTIONS = [
    *("Verdicts", "Data gate", "Differences and margins", "Every arm", "Effects", "Two factors together"),
    *("Learning curves", "Dead units", "What the network sees", "Inside the network", "What went wrong", "Caveats"),
    *("Run it again", "Provenance"),
]
MOST_BYTES = 2_000_000
PAPER_WIDTH = 688
"""Pixels of an A4 page between its margins."""
SEEN = """
[...document.querySelectorAll('section')].map(section => {
  const box = section.getBoundingClientRect(), style = getComputedStyle(section.querySelector('h2'));
  const shown = [...section.querySelectorAll('svg, table, pre, p, li, dl')].filter(each => each.checkVisibility());
  return {title: section.querySelector('h2').innerText, height: box.height, color: style.color,
          inside: shown.filter(each => each.getBoundingClientRect().height > 8).length};
})
"""
WIDER = """
[...document.querySelectorAll('svg text')].filter(text => {
  const box = text.getBoundingClientRect(), frame = text.closest('svg').getBoundingClientRect();
  return box.left < frame.left - 1 || box.right > frame.right + 1;
}).map(text => text.textContent)
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the shipped sweep with its real fingerprints: 12 arms with 10 seeds, some of them in trouble."""
    found, record = judged()
    prints = tuple(KERAS_MNIST.fingerprints(load(MNIST), planned_settings(make_plan(record.sweep, "digest"))))
    path = tmp_path_factory.mktemp("page") / "report.html"
    return html.write(found.model_copy(update={"fingerprints": prints}), record, path)


@pytest.fixture(scope="module")
def tab(report: Path) -> Iterator[Browser]:
    with browser(report.parent, 1000, 1000) as made:
        yield made


def opened(tab: Browser, report: Path, **media: object) -> None:
    tab.call("Emulation.setEmulatedMedia", **media)
    tab.open(report.as_uri())
    tab.until("document.readyState === 'complete' && document.querySelector('#provenance') !== null")


def test_the_file_is_small_and_asks_nobody_for_anything(report: Path, tmp_path: Path) -> None:
    assert report.stat().st_size < MOST_BYTES
    seen = chromium.visit(report, tmp_path)
    assert "Do centered inputs hurt relu" in seen.dom
    assert (seen.console, seen.requests) == ([], [])


def test_chromium_would_have_seen_an_error_and_a_request(tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    path.write_text('<img src="http://192.0.2.1/x.png"><script>missing()</script>', encoding="utf-8")
    seen = chromium.visit(path, tmp_path)
    assert "missing is not defined" in seen.console[0]
    assert seen.requests == ["http://192.0.2.1/x.png"]


@pytest.mark.parametrize("media", ["light", "dark", "print"])
def test_every_section_can_be_seen(tab: Browser, report: Path, media: str) -> None:
    scheme = "dark" if media == "dark" else "light"
    width = PAPER_WIDTH if media == "print" else 1000
    tab.call("Emulation.setDeviceMetricsOverride", width=width, height=1000, deviceScaleFactor=1, mobile=False)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    opened(tab, report, media="print" if media == "print" else "screen", features=features)
    found = tab.value(SEEN)
    assert [each["title"] for each in found] == SECTIONS
    ink, paper = (
        ("rgb(230, 234, 239)", "rgb(15, 19, 24)") if media == "dark" else ("rgb(27, 31, 36)", "rgb(255, 255, 255)")
    )
    assert tab.value("getComputedStyle(document.body).backgroundColor") == paper
    for each in found:
        assert each["color"] == ink, each
        assert each["height"] > 60, each
        assert each["inside"] > 0, each
    assert tab.value(WIDER) == []
    assert tab.value("document.documentElement.scrollWidth <= innerWidth")
    assert tab.value("performance.getEntriesByType('resource').length") == 0


def test_it_prints_on_a_few_pages_with_every_heading(tab: Browser, report: Path) -> None:
    opened(tab, report, media="")
    made = tab.call("Page.printToPDF", printBackground=True, generateTaggedPDF=True, generateDocumentOutline=True)
    content = base64.b64decode(made["data"])
    assert content.startswith(b"%PDF-")
    assert 5 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 12
    headings = set(re.findall(rb"/Title \(([^)]*)\)", content))
    assert {title.encode() for title in SECTIONS} <= headings


def test_pictures_have_something_in_them(tab: Browser, report: Path) -> None:
    opened(tab, report, media="")
    marks = "[...document.querySelectorAll('#{} svg .mark')].filter(e => e.getBoundingClientRect().width > 0).length"
    least = {"differences": 57, "arms": 112, "interaction": 12, "curves": 12, "dead": 12}
    for section, n in least.items():
        assert tab.value(marks.format(section)) >= n, section
