"""Chromium without a window, spoken to over a pipe by its DevTools protocol."""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Browser", "BrowserError", "Page", "chromium", "open_browser"]

_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
    "--window-size=1280,900",
)
_AS_3_AND_4 = """
import os, sys
_, heard, said, *command = sys.argv
os.dup2(int(heard), 3)
os.dup2(int(said), 4)
os.execv(command[0], command)
"""
"""Program that becomes Chromium, which reads from file descriptor 3 and writes to 4."""
_BEYOND = 10
"""File descriptors from here on are neither of these two."""


def chromium() -> str | None:
    """Return the program; None: there is none here."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class BrowserError(Exception):
    """Chromium cannot do what it is asked for."""


class Browser:
    """A running Chromium."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._numbers = itertools.count(1)
        self._unread = b""
        self.events: list[dict[str, Any]] = []
        """What it has said without being asked."""

    def ask(self, method: str, session: str | None = None, **params: Any) -> Any:
        """Call a method of the protocol, and return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            read = os.read(self._from, 1 << 20)
            if not read:
                raise ConnectionError("Chromium has ended")
            self._unread += read
        text, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    @contextmanager
    def page(self, file: Path, dark: bool = False) -> Iterator[Page]:
        """Open a file, and wait until it has shown all that it shows by itself."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Runtime", "Log", "Page", "Network"):
            self.ask(f"{domain}.enable", session)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", session, features=[scheme])
        self.ask("Page.navigate", session, url=file.resolve().as_uri())
        while not page.has_shown():
            time.sleep(0.05)
        yield page
        self.ask("Target.closeTarget", targetId=target)


class Page:
    """A page that is open in the browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression, or what its promise gives."""
        result = self._browser.ask(
            "Runtime.evaluate", self._session, expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def has_shown(self) -> bool:
        """Whether it has shown, or failed to show, all that it shows by itself."""
        try:
            return bool(self.evaluate("document.documentElement?.dataset.shown"))
        except BrowserError:  # the page takes the place of the empty one just now
            return False

    def complaints(self) -> list[str]:
        """Return errors and warnings on its console, and its exceptions."""
        found = []
        for event in self._browser.events:
            if event.get("sessionId") != self._session:
                continue
            said = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(said["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
                found.append(json.dumps(said["entry"]))
            elif event["method"] == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
                found.append(json.dumps(said["args"]))
        return found

    def requests(self) -> list[str]:
        """Return the addresses that it has asked for over a network."""
        urls = [
            event["params"]["request"]["url"]
            for event in self._browser.events
            if event.get("sessionId") == self._session and event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in urls if not url.startswith(("file:", "data:", "blob:"))]

    def screenshot(self, file: Path, width: int = 1280, height: int | None = None, scale: float = 1.0) -> None:
        """Write a picture of the page, or of its top, as PNG."""
        tall = height or self.evaluate("document.documentElement.scrollHeight")
        clip = {"x": 0, "y": 0, "width": width, "height": tall, "scale": scale}
        shot = self._browser.ask("Page.captureScreenshot", self._session, clip=clip, captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """Start Chromium with an empty profile, and end it.

    Args:
        profile: a directory that does not exist yet.
    """
    program = chromium()
    assert program is not None, "there is no Chromium"
    heard, to_browser = os.pipe()
    from_browser, said = os.pipe()
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD, _BEYOND) for end in (heard, said)]
    command = [sys.executable, "-c", _AS_3_AND_4, *map(str, ends), program, *_OPTIONS, f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        command, pass_fds=ends, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    for end in (heard, said, *ends):
        os.close(end)
    try:
        yield Browser(to_browser, from_browser)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(to_browser)
        os.close(from_browser)
