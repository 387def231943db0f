"""Areas are cut in time that goes with what they meet, and come out as by the plain intersection."""

from __future__ import annotations

import time

import geopandas as gpd
import numpy as np
import pytest
import shapely
from shapely.geometry.base import BaseGeometry

from data.readers.boundaries import default_divisions
from geo.crs import area_m2
from geo.cut import clipped, cut
from geo.region import Region, region_parts, share_of_shape, shares_inside
from geo.split import areas_inside
from geo.validate import BORDER_KM_MAX, geometry_faults

WITHIN_S = 2.0


def star(vertices: int, near: float, far: float) -> shapely.Polygon:
    """A star around the middle of the city, radii in degrees."""
    angle = np.linspace(0, 2 * np.pi, vertices - 1, endpoint=False)
    reach = np.where(np.arange(vertices - 1) % 2, far, near)
    return shapely.Polygon(
        np.column_stack([106.55 + reach * np.cos(angle), 29.56 + reach * np.sin(angle)])
    )


def comb(vertices: int, long: float, wide: float, turned: float) -> shapely.Polygon:
    """Thin teeth side by side, `turned` by so many degrees; sizes in degrees."""
    teeth = (vertices - 3) // 2
    across = np.linspace(0, wide, 2 * teeth)
    along = np.where(np.arange(2 * teeth) % 2, long, long * 1e-3)
    back = [[-long * 1e-3, wide], [-long * 1e-3, 0]]
    ring = np.concatenate([np.column_stack([along, across]), back])
    cos, sin = np.cos(np.radians(turned)), np.sin(np.radians(turned))
    turn = (ring - [long / 2, wide / 2]) @ np.array([[cos, sin], [-sin, cos]])
    return shapely.Polygon(turn + np.array([106.55, 29.56]))


def noisy(vertices: int) -> shapely.Polygon:
    angle = np.linspace(0, 2 * np.pi, vertices, endpoint=False)
    reach = 0.3 + 0.015 * np.random.default_rng(7).uniform(-1, 1, vertices)
    return shapely.Polygon(
        np.column_stack([106.55 + reach * np.cos(angle), 29.56 + reach * np.sin(angle)])
    )


#: The costliest that are accepted, found by trying: as many long sides as the limits let in.
ACCEPTED: dict[str, BaseGeometry] = {
    "star": star(900, 0.001, 0.2),
    "long star": star(70, 0.001, 2.5),
    "thin comb": comb(600, 0.3, 2e-3, 40),
    "long comb": comb(60, 2.8, 0.3, 45),
    "level comb": comb(9_990, 0.015, 0.6, 0),
    "outline of 10 000": noisy(9_999),
    "holed": shapely.box(106.3, 29.3, 106.9, 29.9) - star(600, 0.001, 0.2),
    "parts": shapely.MultiPolygon([star(60, 0.001, 0.1), shapely.box(108, 30, 108.5, 30.5)]),
    "half the world": shapely.box(-180, -90, 180, 90),
}
REFUSED: dict[str, BaseGeometry] = {
    "star of 9 990": star(9_990, 0.001, 0.2),
    "small star of 9 990": star(9_990, 1e-6, 1e-3),
    "comb over the city": comb(9_990, 4.0, 4.0, 45),
    "level comb over the city": comb(9_990, 4.8, 3.9, 0),
    "thin comb": comb(9_990, 4.0, 0.01, 45),
    "scribble": shapely.LineString(
        np.random.default_rng(1).uniform([106.4, 29.5], [106.7, 29.7], (1_600, 2))
    ),
}


@pytest.fixture(scope="module")
def districts() -> gpd.GeoDataFrame:
    return default_divisions()[-1].frame


