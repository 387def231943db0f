"""A point belongs to exactly one district, or to none.

The rule: among the districts whose closed area covers the point, the smallest adcode. So a point
on a shared border always falls to the same side, a point on the city's outer border is inside, and
a point outside everything stays what it is: outside. The SQL form of the same rule is
`min(adcode) WHERE ST_Covers(geom, point)`.

Speed comes from a grid over the districts' extent. A cell that no border crosses has one answer,
known in advance; only points in cells that a border crosses are put to the exact predicate.
"""

from __future__ import annotations

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import ArrayLike, NDArray

from geo.errors import CrsError, Fault, InvalidInput
from geo.validate import flaw

CELLS_PER_SIDE = 1024
"""Cells along the longer side of the extent; about 500 m in Chongqing."""

OUTSIDE = -1

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


def require_wgs84(frame: gpd.GeoDataFrame, what: str) -> None:
    """Raise `CrsError` unless the frame says it is in EPSG:4326 (or its twin OGC:CRS84)."""
    crs = frame.crs
    if crs is None:
        raise CrsError(f"{what} carry no CRS; declare it, it is never guessed")
    if crs.to_epsg() != 4326 and crs.to_authority() != ("OGC", "CRS84"):
        raise CrsError(f"{what} are in {crs.to_string()}; reproject them to EPSG:4326 first")


