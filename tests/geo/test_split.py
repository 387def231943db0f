"""Parts add up to the whole, exactly, whatever the weights."""

from __future__ import annotations

import itertools
from fractions import Fraction

import geopandas as gpd
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely import LineString, MultiPoint, MultiPolygon, Point, Polygon, box

from geo.errors import CrsError, InvalidInput
from geo.split import OutagePart, split_by_weights, split_outage

KEYS = st.one_of(st.none(), st.sampled_from([f"5001{n:02d}" for n in range(40)]))
WEIGHTS = st.dictionaries(
    KEYS,
    st.one_of(
        st.integers(0, 10**9),
        st.floats(0, 1e12, allow_nan=False),
        st.fractions(0, 10**6),
    ),
    min_size=1,
    max_size=40,
)
AMOUNTS = st.integers(0, 10**8)


def test_largest_remainders_get_the_units_left_over():
    # exact shares 1.4, 3.5, 2.1
    assert split_by_weights(7, {"a": 2, "b": 5, "c": 3}) == {"a": 1, "b": 4, "c": 2}


def test_equal_remainders_go_to_the_smallest_adcode_and_outside_comes_last():
    weights = {None: 1, "500103": 1, "500101": 1, "500102": 1}
    assert list(split_by_weights(6, weights).items()) == [
        ("500101", 2),
        ("500102", 2),
        ("500103", 1),
        (None, 1),
    ]


def test_fractions_and_floats_are_compared_exactly():
    thirds = {"a": Fraction(1, 3), "b": Fraction(1, 3), "c": Fraction(1, 3)}
    assert split_by_weights(10, thirds) == {"a": 4, "b": 3, "c": 3}
    # 0.1 + 0.2 as floats is not 0.3: the tie with "a" is broken by the exact value
    assert split_by_weights(1, {"a": 0.3, "b": 0.1 + 0.2}) == {"a": 0, "b": 1}


def test_weights_that_are_all_zero_give_way_to_the_fallback():
    assert split_by_weights(5, {"a": 0, "b": 0.0}, {"b": 1, None: 1}) == {"b": 3, None: 2}


@pytest.mark.parametrize("fallback", [None, {}, {"a": 0}])
def test_nothing_to_weigh_by_is_an_error_unless_there_is_nothing_to_divide(fallback):
    with pytest.raises(InvalidInput, match="every weight is zero"):
        split_by_weights(1, {"a": 0}, fallback)
    assert sum(split_by_weights(0, {"a": 0}, fallback).values()) == 0


@pytest.mark.parametrize("weight", [-1, -0.5, float("nan"), float("inf"), np.float64("nan")])
def test_negative_and_endless_weights_are_refused(weight):
    with pytest.raises(InvalidInput, match="the weight of b"):
        split_by_weights(3, {"a": 1, "b": weight})


def test_a_negative_amount_is_refused():
    with pytest.raises(InvalidInput, match="negative"):
        split_by_weights(-1, {"a": 1})


def test_numpy_numbers_weigh_as_python_numbers_do():
    assert split_by_weights(3, {"a": np.int64(1), "b": np.float32(2)}) == {"a": 1, "b": 2}


@given(AMOUNTS, WEIGHTS)
def test_parts_add_up_and_stay_within_one_of_the_exact_share(amount, weights):
    total = sum(Fraction(w) for w in weights.values())
    if total == 0:
        return
    parts = split_by_weights(amount, weights)
    assert sum(parts.values()) == amount
    for key, part in parts.items():
        assert abs(part - amount * Fraction(weights[key]) / total) < 1
        assert part == 0 or weights[key] > 0


@given(AMOUNTS, WEIGHTS)
def test_a_heavier_district_never_gets_less(amount, weights):
    if not any(weights.values()):
        return
    parts = split_by_weights(amount, weights)
    ordered = sorted(parts, key=lambda key: Fraction(weights[key]))
    for light, heavy in itertools.pairwise(ordered):
        if Fraction(weights[light]) < Fraction(weights[heavy]):
            assert parts[light] <= parts[heavy]


@given(AMOUNTS, WEIGHTS, st.randoms())
def test_the_order_of_the_weights_changes_nothing(amount, weights, random):
    if not any(weights.values()):
        return
    shuffled = list(weights.items())
    random.shuffle(shuffled)
    assert split_by_weights(amount, weights) == split_by_weights(amount, dict(shuffled))


