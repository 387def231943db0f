"""Coordinate reference systems: the only module that reprojects.

Everything Yutu computes with is WGS-84 longitude, latitude in degrees (EPSG:4326, GIS order).
Four datums reach it, and half a kilometre lies between them, so the caller always says which:

- `WGS84`      phones, GPX, EXIF.
- `CGCS2000`   the national datum; within 1 m of WGS-84 and taken as equal to it.
- `GCJ-02`     AMap, Tencent, WeChat: WGS-84 plus a periodic offset of 0.4–0.6 km inside a rectangle
               around China, none outside it.
- `BD-09`      Baidu: a second offset on top of GCJ-02.
- `EPSG:<n>`   a geographic or projected system on one of the first two datums; projected ones in
               metres, east before north, whatever axis order EPSG lists. Beijing 1954 and
               Xi'an 1980 are refused: no one set of parameters places them within a metre.

A system that is missing, unknown or in conflict with what a file states raises `CrsError`.
The forward offsets follow the formula in public circulation since 2013 (eviltransform and others);
their inverses are three fixed-point iterations, which leave less than 1 mm inside China.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final, overload

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from shapely.geometry.base import BaseGeometry

from geo.errors import CrsError, Fault, InvalidInput

Array = npt.NDArray[np.float64]

WGS84: Final = "WGS84"
CGCS2000: Final = "CGCS2000"
GCJ02: Final = "GCJ-02"
BD09: Final = "BD-09"

# West, south, east, north of the municipality with a margin of about 2 km, degrees WGS-84.
CHONGQING_BBOX: Final = (105.26, 28.14, 110.22, 32.23)
# Metres, used wherever a distance on the map of the whole city is needed (CGCS2000, central
# meridian 108° E; scale error below 0.1 % inside Chongqing). Never used for areas.
METRIC_CRS: Final = "EPSG:4545"

_WGS84_EPSG: Final = frozenset({4326, 3857, *range(32643, 32654)})
_CGCS2000_EPSG: Final = frozenset({4490, *range(4491, 4555)})
ACCEPTED: Final = (
    "WGS84, CGCS2000, GCJ-02 (高德, 腾讯), BD-09 (百度), EPSG:4326, EPSG:4490, EPSG:3857, "
    "EPSG:4491–4554 (CGCS2000 Gauss-Krüger zones), EPSG:32643–32653 (WGS 84 / UTM 43N–53N)"
)
_SPELLINGS: Final = {
    "WGS84": WGS84, "WGS1984": WGS84, "EPSG4326": WGS84, "CRS84": WGS84, "OGCCRS84": WGS84,
    "CGCS2000": CGCS2000, "CHINA2000": CGCS2000, "EPSG4490": CGCS2000, "国家2000": CGCS2000,
    "GCJ02": GCJ02, "GCJ2": GCJ02, "火星": GCJ02, "火星坐标": GCJ02, "国测局": GCJ02,
    "高德": GCJ02, "高德地图": GCJ02, "腾讯": GCJ02, "腾讯地图": GCJ02,
    "BD09": BD09, "BD09LL": BD09, "百度": BD09, "百度坐标": BD09, "百度地图": BD09,
}  # fmt: skip
_DEGREES: Final = frozenset({WGS84, CGCS2000, GCJ02, BD09})
_GEOD: Final = pyproj.Geod(ellps="WGS84")


def parse_crs(text: str | None) -> str:
    """The canonical name of a declared system: `WGS84`, `CGCS2000`, `GCJ-02`, `BD-09`, `EPSG:<n>`.

    Case, spaces, hyphens and underscores do not matter. Raises `CrsError` when nothing was
    declared or the system is not one that can be placed to within a metre.
    """
    if text is None or not text.strip():
        raise CrsError(
            [Fault(f"no coordinate system is declared; say one of {ACCEPTED}", None, "crs")]
        )
    key = re.sub(r"[\s_\-:/]+", "", text.upper()).removeprefix("URNOGCDEFCRS")
    if key in _SPELLINGS:
        return _SPELLINGS[key]
    match = re.fullmatch(r"EPSG0*(\d{4,6})", key)
    if match and int(match[1]) in _WGS84_EPSG | _CGCS2000_EPSG:
        return f"EPSG:{int(match[1])}"
    told = f" {text.strip()!r}" if _is_plausible(text) else ""
    raise CrsError([Fault(f"coordinate system{told} is not accepted; say one of {ACCEPTED}",
                          None, "crs")])  # fmt: skip


def _is_plausible(text: str) -> bool:
    """Whether it looks like the name of a system: only then is it repeated to whoever gave it."""
    name = text.strip()
    return (
        re.fullmatch(r"(?:[^\W_]|[-:_ ]){1,24}", name) is not None
        and sum(one.isnumeric() for one in name) <= 6
    )


def name_of_crs(stated: Any) -> str:
    """The canonical name of the system a file states (anything `pyproj.CRS` takes).

    Raises `CrsError` when it states none, or one that cannot be placed to within a metre.
    """
    if stated is None:
        raise CrsError(
            [Fault("the file states no coordinate system and none is declared", None, "crs")]
        )
    try:
        system = pyproj.CRS.from_user_input(stated)
    except pyproj.exceptions.CRSError as error:
        told = f" {stated.strip()!r}" if isinstance(stated, str) and _is_plausible(stated) else ""
        raise CrsError([Fault(f"unknown coordinate system{told}", None, "crs")]) from error
    authority = system.to_authority(min_confidence=70)
    if authority is None and system.is_bound and system.source_crs is not None:
        authority = system.source_crs.to_authority(min_confidence=70)
    if authority is None:
        told = f" {system.name.strip()!r}" if _is_plausible(system.name) else ""
        raise CrsError([Fault(f"coordinate system{told} has no EPSG code; "
                              f"convert the file to one of {ACCEPTED}", None, "crs")])  # fmt: skip
    return parse_crs(":".join(authority))


def reconcile_crs(stated: str | None, declared: str | None) -> str:
    """Which system a file is in, from what it states itself and what the uploader declares.

    A file labelled in WGS-84 or CGCS2000 degrees may hold any of the four datums, because formats
    have no label for GCJ-02 and BD-09: there the declaration decides. Any other difference is a
    `CrsError`, and so is the absence of both.
    """
    if declared is None or not declared.strip():
        return parse_crs(stated)
    said = parse_crs(declared)
    if stated is None or parse_crs(stated) == said:
        return said
    if parse_crs(stated) in {WGS84, CGCS2000} and said in _DEGREES:
        return said
    raise CrsError([Fault(f"the file states {parse_crs(stated)} but {said} is declared; "
                          "declare what the file states or convert it", None, "crs")])  # fmt: skip


@overload
def to_wgs84(x: float, y: float, crs: str | None) -> tuple[float, float]: ...
@overload
def to_wgs84(x: npt.ArrayLike, y: npt.ArrayLike, crs: str | None) -> tuple[Array, Array]: ...
def to_wgs84(x: Any, y: Any, crs: str | None) -> Any:
    """Longitude and latitude in WGS-84 degrees of `x`, `y` given in `crs` (east/longitude first).

    Scalars give floats, arrays of equal shape give float64 arrays. Raises `CrsError` for the
    system, `InvalidInput` for values that are not finite or lie outside its range; for arrays each
    fault's `row` is the 1-based position.
    """
    system = parse_crs(crs)
    east, north = _finite_pair(x, y, system)
    lon, lat = _inverse(east, north, system)
    _require_degrees(lon, lat, system)
    return (float(lon), float(lat)) if lon.ndim == 0 else (lon, lat)


@overload
def from_wgs84(lon: float, lat: float, crs: str | None) -> tuple[float, float]: ...
@overload
def from_wgs84(lon: npt.ArrayLike, lat: npt.ArrayLike, crs: str | None) -> tuple[Array, Array]: ...
def from_wgs84(lon: Any, lat: Any, crs: str | None) -> Any:
    """The coordinates in `crs` (east/longitude first) of WGS-84 degrees."""
    system = parse_crs(crs)
    east, north = _finite_pair(lon, lat, WGS84)
    x, y = _forward(east, north, system)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InvalidInput([Fault(f"the position cannot be expressed in {system}")])
    return (float(x), float(y)) if x.ndim == 0 else (x, y)


def geometry_to_wgs84(geometry: Any, crs: str | None) -> Any:
    """A shapely geometry (or an array of them) from `crs` to WGS-84 degrees, vertex by vertex.

    Heights are dropped. None stays None, empty stays empty. Equal vertices stay equal, so shared
    borders stay shared when the whole coverage is given in one array.
    """
    return _transform(geometry, crs, to_wgs84)


def geometry_from_wgs84(geometry: Any, crs: str | None) -> Any:
    """A shapely geometry (or an array of them) from WGS-84 degrees to `crs`, heights dropped."""
    return _transform(geometry, crs, from_wgs84)


def frame_to_wgs84(frame: Any, crs: str | None = None) -> Any:
    """A GeoDataFrame in EPSG:4326 of one in its own `frame.crs` or in the declared `crs`.

    Both are weighed by `reconcile_crs`. The index and the other columns are kept. Raises
    `CrsError`, or `InvalidInput` with one fault per row that has a vertex out of range.
    """
    import geopandas  # 60 MB that only frames need

    stated = None if frame.crs is None else name_of_crs(frame.crs)
    system = reconcile_crs(stated, crs)
    geometries = np.asarray(frame.geometry.array, dtype=object)
    try:
        moved = geometry_to_wgs84(geometries, system)
    except InvalidInput as error:
        raise InvalidInput(list(_faults_by_row(geometries, system)) or error.faults) from error
    series = geopandas.GeoSeries(moved, index=frame.index, crs="EPSG:4326")
    return frame.set_geometry(series.rename(frame.geometry.name), crs="EPSG:4326")


def swapped_hint(x: float, y: float, crs: str | None = WGS84) -> str | None:
    """`"swapped"` when a point lies outside Chongqing but inside once x and y are exchanged.

    Only a hint for the person: nothing is exchanged. None when the point is inside, or outside
    either way, or not a position at all.
    """
    system = parse_crs(crs)
    return "swapped" if not _near_city(x, y, system) and _near_city(y, x, system) else None


def area_m2(geometry: Any) -> Any:
    """Area in m² on the WGS-84 ellipsoid of geometries in WGS-84 degrees (holes do not count).

    One geometry gives a float, an array of them a float64 array. Points, lines and empty
    geometries have none (0.0); a missing geometry is nan. Edges are straight in longitude and
    latitude, as in GeoJSON (RFC 7946) and in every overlay made here, so the parts of a polygon
    add up to the whole; with edges of a few kilometres it equals the geodesic area. Each edge adds
    the ellipsoid's area between itself and the equator (q of Snyder 1987, equation 3-12, averaged
    over the edge by Gauss-Legendre quadrature of five points).
    """
    scalar = geometry is None or isinstance(geometry, BaseGeometry)
    geometries = np.atleast_1d(np.asarray(geometry, dtype=object))
    parts, owner = _polygon_parts(geometries)
    rings, polygon = shapely.get_rings(parts, return_index=True)
    areas = np.abs(_ring_areas(rings))
    is_hole = np.r_[False, polygon[1:] == polygon[:-1]] if len(polygon) else np.zeros(0, dtype=bool)
    signed = np.where(is_hole, -areas, areas)
    total = np.bincount(owner[polygon], weights=signed, minlength=len(geometries))
    total = np.where(shapely.is_missing(geometries), np.nan, total)
    return float(total[0]) if scalar else total


def length_m(geometry: Any) -> Any:
    """Geodesic length in metres of lines (of rings for polygons) in WGS-84 degrees.

    One geometry gives a float, an array a float64 array; points 0.0, missing nan.
    """
    scalar = geometry is None or isinstance(geometry, BaseGeometry)
    geometries = np.atleast_1d(np.asarray(geometry, dtype=object))
    lengths = np.array(
        [
            np.nan if g is None else 0.0 if g.is_empty else float(_GEOD.geometry_length(g))
            for g in shapely.force_2d(geometries)
        ]
    )
    return float(lengths[0]) if scalar else lengths


# --- GCJ-02 and BD-09 -------------------------------------------------------------------------

_AXIS_M: Final = 6378245.0  # semi-major axis and squared eccentricity of the formula's ellipsoid
_E2: Final = 0.00669342162296594323
_BD_TURN: Final = np.pi * 3000.0 / 180.0
_BD_EAST: Final = 0.0065
_BD_NORTH: Final = 0.006
_ITERATIONS: Final = 3


def _in_rectangle(lon: Array, lat: Array) -> npt.NDArray[np.bool_]:
    return (lon >= 72.004) & (lon <= 137.8347) & (lat >= 0.8293) & (lat <= 55.8271)


def _waves(u: Array, *terms: tuple[float, float]) -> Array:
    total = np.zeros_like(u)
    for amplitude, divisor in terms:
        total += amplitude * np.sin(u * np.pi / divisor)
    return total * 2.0 / 3.0


def _wgs84_to_gcj02(lon: Array, lat: Array) -> tuple[Array, Array]:
    x, y = lon - 105.0, lat - 35.0
    shared = _waves(x, (20.0, 1 / 6), (20.0, 0.5))
    root = np.sqrt(np.abs(x))
    north_m = -100 + 2 * x + 3 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * root + shared
    north_m += _waves(y, (20.0, 1.0), (40.0, 3.0), (160.0, 12.0), (320.0, 30.0))
    east_m = 300 + x + 2 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * root + shared
    east_m += _waves(x, (20.0, 1.0), (40.0, 3.0), (150.0, 12.0), (300.0, 30.0))
    phi = np.radians(lat)
    w2 = 1 - _E2 * np.sin(phi) ** 2
    d_lat = np.degrees(north_m * w2 * np.sqrt(w2) / (_AXIS_M * (1 - _E2)))
    d_lon = np.degrees(east_m * np.sqrt(w2) / (_AXIS_M * np.cos(phi)))
    inside = _in_rectangle(lon, lat)
    return np.where(inside, lon + d_lon, lon), np.where(inside, lat + d_lat, lat)


def _gcj02_to_bd09(x: Array, y: Array) -> tuple[Array, Array]:
    radius = np.hypot(x, y) + 2e-5 * np.sin(y * _BD_TURN)
    angle = np.arctan2(y, x) + 3e-6 * np.cos(x * _BD_TURN)
    return radius * np.cos(angle) + _BD_EAST, radius * np.sin(angle) + _BD_NORTH


def _invert(
    forward: Callable[[Array, Array], tuple[Array, Array]],
    x: Array,
    y: Array,
    start_x: Array,
    start_y: Array,
) -> tuple[Array, Array]:
    """Where `forward` leads to x, y. Each step shrinks the error fifty-fold or more."""
    lon, lat = start_x, start_y
    for _ in range(_ITERATIONS):
        there_lon, there_lat = forward(lon, lat)
        lon, lat = lon + (x - there_lon), lat + (y - there_lat)
    return lon, lat


# --- pieces ---------------------------------------------------------------------------------------


@lru_cache(maxsize=128)
def _projection(epsg: int) -> tuple[pyproj.Transformer, pyproj.Transformer]:
    # Against the datum of the projection itself: PROJ then applies no datum shift, and none that
    # would depend on which grids are installed.
    datum = 4490 if epsg in _CGCS2000_EPSG else 4326
    make = pyproj.Transformer.from_crs
    return make(datum, epsg, always_xy=True), make(epsg, datum, always_xy=True)


def _inverse(x: Array, y: Array, system: str) -> tuple[Array, Array]:
    if system == BD09:
        x, y = _invert(_gcj02_to_bd09, x, y, x - _BD_EAST, y - _BD_NORTH)
    if system in (GCJ02, BD09):
        return _invert(_wgs84_to_gcj02, x, y, x, y)
    if system.startswith("EPSG:"):
        lon, lat = _projection(int(system[5:]))[1].transform(x, y)
        return np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
    return x, y


def _forward(lon: Array, lat: Array, system: str) -> tuple[Array, Array]:
    if system == GCJ02:
        return _wgs84_to_gcj02(lon, lat)
    if system == BD09:
        return _gcj02_to_bd09(*_wgs84_to_gcj02(lon, lat))
    if system.startswith("EPSG:"):
        x, y = _projection(int(system[5:]))[0].transform(lon, lat)
        return np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    return lon, lat


def _finite_pair(x: Any, y: Any, system: str) -> tuple[Array, Array]:
    try:
        east, north = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput([Fault("coordinates must be numbers")]) from error
    if east.shape != north.shape:
        raise InvalidInput([Fault(f"{east.size} first against {north.size} second coordinates")])
    bad = ~(np.isfinite(east) & np.isfinite(north))
    _raise_where(bad, "the coordinates are missing or not finite")
    if system in _DEGREES:
        _require_degrees(east, north, system)
    return east, north


def _require_degrees(lon: Array, lat: Array, system: str) -> None:
    good = (np.abs(lon) <= 180) & (np.abs(lat) <= 90)
    _raise_where(~good, f"not a position in {system}: longitude is within ±180°, latitude ±90°")


def _raise_where(bad: npt.NDArray[np.bool_], reason: str) -> None:
    if bad.any():
        rows: Iterable[int | None] = [None] if bad.ndim == 0 else (np.flatnonzero(bad) + 1).tolist()
        raise InvalidInput([Fault(reason, row, "position") for row in rows])


def _transform(
    geometry: Any, crs: str | None, move: Callable[[Array, Array, str], tuple[Array, Array]]
) -> Any:
    system = parse_crs(crs)

    def shift(coordinates: Array) -> Array:
        try:
            return np.column_stack(move(coordinates[:, 0], coordinates[:, 1], system))
        except InvalidInput as error:
            # A vertex number is no row of the caller's: say what is wrong, once.
            raise InvalidInput([Fault(error.faults[0].reason, None, "geometry")]) from error

    if geometry is None:
        return None
    return shapely.transform(geometry, shift)


def _faults_by_row(geometries: npt.NDArray[np.object_], system: str) -> Iterable[Fault]:
    for row, geometry in enumerate(geometries, start=1):
        try:
            geometry_to_wgs84(geometry, system)
        except InvalidInput as error:
            yield Fault(error.faults[0].reason, row, "geometry")


def _near_city(x: float, y: float, system: str) -> bool:
    try:
        lon, lat = to_wgs84(float(x), float(y), system)
    except InvalidInput:
        return False
    west, south, east, north = CHONGQING_BBOX
    return west <= lon <= east and south <= lat <= north


def _polygon_parts(
    geometries: npt.NDArray[np.object_],
) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.intp]]:
    """Every polygon inside the geometries, however nested, and the position of its owner."""
    parts, owner = shapely.get_parts(geometries, return_index=True)
    while (shapely.get_type_id(parts) > 3).any():
        parts, inner = shapely.get_parts(parts, return_index=True)
        owner = owner[inner]
    keep = (shapely.get_type_id(parts) == 3) & ~shapely.is_empty(parts)
    return parts[keep], owner[keep]


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(5)


def _ring_areas(rings: npt.NDArray[np.object_]) -> Array:
    """Signed areas in m² of closed rings in WGS-84 degrees."""
    coordinates, ring = shapely.get_coordinates(rings, return_index=True)
    if len(coordinates) == 0:
        return np.zeros(len(rings))
    lon, lat = np.radians(coordinates).T
    same = ring[1:] == ring[:-1]
    span = (lon[1:] - lon[:-1])[same]
    middle, half = ((lat[1:] + lat[:-1]) / 2)[same], ((lat[1:] - lat[:-1]) / 2)[same]
    e2 = _GEOD.es
    e = np.sqrt(e2)
    mean_q = np.zeros_like(span)
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        s = np.sin(middle + half * node)
        q = (1 - e2) * (s / (1 - e2 * s * s) + np.arctanh(e * s) / e)
        mean_q += weight / 2 * q
    edge = _GEOD.a**2 / 2 * mean_q * span
    sums = np.bincount(ring[1:][same], weights=edge, minlength=len(rings))
    return sums.astype(np.float64)
