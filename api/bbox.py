"""`?bbox=` of the lists: west,south,east,north in WGS-84 degrees, as OGC API Features has it."""

from __future__ import annotations

import math
from typing import Annotated

from fastapi import Depends, Query

from geo.errors import Fault, InvalidInput

BBox = tuple[float, float, float, float]


def parse_bbox(value: str | None) -> BBox | None:
    """The box, None without one. Raises InvalidInput for anything but four numbers in order."""
    if value is None:
        return None
    try:
        west, south, east, north = (float(part) for part in value[:200].split(","))
    except ValueError:
        raise _invalid("is four numbers: west,south,east,north") from None
    if not all(math.isfinite(number) for number in (west, south, east, north)):
        raise _invalid("has a number that is not finite")
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise _invalid("is west,south,east,north in degrees, each pair in this order")
    return west, south, east, north


def _invalid(reason: str) -> InvalidInput:
    return InvalidInput([Fault(reason, None, "bbox")])


async def _bbox_of(
    bbox: Annotated[
        str | None,
        Query(description="west,south,east,north, WGS-84", examples=["106.4,29.4,106.7,29.7"]),
    ] = None,
) -> BBox | None:
    return parse_bbox(bbox)


BBoxDep = Annotated[BBox | None, Depends(_bbox_of)]
