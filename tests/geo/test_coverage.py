"""Service cells and the share of a district's area that is out of service."""

from __future__ import annotations

import time

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import LineString, MultiPolygon, Point, Polygon, box

from geo.assign import DistrictLocator
from geo.coverage import Sites, cell_area_share, exact_area_share, service_cells, union_of_polygons
from geo.coverage_grid import CoverageGrid, SampleRaster, samples_wanted
from geo.crs import area_m2
from geo.errors import CrsError, InvalidInput

NO_LIMIT = float("inf")
TENTH_OF_A_POINT = 0.001


def districts_of(*shapes: shapely.Geometry) -> gpd.GeoDataFrame:
    adcodes = [f"50010{n}" for n in range(1, len(shapes) + 1)]
    return gpd.GeoDataFrame({"adcode": adcodes}, geometry=list(shapes), crs="EPSG:4326")


def sites_at(
    *rows: tuple[float, float] | tuple[float, float, str | None], kind: str = "base_station"
) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(
        {
            "facility_id": [f"f{n}" for n in range(len(rows))],
            "kind": kind,
            "network": np.array([row[2] if len(row) > 2 else "telecom" for row in rows], dtype=object),
        },
        geometry=[Point(row[0], row[1]) for row in rows],
        crs="EPSG:4326",
    )  # fmt: skip


def down(frame: gpd.GeoDataFrame, *ids: str) -> np.ndarray:
    return frame["facility_id"].isin(ids).to_numpy()


# symmetric about the metric plane's meridian, 108° E, so that halves are halves
SQUARE = box(107.9, 29.5, 108.1, 29.7)
SQUARES = districts_of(SQUARE, box(108.1, 29.5, 108.3, 29.7))
HOLED = Polygon(SQUARE.exterior.coords, [box(107.95, 29.55, 108.05, 29.65).exterior.coords])
SCATTERED = MultiPolygon([box(107.9, 29.5, 107.95, 29.7), box(108.05, 29.5, 108.1, 29.7)])
WIGGLY = Polygon(
    [
        (108 + (0.3 + 0.05 * np.sin(9 * a)) * np.cos(a), 29.6 + (0.3 + 0.05 * np.cos(7 * a)) * np.sin(a))
        for a in np.linspace(0, 2 * np.pi, 900, endpoint=False)
    ]
)  # fmt: skip
SHAPES = {
    "square": SQUARE,
    "holed": HOLED,
    "scattered": SCATTERED,
    "wiggly": WIGGLY,
    "thin": Polygon([(107.9, 29.5), (108.1, 29.699), (108.1, 29.7)]),
}


def random_sites(
    shape: shapely.Geometry, count: int, seed: int, networks: str = "a"
) -> gpd.GeoDataFrame:
    rng = np.random.default_rng(seed)
    west, south, east, north = shape.bounds
    xy = rng.uniform([west, south], [east, north], (count * 600 + 5000, 2))
    xy = xy[shapely.intersects_xy(shape, xy[:, 0], xy[:, 1])][:count]
    return sites_at(*[(x, y, networks[rng.integers(len(networks))]) for x, y in xy])


def test_one_facility_without_reach_serves_its_whole_district():
    cells = service_cells(sites_at((108.0, 29.6)), SQUARES, {"base_station": NO_LIMIT})
    assert cells.geometry.iloc[0].equals(SQUARE)
    assert cells["adcode"].tolist() == ["500101"]
    assert cells["cell_area_m2"].iloc[0] == pytest.approx(area_m2(SQUARE), rel=1e-12)


def test_a_reach_caps_the_cell_at_a_disc_of_that_radius_on_the_ground():
    cells = service_cells(sites_at((108.0, 29.6)), SQUARES, {"base_station": 3000.0})
    assert cells["cell_area_m2"].iloc[0] == pytest.approx(np.pi * 3000**2, rel=1e-4)
    # 2.2° east of the plane's meridian its metres are 0.05 % too long, the ground's are not
    far = districts_of(box(110.0, 31.0, 110.2, 31.2))
    cells = service_cells(sites_at((110.1, 31.1)), far, {"base_station": 3000.0})
    assert cells["cell_area_m2"].iloc[0] == pytest.approx(np.pi * 3000**2, rel=1e-4)


