"""Headless Chromium for tests of pages, driven over its DevTools protocol by a pipe (NUL-ended JSON
on file descriptors 3 and 4), so nothing but the browser is needed. FSPROBE_SCREENSHOTS=DIR keeps
pictures.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)


class Browser:
    """A headless Chromium with an empty profile; `events` are the protocol's notifications so
    far.
    """

    def __init__(self, profile: Path):
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        command = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self.process = subprocess.Popen(
            ["bash", "-c", command, BROWSER, *FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.read_fd, self.write_fd = ours_in, ours_out
        self.buffer, self.events, self.number = b"", [], 0

    def call(self, method, session=None, **params):
        """Send a command and wait for its answer."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params} | (
            {"sessionId": session} if session else {}
        )
        os.write(self.write_fd, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def wait_for(self, method):
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._receive())

    def _receive(self, seconds=60.0):
        deadline = time.monotonic() + seconds
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.read_fd], [], [], max(deadline - time.monotonic(), 0))
            assert ready, "Chromium does not answer"
            chunk = os.read(self.read_fd, 1 << 20)
            assert chunk, "Chromium went away"
            self.buffer += chunk
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def close(self):
        os.close(self.write_fd)
        os.close(self.read_fd)
        self.process.terminate()
        self.process.wait(30)


def visit(browser: Browser, page: Path | str, width: int):
    """Open a page, a file or an address; return (a function that evaluates JavaScript on it, requests beyond data:,
    complaints).
    """
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Network", "Log", "Runtime"):
        browser.call(f"{domain}.enable", session)
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        session,
        width=width,
        height=800,
        deviceScaleFactor=1,
        mobile=width < 600,
    )
    browser.events.clear()
    url = page.as_uri() if isinstance(page, Path) else page
    browser.call("Page.navigate", session, url=url)
    browser.wait_for("Page.loadEventFired")

    def evaluate(expression):
        return browser.call(
            "Runtime.evaluate",
            session,
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
        )["result"].get("value")

    if isinstance(page, Path):
        picture(browser, session, f"{page.parent.name}_{width}")
    evaluate.session = session
    evaluate("document.readyState")  # a round trip: what the page did before is in the events now
    requests = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event.get("method") == "Network.requestWillBeSent"
    ]
    complaints = [
        event
        for event in browser.events
        if event.get("method")
        in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    ]
    return evaluate, [url for url in requests if not url.startswith("data:")], complaints


def picture(browser: Browser, session: str, name: str) -> None:
    """The page as name.png in FSPROBE_SCREENSHOTS, if that is set."""
    if folder := os.environ.get("FSPROBE_SCREENSHOTS"):
        shot = browser.call("Page.captureScreenshot", session, captureBeyondViewport=True)
        (Path(folder) / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))


def press(browser: Browser, session: str, key: str) -> None:
    """A key of the keyboard, as the page gets it: a letter, or Tab or Enter."""
    text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
    code = {"Tab": 9, "Enter": 13}.get(key, ord(key.upper()[0]))
    shared = {"key": key, "windowsVirtualKeyCode": code}
    browser.call("Input.dispatchKeyEvent", session, type="keyDown", **shared, **text)
    browser.call("Input.dispatchKeyEvent", session, type="keyUp", **shared)
