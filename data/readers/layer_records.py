"""GeoPackages and zipped Shapefiles as records: a feature each, in the system the layer states."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from data.readers.archive import open_archive
from data.readers.records import FileRecord, FileRecords
from data.readers.vector import read_vector
from geo.errors import Fault


def read_layer(path: Path, form: str, crs: str | None, rows_max: int) -> FileRecords:
    """The features of the one layer of a file. `crs` is what the sender declares.

    Raises CrsError when neither says the system or they differ in more than degrees allow.
    """
    if form == "shapefile":
        with open_archive(path):
            pass
    frame = read_vector(path, crs=crs, max_features=rows_max)
    shapes = list(frame.geometry.array)
    table = frame.drop(columns=frame.geometry.name)
    names = [str(name) for name in table.columns]
    columns = [table[name].tolist() for name in table.columns]
    records = []
    for row, shape in enumerate(shapes, start=1):
        cells = {
            name: value
            for name, column in zip(names, columns, strict=True)
            if (value := _cell(column[row - 1])) is not None
        }
        record = FileRecord(row, cells)
        if shape is not None and not shape.is_empty:
            record.place = _place(record, shape)
        records.append(record)
    return FileRecords(form, records, names, crs=str(frame.attrs["crs"]))


def _cell(value: Any) -> Any:
    if value is None or value != value:
        return None
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool | int | float | str):
        return value
    return str(value)


def _place(record: FileRecord, shape: Any) -> list[float] | None:
    if shape.geom_type == "MultiPoint" and len(shape.geoms) == 1:
        shape = shape.geoms[0]
    if shape.geom_type != "Point":
        reason = f"an incident is one point; this feature is {shape.geom_type}"
        record.faults.append(Fault(reason, record.row, "geometry"))
        return None
    if not (math.isfinite(shape.x) and math.isfinite(shape.y)):
        reason = "must be two finite numbers, [longitude, latitude]"
        record.faults.append(Fault(reason, record.row, "geometry"))
        return None
    return [float(shape.x), float(shape.y)]
