"""The field page's ways to say where, its drafts, its updates and what makes it installable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, expect
from sqlalchemy import Engine, text

import maps.field_page
import maps.text
from maps.assets import ASSETS_DIR
from tests.browser.field_site import (
    LIFT,
    RESCUE_CODE,
    WAIT_MS,
    Site,
    Watched,
    count,
    photo,
    pick,
    sign_in,
    visit,
)
from tests.feeds import INSIDE, NANAN, SHAPINGBA
from tests.geo.border_places import as_text, border_places
from tests.geo.test_position import test_what_people_type_is_the_same_place as _readable

pytestmark = pytest.mark.browser


def newest(owner: Engine) -> Any:
    with owner.connect() as connection:
        return connection.execute(
            text(
                "SELECT kind, adcode, facility_id, crs, original_position, body"
                " FROM incident ORDER BY batch_id DESC LIMIT 1"
            )
        ).one()


def sent(page: Any, number: int) -> Any:
    expect(page.locator(".report.sent")).to_have_count(number, timeout=WAIT_MS)
    return page.locator(".report.sent").first


def test_a_lifts_rescue_code_typed_without_a_network_places_it_later(
    field_site: Site, phone: BrowserContext, tmp_path: Path
) -> None:
    url, owner, credentials = field_site
    page = visit(phone, url, credentials)
    phone.set_offline(True)
    page.reload()
    pick(page, "elevator")
    page.fill("#rescue-code", "50123")
    page.click("button.send")
    expect(page.locator("#fault")).to_contain_text("六位")
    page.fill("#rescue-code", "５０１２３４")  # as a Chinese keyboard may give them
    expect(page.locator("#place")).to_contain_text("识别码")
    page.fill("#fact-people_stranded", "3")
    page.screenshot(path=tmp_path / "rescue-code.png", full_page=True)
    page.click("button.send")
    expect(page.locator(".report.waiting")).to_have_count(1)
    phone.set_offline(False)
    receipt = sent(page, 1)
    expect(receipt).to_contain_text("南岸区")
    expect(receipt).to_contain_text("救援识别码")
    stored = newest(owner)
    assert (stored.facility_id, stored.adcode) == (LIFT, NANAN)
    assert stored.body["facility_id"] == RESCUE_CODE
    assert "position" not in stored.body


def test_typed_text_in_any_form_is_sent_as_typed_and_read_by_the_server(
    field_site: Site, phone: BrowserContext
) -> None:
    url, owner, credentials = field_site
    page = visit(phone, url, credentials)
    place = border_places()[0]
    for turn, crs in enumerate(("GCJ-02", "BD-09", "CGCS2000", "WGS84", "GCJ-02", "BD-09")):
        typed = as_text(*place.numbers(crs), turn)
        pick(page, "boiler")
        if not page.locator("#position").is_visible():
            page.click("#typed summary")
        page.fill("#position", typed)
        page.select_option("#crs", crs)
        page.click("button.send")
        sent(page, turn + 1)
        stored = newest(owner)
        assert (stored.adcode, stored.crs) == (place.adcode, crs)
        assert stored.original_position == typed
    pick(page, "boiler")
    page.click("#typed summary")
    page.fill("#position", "解放碑")
    page.click("button.send")
    refused = page.locator(".report.refused")
    expect(refused).to_have_count(1, timeout=WAIT_MS)
    expect(refused.locator("ul.why")).to_contain_text("位置")


def test_a_facility_number_or_an_address_alone_will_do_and_nothing_will_not(
    field_site: Site, phone: BrowserContext
) -> None:
    url, owner, credentials = field_site
    page = visit(phone, url, credentials)
    pick(page, "crane")
    page.click("button.send")
    expect(page.locator("#fault")).to_contain_text("地址")
    page.click("#typed summary")
    page.fill("#facility-id", LIFT)
    page.click("button.send")
    expect(sent(page, 1)).to_contain_text("南岸区")
    assert (newest(owner).facility_id, newest(owner).kind) == (LIFT, "crane")
    pick(page, "crane")
    page.fill("#address", "某路某号")
    page.click("button.send")
    expect(sent(page, 2)).to_contain_text("未落图")
    assert newest(owner).adcode is None


def test_the_phones_position_can_be_cleared_and_replaced(
    field_site: Site, phone: BrowserContext
) -> None:
    url, owner, credentials = field_site
    page = visit(phone, url, credentials)
    pick(page, "crane")
    page.click("#locate")
    expect(page.locator("#place")).to_contain_text("渝中区")
    page.click("#clear-place")
    expect(page.locator("#place")).to_contain_text("尚无位置")
    page.click("#typed summary")
    lon, lat = INSIDE[SHAPINGBA]
    page.fill("#position", f"{lon} {lat}")
    expect(page.locator("#place")).to_contain_text("沙坪坝区")
    page.click("button.send")
    sent(page, 1)
    stored = newest(owner)
    assert (stored.adcode, stored.original_position) == (SHAPINGBA, f"{lon} {lat}")
    assert "accuracy_m" not in stored.body


def test_text_that_is_plainly_no_position_is_marked_without_a_network_and_still_queued(
    field_site: Site, phone: BrowserContext, tmp_path: Path
) -> None:
    url, _, credentials = field_site
    page = visit(phone, url, credentials)
    phone.set_offline(True)
    page.reload()
    readable = [one for mark in _readable.pytestmark for one in mark.args[1]]
    readable += [as_text(106.5516, 29.563, turn) for turn in range(6)]
    readable += ["", "  ", "36360000，3270000", "[106.5516, 29.5630]"]
    plainly_not = ["29.56,106.55 abc", "解放碑", "106.5516", "N29.5", "1,2,3,4,5,6,7", "？"]
    marked = page.evaluate(
        """async (texts) => {
          const { unreadable } = await import("/static/yutu/field_position.js");
          return texts.filter(unreadable);
        }""",
        [*readable, *plainly_not],
    )
    assert len(readable) > 30
    assert marked == plainly_not
    pick(page, "boiler")
    page.click("#typed summary")
    hint = page.locator("#position-hint")
    page.fill("#position", "29.56,106.55 abc")
    expect(hint).to_contain_text("不像坐标")
    expect(page.locator("#position")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#place")).to_have_text("位置还读不出，请核对坐标")
    hint.scroll_into_view_if_needed()
    page.screenshot(path=tmp_path / "unreadable.png")
    page.fill("#position", "106.55,29.56")
    expect(hint).to_have_text("")
    expect(page.locator("#position")).to_have_attribute("aria-invalid", "false")
    expect(page.locator("#place")).not_to_contain_text("读不出")
    page.fill("#position", "29.56,106.55 abc")
    page.click("button.send")
    expect(page.locator(".report.waiting")).to_have_count(1)
    phone.set_offline(False)
    expect(page.locator(".report.refused ul.why")).to_contain_text("位置", timeout=WAIT_MS)


def test_a_receipt_says_how_grave_it_may_be_while_facts_are_unknown(
    field_site: Site, phone: BrowserContext, tmp_path: Path
) -> None:
    url, _, credentials = field_site
    page = visit(phone, url, credentials)
    pick(page, "pressure_vessel")
    page.fill("#address", "某厂")
    page.click("button.send")
    said = maps.text.WORDS["zh"]
    wholly = said["open_wholly"].format(most="Ⅰ级")
    first = sent(page, 1)
    expect(first).to_contain_text(wholly)
    pick(page, "crane")
    page.locator("#fact-overturned").get_by_role("button", name="是", exact=True).click()
    page.fill("#address", "某工地")
    page.click("button.send")
    expect(sent(page, 2)).to_contain_text(f"Ⅲ级 · {said['open_above'].format(most='Ⅰ级')}")
    pick(page, "communications-2024")
    pick(page, "base_station")
    page.fill("#address", "某基站")
    page.click("button.send")
    third = sent(page, 3)
    expect(third).to_contain_text("不单独定级")
    expect(third).not_to_contain_text("信息不全")
    page.locator("#queue").scroll_into_view_if_needed()
    page.screenshot(path=tmp_path / "open-levels.png")
    page.click("#language")
    english = maps.text.WORDS["en"]["open_wholly"].format(most="Level Ⅰ")
    expect(page.locator(".report.sent").last).to_contain_text(english)


def test_what_is_being_filled_in_outlives_the_page(field_site: Site, phone: BrowserContext) -> None:
    url, _, credentials = field_site
    page = visit(phone, url, credentials)
    pick(page, "elevator")
    page.fill("#fact-people_stranded", "4")
    page.fill("#address", "写到一半")
    page.wait_for_timeout(600)
    page.close()
    page = phone.new_page()
    phone.set_offline(True)
    page.goto(f"{url}/field")
    expect(page.locator("#fact-people_stranded")).to_have_value("4")
    expect(page.locator("#address")).to_have_value("写到一半")
    page.click("button.send")
    expect(page.locator(".report.waiting")).to_have_count(1)
    page.reload()
    expect(page.locator("#address")).to_have_value("")
    phone.set_offline(False)
    sent(page, 1)


def test_a_login_that_ends_between_the_report_and_its_photo_loses_neither(
    field_site: Site, phone: BrowserContext
) -> None:
    url, owner, credentials = field_site
    incidents, photos = count(owner, "incident"), count(owner, "attachment")
    page = visit(phone, url, credentials)

    def sign_out(route: Any) -> None:
        phone.clear_cookies()  # the session ends just as the photo is on its way
        route.continue_(headers={**route.request.headers, "cookie": ""})

    page.route("**/attachments", sign_out, times=1)
    pick(page, "boiler")
    page.fill("#address", "某厂")
    page.set_input_files("#camera", photo())
    page.click("button.send")
    expect(page.locator("#line")).to_have_attribute("data-line", "signed_out", timeout=WAIT_MS)
    expect(page.locator("#line")).to_contain_text("登录已失效")
    expect(page.locator("#queue")).to_contain_text("照片 0/1 已送达")
    assert (count(owner, "incident"), count(owner, "attachment")) == (incidents + 1, photos)
    page.click("#line a")
    sign_in(page, credentials)
    page.wait_for_url(f"{url}/field")
    expect(page.locator("#queue")).to_contain_text("照片 1/1 已送达", timeout=WAIT_MS)
    assert (count(owner, "incident"), count(owner, "attachment")) == (incidents + 1, photos + 1)


def test_a_conflict_is_told_in_plain_words(field_site: Site, phone: BrowserContext) -> None:
    url, _, credentials = field_site
    page = visit(phone, url, credentials)
    phone.set_offline(True)
    pick(page, "crane")
    page.fill("#address", "甲")
    page.click("button.send")
    made = page.locator(".report.waiting").get_attribute("data-id")
    other = {
        "incident_id": made,
        "plan": "special-equipment-2023",
        "kind": "boiler",
        "occurred_at": "2026-11-01T08:00:00+08:00",
    }
    key = {"X-API-Key": credentials["field"]["api_key"], "Content-Type": "application/json"}
    assert phone.request.post(f"{url}/v1/incidents", data=json.dumps(other), headers=key).ok
    phone.set_offline(False)
    expect(page.locator(".report.refused ul.why")).to_contain_text(
        "已有另一份内容", timeout=WAIT_MS
    )


def test_a_new_version_replaces_the_old_one_at_once_or_when_asked(
    field_site: Site, phone: BrowserContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page, its scripts and its words come together, whatever the old worker still holds."""
    url, _, credentials = field_site
    page = visit(phone, url, credentials)
    expect(page.locator("#title")).to_have_text("现场上报")

    def release(number: int) -> None:
        words = {lang: dict(said) for lang, said in maps.field_page.WORDS.items()}
        words["zh"]["title"] = f"现场上报 {number}"
        monkeypatch.setattr(maps.field_page, "WORDS", words)

    release(2)
    page.reload()  # the old worker answers, and brings the new one in
    expect(page.locator("#title")).to_have_text("现场上报 2", timeout=WAIT_MS)
    release(3)
    pick(page, "elevator")
    page.fill("#address", "正在填")
    page.evaluate("navigator.serviceWorker.getRegistration().then((r) => r.update())")
    page.click("#update", timeout=WAIT_MS)
    expect(page.locator("#title")).to_have_text("现场上报 3", timeout=WAIT_MS)
    expect(page.locator("#address")).to_have_value("正在填")
    kept = page.evaluate("caches.keys()")
    assert len([one for one in kept if one.startswith("yutu-field-")]) == 1


def test_the_page_can_be_installed(field_site: Site, phone: BrowserContext) -> None:
    url, _, credentials = field_site
    watched = Watched(phone)
    page = visit(phone, url, credentials)
    devtools = phone.new_cdp_session(page)
    manifest = devtools.send("Page.getAppManifest")
    assert manifest["errors"] == []
    assert json.loads(manifest["data"])["start_url"] == "/field"
    problems = devtools.send("Page.getInstallabilityErrors")["installabilityErrors"]
    # a browser context of a test is a private window, where nothing is installed
    assert {one["errorId"] for one in problems} <= {"in-incognito"}
    assert watched.errors == []


def test_the_manifest_is_json_and_its_icons_are_there() -> None:
    manifest = json.loads((ASSETS_DIR / "yutu" / "field.webmanifest").read_text("utf-8"))
    assert {icon["purpose"] for icon in manifest["icons"]} == {"any", "maskable"}
    for icon in manifest["icons"]:
        assert (ASSETS_DIR / "yutu" / icon["src"].rsplit("/", 1)[1]).is_file()
    assert manifest["display"] == "standalone"
    assert manifest["id"] == "/field"
