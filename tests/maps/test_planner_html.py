"""The HTML of the planner's page: whole in both languages, labelled, inert, its policy fitting."""

from __future__ import annotations

import base64
import copy
import hashlib
import re

import pytest

from data.facility_columns import KINDS as FACILITY_KINDS
from maps.assets import ASSETS_DIR, static_files
from maps.page import Page
from maps.planner_page import CRS, EXPORTS, FORMATS, render_planner
from maps.planner_page import FACILITY_KINDS as OFFERED_KINDS
from maps.planner_words import PLANNER_WORDS
from maps.situation_map import render_page
from maps.text import WORDS
from tests import situations
from tests.maps.test_map_html import Elements, borders

WORD_OF_SCRIPT = re.compile(r'say\(\s*"(\w+)"')


def page(lang="zh", **said) -> Page:
    return render_planner(situations.view(lang, **said))


def test_both_languages_have_every_word_and_none_hides_one_of_the_map():
    assert set(PLANNER_WORDS["zh"]) == set(PLANNER_WORDS["en"])
    assert not set(PLANNER_WORDS["zh"]) & set(WORDS["zh"])
    # a template reads words.name, which must not find a method of the dictionary
    assert not [key for key in PLANNER_WORDS["zh"] if hasattr(dict, key)]


def test_every_word_the_scripts_say_is_there():
    known = {**WORDS["zh"], **PLANNER_WORDS["zh"]}
    scripts = sorted((ASSETS_DIR / "yutu").glob("planner*.js"))
    assert len(scripts) > 5
    for script in scripts:
        text = script.read_text(encoding="utf-8")
        assert [key for key in WORD_OF_SCRIPT.findall(text) if key not in known] == [], script.name


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_every_control_has_a_name(lang):
    parsed = Elements(page(lang).html.decode())
    html = page(lang).html.decode()
    for tag, attrs in parsed.elements:
        if tag not in ("input", "select", "textarea") or attrs.get("type") == "hidden":
            continue
        mark = f'name="{attrs["name"]}"' if "name" in attrs else f'id="{attrs["id"]}"'
        before = html[: html.index(mark)]
        inside = before.rfind("<label") > before.rfind("</label>")
        assert inside or "aria-label" in attrs, attrs
    described = {
        attrs["aria-describedby"] for _, attrs in parsed.elements if "aria-describedby" in attrs
    }
    ids = {attrs.get("id") for _, attrs in parsed.elements}
    assert described <= ids


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_nothing_in_the_page_is_from_elsewhere_or_carries_a_handler(lang):
    made = page(lang, at="2025-10-01T00:00:00+00:00", situation=situations.storm())
    html = made.html.decode()
    assert re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", html) == []
    assert "{{" not in html
    assert "<built-in" not in html
    for tag, attrs in Elements(html).elements:
        assert not [name for name in attrs if name.startswith("on") or name == "style"], tag
        for name in ("src", "href"):
            address = attrs.get(name)
            if tag in ("script", "link") and address and not address.startswith("data:"):
                assert address in static_files()


def test_the_policy_allows_exactly_the_inline_script_of_the_page():
    made = page()
    inline = [text for attrs, text in Elements(made.html.decode()).scripts if not attrs]
    hashes = {
        f"'sha256-{base64.b64encode(hashlib.sha256(t.encode()).digest()).decode()}'" for t in inline
    }
    directives = dict(d.split(" ", 1) for d in made.csp.split("; "))
    assert set(directives["script-src"].split()) == {"'self'", *hashes}
    assert "unsafe" not in made.csp
    assert directives["connect-src"] == "'self'"


def test_every_district_is_on_the_map_and_in_the_lists():
    html = page().html.decode()
    assert len(borders(html)["features"]) == 37
    boxes = [a["value"] for tag, a in Elements(html).elements if a.get("name") == "adcode"]
    assert len(boxes) == 37
    assert boxes == sorted(boxes)
    assert "Yuzhong" in page("en").html.decode()


def test_hostile_names_add_no_element_and_come_through_whole():
    hostile, scene = situations.hostile()
    clean = [tag for tag, _ in Elements(page(situation=situations.storm()).html.decode()).elements]
    made = page(
        districts=hostile,
        situation=scene,
        user={"username": situations.HOSTILE[0]},
        csrf='"><script>alert(1)</script>',
    )
    parsed = Elements(made.html.decode())
    assert [tag for tag, _ in parsed.elements] == clean
    assert parsed.data()["username"] == situations.HOSTILE[0]
    assert parsed.data()["situation"]["districts"][0]["name"] == scene["districts"][0]["name"]


def test_the_same_input_gives_the_same_bytes_and_a_past_time_is_in_the_page():
    assert page().html == page().html
    past = page(at="2025-10-01T00:00:00+00:00")
    assert Elements(past.html.decode()).data()["at"] == "2025-10-01T00:00:00+00:00"
    assert 'href="/?at=2025-10-01T00%3A00%3A00%2B00%3A00"' in past.html.decode()


def test_what_is_offered_is_what_the_api_takes():
    from data.export_collections import COLLECTIONS
    from data.export_files import MEDIA
    from geo.crs import parse_crs

    assert set(OFFERED_KINDS) == set(FACILITY_KINDS)
    assert set(EXPORTS) == set(COLLECTIONS)
    assert set(FORMATS) == set(MEDIA)
    assert [parse_crs(one) for one in CRS] == list(CRS)


def test_an_approximate_border_is_named():
    given = copy.deepcopy(situations.districts())
    given["features"][3]["properties"]["approximate"] = True
    assert "近似边界" in page(districts=given).html.decode()


@pytest.mark.parametrize("allowed", [True, False])
def test_the_commanders_map_leads_to_the_planners_page_only_for_who_may_open_it(allowed):
    made = render_page(situations.view(), planner=allowed)
    assert ('href="/planner"' in made.html.decode()) is allowed
