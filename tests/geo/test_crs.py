"""The four datums, projections, areas and lengths."""

from __future__ import annotations

import csv
from pathlib import Path

import eviltransform
import geocoordinates_ffi
import geopandas
import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely import LineString, Point, Polygon, box

from geo import crs
from geo.crs import (
    area_m2,
    frame_to_wgs84,
    from_wgs84,
    geometry_from_wgs84,
    geometry_to_wgs84,
    length_m,
    name_of_crs,
    parse_crs,
    reconcile_crs,
    swapped_hint,
    to_wgs84,
)
from geo.errors import CrsError, InvalidInput
from tests.geometries import EMPTY, HOLED, MULTIPART, NOT_A_PLACE, SQUARE, VALID, ZOO

SHARED = Path(__file__).resolve().parents[3] / "shared" / "reference"
GEOD = pyproj.Geod(ellps="WGS84")
YUZHONG = (106.55, 29.56)
SYSTEMS = [
    "WGS84",
    "CGCS2000",
    "GCJ-02",
    "BD-09",
    "EPSG:4490",
    "EPSG:4544",
    "EPSG:4545",
    "EPSG:4546",
    "EPSG:3857",
    "EPSG:32648",
]


def distance_m(a, b):
    return GEOD.inv(a[0], a[1], b[0], b[1])[2]


# --- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("WGS84", "WGS84"), ("wgs 84", "WGS84"), ("WGS-84", "WGS84"), ("EPSG:4326", "WGS84"), ("OGC:CRS84", "WGS84"),
        ("urn:ogc:def:crs:OGC::CRS84", "WGS84"), ("cgcs2000", "CGCS2000"), ("epsg:4490", "CGCS2000"),
        ("GCJ-02", "GCJ-02"), ("gcj02", "GCJ-02"), ("GCJ_02", "GCJ-02"), ("bd-09", "BD-09"), ("BD09", "BD-09"),
        ("高德", "GCJ-02"), ("火星坐标", "GCJ-02"), ("腾讯地图", "GCJ-02"), ("百度", "BD-09"),
        ("epsg:4545", "EPSG:4545"), ("EPSG:04545", "EPSG:4545"), ("urn:ogc:def:crs:EPSG::4544", "EPSG:4544"),
    ],
)  # fmt: skip
def test_obvious_spellings_are_one_name(text, name):
    assert parse_crs(text) == name


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "  ",
        "4326",
        "EPSG:",
        "EPSG:1",
        "EPSG:4214",
        "EPSG:4610",
        "EPSG:2381",
        "EPSG:999999",
        "WGS72",
        "EPSG:4326; DROP",
        "x" * 10_000,
    ],
)
def test_a_missing_or_unplaceable_system_raises_and_lists_the_accepted_ones(text):
    with pytest.raises(CrsError, match="GCJ-02") as caught:
        parse_crs(text)
    assert caught.value.faults[0].field == "crs"
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "text", ["EPSG:2381", "WGS72", "北京54", "Pulkovo_1942 zone-18", " UTM 48N "]
)
def test_what_looks_like_the_name_of_a_system_is_repeated(text):
    for name in (parse_crs, name_of_crs):
        with pytest.raises(CrsError) as caught:
            name(text)
    with pytest.raises(CrsError, match="not accepted") as caught:
        parse_crs(text)
    assert f"coordinate system {text.strip()!r} is" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>13800138000",
        "13800138000",
        "EPSG:13800138",
        "138 0013 8000",
        "a" * 25,
        "EPSG:4326; DROP",
        'PROJCS["13800138000"]',
    ],
)
def test_what_cannot_be_the_name_of_a_system_is_not_repeated(text):
    with pytest.raises(CrsError, match="coordinate system is not accepted; say one of") as caught:
        parse_crs(text)
    assert text[:20] not in str(caught.value)
    with pytest.raises(CrsError) as caught:
        name_of_crs(text)
    assert text[:20] not in str(caught.value)


