"""A point belongs to one district: the smallest adcode whose closed area covers it."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import MultiPolygon, Point, Polygon, box

from data.readers.boundaries import default_divisions
from geo.assign import DistrictLocator, assign, point_positions
from geo.errors import CrsError, InvalidInput


def frame(shapes: dict[str, shapely.Geometry], crs: str | None = "EPSG:4326") -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame({"adcode": list(shapes)}, geometry=list(shapes.values()), crs=crs)


def wiggly_districts(count: int, seed: int) -> gpd.GeoDataFrame:
    """A coverage with wiggly shared borders over Chongqing's extent; shuffled adcodes."""
    rng = np.random.default_rng(seed)
    extent = box(105.3, 28.1, 110.2, 32.2)
    sites = rng.uniform([105.3, 28.1], [110.2, 32.2], (count, 2))
    cells = shapely.voronoi_polygons(shapely.multipoints(sites), extend_to=extent)
    pieces = shapely.intersection(shapely.get_parts(cells), extent)

    def wiggle(xy: np.ndarray) -> np.ndarray:
        # the same shift at the same place, so that shared borders stay shared
        shift = np.column_stack([np.sin(xy[:, 1] * 23) * 0.02, np.sin(xy[:, 0] * 19) * 0.02])
        return xy + shift

    # vertices of the fine subdivision of an edge must be the same from both sides
    edges = shapely.node(shapely.union_all(shapely.boundary(pieces)))
    fine = shapely.transform(shapely.segmentize(edges, 0.05), wiggle)
    faces = shapely.get_parts(shapely.polygonize(shapely.get_parts(fine)))
    adcodes = [f"5{n:05d}" for n in rng.permutation(len(faces)) + 100]
    return gpd.GeoDataFrame({"adcode": adcodes}, geometry=faces, crs="EPSG:4326")


def by_definition(districts: gpd.GeoDataFrame, xy: np.ndarray) -> list[str | None]:
    ordered = districts.sort_values("adcode")
    answer = np.full(len(xy), None, dtype=object)
    for adcode, shape in zip(ordered["adcode"][::-1], ordered.geometry[::-1], strict=True):
        answer[shapely.covers(shape, shapely.points(xy))] = adcode
    return answer.tolist()


def located(districts: gpd.GeoDataFrame, xy: np.ndarray, **options: int) -> list[str | None]:
    locator = DistrictLocator(districts, **options)
    names = [*locator.adcodes, None]
    return [names[k] for k in locator.assign(xy[:, 0], xy[:, 1])]


SQUARES = frame(
    {
        "500103": box(1, 0, 2, 1),
        "500101": box(0, 0, 1, 1),
        "500102": box(0, 1, 2, 2),
    }
)
HOLED = frame(
    {
        "500102": Polygon(box(0, 0, 9, 9).exterior.coords, [box(3, 3, 6, 6).exterior.coords]),
        "500101": box(4, 4, 5, 5),
    }
)
SCATTERED = frame(
    {
        "500101": MultiPolygon([box(0, 0, 1, 1), box(5, 5, 6, 6), box(1, 1, 2, 2)]),
        "500102": MultiPolygon([box(1, 0, 2, 1), box(0, 1, 1, 2)]),
    }
)
OVERLAPPING = frame(
    {
        "500102": box(0, 0, 8, 8),
        "500103": box(2, 2, 10, 10),
        "500101": Point(5, 5).buffer(1.5),
    }
)
TRIANGLES = frame(
    {
        "500101": Polygon([(0, 0), (3, 1), (1, 3)]),
        "500102": Polygon([(3, 1), (1, 3), (4, 4)]),
        "500103": Polygon([(0, 0), (3, 1), (7, -1)]),
    }
)
WIGGLY = wiggly_districts(30, seed=5)
COVERAGES = {
    "squares": SQUARES,
    "holed": HOLED,
    "scattered": SCATTERED,
    "overlapping": OVERLAPPING,
    "triangles": TRIANGLES,
    "wiggly": WIGGLY,
    "one": frame({"500101": Polygon([(0, 0), (10, 0.001), (10, 0.002)])}),
}