def test_two_facilities_side_by_side_halve_the_district():
    cells = service_cells(
        sites_at((107.95, 29.6), (108.05, 29.6)), SQUARES, {"base_station": NO_LIMIT}
    )
    assert cells["cell_area_m2"].tolist() == pytest.approx([area_m2(SQUARE) / 2] * 2, rel=1e-6)


def test_a_cell_ends_at_its_district_even_where_the_neighbour_is_far():
    cells = service_cells(
        sites_at((108.09, 29.6), (108.29, 29.6)), SQUARES, {"base_station": NO_LIMIT}
    )
    assert cells["cell_area_m2"].tolist() == pytest.approx(
        area_m2(SQUARES.geometry.to_numpy()).tolist(), rel=1e-9
    )


def test_facilities_at_one_position_share_one_cell_counted_once():
    facilities = sites_at((107.95, 29.6), (107.95, 29.6), (108.05, 29.6))
    cells = service_cells(facilities, SQUARES, {"base_station": NO_LIMIT})
    assert cells["cell_id"].tolist() == [0, 0, 1]
    assert cells.geometry.iloc[0].equals(cells.geometry.iloc[1])
    for out in ({"f0"}, {"f1"}, {"f0", "f1"}):
        for share in (exact_area_share, cell_area_share):
            assert share(cells, SQUARES, out)["any"].iloc[0] == pytest.approx(0.5, abs=1e-6)
    grid = CoverageGrid.build(facilities, SQUARES, NO_LIMIT)
    assert grid.area_share(down(facilities, "f1"))["any"].iloc[0] == pytest.approx(
        0.5, abs=TENTH_OF_A_POINT
    )


def test_kinds_and_networks_have_cells_of_their_own():
    stations = sites_at(
        (107.95, 29.6, "a"), (108.05, 29.6, "a"), (107.95, 29.6, "b"), (108.0, 29.6, None)
    )
    exchange = sites_at((108.0, 29.6, "a"), kind="exchange").assign(facility_id="x0")
    facilities = gpd.GeoDataFrame(
        np.vstack([stations, exchange]),
        columns=stations.columns,
        crs="EPSG:4326",
        geometry="geometry",
    )
    cells = service_cells(facilities, SQUARES, {"base_station": NO_LIMIT, "exchange": 1000.0})
    whole = area_m2(SQUARE)
    assert cells["cell_area_m2"].tolist() == pytest.approx(
        [whole / 2, whole / 2, whole, whole, np.pi * 1e6], rel=1e-4
    )
    assert cells["cell_id"].nunique() == 5


def test_a_facility_outside_every_district_has_no_cell_and_keeps_the_others_rows():
    facilities = sites_at((100.0, 29.6), (108.0, 29.6), (108.2, 29.6)).set_index(
        np.array(["z", "y", "y"])
    )
    cells = service_cells(facilities, SQUARES, {"base_station": 500.0})
    assert cells.index.tolist() == ["y", "y"]
    assert cells["facility_id"].tolist() == ["f1", "f2"]
    assert cells["adcode"].tolist() == ["500101", "500102"]
    grid = CoverageGrid.build(facilities, SQUARES, 500.0)
    assert grid.area_share(np.array([True, False, False]))["any"].tolist() == [0.0, 0.0]


def test_an_adcode_already_known_is_taken_as_it_is():
    facilities = sites_at((108.0, 29.6), (108.2, 29.6), (108.05, 29.6)).assign(
        adcode=["500102", "500102", None]
    )
    sites = Sites.of(facilities, SQUARES)
    assert [sites.adcodes[k] for k in sites.district] == ["500102", "500102"]
    assert sites.of_facility.tolist() == [0, 1, -1]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_cells_without_reach_partition_the_district(shape, count):
    districts = districts_of(shape)
    cells = service_cells(
        random_sites(shape, count, seed=count), districts, {"base_station": NO_LIMIT}
    )
    assert len(cells) == count
    assert cells.geometry.is_valid.all()
    assert cells["cell_area_m2"].sum() == pytest.approx(area_m2(shape), rel=1e-9)
    assert area_m2(shapely.union_all(cells.geometry.to_numpy())) == pytest.approx(
        area_m2(shape), rel=1e-9
    )


