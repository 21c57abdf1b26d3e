"""Headless Chromium: opens a file and tells what it asked for, or is led over a pipe and waits for what pages show."""

import base64
import json
import os
import select
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOUND = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_LED = (
    *_OPTIONS,
    "--hide-scrollbars",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
    "--disable-features=IsolateSandboxedFrames",  # else a framed page is another target
    "--disable-site-isolation-trials",
    "--remote-debugging-pipe",
)
_TEXT = "document.body?.innerText ?? ''"
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
    command = [FOUND, *_OPTIONS, "--enable-logging=stderr", "--dump-dom", f"--user-data-dir={folder / 'profile'}"]
    command += [f"--log-net-log={log}", page.absolute().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    events = (event.get("params", {}) for event in json.loads(log.read_text())["events"])
    asked = [event["url"] for event in events if event.get("initiator", _ITS_OWN) != _ITS_OWN and "url" in event]
    return Visit(done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line], asked)


class RefusedError(Exception):
    """Chromium does not do what it was told, such as to look into a frame that has gone."""


class Browser:
    """One tab. JavaScript given as text is evaluated in it."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back, self._rest, self._id = to, back, b"", 0
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of Chromium's debugging protocol, and its answer."""
        self._id += 1
        session = {"sessionId": self._session} if self._session else {}
        os.write(self._to, json.dumps({"id": self._id, "method": method, "params": params, **session}).encode() + b"\0")
        while True:
            message = self._message()
            if message.get("id") == self._id:
                if "error" in message:
                    raise RefusedError(message)
                return message["result"]

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._back], [], [], 90)[0], "Chromium does not answer"
            block = os.read(self._back, 1 << 20)
            assert block, "Chromium ended"
            self._rest += block
        text, _, self._rest = self._rest.partition(b"\0")
        return json.loads(text)

    def size(self, width: int, height: int) -> None:
        """The window, in pixels; light colors."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        light = [{"name": "prefers-color-scheme", "value": "light"}]
        self.call("Emulation.setEmulatedMedia", features=light)

    def open(self, url: str) -> None:
        """Go to a page, from another: an address that differs after # alone would not be loaded again."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url)

    def value(self, script: str, **where: Any) -> Any:
        """What an expression comes to."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, **where)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def text(self) -> str:
        """Everything that the page shows, without what is framed."""
        return str(self.value(_TEXT))

    def framed(self, text: str, timeout_s: float = 60.0) -> str:
        """Waits until a framed page shows a text, and returns all that it shows, even of a page in a sandbox."""

        def look() -> str:
            frames = self.call("Page.getFrameTree")["frameTree"].get("childFrames", [])
            try:
                worlds = [self.call("Page.createIsolatedWorld", frameId=each["frame"]["id"]) for each in frames]
                found = "\n".join(str(self.value(_TEXT, contextId=world["executionContextId"])) for world in worlds)
            except RefusedError:  # a frame that began to load anew
                return ""
            return found if text in found else ""

        return str(self._wait(look, f"framed: {text}", timeout_s))

    def until(self, script: str, timeout_s: float = 60.0) -> Any:
        """Waits until an expression is true, and returns what it came to."""
        return self._wait(lambda: self.value(script), script, timeout_s)

    def shows(self, text: str, timeout_s: float = 60.0) -> None:
        """Waits until the page shows a text."""
        self._wait(lambda: text in self.text(), f"shown: {text}", timeout_s)

    def _wait(self, look: Callable[[], Any], what: str, timeout_s: float) -> Any:
        end = time.monotonic() + timeout_s
        while not (found := look()):
            assert time.monotonic() < end, f"never {what}; the page shows: {self.text()[:2000]}"
            time.sleep(0.2)
        return found

    def click(self, script: str) -> None:
        """Clicks the element that an expression finds, once it is there."""
        self.until(f"(e => e ? (e.click(), true) : false)({script})")

    def picture(self, path: Path, *, top: int = 0, height: int | None = None) -> None:
        """A PNG of the window, or of a part of it: from `top`, so high."""
        clip = {}
        if height:
            width = self.value("innerWidth")
            clip = {"clip": {"x": 0, "y": top, "width": width, "height": height, "scale": 1}}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png", **clip)["data"]))


@contextmanager
def browser(folder: Path, width: int = 1400, height: int = 900) -> Iterator[Browser]:
    """A Chromium with its profile in `folder`; it ends with the block."""
    assert FOUND
    read_commands, commands = os.pipe()
    answers, write_answers = os.pipe()
    words = [FOUND, *_LED, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{height}"]
    redirected = f"exec {shlex.join(words)} 3<&{read_commands} 4>&{write_answers}"
    null = subprocess.DEVNULL
    process = subprocess.Popen(
        ["bash", "-c", redirected], pass_fds=(read_commands, write_answers), stdin=null, stdout=null, stderr=null
    )
    os.close(read_commands)
    os.close(write_answers)
    try:
        made = Browser(commands, answers)
        made.size(width, height)
        yield made
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()
        os.close(commands)
        os.close(answers)
        shutil.rmtree(folder / "profile", ignore_errors=True)
