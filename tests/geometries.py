"""A zoo of geometries in WGS-84 degrees around Chongqing, for parametrizing spatial tests."""

from __future__ import annotations

import numpy as np
import shapely
from shapely import (
    GeometryCollection,
    LineString,
    MultiLineString,
    MultiPoint,
    MultiPolygon,
    Point,
    Polygon,
    box,
)
from shapely.geometry.base import BaseGeometry

_LON, _LAT = 106.55, 29.56  # Yuzhong

SQUARE = box(_LON, _LAT, _LON + 0.1, _LAT + 0.1)
HOLED = Polygon(
    SQUARE.exterior.coords,
    [box(_LON + 0.02, _LAT + 0.02, _LON + 0.05, _LAT + 0.05).exterior.coords],
)
MULTIPART = MultiPolygon([SQUARE, box(_LON + 1, _LAT, _LON + 1.1, _LAT + 0.1)])
BOWTIE = Polygon([(_LON, _LAT), (_LON + 0.1, _LAT + 0.1), (_LON + 0.1, _LAT), (_LON, _LAT + 0.1)])
_ANGLE = np.linspace(0, 2 * np.pi, 20_001)

VALID: dict[str, BaseGeometry] = {
    "point": Point(_LON, _LAT),
    "point_z": Point(_LON, _LAT, 244.0),
    "multipoint": MultiPoint([(_LON, _LAT), (_LON + 0.1, _LAT)]),
    "line": LineString([(_LON, _LAT), (_LON + 0.1, _LAT + 0.1)]),
    "multiline": MultiLineString([[(_LON, _LAT), (_LON + 0.1, _LAT)], [(107, 30), (107.1, 30.1)]]),
    "square": SQUARE,
    "clockwise": Polygon(list(SQUARE.exterior.coords)[::-1]),
    "holed": HOLED,
    "multipart": MULTIPART,
    "polygon_z": shapely.force_3d(SQUARE, 244.0),
    "sliver": Polygon([(_LON, _LAT), (_LON + 0.5, _LAT + 1e-7), (_LON + 0.5, _LAT)]),
    "tiny": box(_LON, _LAT, _LON + 1e-5, _LAT + 1e-5),
    "huge": box(-180, -90, 180, 90),
    "many_vertices": Polygon(
        np.column_stack([_LON + 0.2 * np.cos(_ANGLE), _LAT + 0.2 * np.sin(_ANGLE)])
    ),
    "collection": GeometryCollection([SQUARE, Point(_LON, _LAT)]),
    "nested_collection": GeometryCollection([GeometryCollection([HOLED]), Point(_LON, _LAT)]),
}
EMPTY: dict[str, BaseGeometry] = {
    "empty_point": Point(),
    "empty_line": LineString(),
    "empty_polygon": Polygon(),
    "empty_multipolygon": MultiPolygon(),
    "empty_collection": GeometryCollection(),
}
INVALID: dict[str, BaseGeometry] = {
    "bowtie": BOWTIE,
    "overlapping_parts": MultiPolygon([SQUARE, box(_LON + 0.05, _LAT, _LON + 0.2, _LAT + 0.1)]),
    "hole_outside": Polygon(SQUARE.exterior.coords, [box(110, 30, 110.1, 30.1).exterior.coords]),
    "flat": Polygon([(_LON, _LAT), (_LON + 0.1, _LAT), (_LON + 0.05, _LAT)]),
}
NOT_A_PLACE: dict[str, BaseGeometry] = {
    "nan_point": Point(float("nan"), _LAT),
    "infinite_line": LineString([(_LON, _LAT), (float("inf"), _LAT)]),
    "out_of_range": Point(_LAT, _LON + 30),
    "projected_metres": Point(500_000.0, 3_270_000.0),
}
ZOO: dict[str, BaseGeometry | None] = {"none": None, **VALID, **EMPTY, **INVALID, **NOT_A_PLACE}