def test_the_name_in_a_file_s_own_definition_is_not_repeated_when_it_is_none():
    local = 'LOCAL_CS["SECRET 13800138000",UNIT["metre",1]]'
    with pytest.raises(CrsError, match="coordinate system has no EPSG code") as caught:
        name_of_crs(local)
    assert "SECRET" not in str(caught.value)


def test_every_accepted_epsg_code_is_on_one_of_the_two_datums_and_east_first_round_trips():
    for code in sorted(crs._WGS84_EPSG | crs._CGCS2000_EPSG):
        system = pyproj.CRS.from_epsg(code)
        assert (
            "China 2000" if code in crs._CGCS2000_EPSG else "World Geodetic System 1984"
        ) in system.datum.name
        lon = system.area_of_use.west / 2 + system.area_of_use.east / 2
        there = from_wgs84(lon, 30.0, f"EPSG:{code}")
        assert to_wgs84(*there, f"EPSG:{code}") == pytest.approx((lon, 30.0), abs=1e-9)


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ("EPSG:4326", "WGS84"),
        ("OGC:CRS84", "WGS84"),
        ("EPSG:4490", "CGCS2000"),
        ("EPSG:4545", "EPSG:4545"),
    ],
)
def test_a_system_a_file_states_gets_its_canonical_name(stated, name):
    assert name_of_crs(pyproj.CRS(stated)) == name
    assert name_of_crs(pyproj.CRS(stated).to_wkt()) == name


def test_an_esri_prj_of_a_gauss_krueger_zone_is_recognised():
    assert name_of_crs(pyproj.CRS("EPSG:4545").to_wkt("WKT1_ESRI")) == "EPSG:4545"


@pytest.mark.parametrize(
    "stated",
    [None, "EPSG:4610", "EPSG:2379", "+proj=aea +lat_1=25 +lat_2=47 +lon_0=105", "nonsense"],
)
def test_a_file_without_a_placeable_system_is_refused(stated):
    with pytest.raises(CrsError):
        name_of_crs(stated)


def test_the_declaration_decides_among_the_datums_no_file_can_name():
    assert reconcile_crs("EPSG:4326", "GCJ-02") == "GCJ-02"
    assert reconcile_crs("EPSG:4490", "BD-09") == "BD-09"
    assert reconcile_crs("EPSG:4326", None) == "WGS84"
    assert reconcile_crs(None, "EPSG:4545") == "EPSG:4545"
    assert reconcile_crs("EPSG:4545", "epsg:4545") == "EPSG:4545"


@pytest.mark.parametrize(
    ("stated", "declared"),
    [
        ("EPSG:4545", "WGS84"),
        ("EPSG:4326", "EPSG:4545"),
        ("EPSG:4545", "GCJ-02"),
        ("EPSG:4544", "EPSG:4545"),
        (None, None),
        (None, " "),
    ],
)
def test_a_conflict_or_a_silence_on_both_sides_raises(stated, declared):
    with pytest.raises(CrsError):
        reconcile_crs(stated, declared)


# --- the offsets -----------------------------------------------------------------------------------


def test_offsets_equal_the_reference_table_to_a_centimetre():
    if not SHARED.exists():
        pytest.skip("no reference folder beside the checkout")
    with (SHARED / "coords_offsets.csv").open(encoding="utf-8-sig") as file:
        places = list(csv.DictReader(file))
    assert len(places) >= 9
    for place in places:
        wgs = float(place["wgs_lon"]), float(place["wgs_lat"])
        for system, prefix, offset in (
            ("GCJ-02", "gcj", "gcj_offset_m"),
            ("BD-09", "bd", "bd_offset_m"),
        ):
            there = from_wgs84(*wgs, system)
            assert (
                distance_m(there, (float(place[f"{prefix}_lon"]), float(place[f"{prefix}_lat"])))
                < 0.01
            )
            assert distance_m(there, wgs) == pytest.approx(float(place[offset]), abs=0.1)


