"""Divisions as a coverage: every place of the city in exactly one district.

A coverage is valid when neighbours share their border vertex by vertex, without overlap or gap.
Only then is "which district" a question with one answer. On a shared border the answer is a rule:
the place belongs to the district with the smallest adcode among those that touch it (`geo.assign`
applies it), so it is the same one every time and in SQL too.

Holes are lawful: places inside the city's outline that belong to a neighbouring province. A gap is
told from them by its width or by an area no enclave has.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import shapely
from shapely import Polygon
from shapely.geometry.base import BaseGeometry

from geo.crs import METRIC_CRS, area_m2, geometry_from_wgs84, geometry_to_wgs84
from geo.errors import Fault, InvalidInput
from geo.validate import AREAS, check_frame, frame_faults, raise_faults

GAP_WIDTH_M: Final = 1.0
"""Borders closer than this without touching are a gap, not two borders."""
GAP_AREA_M2: Final = 10_000.0
"""A hole smaller than this is a gap; the smallest enclave inside Chongqing's outline is larger."""

Geometries = npt.NDArray[np.object_]


def coverage_faults(frame: Any, code: str = "adcode") -> list[Fault]:
    """What keeps the polygons of `frame` (EPSG:4326, column `code`) from being a coverage.

    Overlaps, gaps and borders whose vertices differ, each with the codes concerned, a place (lon,
    lat in degrees) and its area in m²; `row` is that of the second unit of a pair. Faults of single
    rows (invalid, empty, no polygon, repeated code) come alone: coverage is then no question yet.
    """
    faults = frame_faults(frame, types=AREAS, required=[code], unique=[code])
    if faults:
        return faults
    shapes: Geometries = np.asarray(frame.geometry.array, dtype=object)
    codes = [str(value) for value in frame[code]]
    metric = geometry_from_wgs84(shapes, METRIC_CRS)
    edges = shapely.coverage_invalid_edges(metric, gap_width=GAP_WIDTH_M)
    # Only units with an invalid edge can overlap, so a valid coverage costs no intersection.
    suspects = np.flatnonzero(~shapely.is_empty(edges)).tolist()
    faults, explained = _overlap_faults(shapes, codes, suspects)
    gaps, beside = _gap_faults(shapes, codes)
    explained |= beside
    faults += gaps
    for i in suspects:
        if i not in explained:
            place = geometry_to_wgs84(shapely.point_on_surface(edges[i]), METRIC_CRS)
            reason = (
                f"the border of {codes[i]} does not meet its neighbour's vertex by vertex "
                f"{_at(place)}; give both the same vertices"
            )
            faults.append(Fault(reason, i + 1, "geometry"))
    if not faults and not shapely.coverage_is_valid(shapes):
        faults.append(Fault("the units are not a valid coverage", None, "geometry"))
    return faults


def check_coverage(frame: Any, code: str = "adcode") -> None:
    """Raise InvalidInput (CrsError for the system) with all of `coverage_faults`."""
    raise_faults(coverage_faults(frame, code))


def overlap_faults(frame: Any, code: str) -> list[Fault]:
    """Only the overlaps, for functional zones: they leave gaps, but may not share ground."""
    shapes: Geometries = np.asarray(frame.geometry.array, dtype=object)
    faults, _ = _overlap_faults(shapes, [str(v) for v in frame[code]], list(range(len(shapes))))
    return faults


def simplify_for_display(frame: Any, tolerance_m: float) -> Any:
    """A copy of the districts (EPSG:4326) with fewer vertices, shared borders still shared.

    For maps only, never for placing points or measuring. Visvalingam-Whyatt on the coverage:
    corners that span a triangle of less than about `tolerance_m`² are dropped. Raises InvalidInput
    if the frame is no coverage to begin with, or for a tolerance that is negative or not finite.
    """
    if not (np.isfinite(tolerance_m) and tolerance_m >= 0):
        raise InvalidInput([Fault("must be zero or more metres", None, "tolerance_m")])
    check_frame(frame, types=AREAS)
    shapes: Geometries = np.asarray(frame.geometry.array, dtype=object)
    if not shapely.coverage_is_valid(shapes):
        raise InvalidInput("the districts are not a valid coverage; check_coverage says where")
    metric = geometry_from_wgs84(shapes, METRIC_CRS)
    simple = geometry_to_wgs84(shapely.coverage_simplify(metric, tolerance_m), METRIC_CRS)
    series = frame.geometry.copy()
    series[:] = simple
    return frame.set_geometry(series)


def _overlap_faults(
    shapes: Geometries, codes: list[str], suspects: list[int]
) -> tuple[list[Fault], set[int]]:
    faults: list[Fault] = []
    involved: set[int] = set()
    # Against all units: of one that lies inside another, only the inner one has an invalid edge.
    found, other = shapely.STRtree(shapes).query(shapes[suspects], predicate="intersects")
    pairs = {
        tuple(sorted((suspects[i], j))) for i, j in zip(found.tolist(), other.tolist(), strict=True)
    }
    for a, b in sorted(pair for pair in pairs if pair[0] != pair[1]):
        shared = shapely.intersection(shapes[a], shapes[b])
        shared_m2 = area_m2(shared)
        if shared_m2 > 0:
            involved |= {a, b}
            place = shapely.point_on_surface(_largest(shared))
            reason = f"{codes[b]} overlaps {codes[a]} by {_extent(shared_m2)} {_at(place)}"
            faults.append(Fault(reason, b + 1, "geometry"))
    return faults, involved


def _gap_faults(shapes: Geometries, codes: list[str]) -> tuple[list[Fault], set[int]]:
    faults: list[Fault] = []
    involved: set[int] = set()
    for part in shapely.get_parts(shapely.union_all(shapes)):
        for ring in part.interiors:
            hole = Polygon(ring)
            hole_m2 = area_m2(hole)
            inner = shapely.buffer(geometry_from_wgs84(hole, METRIC_CRS), -GAP_WIDTH_M / 2)
            if hole_m2 >= GAP_AREA_M2 and not shapely.is_empty(inner):
                continue
            around = np.flatnonzero(shapely.intersects(shapes, hole)).tolist()
            involved |= set(around)
            between = ", ".join(codes[i] for i in around)
            place = shapely.point_on_surface(hole)
            reason = f"a gap of {_extent(hole_m2)} between {between} {_at(place)}"
            faults.append(Fault(reason, around[-1] + 1 if around else None, "geometry"))
    return faults, involved


def _largest(geometry: BaseGeometry) -> BaseGeometry:
    parts = shapely.get_parts(geometry)
    return parts[int(np.argmax(shapely.area(parts)))] if len(parts) else geometry


def _extent(square_metres: float) -> str:
    if square_metres >= 100_000:
        return f"{square_metres / 1e6:.2f} km²"
    return f"{square_metres:.3g} m²" if square_metres < 100 else f"{square_metres:.0f} m²"


def _at(place: BaseGeometry) -> str:
    lon, lat = shapely.get_coordinates(place)[0]
    return f"at ({lon:.6f}, {lat:.6f})"
