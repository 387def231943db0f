"""Contracts of frames and geometries: everything wrong is collected, then raised once.

`*_faults` functions return the faults found; `check_*` functions raise them together: `CrsError`
when the coordinate system is at fault, `TooLarge` when nothing but a limit was exceeded,
`InvalidInput` otherwise. Coordinates are WGS-84 degrees. Rows are 1-based without the header unless
the caller says which row numbers its rows have.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from geo.crs import WGS84, name_of_crs
from geo.errors import CrsError, Fault, InvalidInput, TooLarge

POINTS: Final = frozenset({"Point"})
LINES: Final = frozenset({"LineString", "MultiLineString"})
AREAS: Final = frozenset({"Polygon", "MultiPolygon"})
ANY_TYPE: Final = POINTS | LINES | AREAS | {"MultiPoint"}

MAX_VERTICES: Final = 100_000
"""Vertices of one geometry; the most detailed district has about 5 000."""
BORDER_KM_MAX: Final = 20_000
"""Length of all sides of one geometry; those of a district together are about 1 000 km."""
OVERLAPS_MAX: Final = 200_000
"""Pairs of sides of one area whose boxes overlap: what any library's time goes with."""
LINE_OVERLAPS_MAX: Final = 25_000
"""The same of a line, whose sides may cross, and each crossing becomes a corner."""
#: A side counts for at most so many km: a box around half the world is not intricate.
_SIDE_KM_MAX: Final = 1_000.0
_KM_PER_DEGREE: Final = 111.2
#: Sides compared at a time.
_ROWS: Final = 256


def point_faults(
    lon: npt.ArrayLike, lat: npt.ArrayLike, rows: Sequence[int] | None = None
) -> list[Fault]:
    """Faults of positions in WGS-84 degrees: missing, not finite, or out of range; one per row."""
    x, y = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError("lon and lat are arrays of one dimension and equal length")
    finite = np.isfinite(x) & np.isfinite(y)
    in_range = (np.abs(x) <= 180) & (np.abs(y) <= 90)
    faults = []
    for position in np.flatnonzero(~(finite & in_range)).tolist():
        row = position + 1 if rows is None else rows[position]
        if not finite[position]:
            faults.append(Fault("the coordinates are missing or not finite", row, "position"))
        else:
            reason = f"({x[position]:.10g}, {y[position]:.10g}) is not a longitude and latitude"
            faults.append(Fault(reason, row, "position"))
    return faults


def geometry_faults(
    geometry: BaseGeometry | None,
    *,
    types: Collection[str] = ANY_TYPE,
    max_vertices: int = MAX_VERTICES,
    row: int | None = None,
    field: str = "geometry",
) -> list[Fault]:
    """Faults of one geometry in WGS-84 degrees: absent, of another type, too large, out of range,
    not finite, or invalid (self-crossing and the like; with the place)."""
    column = np.empty(1, dtype=object)
    column[0] = geometry
    return _column_faults(column, types, max_vertices, [row], field)


def check_geometry(
    geometry: BaseGeometry | None,
    *,
    types: Collection[str] = ANY_TYPE,
    max_vertices: int = MAX_VERTICES,
    field: str = "geometry",
) -> None:
    """Raise the faults of one geometry (TooLarge when only its size is at fault)."""
    faults = geometry_faults(geometry, types=types, max_vertices=max_vertices, field=field)
    raise_faults(faults)


def frame_faults(
    frame: Any,
    *,
    types: Collection[str] = ANY_TYPE,
    required: Iterable[str] = (),
    unique: Iterable[str] = (),
    max_vertices: int = MAX_VERTICES,
    rows: Sequence[int] | None = None,
) -> list[Fault]:
    """Faults of a GeoDataFrame against its contract.

    CRS present and WGS-84; the `required` columns there, without nulls or blank text; the `unique`
    ones without repeats; every geometry present, non-empty, of one of `types`, in range, valid and
    of at most `max_vertices` vertices. With a wrong CRS the coordinates are not looked at.
    """
    numbers = list(range(1, len(frame) + 1)) if rows is None else list(rows)
    crs = _crs_faults(frame)
    faults = list(crs)
    required, unique = list(required), list(unique)
    for name in dict.fromkeys([*required, *unique]):
        if name not in frame.columns:
            faults.append(Fault("the column is missing", None, name))
    for name in required:
        if name in frame.columns:
            faults += [Fault("is empty", numbers[i], name) for i in _blank(frame[name])]
    for name in unique:
        if name in frame.columns:
            faults += _repeat_faults(frame[name], numbers, name)
    if not crs:
        geometries = np.asarray(frame.geometry.array, dtype=object)
        faults += _column_faults(geometries, types, max_vertices, numbers, frame.geometry.name)
    return faults


