"""What a commander reads off the map: labels in each other's way, open levels, who carries a level,
whether the line is live, and where a district of the list is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests import situations
from tests.browser.map_server import MapServer, now
from tests.browser.test_map_page import CHROMIUM, FLAGS, HATCH

SIZES = {"desk": (1440, 900), "small": (1280, 800), "phone": (390, 844)}
COMMS, POWER, SPECIAL = situations.PLANS
YUZHONG, DADUKOU, SHAPINGBA, JIULONGPO, NANAN = "500103", "500104", "500106", "500107", "500108"
CENTRE = {YUZHONG, DADUKOU, SHAPINGBA, JIULONGPO, NANAN}
WUXI, CHENGKOU = "500238", "500229"
HARMLESS = {"deaths": 0, "serious_injuries": 0, "direct_loss_yuan": 0}
LIFT = {"equipment": "elevator"}
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def server() -> Iterator[MapServer]:
    made = MapServer(situations.calm(1, now()))
    made.start()
    yield made
    made.stop()


@contextmanager
def shown(
    browser: Browser, server: MapServer, path: str = "/", size: str = "desk"
) -> Iterator[Page]:
    """The page on a screen of that size; no error and no request off the host by its end."""
    width, height = SIZES[size]
    phone = size == "phone"
    context = browser.new_context(
        viewport={"width": width, "height": height}, is_mobile=phone, has_touch=phone
    )
    context.set_default_timeout(10_000)
    page = context.new_page()
    errors: list[str] = []
    requests: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(server.url + path)
    page.wait_for_selector(f'body[data-sequence="{server.situation["sequence"]}"]')
    page.wait_for_timeout(300)
    yield page
    assert errors == []
    assert [url for url in requests if not url.startswith(("data:", server.url + "/"))] == []
    context.close()


def ago(**past: float) -> str:
    return (datetime.now(UTC) - timedelta(**past)).isoformat(timespec="seconds")


# --- labels -----------------------------------------------------------------------------------

BOXES = """() => {
  const home = (node) => node.closest('.inset') ? 'inset' : 'map';
  const frame = { map: document.querySelector('.map-area').getBoundingClientRect() };
  const found = [];
  for (const node of document.querySelectorAll('.map-badge, .district-name, .incident-icon .badge, .inset-incident .badge')) {
    if (node.hidden || !node.getClientRects().length) continue;
    const r = node.getBoundingClientRect();
    found.push({ on: home(node), text: node.textContent, kind: node.className.split(' ')[0] === 'badge' ? 'incident' : node.className.split(' ')[0],
      box: [r.left, r.top, r.right, r.bottom] });
  }
  return found;
}"""


def overlaps(labels: list[dict[str, Any]], slack_px: float = 2.5) -> list[tuple[str, str]]:
    """Pairs that lie on one another by more than their shadows, incidents among themselves not."""
    found = []
    for one, other in combinations(labels, 2):
        if one["on"] != other["on"] or one["kind"] == other["kind"] == "incident":
            continue
        a, b = one["box"], other["box"]
        across = min(a[2], b[2]) - max(a[0], b[0])
        down = min(a[3], b[3]) - max(a[1], b[1])
        if across > slack_px and down > slack_px:
            found.append((one["text"], other["text"]))
    return found


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("lang", ["zh", "en"])
def test_no_badge_covers_a_name_another_badge_or_an_incident(browser, server, size, lang):
    server.situation = situations.in_the_centre(2, now())
    server.incidents = situations.with_incidents(
        server.situation,
        [
            ("a", YUZHONG, LIFT | HARMLESS | {"people_stranded": 6, "stranded_hours": 3}),
            ("b", SHAPINGBA, {"equipment": "crane", "overturned": True} | HARMLESS),
            ("c", WUXI, {"equipment": "boiler", "exploded": True}),
        ],
    )
    with shown(browser, server, f"/?lang={lang}", size) as page:
        for plan, graded in ((COMMS, 5), (SPECIAL, 3)):
            page.click(f"#plan-{plan}")
            for view in ("#whole", "#centre", ".leaflet-control-zoom-out"):
                page.click(view)
                page.wait_for_timeout(400)
                labels = page.evaluate(BOXES)
                assert overlaps(labels) == [], (plan, view)
                badges = [one for one in labels if one["kind"] == "map-badge"]
                # every level once, be it on the map or in the enlarged centre
                assert len(badges) == graded, (plan, view)


def test_the_fill_of_a_small_district_is_seen_beside_its_badge(browser, server):
    server.situation = situations.in_the_centre(2, now())
    with shown(browser, server) as page:
        for where in ("path[data-inset-adcode='{}']", "path[data-adcode='{}']"):
            path = page.locator(where.format(YUZHONG))
            ground = path.bounding_box()
            share = 0.0
            for label in page.evaluate(BOXES):
                a = label["box"]
                x = min(a[2], ground["x"] + ground["width"]) - max(a[0], ground["x"])
                y = min(a[3], ground["y"] + ground["height"]) - max(a[1], ground["y"])
                share += max(x, 0) * max(y, 0) / (ground["width"] * ground["height"])
            assert share < 0.35, where
            page.click("#centre")
            page.wait_for_timeout(300)


def test_the_border_between_two_districts_has_the_graver_ones_colour(browser, server):
    server.situation = situations.in_the_centre(2, now())
    with shown(browser, server) as page:
        levels = page.locator("path[data-adcode]").evaluate_all(
            "all => all.map((p) => Number(p.dataset.level || 9))"
        )
        assert levels == sorted(levels, reverse=True), "the gravest is drawn last"
        assert levels[-2:] == [3, 3]


# --- the enlarged centre ----------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_the_centre_is_readable_while_the_whole_city_is_in_view(browser, server, size):
    server.situation = situations.in_the_centre(2, now())
    with shown(browser, server, size=size) as page:
        inset = page.locator("#inset")
        expect(inset).to_be_visible()
        expect(page.locator("path[data-adcode]")).to_have_count(37)
        badges = inset.locator(".map-badge:visible").all_text_contents()
        assert sorted(badges) == ["Ⅲ", "Ⅲ", "Ⅳ", "Ⅳ", "Ⅳ"]
        names = set(inset.locator(".district-name:visible").all_text_contents())
        assert len({name[:2] for name in names} & {"渝中", "大渡", "沙坪", "九龙", "南岸"}) == 5
        box, ground = inset.bounding_box(), page.locator(".map-area").bounding_box()
        assert box["x"] >= ground["x"]
        assert box["y"] + box["height"] <= ground["y"] + ground["height"]
        districts = page.locator("path[data-adcode]").evaluate_all(
            """(all, b) => all.filter((p) => { const m = p.getScreenCTM(); const n = p.getTotalLength();
              for (let at = 0; at < n; at += 4) { const q = p.getPointAtLength(at).matrixTransform(m);
                if (q.x > b[0] && q.x < b[2] && q.y > b[1] && q.y < b[3]) return true; } return false; }).length""",
            [box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]],
        )
        assert districts == 0, "it stands where the city is not"
        page.click("#centre")
        expect(inset).to_be_hidden()
        page.click("#whole")
        expect(inset).to_be_visible()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("lang", ["zh", "en"])
def test_each_central_district_is_named_also_when_nothing_happens(browser, server, lang, size):
    with shown(browser, server, f"/?lang={lang}", size) as page:
        names = page.locator("#inset .district-name:visible").all_text_contents()
        known = {
            f["properties"]["name" if lang == "zh" else "name_en"]
            for f in server.districts["features"]
            if f["properties"]["adcode"] in CENTRE
        }
        assert {next(k for k in known if k.startswith(n)) for n in names} == known
        assert overlaps(page.evaluate(BOXES)) == []


def test_the_enlarged_centre_follows_the_news_and_leads_to_its_districts(browser, server):
    with shown(browser, server) as page:
        inset = page.locator(f"[data-inset-adcode='{YUZHONG}']")
        main = page.locator(f"path[data-adcode='{YUZHONG}']")
        server.publish(situations.in_the_centre(2, now()))
        page.wait_for_selector(f"[data-inset-adcode='{YUZHONG}'][data-bin='2'][data-level='3']")
        assert inset.get_attribute("fill") == main.get_attribute("fill")
        page.click(f"#plan-{POWER}")
        assert inset.get_attribute("data-level") == main.get_attribute("data-level") == ""
        inset.click()
        expect(page.locator("#card")).to_contain_text("渝中区")
        expect(page.locator("#inset")).to_be_hidden()
        assert main.bounding_box()["width"] > 150


def test_absent_data_is_hatched_in_the_enlarged_centre_too(browser, server):
    server.situation = situations.calm(1, now())
    situations.district(server.situation, NANAN)["facilities"] = {}
    with shown(browser, server) as page:
        assert page.locator(f"[data-inset-adcode='{NANAN}']").get_attribute("fill") == HATCH


# --- a district of the list -------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("adcode", [YUZHONG, WUXI])
def test_a_district_picked_in_the_list_is_brought_into_view_beside_its_card(
    browser, server, size, adcode
):
    server.situation = situations.storm(2, now())
    with shown(browser, server, size=size) as page:
        path = page.locator(f"path[data-adcode='{adcode}']")
        before = path.bounding_box()["width"]
        page.click("#view-table")
        page.locator(f"#table tr[data-adcode='{adcode}'] button").click()
        expect(page.locator("#card")).to_be_visible()
        page.wait_for_timeout(300)
        found, card = path.bounding_box(), page.locator("#card").bounding_box()
        ground = page.locator(".map-area").bounding_box()
        assert found["width"] > 1.3 * before
        assert found["x"] >= ground["x"]
        assert found["x"] + found["width"] <= ground["x"] + ground["width"]
        assert found["y"] >= max(ground["y"], 0)
        if size == "phone":
            assert found["y"] + found["height"] <= card["y"]
        else:
            assert found["x"] >= card["x"] + card["width"]
            assert found["y"] + found["height"] <= ground["y"] + ground["height"]


def test_a_district_named_in_a_reason_is_brought_into_view_too(browser, server):
    server.situation = situations.storm(2, now())
    with shown(browser, server) as page:
        before = page.locator(f"path[data-adcode='{WUXI}']").bounding_box()["width"]
        page.locator("#reasons .finding .place", has_text="巫溪县").first.click()
        expect(page.locator("#card")).to_contain_text("巫溪县")
        assert page.locator(f"path[data-adcode='{WUXI}']").bounding_box()["width"] > 1.3 * before


def test_a_banner_or_a_new_window_size_leaves_the_view_where_the_commander_put_it(browser, server):
    with shown(browser, server) as page:
        centre = "Object.entries(window).find(([k]) => k.startsWith('map_'))[1].getZoom()"
        whole = page.evaluate(centre)
        page.click("#centre")
        near = page.evaluate(centre)
        assert near > whole + 1
        server.stop()
        expect(page.locator("#connection")).to_be_visible()
        page.set_viewport_size({"width": 1300, "height": 860})
        page.wait_for_timeout(300)
        assert page.evaluate(centre) == near
        page.click("#whole")
        page.set_viewport_size({"width": 1000, "height": 700})
        page.wait_for_timeout(300)
        assert page.evaluate(centre) < whole, "the whole city stays in view"


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
    with shown(browser, server, f"/maps/{SPECIAL}?lang={lang}") as page:
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
    with shown(browser, server, f"/maps/{SPECIAL}?lang={lang}") as page:
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
    with shown(browser, server, f"/?lang={lang}") as page:
        expect(page.locator(".bounds .quiet")).to_have_text(re.compile(f"[：:] ?{words}[）)]$"))


def test_no_reason_is_made_up_where_none_is_given(browser, server):
    unsettled(server)
    server.situation["plans"][SPECIAL]["unknown"] = []
    server.situation["plans"][COMMS] |= {"bounds": {"at_least": None, "at_most": 4}, "unknown": []}
    with shown(browser, server) as page:
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
    with shown(browser, server, f"/maps/{SPECIAL}") as page:
        expect(page.locator(".verdict h2")).to_have_text("等级未定")
        expect(page.locator(".verdict .badge")).to_have_text("?")
        expect(page.locator(f"#plan-{SPECIAL}")).to_contain_text("等级未定")
        assert page.locator(".bearers").count() == 0
        server.publish(situations.calm(3, now()))
        expect(page.locator(".verdict h2")).to_have_text("未达到分级标准")


def test_the_incidents_that_carry_the_level_are_named_and_lead_to_the_map(browser, server):
    unsettled(server)
    with shown(browser, server, f"/maps/{SPECIAL}") as page:
        bearers = page.locator(".bearers")
        expect(bearers).to_contain_text("决定等级的事件（2）")
        said = sorted(bearers.locator("button").all_text_contents())
        assert said == sorted(["起重机械沙坪坝区", "锅炉巫溪县"])
        bearers.locator("[data-bearer=crane]").click()
        expect(page.locator(".district-tip", has_text="起重机械")).to_be_visible()
        lon, lat = server.incidents[2]["geometry"]["coordinates"]
        middle = page.evaluate(
            "Object.entries(window).find(([k]) => k.startsWith('map_'))[1].getCenter()"
        )
        assert (middle["lng"], middle["lat"]) == pytest.approx((lon, lat), abs=0.01)


def test_who_may_not_read_incidents_still_sees_where_those_with_the_level_are(browser, server):
    unsettled(server)
    server.incidents = None
    with shown(browser, server, f"/maps/{SPECIAL}") as page:
        bearers = page.locator(".bearers")
        assert bearers.locator("button").count() == 0
        assert sorted(bearers.locator(".place").all_text_contents()) == [
            "事件巫溪县",
            "事件沙坪坝区",
        ]


# --- figures and words ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lang", "words"), [("zh", "停电影响人口（估算）"), ("en", "People without power (estimate)")]
)
def test_people_are_said_to_be_without_power_and_listed_under_that_plan_only(
    browser, server, lang, words
):
    server.situation = situations.storm(2, now())
    with shown(browser, server, f"/?lang={lang}") as page:
        page.click("#view-table")
        for plan, listed in ((COMMS, 0), (POWER, 1), (SPECIAL, 0)):
            page.click(f"#plan-{plan}")
            assert page.locator("#table th", has_text=words).count() == listed, plan
        page.locator(f"path[data-adcode='{WUXI}']").dispatch_event("click")
        row = page.locator("#card tr", has_text=words)
        expect(row.locator("td").first).to_have_text("41,000")


def test_one_is_told_in_the_singular(browser, server):
    server.situation = situations.storm(2, now())
    entry = next(e for e in server.situation["plans"][COMMS]["next"] if e.get("needs"))
    entry["needs"] = [{"adcode": CHENGKOU, "facilities": 1}, {"adcode": WUXI, "facilities": 2}]
    entry["needs_total"] = 3
    with shown(browser, server, "/?lang=en") as page:
        needs = page.locator("#reasons .needs").first.locator("li").all_text_contents()
        assert needs == [
            "Chengkou1 facility more would reach it",
            "Wuxi2 facilities more would reach it",
            "those that need least; 1 more district is not listed",
        ]
        told = page.locator("#reasons").inner_text()
        assert re.findall(r"\b1 (?:facilities|districts|customers|units|people)\b", told) == []
        expect(page.locator("#reasons .finding .numbers b").first).to_have_text(
            "1 district at 50% or more"
        )


@pytest.mark.parametrize(
    ("unit", "one", "two"),
    [
        ("facility", "1 facility", "2 facilities"),
        ("customer", "1 customer", "2 customers"),
        ("person", "1 person", "2 people"),
        ("district", "1 district", "2 districts"),
        ("MW", "1 MW", "2 MW"),
        ("h", "1 h", "2 h"),
    ],
)
def test_units_agree_with_their_number(browser, server, unit, one, two):
    with shown(browser, server, "/?lang=en") as page:
        told = page.evaluate(
            """async (unit) => {
              const { AssessmentPanel } = await import('/static/yutu/assessment.js');
              const { speaker } = await import('/static/yutu/dom.js');
              const words = JSON.parse(document.getElementById('yutu-page').textContent).words;
              const panel = new AssessmentPanel({ root: document.createElement('div'), say: speaker(words) });
              return [panel.quantity(1, unit), panel.quantity(2, unit), panel.quantity(0.01, 'share', true)];
            }""",
            unit,
        )
    assert told == [one, two, "1 percentage point"]


# --- live, and cut ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lang", "past", "said"),
    [
        ("zh", {"minutes": 12.2}, r"\d\d:\d\d 以来无变化（12 分钟）"),
        ("zh", {"hours": 3.04}, r"\d\d:\d\d 以来无变化（3 小时 2 分）"),
        ("en", {"minutes": 1.2}, r"nothing new since \d\d:\d\d \(1 min\)"),
        ("en", {"days": 2, "hours": 5.1}, r"nothing new since \d\d:\d\d \(2 d 5 h\)"),
    ],
)
def test_a_live_line_without_news_says_since_when_nothing_came(browser, server, lang, past, said):
    server.situation = situations.calm(1, ago(**past))
    with shown(browser, server, f"/?lang={lang}") as page:
        live = {"zh": "实时连接", "en": "Live"}[lang]
        expect(page.locator("#line-words")).to_have_text(live)
        expect(page.locator("#age")).to_have_text(re.compile(f"^{said}$"))
        as_of = page.locator("#as-of").text_content() or ""
        assert as_of[11:16] in (page.locator("#age").text_content() or "")
        server.publish(situations.calm(2, now()))
        fresh = {"zh": r"^\d+ 秒前更新$", "en": r"^changed \d+ s ago$"}[lang]
        expect(page.locator("#age")).to_have_text(re.compile(fresh))


@pytest.mark.parametrize("size", ["desk", "phone"])
@pytest.mark.parametrize(
    ("lang", "cut", "before"), [("zh", "连接中断", "断线前"), ("en", "Connection lost", "before the cut")]
)  # fmt: skip
def test_a_cut_line_never_says_that_nothing_is_new(browser, server, lang, cut, before, size):
    server.situation = situations.storm(1, ago(minutes=20))
    with shown(browser, server, f"/?lang={lang}", size) as page:
        expect(page.locator("#line")).to_have_attribute("data-state", "live")
        server.stop()
        expect(page.locator("#line")).to_have_attribute("data-state", "lost")
        expect(page.locator("#line-words")).to_have_text(cut)
        expect(page.locator("#line")).to_have_attribute("aria-label", cut)
        expect(page.locator("#age")).to_contain_text(before)
        expect(page.locator("#age")).not_to_contain_text(re.compile("无变化|nothing new"))
        if size == "phone":  # also seen from far down the page
            page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        expect(page.locator("#connection")).to_be_in_viewport()


def test_a_past_map_speaks_of_no_line(browser, server):
    server.situation = situations.storm(2, "2026-11-20T10:00:00+08:00")
    with shown(browser, server, "/?at=2026-11-20T10:00:00%2B08:00") as page:
        expect(page.locator("#line-words")).to_have_text("")
        expect(page.locator("#age")).to_have_text("")


@pytest.mark.parametrize("lang", ["zh", "en"])
@pytest.mark.parametrize("size", SIZES)
def test_the_page_is_no_wider_than_the_screen_however_long_nothing_came(
    browser, server, lang, size
):
    server.situation = situations.in_the_centre(1, ago(days=12, hours=23))
    with shown(browser, server, f"/?lang={lang}", size) as page:
        page.click(f"#plan-{POWER}")
        page.click("#view-table")
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
        heights = page.locator("#table tbody tr").evaluate_all(
            "all => all.filter((one) => /^[^ ]{2,10}$/.test(one.cells[0].textContent)"
            " && !one.cells[0].textContent.includes('自治')).map((one) => one.getBoundingClientRect().height)"
        )
        assert len(heights) > 25
        assert max(heights) < 40, "no name is broken over lines"
