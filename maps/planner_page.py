"""The planner's page: a region drawn, asked about, supposed about, and taken away as a file.

The page holds the borders, the words and the plans' criteria; every number comes from the API,
which also decides what this account may see. Stored text is passed as JSON and written with
`textContent` only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from maps.assets import ASSET_URLS, MAP_STYLE_URL, STATIC_PREFIX
from maps.layers import DISTRICTS_VARIABLE, MAP_VARIABLE, FoliumParts, district_map
from maps.page import Page, render
from maps.planner_words import PLANNER_WORDS
from maps.situation_map import plan_view, sources
from maps.style import Style
from maps.text import HTML_LANGS, KINDS, WORDS, Lang

PAGE_URL = "/planner"
SCRIPT_URL = f"{STATIC_PREFIX}/yutu/planner.js"
STYLE_URL = f"{STATIC_PREFIX}/yutu/planner.css"
URLS: Mapping[str, str] = {
    "home": "/",
    "page": PAGE_URL,
    "login": "/login",
    "logout": "/logout",
    "session": "/v1/session",
    "situation": "/v1/situation",
    "stream": "/v1/situation/stream",
    "regions": "/v1/regions/query",
    "scenarios": "/v1/scenarios",
    "facilities": "/ogc/collections/facilities/items",
    "export": "/v1/export",
}
#: Kinds of facility on the inventory, as offered for choosing.
FACILITY_KINDS = (
    "base_station",
    "exchange",
    "data_centre",
    "tower",
    "substation",
    "power_plant",
    "special_equipment",
    "key_user",
    "shelter",
    "warehouse",
)
#: Equipment whose incidents can be supposed.
EQUIPMENT = ("elevator", "passenger_ropeway", "large_amusement_ride", "crane")
CRS = ("WGS84", "CGCS2000", "GCJ-02", "BD-09", "EPSG:4544", "EPSG:4545", "EPSG:4546")
TOOLS = ("districts", "polygon", "rectangle", "circle", "line", "geojson")
FORMS = ("region", "facilities", "outage", "restore", "incident")
EXPORTS = ("facilities", "situation", "districts", "outages", "incidents", "teams")
FORMATS = ("xlsx", "csv", "geojson", "gpkg", "parquet")
STATES = ("up", "degraded", "down", "unknown")


def render_planner(
    *,
    lang: Lang,
    districts: Mapping[str, Any],
    packs: Mapping[str, Mapping[str, Any]],
    at: str | None,
    user: Mapping[str, Any],
    csrf: str,
    situation: Mapping[str, Any] | None = None,
    style: Style | None = None,
) -> Page:
    """The page at a time of knowledge, or now.

    `districts` is the FeatureCollection of the divisions in force at `at`, simplified for display;
    `packs` are the rule packs as `/v1/plans/{plan}` gives them. Raises InvalidInput for districts
    that cannot be drawn.
    """
    style = style or Style()
    words = {**WORDS[lang], **PLANNER_WORDS[lang]}
    parts = _folium_parts(json.dumps(districts["features"]), style.nothing_down, lang)
    plans = [plan_view(name, pack, lang, style) for name, pack in packs.items()]
    kinds = {**KINDS[lang]}
    kinds |= {kind: words[f"kind_{kind}"] for kind in FACILITY_KINDS if kind not in kinds}
    data = {
        "lang": lang,
        "plans": plans,
        "at": at,
        "map": MAP_VARIABLE,
        "layer": DISTRICTS_VARIABLE,
        "style": style.as_json(),
        "urls": dict(URLS),
        "words": words,
        "kinds": kinds,
        "csrf": csrf,
        "username": user.get("username"),
        "situation": situation,
    }
    other: Lang = "en" if lang == "zh" else "zh"
    return render(
        "planner.html",
        html_lang=HTML_LANGS[lang],
        head=Markup(parts.head),  # noqa: S704 - Folium's own markup, no stored text in it
        body=Markup(parts.body),  # noqa: S704
        script=Markup(parts.script),  # noqa: S704 - stored text only as JSON, see layers
        page_data=htmlsafe_json_dumps(data),
        level_rules=Markup(style.css_variables()),  # noqa: S704 - checked colours only
        words=words,
        kinds=kinds,
        plans=plans,
        user=user,
        csrf=csrf,
        urls=URLS,
        at=at,
        home_url=URLS["home"] + ("?" + urlencode({"at": at}) if at else ""),
        other_lang=other,
        other_lang_url="?" + urlencode({"lang": other, **({"at": at} if at else {})}),
        now_url="?" + urlencode({"lang": lang}),
        sources=sources(districts, lang),
        choices=choices(districts, lang),
        style_urls=(MAP_STYLE_URL, ASSET_URLS["leaflet_draw_css"], STYLE_URL),
        draw_url=ASSET_URLS["leaflet_draw_js"],
        script_url=SCRIPT_URL,
        tools=TOOLS,
        forms=FORMS,
        systems=CRS,
        facility_kinds=FACILITY_KINDS,
        equipment=EQUIPMENT,
        exports=EXPORTS,
        formats=FORMATS,
        states=STATES,
    )


def choices(districts: Mapping[str, Any], lang: Lang) -> list[tuple[str, str]]:
    """(code, name) of every district, by code: a list for those who do not use the map."""
    found: Sequence[Mapping[str, Any]] = [f["properties"] for f in districts["features"]]
    named = [
        (str(one["adcode"]), str((one.get("name_en") if lang == "en" else None) or one["name"]))
        for one in found
    ]
    return sorted(named)


@lru_cache(maxsize=4)
def _folium_parts(features: str, ground: str, lang: Lang) -> FoliumParts:
    """Rendering takes longer than all the rest of a page, and borders rarely change."""
    collection = {"type": "FeatureCollection", "features": json.loads(features)}
    return district_map(collection, ground, lang)
