"""Divisions as a coverage."""

from __future__ import annotations

import geopandas
import numpy as np
import pytest
import shapely
from shapely import MultiPolygon, Polygon, box

from data.readers.boundaries import default_divisions
from geo.crs import area_m2
from geo.districts import check_coverage, coverage_faults, overlap_faults, simplify_for_display
from geo.errors import CrsError, InvalidInput
from tests.geometries import EMPTY, INVALID, NOT_A_PLACE


@pytest.fixture(scope="module")
def versions():
    return default_divisions()


def frame(*shapes, crs="EPSG:4326"):
    codes = [f"50010{i + 1}" for i in range(len(shapes))]
    return geopandas.GeoDataFrame({"adcode": codes}, geometry=list(shapes), crs=crs)


WEST = Polygon([(106, 29), (107, 29), (107, 30), (106, 30)])
EAST = Polygon([(107, 29), (108, 29), (108, 30), (107, 30)])


@pytest.mark.parametrize("index", [0, 1])
def test_both_versions_of_chongqing_are_coverages(versions, index):
    assert coverage_faults(versions[index].frame) == []
    check_coverage(versions[index].frame)


def test_two_neighbours_sharing_a_border_are_a_coverage():
    check_coverage(frame(WEST, EAST))


def test_districts_that_do_not_touch_are_a_coverage():
    check_coverage(frame(WEST, box(109, 29, 110, 30)))


def test_an_overlap_is_reported_with_both_codes_place_and_area():
    faults = coverage_faults(frame(WEST, box(106.99, 29, 108, 30)))
    assert len(faults) == 1
    assert faults[0].row == 2
    assert faults[0].reason.startswith("500102 overlaps 500101 by 107.48 km² at (106.99")
    assert area_m2(box(106.99, 29, 107, 30)) / 1e6 == pytest.approx(107.48, abs=0.01)


def test_one_district_inside_another_is_an_overlap():
    assert (
        "500102 overlaps 500101"
        in coverage_faults(frame(WEST, box(106.4, 29.4, 106.6, 29.6)))[0].reason
    )


def test_the_same_district_twice_under_two_codes_is_an_overlap():
    assert "500102 overlaps 500101" in coverage_faults(frame(WEST, WEST))[0].reason


def test_a_closed_gap_is_reported_with_its_area():
    notched = Polygon(
        [
            (107, 29),
            (108, 29),
            (108, 30),
            (107, 30),
            (107, 29.5005),
            (107.0005, 29.5),
            (107, 29.4995),
        ]
    )
    west = Polygon([(106, 29), (107, 29), (107, 29.4995), (107, 29.5005), (107, 30), (106, 30)])
    faults = coverage_faults(frame(west, notched))
    assert len(faults) == 1
    # a triangle 0.0005° wide and 0.001° high at 29.5° N: 48.5 m × 110.9 m / 2
    assert "a gap of 2687 m² between 500101, 500102 at (107.00" in faults[0].reason


def test_a_gap_thinner_than_a_metre_and_open_at_both_ends_is_reported():
    faults = coverage_faults(frame(WEST, box(107.000001, 29, 108, 30)))
    assert {fault.row for fault in faults} == {1, 2}
    assert all("vertex by vertex" in fault.reason for fault in faults)


def test_a_vertex_on_only_one_side_of_a_border_is_reported():
    bent = Polygon([(107, 29), (108, 29), (108, 30), (107, 30), (107, 29.5)])
    faults = coverage_faults(frame(WEST, bent))
    assert faults
    assert all("vertex by vertex" in fault.reason for fault in faults)


def test_a_large_hole_is_an_enclave_and_no_gap():
    ring = Polygon(
        box(106, 29, 108, 31).exterior.coords, [box(106.8, 29.8, 107.2, 30.2).exterior.coords]
    )
    assert coverage_faults(frame(ring)) == []


def test_every_pair_that_overlaps_is_reported():
    shapes = [box(106 + i * 0.9, 29, 107 + i * 0.9, 30) for i in range(4)]
    assert len(coverage_faults(frame(*shapes))) == 3


@pytest.mark.parametrize("name", [*EMPTY, *INVALID, *NOT_A_PLACE])
def test_an_odd_geometry_is_a_fault_of_its_row_and_not_of_the_coverage(name):
    odd = {**EMPTY, **INVALID, **NOT_A_PLACE}[name]
    faults = coverage_faults(frame(WEST, odd))
    assert [fault.row for fault in faults] == [2]


def test_a_missing_geometry_and_a_repeated_code_are_both_named():
    bad = frame(WEST, None)
    bad["adcode"] = "500101"
    assert {(f.row, f.field) for f in coverage_faults(bad)} == {(2, "geometry"), (2, "adcode")}


def test_another_crs_raises_a_crs_error():
    with pytest.raises(CrsError):
        check_coverage(frame(WEST, crs="EPSG:4490"))


def test_zones_may_leave_gaps_and_may_not_share_ground():
    assert (
        overlap_faults(frame(box(106, 29, 106.1, 29.1), box(106.3, 29, 106.4, 29.1)), "adcode")
        == []
    )
    assert (
        len(overlap_faults(frame(box(106, 29, 106.2, 29.1), box(106.1, 29, 106.4, 29.1)), "adcode"))
        == 1
    )


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("tolerance_m", [0, 50, 500, 2000])
def test_simplified_districts_still_share_their_borders(versions, index, tolerance_m):
    original = versions[index].frame
    simple = simplify_for_display(original, tolerance_m)
    shapes = np.asarray(simple.geometry.array)
    assert shapely.coverage_is_valid(shapes)
    assert shapely.is_valid(shapes).all()
    assert simple["adcode"].tolist() == original["adcode"].tolist()
    assert area_m2(shapes).sum() == pytest.approx(original["area_m2"].sum(), rel=0.01)
    if tolerance_m:
        before = shapely.get_num_coordinates(np.asarray(original.geometry.array)).sum()
        assert shapely.get_num_coordinates(shapes).sum() < before


def test_simplifying_leaves_the_original_alone(versions):
    original = versions[1].frame
    before = original.geometry.iloc[0].wkb
    simplify_for_display(original, 1000)
    assert original.geometry.iloc[0].wkb == before


@pytest.mark.parametrize("tolerance_m", [-1, float("nan"), float("inf")])
def test_a_tolerance_that_is_no_length_is_refused(tolerance_m):
    with pytest.raises(InvalidInput):
        simplify_for_display(frame(WEST, EAST), tolerance_m)


def test_what_is_no_coverage_is_not_simplified():
    with pytest.raises(InvalidInput, match="coverage"):
        simplify_for_display(frame(WEST, MultiPolygon([box(106.5, 29, 108, 30)])), 100)
