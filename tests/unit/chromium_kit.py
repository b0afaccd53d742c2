# SPDX-License-Identifier: GPL-2.0-only
"""A real Chromium without a window, driven over its pipe (``--remote-debugging-pipe``): JSON with a
NUL behind each message. The methods are those of the DevTools protocol."""

import base64
import contextlib
import json
import os
import shutil
import subprocess

NAMES = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")
# The shell moves the pipe's ends to where Chromium looks for them, 3 and 4.
MOVE = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'


def find_chromium():
    """The program: that of XDPTSTAMP_CHROMIUM, else one on the PATH, else None."""
    named = os.environ.get("XDPTSTAMP_CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    """One page in a browser of its own.

    :ivar events: what the browser told and nobody asked for yet.
    """

    def __init__(self, program, folder):
        options = ["--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"]
        options += ["--no-first-run", f"--user-data-dir={folder}", "about:blank"]
        reads, self._to = os.pipe()
        self._from, writes = os.pipe()
        self._process = subprocess.Popen(
            ["bash", "-c", MOVE, "move", str(reads), str(writes), program, *options],
            pass_fds=(reads, writes),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(reads)
        os.close(writes)
        self._number, self._waiting, self._session, self.events = 0, b"", None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self):
        """End it."""
        self._process.terminate()
        self._process.wait(30)
        os.close(self._to)
        os.close(self._from)

    def call(self, method, **parameters):
        """One command and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, path, width=1100, height=900, scheme="light"):
        """Open a file and wait until it is loaded."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not self.told("Page.loadEventFired"):
            self.events.append(self._read())

    def told(self, *methods):
        """The events of these kinds, since the page was opened."""
        return [event for event in self.events if event.get("method") in methods]

    def js(self, expression):
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def key(self, key):
        """Press a key."""
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def mouse(self, kind, x, y, *, is_down=False):
        """Move, press or release the mouse."""
        button = "none" if kind == "mouseMoved" and not is_down else "left"
        self.call(
            "Input.dispatchMouseEvent",
            type=kind, x=x, y=y, button=button, buttons=int(is_down), clickCount=1,
        )  # fmt: skip

    def pdf(self):
        """The page as it prints."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    def _read(self):
        while b"\0" not in self._waiting:
            data = os.read(self._from, 1 << 20)
            assert data, "Chromium is gone"
            self._waiting += data
        message, _, self._waiting = self._waiting.partition(b"\0")
        return json.loads(message)


@contextlib.contextmanager
def chromium(folder):
    """A browser for the block; its profile is in ``folder``."""
    browser = Chromium(find_chromium(), folder)
    try:
        yield browser
    finally:
        browser.close()