@pytest.mark.parametrize(
    "places",
    [
        [(107.92 + 0.02 * n, 29.6) for n in range(8)],  # on one parallel
        [(108.0, 29.52 + 0.02 * n) for n in range(8)],  # on one meridian
        [(107.92 + 0.02 * a, 29.52 + 0.02 * b) for a in range(8) for b in range(8)],  # a lattice
        [(108.0 + 1e-7 * n, 29.6 + 1e-7 * n * n) for n in range(8)],  # a few centimetres apart
        [(108.0 + 1e-9 * n, 29.6) for n in range(20)],  # less than a millimetre apart
        [(107.9, 29.5), (108.1, 29.7), (108.1, 29.5), (107.9, 29.7)],  # on the corners
    ],
)
def test_awkward_positions_still_partition_the_district(places):
    cells = service_cells(sites_at(*places), SQUARES, {"base_station": NO_LIMIT})
    once = cells.drop_duplicates("cell_id")
    assert len(cells) == len(places)
    assert once["cell_area_m2"].sum() == pytest.approx(area_m2(SQUARE), rel=1e-9)


def test_every_point_of_a_cell_is_nearest_to_its_own_facility():
    facilities = random_sites(WIGGLY, 60, seed=3)
    cells = service_cells(facilities, districts_of(WIGGLY), {"base_station": NO_LIMIT})
    rng = np.random.default_rng(0)
    probes = shapely.points(rng.uniform(WIGGLY.bounds[:2], WIGGLY.bounds[2:], (2000, 2)))
    probes = probes[shapely.covers(WIGGLY, probes)]
    plane = facilities.to_crs("EPSG:4545")
    moved = gpd.GeoSeries(probes, crs="EPSG:4326").to_crs("EPSG:4545")
    distance = np.array([plane.distance(probe).to_numpy() for probe in moved])
    ranked = np.sort(distance, axis=1)
    clear = ranked[:, 1] - ranked[:, 0] > 1.0
    for probe, nearest in zip(probes[clear], distance[clear].argmin(axis=1), strict=True):
        assert cells.geometry.iloc[nearest].covers(probe)


FOUR = sites_at(
    (107.95, 29.6, "a"), (108.05, 29.6, "a"),  # west and east halves
    (108.0, 29.55, "b"), (108.0, 29.65, "b"),  # south and north halves
)  # fmt: skip


@pytest.mark.parametrize(
    ("out", "any_share", "all_share"),
    [
        ((), 0.0, 0.0),
        (("f0",), 0.5, 0.0),
        (("f0", "f1"), 1.0, 0.0),
        (("f0", "f2"), 0.75, 0.25),
        (("f0", "f1", "f2"), 1.0, 0.5),
        (("f0", "f1", "f2", "f3"), 1.0, 1.0),
    ],
)
def test_any_is_some_network_out_and_all_is_no_network_left(out, any_share, all_share):
    cells = service_cells(FOUR, SQUARES, {"base_station": NO_LIMIT})
    exact = exact_area_share(cells, SQUARES, out).iloc[0]
    assert (exact["any"], exact["all"]) == pytest.approx((any_share, all_share), abs=1e-3)
    sampled = CoverageGrid.build(FOUR, SQUARES, NO_LIMIT).area_share(down(FOUR, *out)).iloc[0]
    assert (sampled["any"], sampled["all"]) == pytest.approx(
        (any_share, all_share), abs=TENTH_OF_A_POINT
    )


def test_where_only_one_network_reaches_all_is_that_network():
    facilities = sites_at((107.95, 29.6, "a"), (108.05, 29.6, "b"))
    cells = service_cells(facilities, SQUARES, {"base_station": 2000.0})
    exact = exact_area_share(cells, SQUARES, {"f0"}).iloc[0]
    disc = np.pi * 2000**2 / area_m2(SQUARE)
    assert (exact["any"], exact["all"]) == pytest.approx((disc, disc), rel=1e-3)
    sampled = (
        CoverageGrid.build(facilities, SQUARES, 2000.0).area_share(down(facilities, "f0")).iloc[0]
    )
    assert (sampled["any"], sampled["all"]) == pytest.approx((disc, disc), abs=TENTH_OF_A_POINT)


