"""Opens a file in headless Chromium and tells what it wrote on its console and whom it asked for what."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

FOUND = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--dump-dom",
]
_ITS_OWN = "not an origin"
"""Chromium's mark on what it asks for by itself, updates and the like, and no page does."""


@dataclass(frozen=True)
class Visit:
    """The document after loading, the console's lines, the addresses that the page asked for."""

    dom: str
    console: list[str]
    requests: list[str]


def visit(page: Path, folder: Path) -> Visit:
    """Opens `page`; `folder` takes Chromium's profile and log."""
    assert FOUND
    log = folder / "net.json"
    options = [*_OPTIONS, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}"]
    done = subprocess.run(
        [FOUND, *options, page.absolute().as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    events = (event.get("params", {}) for event in json.loads(log.read_text())["events"])
    asked = [event["url"] for event in events if event.get("initiator", _ITS_OWN) != _ITS_OWN and "url" in event]
    return Visit(done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line], asked)
