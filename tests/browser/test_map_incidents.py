"""Open incidents on the commander's map: the list, whose level is open, and who carries a level."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests import situations
from tests.browser.map_screen import (
    CHENGKOU,
    COMMS,
    HARMLESS,
    LIFT,
    NANAN,
    SHAPINGBA,
    SPECIAL,
    WUXI,
    middle,
    screen,
    shown,
)
from tests.browser.map_server import MapServer, now


def incident(number: int, **more: object) -> dict[str, object]:
    properties = situations.INCIDENT["properties"] | {"incident_id": f"id-{number}"} | more
    geometry = situations.INCIDENT["geometry"]
    return {
        "type": "Feature",
        "geometry": properties.pop("geometry", geometry),
        "properties": properties,
    }


def test_open_incidents_are_listed_gravest_first_and_shown_on_the_map(page, server):
    server.incidents = [
        incident(1, kind="boiler", level=None, state="active", adcode=None, geometry=None),
        incident(2, kind="elevator", level=4, occurred_at="2026-11-21T01:00:00+08:00"),
        incident(3, kind="elevator", level=4, occurred_at="2026-11-21T03:00:00+08:00"),
        incident(4, kind="crane", level=2, possible=True),
        incident(5, kind="crane", level=2, state="reported", address="某工地"),
        incident(6, kind="crane", level=1, state="resolved"),
        incident(7, kind="base_station", level=None, plan="communications-2024"),
    ]
    shown(page, server, "/maps/special-equipment-2023")
    rows = page.locator("#open-incidents .incident")
    expect(rows).to_have_count(5)
    assert rows.evaluate_all("all => all.map((one) => one.dataset.incident)") == [
        "id-5", "id-4", "id-3", "id-2", "id-1",
    ]  # fmt: skip
    for said in ("起重机械", "九龙坡区", "待核实", "2026-11-21 02:00", "某工地"):
        expect(rows.nth(0)).to_contain_text(said)
    expect(rows.nth(1)).to_contain_text("可能发生")
    expect(rows.nth(4)).to_contain_text("未落图")
    expect(rows.nth(4)).to_be_disabled()
    page.click('[data-incident="id-3"]')
    expect(page.locator(".district-tip", has_text="电梯")).to_be_visible()
    lon, lat = situations.INCIDENT["geometry"]["coordinates"]
    assert middle(page) == pytest.approx((lon, lat), abs=0.01)


def test_the_list_follows_the_plan_and_news(page, server):
    server.incidents = [incident(1, kind="crane", level=3)]
    shown(page, server)
    assert page.locator("#open-incidents").count() == 0, "another plan's"
    page.click("#plan-special-equipment-2023")
    expect(page.locator("#open-incidents .incident")).to_have_count(1)
    server.incidents.append(incident(2, kind="elevator", level=4))
    server.publish(situations.calm(2, now()), "incident")
    expect(page.locator("#open-incidents .incident")).to_have_count(2)
    expect(page.locator(".incident-icon")).to_have_count(2)


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_hostile_text_of_an_incident_is_only_text(page, server, watch, lang):
    server.outages = []
    for text in situations.HOSTILE:
        server.incidents = [incident(1, kind=text, address=text, state=text, adcode=text)]
        shown(page, server, f"/maps/special-equipment-2023?lang={lang}")
        expect(page.locator("#open-incidents .incident b")).to_have_text(text)
        page.click("#open-incidents .incident")
        assert page.evaluate("window.__owned") is None
    assert watch.errors == []


# --- open levels, and who carries one ---------------------------------------------------------


def unsettled(server: MapServer) -> None:
    server.situation = situations.calm(2, now())
    server.incidents = situations.with_incidents(
        server.situation,
        [
            ("vague", NANAN, LIFT | {"people_stranded": 3}),
            ("none", CHENGKOU, LIFT | HARMLESS | {"people_stranded": 0, "stranded_hours": 0}),
            ("crane", SHAPINGBA, {"equipment": "crane"} | HARMLESS | {"deaths": 4}),
            ("boiler", WUXI, {"equipment": "boiler", "exploded": True}),
        ],
    )


@pytest.mark.parametrize(
    ("lang", "wholly", "above", "row"),
    [
        ("zh", "等级未定：信息不全，介于未达等级与Ⅰ级之间", "信息不全，最高可达Ⅰ级", "等级未定的事件（1）"),
        ("en", "Level open, facts missing: between none and Level Ⅰ", "Facts missing: up to Level Ⅰ", "Incidents whose level is open (1)"),
    ],
)  # fmt: skip
def test_an_incident_with_unknown_facts_says_that_its_level_is_open(
    browser, server, lang, wholly, above, row
):
    unsettled(server)
    with screen(browser, server, f"/maps/{SPECIAL}?lang={lang}") as page:
        rows = page.locator("#open-incidents .incident")
        order = rows.evaluate_all("all => all.map((one) => one.dataset.incident)")
        assert sorted(order[:2]) == ["boiler", "crane"]
        assert order[2:] == ["vague", "none"], "what may be grave before what is certainly not"
        badges = [one.locator(".badge").text_content() for one in rows.all()]
        assert badges == ["Ⅲ", "Ⅲ", "?", "–"]
        expect(page.locator("[data-incident=vague] .open-level")).to_have_text(wholly)
        expect(page.locator("[data-incident=boiler] .open-level")).to_have_text(above)
        assert page.locator("[data-incident=crane] .open-level").count() == 0
        assert page.locator("[data-incident=none] .open-level").count() == 0
        title = page.locator("[data-incident=vague] .open-level").get_attribute("title") or ""
        assert {"zh": "死亡人数", "en": "deaths"}[lang] in title
        icons = page.locator(".incident-icon .badge").all_text_contents()
        assert sorted(icons) == sorted(["?", "–", "Ⅲ", "Ⅲ"])
        expect(page.locator("#legend-body")).to_contain_text(row)
        page.click("[data-incident=vague]")
        expect(page.locator(".district-tip", has_text=wholly)).to_be_visible()


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_the_reason_for_the_bounds_names_the_unknown_facts_of_the_incidents(browser, server, lang):
    unsettled(server)
    with screen(browser, server, f"/maps/{SPECIAL}?lang={lang}") as page:
        bounds = page.locator(".bounds")
        assert bounds.locator(".badge").all_text_contents() == ["Ⅲ", "Ⅰ"]
        for name in {"zh": ("死亡人数", "重伤"), "en": ("deaths", "serious injuries")}[lang]:
            expect(bounds).to_contain_text(name)
        for wrong in ("状态不明的设施", "facilities in unknown state"):
            expect(bounds).not_to_contain_text(wrong)


@pytest.mark.parametrize(
    ("lang", "words"), [("zh", "状态不明的设施"), ("en", "facilities in unknown state")]
)
def test_the_reason_for_the_bounds_of_counted_facilities_are_those_not_known(
    browser, server, lang, words
):
    server.situation = situations.storm(2, now())
    assert "districts[500229].facilities_down" in server.situation["plans"][COMMS]["unknown"]
    with screen(browser, server, f"/?lang={lang}") as page:
        expect(page.locator(".bounds .quiet")).to_have_text(re.compile(f"[：:] ?{words}[）)]$"))


def test_no_reason_is_made_up_where_none_is_given(browser, server):
    unsettled(server)
    server.situation["plans"][SPECIAL]["unknown"] = []
    server.situation["plans"][COMMS] |= {"bounds": {"at_least": None, "at_most": 4}, "unknown": []}
    with screen(browser, server) as page:
        expect(page.locator(".bounds")).to_contain_text("状态不明的设施")
        expect(page.locator(".bounds b")).to_have_text("未达等级")
        page.click(f"#plan-{SPECIAL}")
        assert page.locator(".bounds .badge").all_text_contents() == ["Ⅲ", "Ⅰ"]
        assert page.locator(".bounds .quiet").count() == 0


def test_with_only_open_incidents_the_plans_level_is_open(browser, server):
    server.situation = situations.calm(2, now())
    server.incidents = situations.with_incidents(
        server.situation, [("vague", NANAN, LIFT | {"people_stranded": 3})]
    )
    with screen(browser, server, f"/maps/{SPECIAL}") as page:
        expect(page.locator(".verdict h2")).to_have_text("等级未定")
        expect(page.locator(".verdict .badge")).to_have_text("?")
        expect(page.locator(f"#plan-{SPECIAL}")).to_contain_text("等级未定")
        assert page.locator(".bearers").count() == 0
        server.publish(situations.calm(3, now()))
        expect(page.locator(".verdict h2")).to_have_text("未达到分级标准")


def test_the_incidents_that_carry_the_level_are_named_and_lead_to_the_map(browser, server):
    unsettled(server)
    with screen(browser, server, f"/maps/{SPECIAL}") as page:
        bearers = page.locator(".bearers")
        expect(bearers).to_contain_text("决定等级的事件（2）")
        said = sorted(bearers.locator("button").all_text_contents())
        assert said == sorted(["起重机械沙坪坝区", "锅炉巫溪县"])
        bearers.locator("[data-bearer=crane]").click()
        expect(page.locator(".district-tip", has_text="起重机械")).to_be_visible()
        lon, lat = server.incidents[2]["geometry"]["coordinates"]
        assert middle(page) == pytest.approx((lon, lat), abs=0.01)


def test_who_may_not_read_incidents_still_sees_where_those_with_the_level_are(browser, server):
    unsettled(server)
    server.incidents = None
    with screen(browser, server, f"/maps/{SPECIAL}") as page:
        bearers = page.locator(".bearers")
        assert bearers.locator("button").count() == 0
        assert sorted(bearers.locator(".place").all_text_contents()) == [
            "事件巫溪县",
            "事件沙坪坝区",
        ]
