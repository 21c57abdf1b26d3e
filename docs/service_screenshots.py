"""Makes the pictures of the sweep service's pages: python docs/service_screenshots.py HOME.

HOME is one that `mnist-ablate serve` recorded sweeps in, one of them to its end. It stays as it is: its databases are
copied.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from browser import Browser, browser  # noqa: E402 - from the tests
from command import wait_for  # noqa: E402
from mlflow_helpers import free_port  # noqa: E402

PROGRAM = Path(sys.executable).with_name("mnist-ablate")
IMAGES = ROOT / "docs" / "images"
WIDE, PHONE = (1200, 820), (390, 820)


def main(home: Path) -> None:
    """Write docs/images/service-*.png: the list and the editor, a sweep in dark, the same on a phone."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "home"
        copy.mkdir()
        for path in home.glob("*.db*"):
            shutil.copy(path, copy)
        with served(copy) as url, browser(Path(folder)) as tab:
            with urllib.request.urlopen(f"{url}/api/v1/sweeps", timeout=30) as reply:
                done = [each["id"] for each in json.load(reply)["sweeps"] if each["state"] == "done"]
            picture(tab, f"{url}/", WIDE, "light", "list")
            picture(tab, f"{url}/new?from=dropout", WIDE, "light", "editor")
            picture(tab, f"{url}/sweeps/{done[0]}", WIDE, "dark", "sweep")
            picture(tab, f"{url}/sweeps/{done[0]}", PHONE, "light", "phone")


def picture(tab: Browser, url: str, size: tuple[int, int], scheme: str, name: str) -> None:
    """One page in a window of that size."""
    tab.size(*size)
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    tab.open(url)
    tab.until("document.readyState === 'complete' && [...document.images].every(each => each.complete)")
    tab.picture(IMAGES / f"service-{name}.png")


@contextmanager
def served(home: Path) -> Iterator[str]:
    """The address of the service, while it serves this home and runs nothing."""
    port = free_port()
    command = [PROGRAM, "serve", "--no-runner", "--no-browser", "--home", home, "--port", str(port), "--log-json"]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/healthz"), 60)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


def answers(url: str) -> bool:
    """Whether the service is there."""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.read())
    except OSError:
        return False


if __name__ == "__main__":
    main(Path(sys.argv[1]))
