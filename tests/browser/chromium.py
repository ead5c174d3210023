"""A real Chromium for tests, and a tab that remembers everything that went wrong in it."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import BrowserContext, ConsoleMessage, Request, ViewportSize

# As root there is no sandbox to be had; the rest keeps the browser from talking to its maker.
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
SECONDS = 15.0
"""Patience for one thing to appear: generous, as two workers and their services share two cores."""


def executable() -> str:
    """The Chromium of this machine; without one the test fails: nothing else shows that the page works."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.fail("no Chromium: apt-get install chromium, or name one in CHROMIUM")
    return found


class Chromium:
    """One browser, on a thread of its own: playwright keeps an event loop running in the thread that it is used from,
    and there asyncio.run of any other test of this process would fail."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "chromium")
        self._playwright: Playwright | None = None
        self._browser: Browser | None = None
        self._shared: BrowserContext | None = None

    def do(self, work: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Call it on the thread, and return or raise what it does."""
        return self._thread.submit(work, *given, **named).result()

    def page(self) -> Page:
        """A page in the profile that tests without wishes of their own share; on the thread only."""
        if self._shared is None:
            self._shared = self.context(viewport=DESKTOP)
        return self._shared.new_page()

    def context(self, **options: Any) -> BrowserContext:
        """A fresh profile; on the thread only."""
        if self._browser is None:
            self._playwright = sync_playwright().start()
            self._browser = self._playwright.chromium.launch(executable_path=executable(), args=OPTIONS)
        return self._browser.new_context(**options)

    def close(self) -> None:
        """Stop it."""
        self.do(self._stop)
        self._thread.shutdown()

    def _stop(self) -> None:
        if self._browser is not None:
            self._browser.close()
        if self._playwright is not None:
            self._playwright.stop()


@dataclass
class Tab:
    """A page at a service. `wrong`: what must not happen; `expected`: parts of messages that this test provokes."""

    page: Page
    origin: str
    wrong: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    """Bytes of each finished exchange, headers included."""

    def __post_init__(self) -> None:
        self.page.set_default_timeout(1000 * SECONDS)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.wrong.append(f"page error: {error}"))
        self.page.on("request", self._request)
        self.page.on("requestfailed", self._failed)
        self.page.on("requestfinished", self._finished)

    def open(self, address: str = "#/") -> Page:
        """Show an address of the page and wait until it has its content."""
        self.page.goto(f"{self.origin}/{address}")
        self.settled()
        return self.page

    def settled(self) -> None:
        """Wait until the view has loaded."""
        self.page.wait_for_function(
            """() => document.querySelector("main h1")
                && document.querySelector("main").dataset.address === location.hash
                && !document.querySelector("main").textContent.includes("Loading \u2026")"""
        )

    def check(self) -> None:
        """Fail for all that went wrong unexpectedly."""
        unexpected = [what for what in self.wrong if not any(part in what for part in self.expected)]
        assert not unexpected, "\n".join(unexpected)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning", "assert"}:
            self.wrong.append(f"console {message.type}: {message.text}")

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)
        if urlsplit(request.url).netloc != urlsplit(self.origin).netloc:
            self.wrong.append(f"request to another host: {request.url}")

    def _finished(self, request: Request) -> None:
        size = request.sizes()
        self.sizes.append(
            size["requestHeadersSize"]
            + size["requestBodySize"]
            + size["responseHeadersSize"]
            + size["responseBodySize"]
        )

    def _failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # the page itself calls off what a view that was left has asked for
            self.wrong.append(f"failed: {request.url}: {request.failure}")
