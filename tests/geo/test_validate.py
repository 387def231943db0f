"""Contracts: every fault is found, and they are raised once."""

from __future__ import annotations

import geopandas
import numpy as np
import pytest
from shapely import Point, box

from geo.errors import CrsError, InvalidInput, TooLarge
from geo.validate import (
    AREAS,
    POINTS,
    check_frame,
    check_geometry,
    frame_faults,
    geometry_faults,
    point_faults,
)
from tests.geometries import EMPTY, INVALID, NOT_A_PLACE, SQUARE, VALID

TYPES = {
    "Point",
    "MultiPoint",
    "LineString",
    "MultiLineString",
    "Polygon",
    "MultiPolygon",
    "GeometryCollection",
}


def frame(geometries, crs="EPSG:4326", **columns):
    return geopandas.GeoDataFrame(columns, geometry=geopandas.GeoSeries(geometries, crs=crs))


def test_positions_are_checked_row_by_row():
    lon = [106.5, np.nan, 181.0, 180.0, np.inf, -180.0]
    lat = [29.5, 29.5, 29.5, 90.0, 0.0, -90.5]
    faults = point_faults(lon, lat)
    assert [fault.row for fault in faults] == [2, 3, 5, 6]
    assert "181" in faults[1].reason
    assert point_faults(lon, lat, rows=[10, 20, 30, 40, 50, 60])[0].row == 20


@pytest.mark.parametrize("name", sorted(VALID))
def test_every_valid_geometry_passes(name):
    assert geometry_faults(VALID[name], types=TYPES) == []
    check_geometry(VALID[name], types=TYPES)


@pytest.mark.parametrize(
    "geometry",
    [None, *EMPTY.values(), *INVALID.values(), *NOT_A_PLACE.values()],
    ids=["none", *EMPTY, *INVALID, *NOT_A_PLACE],
)
def test_every_other_geometry_is_exactly_one_fault(geometry):
    assert len(geometry_faults(geometry, types=TYPES)) == 1
    with pytest.raises(InvalidInput):
        check_geometry(geometry, types=TYPES)


def test_an_invalid_polygon_says_where():
    assert "crosses itself at [106.6, 29.61];" in geometry_faults(INVALID["bowtie"])[0].reason


def test_another_type_is_named_with_the_expected_ones():
    assert (
        geometry_faults(Point(1, 1), types=AREAS)[0].reason
        == "is a Point; expected is MultiPolygon, Polygon"
    )


def test_the_vertex_cap_is_a_limit_and_not_a_mistake():
    many = VALID["many_vertices"]
    with pytest.raises(TooLarge, match="20001 vertices"):
        check_geometry(many, max_vertices=20_000)
    check_geometry(many, max_vertices=20_001)


def test_a_limit_together_with_a_mistake_is_a_mistake():
    with pytest.raises(InvalidInput) as caught:
        check_frame(frame([VALID["many_vertices"], None]), max_vertices=100)
    assert not isinstance(caught.value, TooLarge)
    assert len(caught.value.faults) == 2


def test_all_faults_of_a_frame_come_at_once():
    bad = frame(
        [SQUARE, INVALID["bowtie"], None, Point(1, 1), SQUARE],
        adcode=["500101", "500101", None, "  ", "500102"],
    )
    with pytest.raises(InvalidInput) as caught:
        check_frame(bad, types=AREAS, required=["adcode", "name"], unique=["adcode"])
    found = {(fault.row, fault.field) for fault in caught.value.faults}
    assert found == {
        (None, "name"), (2, "adcode"), (3, "adcode"), (4, "adcode"),
        (2, "geometry"), (3, "geometry"), (4, "geometry"),
    }  # fmt: skip


def test_a_repeat_names_the_row_of_the_first():
    faults = frame_faults(frame([SQUARE] * 3, code=["a", "b", "a"]), unique=["code"])
    assert [(f.row, f.reason) for f in faults] == [(3, "'a' is already in row 1")]


def test_nulls_are_not_repeats_of_each_other():
    assert frame_faults(frame([SQUARE] * 2, code=[None, None]), unique=["code"]) == []


@pytest.mark.parametrize("crs", [None, "EPSG:4490", "EPSG:4545", "EPSG:3857"])
def test_a_frame_not_in_wgs84_is_a_crs_error_with_the_other_faults_beside(crs):
    with pytest.raises(CrsError) as caught:
        check_frame(frame([Point(1e6, 1e6)], crs=crs), required=["name"])
    assert {fault.field for fault in caught.value.faults} == {"crs", "name"}


def test_the_twin_of_4326_is_wgs84_too():
    check_frame(frame([Point(106, 29)], crs="OGC:CRS84"), types=POINTS)


def test_rows_keep_the_numbers_the_caller_gives():
    assert [f.row for f in frame_faults(frame([SQUARE, None, None]), rows=[4, 8, 15])] == [8, 15]


def test_a_frame_without_rows_has_no_faults():
    assert frame_faults(frame([], adcode=[]), required=["adcode"], unique=["adcode"]) == []


def test_a_geometry_column_of_another_name_is_named_so():
    renamed = frame([None]).rename_geometry("shape")
    assert frame_faults(renamed)[0].field == "shape"


def test_the_whole_world_is_in_range():
    assert geometry_faults(box(-180, -90, 180, 90)) == []
