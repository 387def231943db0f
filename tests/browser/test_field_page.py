"""The field page on a phone, with the real application: filed without a network, sent once."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from sqlalchemy import Engine, text

from api.app import create_app
from api.deps import Configuration
from data.accounts import first_run
from data.cluster import Cluster
from data.database import owner_engine
from data.photo import DISPLAY_TYPE
from data.rulepacks import load_packs
from maps.field_page import ASKED
from maps.field_words import KINDS, WORDS
from tests.api.conftest import Credentials, served
from tests.browser.test_real_map import CHROMIUM, FLAGS
from tests.conftest import drop_database
from tests.feeds import INSIDE, YUZHONG

pytestmark = pytest.mark.browser
LON, LAT = INSIDE[YUZHONG]
WAIT_MS = 20_000


@pytest.fixture(scope="module")
def field_site(
    cluster: Cluster, make_database: Callable[[str | None], str], divided_template: str
) -> Iterator[tuple[str, Engine, Credentials]]:
    url = make_database(divided_template)
    owner = owner_engine(url)
    configuration = Configuration.load(url)
    told = configuration.paths.var / f"{uuid.uuid4().hex}.json"
    assert first_run(owner, told)
    with served(create_app(configuration)) as address:
        yield address, owner, json.loads(told.read_text())
    owner.dispose()
    drop_database(cluster, url)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def phone(chromium: Browser) -> Iterator[BrowserContext]:
    context = chromium.new_context(
        viewport={"width": 390, "height": 844},
        has_touch=True,
        is_mobile=True,
        device_scale_factor=2,
        locale="zh-CN",
        geolocation={"longitude": LON, "latitude": LAT, "accuracy": 15},
        permissions=["geolocation"],
    )
    yield context
    context.close()


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
    page.wait_for_function("navigator.serviceWorker.controller !== null")
    return page


def pick(page: Page, value: str) -> None:
    page.click(f'button[data-value="{value}"]')


def photo() -> dict[str, Any]:
    out = io.BytesIO()
    Image.effect_noise((1200, 900), 60).convert("RGB").save(out, "JPEG")
    return {"name": "IMG_0001.jpg", "mimeType": "image/jpeg", "buffer": out.getvalue()}


def count(owner: Engine, table: str) -> int:
    with owner.connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


Site = tuple[str, Engine, Credentials]


def test_every_fact_and_kind_asked_for_is_one_of_the_plans() -> None:
    packs = {pack.plan: pack.as_json("zh") for pack in load_packs().in_force(datetime.now(UTC))}
    assert set(ASKED) == set(packs)
    for plan, kinds in ASKED.items():
        facts = {fact["name"]: fact for fact in packs[plan]["facts"] if fact["group"] is None}
        assert {name for names in kinds.values() for name in names} <= set(facts)
        if "equipment" in facts:
            assert set(kinds) == set(facts["equipment"]["values"])
    assert {kind for kinds in ASKED.values() for kind in kinds} == set(KINDS)
    assert {key for key, word in WORDS["zh"].items() if not word} == set()


def test_two_incidents_and_a_photo_filed_without_a_network_arrive_once(
    field_site: Site, phone: BrowserContext, tmp_path: Path
) -> None:
    url, owner, credentials = field_site
    before, photos_before = count(owner, "incident"), count(owner, "attachment")
    watched = Watched(phone)
    page = visit(phone, url, credentials)
    page.screenshot(path=tmp_path / "1-empty.png")
    phone.set_offline(True)
    page.reload()
    expect(page.locator("#line")).to_have_attribute("data-line", "offline")

    pick(page, "elevator")
    page.fill("#fact-people_stranded", "6")
    page.click("#locate")
    expect(page.locator("#place")).to_contain_text("渝中区")
    page.fill("#address", "解放碑 <img src=x onerror=window.owned=1>")
    page.set_input_files("#camera", photo())
    expect(page.locator("#photos img")).to_have_count(1)
    page.screenshot(path=tmp_path / "2-filled.png", full_page=True)
    page.click("button.send")
    expect(page.locator(".report.waiting")).to_have_count(1)

    pick(page, "communications-2024")
    pick(page, "base_station")
    page.click("#tap")
    expect(page.locator("#place-map path").first).to_be_visible()
    page.locator("#place-map").click(position={"x": 120, "y": 260})
    expect(page.locator("#place")).to_contain_text("再点一次")
    page.locator("#place-map").click(position={"x": 180, "y": 200})
    expect(page.locator("#place")).to_contain_text("误差约")
    page.locator("#place-map").scroll_into_view_if_needed()
    page.screenshot(path=tmp_path / "3-map.png")
    page.click("button.send")
    expect(page.locator(".report.waiting")).to_have_count(2)
    page.screenshot(path=tmp_path / "4-waiting.png")
    page.close()
    assert count(owner, "incident") == before

    page = phone.new_page()
    page.goto(f"{url}/field")
    expect(page.locator(".report.waiting")).to_have_count(2)
    phone.set_offline(False)
    expect(page.locator(".report.sent")).to_have_count(2, timeout=WAIT_MS)
    expect(page.locator("#queue")).to_contain_text("照片 1/1 已送达", timeout=WAIT_MS)
    expect(page.locator("#queue")).to_contain_text("渝中区")
    page.reload()
    expect(page.locator(".report.sent")).to_have_count(2)
    page.locator("#queue").scroll_into_view_if_needed()
    page.screenshot(path=tmp_path / "5-sent.png", full_page=True)

    assert count(owner, "incident") == before + 2
    assert count(owner, "incident_conflict") == 0
    assert count(owner, "attachment") == photos_before + 1
    with owner.connect() as connection:
        row = connection.execute(
            text(
                "SELECT i.adcode, i.account, i.body->'facts'->>'people_stranded' AS stranded,"
                " i.accuracy_m, a.media_type FROM incident i JOIN attachment a USING (incident_id)"
                " ORDER BY a.batch_id DESC LIMIT 1"
            )
        ).one()
    assert tuple(row) == (YUZHONG, "field", "6", 15.0, DISPLAY_TYPE)
    assert watched.errors == []
    assert page.evaluate("window.owned") is None
    assert [one for one in watched.requests if not one.startswith((url, "blob:", "data:"))] == []


def test_a_refused_report_tells_why_and_is_mended_and_sent(
    field_site: Site, phone: BrowserContext, tmp_path: Path
) -> None:
    url, owner, credentials = field_site
    before = count(owner, "incident")
    page = visit(phone, url, credentials)
    pick(page, "crane")
    page.locator("#fact-overturned").get_by_role("button", name="是", exact=True).click()
    page.click("#typed summary")
    page.fill("#lon", str(LAT))
    page.fill("#lat", str(LON))
    page.set_input_files("#album", [photo()])
    page.click("button.send")
    refused = page.locator(".report.refused")
    expect(refused).to_have_count(1, timeout=WAIT_MS)
    expect(refused.locator("ul.why")).to_contain_text("填反")
    refused.scroll_into_view_if_needed()
    page.screenshot(path=tmp_path / "6-refused.png")
    assert count(owner, "incident") == before

    made = refused.get_attribute("data-id")
    page.click(".report.refused button.mend")
    expect(page.locator("#lon")).to_have_value(str(LAT))
    page.fill("#lon", str(LON))
    page.fill("#lat", str(LAT))
    page.click("button.send")
    expect(page.locator(f'.report.sent[data-id="{made}"]')).to_have_count(1, timeout=WAIT_MS)
    expect(page.locator("#queue")).to_contain_text("照片 1/1 已送达", timeout=WAIT_MS)
    assert count(owner, "incident") == before + 1


def test_a_lost_answer_and_an_expired_login_make_no_second_incident(
    field_site: Site, phone: BrowserContext, tmp_path: Path
) -> None:
    url, owner, credentials = field_site
    before = count(owner, "incident")
    page = visit(phone, url, credentials)

    def lose(route: Any) -> None:
        route.fetch()  # the server stores it, the phone never hears of it
        route.abort()

    page.route("**/v1/incidents", lose)
    pick(page, "boiler")
    page.fill("#address", "某厂锅炉房")
    page.click("button.send")
    expect(page.locator("#line")).to_have_attribute("data-line", "offline", timeout=WAIT_MS)
    expect(page.locator(".report.waiting")).to_have_count(1)
    assert count(owner, "incident") == before + 1
    page.close()

    phone.clear_cookies()
    page = phone.new_page()
    page.goto(f"{url}/field")
    expect(page.locator("#line")).to_have_attribute("data-line", "signed_out", timeout=WAIT_MS)
    expect(page.locator(".report.waiting")).to_have_count(1)
    page.screenshot(path=tmp_path / "7-signed-out.png")
    page.click("#line a")
    sign_in(page, credentials)
    page.wait_for_url(f"{url}/field")
    expect(page.locator(".report.sent")).to_have_count(1, timeout=WAIT_MS)
    assert count(owner, "incident") == before + 1
    assert count(owner, "incident_conflict") == 0


def test_an_id_taken_by_another_body_is_mended_under_a_new_one(
    field_site: Site, phone: BrowserContext
) -> None:
    url, owner, credentials = field_site
    page = visit(phone, url, credentials)
    phone.set_offline(True)
    pick(page, "gas_cylinder")
    page.fill("#address", "甲")
    page.click("button.send")
    made = page.locator(".report.waiting").get_attribute("data-id")
    other = {
        "incident_id": made,
        "plan": "special-equipment-2023",
        "kind": "boiler",
        "occurred_at": "2026-11-01T08:00:00+08:00",
    }
    answer = phone.request.post(
        f"{url}/v1/incidents",
        data=json.dumps(other),
        headers={
            "X-API-Key": credentials["field"]["api_key"],
            "Content-Type": "application/json",
        },
    )
    assert answer.status == 201
    phone.set_offline(False)
    expect(page.locator(".report.refused")).to_have_count(1, timeout=WAIT_MS)
    page.click(".report.refused button.mend")
    page.fill("#address", "乙")
    page.click("button.send")
    expect(page.locator(".report.sent")).to_have_count(1, timeout=WAIT_MS)
    assert page.locator(".report.sent").get_attribute("data-id") != made
    with owner.connect() as connection:
        kinds = connection.execute(
            text("SELECT kind FROM incident WHERE incident_id = :id"), {"id": made}
        ).scalars()
        assert list(kinds) == ["boiler"], "the one stored first is untouched"


def test_every_control_is_large_enough_for_a_glove_and_english_works(
    field_site: Site, phone: BrowserContext, tmp_path: Path
) -> None:
    url, _, credentials = field_site
    page = visit(phone, url, credentials)
    page.click("#language")
    expect(page.locator("#title")).to_have_text("Field report")
    pick(page, "crane")
    page.screenshot(path=tmp_path / "8-english.png", full_page=True)
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, summary, select, input:not(.hidden-file), textarea, a")]
          .filter((one) => one.offsetParent && !one.closest(".leaflet-container"))
          .map((one) => [one.textContent, one.getBoundingClientRect().height])
          .filter(([, height]) => height < 48)"""
    )
    assert small == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
