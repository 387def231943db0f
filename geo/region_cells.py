"""A region as a grid of cells, so that a million points are asked cheaply whether they lie in it.

Most cells lie wholly inside or outside and need no geometry; the others hold a small piece of the
region. Each point falls in exactly one cell, so nothing counts twice. Degrees, WGS-84.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from geo.cut import clipped

SIDE: Final = 256
"""Cells in a row and in a column of the grid."""
_PIECE_VERTICES: Final = 32
"""A piece of so few corners is not divided further."""
_PIECES_MAX: Final = 2_000
"""Nor is any once there are so many."""
#: Cells overlap by this share of their size, so that rounding moves no point out of its piece.
_PAD: Final = 1e-6

OUTSIDE: Final = 0
INSIDE: Final = -1


@dataclass(frozen=True)
class RegionCells:
    """`cell[column * SIDE + row]` is OUTSIDE, INSIDE, or k for `pieces[k - 1]`.

    The grid spans `bounds` (west, south, east, north); both upper edges belong to it.
    """

    bounds: tuple[float, float, float, float]
    cell: npt.NDArray[np.int32]
    pieces: list[BaseGeometry]

    @property
    def width(self) -> float:
        return (self.bounds[2] - self.bounds[0]) / SIDE

    @property
    def height(self) -> float:
        return (self.bounds[3] - self.bounds[1]) / SIDE


def region_cells(geometry: BaseGeometry) -> RegionCells:
    """The grid of a valid area that is not empty."""
    west, south, east, north = (float(v) for v in geometry.bounds)
    width, height = (east - west) / SIDE, (north - south) / SIDE

    def sides(column: Any, row: Any, span: int) -> tuple[Any, Any, Any, Any]:
        return (
            west + (column - _PAD) * width,
            south + (row - _PAD) * height,
            west + (column + span + _PAD) * width,
            south + (row + span + _PAD) * height,
        )

    cell = np.zeros((SIDE, SIDE), np.int32)
    pieces: list[BaseGeometry] = []
    # the piece with most corners is divided first, for as long as there may be more
    waiting = [(-int(shapely.get_num_coordinates(geometry)), 0, 0, SIDE, geometry)]
    while waiting:
        corners, column, row, span, part = heapq.heappop(waiting)
        few = -corners <= _PIECE_VERTICES
        if span > 1 and not few and len(pieces) + len(waiting) < _PIECES_MAX:
            half = span // 2
            for place in ((column + i, row + j) for i in (0, half) for j in (0, half)):
                quarter = clipped(part, sides(*place, half))
                if not quarter.is_empty:
                    size = int(shapely.get_num_coordinates(quarter))
                    heapq.heappush(waiting, (-size, *place, half, quarter))
            continue
        pieces.append(part)
        shapely.prepare(part)
        columns, rows = np.mgrid[column : column + span, row : row + span]
        own = shapely.box(*sides(columns, rows, 1))
        touched = np.where(shapely.intersects(part, own), len(pieces), OUTSIDE)
        here = (slice(column, column + span), slice(row, row + span))
        cell[here] = np.where(shapely.covers(part, own), INSIDE, touched)
    return RegionCells((west, south, east, north), cell.ravel(), pieces)
