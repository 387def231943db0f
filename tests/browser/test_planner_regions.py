"""Regions on the planner's page in a real browser, on the real application: drawn, given, asked about."""

from __future__ import annotations

import json
import re

import httpx
import numpy as np
import pytest
from playwright.sync_api import expect

from tests.browser.city import CHENGKOU, City
from tests.browser.planner_desk import Visit, answered, at, click, counts, drag, figure, number

pytestmark = pytest.mark.browser

KAIZHOU, WUXI = "500154", "500238"
#: Around the point where these three districts meet, 108.894 E 31.657 N.
CORNERS = [(108.72, 31.74), (109.12, 31.80), (109.10, 31.50), (108.75, 31.48)]


def test_a_polygon_drawn_across_three_districts_shows_the_numbers_of_the_api(
    city: City, visit: Visit
) -> None:
    page = visit()
    page.click('[data-tool="polygon"]')
    for corner in CORNERS:
        click(page, *corner)
    with answered(page) as found:
        page.mouse.click(*at(page, *CORNERS[0]))  # back at the beginning
    page.wait_for_selector("#numbers[data-sequence]")
    drawn = found["asked"]["geometry"]
    assert np.allclose(drawn["coordinates"][0][:4], CORNERS, atol=0.02)
    body = {"geometry": drawn, "crs": "WGS84"}
    own = httpx.post(
        f"{city.url}/v1/regions/query", json=body, headers=city.key("planner"), timeout=30
    ).json()
    shown = page.locator("#numbers tr[data-adcode]").evaluate_all(
        "r => r.map(x => x.dataset.adcode)"
    )
    assert (
        sorted(shown) == [KAIZHOU, CHENGKOU, WUXI] == sorted(d["adcode"] for d in own["districts"])
    )
    assert figure(page, "area") == round(own["area_m2"] / 1e6, 2)
    parts = [number(one) for one in page.locator('#numbers [data-part="area"]').all_text_contents()]
    assert sum(parts) == pytest.approx(own["area_m2"] / 1e6, abs=0.02)
    assert own["facilities"]["base_station"]["total"] > 0
    assert counts(page) == {
        kind: {name: sums[name] for name in ("total", "down", "degraded", "unknown")}
        for kind, sums in own["facilities"].items()
    }
    assert figure(page, "population") == own["population"]["inside"]
    assert figure(page, "load") == pytest.approx(own["load"]["load_mw"], abs=0.01)
    assert figure(page, "customers") == own["customers"]["total"]
    page.check("#by-operator")
    rows = page.locator("#numbers tr.operator:visible")
    assert rows.count() == sum(len(kind["operators"]) for kind in own["facilities"].values())
    # what the server understood is what is on the map
    assert page.locator(".leaflet-region-pane path").count() == 1


@pytest.mark.parametrize("tool", ["rectangle", "circle"])
def test_a_dragged_shape_is_asked_about_and_can_be_changed(
    city: City, visit: Visit, tool: str
) -> None:
    page = visit()
    page.click(f'[data-tool="{tool}"]')
    drag(page, *at(page, 107.4, 29.9), right=60, down=45)
    with answered(page) as first:
        page.mouse.up()
    page.wait_for_selector("#numbers[data-sequence]")
    assert first["answer"]["region"]["kind"] == {"rectangle": "polygon", "circle": "circle"}[tool]
    assert figure(page, "area") == round(first["answer"]["area_m2"] / 1e6, 2)
    if tool == "circle":
        assert first["answer"]["area_m2"] == pytest.approx(
            np.pi * first["asked"]["radius_m"] ** 2, rel=0.001
        )
        page.fill("#radius_m", "10000")
        with answered(page) as second:
            page.click("#ask")
        assert second["answer"]["area_m2"] == pytest.approx(np.pi * 1e8, rel=0.001)
    page.click("#edit-outline")
    corner = page.locator(".leaflet-editing-icon.leaflet-edit-resize, .leaflet-editing-icon").last
    box = corner.bounding_box()
    assert box is not None
    drag(page, box["x"] + 5, box["y"] + 5, right=40, down=30)
    page.mouse.up()
    with answered(page) as changed:
        page.click("#draw-finish")
    assert changed["asked"] != first["asked"]
    page.wait_for_selector("#numbers[data-sequence]")
    assert figure(page, "area") == round(changed["answer"]["area_m2"] / 1e6, 2)


