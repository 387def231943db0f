"""The Folium map itself: the base without tiles and the districts, with names that do not change.

Folium names its variables at random; here they are fixed, so that the same districts give the same
bytes, the same content security policy and the same ETag in every process.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from shapely.geometry import Polygon, shape
from shapely.geometry.base import BaseGeometry

from geo.errors import InvalidInput
from maps.assets import localise, refuse_foreign_links
from maps.text import Lang

if TYPE_CHECKING:
    from branca.element import Figure

MAP_ID = "yutu"
DISTRICTS_ID = "districts"
MAP_VARIABLE = f"map_{MAP_ID}"
DISTRICTS_VARIABLE = f"geo_json_{DISTRICTS_ID}"

# What the page's script reads of a district; nothing else of a stored record goes into the page.
PROPERTIES = ("adcode", "approximate")

LABEL_TOLERANCE_DEG = 0.002
_VIEWPORT = re.compile(r'<meta name="viewport"[^>]*>')


class FoliumParts:
    """The rendered pieces of a figure: `head`, `body` and the text of its one inline `script`."""

    def __init__(self, figure: Figure) -> None:
        localise(figure)
        figure.render()
        refuse_foreign_links(figure)
        # Folium forbids zooming on phones; the page brings its own viewport.
        self.head = _VIEWPORT.sub("", str(figure.header.render()))
        self.body = str(figure.html.render())
        self.script = str(figure.script.render())


def district_map(districts: Mapping[str, Any], ground: str, lang: Lang) -> FoliumParts:
    """The choropleth's map of a FeatureCollection of districts (WGS-84, `properties.adcode`).

    Districts start in the colour `ground`; the page's script paints them. Raises InvalidInput where
    an adcode is missing or stands twice, or a geometry is no area in degrees.
    """
    import folium  # a quarter of a second with Branca, for a page that draws
    from branca.element import Figure

    collection = _trimmed(districts, lang)
    west, south, east, north = _bounds(collection)
    map_ = folium.Map(
        location=[(south + north) / 2, (west + east) / 2],
        zoom_start=8,
        tiles=None,
        zoom_control=False,
        attribution_control=False,
        zoom_snap=0.25,
        zoom_delta=0.75,
        wheel_px_per_zoom_level=90,
        min_zoom=6,
        max_zoom=15,
    )
    map_._id = MAP_ID
    neutral = {
        "color": "#8f9db0",
        "weight": 0.9,
        "fillColor": ground,
        "fillOpacity": 1,
    }
    # The borders are simplified as one coverage already: Leaflet must not thin each by itself,
    # which would open gaps between neighbours.
    layer = folium.GeoJson(collection, style_function=lambda _: neutral, smooth_factor=0)
    layer._id = DISTRICTS_ID
    layer.add_to(map_)
    figure = Figure()
    figure._id = "page"
    figure.add_child(map_)
    return FoliumParts(figure)


def label_circle(geometry: BaseGeometry | None) -> tuple[float, float, float] | None:
    """(lon, lat, radius) of the largest circle inside the largest part, where a name has most room;
    the radius in degrees of latitude, 0 in an invalid geometry. None for no area."""
    if geometry is None or geometry.is_empty:
        return None
    parts = [
        part for part in shapely.get_parts(geometry) if isinstance(part, Polygon) and part.area
    ]
    if not parts:
        return None
    largest = max(parts, key=lambda part: part.area)
    if not largest.is_valid:
        point = largest.representative_point()
        return round(point.x, 5), round(point.y, 5), 0.0
    squeeze = math.cos(math.radians(largest.centroid.y))
    square = shapely.transform(largest, lambda xy: xy * [squeeze, 1.0])
    circle = shapely.maximum_inscribed_circle(square, tolerance=LABEL_TOLERANCE_DEG)
    x, y = circle.coords[0]
    return round(x / squeeze, 5), round(y, 5), round(circle.length, 5)


def _trimmed(districts: Mapping[str, Any], lang: Lang) -> dict[str, Any]:
    seen: set[str] = set()
    features = []
    for feature in districts["features"]:
        stored = feature.get("properties") or {}
        adcode = str(stored.get("adcode") or feature.get("id") or "")
        if not adcode or adcode in seen:
            raise InvalidInput(
                f"the district code {adcode!r} stands twice" if adcode else "a district has no code"
            )
        seen.add(adcode)
        geometry = feature.get("geometry")
        properties = {key: stored[key] for key in PROPERTIES if key in stored}
        properties["adcode"] = adcode
        properties["name"] = str(
            (stored.get("name_en") if lang == "en" else None) or stored.get("name") or adcode
        )
        properties["label"] = label_circle(shape(geometry) if geometry else None)
        features.append(
            {"type": "Feature", "id": adcode, "properties": properties, "geometry": geometry}
        )
    if not features:
        raise InvalidInput("there are no districts to draw")
    return {"type": "FeatureCollection", "features": features}


def _bounds(collection: Mapping[str, Any]) -> tuple[float, float, float, float]:
    drawn = []
    for feature in collection["features"]:
        if (geometry := feature["geometry"]) is None:
            continue
        if geometry["type"] not in ("Polygon", "MultiPolygon"):
            raise InvalidInput(f"district {feature['id']} is no area but a {geometry['type']}")
        drawn.append(shape(geometry))
    xy = shapely.get_coordinates(drawn)
    if not len(xy):
        raise InvalidInput("no district has a geometry")
    # Written so that NaN, which is neither, fails too.
    if not (np.abs(xy) <= [180.0, 90.0]).all():
        raise InvalidInput("a district lies outside of longitude and latitude in degrees")
    (west, south), (east, north) = xy.min(axis=0), xy.max(axis=0)
    return float(west), float(south), float(east), float(north)
