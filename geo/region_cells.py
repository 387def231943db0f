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
_MANY_VERTICES: Final = 128
"""One of at most so many is not, where its halves would have as many each:"""
_NO_GAIN: Final = 0.4
"""where a cut crosses so many sides for each corner."""
_ASKEW: Final = 3
"""A block is not cut across so many times the sides that the other cut would cross."""
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

    def sides(column: Any, row: Any, wide: int, high: int) -> tuple[Any, Any, Any, Any]:
        return (
            west + (column - _PAD) * width,
            south + (row - _PAD) * height,
            west + (column + wide + _PAD) * width,
            south + (row + high + _PAD) * height,
        )

    cell = np.zeros((SIDE, SIDE), np.int32)
    pieces: list[BaseGeometry] = []
    # the piece with most corners is divided first, for as long as there may be more
    waiting = [(-int(shapely.get_num_coordinates(geometry)), 0, 0, SIDE, SIDE, geometry)]
    while waiting:
        corners, column, row, wide, high, part = heapq.heappop(waiting)
        parts: list[tuple[int, int, int, int]] = []
        if -corners > _PIECE_VERTICES and len(pieces) + len(waiting) < _PIECES_MAX:
            middle = (west + (column + wide // 2) * width, south + (row + high // 2) * height)
            parts = _divided(part, (column, row, wide, high), middle)
        for own in parts:
            piece = _clipped(part, sides(*own))
            if not piece.is_empty:
                size = int(shapely.get_num_coordinates(piece))
                heapq.heappush(waiting, (-size, *own, piece))
        if parts:
            continue
        pieces.append(part)
        shapely.prepare(part)
        columns, rows = np.mgrid[column : column + wide, row : row + high]
        boxes = shapely.box(*sides(columns, rows, 1, 1))
        touched = np.where(shapely.intersects(part, boxes), len(pieces), OUTSIDE)
        here = (slice(column, column + wide), slice(row, row + high))
        cell[here] = np.where(shapely.covers(part, boxes), INSIDE, touched)
    return RegionCells((west, south, east, north), cell.ravel(), pieces)


def _clipped(part: BaseGeometry, box: tuple[float, float, float, float]) -> BaseGeometry:
    """What of a piece lies in a box. Each polygon of it is valid; two may share some of the box's
    side, which no point asks about and which costs seconds to rule out where there are hundreds."""
    piece = shapely.clip_by_rect(part, *box)
    if shapely.is_valid(shapely.get_parts(piece)).all():
        return piece
    return clipped(part, box)


def _divided(
    part: BaseGeometry, block: tuple[int, int, int, int], middle: tuple[float, float]
) -> list[tuple[int, int, int, int]]:
    """A block of cells (column, row, wide, high) in four; in two where its piece has far more sides
    across one cut than across the other. Empty for one cell, or for few in which nothing is gained.
    """
    column, row, wide, high = block
    beyond = shapely.get_coordinates(part) > middle
    across_x, across_y = (int(n) for n in np.count_nonzero(beyond[1:] != beyond[:-1], axis=0))
    upright = wide > 1 and (high == 1 or across_x <= across_y * _ASKEW)
    level = high > 1 and (wide == 1 or across_y <= across_x * _ASKEW)
    # what is cut across every other side leaves each half as many corners
    fewest = min(across_x if upright else across_y, across_y if level else across_x)
    no_gain = fewest > len(beyond) * _NO_GAIN
    if no_gain and len(beyond) <= _MANY_VERTICES and wide * high <= SIDE:
        return []
    wide, high = wide // (1 + upright), high // (1 + level)
    return [
        (column + i * wide, row + j * high, wide, high)
        for i in range(1 + upright)
        for j in range(1 + level)
        if upright or level
    ]