CHINA = st.tuples(st.floats(74, 134), st.floats(18, 53))


@given(CHINA)
def test_gcj02_agrees_with_eviltransform_and_geocoordinates(place):
    lon, lat = place
    ours = from_wgs84(lon, lat, "GCJ-02")
    evil_lat, evil_lon = eviltransform.wgs2gcj(lat, lon)
    assert distance_m(ours, (evil_lon, evil_lat)) < 0.1
    rust = geocoordinates_ffi.wgs84_to_gcj02(geocoordinates_ffi.Wgs84(lat=lat, lon=lon))
    assert distance_m(ours, (rust.lon, rust.lat)) < 0.001


@given(CHINA)
def test_bd09_agrees_with_geocoordinates(place):
    lon, lat = place
    rust = geocoordinates_ffi.wgs84_to_bd09(geocoordinates_ffi.Wgs84(lat=lat, lon=lon))
    assert distance_m(from_wgs84(lon, lat, "BD-09"), (rust.lon, rust.lat)) < 0.001


@given(CHINA, st.sampled_from(["GCJ-02", "BD-09"]))
def test_the_inverse_leaves_less_than_a_millimetre(place, system):
    assert distance_m(to_wgs84(*from_wgs84(*place, system), system), place) < 0.001


def test_gcj02_offsets_nothing_outside_its_rectangle():
    for place in ((-0.1, 51.5), (72.003, 30.0), (137.84, 35.0), (100.0, 0.8), (100.0, 56.0)):
        assert from_wgs84(*place, "GCJ-02") == place
        assert to_wgs84(*place, "GCJ-02") == place
    assert from_wgs84(72.01, 30.0, "GCJ-02") != (72.01, 30.0)


def test_gcj02_moves_chongqing_half_a_kilometre_and_bd09_a_whole_one():
    lon, lat = np.meshgrid(np.linspace(105.3, 110.2, 40), np.linspace(28.2, 32.2, 40))
    for system, least, most in (("GCJ-02", 400, 610), ("BD-09", 990, 1205)):
        x, y = from_wgs84(lon, lat, system)
        offsets = GEOD.inv(lon, lat, x, y)[2]
        assert offsets.min() > least
        assert offsets.max() < most


# --- reprojection ----------------------------------------------------------------------------------


@pytest.mark.parametrize("system", SYSTEMS)
def test_there_and_back_is_the_same_place_for_scalars_and_arrays(system):
    x, y = from_wgs84(*YUZHONG, system)
    assert isinstance(x, float)
    assert distance_m(to_wgs84(x, y, system), YUZHONG) < 0.001
    many = from_wgs84(np.full(5, YUZHONG[0]), np.full(5, YUZHONG[1]), system)
    assert many[0].shape == (5,)
    assert many[0][3] == x


def test_projected_coordinates_are_east_then_north():
    x, y = from_wgs84(*YUZHONG, "EPSG:4545")
    assert 350_000 < x < 370_000
    assert 3_200_000 < y < 3_300_000
    assert from_wgs84(108.0, 30.0, "EPSG:4545")[0] == pytest.approx(500_000, abs=1e-6)


def test_cgcs2000_is_taken_as_wgs84():
    assert to_wgs84(*YUZHONG, "CGCS2000") == YUZHONG


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused(system, bad):
    with pytest.raises(InvalidInput):
        to_wgs84(bad, 29.5, system)
    with pytest.raises(InvalidInput):
        from_wgs84(106.5, bad, system)


@pytest.mark.parametrize(
    ("x", "y", "system"),
    [
        (181, 0, "WGS84"),
        (0, 91, "GCJ-02"),
        (359474.0, 3272217.0, "BD-09"),
        (1e12, 1e12, "EPSG:4545"),
        ("a", 1, "WGS84"),
        (None, 1, "WGS84"),
    ],
)
def test_what_is_no_position_is_refused(x, y, system):
    with pytest.raises(InvalidInput):
        to_wgs84(x, y, system)