def check_frame(
    frame: Any,
    *,
    types: Collection[str] = ANY_TYPE,
    required: Iterable[str] = (),
    unique: Iterable[str] = (),
    max_vertices: int = MAX_VERTICES,
    rows: Sequence[int] | None = None,
) -> None:
    """Raise every fault `frame_faults` finds, at once."""
    raise_faults(
        frame_faults(
            frame,
            types=types,
            required=required,
            unique=unique,
            max_vertices=max_vertices,
            rows=rows,
        )
    )


def raise_faults(faults: Sequence[Fault]) -> None:
    """Raise the faults, if any, as the narrowest error that is true of them."""
    if not faults:
        return
    if any(fault.field == "crs" for fault in faults):
        raise CrsError(faults)
    if all(isinstance(fault, _LimitFault) for fault in faults):
        raise TooLarge(faults)
    raise InvalidInput(faults)


class _LimitFault(Fault):
    """A fault that is only one of size."""

    __slots__ = ()


def _crs_faults(frame: Any) -> list[Fault]:
    if getattr(frame, "crs", None) is None:
        return [Fault("the frame has no coordinate system; say which it is", None, "crs")]
    try:
        name = name_of_crs(frame.crs)
    except CrsError as error:
        return list(error.faults)
    if name != WGS84:
        return [Fault(f"the frame is in {name}, not in WGS84; reproject it first", None, "crs")]
    return []


def _column_faults(
    geometries: npt.NDArray[np.object_],
    types: Collection[str],
    max_vertices: int,
    rows: Sequence[int | None],
    field: str,
) -> list[Fault]:
    """Faults of a column of geometries, at most one per geometry, the most basic first."""
    missing = shapely.is_missing(geometries)
    empty = ~missing & shapely.is_empty(geometries)
    vertices = shapely.get_num_coordinates(geometries)
    large = vertices > max_vertices
    coordinates, owner = shapely.get_coordinates(geometries, return_index=True)
    outside = np.zeros(len(geometries), dtype=bool)
    with np.errstate(invalid="ignore"):
        in_range = (np.abs(coordinates[:, 0]) <= 180) & (np.abs(coordinates[:, 1]) <= 90)
    outside[owner[~in_range]] = True  # nan and infinity compare as out of range
    wanted = {name.upper() for name in types}
    kinds = np.array(["" if g is None else g.geom_type for g in geometries], dtype=object)
    other = np.array([kind.upper() not in wanted for kind in kinds], dtype=bool)
    # Validity costs more than the rest together, and far more on the oversized.
    sound = ~(missing | empty | large | outside | other)
    tangled = {int(i): why for i in np.flatnonzero(sound) if (why := _intricacy(geometries[i]))}
    sound[list(tangled)] = False
    invalid = np.zeros(len(geometries), dtype=bool)
    invalid[sound] = ~shapely.is_valid(geometries[sound])
    faults: list[Fault] = []
    for i in np.flatnonzero(~sound | invalid).tolist():
        row = rows[i]
        if missing[i]:
            faults.append(Fault("there is no geometry", row, field))
        elif other[i]:
            expected = ", ".join(sorted(types))
            faults.append(Fault(f"is a {kinds[i]}; expected is {expected}", row, field))
        elif empty[i]:
            faults.append(Fault("the geometry is empty", row, field))
        elif large[i]:
            reason = f"has {int(vertices[i])} vertices, more than the limit of {max_vertices}"
            faults.append(_LimitFault(reason, row, field))
        elif i in tangled:
            faults.append(_LimitFault(tangled[i], row, field))
        elif outside[i]:
            faults.append(Fault(_outside_reason(geometries[i]), row, field))
        else:
            faults.append(Fault(flaw(geometries[i]), row, field))
    return faults


