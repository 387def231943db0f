"""Regions: read in any datum, drawn on the ellipsoid, cut so that the parts add up."""

from __future__ import annotations

import json
import time
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from pyproj import Geod

from data.readers.boundaries import default_divisions
from geo.crs import geometry_from_wgs84
from geo.errors import CrsError, InvalidInput, TooLarge
from geo.region import Region, read_region, region_parts, shares_inside
from geo.region_cells import INSIDE, OUTSIDE, SIDE, region_cells
from tests.geo.test_cut import ACCEPTED
from tests.geometries import BOWTIE, HOLED, INVALID

GEOD = Geod(ellps="WGS84")
SYSTEMS = ("WGS84", "CGCS2000", "GCJ-02", "BD-09", "EPSG:4545", "EPSG:3857")
#: Across 渝中, 南岸, 沙坪坝 and neighbours, with sides of about a kilometre.
ACROSS = shapely.segmentize(shapely.box(106.42, 29.48, 106.63, 29.6), 0.01)


@pytest.fixture(scope="module")
def districts() -> gpd.GeoDataFrame:
    return default_divisions()[-1].frame


def as_json(shape: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shapely.to_geojson(shape))
    return found


def geodesic_m2(shape: Any) -> float:
    total = 0.0
    for part in shapely.get_parts(shape):
        if part.geom_type == "Polygon":
            rings = [abs(GEOD.geometry_area_perimeter(r)[0]) for r in shapely.get_rings(part)]
            total += rings[0] - sum(rings[1:])
    return total


@pytest.mark.parametrize("crs", SYSTEMS)
def test_areas_agree_with_an_independent_geodesic_in_every_datum(
    districts: gpd.GeoDataFrame, crs: str
) -> None:
    region = read_region({"geometry": as_json(geometry_from_wgs84(ACROSS, crs)), "crs": crs})
    parts = region_parts(region, districts)
    assert len(parts.districts) >= 3
    assert parts.area_m2 == pytest.approx(geodesic_m2(ACROSS), rel=1e-4)
    shapes = dict(zip(districts["adcode"], districts.geometry, strict=True))
    for part in parts.districts:
        piece = shapely.intersection(shapes[part.adcode], ACROSS)
        assert part.area_m2 == pytest.approx(geodesic_m2(piece), rel=1e-4)
        own = geodesic_m2(shapes[part.adcode])
        assert part.share_of_district == pytest.approx(part.area_m2 / own, rel=2e-4)
    total = sum(part.area_m2 for part in parts.districts) + parts.outside_m2
    assert total == pytest.approx(parts.area_m2, rel=1e-12)


def test_the_whole_city_is_every_district_and_the_rest_lies_outside(
    districts: gpd.GeoDataFrame,
) -> None:
    parts = region_parts(
        read_region({"geometry": as_json(shapely.box(100, 20, 115, 40))}), districts
    )
    assert all(part.whole and part.share_of_district == 1 for part in parts.districts)
    assert len(parts.districts) == 37
    assert parts.outside_m2 == pytest.approx(parts.area_m2 - districts["area_m2"].sum())
    listed = region_parts(read_region({"adcodes": districts["adcode"].tolist()}), districts)
    assert listed.area_m2 == pytest.approx(districts["area_m2"].sum())
    assert listed.outside_m2 == 0


def test_a_hole_is_not_part_of_the_region(districts: gpd.GeoDataFrame) -> None:
    parts = region_parts(read_region({"geometry": as_json(HOLED)}), districts)
    assert parts.area_m2 == pytest.approx(geodesic_m2(HOLED), rel=1e-4)


@pytest.mark.parametrize("radius_m", [50.0, 5_000.0, 120_000.0])
def test_a_circle_is_geodesic(radius_m: float) -> None:
    drawn = read_region(
        {"geometry": {"type": "Point", "coordinates": [106.55, 29.56]}, "radius_m": radius_m}
    ).geometry
    assert drawn is not None
    rim = shapely.get_coordinates(drawn)
    _, _, far = GEOD.inv([106.55] * len(rim), [29.56] * len(rim), rim[:, 0], rim[:, 1])
    assert np.allclose(far, radius_m, rtol=1e-9, atol=1e-3)
    # of a cap of the ellipsoid; the flat circle's area is right to 1 in 10 000 here
    assert geodesic_m2(drawn) == pytest.approx(np.pi * radius_m**2, rel=1e-4)


