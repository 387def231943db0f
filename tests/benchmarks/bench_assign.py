"""How many points a second are placed, against the spatial join of geopandas.

A figure is (name, ratio, baseline, ours, unit, theirs, unit); the ratio is ours over theirs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import geopandas as gpd
import numpy as np

from data.readers.boundaries import default_divisions
from geo.assign import DistrictLocator, assign

Line = tuple[str, float, str, float, str, float, str]

POINTS = 1_000_000
SEED = 20251106
ROUNDS = 3


def run() -> list[Line]:
    """Both ways over the 37 districts in force and the same million points, best of three.

    `assign_1m_points` builds its locator anew each time, from frame to Series; in
    `locate_1m_positions` the locator stands, as it does in the service.
    """
    districts = default_divisions()[-1].frame
    west, south, east, north = districts.total_bounds
    lon, lat = np.random.default_rng(SEED).uniform([west, south], [east, north], (POINTS, 2)).T
    geometry = np.asarray(gpd.points_from_xy(lon, lat), dtype=object)
    columns = districts[["adcode", "geometry"]]

    def points() -> gpd.GeoDataFrame:
        # a frame of its own each round: geopandas keeps the spatial index of one it has joined,
        # and points that arrive have none
        return gpd.GeoDataFrame(geometry=geometry, crs="EPSG:4326")

    joined_s, joined = _best(lambda frame: gpd.sjoin(frame, columns, predicate="within"), points)
    assigned_s, assigned = _best(lambda frame: assign(frame, columns), points)
    locator = DistrictLocator(columns)
    located_s, _ = _best(lambda _: locator.assign(lon, lat), points)
    if joined["adcode"].sort_index().to_dict() != assigned.dropna().to_dict():
        raise AssertionError("the two ways place points differently")
    baseline = "geopandas.sjoin"
    return [
        ("assign_1m_points", joined_s / assigned_s, baseline,
         POINTS / assigned_s, "points/s", POINTS / joined_s, "points/s"),
        ("locate_1m_positions", joined_s / located_s, baseline,
         POINTS / located_s, "points/s", POINTS / joined_s, "points/s"),
    ]  # fmt: skip


def _best(job: Callable[[Any], Any], points: Callable[[], Any]) -> tuple[float, Any]:
    seconds = []
    for _ in range(ROUNDS):
        frame = points()
        started = time.perf_counter()
        result = job(frame)
        seconds.append(time.perf_counter() - started)
    return min(seconds), result


if __name__ == "__main__":
    for name, ratio, baseline, ours, unit, theirs, their_unit in run():
        print(
            f"bench {name} {ratio:.1f} x vs {baseline} "
            f"({ours:.3g} {unit} / {theirs:.3g} {their_unit})"
        )
