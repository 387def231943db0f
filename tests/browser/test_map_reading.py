"""What a commander reads off the map: where a district of the list is, figures and words, and whether
the line is live."""

from __future__ import annotations

import random
import re
from fractions import Fraction

import pytest
from playwright.sync_api import expect

from maps.legend import Measure
from tests import situations
from tests.browser.map_screen import (
    CHENGKOU,
    COMMS,
    POWER,
    SIZES,
    SPECIAL,
    WUXI,
    YUZHONG,
    ago,
    screen,
    shown,
)
from tests.browser.map_server import now

# --- a district of the list -------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("adcode", [YUZHONG, WUXI])
def test_a_district_picked_in_the_list_is_brought_into_view_beside_its_card(
    browser, server, size, adcode
):
    server.situation = situations.storm(2, now())
    with screen(browser, server, size=size) as page:
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
    with screen(browser, server) as page:
        before = page.locator(f"path[data-adcode='{WUXI}']").bounding_box()["width"]
        page.locator("#reasons .finding .place", has_text="巫溪县").first.click()
        expect(page.locator("#card")).to_contain_text("巫溪县")
        assert page.locator(f"path[data-adcode='{WUXI}']").bounding_box()["width"] > 1.3 * before


def test_a_banner_or_a_new_window_size_leaves_the_view_where_the_commander_put_it(browser, server):
    with screen(browser, server) as page:
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


# --- figures and words ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lang", "words"), [("zh", "停电影响人口（估算）"), ("en", "People without power (estimate)")]
)
def test_people_are_said_to_be_without_power_and_listed_under_that_plan_only(
    browser, server, lang, words
):
    server.situation = situations.storm(2, now())
    with screen(browser, server, f"/?lang={lang}") as page:
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
    with screen(browser, server, "/?lang=en") as page:
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
    with screen(browser, server, "/?lang=en") as page:
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


def test_the_page_and_the_service_put_a_share_into_the_same_bin(page, server):
    shown(page, server)
    edges = (Fraction(2, 5), Fraction(1, 2), Fraction(3, 5))
    measure = Measure("m", "facilities", "", "", edges)
    source = random.Random(17)
    cases = [(0, 1), (1, 2), (49, 99), (50, 99), (1, 10**6), (10**6, 10**6)]
    for _ in range(2000):
        whole = source.randint(1, 10**6)
        cases.append(
            (
                min(
                    whole,
                    source.choice([whole * 2 // 5, whole // 2, whole * 3 // 5])
                    + source.randint(-1, 1),
                ),
                whole,
            )
        )
    cases = [(max(part, 0), whole) for part, whole in cases]
    found = page.evaluate(
        """async ([cases, edges]) => {
          const { binOf } = await import('/static/yutu/choropleth.js');
          return cases.map(([part, whole]) => binOf({ edges }, { part, whole }));
        }""",
        [cases, [{"num": e.numerator, "den": e.denominator} for e in edges]],
    )
    assert found == [measure.bin_of(part, whole) for part, whole in cases]


def test_a_share_is_never_rounded_over_a_threshold(page, server):
    shown(page, server)
    shares = [0, 0.00001, 0.0049, 0.005, 0.29, 0.49999, 0.5, 0.9999, 1, None]
    shown_as = page.evaluate(
        "async (s) => { const { percent } = await import('/static/yutu/dom.js'); return s.map(percent); }",
        shares,
    )
    assert shown_as == [
        "0%",
        "<0.01%",
        "0.49%",
        "0.5%",
        "29%",
        "49.9%",
        "50%",
        "99.9%",
        "100%",
        "—",
    ]


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
    with screen(browser, server, f"/?lang={lang}") as page:
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
    with screen(browser, server, f"/?lang={lang}", size) as page:
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
    with screen(browser, server, "/?at=2026-11-20T10:00:00%2B08:00") as page:
        expect(page.locator("#line-words")).to_have_text("")
        expect(page.locator("#age")).to_have_text("")


@pytest.mark.parametrize("lang", ["zh", "en"])
@pytest.mark.parametrize("size", SIZES)
def test_the_page_is_no_wider_than_the_screen_however_long_nothing_came(
    browser, server, lang, size
):
    server.situation = situations.in_the_centre(1, ago(days=12, hours=23))
    with screen(browser, server, f"/?lang={lang}", size) as page:
        page.click(f"#plan-{POWER}")
        page.click("#view-table")
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
        heights = page.locator("#table tbody tr").evaluate_all(
            "all => all.filter((one) => /^[^ ]{2,10}$/.test(one.cells[0].textContent)"
            " && !one.cells[0].textContent.includes('自治')).map((one) => one.getBoundingClientRect().height)"
        )
        assert len(heights) > 25
        assert max(heights) < 40, "no name is broken over lines"