def test_a_circle_given_in_gcj02_lies_around_the_true_place() -> None:
    centre = geometry_from_wgs84(shapely.Point(106.55, 29.56), "GCJ-02")
    asked = {"geometry": as_json(centre), "radius_m": 1000, "crs": "GCJ-02"}
    drawn = read_region(asked).geometry
    assert drawn is not None
    middle = drawn.centroid
    assert GEOD.inv(middle.x, middle.y, 106.55, 29.56)[2] < 0.1


def test_the_margin_of_a_line_is_what_lies_within_that_distance() -> None:
    line = shapely.LineString([(106.3, 29.5), (107.0, 29.9), (107.1, 29.6)])
    drawn = read_region({"geometry": as_json(line), "buffer_m": 5000}).geometry
    assert drawn is not None
    assert drawn.is_valid
    rng = np.random.default_rng(3)
    points = rng.uniform([106.2, 29.4], [107.2, 30.0], (400, 2))
    along = shapely.get_coordinates(shapely.segmentize(line, 0.0005))
    near = np.array(
        [min(GEOD.inv(*np.broadcast_arrays(x, y, along[:, 0], along[:, 1]))[2]) for x, y in points]
    )
    inside = shapely.intersects_xy(drawn, points[:, 0], points[:, 1])
    sure = np.abs(near - 5000) > 10
    assert (inside[sure] == (near < 5000)[sure]).all()
    assert 50 < inside.sum() < 350


@pytest.mark.parametrize("vertices", [20_000, 50_000])
def test_a_spiky_region_is_refused_before_any_geometry_is_made(vertices: int) -> None:
    angle = np.linspace(0, 2 * np.pi, vertices)
    far = np.where(np.arange(vertices) % 2, 2.0, 0.5)
    ring = np.column_stack([107 + far * np.cos(angle), 30 + far * np.sin(angle)]).tolist()
    started = time.monotonic()
    with pytest.raises(TooLarge, match="vertices"):
        read_region({"geometry": {"type": "Polygon", "coordinates": [ring]}})
    with pytest.raises(TooLarge, match="vertices"):
        read_region({"geometry": {"type": "LineString", "coordinates": ring}, "buffer_m": 10})
    assert time.monotonic() - started < 1


