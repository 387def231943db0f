"""GPX: each waypoint is a record. Tracks and routes are ways, not incidents, and stay unread."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

from data.readers.records import FileRecord, FileRecords, headers_of
from data.readers.xml_walk import walk_xml
from geo.crs import WGS84
from geo.errors import Fault, InvalidInput, TooLarge

_CELLS: Final = {"time", "name", "desc", "cmt", "type"}
#: What a waypoint may have beside those, and no incident does.
_UNREAD: Final = {"ele", "sym", "link", "extensions", "sat", "hdop", "vdop", "pdop", "fix"}


def read_gpx(path: Path, rows_max: int) -> FileRecords:
    """The waypoints of a GPX document; WGS84 by the format's definition. `unread` counts the
    tracks and routes. Raises InvalidInput where there is no waypoint."""
    records: list[FileRecord] = []
    ways = {"trk": 0, "rte": 0}
    beside: dict[str, None] = {}

    def start(path: list[str], attributes: dict[str, str]) -> None:
        if len(path) != 2:
            return
        if path[1] == "wpt":
            if len(records) == rows_max:
                raise TooLarge(f"the file has more than {rows_max} rows")
            record = FileRecord(len(records) + 1, {})
            record.place = _place(record, attributes)
            records.append(record)
        elif path[1] in ways:
            ways[path[1]] += 1

    def end(path: list[str], text: str) -> None:
        if len(path) == 3 and path[1] == "wpt":
            if path[2] in _CELLS and text.strip():
                records[-1].cells.setdefault(path[2], text.strip())
            elif path[2] in _UNREAD:
                beside[path[2]] = None

    walk_xml(path.read_bytes(), start, end)
    if not records:
        raise InvalidInput(
            "the GPX file holds no waypoint; tracks and routes are ways, not incidents"
        )
    unread = [f"{name} ({count})" for name, count in ways.items() if count]
    return FileRecords(
        "gpx", records, headers_of(records), crs=WGS84, unread=[*unread, *sorted(beside)]
    )


def _place(record: FileRecord, attributes: dict[str, str]) -> list[float] | None:
    numbers = []
    for name in ("lon", "lat"):
        try:
            number = float(attributes.get(name, ""))
            if not math.isfinite(number):
                raise ValueError
        except ValueError:
            record.faults.append(Fault("must be a finite number of degrees", record.row, name))
        else:
            numbers.append(number)
    return numbers if len(numbers) == 2 else None