@given(AMOUNTS, AMOUNTS, WEIGHTS)
def test_restored_parts_add_up_and_none_exceeds_what_was_lost(one, other, weights):
    if not any(weights.values()):
        return
    lost, restored = max(one, other), min(one, other)
    lost_parts = split_by_weights(lost, weights)
    parts = split_by_weights(restored, weights, at_most=lost_parts)
    assert sum(parts.values()) == restored
    assert all(part <= lost_parts[key] for key, part in parts.items())


def test_a_cap_binds_where_remainders_alone_would_give_back_more_than_was_lost():
    # 11 lost, 10 back: the Alabama paradox would give c more of 10 than of 11
    weights = {"a": 6, "b": 6, "c": 2}
    assert split_by_weights(10, weights) == {"a": 4, "b": 4, "c": 2}
    lost = split_by_weights(11, weights)
    assert lost == {"a": 5, "b": 5, "c": 1}
    back = split_by_weights(10, weights, at_most=lost)
    assert back == {"a": 5, "b": 4, "c": 1}


def test_caps_that_cannot_hold_the_amount_are_an_error():
    with pytest.raises(InvalidInput, match="may hold 3"):
        split_by_weights(4, {"a": 1, "b": 1}, at_most={"a": 1, "b": 2})


WEST, EAST = box(106.0, 29.0, 107.0, 30.0), box(107.0, 29.0, 108.0, 30.0)
DISTRICTS = gpd.GeoDataFrame(
    {"adcode": ["500102", "500101"]}, geometry=[EAST, WEST], crs="EPSG:4326"
)


def substations(*rows: tuple[str, float, float, int | None, int | None]) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(
        {
            "facility_id": [row[0] for row in rows],
            "load_kw": np.array([row[3] for row in rows], dtype=object),
            "customers": np.array([row[4] for row in rows], dtype=object),
        },
        geometry=[Point(row[1], row[2]) for row in rows],
        crs="EPSG:4326",
    )


NONE = substations()
THREE = substations(
    ("s1", 106.5, 29.5, 300, 0),
    ("s2", 107.5, 29.5, 100, 10),
    ("s3", 108.5, 29.5, 100, None),
)
ACROSS = box(106.4, 29.4, 108.6, 29.6)


def test_load_goes_by_load_and_customers_by_customers_of_facilities_inside():
    split = split_outage(1000, 99, 500, facilities=THREE, districts=DISTRICTS, geometry=ACROSS)
    assert split.parts == {
        "500101": OutagePart(600, 0, 300),
        "500102": OutagePart(200, 99, 100),
        None: OutagePart(200, 0, 100),
    }
    assert (split.load_basis, split.customers_basis) == ("load_kw", "customers")
    assert split.counted_facility_ids == ("s1", "s2", "s3")


def test_without_facilities_the_area_decides_and_the_part_outside_belongs_to_the_sum():
    footprint = box(106.5, 29.2, 109.0, 29.7)  # 0.5° west, 1° east, 1° outside
    split = split_outage(1000, 50, None, facilities=NONE, districts=DISTRICTS, geometry=footprint)
    assert split.parts == {
        "500101": OutagePart(200, 10, None),
        "500102": OutagePart(400, 20, None),
        None: OutagePart(400, 20, None),
    }
    assert split.load_basis == "area"


def test_area_is_taken_on_the_ellipsoid_and_not_in_degrees():
    north = gpd.GeoDataFrame(
        {"adcode": ["500101", "500102"]},
        geometry=[box(106, 0, 107, 1), box(106, 60, 107, 61)],
        crs="EPSG:4326",
    )
    both = MultiPolygon(list(north.geometry))
    split = split_outage(1_000, None, None, facilities=NONE, districts=north, geometry=both)
    # a square degree at 60.5° N has 50 % of the ground of one at the equator
    assert split.parts["500101"].load_shed_kw == pytest.approx(667, abs=3)


def test_named_facilities_count_like_those_inside_and_each_once():
    split = split_outage(
        500, None, None, facilities=THREE, districts=DISTRICTS,
        geometry=box(106.4, 29.4, 106.6, 29.6), facility_ids=["s1", "s2", "unheard-of"],
    )  # fmt: skip
    assert {key: part.load_shed_kw for key, part in split.parts.items()} == {
        "500101": 375,
        "500102": 125,
    }
    assert split.counted_facility_ids == ("s1", "s2")


