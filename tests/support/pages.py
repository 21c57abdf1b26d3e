"""Pages of made-up sweeps, taken apart again, and reports as a terminal shows them."""

from html.parser import HTMLParser
from typing import Any

from judged_sweep import judged
from rich.console import Console

from mnist_ablate.reports import html, terminal
from mnist_ablate.reports.report import Report
from mnist_ablate.sweep import sweep_file
from mnist_ablate.sweep.claim import Claim
from mnist_ablate.sweep.sweep import Sweep

VOID = {"meta", "link", "br", "col", "input", "img"}


class Reader(HTMLParser):
    """The elements, their attributes and the text; fails on an element that is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data

    def values(self, name: str) -> list[str | None]:
        return [value for _, found, value in self.attributes if found == name]


def sweep(**changes: Any) -> Sweep:
    return sweep_file.load("normalization").model_copy(update=changes)


def read(*given: Any, **options: Any) -> Reader:
    return Reader(html.html(*judged(*given, **options)))


def claim(**changes: Any) -> Claim:
    return sweep().claims[0].model_copy(update=changes)


def shown(report: Report, width: int = 100) -> str:
    """A report as a terminal of that width shows it."""
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(terminal.tables(report))
    return capture.get()
