"""Labels of the commander's map in each other's way, and the enlarged centre."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from playwright.sync_api import expect

from tests import situations
from tests.browser.map_screen import (
    COMMS,
    DADUKOU,
    HARMLESS,
    HATCH,
    JIULONGPO,
    LIFT,
    NANAN,
    POWER,
    SHAPINGBA,
    SIZES,
    SPECIAL,
    WUXI,
    YUZHONG,
    screen,
)
from tests.browser.map_server import now

CENTRE = {YUZHONG, DADUKOU, SHAPINGBA, JIULONGPO, NANAN}
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
    with screen(browser, server, f"/?lang={lang}", size) as page:
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
    with screen(browser, server) as page:
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
    with screen(browser, server) as page:
        levels = page.locator("path[data-adcode]").evaluate_all(
            "all => all.map((p) => Number(p.dataset.level || 9))"
        )
        assert levels == sorted(levels, reverse=True), "the gravest is drawn last"
        assert levels[-2:] == [3, 3]


# --- the enlarged centre ----------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_the_centre_is_readable_while_the_whole_city_is_in_view(browser, server, size):
    server.situation = situations.in_the_centre(2, now())
    with screen(browser, server, size=size) as page:
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
    with screen(browser, server, f"/?lang={lang}", size) as page:
        names = page.locator("#inset .district-name:visible").all_text_contents()
        known = {
            f["properties"]["name" if lang == "zh" else "name_en"]
            for f in server.districts["features"]
            if f["properties"]["adcode"] in CENTRE
        }
        assert {next(k for k in known if k.startswith(n)) for n in names} == known
        assert overlaps(page.evaluate(BOXES)) == []


def test_the_enlarged_centre_follows_the_news_and_leads_to_its_districts(browser, server):
    with screen(browser, server) as page:
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
    with screen(browser, server) as page:
        assert page.locator(f"[data-inset-adcode='{NANAN}']").get_attribute("fill") == HATCH
