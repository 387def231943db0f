"""A region someone asks about: read at the door, drawn in WGS-84, cut by the districts.

A region is an area, a circle (`Point` with `radius_m`), a line with a margin (`buffer_m`), or a
list of districts. Its corners are brought to WGS-84 one by one and joined by straight lines in
longitude and latitude, as RFC 7946 says, whatever system they were given in: the same corners are
the same region in every datum. Circles and margins are geodesic. Vertices are counted before GEOS
sees one, because nothing stops GEOS.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely
from shapely.geometry.base import BaseGeometry

from geo.crs import WGS84, area_m2, geometry_to_wgs84, length_m, parse_crs
from geo.cut import cut, cut_one
from geo.errors import CrsError, Fault, InvalidInput
from geo.geojson import VERTICES_MAX, read_geometry, refuse_exchanged
from geo.split import MEASURE_NOISE
from geo.validate import AREAS, check_geometry

LINE_VERTICES_MAX: Final = 1_000
"""Vertices of a line with a margin: each becomes a circle, and all are united."""
RADIUS_M_MAX: Final = 1_000_000.0
BUFFER_M_MAX: Final = 100_000.0
LINE_M_MAX: Final = 2_000_000.0
ADCODES_MAX: Final = 100
CUT_S_MAX: Final = 3.0
"""Seconds for cutting a region by the districts; a spiky one of 10 000 vertices would take more."""

#: Corners of a drawn circle: its area is then within 0.002 % of the true one.
_CIRCLE_CORNERS: Final = 720
_JOINT_CORNERS: Final = 180
#: A straight line in degrees bends on the ground; its margin follows it in steps of so many metres.
_STEP_M: Final = 2_000.0
_GEOD: Final = pyproj.Geod(ellps="WGS84")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Region:
    """What was asked about: `geometry` is WGS-84 and valid, None for a list of `adcodes`.

    `kind`: polygon, circle, line or districts. `crs` is the system it was given in.
    """

    kind: str
    crs: str
    geometry: BaseGeometry | None
    adcodes: tuple[str, ...] = ()
    radius_m: float | None = None
    buffer_m: float | None = None


@dataclass(frozen=True)
class DistrictPart:
    """What of a district lies in a region; `whole` when all of it does. Areas in m²."""

    adcode: str
    name: str
    population: int | None
    area_m2: float
    share_of_district: float
    whole: bool


@dataclass(frozen=True)
class RegionParts:
    """A region cut by the districts: `area_m2` is the sum of the parts and of `outside_m2`.

    `cut`: the districts it touches and does not cover, those it only touches included.
    """

    area_m2: float
    outside_m2: float
    districts: tuple[DistrictPart, ...]
    cut: tuple[str, ...] = ()


def read_region(given: Mapping[str, Any]) -> Region:
    """The region in `geometry` (with `crs`, `radius_m` or `buffer_m`) or `adcodes`.

    Raises TooLarge for too many vertices before any is looked at, CrsError, and InvalidInput that
    says what would be right.
    """
    if given.get("adcodes") is not None:
        return _read_districts(given)
    if given.get("geometry") is None:
        raise _invalid("geometry", "is missing; give geometry or adcodes")
    crs = given.get("crs")
    if crs is not None and not isinstance(crs, str):
        raise CrsError([Fault("must be a text such as WGS84 or GCJ-02", None, "crs")])
    system = WGS84 if crs is None else parse_crs(crs)
    value = given["geometry"]
    kind = value.get("type") if isinstance(value, dict) else None
    if given.get("radius_m") is not None:
        if kind != "Point":
            raise _invalid("geometry", "radius_m goes with a Point, the centre of the circle")
        radius_m = _metres(given["radius_m"], "radius_m", RADIUS_M_MAX)
        point = read_geometry(value, types=("Point",))
        refuse_exchanged(point, system)
        centre = geometry_to_wgs84(point, system)
        drawn = _circle(centre.x, centre.y, radius_m)
        return Region("circle", system, drawn, radius_m=radius_m)
    if given.get("buffer_m") is not None:
        if kind not in ("LineString", "MultiLineString"):
            raise _invalid("geometry", "buffer_m goes with a LineString or MultiLineString")
        buffer_m = _metres(given["buffer_m"], "buffer_m", BUFFER_M_MAX)
        lines = ("LineString", "MultiLineString")
        line = read_geometry(value, types=lines, vertices_max=LINE_VERTICES_MAX)
        refuse_exchanged(line, system)
        drawn = _along(geometry_to_wgs84(line, system), buffer_m)
        return Region("line", system, drawn, buffer_m=buffer_m)
    if kind == "Point":
        raise _invalid("radius_m", "is missing; a Point is a region with its radius_m in metres")
    if kind in ("LineString", "MultiLineString"):
        raise _invalid("buffer_m", "is missing; a line is a region with its buffer_m in metres")
    area = read_geometry(value, types=("Polygon", "MultiPolygon"), vertices_max=VERTICES_MAX)
    refuse_exchanged(area, system)
    geometry = geometry_to_wgs84(area, system)
    check_geometry(geometry, types=AREAS, max_vertices=VERTICES_MAX)
    if not area_m2(geometry) > 0:
        raise _invalid("geometry", "has no area")
    return Region("polygon", system, geometry)


def region_parts(region: Region, districts: gpd.GeoDataFrame) -> RegionParts:
    """The region cut by `districts` (EPSG:4326; adcode, name, population, area_m2, geometry).

    Raises InvalidInput for an adcode that is not among them.
    """
    if region.geometry is None:
        return _whole_districts(region, districts)
    geometry = region.geometry
    shapely.prepare(geometry)
    shapes = districts.geometry.to_numpy()
    touched = np.flatnonzero(shapely.intersects(geometry, shapes))
    covered = shapely.covers(geometry, shapes[touched])
    whole_m2 = float(area_m2(geometry))
    own_m2 = districts["area_m2"].to_numpy(float)[touched]
    inside_m2 = own_m2.copy()
    partial = ~covered
    inside_m2[partial] = area_m2(_cut(shapes[touched][partial], geometry))
    parts = []
    for row, covers, own, inside in zip(touched, covered, own_m2, inside_m2, strict=True):
        if inside <= whole_m2 * MEASURE_NOISE and not covers:
            continue
        record = districts.iloc[row]
        share = 1.0 if covers else min(float(inside / own), 1.0)
        parts.append(_part(record, float(inside), share, whole=bool(covers)))
    outside = whole_m2 - sum(part.area_m2 for part in parts)
    if abs(outside) <= whole_m2 * MEASURE_NOISE:
        outside = 0.0
    cut = tuple(districts["adcode"].iloc[touched[partial]])
    return RegionParts(sum(p.area_m2 for p in parts) + outside, outside, tuple(parts), cut)


def shares_inside(
    region: Region, parts: RegionParts, shape: BaseGeometry, districts: gpd.GeoDataFrame
) -> dict[str | None, float]:
    """How much of `shape` (an area, WGS-84) in each district lies in the region, 0 to 1 by area.

    None is what of it lies outside all districts. Only districts of the region have an entry.
    """
    found: dict[str | None, float] = {p.adcode: 1.0 for p in parts.districts if p.whole}
    if region.geometry is None:
        return found
    mine = {p.adcode for p in parts.districts if not p.whole}
    if shapely.equals_exact(shape, region.geometry):
        return {**dict.fromkeys(mine, 1.0), **found, None: 1.0}
    shapes = districts.geometry.to_numpy()
    reached = np.flatnonzero(shapely.intersects(shapes, shape))
    pieces = cut(shapes[reached], shape)
    for row, piece in zip(reached, pieces, strict=True):
        adcode = str(districts["adcode"].iloc[row])
        if adcode in mine:
            found[adcode] = _share_inside(piece, region.geometry)
    if parts.outside_m2 > 0 and float(area_m2(shape) - area_m2(pieces).sum()) > 0:
        found[None] = _share_inside(
            shapely.difference(shape, shapely.union_all(pieces)), region.geometry
        )
    return found


def _share_inside(shape: BaseGeometry, geometry: BaseGeometry) -> float:
    whole = float(area_m2(shape))
    if not whole > 0:
        return 0.0
    if shapely.equals_exact(shape, geometry):  # the extent of an outage, asked about itself
        return 1.0
    return min(float(area_m2(cut_one(shape, geometry))) / whole, 1.0)


def share_of_shape(region: Region, shape: BaseGeometry) -> float | None:
    """The share of an area that lies in the region; None for a shape without area."""
    if region.geometry is None or shapely.get_dimensions(shape) < 2:
        return None
    return _share_inside(shape, region.geometry)


def _cut(shapes: npt.NDArray[np.object_], geometry: BaseGeometry) -> npt.NDArray[np.object_]:
    """What of each shape lies in the region; looks at the clock between them."""
    pieces = np.empty(len(shapes), dtype=object)
    until = time.monotonic() + CUT_S_MAX
    for row, shape in enumerate(shapes):
        if time.monotonic() > until:
            raise _invalid("geometry", "is too intricate to be cut by the districts; simplify it")
        pieces[row] = cut_one(shape, geometry)
    return pieces


def _invalid(field: str, reason: str) -> InvalidInput:
    return InvalidInput([Fault(reason, None, field)])


def _part(record: Any, inside_m2: float, share: float, *, whole: bool) -> DistrictPart:
    population = record.get("population")
    people = None if pd.isna(population) else int(population)
    return DistrictPart(record["adcode"], record["name"], people, inside_m2, share, whole)


def _read_districts(given: Mapping[str, Any]) -> Region:
    if given.get("geometry") is not None:
        raise _invalid("adcodes", "stands beside geometry; give one of them")
    codes = given["adcodes"]
    if not isinstance(codes, list) or not codes:
        raise _invalid("adcodes", "must be a list of at least one adcode")
    if len(codes) > ADCODES_MAX:
        raise _invalid("adcodes", f"lists more than {ADCODES_MAX} districts")
    if not all(isinstance(code, str) and len(code) == 6 and code.isdigit() for code in codes):
        raise _invalid("adcodes", "an adcode is a text of six digits")
    if len(set(codes)) < len(codes):
        raise _invalid("adcodes", "lists a district twice")
    return Region("districts", WGS84, None, tuple(codes))


def _whole_districts(region: Region, districts: gpd.GeoDataFrame) -> RegionParts:
    known = set(districts["adcode"])
    unknown = [code for code in region.adcodes if code not in known]
    if unknown:
        named = ", ".join(unknown[:10])
        raise _invalid("adcodes", f"the divisions used have no district {named}")
    rows = districts[districts["adcode"].isin(region.adcodes)].sort_values("adcode")
    parts = tuple(
        _part(record, float(record["area_m2"]), 1.0, whole=True) for _, record in rows.iterrows()
    )
    return RegionParts(sum(part.area_m2 for part in parts), 0.0, parts)


def _metres(value: Any, field: str, at_most: float) -> float:
    if type(value) not in (int, float) or not 0 < value <= at_most:
        raise _invalid(field, f"must be more than 0 and at most {at_most:.0f} metres")
    return float(value)


def _rings(lon: Floats, lat: Floats, radius_m: float, corners: int) -> Floats:
    """Circles around positions, shape (n, corners + 1, 2), degrees, closed, counter-clockwise."""
    azimuth = np.linspace(360.0, 0.0, corners + 1)
    shape = (len(lon), len(azimuth))
    x, y, _ = _GEOD.fwd(
        np.broadcast_to(lon[:, None], shape).ravel(),
        np.broadcast_to(lat[:, None], shape).ravel(),
        np.broadcast_to(azimuth, shape).ravel(),
        np.full(shape, radius_m).ravel(),
    )
    rings = np.stack([np.asarray(x).reshape(shape), np.asarray(y).reshape(shape)], axis=-1)
    rings[:, -1] = rings[:, 0]
    return rings


def _require_compact(coordinates: Floats, reach_m: float) -> None:
    """Refuse what reaches a pole or the antimeridian: a ring in degrees there is another area."""
    lat = np.abs(coordinates[:, 1]).max()
    # an ellipsoid's degree of latitude has at least 110 km
    reach_lat = reach_m / 110_000.0
    reach_lon = reach_lat / max(np.cos(np.radians(min(lat + reach_lat, 89.9))), 1e-3)
    if lat + reach_lat > 89 or np.abs(coordinates[:, 0]).max() + reach_lon > 180:
        raise _invalid("geometry", "reaches a pole or the antimeridian; such regions are not drawn")


def _circle(lon: float, lat: float, radius_m: float) -> BaseGeometry:
    _require_compact(np.array([[lon, lat]]), radius_m)
    ring = _rings(np.array([lon]), np.array([lat]), radius_m, _CIRCLE_CORNERS)[0]
    return shapely.Polygon(ring)


def _along(line: BaseGeometry, buffer_m: float) -> BaseGeometry:
    """Everything within `buffer_m` of a line in WGS-84 degrees."""
    check_geometry(line, types=("LineString", "MultiLineString"), max_vertices=LINE_VERTICES_MAX)
    coordinates = shapely.get_coordinates(line)
    _require_compact(coordinates, buffer_m)
    if float(length_m(line)) > LINE_M_MAX:
        raise _invalid("geometry", f"the line is longer than {LINE_M_MAX / 1000:.0f} km")
    joints = np.unique(coordinates, axis=0)
    rings = _rings(joints[:, 0], joints[:, 1], buffer_m, _JOINT_CORNERS)
    pieces: list[BaseGeometry] = list(shapely.get_parts(shapely.polygons(rings)))
    for part in shapely.get_parts(line):
        corners = shapely.get_coordinates(part)
        pieces += [
            _band(start, end, buffer_m) for start, end in pairwise(corners) if (start != end).any()
        ]
    return shapely.union_all(pieces)


def _band(start: Floats, end: Floats, buffer_m: float) -> BaseGeometry:
    """The strip beside one straight side, its borders square to it on the ground."""
    _, _, far_m = _GEOD.inv(*start, *end)
    steps = max(int(np.ceil(far_m / _STEP_M)), 1)
    along = np.linspace(0.0, 1.0, steps + 1)[:, None]
    points = start + along * (end - start)
    forward, back, _ = _GEOD.inv(points[:-1, 0], points[:-1, 1], points[1:, 0], points[1:, 1])
    azimuth = np.r_[np.asarray(forward), np.asarray(back)[-1] + 180.0]
    metres = np.full(len(points), buffer_m)
    left_x, left_y, _ = _GEOD.fwd(points[:, 0], points[:, 1], azimuth - 90.0, metres)
    right_x, right_y, _ = _GEOD.fwd(points[:, 0], points[:, 1], azimuth + 90.0, metres)
    ring = np.concatenate(
        [np.column_stack([left_x, left_y]), np.column_stack([right_x, right_y])[::-1]]
    )
    return shapely.Polygon(ring)


def outline(region: Region) -> dict[str, Any] | None:
    """The region as it was understood: GeoJSON in WGS-84, to a centimetre; None for districts."""
    if region.geometry is None:
        return None
    rounded = shapely.transform(region.geometry, lambda xy: np.round(xy, 7))
    return dict(shapely.geometry.mapping(rounded))


def labels(parts: Sequence[DistrictPart]) -> list[dict[str, Any]]:
    """The parts as they are answered."""
    return [
        {
            "adcode": part.adcode,
            "name": part.name,
            "area_m2": part.area_m2,
            "share_of_district": part.share_of_district,
        }
        for part in parts
    ]