def test_a_line_is_widened_by_the_margin_and_escape_leaves_nothing(
    city: City, visit: Visit
) -> None:
    page = visit()
    page.click('[data-tool="line"]')
    expect(page.locator("#buffer_m")).to_have_value("1000")
    click(page, 107.0, 29.9)
    page.keyboard.press("Escape")
    expect(page.locator("#drawing")).to_be_hidden()
    page.click('[data-tool="line"]')
    for corner in [(107.0, 29.9), (107.6, 29.9), (107.9, 30.1)]:
        click(page, *corner)
    with answered(page) as found:
        page.click("#draw-finish")
    assert found["answer"]["region"] | {"outline": None} == {
        "kind": "line", "crs": "WGS84", "buffer_m": 1000.0, "outline": None,
    }  # fmt: skip
    page.fill("#buffer_m", "5000")
    with answered(page) as wider:
        page.click("#ask")
    assert 4.5 < wider["answer"]["area_m2"] / found["answer"]["area_m2"] < 6
    page.wait_for_selector("#numbers[data-sequence]")
    page.click("#edit-outline")
    drag(page, *at(page, 107.0, 29.9), right=-80, down=0)
    page.mouse.up()
    with answered(page) as longer:
        page.click("#draw-finish")
    assert longer["answer"]["area_m2"] > wider["answer"]["area_m2"] * 1.3
    page.wait_for_selector("#numbers[data-sequence]")
    page.click("#clear-region")
    expect(page.locator("#numbers")).to_be_empty()


def test_coordinates_are_read_in_the_system_that_is_named(city: City, visit: Visit) -> None:
    page = visit()
    square = [[106.5, 29.5], [106.6, 29.5], [106.6, 29.6], [106.5, 29.6], [106.5, 29.5]]
    feature = {
        "type": "Feature",
        "properties": {},
        "geometry": {"type": "Polygon", "coordinates": [square]},
    }
    page.click('[data-tool="geojson"]')
    page.set_input_files(
        "#geojson-file",
        {
            "name": "square.geojson",
            "mimeType": "application/geo+json",
            "buffer": json.dumps(feature).encode(),
        },
    )
    expect(page.locator("#geojson")).to_have_value(re.compile("coordinates"))
    page.click("#ask")
    expect(page.locator("#error-crs")).to_have_text("请选择这些坐标的坐标系。")
    page.select_option("#crs", "GCJ-02")
    with answered(page) as found:
        page.click("#ask")
    assert found["asked"]["crs"] == "GCJ-02"
    expect(page.locator("#error-crs")).to_be_empty()
    west = found["answer"]["region"]["outline"]["coordinates"][0][0][0]
    assert 0.001 < abs(west - 106.5) < 0.01 or 0.001 < abs(west - 106.6) < 0.01
    # a file that names its own system is not read in another
    stated = feature | {
        "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::4546"}}
    }
    page.fill("#geojson", json.dumps(stated))
    page.click("#ask")
    expect(page.locator("#error-crs")).to_contain_text("EPSG:4546")


def test_what_the_api_refuses_is_said_at_its_place(city: City, visit: Visit) -> None:
    page = visit()
    page.click('[data-tool="geojson"]')
    page.select_option("#crs", "WGS84")
    angle = np.linspace(0, 2 * np.pi, 10_002)
    ring = np.column_stack([107 + 0.1 * np.cos(angle), 30 + 0.1 * np.sin(angle)]).tolist()
    ring[-1] = ring[0]
    wrong = {
        json.dumps({"type": "Polygon", "coordinates": [ring]}): "10000",
        json.dumps({"type": "Polygon", "coordinates": [[[106, 29], [107, 30], [107, 29], [106, 30], [106, 29]]]}): "自相交",
        "{": "不是 JSON",
        '{"type": "FeatureCollection", "features": []}': "没有可用的几何",
    }  # fmt: skip
    for given, said in wrong.items():
        page.fill("#geojson", given)
        page.click("#ask")
        expect(page.locator("#error-geometry")).to_contain_text(said)
        expect(page.locator("#geojson")).to_have_attribute("aria-invalid", "true")
    page.fill("#geojson", json.dumps({"type": "Point", "coordinates": [106.55, 29.56]}))
    page.click("#ask")
    expect(page.locator("#error-radius_m")).not_to_be_empty()
    page.fill("#radius_m", "3000")
    page.select_option("#crs", "EPSG")
    page.fill("#epsg", "9999")
    page.click("#ask")
    expect(page.locator("#error-crs")).to_contain_text("EPSG:9999")
    expect(page.locator("#numbers")).to_be_empty()
    large = {"name": "large.json", "mimeType": "application/json", "buffer": b" " * (4 * 2**20 + 1)}
    page.set_input_files("#geojson-file", large)
    expect(page.locator("#error-geometry")).to_contain_text("4 MiB")
