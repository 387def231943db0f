"""The planner's page in a real browser, on the real application: suppose, save, take away."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import geopandas as gpd
import httpx
import openpyxl
import pytest
from playwright.sync_api import Page, Route, expect
from sqlalchemy import text

from tests.browser.city import EVIL, City
from tests.browser.planner_desk import (
    COMMS,
    POWER,
    SLOW,
    Visit,
    answered,
    at,
    drag,
    evaluate,
    figure,
    level,
    pick,
    tab,
    two_districts_without_base_stations,
)
from tests.feeds import NANAN, YUZHONG

pytestmark = pytest.mark.browser


def sent(city: City) -> int:
    """How many changes someone made; ticks are not among them."""
    with city.owner.connect() as connection:
        made = text("SELECT count(*) FROM change WHERE batch_id IS NOT NULL")
        return int(connection.execute(made).scalar_one())


# --- what-if --------------------------------------------------------------------------------------


def test_two_districts_without_base_stations_read_two_while_the_situation_stays(
    city: City, visit: Visit
) -> None:
    before = sent(city)
    page = visit()
    two_districts_without_base_stations(page)
    expect(page.locator("#changes li")).to_have_count(1)
    expect(page.locator("#changes .what")).to_have_text("渝中区、南岸区：基站 → 中断")
    evaluate(page)
    assert (level(page, "before"), level(page, "after")) == ("", "2")
    assert level(page, "after", POWER) == ""
    many = len(city.facilities(YUZHONG, "base_station")) + len(
        city.facilities(NANAN, "base_station")
    )
    expect(page.locator("#changes li")).to_contain_text(f"{many:,} 处")
    page.click("#why summary")
    expect(page.locator('#why .finding[data-clause="1.6.2(1)"]').first).to_be_visible()
    rows = page.locator("#result tr[data-adcode]")
    assert rows.evaluate_all("r => r.map(x => x.dataset.adcode)") == [YUZHONG, NANAN]
    # the header and the map's other side still show what is
    expect(page.locator(f"#plan-{COMMS}")).to_have_attribute("data-level", "")
    path = page.locator(f'path[data-adcode="{YUZHONG}"]')
    expect(path).to_have_attribute("data-level", "3")
    expect(page.locator("#what-if")).to_contain_text("推演，非实际态势")
    expect(page.locator("#shown button")).to_have_text(["实际", "假设"])
    page.click('#shown [data-shown="present"]')
    expect(path).to_have_attribute("data-level", "")
    expect(page.locator("#what-if")).to_be_hidden()
    expect(page.locator("body.supposing")).to_have_count(0)
    assert city.situation()["plans"][COMMS]["level"] is None
    assert sent(city) == before


def test_a_substation_chosen_by_name_is_followed_to_the_minute(city: City, visit: Visit) -> None:
    with city.owner.connect() as connection:
        station, name = connection.execute(
            text(
                "SELECT s.facility_id, s.name FROM facility s JOIN facility f ON f.feeds_from ="
                " s.facility_id WHERE s.kind = 'substation' AND f.kind = 'base_station'"
                " GROUP BY s.facility_id, s.name ORDER BY count(*) DESC, s.facility_id LIMIT 1"
            )
        ).one()
    page = visit()
    tab(page, "suppose")
    page.select_option("#form", "facilities")
    page.fill("#find", name)
    page.keyboard.press("Enter")
    page.check(f'#found input[value="{station}"]')
    expect(page.locator("#ids")).to_have_value(station)
    page.click("#add")
    page.fill("#hours", "12")
    answer = evaluate(page)
    timeline = answer["cascade"]["timeline"]
    assert len(answer["cascade"]["falls"]) > 0
    shown = page.locator(".cascade tr[data-minute]")
    assert shown.evaluate_all("r => r.map(x => Number(x.dataset.minute))") == [
        r["minute"] for r in timeline
    ]
    for plan in (COMMS, POWER):
        levels = page.locator(f'.cascade td[data-plan="{plan}"]').evaluate_all(
            "r => r.map(x => x.dataset.level)"
        )
        assert levels == [str(row["plans"][plan] or "") for row in timeline]
    each_moment_is_shown_on_the_map(page, timeline)
    own = httpx.post(
        f"{city.url}/v1/scenarios/evaluate", headers=city.key("planner"), timeout=60,
        json={"hours": 12, "changes": [{"facilities": [station], "state": "down"}]},
    ).json()  # fmt: skip
    assert [r["minute"] for r in own["cascade"]["timeline"]] == [r["minute"] for r in timeline]
    # an outline, an incident and an end that is none: said at the change it belongs to
    page.select_option("#form", "restore")
    page.fill("#outage_id", "no-such-outage")
    page.click("#add")
    page.click("#evaluate")
    expect(page.locator("#evaluate-form, #changes")).not_to_have_count(0)
    expect(page.locator("#error-evaluate")).not_to_be_empty()
    page.fill("#hours", "999")
    page.evaluate("document.getElementById('hours').removeAttribute('max')")
    page.click("#evaluate")
    expect(page.locator("#error-hours")).not_to_be_empty()


def each_moment_is_shown_on_the_map(page: Page, timeline: list[dict[str, Any]]) -> None:
    """The districts' levels of each minute under the plan chosen, said to be supposed."""
    assert len(timeline) > 1
    page.click('#shown [data-shown="later"]')
    page.press("#moment", "Home")
    shown = "els => Object.fromEntries(els.map(e => [e.dataset.adcode, e.dataset.level]))"
    plan = page.locator('#result button[aria-pressed="true"]').evaluate(
        "e => e.closest('tr').dataset.plan"
    )
    levels: dict[str, str] = {}
    for index, row in enumerate(timeline):
        levels |= {d["adcode"]: str(d["plans"].get(plan) or "") for d in row["districts"]}
        expect(page.locator("#what-if")).to_contain_text(f"第 {row['minute']:,} 分钟")
        expect(page.locator("#what-if")).to_contain_text("非实际态势")
        painted = page.locator("path[data-adcode]").evaluate_all(shown)
        assert painted == {code: levels[code] for code in painted}, index
        page.press("#moment", "ArrowRight")
    assert len(levels) == 37
    expect(page.locator('[data-step="1"]')).to_be_disabled()
    page.click('[data-step="-1"]')
    expect(page.locator("#what-if")).to_contain_text(f"第 {timeline[-2]['minute']:,} 分钟")
    page.locator(".cascade tr[data-minute] th button").last.click()
    expect(page.locator("#what-if")).to_contain_text(f"第 {timeline[-1]['minute']:,} 分钟")
    expect(page.locator("#legend h3")).to_have_text("区县单独研判等级")