WEST_HALF, SOUTH_HALF = box(107.8, 29.4, 108.0, 29.8), box(107.9, 29.5, 108.1, 29.6)


@pytest.mark.parametrize(
    ("out", "polygons", "any_share", "all_share"),
    [
        ((), [WEST_HALF], 0.5, 0.5),
        ((), [WEST_HALF, WEST_HALF], 0.5, 0.5),  # overlaps count once
        ((), [WEST_HALF, SOUTH_HALF], 0.75, 0.75),
        (("f0",), [WEST_HALF], 0.5, 0.5),  # as does a cell under a polygon
        (("f1",), [WEST_HALF], 1.0, 0.5),
        (("f2",), [WEST_HALF], 0.75, 0.5),
        (("f0", "f2"), [box(108.0, 29.6, 108.1, 29.7)], 1.0, 0.5),
        ((), [box(0, 0, 179, 80)], 1.0, 1.0),
        ((), [box(106, 29, 107, 30)], 0.0, 0.0),
        ((), [Polygon()], 0.0, 0.0),
        ((), [SQUARE.difference(box(107.95, 29.55, 108.05, 29.65))], 0.75, 0.75),
    ],
)
def test_reported_polygons_join_the_cells_and_overlaps_count_once(
    out, polygons, any_share, all_share
):
    cells = service_cells(FOUR, SQUARES, {"base_station": NO_LIMIT})
    exact = exact_area_share(cells, SQUARES, out, polygons).iloc[0]
    # halves in degrees differ from halves of the ground by a tenth of a per mille
    assert (exact["any"], exact["all"]) == pytest.approx((any_share, all_share), abs=1e-3)
    grid = CoverageGrid.build(FOUR, SQUARES, NO_LIMIT)
    sampled = grid.area_share(down(FOUR, *out), polygons).iloc[0]
    assert sampled["any"] == pytest.approx(exact["any"], abs=TENTH_OF_A_POINT)
    assert sampled["all"] == pytest.approx(exact["all"], abs=TENTH_OF_A_POINT)
    kept = grid.area_share(down(FOUR, *out), footprint=grid.footprint(polygons)).iloc[0]
    assert kept["any"] == sampled["any"]


def test_a_polygon_counts_where_no_facility_reaches():
    facilities = sites_at((107.91, 29.51))
    grid = CoverageGrid.build(facilities, SQUARES, 100.0)
    shares = grid.area_share(np.array([False]), [WEST_HALF])
    assert shares["any"].tolist() == pytest.approx([0.5, 0.0], abs=TENTH_OF_A_POINT)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(
    ("networks", "count", "reach_m"),
    [("a", 300, NO_LIMIT), ("abc", 2400, 1500.0), ("ab", 3, 4000.0)],
)
def test_samples_agree_with_unions_within_a_tenth_of_a_percentage_point(
    shape, networks, count, reach_m
):
    districts = districts_of(shape)
    facilities = random_sites(shape, count, seed=8, networks=networks)
    cells = service_cells(facilities, districts, {"base_station": reach_m})
    grid = CoverageGrid.build(facilities, districts, reach_m)
    rng = np.random.default_rng(2)
    west, south, east, north = shape.bounds
    lying = box(west + 0.013, south + 0.017, (west + east) / 2, (south + north) / 2)
    for portion, polygons in (
        (0.5, []),
        (0.1, [lying]),
        (0.9, [Point(west, south).buffer(0.1), lying]),
    ):
        is_down = rng.random(len(facilities)) < portion
        exact = exact_area_share(
            cells, districts, set(facilities["facility_id"][is_down]), polygons
        )
        sampled = grid.area_share(is_down, polygons)
        assert np.abs(exact["any"] - sampled["any"]).max() <= TENTH_OF_A_POINT
        assert np.abs(exact["all"] - sampled["all"]).max() <= TENTH_OF_A_POINT
        assert (exact["all"] <= exact["any"]).all()


GRID_OF_THREE_NETWORKS = random_sites(WIGGLY, 200, seed=4, networks="abc")
ONE_GRID = CoverageGrid.build(GRID_OF_THREE_NETWORKS, districts_of(WIGGLY), 9000.0)