def test_every_bad_row_of_an_array_is_named():
    with pytest.raises(InvalidInput) as caught:
        to_wgs84([106.5, np.nan, 106.6, np.inf], [29.5, 29.5, 29.6, 29.5], "GCJ-02")
    assert [fault.row for fault in caught.value.faults] == [2, 4]


def test_columns_of_different_length_are_refused():
    with pytest.raises(InvalidInput):
        to_wgs84([106.5, 106.6], [29.5], "WGS84")


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("name", sorted(set(VALID) - {"huge"}))
def test_every_kind_of_geometry_goes_there_and_back(system, name):
    back = geometry_to_wgs84(geometry_from_wgs84(VALID[name], system), system)
    assert back.geom_type == VALID[name].geom_type
    assert not back.has_z
    assert shapely.equals_exact(back, shapely.force_2d(VALID[name]), tolerance=1e-8)


@pytest.mark.parametrize("name", ["none", *EMPTY])
def test_nothing_stays_nothing(name):
    moved = geometry_to_wgs84(ZOO[name], "GCJ-02")
    assert moved is None if ZOO[name] is None else moved.is_empty


@pytest.mark.parametrize("name", sorted(NOT_A_PLACE))
def test_a_geometry_out_of_range_is_one_fault_without_a_row(name):
    with pytest.raises(InvalidInput) as caught:
        geometry_to_wgs84(NOT_A_PLACE[name], "GCJ-02")
    assert [fault.row for fault in caught.value.faults] == [None]


@pytest.mark.parametrize("system", ["GCJ-02", "BD-09", "EPSG:4545"])
def test_a_shared_border_stays_shared(system):
    cells = np.array(
        [
            box(106 + i / 7, 29 + j / 7, 106 + (i + 1) / 7, 29 + (j + 1) / 7)
            for i in range(7)
            for j in range(7)
        ]
    )
    assert shapely.coverage_is_valid(cells)
    assert shapely.coverage_is_valid(geometry_to_wgs84(geometry_from_wgs84(cells, system), system))


def test_a_frame_is_reprojected_from_what_it_states_with_index_and_columns_kept():
    frame = geopandas.GeoDataFrame(
        {"name": ["a", "b"]},
        geometry=[Point(359474.0866, 3272217.2986), None],
        crs="EPSG:4545",
        index=[7, 9],
    )
    moved = frame_to_wgs84(frame)
    assert moved.crs.to_epsg() == 4326
    assert moved.index.tolist() == [7, 9]
    assert moved["name"].tolist() == ["a", "b"]
    assert distance_m(moved.geometry.iloc[0].coords[0], YUZHONG) < 0.001
    assert moved.geometry.iloc[1] is None
    assert frame.crs.to_epsg() == 4545


def test_a_frame_labelled_in_degrees_follows_the_declared_datum():
    there = Point(from_wgs84(*YUZHONG, "GCJ-02"))
    frame = geopandas.GeoDataFrame(geometry=[there], crs="EPSG:4326")
    assert distance_m(frame_to_wgs84(frame, "GCJ-02").geometry[0].coords[0], YUZHONG) < 0.001
    assert frame_to_wgs84(frame).geometry[0].equals(there)


def test_a_frame_without_any_system_raises():
    with pytest.raises(CrsError):
        frame_to_wgs84(geopandas.GeoDataFrame(geometry=[SQUARE]))


def test_the_bad_rows_of_a_frame_are_named():
    frame = geopandas.GeoDataFrame(
        geometry=[SQUARE, Point(200, 0), Point(106, 29), Point(0, 95)], crs="EPSG:4326"
    )
    with pytest.raises(InvalidInput) as caught:
        frame_to_wgs84(frame, "BD-09")
    assert [fault.row for fault in caught.value.faults] == [2, 4]


