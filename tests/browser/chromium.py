"""The browser of these tests, and what its pages ask for and complain about."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Page

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

LOOK_EVERY_MS = 50


def wait_until(page: Page, script: str, arg: Any = None, within_ms: int = 10_000) -> None:
    """Look again and again from here until `script` gives true in the page.

    Playwright's own waiting evaluates text inside the page after its first look, which our
    Content-Security-Policy refuses; asking for a value once does not.
    """
    ends_at = time.monotonic() + within_ms / 1000
    while not page.evaluate(script, arg):
        assert time.monotonic() < ends_at, f"not true within {within_ms} ms: {script}"
        page.wait_for_timeout(LOOK_EVERY_MS)


@dataclass
class Watch:
    """What a page asked for and complained about."""

    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def on(self, page: Page, console: bool = True) -> None:
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        if console:
            page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)

    def check(self, url: str) -> None:
        """No errors so far, and no request but to that server."""
        assert self.errors == []
        assert [one for one in self.requests if not one.startswith(("data:", f"{url}/"))] == []