def test_facilities_without_load_leave_it_to_the_area_and_then_to_their_number():
    silent = substations(
        ("s1", 106.5, 29.5, None, None), ("s2", 107.5, 29.5, 0, None), ("s3", 107.6, 29.5, None, 0)
    )
    footprint = box(106.75, 29.2, 107.25, 29.7)
    by_area = split_outage(10, 3, None, facilities=silent, districts=DISTRICTS, geometry=footprint)
    assert {key: part.load_shed_kw for key, part in by_area.parts.items()} == {
        "500101": 5,
        "500102": 5,
    }
    by_number = split_outage(
        10, 3, None, facilities=silent, districts=DISTRICTS, facility_ids=["s1", "s2", "s3"]
    )
    assert {key: part.load_shed_kw for key, part in by_number.parts.items()} == {
        "500101": 3,
        "500102": 7,
    }
    assert by_number.load_basis == "facilities"


def test_an_adcode_already_known_is_taken_as_it_is():
    known = THREE.assign(adcode=["500102", "500102", None])
    split = split_outage(100, None, None, facilities=known, districts=DISTRICTS, geometry=ACROSS)
    assert {key: part.load_shed_kw for key, part in split.parts.items()} == {"500102": 80, None: 20}


@pytest.mark.parametrize(
    ("footprint", "basis", "parts"),
    [
        (LineString([(106.5, 29.5), (108.0, 29.5)]), "length", {"500101": 33, "500102": 67}),
        (LineString([(107.0, 29.1), (107.0, 29.9)]), "length", {"500101": 50, "500102": 50}),
        (Point(107.0, 29.5), "points", {"500101": 100}),
        (MultiPoint([(106.1, 29.5), (109.0, 29.5)]), "points", {"500101": 50, None: 50}),
        (Point(109.0, 29.5), "points", {None: 100}),
        (box(109, 29, 110, 30), "area", {None: 100}),
        (box(106.2, 29.2, 106.3, 29.3), "area", {"500101": 100}),
        (WEST.union(EAST), "area", {"500101": 50, "500102": 50}),
        (Polygon(ACROSS.exterior.coords, [box(107.0, 29.45, 108.5, 29.55).exterior.coords]), "area", None),
        (Polygon(), "unplaced", {None: 100}),
        (None, "unplaced", {None: 100}),
    ],
)  # fmt: skip
def test_every_kind_of_footprint_is_divided_and_adds_up(footprint, basis, parts):
    split = split_outage(100, 7, 60, facilities=NONE, districts=DISTRICTS, geometry=footprint)
    assert split.load_basis == basis
    assert sum(part.load_shed_kw for part in split.parts.values()) == 100
    assert sum(part.customers_out for part in split.parts.values()) == 7
    assert sum(part.restored_load_kw for part in split.parts.values()) == 60
    if parts is not None:
        assert {key: part.load_shed_kw for key, part in split.parts.items()} == parts


@given(
    st.lists(
        st.tuples(st.floats(105.5, 108.5), st.floats(28.9, 30.1), st.integers(0, 10**6)), max_size=8
    ),
    st.integers(0, 10**7),
    st.integers(0, 10**7),
)
def test_any_outage_adds_up_and_gives_back_no_more_than_was_lost(places, one, other):
    frame = substations(
        *[(f"s{k}", lon, lat, load, 5) for k, (lon, lat, load) in enumerate(places)]
    )
    split = split_outage(
        max(one, other), 1, min(one, other), facilities=frame, districts=DISTRICTS, geometry=ACROSS
    )
    assert sum(part.load_shed_kw for part in split.parts.values()) == max(one, other)
    assert sum(part.restored_load_kw for part in split.parts.values()) == min(one, other)
    assert all(part.restored_load_kw <= part.load_shed_kw for part in split.parts.values())


def test_impossible_figures_are_all_named():
    with pytest.raises(InvalidInput) as refused:
        split_outage(-1, -2, 3, facilities=NONE, districts=DISTRICTS)
    assert [fault.field for fault in refused.value.faults] == [
        "load_shed_kw",
        "customers_out",
        "restored_load_kw",
    ]


def test_a_footprint_that_crosses_itself_is_refused():
    bowtie = Polygon([(106, 29), (107, 30), (107, 29), (106, 30)])
    with pytest.raises(InvalidInput, match="geometry: its border crosses itself at"):
        split_outage(1, None, None, facilities=NONE, districts=DISTRICTS, geometry=bowtie)


def test_facilities_and_districts_must_say_their_crs():
    with pytest.raises(CrsError):
        split_outage(
            1, None, None, facilities=NONE.set_crs(None, allow_override=True), districts=DISTRICTS
        )
    with pytest.raises(CrsError):
        split_outage(1, None, None, facilities=NONE, districts=DISTRICTS.to_crs(4545))
