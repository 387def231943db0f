"""The commander's page of the scripted server on a screen, and what can be read off it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from playwright.sync_api import Browser, Page

from tests import situations
from tests.browser.chromium import Watch
from tests.browser.map_server import MapServer

SIZES = {"desk": (1440, 900), "small": (1280, 800), "phone": (390, 844)}
COMMS, POWER, SPECIAL = situations.PLANS
YUZHONG, DADUKOU, SHAPINGBA, JIULONGPO, NANAN = "500103", "500104", "500106", "500107", "500108"
WUXI, CHENGKOU, WANZHOU, YUBEI = "500238", "500229", "500101", "500157"
HARMLESS = {"deaths": 0, "serious_injuries": 0, "direct_loss_yuan": 0}
LIFT = {"equipment": "elevator"}
HATCH = "url(#fill-no-data)"


def shown(page: Page, server: MapServer, path: str = "/") -> None:
    page.goto(server.url + path)
    page.wait_for_selector(f'body[data-sequence="{server.situation["sequence"]}"]')


@contextmanager
def screen(
    browser: Browser, server: MapServer, path: str = "/", size: str = "desk"
) -> Iterator[Page]:
    """The page on a screen of that size; no error and no request off the host by its end."""
    width, height = SIZES[size]
    phone = size == "phone"
    context = browser.new_context(
        viewport={"width": width, "height": height}, is_mobile=phone, has_touch=phone
    )
    context.set_default_timeout(10_000)
    page, watch = context.new_page(), Watch()
    watch.on(page, console=False)  # a server that is stopped is complained of there
    shown(page, server, path)
    page.wait_for_timeout(300)
    yield page
    watch.check(server.url)
    context.close()


def district(page: Page, adcode: str) -> dict[str, str | None]:
    return page.locator(f'path[data-adcode="{adcode}"]').evaluate(
        "p => ({bin: p.dataset.bin, level: p.dataset.level, fill: p.getAttribute('fill')})"
    )


def middle(page: Page) -> tuple[float, float]:
    """Longitude and latitude in the middle of the map."""
    found = page.evaluate(
        "Object.entries(window).find(([k]) => k.startsWith('map_'))[1].getCenter()"
    )
    return found["lng"], found["lat"]


def ago(**past: float) -> str:
    return (datetime.now(UTC) - timedelta(**past)).isoformat(timespec="seconds")