@settings(max_examples=40, deadline=None)
@given(st.sets(st.integers(0, 199)), st.sets(st.integers(0, 199)))
def test_more_facilities_down_never_lower_a_share_and_any_is_never_below_all(some, more):
    first, second = np.zeros(200, dtype=bool), np.zeros(200, dtype=bool)
    first[list(some)] = True
    second[list(some | more)] = True
    less, greater = ONE_GRID.area_share(first).iloc[0], ONE_GRID.area_share(second).iloc[0]
    assert 0 <= less["all"] <= less["any"] <= 1
    assert less["any"] <= greater["any"]
    assert less["all"] <= greater["all"]


def test_one_network_has_any_equal_to_all_and_to_the_sum_of_cells():
    facilities = random_sites(WIGGLY, 500, seed=9)
    districts = districts_of(WIGGLY)
    cells = service_cells(facilities, districts, {"base_station": 2000.0})
    out = set(facilities["facility_id"][::3])
    exact, summed = exact_area_share(cells, districts, out), cell_area_share(cells, districts, out)
    assert exact["any"].tolist() == pytest.approx(exact["all"].tolist(), abs=1e-7)
    assert summed["any"].tolist() == pytest.approx(exact["any"].tolist(), abs=1e-7)
    sampled = CoverageGrid.build(facilities, districts, 2000.0).area_share(
        facilities["facility_id"].isin(out).to_numpy()
    )
    assert (sampled["any"] == sampled["all"]).all()


def test_areas_of_several_networks_are_not_added():
    cells = service_cells(FOUR, SQUARES, {"base_station": NO_LIMIT})
    with pytest.raises(InvalidInput, match="several networks"):
        cell_area_share(cells, SQUARES, {"f0"})


def test_a_kind_without_facilities_has_nothing_out_but_the_polygons():
    nobody = sites_at()
    grid = CoverageGrid.build(nobody, SQUARES, 1000.0)
    assert grid.area_share(np.zeros(0, dtype=bool))["any"].tolist() == [0.0, 0.0]
    assert grid.area_share(np.zeros(0, dtype=bool), [SQUARE])["all"].tolist() == [1.0, 0.0]
    cells = service_cells(nobody, SQUARES, {})
    assert len(cells) == 0
    assert exact_area_share(cells, SQUARES, set(), [SQUARE])["any"].tolist() == pytest.approx(
        [1.0, 0.0]
    )


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_number_of_samples_inside_is_the_area_inside(shape):
    raster = SampleRaster.over(shape, 50_000)
    first, mask = raster.inside(shape)
    assert mask.sum() == pytest.approx(50_000, rel=0.004)
    inside = np.zeros((raster.rows, raster.columns), dtype=bool)
    inside[first : first + len(mask)] = mask
    lon, lat = raster.positions(inside)
    assert shapely.intersects_xy(shape.buffer(1e-6), lon, lat).all()
    lon, lat = raster.positions(~inside)
    assert not shapely.intersects_xy(shape.buffer(-1e-6), lon, lat).any()


def test_samples_stand_for_equal_areas_from_south_to_north():
    tall = box(107.9, 28.0, 108.1, 32.0)
    raster = SampleRaster.over(tall, 100_000)
    south, north = box(107.9, 28.0, 108.1, 30.0), box(107.9, 30.0, 108.1, 32.0)
    counted = [raster.inside(part)[1].sum() for part in (south, north)]
    assert counted[0] / counted[1] == pytest.approx(area_m2(south) / area_m2(north), rel=1e-3)


def test_a_grid_survives_the_disc(tmp_path):
    facilities = random_sites(WIGGLY, 300, seed=1, networks="ab").assign(
        network=lambda frame: frame["network"].where(frame["network"] == "a", None)
    )
    grid = CoverageGrid.build(facilities, districts_of(WIGGLY), 5000.0)
    path = tmp_path / "base_station.npz"
    grid.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["base_station.npz"]
    again = CoverageGrid.load(path)
    assert (again.adcodes, again.networks) == (("500101",), ("a", None))
    is_down = np.random.default_rng(0).random(300) < 0.4
    polygons = [box(108, 29.5, 108.1, 29.7)]
    assert again.area_share(is_down, polygons).equals(grid.area_share(is_down, polygons))
    assert again.matches(facilities["facility_id"])
    assert not again.matches(facilities["facility_id"][::-1])


