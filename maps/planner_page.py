"""The planner's page: a region drawn, asked about, supposed about, and taken away as a file.

The page holds the borders, the words and the plans' criteria; every number comes from the API,
which also decides what this account may see. Stored text is passed as JSON and written with
`textContent` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maps.assets import ASSET_URLS, MAP_STYLE_URL, STATIC_PREFIX
from maps.map_view import MapView, district_name
from maps.page import Page
from maps.planner_words import PLANNER_WORDS
from maps.text import KINDS, WORDS, Lang

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


def render_planner(view: MapView) -> Page:
    """The page for an account, which has a `user`. Raises InvalidInput for districts that cannot be
    drawn."""
    words = {**WORDS[view.lang], **PLANNER_WORDS[view.lang]}
    kinds = {**KINDS[view.lang]}
    kinds |= {kind: words[f"kind_{kind}"] for kind in FACILITY_KINDS if kind not in kinds}
    return view.page(
        "planner.html",
        plans=view.plans(),
        urls=URLS,
        words=words,
        kinds=kinds,
        data={"csrf": view.csrf, "username": (view.user or {}).get("username")},
        home_url=view.at_this_time(URLS["home"]),
        choices=choices(view.districts, view.lang),
        style_urls=(MAP_STYLE_URL, ASSET_URLS["leaflet_draw_css"], STYLE_URL),
        library_urls=(ASSET_URLS["leaflet_draw_js"],),
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
    return sorted(
        (str(one["properties"]["adcode"]), district_name(one["properties"], lang))
        for one in districts["features"]
    )
