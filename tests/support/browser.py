"""Headless Chromium under control: opens pages, waits for what they show, takes pictures; over a pipe, no port."""

import base64
import json
import os
import select
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chromium import FOUND

_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
    "--disable-features=IsolateSandboxedFrames",  # else a framed page is another target
    "--disable-site-isolation-trials",
    "--remote-debugging-pipe",
)


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
                assert "error" not in message, message
                found: dict[str, Any] = message["result"]
                return found

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._back], [], [], 90)[0], "Chromium does not answer"
            block = os.read(self._back, 1 << 20)
            assert block, "Chromium ended"
            self._rest += block
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def size(self, width: int, height: int) -> None:
        """The window, in pixels; light colors."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        light = [{"name": "prefers-color-scheme", "value": "light"}]
        self.call("Emulation.setEmulatedMedia", features=light)

    def open(self, url: str) -> None:
        """Go to a page, from another: an address that differs after # alone would not be loaded again."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url)

    def value(self, script: str) -> Any:
        """What an expression comes to."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def text(self) -> str:
        """Everything that the page shows, without what is framed."""
        return str(self.value("document.body?.innerText ?? ''"))

    def framed(self, text: str, timeout_s: float = 60.0) -> str:
        """Waits until a framed page shows a text, and returns all that it shows, even of a page in a sandbox."""
        end = time.monotonic() + timeout_s
        while text not in (found := self._framed()):
            assert time.monotonic() < end, f"never framed: {text}; the page shows: {self.text()[:2000]}"
            time.sleep(0.2)
        return found

    def _framed(self) -> str:
        frames = self.call("Page.getFrameTree")["frameTree"].get("childFrames", [])
        worlds = [self.call("Page.createIsolatedWorld", frameId=each["frame"]["id"]) for each in frames]
        script = "document.body?.innerText ?? ''"
        found = [
            self.call("Runtime.evaluate", expression=script, contextId=world["executionContextId"], returnByValue=True)
            for world in worlds
        ]
        return "\n".join(str(each["result"].get("value", "")) for each in found)

    def until(self, script: str, timeout_s: float = 60.0) -> Any:
        """Waits until an expression is true, and returns what it came to."""
        end = time.monotonic() + timeout_s
        while not (found := self.value(script)):
            assert time.monotonic() < end, f"never: {script}; the page shows: {self.text()[:2000]}"
            time.sleep(0.2)
        return found

    def shows(self, text: str, timeout_s: float = 60.0) -> None:
        """Waits until the page shows a text."""
        end = time.monotonic() + timeout_s
        while text not in self.text():
            assert time.monotonic() < end, f"never shown: {text}; the page shows: {self.text()[:2000]}"
            time.sleep(0.2)

    def rest(self, seconds: float = 2.0) -> None:
        """Lets charts and transitions settle, before a picture."""
        time.sleep(seconds)

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
    words = [FOUND, *_OPTIONS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{height}"]
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
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(commands)
        os.close(answers)
        shutil.rmtree(folder / "profile", ignore_errors=True)
