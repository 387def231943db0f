"""GeoJSON geometries (RFC 7946 §3.1) at the door, checked before GEOS sees a vertex.

Vertices are counted and rings looked at in plain Python first: a hostile geometry must not reach
native code, which neither a timeout nor an exception stops.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, Final

import shapely
from shapely.geometry.base import BaseGeometry

from geo.crs import swapped_hint
from geo.errors import Fault, InvalidInput, TooLarge

VERTICES_MAX: Final = 10_000
"""Vertices of one reported geometry."""

#: Levels of lists down to a position, which is itself a list of numbers.
_LEVELS: Final = {
    "Point": 0,
    "MultiPoint": 1,
    "LineString": 1,
    "MultiLineString": 2,
    "Polygon": 2,
    "MultiPolygon": 3,
}
_LINES: Final = frozenset({"LineString", "MultiLineString"})
_AREAS: Final = frozenset({"Polygon", "MultiPolygon"})


def read_geometry(
    value: Any,
    *,
    types: Collection[str] = tuple(_LEVELS),
    vertices_max: int = VERTICES_MAX,
    field: str = "geometry",
) -> BaseGeometry:
    """The shapely geometry of a GeoJSON object, in its own system, without heights.

    Raises TooLarge above `vertices_max`, InvalidInput for another type, lists that are not
    positions, numbers that are not finite, rings that are short or not closed, and nothing at all.
    Whether the shape is valid is not asked here: `geo.validate.check_geometry` does, in WGS-84.
    """
    if not isinstance(value, dict):
        raise _invalid(field, "must be a GeoJSON geometry object or null")
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in types or kind not in _LEVELS:
        raise _invalid(field, f"its type must be one of {', '.join(types)}")
    coordinates = value.get("coordinates")
    if _count(coordinates, _LEVELS[kind], vertices_max) > vertices_max:
        reason = f"has more than the limit of {vertices_max} vertices; simplify it"
        raise TooLarge([Fault(reason, None, field)])
    positions = _positions(coordinates, _LEVELS[kind], field)
    if kind in _LINES:
        _check_lengths(positions, _LEVELS[kind] - 1, 2, field)
    elif kind in _AREAS:
        _check_lengths(positions, _LEVELS[kind] - 1, 4, field)
        _check_closed(positions, _LEVELS[kind] - 1, field)
    return _build(kind, positions)


def _invalid(field: str, reason: str) -> InvalidInput:
    return InvalidInput([Fault(reason, None, field)])


def _count(value: Any, levels: int, enough: int) -> int:
    """How many positions there are; stops once there are more than `enough`."""
    if levels == 0 or not isinstance(value, list):
        return 1
    total = 0
    for part in value:
        total += _count(part, levels - 1, enough - total)
        if total > enough:
            break
    return total


def _positions(value: Any, levels: int, field: str) -> Any:
    """The same nesting with (x, y) pairs at the bottom."""
    if not isinstance(value, list):
        raise _invalid(field, "coordinates are lists of positions, as its type has them")
    if levels:
        if not value:
            raise _invalid(field, "the geometry is empty")
        return [_positions(part, levels - 1, field) for part in value]
    if len(value) < 2 or not all(type(number) in (int, float) for number in value):
        raise _invalid(field, "a position is [longitude, latitude], two numbers")
    x, y = float(value[0]), float(value[1])
    if not (math.isfinite(x) and math.isfinite(y)):
        raise _invalid(field, "a coordinate is not finite")
    return (x, y)


def _check_lengths(value: Any, levels: int, least: int, field: str) -> None:
    if levels:
        for part in value:
            _check_lengths(part, levels - 1, least, field)
    elif len(value) < least:
        if least == 2:
            raise _invalid(field, "a line has at least two positions")
        raise _invalid(field, "a ring has at least four positions, the first again as the last")


def _check_closed(value: Any, levels: int, field: str) -> None:
    if levels:
        for part in value:
            _check_closed(part, levels - 1, field)
    elif value[0] != value[-1]:
        x, y = value[0]
        raise _invalid(field, f"a ring that begins at [{x:.10g}, {y:.10g}] is not closed")


def _build(kind: str, positions: Any) -> BaseGeometry:
    if kind == "Point":
        return shapely.Point(positions)
    if kind == "MultiPoint":
        return shapely.MultiPoint(positions)
    if kind == "LineString":
        return shapely.LineString(positions)
    if kind == "MultiLineString":
        return shapely.MultiLineString(positions)
    if kind == "Polygon":
        return shapely.Polygon(positions[0], positions[1:])
    return shapely.MultiPolygon([(rings[0], rings[1:]) for rings in positions])


def refuse_exchanged(geometry: BaseGeometry, system: str) -> None:
    """Raises InvalidInput with the hint for a geometry, in degrees or metres of `system`, of which
    every corner lies in Chongqing once x and y are exchanged. Nothing is exchanged."""
    if geometry.is_empty:
        return
    west, south, east, north = geometry.bounds
    corners = [(west, south), (east, north)]
    if all(swapped_hint(x, y, system) == "swapped" for x, y in corners):
        reason = (
            "lies outside Chongqing, but inside with x and y exchanged:"
            " GeoJSON is [longitude, latitude]"
        )
        raise InvalidInput([Fault(reason, None, "geometry")])
