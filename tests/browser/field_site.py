"""The field page served with the real application and PostGIS, and the phone that visits it."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image, ImageDraw
from playwright.sync_api import BrowserContext, Page
from sqlalchemy import Engine, text

from tests.api.conftest import Credentials
from tests.browser.chromium import wait_until
from tests.feeds import INSIDE, YUZHONG

LON, LAT = INSIDE[YUZHONG]
WAIT_MS = 20_000
#: A lift in another district than the phone is in.
RESCUE_CODE, LIFT = "501234", "LIFT-NANAN-1"
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "has_touch": True,
    "is_mobile": True,
    "device_scale_factor": 2,
    "locale": "zh-CN",
    "geolocation": {"longitude": LON, "latitude": LAT, "accuracy": 15},
    "permissions": ["geolocation"],
}


class Watched:
    """What pages of a context asked for and what went wrong in them."""

    def __init__(self, context: BrowserContext) -> None:
        self.requests: list[str] = []
        self.errors: list[str] = []
        context.on("request", lambda one: self.requests.append(one.url))
        context.on("weberror", lambda one: self.errors.append(str(one.error)))
        context.on("console", self._said)

    def _said(self, message: Any) -> None:
        if "Content Security Policy" in message.text:
            self.errors.append(message.text)


def sign_in(page: Page, credentials: Credentials, account: str = "field") -> None:
    page.fill("input[name=username]", account)
    page.fill("input[name=password]", credentials[account]["password"])
    page.click("button[type=submit]")


def visit(phone: BrowserContext, url: str, credentials: Credentials) -> Page:
    """Sign in, and wait until the worker has everything it keeps."""
    page = phone.new_page()
    page.goto(f"{url}/field")
    sign_in(page, credentials)
    page.wait_for_url(f"{url}/field")
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    wait_until(page, "navigator.serviceWorker.controller !== null", within_ms=WAIT_MS)
    return page


def pick(page: Page, value: str) -> None:
    page.click(f'button[data-value="{value}"]')


def photo() -> dict[str, Any]:
    """A lift's closed doors, more or less, with the grain that makes a photo large."""
    grain = Image.effect_noise((1200, 900), 30).convert("RGB")
    doors = Image.new("RGB", grain.size, "#6d737b")
    draw = ImageDraw.Draw(doors)
    for left in (180, 605):
        draw.rectangle((left, 60, left + 415, 900), fill="#b9bec4", outline="#4a5058", width=8)
    draw.ellipse((1090, 420, 1150, 480), fill="#c62828")
    out = io.BytesIO()
    Image.blend(doors, grain, 0.25).save(out, "JPEG")
    return {"name": "IMG_0001.jpg", "mimeType": "image/jpeg", "buffer": out.getvalue()}


def count(owner: Engine, table: str) -> int:
    with owner.connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


Site = tuple[str, Engine, Credentials]