@pytest.mark.parametrize("name", ACCEPTED)
def test_every_district_has_the_share_of_the_plain_intersection(
    name: str, districts: gpd.GeoDataFrame
) -> None:
    area = ACCEPTED[name]
    assert geometry_faults(area, max_vertices=10_000) == []
    began = time.thread_time()
    found = areas_inside(area, districts)
    assert time.thread_time() - began < WITHIN_S
    few = districts[districts["adcode"].isin(["500103", "500106", "500112", "500235"])]
    plain = area_m2(shapely.intersection(few.geometry.to_numpy(), area))
    whole = area_m2(area)
    for adcode, expected in zip(few["adcode"], plain, strict=True):
        assert found.get(adcode, 0.0) / whole == pytest.approx(expected / whole, abs=1e-9)
    assert sum(found.values()) == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_hold_geos_for_minutes_is_refused_at_once(name: str) -> None:
    began = time.thread_time()
    (fault,) = geometry_faults(REFUSED[name], max_vertices=10_000)
    assert time.thread_time() - began < 0.5
    assert fault.reason.endswith("simplify it")


def test_a_district_cut_before_is_not_cut_again(districts: gpd.GeoDataFrame) -> None:
    known: dict[bytes, float] = {}
    first = areas_inside(ACCEPTED["star"], districts, known)
    assert len(known) == len(first)
    marked = dict.fromkeys(known, 5e6)
    again = areas_inside(ACCEPTED["star"], districts, marked)
    assert {again[adcode] for adcode in again if adcode is not None} == {5e6}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_clipped_area_is_valid_and_the_plain_intersection_with_the_box(name: str) -> None:
    box = (106.5, 29.5, 106.58, 29.6)
    part = clipped(ACCEPTED[name], box)
    assert shapely.is_valid(part)
    plain = shapely.intersection(ACCEPTED[name], shapely.box(*box))
    assert part.area == pytest.approx(plain.area, rel=1e-9)


def test_a_ring_that_touches_the_box_stays_a_valid_area() -> None:
    area = shapely.Polygon([(0, 0), (4, 0), (4, 4), (3, 1), (2, 4), (1, 1), (0, 4)])
    for top in (1.0, 2.0, 4.0):
        part = clipped(area, (-1.0, 0.5, 5.0, top))
        assert shapely.is_valid(part)
        assert part.area == pytest.approx(
            shapely.intersection(area, shapely.box(-1, 0.5, 5, top)).area
        )


def test_a_line_and_nothing_are_cut_too() -> None:
    shapes = np.array([shapely.box(0, 0, 1, 1), shapely.box(2, 2, 3, 3)], dtype=object)
    line = shapely.LineString([(0, 0), (1, 0), (1, 5)])
    assert [piece.length for piece in cut(shapes, line)] == [2.0, 0.0]
    assert all(piece.is_empty for piece in cut(shapes, shapely.Polygon()))


def test_the_limits_are_those_that_are_written_down() -> None:
    """Just below and just above."""
    spike_km = 111.2 * 0.4
    within = comb(int(BORDER_KM_MAX / spike_km) - 60, 0.4, 0.3, 90)
    assert geometry_faults(within, max_vertices=10_000) == []
    beyond = comb(int(BORDER_KM_MAX / spike_km) + 60, 0.4, 0.3, 90)
    (fault,) = geometry_faults(beyond, max_vertices=10_000)
    assert "km long together" in fault.reason


@pytest.mark.parametrize("name", ["thin comb", "star", "parts"])
def test_a_region_holds_all_of_an_outage_of_its_own_outline(
    name: str, districts: gpd.GeoDataFrame
) -> None:
    """Whose sides lie on one another: the costliest of all overlays, and the usual question."""
    area = ACCEPTED[name]
    region = Region("polygon", "WGS84", area)
    began = time.thread_time()
    parts = region_parts(region, districts)
    shares = shares_inside(region, parts, area, districts)
    assert time.thread_time() - began < WITHIN_S
    assert set(shares.values()) == {1.0}
    assert {p.adcode for p in parts.districts} <= set(shares)
    assert share_of_shape(region, area) == 1.0
