"""The field page on a phone, with the real application: filed without a network, sent once."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Dialog, Playwright, expect
from sqlalchemy import text

from data.photo import DISPLAY_TYPE
from data.rulepacks import load_packs
from maps.field_page import ASKED
from maps.field_words import KINDS, WORDS
from tests.browser.chromium import CHROMIUM, FLAGS
from tests.browser.field_site import (
    LAT,
    LON,
    PHONE,
    WAIT_MS,
    Site,
    Watched,
    count,
    photo,
    pick,
    sign_in,
    visit,
)
from tests.feeds import YUZHONG

pytestmark = pytest.mark.browser


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


def test_filed_without_a_network_the_browser_closed_all_arrive_once_and_a_refused_one_is_mended(
    field_site: Site, driver: Playwright, tmp_path: Path
) -> None:
    """The whole of it: one visit, no network, two incidents with a photo each and one that cannot
    be right, the browser ended and started again, the network back."""
    url, owner, credentials = field_site
    before, photos_before = count(owner, "incident"), count(owner, "attachment")

    def turn_on() -> tuple[BrowserContext, Watched]:
        context = driver.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=CHROMIUM, args=FLAGS, **PHONE
        )
        return context, Watched(context)

    device, first = turn_on()
    page = visit(device, url, credentials)
    page.screenshot(path=tmp_path / "1-empty.png")
    device.set_offline(True)
    page.reload()
    expect(page.locator("#line")).to_have_attribute("data-line", "offline")

    pick(page, "elevator")
    page.fill("#fact-people_stranded", "6")
    page.click("#locate")
    expect(page.locator("#place")).to_contain_text("渝中区")
    page.fill("#address", "解放碑 <img src=x onerror=window.owned=1>")
    page.set_input_files("#camera", photo())
    expect(page.locator("#photos img")).to_have_count(1)
    page.evaluate("window.scrollTo(0, 0)")
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
    page.set_input_files("#album", [photo()])
    page.click("button.send")
    expect(page.locator(".report.waiting")).to_have_count(2)

    pick(page, "special-equipment-2023")
    pick(page, "crane")
    page.locator("#fact-overturned").get_by_role("button", name="是", exact=True).click()
    page.click("#typed summary")
    page.fill("#position", f"{LAT}，{LON}")
    page.fill("#address", "某工地塔吊")
    page.set_input_files("#camera", photo())
    page.screenshot(path=tmp_path / "4-typed.png", full_page=True)
    page.click("button.send")
    expect(page.locator(".report.waiting")).to_have_count(3)
    page.screenshot(path=tmp_path / "5-waiting.png")
    assert count(owner, "incident") == before
    device.close()

    device, second = turn_on()
    device.set_offline(True)
    page = device.new_page()
    page.goto(f"{url}/field")
    expect(page.locator(".report.waiting")).to_have_count(3)
    page.screenshot(path=tmp_path / "6-opened-again.png")
    assert count(owner, "incident") == before
    device.set_offline(False)
    expect(page.locator(".report.sent")).to_have_count(2, timeout=WAIT_MS)
    refused = page.locator(".report.refused")
    expect(refused).to_have_count(1, timeout=WAIT_MS)
    expect(page.locator(".report.sent", has_text="照片 1/1 已送达")).to_have_count(
        2, timeout=WAIT_MS
    )
    expect(refused.locator("ul.why")).to_contain_text("对调")
    refused.scroll_into_view_if_needed()
    page.screenshot(path=tmp_path / "7-refused.png")
    assert count(owner, "incident") == before + 2
    assert count(owner, "attachment") == photos_before + 2

    made = refused.get_attribute("data-id")
    page.click(".report.refused button.mend")
    expect(page.locator("#position")).to_have_value(f"{LAT}，{LON}")
    expect(page.locator("#returned")).to_contain_text("对调")
    page.fill("#position", f"{LON}，{LAT}")
    page.evaluate("window.scrollTo(0, 0)")
    page.screenshot(path=tmp_path / "8-mending.png", full_page=True)
    page.click("button.send")
    expect(page.locator(f'.report.sent[data-id="{made}"]')).to_have_count(1, timeout=WAIT_MS)
    expect(page.locator(".report.sent", has_text="照片 1/1 已送达")).to_have_count(
        3, timeout=WAIT_MS
    )
    page.reload()
    expect(page.locator(".report.sent")).to_have_count(3)
    page.locator("#queue").scroll_into_view_if_needed()
    page.screenshot(path=tmp_path / "9-sent.png")
    page.screenshot(path=tmp_path / "9-sent-full.png", full_page=True)

    expect(page.locator(".report.sent", has_text="起重机械")).to_contain_text("Ⅲ级")
    expect(page.locator(".report.sent", has_text="基站")).to_contain_text("不单独定级")
    assert count(owner, "incident") == before + 3
    assert count(owner, "incident_conflict") == 0
    assert count(owner, "attachment") == photos_before + 3
    with owner.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT i.kind, i.adcode, i.account, i.accuracy_m, i.original_position,"
                " i.body->'facts' AS facts, a.media_type FROM incident i"
                " JOIN attachment a USING (incident_id) ORDER BY i.batch_id DESC LIMIT 3"
            )
        ).all()
    crane, station, lift = rows
    assert tuple(lift)[:4] == ("elevator", YUZHONG, "field", 15.0)
    assert (lift.original_position, lift.facts["people_stranded"]) == ([LON, LAT], 6)
    assert (station.kind, station.accuracy_m is not None) == ("base_station", True)
    assert (crane.kind, crane.adcode) == ("crane", YUZHONG)
    assert crane.original_position == f"{LON}，{LAT}"
    assert {row.media_type for row in rows} == {DISPLAY_TYPE}
    assert first.errors == second.errors == []
    assert page.evaluate("window.owned") is None
    asked = [*first.requests, *second.requests]
    assert [one for one in asked if not one.startswith((url, "blob:", "data:"))] == []
    device.close()


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


def test_signing_out_keeps_what_waits_for_its_own_account_and_says_so(
    field_site: Site, phone: BrowserContext, tmp_path: Path
) -> None:
    url, owner, credentials = field_site
    before = count(owner, "incident")
    page = visit(phone, url, credentials)
    expect(page.locator("#user")).to_have_text("field")
    leave, waiting = page.locator("#sign-out"), page.locator(".report.waiting")
    said: list[str] = []
    agree = False

    def answer(dialog: Dialog) -> None:
        said.append(dialog.message)
        dialog.accept() if agree else dialog.dismiss()

    page.on("dialog", answer)
    page.route("**/v1/incidents", lambda route: route.abort())
    pick(page, "boiler")
    page.fill("#address", "某厂锅炉房")
    page.click("button.send")
    expect(waiting).to_have_count(1)
    page.evaluate("window.scrollTo(0, 0)")
    page.screenshot(path=tmp_path / "signed-in.png")
    with page.expect_event("dialog"):
        leave.click()
    sure = WORDS["zh"]["sign_out_sure_one"].format(n=1, name="field")
    assert said == [sure]
    agree = True
    page.route("**/logout", lambda route: route.abort())
    with page.expect_event("dialog", lambda dialog: dialog.type == "alert"):
        leave.click()
    assert said == [sure, sure, WORDS["zh"]["sign_out_failed"]]
    page.unroute("**/logout")
    expect(leave).to_be_visible()
    assert page.request.get(f"{url}/v1/session").status == 200
    leave.click()
    page.wait_for_url(f"{url}/login?**")
    assert said[3:] == [sure]
    assert page.request.get(f"{url}/v1/session").status == 401

    page.unroute("**/v1/incidents")
    sign_in(page, credentials, "commander")
    page.wait_for_url(f"{url}/field")
    expect(page.locator("#user")).to_have_text("commander")
    expect(page.locator("#line")).to_have_attribute("data-line", "idle", timeout=WAIT_MS)
    expect(waiting).to_contain_text("由 field 填写")
    assert count(owner, "incident") == before
    leave.click()  # nothing of this account waits: it is not asked
    page.wait_for_url(f"{url}/login?**")
    sign_in(page, credentials)
    page.wait_for_url(f"{url}/field")
    expect(page.locator(".report.sent")).to_have_count(1, timeout=WAIT_MS)
    assert count(owner, "incident") == before + 1
    assert len(said) == 4


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
    pick(page, "elevator")
    page.click("#typed summary")
    expect(page.locator("#user")).to_have_text("field")
    expect(page.locator("#sign-out")).to_have_text("Sign out")
    page.screenshot(path=tmp_path / "8-english.png", full_page=True)
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, summary, select, input:not(.hidden-file), textarea, a")]
          .filter((one) => one.offsetParent && !one.closest(".leaflet-container"))
          .map((one) => [one.textContent, one.getBoundingClientRect().height])
          .filter(([, height]) => height < 48)"""
    )
    assert small == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
