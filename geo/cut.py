"""Areas cut by districts, quickly where an area has many sides. Degrees, WGS-84.

An overlay of two whole shapes looks at each pair of sides whose boxes overlap, also of those that
never come near the other shape; what lies outside the other's box is taken off before.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

Shapes = npt.NDArray[np.object_]


def clipped(area: BaseGeometry, box: tuple[float, float, float, float]) -> BaseGeometry:
    """What of a valid geometry lies in a box (west, south, east, north), valid again."""
    west, south, east, north = shapely.bounds(area)
    if west >= box[0] and south >= box[1] and east <= box[2] and north <= box[3]:
        return area
    part = shapely.clip_by_rect(area, *box)
    # a ring that touches the box may come out as one that touches itself
    return part if shapely.is_valid(part) else shapely.intersection(area, shapely.box(*box))


def cut(shapes: Shapes, area: BaseGeometry) -> Shapes:
    """What of each shape lies in a valid area: the plain intersections, up to rounding."""
    pieces = np.empty(len(shapes), dtype=object)
    for row, shape in enumerate(shapes):
        pieces[row] = cut_one(shape, area)
    return pieces


def cut_one(shape: BaseGeometry, area: BaseGeometry) -> BaseGeometry:
    """What of one shape lies in a valid area."""
    if shapely.get_dimensions(area) < 2:  # a line along the edge of a box is on no side of it
        return shapely.intersection(shape, area)
    west, south, east, north = (float(v) for v in shapely.bounds(shape))
    # a little wider, so that no side of the box lies on the shape's own
    pad = max(east - west, north - south) * 1e-3
    return shapely.intersection(
        shape, clipped(area, (west - pad, south - pad, east + pad, north + pad))
    )