def test_the_map_turns_to_the_plan_that_changes_unless_another_was_chosen(
    city: City, visit: Visit
) -> None:
    special = "special-equipment-2023"
    page = visit()
    expect(page.locator(f"#plan-{COMMS}")).to_have_attribute("aria-pressed", "true")
    tab(page, "suppose")
    page.select_option("#form", "incident")
    page.select_option("#incident-adcode", NANAN)
    page.fill("#people_stranded", "12")
    page.click("#add")
    page.fill("#hours", "24")
    answer = evaluate(page)
    # at once, or later by the clock: in either case the plan of the incident is on the map
    expect(page.locator(f"#plan-{special}")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#other-plan")).to_be_hidden()
    painted = page.locator(f'path[data-adcode="{NANAN}"]')
    expect(painted).to_have_attribute("data-level", re.compile("[1-4]"))
    assert any(row["plans"][special] for row in answer["cascade"]["timeline"])
    # chosen by hand it stays, and which plan changes is said and one step away
    page.click(f"#plan-{POWER}")
    evaluate(page)
    expect(page.locator(f"#plan-{POWER}")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#other-plan")).to_contain_text("没有变化")
    page.click("#other-plan button")
    expect(page.locator(f"#plan-{special}")).to_have_attribute("aria-pressed", "true")
    expect(painted).to_have_attribute("data-level", re.compile("[1-4]"))


def test_the_drawn_outline_is_what_is_supposed(city: City, visit: Visit) -> None:
    page = visit()
    tab(page, "suppose")
    page.click("#add")
    expect(page.locator("#error-change")).to_have_text("请先在“区域”中圈定区域。")
    tab(page, "region")
    page.click('[data-tool="rectangle"]')
    drag(page, *at(page, 106.3, 29.75), right=70, down=60)
    with answered(page) as region:
        page.mouse.up()
    page.wait_for_selector("#numbers[data-sequence]")
    tab(page, "suppose")
    page.select_option("#change-kind", "base_station")
    page.click("#add")
    answer = evaluate(page)
    page.select_option("#form", "facilities")
    page.select_option("#find-kind", "substation")
    page.check("#find-inside")
    page.click("#find-go")
    page.wait_for_selector(".found")
    # a rectangle is its own bounding box; at most 50 are listed
    there = region["answer"]["facilities"]["substation"]["total"]
    assert there > 3
    expect(page.locator(".found input")).to_have_count(min(there, 50))
    inside = region["answer"]["facilities"]["base_station"]["total"]
    assert answer["selected"] == [{"facilities": inside, "changed": inside, "state": "down"}]
    page.select_option("#form", "incident")
    page.select_option("#incident-adcode", NANAN)
    page.fill("#people_stranded", "12")
    page.click("#add")
    expect(page.locator("#outdated")).to_be_visible()
    page.locator("#changes li").first.get_by_role("button").click()
    answer = evaluate(page)
    special = answer["hypothetical"]["plans"]["special-equipment-2023"]
    assert level(page, "after", "special-equipment-2023") == str(special["level"] or "")


def test_scenarios_are_saved_shared_compared_and_names_stay_text(city: City, visit: Visit) -> None:
    page = visit()
    two_districts_without_base_stations(page)
    page.click("#save")
    expect(page.locator("#error-name")).to_have_text("请给情景起名。")
    page.fill("#name", EVIL)
    page.check("#share-it")
    page.click("#save")
    note = page.locator("#saved-note span")
    where = "在“已存情景”中打开、比较或删除。"
    expect(note).to_have_text(f"已保存为“{EVIL}”（已共享），连同本次推演结果；{where}")
    page.click("#save")
    expect(note).to_have_text(f"“{EVIL}”已经保存过，内容相同（已共享）；{where}")
    page.locator("#changes li").get_by_role("button").click()
    page.select_option("#change-kind", "exchange")
    page.click("#add")
    page.click("#save")
    expect(page.locator("#error-name")).not_to_be_empty()  # another scenario has this name
    page.fill("#name", "两区机房")
    page.uncheck("#share-it")
    page.click("#save")
    expect(note).to_have_text(f"已保存为“两区机房”（未共享），连同本次推演结果；{where}")
    page.click("#saved-note button")
    expect(page.locator("#saved")).to_be_visible()
    rows = page.locator(".saved-list li")
    expect(rows).to_have_count(2)
    expect(page.locator(".saved-list li.fresh b")).to_have_text("两区机房")
    expect(page.get_by_role("button", name="打开: 两区机房")).to_be_focused()
    expect(rows.locator("b").filter(has_text="__owned")).to_have_text(EVIL)
    page.click("#compare")
    expect(page.locator("#error-saved")).to_have_text("请勾选两个情景。")
    for index in (0, 1):
        rows.nth(index).get_by_role("checkbox").check()
    page.click("#compare")
    page.wait_for_selector("#compared .levels")
    sides = {level(page, side, COMMS, "#compared") for side in ("before", "after")}
    assert "2" in sides
    expect(page.locator("#compared h2")).to_contain_text(EVIL)
    evil = rows.filter(has_text="__owned")
    evil.get_by_role("button", name=re.compile("^打开")).click()
    expect(page.locator("#changes .what")).to_have_text("渝中区、南岸区：基站 → 中断")
    assert level(page, "after") == "2"
    # whoever it is shared with sees it, cannot change it, and runs nothing
    other = visit(user="commander")
    tab(other, "saved")
    expect(other.locator(".saved-list li")).to_have_count(1)
    expect(other.locator(".saved-list b")).to_have_text(EVIL)
    expect(other.locator(".saved-list button")).to_have_count(1)
    tab(page, "saved")
    evil.get_by_role("button", name=re.compile("^取消共享")).click()
    expect(evil).to_contain_text("未共享")
    evil.get_by_role("button", name=re.compile("^删除")).click()
    expect(rows).to_have_count(2)  # asked once more
    evil.locator("[data-sure]").click()
    expect(rows).to_have_count(1)
    other.click("#reload")
    expect(other.locator(".saved-list li")).to_have_count(0)
    for one in (page, other):
        assert one.evaluate("window.__owned") is None


# --- files ----------------------------------------------------------------------------------------


def download(page: Page, folder: Path) -> Path:
    with page.expect_download(**SLOW) as caught:
        page.click("#download")
    path = folder / caught.value.suggested_filename
    caught.value.save_as(path)
    expect(page.locator("#export-note")).to_contain_text(path.name)
    return path


def test_files_open_in_excel_and_gis_with_the_rows_and_the_system_asked_for(
    city: City, visit: Visit, tmp_path: Path
) -> None:
    page = visit()
    pick(page, YUZHONG)
    tab(page, "export")
    page.select_option("#export-kind", "base_station")
    page.select_option("#export-limit", "district")
    page.select_option("#export-adcode", YUZHONG)
    expected = set(city.facilities(YUZHONG, "base_station"))
    sheet = openpyxl.load_workbook(download(page, tmp_path)).worksheets[0]
    rows = list(sheet.iter_rows(values_only=True))
    assert rows[0][:2] == ("设施编号", "名称")
    assert {row[0] for row in rows[1:]} == expected
    page.select_option("#export-format", "gpkg")
    page.select_option("#export-crs", "EPSG:4546")
    frame = gpd.read_file(download(page, tmp_path), layer="facilities")
    assert frame.crs.to_epsg() == 4546
    assert set(frame["facility_id"]) == expected
    # the districts chosen as the region, by name in the file's
    page.select_option("#export-limit", "picked")
    assert f"adcode={YUZHONG}" in page.input_value("#export-address")
    path = download(page, tmp_path)
    assert path.name.startswith("渝图-设施-基站-渝中区-EPSG4546-")
    assert set(gpd.read_file(path, layer="facilities")["facility_id"]) == expected
    # by rectangle: what stands inside the district's box, which is more than the district
    page.select_option("#export-limit", "bbox")
    assert "bbox=106." in page.input_value("#export-address")
    boxed = gpd.read_file(download(page, tmp_path), layer="facilities")
    assert set(boxed["facility_id"]) > expected
    page.select_option("#export-crs", "GCJ-02")
    expect(page.locator("#error-format")).to_contain_text("GCJ-02")
    page.select_option("#export-crs", "EPSG")
    page.fill("#export-epsg", "2400")  # Beijing 1954
    page.click("#download")
    expect(page.locator("#error-export-crs")).not_to_be_empty()


# --- the page -------------------------------------------------------------------------------------


def test_before_the_change_of_2025_the_page_has_38_districts_and_keeps_what_was_chosen(
    city: City, visit: Visit
) -> None:
    page = visit()
    expect(page.locator("path[data-adcode]")).to_have_count(37)
    pick(page, YUZHONG)
    page.select_option("#when-kind", "past")
    page.fill("#when-at", "2099-01-01T00:00:00")
    page.click("#when button")
    expect(page.locator("#error-at")).to_have_text("该时刻尚未到来。")
    page.fill("#when-at", "2017-01-01T00:00:00")
    page.evaluate("document.getElementById('when-at').removeAttribute('min')")
    page.click("#when button")
    expect(page.locator("#error-at")).not_to_have_text("该时刻尚未到来。")
    expect(page.locator("#error-at")).not_to_be_empty()
    page.fill("#when-at", "2025-10-01T08:00:00")
    with answered(page) as found:
        page.click("#when button")
    expect(page.locator("#past")).to_be_visible()
    expect(page.locator("path[data-adcode]")).to_have_count(38)
    expect(page.locator("#past-time")).to_have_text("2025-10-01 08:00:00")
    expect(page.locator("#past")).to_contain_text("历史态势，非当前数据。北京时间")
    expect(page.locator("#past-divisions")).to_contain_text("38 个区县")
    expect(page.locator("#past-divisions")).to_contain_text("至 2025-11-06 的区划")
    expect(page.locator("#past-reading")).to_be_hidden()
    assert found["asked"]["adcodes"] == [YUZHONG]
    assert found["asked"]["at"].startswith("2025-10-01T00:00:00")
    tab(page, "export")
    expect(page.locator("#error-collection")).to_contain_text("现在")
    page.click("#language")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.locator("#past")).to_be_visible()
    tab(page, "region")
    expect(page.locator(f'input[name="adcode"][value="{YUZHONG}"]')).to_be_checked()
    expect(page.locator("#past-divisions")).to_contain_text("38 districts")
    page.click("#past a")
    expect(page.locator("path[data-adcode]")).to_have_count(37)
    page.check('input[name="adcode"][value="500157"]')  # made in 2025, after the last census
    people = page.locator('[data-figure="population"]')
    expect(people).to_contain_text("population not known: Liangjiang")


def test_reading_a_past_moment_is_said_at_once_and_what_goes_wrong_in_words(
    city: City, visit: Visit
) -> None:
    page = visit()
    page.check(f'input[name="adcode"][value="{YUZHONG}"]')
    expect(page.locator("#numbers")).to_have_text("正在计算…", timeout=200)
    page.wait_for_selector("#numbers[data-sequence]")
    held: list[Route] = []
    page.route("**/planner?*at=*", lambda route: held.append(route))
    page.select_option("#when-kind", "past")
    page.fill("#when-at", "2026-01-02T03:04:05")
    page.click("#when-go")
    expect(page.locator("#when-note")).to_contain_text(
        "2026-01-02 03:04:05（北京时间）", timeout=200
    )
    expect(page.locator("#when-go")).to_be_disabled()
    problem = {"title": "Unavailable", "status": 503, "detail": "数据库没有应答，请再问一次"}
    held.pop().fulfill(status=503, json=problem)
    page.unroute("**/planner?*at=*")
    expect(page.locator("#error-at")).to_have_text(problem["detail"])
    expect(page.locator("#when-note")).to_be_hidden()
    # the page of then is there before its situation, and says so
    asked: list[Route] = []
    page.route(
        "**/v1/situation?*",
        lambda route: route.continue_() if asked else asked.append(route),  # the first is held
    )
    page.click("#when-go")
    expect(page.locator("#past-time")).to_have_text("2026-01-02 03:04:05")
    expect(page.locator("#past-divisions")).to_have_text("37 个区县（2025-11-06 起的区划）")
    expect(page.locator("#past-reading")).to_have_text("正在读取该时刻的态势……")
    asked[0].fulfill(status=503, json=problem)
    refused = f"服务器未能给出该时刻的态势：{problem['detail']}"
    expect(page.locator("#connection")).to_have_text(refused)
    expect(page.locator("#past-reading")).to_be_hidden()
    expect(page.locator("#connection")).to_be_hidden(**SLOW)  # it is asked again by itself
    page.click("#past a")
    expect(page.locator("#past")).to_be_hidden()


def test_everything_is_reached_by_the_keyboard_and_fits_the_screen(
    city: City, visit: Visit
) -> None:
    page = visit()
    page.focus("#view-region")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#suppose")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    page.focus(f'input[name="adcode"][value="{NANAN}"]')
    page.keyboard.press("Space")
    page.wait_for_selector("#numbers[data-sequence]")
    page.focus(f'path[data-adcode="{YUZHONG}"]')
    page.keyboard.press("Enter")
    expect(page.locator(f'input[name="adcode"][value="{YUZHONG}"]')).to_be_checked()
    expect(page.locator("#numbers tr[data-adcode]")).to_have_count(2)
    for name in ("region", "suppose", "saved", "export"):
        tab(page, name)
        wide = page.evaluate(
            "() => [document.documentElement.scrollWidth > innerWidth,"
            " document.documentElement.scrollHeight > innerHeight,"
            " (e => e.scrollWidth > e.clientWidth)(document.querySelector('.scroll'))]"
        )
        assert wide == [False, False, False], name
    nameless = page.evaluate(
        "() => [...document.querySelectorAll('button, input, select, textarea, a')].filter("
        "e => !e.closest('[hidden]') && e.type !== 'hidden' && !e.textContent.trim()"
        " && !e.labels?.length && !e.getAttribute('aria-label')).map(e => e.outerHTML)"
    )
    assert nameless == []


@pytest.mark.parametrize("user", ["commander", "planner", "admin"])
def test_the_commanders_map_leads_here_and_back(city: City, visit: Visit, user: str) -> None:
    page = visit("/", user)
    page.click("#planner")
    page.wait_for_selector("#region-form")
    page.click("#commander")
    page.wait_for_selector("#reasons")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_others_have_neither_the_link_nor_the_page(city: City, visit: Visit) -> None:
    page = visit("/", "viewer")
    expect(page.locator("#planner")).to_have_count(0)
    for user, status in (("viewer", 403), ("field", 403), ("utility", 403), ("planner", 200)):
        assert httpx.get(f"{city.url}/planner", headers=city.key(user)).status_code == status
    anonymous = httpx.get(f"{city.url}/planner", headers={"Accept": "text/html"})
    assert anonymous.status_code == 303
    assert "/login?next=/planner" in anonymous.headers["location"]


def test_a_session_renewed_elsewhere_and_one_that_ended(city: City, visit: Visit) -> None:
    page = visit()
    page.evaluate(
        "document.cookie"
    )  # the session cookie is not for scripts; renew it by signing in
    second = page.context.new_page()
    second.goto(f"{city.url}/login?next=/planner")
    city.sign_in(second, "planner")
    pick(page, YUZHONG)  # with the token of the session before, then with the new one
    assert figure(page, "area") > 0
    page.context.clear_cookies()
    page.check(f'input[name="adcode"][value="{NANAN}"]')
    expect(page.locator("#connection")).to_be_visible()
    expect(page.locator("#connection a")).to_have_attribute("href", re.compile("^/login"))
    expect(page.locator("#error-region")).to_have_text("登录已失效，请重新登录。")