def _intricacy(geometry: BaseGeometry) -> str | None:
    """Why a geometry is too intricate for GEOS and PostGIS to be asked about; None when it is not.

    Within the limit on vertices a star of thin spikes holds both for minutes, and nothing stops
    them. Looked at without either.
    """
    parts = shapely.get_parts(geometry)
    is_area = shapely.get_dimensions(geometry) == 2
    lines = shapely.get_rings(parts) if is_area else parts
    place, line = shapely.get_coordinates(lines, return_index=True)
    joined = line[1:] == line[:-1]
    start, end = place[:-1][joined], place[1:][joined]
    middle = np.radians((start[:, 1] + end[:, 1]) / 2)
    step = (end - start) * np.column_stack([np.cos(middle), np.ones(len(middle))])
    sides_km = np.minimum(np.hypot(*step.T) * _KM_PER_DEGREE, _SIDE_KM_MAX)
    if sides_km.sum() > BORDER_KM_MAX:
        return (
            f"its sides are {sides_km.sum():.0f} km long together, more than the limit of"
            f" {BORDER_KM_MAX} km; simplify it"
        )
    at_most = OVERLAPS_MAX if is_area else LINE_OVERLAPS_MAX
    if _overlaps(np.minimum(start, end), np.maximum(start, end), at_most) > at_most:
        return (
            f"more than {at_most} pairs of its sides lie so close that their boxes overlap;"
            " simplify it"
        )
    return None


def _overlaps(low: npt.NDArray[np.float64], high: npt.NDArray[np.float64], at_most: int) -> int:
    """How many pairs of boxes (corners of shape (n, 2)) overlap; stops beyond `at_most`."""
    if len(low) * (len(low) - 1) // 2 <= at_most:
        return 0  # not even if all of them did
    order = np.argsort(low[:, 0])
    low, high = low[order], high[order]
    last = np.searchsorted(low[:, 0], high[:, 0], side="right")
    found = 0
    for first in range(0, len(low), _ROWS):
        rows = np.arange(first, min(first + _ROWS, len(low)))
        others = np.arange(first, int(last[rows].max()))
        pairs = (others > rows[:, None]) & (others < last[rows][:, None])
        pairs &= low[others, 1] <= high[rows, 1][:, None]
        pairs &= high[others, 1] >= low[rows, 1][:, None]
        found += int(np.count_nonzero(pairs))
        if found > at_most:
            break
    return found


def flaw(geometry: BaseGeometry) -> str:
    """Why a geometry is invalid, where, and what would be right; its numbers are its own."""
    said, _, place = shapely.is_valid_reason(geometry).partition("[")
    at = ", ".join(f"{float(number):.9g}" for number in place.rstrip("]").split())
    if said == "Ring Self-intersection":
        return f"a ring touches itself at [{at}]; make two rings of it, each touched only once"
    if "elf-intersection" in said:
        return (
            f"its border crosses itself at [{at}]; give the corners in order around the area,"
            " so that no side crosses another"
        )
    if said == "Hole lies outside shell":
        return f"a hole lies outside its ring at [{at}]; the outer ring comes first, holes inside"
    if said in ("Nested shells", "Holes are nested"):
        return f"one area lies inside another at [{at}]; give the inner one as a hole, or leave it"
    if said == "Interior is disconnected":
        return f"its holes cut the area apart at [{at}]; give each part as a polygon of its own"
    if said == "Too few points in geometry component":
        return f"a ring has too few different corners at [{at}]; an area needs at least three"
    return f"is not a valid geometry ({said} at [{at}]); repair it and send it again"


def _outside_reason(geometry: BaseGeometry) -> str:
    coordinates = shapely.get_coordinates(geometry)
    if not np.isfinite(coordinates).all():
        return "a coordinate is not finite"
    bad = coordinates[(np.abs(coordinates[:, 0]) > 180) | (np.abs(coordinates[:, 1]) > 90)][0]
    return f"({bad[0]:.10g}, {bad[1]:.10g}) is not a longitude and latitude; is the CRS right?"


def _blank(column: Any) -> list[int]:
    null = np.asarray(column.isna(), dtype=bool)
    text = np.array([isinstance(v, str) and not v.strip() for v in column], dtype=bool)
    return np.flatnonzero(null | text).tolist()


def _repeat_faults(column: Any, rows: Sequence[int], name: str) -> list[Fault]:
    """One fault per repeat, naming the row of the first; nulls are not repeats of each other."""
    first: dict[Any, int] = {}
    faults = []
    for row, value, null in zip(rows, column, column.isna(), strict=True):
        if null:
            continue
        if value in first:
            faults.append(Fault(f"{value!r} is already in row {first[value]}", row, name))
        else:
            first[value] = row
    return faults
