"""Where every script and stylesheet of the pages lives; nothing is ever loaded from elsewhere.

Folium's elements name their assets with addresses of public CDNs. `localise` walks a figure and
gives every *instance* the addresses below (never the class: that would change every other map of
the process), and raises on a name that is not in the table, so that a new Folium plugin cannot
quietly bring a request off the host.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from branca.element import Element, Figure

ASSETS_DIR = Path(__file__).resolve().parent / "assets"
STATIC_PREFIX = "/static"

LEAFLET = "leaflet-1.9.4"
LEAFLET_DRAW = "leaflet-draw-1.0.4"

# Folium's name of an asset → its address here.
ASSET_URLS: Mapping[str, str] = MappingProxyType(
    {
        "leaflet": f"{STATIC_PREFIX}/{LEAFLET}/leaflet.js",
        "leaflet_css": f"{STATIC_PREFIX}/{LEAFLET}/leaflet.css",
        "leaflet_draw_js": f"{STATIC_PREFIX}/{LEAFLET_DRAW}/leaflet.draw.js",
        "leaflet_draw_css": f"{STATIC_PREFIX}/{LEAFLET_DRAW}/leaflet.draw.css",
    }
)

# What `folium.Map` asks for although a map without its markers and pop-ups uses none of it.
UNUSED_BY_MAP = frozenset(
    {
        "jquery",
        "bootstrap",
        "bootstrap_css",
        "awesome_markers",
        "awesome_markers_css",
        "awesome_markers_font_css",
        "awesome_rotate_css",
        "glyphicons_css",
    }
)

# Own files, all under assets/yutu.
OWN_SCRIPTS = (
    "assessment.js",
    "choropleth.js",
    "city_view.js",
    "connection.js",
    "district.js",
    "dom.js",
    "field.js",
    "field_form.js",
    "field_map.js",
    "field_place.js",
    "field_position.js",
    "field_queue.js",
    "field_sender.js",
    "field_store.js",
    "field_worker.js",
    "header.js",
    "incidents.js",
    "inset.js",
    "labels.js",
    "legend.js",
    "main.js",
    "planner.js",
    "planner_api.js",
    "planner_changes.js",
    "planner_export.js",
    "planner_facilities.js",
    "planner_geojson.js",
    "planner_moments.js",
    "planner_numbers.js",
    "planner_outline.js",
    "planner_result.js",
    "planner_saved.js",
    "planner_when.js",
    "points.js",
    "table.js",
    "teams.js",
)
OWN_STYLES = ("map.css", "login.css", "field.css", "planner.css")
# The pictures are named by the stylesheet.
DRAW_FILES = (
    "leaflet.draw.js",
    "leaflet.draw.css",
    "images/spritesheet.png",
    "images/spritesheet-2x.png",
    "images/spritesheet.svg",
)
OWN_OTHERS = ("field.webmanifest", "field-192.png", "field-512.png")
MAIN_SCRIPT_URL = f"{STATIC_PREFIX}/yutu/main.js"
MAP_STYLE_URL = f"{STATIC_PREFIX}/yutu/map.css"
LOGIN_STYLE_URL = f"{STATIC_PREFIX}/yutu/login.css"


class UnknownAsset(LookupError):
    """A map element wants a script or stylesheet that Yutu does not serve itself."""

    def __init__(self, name: str, element: str) -> None:
        super().__init__(
            f"{element} needs the asset {name!r}, which is not self-hosted: add its npm package to "
            "maps/assets/package.json and its address to maps/assets.py"
        )


def static_files() -> dict[str, Path]:
    """URL path → file, for every file the pages load; serve these and no folder."""
    leaflet = ASSETS_DIR / "node_modules" / "leaflet" / "dist"
    files = {
        ASSET_URLS["leaflet"]: leaflet / "leaflet.js",
        ASSET_URLS["leaflet_css"]: leaflet / "leaflet.css",
    }
    draw = ASSETS_DIR / "node_modules" / "leaflet-draw" / "dist"
    for name in DRAW_FILES:
        files[f"{STATIC_PREFIX}/{LEAFLET_DRAW}/{name}"] = draw / name
    for name in (*OWN_SCRIPTS, *OWN_STYLES, *OWN_OTHERS):
        files[f"{STATIC_PREFIX}/yutu/{name}"] = ASSETS_DIR / "yutu" / name
    return files


def missing_files() -> list[Path]:
    """Files of `static_files` that are absent, as before `npm ci --ignore-scripts`."""
    return [path for path in static_files().values() if not path.is_file()]


def descendants(element: Element) -> Iterator[Element]:
    """The element's children at every depth; of a figure also header, body and script."""
    from branca.element import Figure  # with Folium: a quarter of a second, for a page that draws

    parts = list(element._children.values())
    if isinstance(element, Figure):
        parts += [element.header, element.html, element.script]
    for part in parts:
        yield part
        yield from descendants(part)


def localise(figure: Figure) -> None:
    """Point every element's assets at this server; raises UnknownAsset for a name not served."""
    import folium

    for element in descendants(figure):
        for attribute in ("default_js", "default_css"):
            wanted = getattr(element, attribute, None)
            if wanted is None:
                continue
            if isinstance(element, folium.Map):
                wanted = [(name, url) for name, url in wanted if name not in UNUSED_BY_MAP]
            setattr(element, attribute, [(name, _url(name, element)) for name, _ in wanted])


def refuse_foreign_links(figure: Figure) -> None:
    """After rendering: raise UnknownAsset if an element put a link of its own into the page."""
    from branca.element import Link

    for element in descendants(figure):
        if isinstance(element, Link) and element.url not in ASSET_URLS.values():
            raise UnknownAsset(element.url, type(element).__name__)


def _url(name: str, element: Element) -> str:
    try:
        return ASSET_URLS[name]
    except KeyError:
        raise UnknownAsset(name, type(element).__name__) from None