@pytest.mark.parametrize("content", [b"", b"not a grid", b"PK\x03\x04 torn"])
def test_a_file_that_is_no_grid_is_refused(tmp_path, content):
    path = tmp_path / "grid.npz"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="not a coverage grid"):
        CoverageGrid.load(path)


def test_a_grid_file_cut_short_is_refused(tmp_path):
    path = tmp_path / "grid.npz"
    ONE_GRID.save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InvalidInput):
        CoverageGrid.load(path)


@pytest.mark.parametrize(
    "reach_m", [{}, {"base_station": 0.0}, {"base_station": float("nan")}, {"base_station": -3.0}]
)
def test_a_kind_needs_a_reach_above_zero(reach_m):
    with pytest.raises(InvalidInput, match="reach of base_station"):
        service_cells(FOUR, SQUARES, reach_m)
    with pytest.raises(InvalidInput):
        CoverageGrid.build(FOUR, SQUARES, reach_m.get("base_station", -1.0))


def test_states_must_be_as_many_as_the_facilities():
    with pytest.raises(InvalidInput, match="3 states for a grid of 200"):
        ONE_GRID.area_share(np.zeros(3, dtype=bool))


def test_cells_of_several_kinds_have_no_common_share():
    cells = service_cells(FOUR.assign(kind=["x", "x", "y", "y"]), SQUARES, {"x": 1.0, "y": 1.0})
    with pytest.raises(InvalidInput, match="one kind"):
        exact_area_share(cells, SQUARES, set())


def test_polygons_that_are_null_or_cross_themselves_are_named():
    bowtie = Polygon([(106, 29), (107, 30), (107, 29), (106, 30)])
    with pytest.raises(InvalidInput) as refused:
        union_of_polygons([SQUARE, None, bowtie])
    assert [fault.row for fault in refused.value.faults] == [2, 3]


def test_points_and_lines_among_polygons_have_no_area():
    assert union_of_polygons([Point(108, 29.6), LineString([(108, 29), (109, 30)])]).is_empty
    assert ONE_GRID.footprint([Point(108, 29.6)]).sum() == 0


def test_a_missing_crs_is_an_error():
    with pytest.raises(CrsError):
        service_cells(FOUR.set_crs(None, allow_override=True), SQUARES, {"base_station": 1.0})
    with pytest.raises(CrsError):
        CoverageGrid.build(FOUR.to_crs(4545), SQUARES, 1.0)
    with pytest.raises(CrsError):
        exact_area_share(
            service_cells(FOUR, SQUARES, {"base_station": 1.0}), SQUARES.to_crs(4545), set()
        )


def test_more_sites_ask_for_more_samples():
    assert samples_wanted(1) == 100_000
    assert samples_wanted(2500) == 240_000
    assert samples_wanted(20_000) == 480_000


def test_the_city_is_answered_in_a_tenth_of_a_second():
    rng = np.random.default_rng(6)
    # nine districts of the city's extent, 60,000 facilities of three networks
    shapes = [
        box(105.3 + 1.6 * a, 28.1 + 1.4 * b, 106.9 + 1.6 * a, 29.5 + 1.4 * b)
        for a in range(3)
        for b in range(3)
    ]
    districts = districts_of(*shapes)
    xy = rng.uniform([105.3, 28.1], [110.1, 32.3], (60_000, 2))
    facilities = gpd.GeoDataFrame(
        {"facility_id": [f"f{n}" for n in range(60_000)], "network": rng.choice(list("abc"), 60_000)},
        geometry=gpd.points_from_xy(*xy.T), crs="EPSG:4326",
    )  # fmt: skip
    assert (DistrictLocator(districts).assign(*xy.T) >= 0).all()
    grid = CoverageGrid.build(facilities, districts, 3000.0)
    is_down = rng.random(60_000) < 0.5
    grid.area_share(is_down)
    best = min(timed(grid, is_down) for _ in range(5))
    assert best < 0.1


def timed(grid: CoverageGrid, is_down: np.ndarray) -> float:
    started = time.perf_counter()
    grid.area_share(is_down)
    return time.perf_counter() - started
