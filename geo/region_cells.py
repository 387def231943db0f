"""A region as a grid of cells, so that a million points are asked cheaply whether they lie in it.

Most cells lie wholly inside or outside and need no geometry; the others hold a small piece of the
region. Each point falls in exactly one cell, so nothing counts twice. Degrees, WGS-84.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

SIDE: Final = 256
"""Cells in a row and in a column of the grid."""
_PIECE_VERTICES: Final = 32
"""A piece of so few corners is not divided further."""
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

    def boxes(column: Any, row: Any, span: int) -> Any:
        return shapely.box(
            west + (column - _PAD) * width,
            south + (row - _PAD) * height,
            west + (column + span + _PAD) * width,
            south + (row + span + _PAD) * height,
        )

    cell = np.zeros((SIDE, SIDE), np.int32)
    pieces: list[BaseGeometry] = []
    waiting = [(geometry, 0, 0, SIDE)]
    while waiting:
        part, column, row, span = waiting.pop()
        if span < SIDE:
            part = shapely.intersection(part, boxes(column, row, span))
        if part.is_empty:
            continue
        if span > 1 and shapely.get_num_coordinates(part) > _PIECE_VERTICES:
            half = span // 2
            waiting += [(part, column + i, row + j, half) for i in (0, half) for j in (0, half)]
            continue
        pieces.append(part)
        shapely.prepare(part)
        columns, rows = np.mgrid[column : column + span, row : row + span]
        own = boxes(columns, rows, 1)
        touched = np.where(shapely.intersects(part, own), len(pieces), OUTSIDE)
        here = (slice(column, column + span), slice(row, row + span))
        cell[here] = np.where(shapely.covers(part, own), INSIDE, touched)
    return RegionCells((west, south, east, north), cell.ravel(), pieces)
