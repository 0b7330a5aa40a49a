"""A real browser: headless Chromium, driven through chromedriver by W3C WebDriver, with the standard library alone.

A page is waited for where it changes and not by asking it again and again: see :meth:`Page.until`.
"""

import http.client
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tools.browser import programs

__all__ = ["Browser", "Page", "browsing"]

# A browser's first start on a loaded machine takes seconds.
START_S = 60.0
START_TRIES = 5
# For a page to load and for a condition to come true: far above what either needs.
PATIENCE_S = 30.0
STOP_S = 10.0

_ARGUMENTS = (
    "--headless=new",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    # It talks with the server under test and with nobody else.
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # All windows but one are behind another, and as quick as that one all the same.
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-background-timer-throttling",
)

# The name under which an element is referred to (WebDriver section 11).
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"

_UNTIL = """
const done = arguments[arguments.length - 1];
const holds = (...args) => { %s };
const given = [...arguments].slice(0, -1);
const check = () => holds(...given) ? (observer.disconnect(), done(true)) : false;
const observer = new MutationObserver(check);
observer.observe(document, {subtree: true, childList: true, characterData: true, attributes: true});
check();
"""


class DriverError(AssertionError):
    """What chromedriver has answered instead of a value.

    Attributes:
        code: WebDriver's name for it (section 6.6).
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message.splitlines()[0] if message else ''}")
        self.code = code


class _NotStarted(AssertionError):
    """chromedriver has ended, or said nothing; its output tells why."""


class _Driver:
    """chromedriver as a process of its own, and the commands to it."""

    def __init__(self, program: Path, folder: str) -> None:
        self.process = subprocess.Popen(
            [program, "--port=0"],
            # What Chromium keeps outside its profile is put aside, too.
            env={**os.environ, "HOME": folder, "TMPDIR": folder},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # A group of its own, so that the browser can be ended with it.
            start_new_session=True,
        )
        self._output = bytearray()
        self._port = 0
        self._is_known = threading.Event()
        # On the side: a full pipe would stop the browser.
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        if not self._is_known.wait(START_S) or not self._port:
            self.stop()
            raise _NotStarted(self._output.decode(errors="replace"))
        self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=START_S)

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._output += line
            if found := re.search(rb"started successfully on port (\d+)", line):
                self._port = int(found[1])
                self._is_known.set()
        self._is_known.set()

    def command(self, method: str, path: str, values: dict[str, Any] | None = None) -> Any:
        body = json.dumps(values or {}) if method == "POST" else None
        self._connection.request(method, path, body, {"Content-Type": "application/json"})
        value = json.loads(self._connection.getresponse().read())["value"]
        if isinstance(value, dict) and "error" in value:
            raise DriverError(value["error"], value["message"])
        return value

    def stop(self) -> None:
        """Ends chromedriver and what it has started."""
        if self._port:
            self._connection.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(self.process.pid, number)
            # All of them hold its output, so the reader ends with the last one; a browser may outlive its driver.
            self._reader.join(STOP_S)
            if not self._reader.is_alive():
                break
        # Not before: its id is that of the group.
        self.process.wait(STOP_S)
        self._reader.join()
        assert self.process.stdout
        self.process.stdout.close()


class Browser:
    """One browser; made by :func:`browsing`."""

    def __init__(self, driver: _Driver, chromium: Path, folder: str) -> None:
        # Chromium has no sandbox for root.
        root = ("--no-sandbox",) if os.geteuid() == 0 else ()
        options = {"binary": str(chromium), "args": [*_ARGUMENTS, *root, f"--user-data-dir={folder}/profile"]}
        timeouts = {"script": int(PATIENCE_S * 1000), "pageLoad": int(PATIENCE_S * 1000)}
        # Those made for development are trusted by nobody.
        wanted = {
            "browserName": "chrome",
            "acceptInsecureCerts": True,
            "timeouts": timeouts,
            "goog:chromeOptions": options,
        }
        self._driver = driver
        session = driver.command("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{session['sessionId']}"
        # Stays empty: a new window is asked for in one that is open, and with the last one the session ends.
        self._first = self.command("GET", "/window")
        self._window: str | None = self._first

    @contextmanager
    def page(self, url: str) -> Iterator["Page"]:
        """Shows a page in a window of its own, which is closed behind the block."""
        self.show(self._first)
        handle = self.command("POST", "/window/new", {"type": "window"})["handle"]
        page = Page(self, handle)
        try:
            page.command("POST", "/url", {"url": url})
            yield page
        finally:
            page.close()

    def command(self, method: str, path: str, values: dict[str, Any] | None = None) -> Any:
        """Sends a command of the session, for the window in front."""
        return self._driver.command(method, self._session + path, values)

    def show(self, window: str) -> None:
        """Makes this the window that commands are for."""
        if window != self._window:
            self.command("POST", "/window", {"handle": window})
            self._window = window

    def close_window(self, window: str) -> None:
        """Closes a window."""
        self.show(window)
        self._window = None
        self.command("DELETE", "/window")

    def close(self) -> None:
        """Ends the browser."""
        self.command("DELETE", "")


class Page:
    """A window with a page in it."""

    def __init__(self, browser: Browser, window: str) -> None:
        self._browser = browser
        self._window: str | None = window

    def command(self, method: str, path: str, values: dict[str, Any] | None = None) -> Any:
        """Sends a command for this window."""
        assert self._window, "the window is closed"
        self._browser.show(self._window)
        return self._browser.command(method, path, values)

    def run(self, script: str, *arguments: object) -> Any:
        """Returns what a script returns: its value, or that of its promise."""
        return self.command("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def until(self, condition: str, *arguments: object) -> None:
        """Waits until a condition holds: the body of a JavaScript function of ``args``, asked after each change.

        Raises:
            AssertionError: It has not come to hold in time; tells what the page shows.
        """
        try:
            self.command("POST", "/execute/async", {"script": _UNTIL % condition, "args": list(arguments)})
        except DriverError as problem:
            if problem.code != "script timeout":
                raise
            raise AssertionError(
                f"{condition!r} of {arguments} does not hold; shown is:\n{self.text('body')}"
            ) from None

    def until_shown(self, selector: str, text: str) -> None:
        """Waits until an element is shown that contains the text."""
        condition = (
            "return [...document.querySelectorAll(args[0])].some(each => "
            "each.checkVisibility() && each.textContent.includes(args[1]))"
        )
        self.until(condition, selector, text)

    def text(self, selector: str) -> str:
        """What an element shows, as a user sees it."""
        return str(self.command("GET", f"{self._element(selector)}/text"))

    def type(self, selector: str, text: str) -> None:
        """Types into a field; ``"\\n"`` at the end is the Enter key."""
        self.command("POST", f"{self._element(selector)}/value", {"text": text})

    def click(self, selector: str) -> None:
        """Clicks on an element, which must be there and in sight."""
        self.command("POST", f"{self._element(selector)}/click")

    def clear(self, selector: str) -> None:
        """Empties a field."""
        self.command("POST", f"{self._element(selector)}/clear")

    def close(self) -> None:
        """Closes the window, as a user does who leaves. May be called again."""
        window, self._window = self._window, None
        if window:
            self._browser.close_window(window)

    def _element(self, selector: str) -> str:
        found = self.command("POST", "/element", {"using": "css selector", "value": selector})
        return f"/element/{found[_ELEMENT]}"


def _started(program: Path, folder: str) -> _Driver:
    # It takes a free port of IPv6 and wants the same one of IPv4, where it may be taken.
    for _ in range(START_TRIES - 1):
        try:
            return _Driver(program, folder)
        except _NotStarted as problem:
            if "port not available" not in str(problem):
                raise
    return _Driver(program, folder)


@contextmanager
def browsing() -> Iterator[Browser]:
    """Runs a browser for the length of a block; skips the test where there is none."""
    found = programs()
    if found is None:
        pytest.skip("chromium or chromedriver is not on PATH: `python -m tools.browser` installs them")
    chromium, driver_program = found
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as folder:
        driver = _started(driver_program, folder)
        try:
            browser = Browser(driver, chromium, folder)
            try:
                yield browser
            finally:
                browser.close()
        finally:
            driver.stop()