@pytest.mark.parametrize(
    ("lon", "lat", "adcode"),
    [
        (0.5, 0.5, "500101"),
        (1.0, 0.5, "500101"),  # border of 101 and 103
        (1.0, 1.0, "500101"),  # corner of all three
        (1.5, 1.0, "500102"),  # border of 103 and 102
        (2.0, 0.5, "500103"),  # the outer border is inside
        (0.0, 0.0, "500101"),
        (2.0, 2.0, "500102"),
        (2.0000001, 0.5, None),
        (-1e-12, 0.5, None),
        (np.nan, 0.5, None),
        (0.5, np.inf, None),
        (0.5, -np.inf, None),
    ],
)
def test_a_point_on_a_shared_border_goes_to_the_smallest_adcode(lon, lat, adcode):
    locator = DistrictLocator(SQUARES)
    assert locator.adcodes == ("500101", "500102", "500103")
    found = locator.assign(np.array([lon]), np.array([lat]))
    assert found.dtype == np.int32
    assert [*locator.adcodes, None][found[0]] == adcode


@pytest.mark.parametrize("cells_per_side", [1, 2, 7, 64, 1024])
@pytest.mark.parametrize("name", COVERAGES)
def test_the_grid_answers_as_the_definition_does_everywhere(name, cells_per_side):
    districts = COVERAGES[name]
    rng = np.random.default_rng(3)
    west, south, east, north = districts.total_bounds
    vertices = shapely.get_coordinates(districts.geometry.to_numpy())
    middles = (vertices[1:] + vertices[:-1]) / 2
    anywhere = rng.uniform([west - 0.1, south - 0.1], [east + 0.1, north + 0.1], (3000, 2))
    steps = np.arange(cells_per_side + 1) / cells_per_side
    side = max(east - west, north - south)
    corners = np.column_stack(
        [west + rng.choice(steps, 500) * side, south + rng.choice(steps, 500) * side]
    )
    near = vertices + rng.choice([-1e-12, 0, 1e-12], vertices.shape)
    xy = np.vstack([vertices, middles, anywhere, corners, near, vertices])
    assert located(districts, xy, cells_per_side=cells_per_side) == by_definition(districts, xy)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    cells_per_side=st.integers(1, 300),
    picks=st.lists(
        st.tuples(
            st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from([0.0, 0.25, 0.5, 1.0])
        ),
        min_size=1,
        max_size=80,
    ),
)
def test_points_on_and_between_vertices_of_any_coverage_follow_the_definition(
    seed, cells_per_side, picks
):
    districts = wiggly_districts(2 + seed % 9, seed)
    vertices = shapely.get_coordinates(districts.geometry.to_numpy())
    xy = np.array(
        [
            vertices[a % len(vertices)] * (1 - t) + vertices[b % len(vertices)] * t
            for a, b, t in picks
        ]
    )
    assert located(districts, xy, cells_per_side=cells_per_side) == by_definition(districts, xy)


def test_the_divisions_in_force_are_answered_as_the_definition_says():
    districts = default_divisions()[-1].frame
    rng = np.random.default_rng(1)
    west, south, east, north = districts.total_bounds
    vertices = shapely.get_coordinates(districts.geometry.to_numpy())
    vertices = vertices[rng.choice(len(vertices), 4000, replace=False)]
    moved = vertices + rng.normal(0, 1e-4, vertices.shape)
    anywhere = rng.uniform([west, south], [east, north], (8000, 2))
    xy = np.vstack([vertices, (vertices[1:] + vertices[:-1]) / 2, moved, anywhere])
    answer = located(districts, xy)
    assert answer == by_definition(districts, xy)
    assert None not in answer[: len(vertices)]
    assert len(set(answer) - {None}) == 37


