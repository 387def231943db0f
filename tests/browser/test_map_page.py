"""The commander's map in a real browser: what is drawn, how fast it follows, that text stays text."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests import situations
from tests.browser.map_screen import CHENGKOU, HATCH, WANZHOU, WUXI, YUBEI, district, shown
from tests.browser.map_server import now

SIZES = {"1280x800": (1280, 800), "1920x1080": (1920, 1080), "phone": (390, 844)}


@pytest.mark.parametrize("lang", ["zh", "en"])
@pytest.mark.parametrize("embed", [False, True])
def test_37_districts_are_drawn_without_errors_or_requests_off_the_host(
    page, server, watch, lang, embed
):
    server.embed = embed
    server.incidents, server.outages = [situations.INCIDENT], [situations.OUTAGE]
    server.situation = situations.storm(2, now())
    shown(page, server, f"/?lang={lang}")
    expect(page.locator("path[data-adcode]")).to_have_count(37)
    expect(page.locator("#line")).to_have_attribute("data-state", "live")
    watch.check(server.url)
    assert page.locator("html").get_attribute("lang") == {"zh": "zh-CN", "en": "en"}[lang]


def test_shares_fall_into_the_plans_bins_and_absent_data_is_hatched(page, server):
    server.situation = situations.storm(2, now())
    shown(page, server)
    assert district(page, WUXI)["bin"] == "2", "exactly half is large-scale"
    assert district(page, CHENGKOU)["bin"] == "1", "just under half is partial"
    assert district(page, YUBEI)["bin"] == "0"
    assert district(page, WANZHOU)["fill"] == HATCH
    assert page.locator(".legend li .count").all_text_contents() == ["32", "3", "1", "1"]


def test_each_graded_district_carries_its_numeral_beside_its_colour(page, server):
    server.situation = situations.storm(2, now())
    shown(page, server)
    numerals = page.locator(".map-badge:visible").all_text_contents()
    assert sorted(numerals) == sorted(["Ⅲ", "Ⅳ", "Ⅳ", "Ⅳ"])
    for badge in page.locator("#plan-communications-2024 .badge, .verdict .badge").all():
        assert badge.text_content() == "Ⅲ"
    page.click("#plan-special-equipment-2023")
    assert district(page, "500107")["fill"] == "url(#fill-level-3)"
    assert page.locator(".map-badge:visible").all_text_contents() == ["Ⅲ"]


def test_a_change_is_seen_within_two_seconds_without_a_reload(page, server):
    shown(page, server)
    assert district(page, WUXI)["bin"] == "0"
    expect(page.locator("#line")).to_have_attribute("data-state", "live")
    page.evaluate("window.__same = true")
    started = time.monotonic()
    server.publish(situations.storm(2, now()))
    page.wait_for_selector(f'path[data-adcode="{WUXI}"][data-bin="2"][data-level="3"]')
    assert time.monotonic() - started < 2
    assert page.evaluate("window.__same") is True
    expect(page.locator(".verdict h2")).to_have_text("Ⅲ级")
    server.publish(situations.calm(3, now()))
    page.wait_for_selector(f'path[data-adcode="{WUXI}"][data-bin="0"][data-level=""]')
    assert page.locator(".map-badge:visible").count() == 0


def test_an_older_situation_never_replaces_a_newer_one(page, server):
    server.situation = situations.storm(5, now())
    shown(page, server)
    server.publish(situations.calm(4, now()))
    page.wait_for_timeout(600)
    assert district(page, WUXI)["bin"] == "2"


def test_findings_show_clause_value_threshold_districts_and_the_distance(page, server):
    server.situation = situations.storm(2, now())
    shown(page, server)
    first = page.locator("#reasons .finding").first
    expect(first).to_contain_text("§1.6.3(1)")
    expect(first.locator(".numbers b")).to_have_text("1 个区县 ≥ 50%")
    expect(first.locator(".place")).to_have_text("巫溪县50%")
    bounds = page.locator(".bounds")
    assert bounds.locator(".badge").all_text_contents() == ["Ⅲ", "Ⅱ"]
    nearest = page.locator("#reasons .finding.next").first
    expect(nearest).to_contain_text("§1.6.2(1)")
    entry = server.situation["plans"]["communications-2024"]["next"][0]
    need = entry["needs"][0]["facilities"]
    expect(nearest.locator(".needs li").first).to_have_text(f"城口县再增 {need} 处 即达到")
    further = entry["needs_total"] - 4
    expect(nearest.locator(".needs li").last).to_have_text(
        f"以上为所差最少者，另有 {further} 个区县未列出"
    )
    expect(page.locator(".undeclared li").first).to_contain_text("国家启动的涉本市响应等级")


def test_below_the_noise_floor_the_level_is_shown_without_alarm(page, server):
    server.situation = situations.storm(2, now())
    server.situation["plans"]["communications-2024"]["below_noise_floor"] = True
    shown(page, server)
    expect(page.locator(".verdict")).to_have_class(re.compile("calm"))
    expect(page.locator(".verdict .badge")).to_have_text("Ⅲ")
    expect(page.locator("#reasons .note")).to_contain_text("不作告警")


def test_losing_the_server_raises_a_banner_that_reconnecting_removes(page, server):
    shown(page, server)
    expect(page.locator("#line")).to_have_attribute("data-state", "live")
    server.stop()
    banner = page.locator("#connection")
    expect(banner).to_be_visible()
    expect(banner).to_have_text(re.compile(r"自 \d\d:\d\d:\d\d 起与服务器失去连接"))
    server.situation = situations.storm(9, now())
    server.start()
    expect(banner).to_be_hidden(timeout=20_000)
    page.wait_for_selector(f'path[data-adcode="{WUXI}"][data-bin="2"]')


def test_a_past_situation_says_so_and_follows_no_stream(page, server, watch):
    server.situation = situations.storm(2, "2026-11-20T10:00:00+08:00")
    shown(page, server, "/maps/power-outage-2021?at=2026-11-20T10:00:00%2B08:00")
    expect(page.locator("#past")).to_be_visible()
    expect(page.locator("#past-time")).to_have_text("2026-11-20 10:00:00")
    page.wait_for_timeout(300)
    assert not [path for path in server.asked if path.endswith("/stream")]
    asked = [url for url in watch.requests if "/v1/situation" in url]
    assert asked
    assert all("at=2026-11-20T10%3A00%3A00%2B08%3A00" in url for url in asked)


def test_the_age_of_the_data_ticks_and_synthetic_data_are_declared(page, server):
    shown(page, server)
    expect(page.locator("#synthetic")).to_contain_text("演示数据（合成）")
    before = page.locator("#age").text_content()
    assert re.fullmatch(r"\d+ 秒前更新", before or "")
    expect(page.locator("#age")).not_to_have_text(before or "")
    counted = {
        "inventory": {"facilities": 30_000, "synthetic": 29_999},
        "synthetic": 29_999 / 30_000,
    }
    server.publish(situations.calm(2, now()) | counted)
    expect(page.locator("#synthetic")).to_have_text(
        "含演示数据（合成），不反映真实情况：在册设施 30,000 处中的 29,999 处（99.9%）"
    )
    real = situations.calm(3, now()) | {"synthetic": False}
    server.publish(real)
    page.wait_for_selector('body[data-sequence="3"]')
    expect(page.locator("#synthetic")).to_be_hidden()


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_hostile_text_is_shown_as_text_and_never_runs(page, server, watch, lang):
    server.districts, server.situation = situations.hostile()
    evil = situations.HOSTILE[0]
    for kind in ("incidents", "outages"):
        feature = situations.INCIDENT if kind == "incidents" else situations.OUTAGE
        properties = feature["properties"] | {"kind": evil, "address": evil, "cause": evil}
        setattr(server, kind, [feature | {"properties": properties}])
    shown(page, server, f"/?lang={lang}")
    for plan in situations.PLANS:
        page.click(f"#plan-{plan}")
        for view in ("#view-table", "#view-reasons"):
            page.click(view)
    names = page.locator(".district-name").all_text_contents()
    assert set(names) == set(situations.HOSTILE)
    for adcode in (WUXI, CHENGKOU, WANZHOU):
        path = page.locator(f'path[data-adcode="{adcode}"]')
        path.dispatch_event("mouseover")
        path.dispatch_event("click")
        expect(page.locator("#card")).to_be_visible()
    page.hover(".incident-icon", force=True)
    expect(page.locator(".district-tip").first).to_be_visible()
    page.wait_for_timeout(300)
    assert page.evaluate("window.__owned") is None
    assert page.locator("body img, body svg[onload]").count() == 0
    assert page.locator("#card").get_by_text(evil, exact=True).count() > 0
    watch.check(server.url)


def test_the_policy_stops_a_script_that_got_into_the_page_all_the_same(page, server):
    shown(page, server)
    page.evaluate(
        """() => {
          const script = document.createElement('script');
          script.textContent = "window.__owned = 'inline'";
          document.body.append(script);
          document.body.insertAdjacentHTML('beforeend', '<img src="data:," onerror="window.__owned=1">');
        }"""
    )
    page.wait_for_timeout(300)
    assert page.evaluate("window.__owned") is None


def test_a_district_opens_by_keyboard_and_escape_gives_the_focus_back(page, server):
    server.situation = situations.storm(2, now())
    shown(page, server)
    page.locator(f'path[data-adcode="{WUXI}"]').focus()
    page.keyboard.press("Enter")
    card = page.locator("#card")
    expect(card).to_be_visible()
    expect(card).to_contain_text("巫溪县")
    row = card.locator("tbody tr", has_text="基站")
    assert row.locator("td").all_text_contents() == ["1,042", "12", "2,080", "50%"]
    assert card.locator(".card-levels .badge").all_text_contents() == ["Ⅲ", "Ⅲ", "–"]
    server.publish(situations.calm(3, now()))
    page.wait_for_selector('body[data-sequence="3"]')
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()
    assert page.evaluate("document.activeElement.dataset.adcode") == WUXI


def test_the_table_lists_every_district_and_zone_and_sorts_by_level(page, server):
    server.situation = situations.storm(2, now())
    shown(page, server)
    page.click("#view-table")
    rows = page.locator("#table tbody tr")
    expect(rows).to_have_count(38)
    levels = [int(row.get_attribute("data-level") or 9) for row in rows.all()]
    assert levels == sorted(levels)
    expect(rows.first).to_contain_text("巫溪县")
    page.click("#table th[aria-sort=ascending] button")
    levels = [int(row.get_attribute("data-level") or 9) for row in rows.all()]
    assert levels == sorted(levels, reverse=True)
    expect(page.locator("#table")).to_contain_text("万盛经开区")


def test_the_language_switch_is_remembered_in_a_cookie(page, server):
    shown(page, server)
    page.click("#language")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    cookies = {c["name"]: c["value"] for c in page.context.cookies()}
    assert cookies["yutu_lang"] == "en"


BOXES = """() => {
  const box = (node) => { const r = node.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
  const visible = (node) => node && !node.hidden && node.getClientRects().length > 0;
  const parts = {};
  for (const one of ['.top', '#synthetic', '#measures', '#legend', '.leaflet-control-zoom', '.leaflet-control-scale', '.panel']) {
    const node = document.querySelector(one);
    if (visible(node)) parts[one] = box(node);
  }
  const header = [...document.querySelectorAll('.brand, .plans button, .time, .tools')].filter(visible).map(box);
  const wide = document.documentElement.scrollWidth;
  return { parts, header, wide };
}"""


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("lang", ["zh", "en"])
def test_nothing_overlaps_or_overflows(browser, server, size, lang, tmp_path: Path):
    server.situation = situations.storm(2, now())
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height}, is_mobile=size == "phone", has_touch=True
    )
    page = context.new_page()
    shown(page, server, f"/?lang={lang}")
    page.wait_for_selector(".finding")
    page.wait_for_timeout(300)
    picture = tmp_path / f"map-{size}-{lang}.png"
    page.screenshot(path=picture)
    assert picture.stat().st_size > 20_000
    found = page.evaluate(BOXES)
    assert found["wide"] <= width
    assert {".top", "#measures", "#legend", ".panel"} <= found["parts"].keys()
    assert_apart(found["parts"])
    assert_apart(dict(enumerate(found["header"])))
    inside = page.locator("path[data-adcode]").evaluate_all(
        "(all, m) => all.filter((p) => { const r = p.getBoundingClientRect(); return r.left >= m[0] && r.right <= m[2] && r.top >= m[1] && r.bottom <= m[3]; }).length",
        page.locator(".map-area").evaluate(
            "n => { const r = n.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; }"
        ),
    )
    assert inside == 37, "the whole city is in view"
    context.close()


def assert_apart(boxes: dict) -> None:
    names = list(boxes)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            a, b = boxes[one], boxes[other]
            across = min(a[2], b[2]) - max(a[0], b[0])
            down = min(a[3], b[3]) - max(a[1], b[1])
            assert not (across > 1 and down > 1), f"{one} {a} overlaps {other} {b}"


# --- names ------------------------------------------------------------------------


def test_every_district_has_its_name_once_the_centre_fills_the_map(page, server):
    shown(page, server)
    names = page.locator(".district-name:visible")
    assert names.count() >= 30
    page.click("#centre")
    central = {"渝中", "渝中区", "大渡口区", "南岸区", "沙坪坝区", "九龙坡区"}
    page.wait_for_timeout(300)
    assert len(central & set(names.all_text_contents())) == 5


@pytest.mark.parametrize("size", SIZES)
def test_no_two_names_overlap(browser, server, size):
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    shown(page, server)
    for _ in range(3):
        boxes = page.locator(".district-name:visible").evaluate_all(
            "all => all.map((one) => { const b = one.getBoundingClientRect();"
            " return [b.left, b.top, b.right, b.bottom, one.textContent]; })"
        )
        assert len(boxes) > 10
        overlapping = [
            (a[4], b[4])
            for n, a in enumerate(boxes)
            for b in boxes[:n]
            if a[0] + 1 < b[2] and b[0] + 1 < a[2] and a[1] + 3 < b[3] and b[1] + 3 < a[3]
        ]
        assert overlapping == []
        page.click(".leaflet-control-zoom-in")
        page.wait_for_timeout(400)
    context.close()
