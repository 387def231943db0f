"""The browser of these tests, and what its pages ask for and complain about."""

from __future__ import annotations

from dataclasses import dataclass, field

from playwright.sync_api import Page

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


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