def test_a_point_in_a_hole_is_outside_and_its_rim_is_inside():
    xy = np.array([[3.5, 3.5], [3.0, 4.5], [4.0, 4.5], [4.5, 4.5], [9.0, 9.0]])
    assert located(HOLED, xy) == [None, "500102", "500101", "500101", "500102"]


def test_the_order_of_districts_and_points_changes_nothing():
    rng = np.random.default_rng(11)
    xy = rng.uniform([105, 28], [110.5, 32.5], (5000, 2))
    first = located(WIGGLY, xy)
    shuffled = WIGGLY.sample(frac=1, random_state=1)
    order = rng.permutation(len(xy))
    assert located(shuffled, xy[order]) == [first[k] for k in order]


def test_every_point_keeps_its_row_and_the_index_of_the_frame():
    points = gpd.GeoDataFrame(
        geometry=[Point(0.5, 0.5), Point(9, 9), Point(0.5, 0.5), Point(1.5, 0.5, 200)],
        index=["a", "b", "c", "a"],
        crs="EPSG:4326",
    )
    found = assign(points, SQUARES)
    assert found.index.tolist() == ["a", "b", "c", "a"]
    assert found.tolist() == ["500101", None, "500101", "500103"]


def test_no_points_give_no_answers():
    nothing = gpd.GeoDataFrame(geometry=gpd.GeoSeries([], crs="EPSG:4326"))
    assert assign(nothing, SQUARES).tolist() == []


def test_every_row_without_one_position_is_named_at_once():
    points = gpd.GeoDataFrame(
        geometry=[Point(0, 0), None, Point(), box(0, 0, 1, 1), Point(1, 1)], crs="EPSG:4326"
    )
    with pytest.raises(InvalidInput) as refused:
        assign(points, SQUARES)
    assert [(f.row, f.field) for f in refused.value.faults] == [
        (2, "geometry"),
        (3, "geometry"),
        (4, "geometry"),
    ]
    assert "null" in refused.value.faults[0].reason
    assert "empty" in refused.value.faults[1].reason
    assert "Polygon" in refused.value.faults[2].reason


def test_a_position_that_is_not_finite_is_refused():
    with pytest.raises(InvalidInput, match="row 1, geometry: has a coordinate that is not finite"):
        point_positions(np.array([Point(np.inf, 3)], dtype=object))


@pytest.mark.parametrize("crs", [None, "EPSG:3857", "EPSG:4490"])
def test_a_missing_or_other_crs_is_an_error(crs):
    other = frame({"500101": box(0, 0, 1, 1)}, crs=crs)
    with pytest.raises(CrsError):
        DistrictLocator(other)
    points = gpd.GeoDataFrame(geometry=[Point(0, 0)], crs=crs)
    with pytest.raises(CrsError):
        assign(points, SQUARES)


def test_all_faulty_districts_are_named_at_once():
    bowtie = Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])
    faulty = gpd.GeoDataFrame(
        {"adcode": ["500101", "500101", None, "500104", "500105"]},
        geometry=[box(0, 0, 1, 1), bowtie, box(1, 0, 2, 1), None, Point(0, 0)],
        crs="EPSG:4326",
    )
    with pytest.raises(InvalidInput) as refused:
        DistrictLocator(faulty)
    assert [(f.row, f.field) for f in refused.value.faults] == [
        (2, "adcode"),
        (2, "geometry"),
        (3, "adcode"),
        (4, "geometry"),
        (5, "geometry"),
    ]


def test_districts_without_adcode_or_without_rows_are_refused():
    with pytest.raises(InvalidInput, match="adcode"):
        DistrictLocator(gpd.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs="EPSG:4326"))
    with pytest.raises(InvalidInput, match="no districts"):
        DistrictLocator(SQUARES.iloc[:0])


def test_lon_and_lat_of_different_lengths_are_refused():
    with pytest.raises(InvalidInput):
        DistrictLocator(SQUARES).assign(np.zeros(2), np.zeros(3))
