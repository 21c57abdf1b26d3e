"""Makes the pictures of the documentation from a recorded sweep: python docs/screenshots.py HOME [NAME].

HOME is left as it is: its ledger is copied, and MLflow filled from the copy. Look at the pictures before keeping them.
"""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from mnist_ablate.execution import recorded_report
from mnist_ablate.reports.terminal import tables as report_tables
from mnist_ablate.settings import Settings

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from browser import Browser, browser  # noqa: E402 - from the tests
from mlflow_helpers import free_port  # noqa: E402

PROGRAM = Path(sys.executable).with_name("mnist-ablate")
IMAGES = ROOT / "docs" / "images"
LARGEST = 300_000
SETTLE_S = 2.0
"""Charts and transitions settle, before a picture."""
LAST_SCREEN = 545
"""What a terminal still shows of a report, in pixels."""
TERMINAL = "body{background:#101418;color:#e6e6e6;margin:24px}pre{font-family:'DejaVu Sans Mono',monospace!important}"
CLOSE = "document.querySelector('[data-component-id=\"mlflow.assistant.chat_panel.close\"], button[aria-label=Close]')"
PLOTS = "document.querySelectorAll('.js-plotly-plot .main-svg').length"
NO_MOUSE = "document.head.insertAdjacentHTML('beforeend', '<style>.modebar-container{display:none}</style>')"
"""The charts' toolbars, which show up under a mouse; without any, they always do."""
MORE = "[...document.querySelectorAll('button, a, span')].find(each => each.innerText === 'Show more')"


def main(home: Path, name: str) -> None:
    """Write docs/images/*.png."""
    IMAGES.mkdir(exist_ok=True)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "home"
        copy.mkdir()
        shutil.copy(home / "ledger.db", copy)
        os.environ["MNIST_ABLATE_HOME"] = str(copy)
        subprocess.run([PROGRAM, "sync", name], check=True)
        subprocess.run([PROGRAM, "report", name, "--format", "html", "--output", copy / "report.html"], check=True)
        (copy / "terminal.html").write_text(terminal(name, Settings(home=copy)), encoding="utf-8")
        with page() as link, browser(Path(folder), 1280, 800) as tab:
            pictures(tab, copy, link)
    for path in sorted(IMAGES.glob("*.png")):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")
        assert path.stat().st_size < LARGEST, f"{path} is too large"


def pictures(tab: Browser, home: Path, link: str) -> None:
    """Runs with charts, the parent's note, the report, the terminal."""
    tab.open(link)
    tab.click(CLOSE)
    tab.until(PLOTS)
    tab.value(NO_MOUSE)
    time.sleep(SETTLE_S)
    tab.picture(IMAGES / "runs.png")
    tab.open(parent(link))
    tab.click(MORE)
    tab.until("!!document.querySelector('td')")
    time.sleep(SETTLE_S)
    tab.picture(IMAGES / "verdicts.png")
    tab.size(1000, 1000)
    tab.open((home / "report.html").as_uri())
    tab.shows("Verdicts")
    tab.picture(IMAGES / "report.png")
    tab.open((home / "terminal.html").as_uri())
    tab.shows("mnist-ablate report")
    bottom = int(tab.value("document.querySelector('pre').getBoundingClientRect().bottom"))
    tab.size(1280, bottom + 24)
    tab.picture(IMAGES / "terminal.png", top=max(0, bottom - LAST_SCREEN), height=LAST_SCREEN + 24)


def parent(link: str) -> str:
    """The address of the run that stands for the sweep."""
    host, _, rest = link.partition("/#/experiments/")
    experiment = rest.partition("/")[0]
    content = json.dumps({"experiment_ids": [experiment], "filter": "tags.kind = 'sweep'"}).encode()
    request = urllib.request.Request(
        f"{host}/api/2.0/mlflow/runs/search", content, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        run = json.load(reply)["runs"][0]["info"]["run_id"]
    return f"{host}/#/experiments/{experiment}/runs/{run}?workflowType=machine_learning"


def terminal(name: str, settings: Settings) -> str:
    """What `report` prints, as a page."""
    found, _ = recorded_report.report(name, settings)
    console = Console(record=True, width=130, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(f"$ mnist-ablate report {name}\n")
    console.print(report_tables(found))
    made = console.export_html(theme=MONOKAI, inline_styles=True)
    return made.replace("</head>", f"<style>{TERMINAL}</style></head>")


@contextmanager
def page() -> Iterator[str]:
    """The link that `mnist-ablate ui` prints, while it serves."""
    command = [PROGRAM, "ui", "--no-open", "--port", str(free_port())]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        yield server.stdout.readline().strip().partition(": ")[2]
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(20)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "normalization")  # noqa: PLR2004