POINT = {"type": "Point", "coordinates": [106.55, 29.56]}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "give geometry or adcodes"),
    "both": ({"geometry": POINT, "adcodes": ["500103"]}, "give one of them"),
    "point alone": ({"geometry": POINT}, "radius_m"),
    "no radius": ({"geometry": POINT, "radius_m": 0}, "more than 0"),
    "radius text": ({"geometry": POINT, "radius_m": "5 km"}, "metres"),
    "whole earth": ({"geometry": POINT, "radius_m": 1e9}, "at most"),
    "line alone": (
        {"geometry": {"type": "LineString", "coordinates": [[106, 29], [107, 29]]}},
        "buffer_m",
    ),
    "square radius": ({"geometry": as_json(ACROSS), "radius_m": 5}, "centre"),
    "buffered point": ({"geometry": POINT, "buffer_m": 5}, "LineString"),
    "at the pole": (
        {"geometry": {"type": "Point", "coordinates": [0, 89]}, "radius_m": 200_000},
        "pole",
    ),
    "antimeridian": (
        {"geometry": {"type": "Point", "coordinates": [179.9, 0]}, "radius_m": 50_000},
        "antimeridian",
    ),
    "collection": ({"geometry": {"type": "GeometryCollection", "geometries": []}}, "type"),
    "bowtie": ({"geometry": as_json(BOWTIE)}, "crosses itself"),
    "flat": ({"geometry": as_json(INVALID["flat"])}, "corners|area|invalid|valid"),
    "adcode": ({"adcodes": ["Chongqing"]}, "six digits"),
    "no adcode": ({"adcodes": []}, "at least one"),
    "twice": ({"adcodes": ["500103", "500103"]}, "twice"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_region_is_refused_with_what_would_be_right(name: str) -> None:
    given, said = WRONG[name]
    with pytest.raises(InvalidInput, match=said):
        read_region(given)


def test_an_unknown_system_or_district_is_refused(districts: gpd.GeoDataFrame) -> None:
    with pytest.raises(CrsError):
        read_region({"geometry": as_json(ACROSS), "crs": "Beijing 1954"})
    with pytest.raises(InvalidInput, match="500105"):
        region_parts(read_region({"adcodes": ["500105"]}), districts)


def test_shares_of_another_shape_add_up(districts: gpd.GeoDataFrame) -> None:
    region = read_region({"geometry": as_json(ACROSS)})
    parts = region_parts(region, districts)
    shape = shapely.box(106.5, 29.5, 106.7, 29.58)
    shares = shares_inside(region, parts, shape, districts)
    found = 0.0
    for adcode, share in shares.items():
        rows = districts.loc[districts["adcode"] == adcode].geometry
        found += sum(geodesic_m2(shapely.intersection(one, shape)) for one in rows) * share
    assert found == pytest.approx(geodesic_m2(shapely.intersection(ACROSS, shape)), rel=1e-4)


def cells_agree(shape: shapely.Geometry, rng: np.random.Generator) -> float:
    """Of 20,000 points in the shape's bounds the share inside, if its cells say the same of each."""
    cells = region_cells(shape)
    west, south, east, north = cells.bounds
    x, y = rng.uniform([west, south], [east, north], (20_000, 2)).T
    column = np.minimum(np.floor((x - west) / cells.width).astype(int), SIDE - 1)
    row = np.minimum(np.floor((y - south) / cells.height).astype(int), SIDE - 1)
    cell = cells.cell[column * SIDE + row]
    found = cell == INSIDE
    for k in np.unique(cell[cell > OUTSIDE]):
        mine = cell == k
        found[mine] = shapely.intersects_xy(cells.pieces[k - 1], x[mine], y[mine])
    shapely.prepare(shape)
    assert (found == shapely.intersects_xy(shape, x, y)).all()
    return float(found.mean())


@pytest.mark.parametrize("seed", range(3))
def test_cells_say_of_each_point_what_the_region_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.uniform([105.5, 28.5], [110, 32], (300, 2))
    assert 0.05 < cells_agree(shapely.buffer(shapely.MultiPoint(corners), 0.12), rng) < 0.95


@pytest.mark.parametrize("name", ACCEPTED)
def test_so_do_those_of_the_costliest_regions_whose_pieces_stay_small(name: str) -> None:
    assert 0.0 < cells_agree(ACCEPTED[name], np.random.default_rng(1)) <= 1.0
    cells = region_cells(ACCEPTED[name])
    corners = shapely.get_num_coordinates(np.array(cells.pieces, dtype=object))
    # a point of the level comb asked a piece of 650 corners while cells were divided in four alone
    assert np.bincount(cells.cell[cells.cell > 0] - 1) @ corners / SIDE**2 < 60


def test_a_region_knows_how_it_was_given() -> None:
    region = read_region({"adcodes": ["500103"]})
    assert region == Region("districts", "WGS84", None, ("500103",))


SWAPPED: dict[str, dict[str, Any]] = {
    "polygon": {"geometry": as_json(shapely.transform(ACROSS, lambda xy: xy[:, ::-1]))},
    "circle": {"geometry": as_json(shapely.Point(29.55, 106.55)), "radius_m": 500},
    "line": {
        "geometry": as_json(shapely.LineString([(29.5, 106.4), (29.6, 106.5)])),
        "buffer_m": 9,
    },
}


@pytest.mark.parametrize("given", SWAPPED.values(), ids=SWAPPED.keys())
@pytest.mark.parametrize("crs", ["WGS84", "GCJ-02"])
def test_exchanged_axes_are_refused_with_the_hint(given: dict[str, Any], crs: str) -> None:
    with pytest.raises(InvalidInput, match="inside with x and y exchanged"):
        read_region(given | {"crs": crs})
