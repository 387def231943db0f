"""Teams on the commander's map in a real browser: live, hollow when stale, inert text, a switch."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from xml.sax.saxutils import quoteattr

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from api.app import create_app
from api.deps import Configuration
from data.accounts import first_run
from data.database import owner_engine
from tests.api.conftest import Credentials, served
from tests.browser.chromium import wait_until
from tests.browser.city import EVIL
from tests.data.test_cot import position, several
from tests.feeds import INSIDE, NANAN

pytestmark = pytest.mark.browser


class Site:
    def __init__(self, url: str, credentials: Credentials) -> None:
        self.url, self.credentials = url, credentials

    def send(self, *events: str) -> None:
        key = {"X-API-Key": self.credentials["commander"]["api_key"]}
        answer = httpx.post(f"{self.url}/v1/cot", content=several(*events), headers=key)
        assert answer.json()["accepted"] == len(events), answer.text


@pytest.fixture
def site(divided_database_url: str) -> Iterator[Site]:
    owner = owner_engine(divided_database_url)
    configuration = Configuration.load(divided_database_url)
    told = configuration.paths.var / f"{uuid.uuid4().hex}.json"
    assert first_run(owner, told)
    with served(create_app(configuration)) as url:
        yield Site(url, json.loads(told.read_text()))
    owner.dispose()


@pytest.fixture
def page(site: Site, browser: Browser) -> Iterator[Page]:
    """A viewer's map."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="zh-CN")
    page = context.new_page()
    page.goto(f"{site.url}/login")
    viewer = site.credentials["viewer"]
    page.fill("input[name=username]", viewer["username"])
    page.fill("input[name=password]", viewer["password"])
    page.click("button[type=submit]")
    yield page
    context.close()


def test_teams_come_live_turn_hollow_and_can_be_hidden(site: Site, page: Page) -> None:
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    expect(page.locator("#teams")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".team-icon")).to_have_count(0)
    contact = f"<contact callsign={quoteattr(EVIL)}/>"
    site.send(position("A"), position("OLD", INSIDE[NANAN], 4000, detail=contact))
    expect(page.locator(".team-icon")).to_have_count(2, timeout=5000)
    expect(page.locator(".team-icon .team.stale")).to_have_count(1)
    expect(page.locator("#legend-body")).to_contain_text("队伍位置（2）")
    expect(page.locator("#legend-body")).to_contain_text("其中位置已过时（1）")
    page.locator(".team-icon", has=page.locator(".stale")).hover(force=True)
    expect(page.locator(".district-tip b").filter(has_text="__owned=1")).to_have_text(EVIL)
    assert page.evaluate("window.__owned") is None
    fresh = ".team-icon:not(:has(.stale))"
    before = page.locator(fresh).bounding_box()
    site.send(position("A", (106.20, 29.85), 1))
    wait_until(
        page,
        "([s, b]) => document.querySelector(s).getBoundingClientRect().x < b.x - 20",
        [fresh, before],
        within_ms=5000,
    )
    page.click("#teams")
    expect(page.locator(".team-icon")).to_have_count(0)
    expect(page.locator("#legend-body")).not_to_contain_text("队伍位置")
    page.reload()
    expect(page.locator("#teams")).to_have_attribute("aria-pressed", "false")
    expect(page.locator(".team-icon")).to_have_count(0)
    assert problems == []