@pytest.mark.parametrize(
    ("x", "y", "system", "hint"),
    [
        (29.56, 106.55, "WGS84", "swapped"),
        (29.55, 106.55, "GCJ-02", "swapped"),
        (3_272_217.0, 359_474.0, "EPSG:4545", "swapped"),
        (106.55, 29.56, "WGS84", None),
        (359_474.0, 3_272_217.0, "EPSG:4545", None),
        (116.4, 39.9, "WGS84", None),
        (39.9, 116.4, "WGS84", None),
        (float("nan"), 29.5, "WGS84", None),
    ],
)
def test_exchanged_coordinates_are_hinted_at_and_nothing_else(x, y, system, hint):
    assert swapped_hint(x, y, system) == hint


# --- areas and lengths -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "square",
        "clockwise",
        "holed",
        "multipart",
        "polygon_z",
        "tiny",
        "many_vertices",
        "collection",
        "nested_collection",
    ],
)
def test_areas_of_small_shapes_are_geodesic(name):
    polygons = [
        p
        for p in shapely.get_parts(shapely.get_parts(shapely.get_parts(VALID[name])))
        if p.geom_type == "Polygon"
    ]
    expected = sum(
        GEOD.geometry_area_perimeter(shapely.orient_polygons(shapely.force_2d(p)))[0]
        for p in polygons
    )
    assert area_m2(VALID[name]) == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("name", ["point", "point_z", "multipoint", "line", "multiline", *EMPTY])
def test_what_has_no_inside_has_no_area(name):
    assert area_m2(ZOO[name]) == 0.0


def test_a_missing_geometry_has_no_known_area_or_length():
    assert np.isnan(area_m2(None))
    assert np.isnan(length_m(None))


def test_the_whole_world_has_the_area_of_the_ellipsoid():
    assert area_m2(VALID["huge"]) == pytest.approx(5.10065621724e14, rel=1e-9)


def test_a_hole_is_subtracted_and_parts_are_added():
    hole = Polygon(HOLED.interiors[0])
    assert area_m2(HOLED) == pytest.approx(area_m2(SQUARE) - area_m2(hole), rel=1e-12)
    assert area_m2(MULTIPART) == pytest.approx(sum(area_m2(p) for p in MULTIPART.geoms), rel=1e-12)


def test_the_pieces_of_a_large_triangle_add_up_to_it():
    whole = Polygon([(105.3, 28.2), (110.1, 28.9), (107.2, 32.1)])
    cells = [box(105 + i, 28 + j, 106 + i, 29 + j) for i in range(6) for j in range(5)]
    pieces = area_m2(np.array([whole.intersection(cell) for cell in cells]))
    assert pieces.sum() == pytest.approx(area_m2(whole), rel=1e-12)


def test_an_array_gives_one_area_per_geometry_in_order():
    zoo = np.array([SQUARE, None, Point(1, 1), HOLED, Polygon(), MULTIPART], dtype=object)
    areas = area_m2(zoo)
    assert areas.shape == (6,)
    assert np.isnan(areas[1])
    assert areas[[0, 3, 5]].tolist() == [area_m2(SQUARE), area_m2(HOLED), area_m2(MULTIPART)]
    assert areas[[2, 4]].tolist() == [0.0, 0.0]
    assert area_m2(np.array([], dtype=object)).shape == (0,)


def test_lengths_are_geodesic():
    line = LineString([(106, 29), (107, 29), (107, 30)])
    expected = GEOD.inv(106, 29, 107, 29)[2] + GEOD.inv(107, 29, 107, 30)[2]
    assert length_m(line) == pytest.approx(expected, rel=1e-12)
    assert length_m(np.array([line, Point(1, 1), None], dtype=object))[:2].tolist() == [
        length_m(line),
        0.0,
    ]