@dataclass(frozen=True, slots=True)
class _Grid:
    """Uniform cells over the extent, in degrees. `cell` is monotone in each coordinate."""

    west: float
    south: float
    per_degree_x: float
    per_degree_y: float
    columns: int
    rows: int

    @classmethod
    def over(cls, bounds: Floats, cells_per_side: int) -> _Grid:
        west, south, east, north = (float(v) for v in bounds)
        side = max(east - west, north - south) / cells_per_side
        columns = max(1, int(np.ceil((east - west) / side)))
        rows = max(1, int(np.ceil((north - south) / side)))
        return cls(west, south, columns / (east - west), rows / (north - south), columns, rows)

    def x(self, lon: Floats) -> Floats:
        return np.asarray((lon - self.west) * self.per_degree_x)

    def y(self, lat: Floats) -> Floats:
        return np.asarray((lat - self.south) * self.per_degree_y)

    def column(self, x: Floats) -> NDArray[np.int64]:
        return np.clip(np.floor(x).astype(np.int64), 0, self.columns - 1)

    def row(self, y: Floats) -> NDArray[np.int64]:
        return np.clip(np.floor(y).astype(np.int64), 0, self.rows - 1)

    def centres(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> tuple[Floats, Floats]:
        lon = self.west + (columns + 0.5) / self.per_degree_x
        lat = self.south + (rows + 0.5) / self.per_degree_y
        return np.asarray(lon), np.asarray(lat)


class DistrictLocator:
    """Which district covers a point, for many points at once.

    `districts`: EPSG:4326, columns `adcode` (unique, not null) and `geometry` (valid, not empty,
    polygonal); they may overlap or leave gaps. Raises `CrsError`, or `InvalidInput` listing every
    faulty row.
    """

    def __init__(
        self, districts: gpd.GeoDataFrame, *, cells_per_side: int = CELLS_PER_SIDE
    ) -> None:
        require_wgs84(districts, "districts")
        refuse_faulty_districts(districts)
        adcodes = districts["adcode"].astype(str).to_numpy(dtype=object)
        order = np.argsort(adcodes, kind="stable")
        self.adcodes: tuple[str, ...] = tuple(adcodes[order])
        # copies, so that preparing them does not touch the caller's geometries
        self._polygons = shapely.force_2d(districts.geometry.to_numpy()[order])
        shapely.prepare(self._polygons)
        bounds = shapely.total_bounds(self._polygons)
        self._bounds: Floats = bounds
        self._grid = _Grid.over(bounds, cells_per_side)
        self._build()

    def assign(self, lon: ArrayLike, lat: ArrayLike) -> Ints:
        """Index into `adcodes` for each point, −1 where no district covers it.

        `lon`, `lat`: degrees, EPSG:4326, one length. Not-a-number is outside.
        """
        lon = np.atleast_1d(np.asarray(lon, dtype=np.float64))
        lat = np.atleast_1d(np.asarray(lat, dtype=np.float64))
        if lon.shape != lat.shape or lon.ndim != 1:
            raise InvalidInput("lon and lat must be one-dimensional and of one length")
        west, south, east, north = self._bounds
        within = (lon >= west) & (lon <= east) & (lat >= south) & (lat <= north)
        if not within.all():
            answer = np.full(len(lon), OUTSIDE, dtype=np.int32)
            answer[within] = self._assign_within(lon[within], lat[within])
            return answer
        return self._assign_within(lon, lat)

    def _assign_within(self, lon: Floats, lat: Floats) -> Ints:
        grid = self._grid
        # inside the extent both are ≥ 0, where truncation is the floor, and only the far edge
        # can reach the count of cells
        column = grid.x(lon).astype(np.int32)
        row = grid.y(lat).astype(np.int32)
        np.minimum(column, grid.columns - 1, out=column)
        np.minimum(row, grid.rows - 1, out=row)
        row *= np.int32(grid.columns)
        row += column
        answer = self._answer_of_cell[row]
        undecided = np.flatnonzero(answer < OUTSIDE)
        if len(undecided):
            # answers below −1 number the cells that a border crosses
            crossed = -2 - answer[undecided].astype(np.int64)
            answer[undecided] = self._decide(lon[undecided], lat[undecided], crossed)
        return answer

    def _decide(self, lon: Floats, lat: Floats, crossed: NDArray[np.int64]) -> Ints:
        """Exact answer for points in crossed cells: candidates in order of adcode, first wins."""
        answer = self._otherwise[crossed].copy()
        open_points = np.arange(len(crossed))
        for nth in range(self._candidates.shape[1]):
            candidate = self._candidates[crossed[open_points], nth]
            known = candidate >= 0
            open_points, candidate = open_points[known], candidate[known]
            if not len(open_points):
                break
            settled = np.zeros(len(open_points), dtype=bool)
            order = np.argsort(candidate, kind="stable")
            districts, starts = np.unique(candidate[order], return_index=True)
            for district, members in zip(districts, np.split(order, starts[1:]), strict=True):
                points = open_points[members]
                settled[members] = shapely.intersects_xy(
                    self._polygons[district], lon[points], lat[points]
                )
            answer[open_points[settled]] = candidate[settled]
            open_points = open_points[~settled]
        return answer

    def _build(self) -> None:
        """Classify every cell against every district, smallest adcode first."""
        grid = self._grid
        answer = np.full((grid.rows, grid.columns), OUTSIDE, dtype=np.int32)
        decided = np.zeros(answer.shape, dtype=bool)
        crossings: list[tuple[NDArray[np.int64], int]] = []
        for district, polygon in enumerate(self._polygons):
            row0, column0, crossed, inside = _classify(grid, polygon)
            window = np.s_[row0 : row0 + crossed.shape[0], column0 : column0 + crossed.shape[1]]
            free = ~decided[window]
            # a cell wholly inside needs no further candidate, whatever overlaps it
            answer[window][inside & free] = district
            rows, columns = np.nonzero(crossed & free)
            crossings.append(((rows + row0) * grid.columns + columns + column0, district))
            decided[window] |= inside
        flat = answer.reshape(-1)
        cells = np.concatenate([cell for cell, _ in crossings])
        districts = np.concatenate(
            [np.full(len(cell), district, dtype=np.int32) for cell, district in crossings]
        )
        order = np.lexsort((districts, cells))
        cells, districts = cells[order], districts[order]
        numbered, first, counts = np.unique(cells, return_index=True, return_counts=True)
        nth = np.arange(len(cells)) - np.repeat(first, counts)
        number = np.repeat(np.arange(len(numbered)), counts)
        self._candidates = np.full((len(numbered), int(counts.max())), OUTSIDE, dtype=np.int32)
        self._candidates[number, nth] = districts
        self._otherwise: Ints = flat[numbered].copy()
        flat[numbered] = -2 - np.arange(len(numbered), dtype=np.int32)
        self._answer_of_cell: Ints = flat


def assign(points: gpd.GeoDataFrame, districts: gpd.GeoDataFrame) -> pd.Series:
    """The adcode of each point (EPSG:4326), None outside; indexed as `points`.

    Raises `CrsError` for a missing or other CRS and `InvalidInput` naming every row (1-based)
    whose geometry is null, empty or not a point.
    """
    require_wgs84(points, "points")
    lon, lat = point_positions(points.geometry.to_numpy())
    locator = DistrictLocator(districts)
    names = np.array([*locator.adcodes, None], dtype=object)
    found = locator.assign(lon, lat)
    return pd.Series(names[found], index=points.index, name="adcode", dtype=object)


def point_positions(geometry: NDArray[np.object_]) -> tuple[Floats, Floats]:
    """x and y of each Point, in its own CRS.

    Raises `InvalidInput` naming each row (1-based) that is null, empty or not one finite Point.
    """
    if not shapely.is_empty(geometry).any():
        # not-a-number for whatever is not a Point; an empty Point would be an error
        x, y = shapely.get_x(geometry), shapely.get_y(geometry)
        if np.isfinite(x).all() and np.isfinite(y).all():
            return x, y
    faults = []
    for row, shape in enumerate(geometry):
        if shape is None:
            reason = "is null; give a position"
        elif shape.geom_type != "Point":
            reason = f"is a {shape.geom_type}; give one Point"
        elif shape.is_empty:
            reason = "is an empty Point; give a position"
        elif not np.isfinite([shape.x, shape.y]).all():
            reason = "has a coordinate that is not finite"
        else:
            continue
        faults.append(Fault(reason, row=row + 1, field="geometry"))
    raise InvalidInput(faults)


def refuse_faulty_districts(districts: gpd.GeoDataFrame) -> None:
    """Raise InvalidInput with every faulty row: see `DistrictLocator`."""
    if "adcode" not in districts.columns:
        raise InvalidInput([Fault("is missing", field="adcode")])
    if not len(districts):
        raise InvalidInput("no districts given")
    faults = []
    repeated = districts["adcode"].astype(str).duplicated().to_numpy()
    for row, (adcode, shape) in enumerate(
        zip(districts["adcode"], districts.geometry, strict=True), start=1
    ):
        if pd.isna(adcode):
            faults.append(Fault("is null", row=row, field="adcode"))
        elif repeated[row - 1]:
            faults.append(Fault(f"{adcode} is listed twice", row=row, field="adcode"))
        if shape is None or shape.is_empty:
            faults.append(Fault("is null or empty", row=row, field="geometry"))
        elif shape.geom_type not in ("Polygon", "MultiPolygon"):
            faults.append(Fault(f"is a {shape.geom_type}, not an area", row=row, field="geometry"))
        elif not shape.is_valid:
            faults.append(Fault(flaw(shape), row=row, field="geometry"))
    if faults:
        raise InvalidInput(faults)


def _classify(
    grid: _Grid, polygon: shapely.Geometry
) -> tuple[int, int, NDArray[np.bool_], NDArray[np.bool_]]:
    """First row, first column, and masks (rows × columns) of the cells that the polygon's border
    touches and of those wholly inside it, over the window of cells that the polygon reaches.

    A set of neighbouring cells without any border in it lies on one side, so one exact test of one
    point settles the whole set.
    """
    from scipy import ndimage  # takes a quarter of a second: for who looks a point up

    x, y, pieces_end = _border(grid, polygon)
    column, row = grid.column(x), grid.row(y)
    row0, column0 = int(row.min()), int(column.min())
    crossed = np.zeros((int(row.max()) - row0 + 1, int(column.max()) - column0 + 1), dtype=bool)
    # pieces are at most half a cell long, so the corners of a piece's box name all its cells;
    # the margin absorbs the rounding of the interpolated ends
    start, end = np.flatnonzero(~pieces_end), np.flatnonzero(~pieces_end) + 1
    margin = 1e-6
    low_column = grid.column(np.minimum(x[start], x[end]) - margin) - column0
    high_column = grid.column(np.maximum(x[start], x[end]) + margin) - column0
    low_row = grid.row(np.minimum(y[start], y[end]) - margin) - row0
    high_row = grid.row(np.maximum(y[start], y[end]) + margin) - row0
    rows, columns = crossed.shape
    for r in (low_row, high_row):
        for c in (low_column, high_column):
            crossed[np.clip(r, 0, rows - 1), np.clip(c, 0, columns - 1)] = True
    labels, count = ndimage.label(~crossed)
    inside = np.zeros(count + 1, dtype=bool)
    if count:
        sets, position = np.unique(labels, return_index=True)
        position = position[sets > 0]
        lon, lat = grid.centres(position // columns + row0, position % columns + column0)
        inside[1:] = shapely.intersects_xy(polygon, lon, lat)
    return row0, column0, crossed, inside[labels]


def _border(grid: _Grid, polygon: shapely.Geometry) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """All border lines in cell units, cut into pieces of at most half a cell; the third array
    marks the last position of each ring, after which no piece starts."""
    rings = shapely.get_rings(shapely.get_parts(polygon))
    position, ring = shapely.get_coordinates(rings, return_index=True)
    x, y = grid.x(position[:, 0]), grid.y(position[:, 1])
    last = np.append(ring[1:] != ring[:-1], True)
    dx, dy = np.append(np.diff(x), 0.0), np.append(np.diff(y), 0.0)
    longest = np.where(last, 0.0, np.maximum(np.abs(dx), np.abs(dy)))
    pieces = np.floor(2 * longest).astype(np.int64) + 1
    origin = np.repeat(np.arange(len(x)), pieces)
    step = np.arange(len(origin)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    along = step / pieces[origin]
    return x[origin] + along * dx[origin], y[origin] + along * dy[origin], last[origin]
